"""mbarriers of the fast engine: their beginning, arrivals, and whether a phase is complete.

In: a module, addresses over lanes. Out: the names of helper functions on the words that `numpy_mbarrier.py` describes.
Why: a pipeline arrives and waits at every step. A helper does what is in order by itself; anything else (another
block's barrier, none at all, too many arrivals) it leaves to the host, which knows the words for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .llvm_atomics import each_lane
from .llvm_calls import ask_host, host_call, slot
from .llvm_checks import ADDRESSES
from .llvm_module import HostCall, Module, call, load_field
from .llvm_values import Code, Value
from .memory import RANK_SHIFT, SHARED_WINDOW
from .numpy_mbarrier import BYTES_BITS, BYTES_SHIFT, COUNT_BITS, MARK, MARK_SHIFT, PARITY_SHIFT

if TYPE_CHECKING:
    from .llvm_codegen import Generator

_MOST = (1 << COUNT_BITS) - 1
_WORD_BYTES = 8


@dataclass(frozen=True, slots=True)
class ClusterPlace:
    """SSA names: where the shared memory of a block begins, the offset there, whether the cluster has such a block."""

    base: str
    offset: str
    sound: str


def cluster_pointer(code: Code, module: Module, address: str) -> ClusterPlace:
    """What a shared::cluster address names: an offset, with the rank of another block above it."""
    named = code.binary("lshr", Value(address, "i64"), code.integer("i64", RANK_SHIFT))
    own = code.compare("icmp eq", named, code.integer("i64", 0))
    sound = code.compare("icmp ule", named, code.integer("i64", module.cluster_blocks))
    rank = code.binary("sub", named, code.integer("i64", 1))
    rank = code.select(code.binary("xor", own, sound), rank, code.integer("i64", 0))
    limit = load_field(code, "shared_limit", "i64")
    stride = code.binary("and", code.binary("add", limit, code.integer("i64", 127)), code.integer("i64", -128))
    start = code.binary("mul", rank, stride)
    other = code.name()
    code.line(f"{other} = getelementptr i8, ptr {load_field(code, 'shared_base', 'ptr').text}, i64 {start.text}")
    base = code.select(own, load_field(code, "shared", "ptr"), Value(other, "ptr"))
    offset = code.binary("and", Value(address, "i64"), code.integer("i64", (1 << RANK_SHIFT) - 1))
    return ClusterPlace(base.text, offset.text, sound.text)


def _word(code: Code, module: Module, address: Value, space: str) -> tuple[Value, str]:
    """(whether an mbarrier of this block or cluster may lie at `address`, its place or that of the first word)."""
    if space == "generic":
        address = code.binary("sub", address, code.integer("i64", SHARED_WINDOW))
    if space == "cluster":
        found = cluster_pointer(code, module, address.text)
        sound, place = _word_in(code, found.base, Value(found.offset, "i64"))
        return code.binary("and", sound, Value(found.sound, "i1")), place
    return _word_in(code, load_field(code, "shared", "ptr").text, address)


def _word_in(code: Code, base: str, address: Value) -> tuple[Value, str]:
    limit = load_field(code, "shared_limit", "i64")
    last = code.binary("sub", limit, code.integer("i64", _WORD_BYTES))
    inside = code.compare("icmp ule", address, last)
    enough = code.compare("icmp uge", limit, code.integer("i64", _WORD_BYTES))
    low = code.binary("and", address, code.integer("i64", _WORD_BYTES - 1))
    aligned = code.compare("icmp eq", low, code.integer("i64", 0))
    sound = code.binary("and", code.binary("and", inside, enough), aligned)
    safe = code.select(sound, address, code.integer("i64", 0))
    place = code.name()
    code.line(f"{place} = getelementptr i8, ptr {base}, i64 {safe.text}")
    return sound, place


def bytes_arrived(code: Code, module: Module, address: str, nbytes: str) -> str:
    """A copy has delivered bytes: change the mbarrier's word if that is in order; gives whether it was."""
    sound, place = _word(code, module, Value(address, "i64"), "cluster")
    word = code.emit(f"load i64, ptr {place}", "i64", False)
    less = code.binary("sub", code.integer("i64", 0), Value(nbytes, "i64"))
    fits, new = _after_arrival(code, word, code.integer("i64", 0), less)
    fine = code.binary("and", code.binary("and", sound, _is_marked(code, word)), fits)
    code.line(f"store {code.select(fine, new, word).typed}, ptr {place}")
    return fine.text


def _is_marked(code: Code, word: Value) -> Value:
    mark = code.binary("lshr", word, code.integer("i64", MARK_SHIFT))
    return code.compare("icmp eq", mark, code.integer("i64", MARK))


def _field(code: Code, word: Value, shift: int) -> Value:
    return code.binary("and", code.binary("lshr", word, code.integer("i64", shift)), code.integer("i64", _MOST))


# Waits.
def phases_over(emit: Generator, space: str, address: Value, parities: Value, lanes: Value) -> Value:
    """Of `lanes` those for which the phase with their bit of `parities` is over."""
    site = emit.site("", "wait on an mbarrier", _WORD_BYTES)
    static = {"space": space, "parity": True}
    emit.module.calls[site] = HostCall("phase_is_complete", ["u8", "u4"], ["?"], static)
    name = _phase_helper(emit.module, space, address)
    given = f"ptr %context, i32 {site}, {address.typed}, {parities.typed}, {lanes.typed}"
    return Value(call(emit.code, "i32", name, given), "i32")


def _phase_helper(module: Module, space: str, address: Value) -> str:
    """`(context, site, address, parities, lanes)` -> the lanes for which the phase of that parity is over."""
    kind = "all" if address.wide else "one"

    def build(code: Code) -> None:
        given = Value("%address", "i64", address.wide)
        code.line(f"%places = alloca {ADDRESSES}")
        code.line(f"store {code.widen(given).typed}, ptr %places")
        code.line("%found = alloca i32")
        code.line("store i32 0, ptr %found")
        code.line("%odd = alloca i32")
        code.line("store i32 0, ptr %odd")
        if not address.wide:
            _all_alike(module, code, space)
        code.line("%wanted = or i32 %active, 0")
        code.line("br label %prepare")
        code.label("prepare")
        code.line("br label %lanes")
        each_lane(code, "%wanted", lambda: _phase_of_lane(module, code, space), "prepare")
        code.line("%complete = load i32, ptr %found")
        code.line("%strange = load i32, ptr %odd")
        code.line("%sound = icmp eq i32 %strange, 0")
        code.line("br i1 %sound, label %answer, label %ask")
        code.label("ask")
        asked = code.emit("bitcast i32 %parities to <32 x i1>", "i1", True)
        scratch = load_field(code, "scratch", "ptr").text
        code.line(f"store {code.widen(given).typed}, ptr {slot(code, scratch, 0)}, align 64")
        code.line(f"store {code.resize(asked, 'i64').typed}, ptr {slot(code, scratch, 1)}, align 64")
        ask_host(module, code, "%site", "%strange")
        bits = code.emit(f"load {ADDRESSES}, ptr {slot(code, scratch, 0)}, align 64", "i64", True)
        told = code.cast_mask(code.resize(bits, "i1"))
        more = code.binary("or", Value("%complete", "i32"), code.binary("and", told, Value("%strange", "i32")))
        code.line(f"ret {more.typed}")
        code.label("answer")
        code.line("ret i32 %complete")

    header = f"i32 @(ptr %context, i32 %site, {address.type} %address, i32 %parities, i32 %active)"
    return module.helper(f"phase_{space}_{kind}", header, build)


def _all_alike(module: Module, code: Code, space: str) -> None:
    """The lanes share an mbarrier, and mostly the parity they ask for; goes on at `apart` where they do not."""
    sound, place = _word(code, module, Value("%address", "i64"), space)
    word = code.emit(f"load i64, ptr {place}", "i64", False)
    fine = code.binary("and", sound, _is_marked(code, word))
    code.line("%asked = and i32 %parities, %active")
    code.line("%even = icmp eq i32 %asked, 0")
    code.line("%uneven = icmp eq i32 %asked, %active")
    code.line("%alike = or i1 %even, %uneven")
    code.line(f"%simple = and i1 {fine.text}, %alike")
    code.line("br i1 %simple, label %together, label %apart")
    code.label("together")
    parity = code.binary("lshr", word, code.integer("i64", PARITY_SHIFT))
    parity = code.resize(parity, "i1")
    over = code.binary("xor", parity, Value("%uneven", "i1"))
    answer = code.select(over, Value("%active", "i32"), code.integer("i32", 0))
    code.line(f"ret {answer.typed}")
    code.label("apart")


def _phase_of_lane(module: Module, code: Code, space: str) -> None:
    """Note lane %lane in %found when its phase is over, in %odd when there is no mbarrier."""
    code.line("%place_at = getelementptr i64, ptr %places, i32 %lane")
    code.line("%place = load i64, ptr %place_at")
    sound, place = _word(code, module, Value("%place", "i64"), space)
    word = code.emit(f"load i64, ptr {place}", "i64", False)
    fine = code.binary("and", sound, _is_marked(code, word))
    now = code.resize(code.binary("lshr", word, code.integer("i64", PARITY_SHIFT)), "i1")
    code.line("%bit = shl i32 1, %lane")
    code.line("%wants = and i32 %parities, %bit")
    code.line("%wants_odd = icmp ne i32 %wants, 0")
    over = code.binary("and", code.binary("xor", now, Value("%wants_odd", "i1")), fine)
    for name, condition in (("%found", over), ("%odd", code.binary("xor", fine, code.integer("i1", 1)))):
        old = code.emit(f"load i32, ptr {name}", "i32", False)
        more = code.select(condition, Value("%bit", "i32"), code.integer("i32", 0))
        code.line(f"store {code.binary('or', old, more).typed}, ptr {name}")


def test_phase(
    emit: Generator, results: Sequence[str], values: Sequence[Value], space: str, parity: bool
) -> list[Value]:
    """mbarrier.test_wait."""
    code = emit.code
    address, token = (code.widen(code.resize(value, "i64")) for value in values)
    asked = token if parity else code.binary("lshr", token, code.integer("i64", PARITY_SHIFT))
    parities = code.cast_mask(code.resize(asked, "i1"))
    address = Value(address.text, address.element, True)
    return [code.lanes(phases_over(emit, space, address, parities, emit.active()))]


# Beginnings.
def initialise(emit: Generator, results: Sequence[str], values: Sequence[Value], space: str) -> list[Value]:
    """mbarrier.init."""
    code = emit.code
    address, number = (code.widen(code.resize(value, "i64")) for value in values)
    site = emit.site("", "mbarrier.init", _WORD_BYTES)
    emit.module.calls[site] = HostCall("barrier_init", ["u8", "u4"], [], {"space": space})
    module = emit.module

    def build(inside: Code) -> None:
        for name in ("address", "number"):
            inside.line(f"%{name}s = alloca {ADDRESSES}")
            inside.line(f"store {ADDRESSES} %{name}, ptr %{name}s")
        inside.line("br label %lanes")
        each_lane(inside, "%active", lambda: _initialise_one(module, inside, space))
        inside.line("ret void")

    header = f"void @(ptr %context, i32 %site, {ADDRESSES} %address, {ADDRESSES} %number, i32 %active)"
    name = module.helper(f"initialise_{space}", header, build)
    given = f"{address.typed}, {number.typed}, {emit.active().typed}"
    call(code, "void", name, f"ptr %context, i32 {site}, {given}")
    return []


def _initialise_one(module: Module, code: Code, space: str) -> None:
    """The mbarrier of lane %lane, by the host where something is not in order."""
    address, number = _of_lane(code, "address"), _of_lane(code, "number")
    sound, place = _word(code, module, address, space)
    less = code.binary("sub", number, code.integer("i64", 1))
    fine = code.binary("and", sound, code.compare("icmp ult", less, code.integer("i64", _MOST)))
    word = code.binary("or", number, code.binary("shl", number, code.integer("i64", COUNT_BITS)))
    word = code.binary("or", word, code.integer("i64", MARK << MARK_SHIFT))
    code.line(f"br i1 {fine.text}, label %plain, label %strange")
    code.label("plain")
    code.line(f"store {word.typed}, ptr {place}")
    code.line("br label %ready")
    code.label("strange")
    _ask_for_lane(module, code, ("address", "number"))
    code.line("br label %ready")
    code.label("ready")


def _of_lane(code: Code, name: str) -> Value:
    """The operand of lane %lane, from where all lanes' were stored."""
    at = code.name()
    code.line(f"{at} = getelementptr i64, ptr %{name}s, i32 %lane")
    return code.emit(f"load i64, ptr {at}", "i64", False)


def _ask_for_lane(module: Module, code: Code, names: Sequence[str]) -> None:
    """Have the host do it for lane %lane."""
    scratch = load_field(code, "scratch", "ptr").text
    for index, name in enumerate(names):
        code.line(f"store {ADDRESSES} %{name}, ptr {slot(code, scratch, index)}, align 64")
    bit = code.binary("shl", code.integer("i32", 1), Value("%lane", "i32"))
    ask_host(module, code, "%site", bit.text)


# Arrivals.
def arrive(
    emit: Generator, results: Sequence[str], values: Sequence[Value], space: str, drop: bool, no_complete: bool
) -> list[Value]:  # fmt: skip
    """mbarrier.arrive: gives the tokens, the words before. Forms that no pipeline uses are the host's."""
    static: dict[str, Any] = {"space": space, "drop": drop, "no_complete": no_complete}
    if drop or no_complete:
        return host_call(emit, results, values, "barrier_arrive", {}, **static)
    code = emit.code
    address, number, owed = (code.widen(code.resize(value, "i64")) for value in values)
    name = _arrive_helper(emit.module, space)
    site = emit.site("", "mbarrier.arrive", _WORD_BYTES)
    emit.module.calls[site] = HostCall("barrier_arrive", ["u8", "u4", "u4"], ["u8"], static)
    given = f"{address.typed}, {number.typed}, {owed.typed}, {emit.active().typed}"
    return [Value(call(code, ADDRESSES, name, f"ptr %context, i32 {site}, {given}"), "i64", True)]


def _arrive_helper(module: Module, space: str) -> str:
    """`(context, site, addresses, numbers, owed, lanes)` -> the words before."""

    def build(code: Code) -> None:
        for name in ("address", "number", "owed"):
            code.line(f"%{name}s = alloca {ADDRESSES}")
            code.line(f"store {ADDRESSES} %{name}, ptr %{name}s")
        code.line(f"%tokens = alloca {ADDRESSES}")
        code.line(f"store {ADDRESSES} zeroinitializer, ptr %tokens")
        code.line("br label %lanes")
        each_lane(code, "%active", lambda: _arrive_one(module, code, space))
        code.line(f"%result = load {ADDRESSES}, ptr %tokens")
        code.line(f"ret {ADDRESSES} %result")

    vectors = "".join(f", {ADDRESSES} %{name}" for name in ("address", "number", "owed"))
    return module.helper(f"arrive_{space}", f"{ADDRESSES} @(ptr %context, i32 %site{vectors}, i32 %active)", build)


def _after_arrival(code: Code, word: Value, number: Value, more: Value) -> tuple[Value, Value]:
    """(whether `number` arrivals and `more` bytes owed are in order, the word after them)."""
    zero, one = code.integer("i64", 0), code.integer("i64", 1)
    pending, expected = _field(code, word, 0), _field(code, word, COUNT_BITS)
    # The bytes owed are signed: up to the top of the word, and down again.
    above = 64 - BYTES_SHIFT - BYTES_BITS
    owed = code.binary("shl", word, code.integer("i64", above))
    owed = code.binary("add", code.binary("ashr", owed, code.integer("i64", above + BYTES_SHIFT)), more)
    around = code.binary("add", owed, code.integer("i64", _MOST))
    fits = code.compare("icmp ule", number, pending)
    fits = code.binary("and", fits, code.compare("icmp ule", around, code.integer("i64", 2 * _MOST)))
    pending = code.binary("sub", pending, number)
    over = code.compare("icmp eq", code.binary("or", pending, owed), zero)
    new = code.select(over, expected, pending)
    parity = code.binary("and", code.binary("lshr", word, code.integer("i64", PARITY_SHIFT)), one)
    parity = code.binary("xor", parity, code.resize(over, "i64"))
    owed = code.binary("and", owed, code.integer("i64", (1 << BYTES_BITS) - 1))
    for value, shift in (
        (expected, COUNT_BITS), (owed, BYTES_SHIFT), (parity, PARITY_SHIFT), (code.integer("i64", MARK), MARK_SHIFT),
    ):  # fmt: skip
        new = code.binary("or", new, code.binary("shl", value, code.integer("i64", shift)))
    return fits, new


def _arrive_one(module: Module, code: Code, space: str) -> None:
    """The arrival of lane %lane, by the host where something is not in order."""
    names = ("address", "number", "owed")
    given = {name: _of_lane(code, name) for name in names}
    sound, place = _word(code, module, given["address"], space)
    word = code.emit(f"load i64, ptr {place}", "i64", False)
    fits, new = _after_arrival(code, word, given["number"], given["owed"])
    fits = code.binary("and", fits, code.compare("icmp ne", given["number"], code.integer("i64", 0)))
    fine = code.binary("and", code.binary("and", sound, _is_marked(code, word)), fits)
    code.line("%token_at = getelementptr i64, ptr %tokens, i32 %lane")
    code.line(f"br i1 {fine.text}, label %plain, label %strange")
    code.label("plain")
    code.line(f"store {word.typed}, ptr %token_at")
    code.line(f"store {new.typed}, ptr {place}")
    code.line("br label %arrived")
    code.label("strange")
    _ask_for_lane(module, code, names)
    scratch = load_field(code, "scratch", "ptr").text
    at = code.name()
    code.line(f"{at} = getelementptr i64, ptr {scratch}, i32 %lane")
    code.line(f"store {code.emit(f'load i64, ptr {at}', 'i64', False).typed}, ptr %token_at")
    code.line("br label %arrived")
    code.label("arrived")


MBARRIER_ROUTINES: dict[str, Callable[..., list[Value]]] = {
    "barrier_init": initialise, "barrier_arrive": arrive, "barrier_test": test_phase,
}  # fmt: skip
"""By emitter name."""

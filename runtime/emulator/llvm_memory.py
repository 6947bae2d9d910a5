"""Loads and stores of the fast engine as functions over a warp.

In: a module, an address space, the width of an access, and the pattern that the addresses are expected to follow. Out:
the names of helper functions. Why: when the pattern holds (one vector comparison) a warp's access is a few wide moves;
otherwise it is a gather or a scatter of the lanes that pass the check.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from .llvm_checks import ADDRESSES, check, inside, range_of
from .llvm_module import Module, begin_lanes, call, load_field
from .llvm_shuffles import Plan, is_one_to_one, load_words, plan, store_words
from .llvm_values import BITS, LANES, Code, Pattern, Value, constant_vector, type_of

_BASES = {"global": "arena", "shared": "shared", "local": "local", "parameter": "parameters"}
_SCATTERED = ("local", "parameter")
"""Spaces without a fast path for runs."""
_LINE_BYTES = 64
_AHEAD_BYTES = 2048
"""How far lines are asked for ahead; half a page does better than a whole one, whose lines belong to the same sets of
the host's caches as those in use."""


def words_of(nbytes: int) -> tuple[str, int]:
    """(element, count) in which a lane's bytes travel: bytes and 16-bit words alone, else 32-bit words."""
    return {1: ("i8", 1), 2: ("i16", 1)}.get(nbytes, ("i32", nbytes // 4))


def result_type(element: str, count: int) -> str:
    """What a load helper returns."""
    one = type_of(element, True)
    return one if count == 1 else "{ " + ", ".join([one] * count) + " }"


def contiguous(nbytes: int) -> Pattern:
    """Lane after lane."""
    return tuple(nbytes * lane for lane in range(LANES))


def _name(kind: str, space: str, nbytes: int, address: Value, expected: Pattern) -> str:
    certain = "" if address.wide else "_at" if address.pattern == expected else "_as_" + digest(address.pattern)
    tail = "run" if expected == contiguous(nbytes) else digest(expected)
    return f"{kind}_{space}_{nbytes}_{address.element}{certain}_{tail}"


def digest(patterns: object) -> str:
    """Part of a name that tells patterns apart."""
    return hashlib.sha256(repr(patterns).encode()).hexdigest()[:12]


def expected_pattern(pattern: Pattern | None, nbytes: int, store: bool) -> Pattern:
    """The pattern to test for: the given one where it can be moved in runs, else lane after lane."""
    if pattern is None or (store and not is_one_to_one(pattern)):
        return contiguous(nbytes)
    if nbytes < 4:
        return contiguous(nbytes)
    return pattern if plan(pattern, nbytes // 4) is not None else contiguous(nbytes)


def parameter(address: Value, name: str = "%address") -> Value:
    """The same kind of address inside a helper."""
    return Value(name, address.element, address.wide, address.pattern)


def matches(code: Code, address: Value, pattern: Pattern) -> tuple[Value, Value]:
    """(lane 0's address, whether all lanes follow the pattern)."""
    if not address.wide:
        return Value(address.text, address.element), code.integer("i1", 1)
    first = code.lane(address, 0)
    distance = code.binary("sub", address, first)
    width = BITS[address.element]
    wrapped = [(offset + (1 << width - 1)) % (1 << width) - (1 << width - 1) for offset in pattern]
    expected = Value(constant_vector(address.element, wrapped), address.element, True)
    same = code.cast_mask(code.compare("icmp eq", distance, expected))
    return first, code.compare("icmp eq", same, code.integer("i32", -1))


def fast_condition(
    code: Code, space: str, address: Value, pattern: Pattern, low: int, span: int, nbytes: int
) -> tuple[Value, str]:
    """(whether the whole warp may move at once, lane 0's pointer). `low` and `span` in bytes, see `Plan`."""
    first, same = matches(code, address, pattern)
    whole = code.compare("icmp eq", Value("%mask", "i32"), code.integer("i32", -1))
    first = code.resize(first, "i64")
    bits = code.binary("and", first, code.integer("i64", nbytes - 1))
    aligned = code.compare("icmp eq", bits, code.integer("i64", 0))
    start, size = range_of(code, space)
    lowest = code.binary("add", first, code.integer("i64", low))
    fits = inside(code, lowest, code.integer("i64", span), start, size)
    good = code.binary("and", code.binary("and", same, whole), code.binary("and", aligned, fits))
    base = load_field(code, _BASES[space], "ptr")
    pointer = code.name()
    code.line(f"{pointer} = getelementptr i8, ptr {base.text}, i64 {first.text}")
    return good, pointer


def _pointers(module: Module, code: Code, space: str, address: Value) -> Value:
    """One pointer per lane into the memory of `space`."""
    base = load_field(code, _BASES[space], "ptr")
    if space == "local":
        frames = constant_vector("i64", [lane * module.local_bytes for lane in range(LANES)])
        address = code.binary("add", address, Value(frames, "i64", True))
    return code.emit(f"getelementptr i8, ptr {base.text}, {address.typed}", "ptr", True)


def return_words(code: Code, values: Sequence[Value]) -> None:
    """The end of a helper that gives `values`."""
    if len(values) == 1:
        code.line(f"ret {values[0].typed}")
        return
    aggregate = result_type(values[0].element, len(values))
    text = "poison"
    for index, value in enumerate(values):
        name = code.name()
        code.line(f"{name} = insertvalue {aggregate} {text}, {value.typed}, {index}")
        text = name
    code.line(f"ret {aggregate} {text}")


def taken_words(code: Code, aggregate: str, element: str, count: int) -> list[Value]:
    """The vectors that a helper has returned."""
    if count == 1:
        return [Value(aggregate, element, True)]
    kind = result_type(element, count)
    return [code.emit(f"extractvalue {kind} {aggregate}, {index}", element, True) for index in range(count)]


def _gather(module: Module, code: Code, space: str, address: Value, element: str, count: int) -> list[Value]:
    """Lane by lane for the lanes of %good; zeros elsewhere."""
    if BITS[element] < 32:
        # The host gathers 32-bit words only: take the word around, and shift.
        base = code.binary("and", address, code.integer("i64", -4))
        (word,) = _gather(module, code, space, base, "i32", 1)
        amount = code.binary("and", code.resize(address, "i32"), code.integer("i32", 3))
        amount = code.binary("shl", amount, code.integer("i32", 3))
        return [code.resize(code.binary("lshr", word, amount), element)]
    pointers = _pointers(module, code, space, address)
    active = code.lanes(Value("%good", "i32"))
    vector = type_of(element, True)
    name = f"llvm.masked.gather.v{LANES}{element}.v{LANES}p0"
    code.declare(name, f"declare {vector} @{name}(<{LANES} x ptr>, i32, <{LANES} x i1>, {vector})")
    values = []
    for index in range(count):
        place = pointers
        if index:
            step = BITS[element] // 8 * index
            place = code.emit(f"getelementptr i8, {pointers.typed}, i64 {step}", "ptr", True)
        values.append(
            code.emit(
                f"call {vector} @{name}({place.typed}, i32 {BITS[element] // 8}, {active.typed}, "
                f"{vector} zeroinitializer)", element, True,
            )
        )  # fmt: skip
    return values


def load_helper(module: Module, space: str, nbytes: int, address: Value) -> str:
    """`(context, site, address, mask)` -> a vector per word; lanes outside the mask get anything."""
    element, count = words_of(nbytes)
    expected = contiguous(nbytes) if space in _SCATTERED else expected_pattern(address.pattern, nbytes, store=False)

    def build(code: Code) -> None:
        given = parameter(address)
        if has_fast_path(space, given, expected):
            _fast_load(code, space, given, expected, nbytes)
        wide = code.resize(code.widen(given), "i64")
        good = call(code, "i32", check(module, space),
                    f"ptr %context, i32 %site, {wide.typed}, i32 %mask, i64 {nbytes}")  # fmt: skip
        code.line(f"%good = or i32 {good}, 0")
        return_words(code, _gather(module, code, space, wide, element, count))

    header = f"{result_type(element, count)} @(ptr %context, i32 %site, {address.type} %address, i32 %mask)"
    return module.helper(_name("load", space, nbytes, address, expected), header, build)


def has_fast_path(space: str, address: Value, expected: Pattern) -> bool:
    """Whether a warp's access may be moved in runs: not in local memory, nor where another pattern is certain."""
    return space not in _SCATTERED and (address.wide or address.pattern == expected)


def _whole(pattern: Pattern, nbytes: int) -> tuple[Plan | None, int, int]:
    """(plan, lowest byte, bytes spanned) of a warp that follows `pattern`."""
    if nbytes < 4:
        return None, 0, LANES * nbytes
    found = plan(pattern, nbytes // 4)
    assert found is not None
    return found, found.low, found.span


def _fast_load(code: Code, space: str, address: Value, pattern: Pattern, nbytes: int) -> None:
    found, low, span = _whole(pattern, nbytes)
    good, pointer = fast_condition(code, space, address, pattern, low, span, nbytes)
    code.line(f"br i1 {good.text}, label %fast, label %slow")
    code.label("fast")
    if space == "global" and not address.wide:
        _prefetch(code, pointer, low, span)
    if found is None:
        element, _ = words_of(nbytes)
        code.line(f"%run = load {type_of(element, True)}, ptr {pointer}, align {nbytes}")
        code.line(f"ret {type_of(element, True)} %run")
    else:
        return_words(code, load_words(code, pointer, found))
    code.label("slow")


def _prefetch(code: Code, pointer: str, low: int, span: int, write: bool = False) -> None:
    """Ask for lines further on, which the next warp or block is likely to load or store: the host's own prefetching
    stops at the end of a page, and a warp's instructions fill its window before it could run ahead."""
    for start in range(low, low + span, _LINE_BYTES):
        prefetch(code, pointer, start + _AHEAD_BYTES, write)


def prefetch(code: Code, pointer: str, offset: int, write: bool = False) -> None:
    """Ask the host for a line; no address is wrong."""
    code.declare("llvm.prefetch.p0", "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
    place = code.name()
    code.line(f"{place} = getelementptr i8, ptr {pointer}, i64 {offset}")
    code.line(f"call void @llvm.prefetch.p0(ptr {place}, i32 {int(write)}, i32 3, i32 1)")


def store_helper(module: Module, space: str, nbytes: int, address: Value) -> str:
    """`(context, site, address, mask, words...)`; where lanes collide the highest one wins."""
    element, count = words_of(nbytes)
    expected = contiguous(nbytes) if space in _SCATTERED else expected_pattern(address.pattern, nbytes, store=True)

    def build(code: Code) -> None:
        given = parameter(address)
        values = [Value(f"%word{index}", element, True) for index in range(count)]
        fast = has_fast_path(space, given, expected)
        if fast:
            _fast_store(code, space, given, expected, nbytes, values)
        wide = code.resize(code.widen(given), "i64")
        good = call(code, "i32", check(module, space),
                    f"ptr %context, i32 %site, {wide.typed}, i32 %mask, i64 {nbytes}")  # fmt: skip
        code.line(f"%good = or i32 {good}, 0")
        _scatter(module, code, space, wide, values, "slow" if fast else "entry")
        code.line("ret void")

    words = "".join(f", {type_of(element, True)} %word{index}" for index in range(count))
    header = f"void @(ptr %context, i32 %site, {address.type} %address, i32 %mask{words})"
    return module.helper(_name("store", space, nbytes, address, expected), header, build)


def _fast_store(code: Code, space: str, address: Value, pattern: Pattern, nbytes: int, values: Sequence[Value]) -> None:
    found, low, span = _whole(pattern, nbytes)
    good, pointer = fast_condition(code, space, address, pattern, low, span, nbytes)
    code.line(f"br i1 {good.text}, label %fast, label %slow")
    code.label("fast")
    if space == "global" and not address.wide and pattern == contiguous(nbytes):
        _prefetch(code, pointer, low, span, write=True)
    if found is None:
        code.line(f"store {values[0].typed}, ptr {pointer}, align {nbytes}")
    else:
        store_words(code, pointer, found, values)
    code.line("ret void")
    code.label("slow")


def _scatter(module: Module, code: Code, space: str, address: Value, values: Sequence[Value], block: str) -> None:
    """Lane by lane for the lanes of %good, lane 31 last; `block` is the LLVM block that this stands in."""
    element = values[0].element
    if BITS[element] < 32:
        _scatter_narrow(module, code, space, address, values[0], block)
        return
    pointers = _pointers(module, code, space, address)
    active = code.lanes(Value("%good", "i32"))
    vector = type_of(element, True)
    name = f"llvm.masked.scatter.v{LANES}{element}.v{LANES}p0"
    code.declare(name, f"declare void @{name}({vector}, <{LANES} x ptr>, i32, <{LANES} x i1>)")
    for index, value in enumerate(values):
        place = pointers
        if index:
            place = code.emit(f"getelementptr i8, {pointers.typed}, i64 {4 * index}", "ptr", True)
        code.line(f"call void @{name}({value.typed}, {place.typed}, i32 {BITS[element] // 8}, {active.typed})")


def _scatter_narrow(module: Module, code: Code, space: str, address: Value, value: Value, block: str) -> None:
    """A loop over the lanes: the host scatters 32-bit words only."""
    pointers = _pointers(module, code, space, address)
    places, numbers = code.name(), code.name()
    code.line(f"{places} = alloca {pointers.type}")
    code.line(f"{numbers} = alloca {value.type}")
    code.line(f"store {pointers.typed}, ptr {places}")
    code.line(f"store {value.typed}, ptr {numbers}")
    code.line("br label %lanes")
    begin_lanes(code, "%good", block, "one")
    code.line(f"%place_at = getelementptr ptr, ptr {places}, i32 %lane")
    code.line("%place = load ptr, ptr %place_at")
    code.line(f"%value_at = getelementptr {value.element}, ptr {numbers}, i32 %lane")
    code.line(f"%value = load {value.element}, ptr %value_at")
    code.line(f"store {value.element} %value, ptr %place")
    code.line("br label %lanes")
    code.label("end")


def load_one_helper(module: Module, space: str, nbytes: int) -> str:
    """`(context, site, address, mask)` -> the words at one address that all lanes share."""
    element, count = words_of(nbytes)
    scalar = element if count == 1 else f"[{count} x {element}]"

    def build(code: Code) -> None:
        pointer = _checked_pointer(module, code, space, nbytes)
        alignment = BITS[element] // 8
        code.line(f"%value = load {scalar}, ptr {pointer}, align {alignment}")
        code.line(f"ret {scalar} %value")
        code.label("wrong")
        code.line(f"ret {scalar} zeroinitializer")

    header = f"{scalar} @(ptr %context, i32 %site, i64 %address, i32 %mask)"
    return module.helper(f"load_one_{space}_{nbytes}", header, build)


def store_one_helper(module: Module, space: str, nbytes: int) -> str:
    """`(context, site, address, mask, words...)`: what the highest lane stores at one shared address."""
    element, count = words_of(nbytes)

    def build(code: Code) -> None:
        pointer = _checked_pointer(module, code, space, nbytes)
        for index in range(count):
            place = code.name()
            code.line(f"{place} = getelementptr {element}, ptr {pointer}, i64 {index}")
            code.line(f"store {element} %word{index}, ptr {place}")
        code.line("ret void")
        code.label("wrong")
        code.line("ret void")

    words = "".join(f", {element} %word{index}" for index in range(count))
    return module.helper(
        f"store_one_{space}_{nbytes}", f"void @(ptr %context, i32 %site, i64 %address, i32 %mask{words})", build
    )


def _checked_pointer(module: Module, code: Code, space: str, nbytes: int) -> str:
    """The pointer of %address; leaves the caller in the block where it may be used, with `wrong` still to write."""
    address = Value("%address", "i64")
    low = code.binary("and", address, code.integer("i64", nbytes - 1))
    aligned = code.compare("icmp eq", low, code.integer("i64", 0))
    start, size = range_of(code, space)
    fits = inside(code, address, code.integer("i64", nbytes), start, size)
    some = code.compare("icmp ne", Value("%mask", "i32"), code.integer("i32", 0))
    good = code.binary("and", some, code.binary("and", aligned, fits))
    code.line(f"br i1 {good.text}, label %right, label %slow")
    code.label("slow")
    wide = code.widen(address)
    found = call(code, "i32", check(module, space),
                 f"ptr %context, i32 %site, {wide.typed}, i32 %mask, i64 {nbytes}")  # fmt: skip
    assert ADDRESSES in wide.type
    whole = code.compare("icmp ne", Value(found, "i32"), code.integer("i32", 0))
    code.line(f"br i1 {whole.text}, label %right, label %wrong")
    code.label("right")
    base = load_field(code, _BASES[space], "ptr")
    pointer = code.name()
    code.line(f"{pointer} = getelementptr i8, ptr {base.text}, i64 {address.text}")
    return pointer

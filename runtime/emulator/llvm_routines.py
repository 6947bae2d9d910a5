"""Routines of the fast engine: what the emitter's `call` does, by name.

In: the generator, result types, values. Out: values. Why: loads, stores, exchanges between lanes and matrix products
each choose a helper function here; the helpers stand in the modules of their kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from .control_flow import Program
from .llvm_atomics import atomic_helper
from .llvm_calls import HOST_ROUTINES, atomic_by_host, host_call, load_by_host, store_by_host
from .llvm_cluster import arrive, block_helper
from .llvm_context import FAULT_CALL, FAULT_PARTIAL_WARP
from .llvm_copies import copy_helper
from .llvm_generic import generic_load_helper, generic_store_helper
from .llvm_groups import load_member, store_member
from .llvm_matrix import MATRIX_ROUTINES
from .llvm_mbarrier import MBARRIER_ROUTINES
from .llvm_memory import (
    load_helper,
    load_one_helper,
    result_type,
    store_helper,
    store_one_helper,
    words_of,
)
from .llvm_module import call, field_pointer
from .llvm_tensor import TENSOR_ROUTINES
from .llvm_values import BITS, ELEMENTS, LANES, Value
from .llvm_warp import WARP_ROUTINES
from .llvm_warpgroup import WARPGROUP_ROUTINES
from .memory import RANK_SHIFT, SHARED_WINDOW
from .ptx import TYPE_BITS

if TYPE_CHECKING:
    from .llvm_codegen import Generator

Routine = Callable[..., list[Value]]


def _split(emit: Generator, words: Sequence[Value], type: str, count: int) -> list[Value]:
    """Words as they travel, to `count` elements of a PTX type."""
    code, element = emit.code, ELEMENTS[type]
    width, have = BITS[element], BITS[words[0].element]
    results = []
    for index in range(count):
        if width == have:
            value = words[index]
        elif width > have:
            low, high = (code.resize(words[2 * index + part], "i64") for part in (0, 1))
            value = code.binary("or", low, code.binary("shl", high, code.integer("i64", 32)))
        else:
            per_word = have // width
            word, part = words[index // per_word], index % per_word
            if part:
                word = code.binary("lshr", word, code.integer(word.element, part * width))
            value = code.resize(word, f"i{width}")
        results.append(code.cast("bitcast", value, element))
    return results


def _join(emit: Generator, values: Sequence[Value], nbytes: int) -> list[Value]:
    """Elements to words as they travel; the inverse of `_split`."""
    code = emit.code
    element, count = words_of(nbytes)
    bits = [code.bits(value) for value in values]
    width, want = BITS[bits[0].element], BITS[element]
    if width == want:
        return bits
    words = []
    if width > want:
        for value in bits:
            words.append(code.resize(value, "i32"))
            words.append(code.resize(code.binary("lshr", value, code.integer("i64", 32)), "i32"))
        return words
    per_word = want // width
    for index in range(count):
        word = code.resize(bits[per_word * index], element)
        for part in range(1, per_word):
            moved = code.resize(bits[per_word * index + part], element)
            word = code.binary("or", word, code.binary("shl", moved, code.integer(element, part * width)))
        words.append(word)
    return words


def _unpack(emit: Generator, text: str, aggregate: str, element: str, count: int, wide: bool) -> list[Value]:
    if count == 1:
        return [Value(text, element, wide)]
    return [emit.code.emit(f"extractvalue {aggregate} {text}, {index}", element, wide) for index in range(count)]


def _load_parameter(
    emit: Generator, results: Sequence[str], values: Sequence[Value], offset: int, type: str
) -> list[Value]:
    place = emit.code.name()
    emit.code.line(f"{place} = getelementptr i8, ptr {emit.field('parameters', 'ptr').text}, i64 {offset}")
    return [emit.code.emit(f"load {ELEMENTS[type]}, ptr {place}, align 1", ELEMENTS[type], False)]


def _load(emit: Generator, results: Sequence[str], values: Sequence[Value], space: str, type: str) -> list[Value]:
    (address,) = values
    if _is_in_cluster(emit, space):
        if space == "cluster":
            return _load_of_cluster(emit, results, values, type)
        return load_by_host(emit, results, values, space=space, type=type)
    count = len(results)
    nbytes = TYPE_BITS[type] // 8 * count
    element, words = words_of(nbytes)
    if space not in ("global", "shared", "local", "parameter", "generic"):
        emit.unsupported(f"loads from {space} space")
    group = emit.group()
    if group is not None:
        return _split(emit, load_member(emit, group), type, count)
    site = emit.site(space, "load", nbytes)
    mask = emit.active()
    arguments = f"ptr %context, i32 {site}, "
    if _is_shared_by_all(address) and space in ("global", "shared"):
        scalar = element if words == 1 else f"[{words} x {element}]"
        address = emit.code.resize(address, "i64")
        name = load_one_helper(emit.module, space, nbytes)
        found = call(emit.code, scalar, name, f"{arguments}{address.typed}, {mask.typed}")
        return _split(emit, _unpack(emit, found, scalar, element, words, False), type, count)
    if space == "generic" or address.pattern is None:
        address = emit.code.widen(address)
    helper = generic_load_helper(emit.module, nbytes, address) if space == "generic" else None
    name = helper or load_helper(emit.module, space, nbytes, address)
    aggregate = result_type(element, words)
    found = call(emit.code, aggregate, name, f"{arguments}{address.typed}, {mask.typed}")
    return _split(emit, _unpack(emit, found, aggregate, element, words, True), type, count)


def _load_of_cluster(emit: Generator, results: Sequence[str], values: Sequence[Value], type: str) -> list[Value]:
    """A whole warp that reads the shared memory of one block, as blocks that add up sums do, reads it as its own: the
    context names that block's memory meanwhile. Everything else is left to the host.
    """
    code, mask, count = emit.code, emit.active(), len(results)
    address = code.resize(code.widen(values[0]), "i64")
    nbytes = TYPE_BITS[type] // 8 * count
    base = call(code, "ptr", block_helper(emit.module, nbytes), f"ptr %context, {address.typed}, {mask.typed}")
    in_order = code.compare("icmp ne", Value(base, "ptr"), Value("null", "ptr"))
    none = code.integer("i32", 0)
    by_host = host_call(
        emit, results, values, "load", {}, code.select(in_order, none, mask), space="cluster", type=type
    )

    own = emit.field("shared", "ptr")
    place = field_pointer(code, "shared")
    code.line(f"store {code.select(in_order, Value(base, 'ptr'), own).typed}, ptr {place}")
    offsets = code.binary("and", address, code.widen(code.integer("i64", (1 << RANK_SHIFT) - 1)))
    offsets = Value(offsets.text, offsets.element, True)
    element, words = words_of(nbytes)
    aggregate = result_type(element, words)
    name = load_helper(emit.module, "shared", nbytes, offsets)
    lanes = code.select(in_order, mask, none)
    site = emit.site("shared", "load", nbytes)
    found = call(code, aggregate, name, f"ptr %context, i32 {site}, {offsets.typed}, {lanes.typed}")
    code.line(f"store {own.typed}, ptr {place}")
    fast = _split(emit, _unpack(emit, found, aggregate, element, words, True), type, count)
    return [code.select(in_order, ours, theirs) for ours, theirs in zip(fast, by_host, strict=True)]


def _store(emit: Generator, results: Sequence[str], values: Sequence[Value], space: str, type: str) -> list[Value]:
    if _is_in_cluster(emit, space):
        return store_by_host(emit, results, values, space=space, type=type, count=len(values) - 1)
    address, *elements = values
    nbytes = TYPE_BITS[type] // 8 * len(elements)
    if space not in ("global", "shared", "local", "generic"):
        emit.unsupported(f"stores to {space} space")
    group = emit.group()
    if group is not None:
        words = [emit.code.widen(word) for word in _join(emit, elements, nbytes)]
        store_member(emit, group, words)
        return []
    site = emit.site(space, "store", nbytes)
    mask = emit.active()
    words = _join(emit, elements, nbytes)
    arguments = f"ptr %context, i32 {site}, "
    if _is_shared_by_all(address) and space in ("global", "shared"):
        lane = _last_lane(emit, mask)
        words = [emit.code.lane(word, lane) for word in words]
        address = emit.code.resize(address, "i64")
        name = store_one_helper(emit.module, space, nbytes)
    else:
        if space == "generic" or address.pattern is None:
            address = emit.code.widen(address)
        words = [emit.code.widen(word) for word in words]
        helper = generic_store_helper(emit.module, nbytes, address) if space == "generic" else None
        name = helper or store_helper(emit.module, space, nbytes, address)
    rest = "".join(f", {word.typed}" for word in words)
    call(emit.code, "void", name, f"{arguments}{address.typed}, {mask.typed}{rest}")
    return []


def _names_other_blocks(program: Program) -> bool:
    """Whether a generic address may lie in the shared memory of another block: mapa or cvta has made it."""
    found = {
        (instruction.opcode, instruction.has("shared::cluster"))
        for block in program.blocks for instruction in block.instructions if not instruction.has("to")
    }  # fmt: skip
    return ("mapa", False) in found or {("mapa", True), ("cvta", True)} <= found


def _is_in_cluster(emit: Generator, space: str) -> bool:
    """Whether an access may reach the shared memory of another block."""
    if space == "generic" and _names_other_blocks(emit.program):
        if emit.module.local_bytes:
            emit.unsupported("generic addresses of a cluster's and of local memory")
        return True
    return space == "cluster"


def _is_shared_by_all(address: Value) -> bool:
    return not address.wide and address.pattern is None


def _last_lane(emit: Generator, mask: Value) -> int | str:
    """The highest lane that runs; 0 when none does."""
    if mask.is_literal:
        return LANES - 1
    zeros = emit.code.intrinsic("ctlz", "i32", mask, flags="i1 false")
    last = emit.code.binary("sub", emit.code.integer("i32", LANES - 1), zeros)
    return emit.code.binary("and", last, emit.code.integer("i32", LANES - 1)).text


def _atomic(
    emit: Generator, results: Sequence[str], values: Sequence[Value], space: str, type: str, operation: str,
    wanted: bool,
) -> list[Value]:  # fmt: skip
    emit.atomics = True
    by_host = partial(atomic_by_host, emit, results, values, space=space, type=type, operation=operation, wanted=wanted)
    if _is_in_cluster(emit, space):
        return by_host()
    where = "global" if space == "generic" else space
    name = atomic_helper(emit.module, where, type, operation, len(values) - 1)
    if space == "generic" and emit.module.local_bytes:
        emit.unsupported("generic atomics beside local memory")
    if name is None:
        return by_host()
    code, (address, *operands) = emit.code, (emit.code.widen(value) for value in values)
    address, lanes = code.resize(address, "i64"), emit.active()
    if space == "generic":
        inside = code.cast_mask(code.compare("icmp ult", address, code.integer("i64", SHARED_WINDOW)))
        elsewhere = code.binary("and", lanes, code.binary("xor", inside, code.integer("i32", -1)))
        lanes = code.binary("and", lanes, inside)
    element = f"i{TYPE_BITS[type]}"
    rest = "".join(f", {code.bits(operand).typed}" for operand in operands)
    site = emit.site(where, "atomic", TYPE_BITS[type] // 8)
    arguments = f"ptr %context, i32 {site}, {address.typed}, {lanes.typed}{rest}"
    found = Value(call(code, f"<{LANES} x {element}>", name, arguments), element, True)
    answers = [code.cast("bitcast", found, ELEMENTS[type])] if wanted else []
    if space != "generic":
        return answers
    others = by_host(lanes=elsewhere)
    return [code.select(code.lanes(inside), *pair) for pair in zip(answers, others, strict=True)]


def _copy_async(emit: Generator, results: Sequence[str], values: Sequence[Value], nbytes: int) -> list[Value]:
    target, source, *size = values
    target, source = (value if value.pattern is not None else emit.code.widen(value) for value in (target, source))
    size = [emit.code.widen(value) for value in size]
    read = emit.site("global", "cp.async read", nbytes)
    emit.site("shared", "cp.async write", nbytes)  # read + 1
    name = copy_helper(emit.module, nbytes, target, source, bool(size))
    rest = "".join(f", {value.typed}" for value in size)
    call(
        emit.code, "void", name,
        f"ptr %context, i32 {read}, {target.typed}, {source.typed}, {emit.active().typed}{rest}",
    )  # fmt: skip
    return []


def record_fault(emit: Generator, kind: int, site: int, lanes: Value) -> None:
    """Note a finding that is not a memory access, unless there is one already."""
    code = emit.code

    def build(body: Any) -> None:
        from .llvm_module import field_pointer, load_field

        old = load_field(body, "fault_kind", "i32")
        first = body.compare("icmp eq", old, body.integer("i32", 0))
        body.line(f"br i1 {first.text}, label %record, label %done")
        body.label("record")
        for name in ("kind", "site", "lanes"):
            body.line(f"store i32 %{name}, ptr {field_pointer(body, 'fault_' + name)}")
        warp = load_field(body, "warp", "i32")
        body.line(f"store {warp.typed}, ptr {field_pointer(body, 'fault_warp')}")
        body.line("br label %done")
        body.label("done")
        body.line("ret void")

    name = emit.module.helper(
        "record_fault", "void @(ptr %context, i32 %kind, i32 %site, i32 %lanes)", build, "noinline cold"
    )
    call(code, "void", name, f"ptr %context, i32 {kind}, i32 {site}, {lanes.typed}")


def _call_undefined(emit: Generator, results: Sequence[str], values: Sequence[Value], name: str) -> list[Value]:
    site = emit.site("", name, 0)
    lanes = emit.active()
    condition = emit.code.compare("icmp ne", lanes, emit.code.integer("i32", 0))
    call_label, go_on = emit.code.name()[1:], emit.code.name()[1:]
    emit.code.line(f"br i1 {condition.text}, label %fault{call_label}, label %fine{go_on}")
    emit.code.label(f"fault{call_label}")
    record_fault(emit, FAULT_CALL, site, lanes)
    emit.code.line(f"br label %fine{go_on}")
    emit.code.label(f"fine{go_on}")
    return []


def require_whole_warp(emit: Generator, name: str) -> None:
    """`.sync.aligned` instructions need all lanes; a part of a warp is a finding."""
    if emit.mask is None and emit.guard is None:
        return
    lanes = emit.active()
    partly = emit.code.binary(
        "and",
        emit.code.compare("icmp ne", lanes, emit.code.integer("i32", 0)),
        emit.code.compare("icmp ne", lanes, emit.code.integer("i32", -1)),
    )
    number = emit.code.name()[1:]
    emit.code.line(f"br i1 {partly.text}, label %partly{number}, label %whole{number}")
    emit.code.label(f"partly{number}")
    missing = emit.code.binary("xor", lanes, emit.code.integer("i32", -1))
    record_fault(emit, FAULT_PARTIAL_WARP, emit.site("", name, 0), missing)
    emit.code.line(f"br label %whole{number}")
    emit.code.label(f"whole{number}")


ROUTINES: dict[str, Routine] = {
    "load_parameter": _load_parameter, "load": _load, "store": _store, "atomic": _atomic,
    "copy_async": _copy_async, "call_undefined": _call_undefined, **WARP_ROUTINES, **MATRIX_ROUTINES,
    **HOST_ROUTINES, **MBARRIER_ROUTINES, **WARPGROUP_ROUTINES, **TENSOR_ROUTINES, "cluster_arrive": arrive,
}  # fmt: skip
"""By emitter name."""

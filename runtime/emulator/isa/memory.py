"""Loads, stores and fences.

In: instructions of those opcodes. Out: calls of the engine's `load`, `store`, `load_parameter` routines.
Why: state spaces, vector forms and sub-word registers are taken apart here; the
engine sees addresses and byte widths only.
"""

from __future__ import annotations

from ..ptx import TYPE_BITS, Address, Discard, Instruction, Operand, Symbol, Vector
from . import operation
from .emitter import Emitter

SHARED_SPACES = {"shared": "shared", "shared::cta": "shared", "shared::cluster": "cluster"}
_SPACES = {"global": "global", "const": "global", **SHARED_SPACES, "local": "local"}

OPERATIONS = ("add", "min", "max", "and", "or", "xor", "exch", "cas", "inc", "dec")
"""Of atomics and reductions."""


def address_operand(emit: Emitter, operand: Operand) -> Address:
    """`operand`, which must be an address."""
    if not isinstance(operand, Address):
        emit.unsupported("a memory operand that is not an address")
        raise AssertionError
    return operand


def space_of(instruction: Instruction, emit: Emitter, operand: Operand) -> str:
    """`global`, `shared`, `cluster` (shared memory of any block of it), `local`, `parameter` (of the kernel) or
    `generic`.
    """
    address = address_operand(emit, operand)
    if instruction.has("param", "param::entry", "param::func"):
        variable = emit.variable(address.base)
        if variable is not None and emit.parameter_offset(variable.name) is None:
            return "local"
        return "parameter"
    named = instruction.first_of(*_SPACES)
    if named:
        return _SPACES[named]
    variable = emit.variable(address.base)
    if variable is not None and variable.space in ("shared", "local"):
        return variable.space
    return "generic"


def _elements(operand: Operand) -> tuple[Operand, ...]:
    return operand.elements if isinstance(operand, Vector) else (operand,)


@operation("ld", "ldu")
def load(instruction: Instruction, emit: Emitter) -> None:
    target, source = instruction.operands[:2]
    address = address_operand(emit, source)
    space = space_of(instruction, emit, source)
    elements = _elements(target)
    type = instruction.type
    width = TYPE_BITS[type] // 8
    if space == "parameter" and isinstance(address.base, Symbol):
        start = emit.parameter_offset(address.base.name)
        assert start is not None
        for index, element in enumerate(elements):
            offset = start + address.offset + index * width
            (value,) = emit.call("load_parameter", [type], [], offset=offset, type=type)
            emit.write(element, type, value)
        return
    values = emit.call("load", [type] * len(elements), [emit.address(address)], space=space, type=type)
    for element, value in zip(elements, values, strict=True):
        if not isinstance(element, Discard):
            emit.write(element, type, value)


@operation("st", destinations=0)
def store(instruction: Instruction, emit: Emitter) -> None:
    if instruction.has("async"):
        store_async(instruction, emit)
        return
    target, source = instruction.operands[:2]
    address = address_operand(emit, target)
    if instruction.has("bulk"):
        emit.unsupported("st.bulk")
    type = instruction.type
    space = space_of(instruction, emit, target)
    # Only the bit pattern matters: a store never converts.
    bits = f"b{TYPE_BITS[type]}"
    values = [emit.read(element, bits) for element in _elements(source)]
    emit.call("store", [], [emit.address(address), *values], space=space, type=bits)


def store_async(instruction: Instruction, emit: Emitter) -> None:
    """`[target], value | {values}, [mbarrier]` of st.async and red.async."""
    target, source, barrier = instruction.operands
    if not instruction.has("mbarrier::complete_tx::bytes"):
        emit.unsupported("this form without an mbarrier")
    elements = source.elements if isinstance(source, Vector) else (source,)
    places = [emit.address(address_operand(emit, operand)) for operand in (target, barrier)]
    name, type = instruction.first_of(*OPERATIONS), instruction.type
    values = [emit.read(element, type if name else f"b{TYPE_BITS[type]}") for element in elements]
    emit.call("store_async", [], [*places, *values], type=type if name else f"b{TYPE_BITS[type]}", operation=name)


@operation(
    "membar", "fence", "prefetch", "prefetchu", "discard", "applypriority", "nanosleep", "pmevent", "brkpt",
    "griddepcontrol", destinations=0,
)  # fmt: skip
def no_effect(instruction: Instruction, emit: Emitter) -> None:
    """Ordering, cache and power hints: lock-step execution is already stronger."""


@operation("createpolicy")
def cache_policy(instruction: Instruction, emit: Emitter) -> None:
    """A cache policy is an opaque number that nothing here reads."""
    emit.write(instruction.operands[0], "b64", emit.constant("b64", 0))


@operation("call", destinations=0)
def call_undefined(instruction: Instruction, emit: Emitter) -> None:
    """Calls of functions with bodies were inlined; what is left has none."""
    names = [operand.name for operand in instruction.operands if isinstance(operand, Symbol)]
    name = names[0] if names else "a function pointer"
    emit.call("call_undefined", [], [], name=name)

"""tensormap.*: kernels that change a tensor map, as grouped products do for each of their problems.

In: tensormap.replace, tensormap.cp_fenceproxy. Out: stores into the emulator's 128 bytes of a map (`tensor_map.py`),
and copies of them. Why: a map is opaque, and these are the only instructions that know its fields.
"""

from __future__ import annotations

from ..ptx import Address, Immediate, Instruction, Operand
from ..tensor_map import FIELDS, TENSOR_MAP_BYTES
from . import operation
from .emitter import Emitter, Value
from .memory import address_operand, space_of

_ELEMENT_TYPES = (0, 1, 2, 3, 4, 5, 6, 7, 10, 8, 9, 11, 12)
"""CUtensorMapDataType of each value of .elemtype."""
_OFFSETS = {"rank": 1, "global_dim": -1}
"""From the value of the instruction to that of the field."""
_CODES = {"elemtype": len(_ELEMENT_TYPES), "swizzle_mode": 4, "fill_mode": 2}
"""How many values there are of fields that are immediates."""


@operation("tensormap", destinations=0)
def tensor_map(instruction: Instruction, emit: Emitter) -> None:
    if instruction.has("cp_fenceproxy"):
        _copy(instruction, emit)
    else:
        _replace(instruction, emit)


def _replace(instruction: Instruction, emit: Emitter) -> None:
    """`[map]{, index}, value`."""
    place, *index, value = instruction.operands
    name = next((modifier for modifier in instruction.modifiers if modifier in FIELDS), "")
    if instruction.has("interleave_layout") and isinstance(value, Immediate) and value.bits == 0:
        return
    if not name:
        emit.unsupported("this field; supported: " + ", ".join(FIELDS))
    offset, nbytes = FIELDS[name]
    if index:
        assert isinstance(index[0], Immediate)
        offset += index[0].bits * nbytes
    address, space = address_operand(emit, place), space_of(instruction, emit, place)
    if name in _CODES:
        parts = [_code(emit, name, value)]
    elif nbytes == 8:
        wide = emit.bind(emit.read(value, "u64"))
        high = emit.apply("shift_right", "u64", wide, emit.constant("u32", 32))
        parts = [emit.convert("u64", "u32", part) for part in (wide, high)]
    else:
        number = emit.apply("add", "u32", emit.read(value, "u32"), emit.constant("u32", _OFFSETS.get(name, 0)))
        parts = [emit.convert("u32", f"u{8 * nbytes}", number)]
    width = min(nbytes, 4)
    for number, part in enumerate(parts):
        where = emit.address(Address(address.base, address.offset + offset + width * number))
        emit.call("store", [], [where, part], space=space, type=f"u{8 * width}")


def _code(emit: Emitter, name: str, value: Operand) -> Value:
    """An enumerated field, which is an immediate."""
    if not isinstance(value, Immediate) or not 0 <= value.bits < _CODES[name]:
        emit.unsupported(f"this {name}")
        raise AssertionError
    return emit.constant("u8", _ELEMENT_TYPES[value.bits] if name == "elemtype" else value.bits)


def _copy(instruction: Instruction, emit: Emitter) -> None:
    """`[global], [shared], 128`: a fence as well, of which there is nothing to do."""
    target, source = (address_operand(emit, operand) for operand in instruction.operands[:2])
    for offset in range(0, TENSOR_MAP_BYTES, 16):
        places = [emit.address(Address(one.base, one.offset + offset)) for one in (target, source)]
        words = emit.call("load", ["b32"] * 4, [places[1]], space="shared", type="b32")
        emit.call("store", [], [places[0], *words], space="global", type="b32")

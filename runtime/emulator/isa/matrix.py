"""Tensor-core instructions of the sm_80 family: ldmatrix, stmatrix, movmatrix, mma.sync.

In: instructions of those opcodes. Out: calls of the engine's `load_matrix`, `store_matrix`,
`transpose_matrix`, `mma` routines. Why: shapes and element types are checked here against one table, so that
an engine may trust them.
"""

from __future__ import annotations

from ..ptx import Address, Instruction, Vector
from . import operation
from .emitter import Emitter, Value
from .structured_matrix import SMALL, is_structured, multiply_structured

# (shape, a type, b type, accumulator type) -> (registers of A, registers of B, registers of C and D).
_BYTES, _NIBBLES, _EIGHTS = ("s8", "u8"), ("s4", "u4"), ("e4m3", "e5m2")
MMA_FORMS: dict[tuple[str, str, str, str], tuple[int, int, int]] = {
    **{("m16n8k16", half, half, "f32"): (4, 2, 4) for half in ("f16", "bf16")},
    **{("m16n8k8", half, half, "f32"): (2, 1, 4) for half in ("f16", "bf16")},
    ("m16n8k16", "f16", "f16", "f16"): (4, 2, 2),
    ("m16n8k8", "f16", "f16", "f16"): (2, 1, 2),
    ("m16n8k8", "tf32", "tf32", "f32"): (4, 2, 4),
    ("m16n8k4", "tf32", "tf32", "f32"): (2, 1, 4),
    **{("m16n8k32", a, b, "s32"): (4, 2, 4) for a in _BYTES for b in _BYTES},
    **{("m16n8k16", a, b, "s32"): (2, 1, 4) for a in _BYTES for b in _BYTES},
    **{("m16n8k64", a, b, "s32"): (4, 2, 4) for a in _NIBBLES for b in _NIBBLES},
    **{("m16n8k32", a, b, "s32"): (2, 1, 4) for a in _NIBBLES for b in _NIBBLES},
    **{("m16n8k32", a, b, "f32"): (4, 2, 4) for a in _EIGHTS for b in _EIGHTS},
    **{("m16n8k32", a, b, "f16"): (4, 2, 2) for a in _EIGHTS for b in _EIGHTS},
    **{("m16n8k16", a, b, "f32"): (2, 1, 4) for a in _EIGHTS for b in _EIGHTS},
    **{("m16n8k16", a, b, "f16"): (2, 1, 2) for a in _EIGHTS for b in _EIGHTS},
    **{("m16n8k32", a, b, "f32"): (4, 2, 4) for a in SMALL for b in SMALL},
    **{("m16n8k32", a, b, "f16"): (4, 2, 2) for a in SMALL for b in SMALL},
    ("m16n8k256", "b1", "b1", "s32"): (4, 2, 4),
    ("m16n8k128", "b1", "b1", "s32"): (2, 1, 4),
    # Eight rows.
    **{("m8n8k16", a, b, "s32"): (1, 1, 2) for a in _BYTES for b in _BYTES},
    **{("m8n8k32", a, b, "s32"): (1, 1, 2) for a in _NIBBLES for b in _NIBBLES},
    ("m8n8k128", "b1", "b1", "s32"): (1, 1, 2),
    ("m8n8k4", "f64", "f64", "f64"): (1, 1, 2),
    **{(f"m16n8k{4 * steps}", "f64", "f64", "f64"): (2 * steps, steps, 4) for steps in (1, 2, 4)},
}


def _supported() -> str:
    """Shapes, each with the types that A may have."""
    types: dict[str, list[str]] = {}
    for shape, a, _, _ in MMA_FORMS:
        if a not in types.setdefault(shape, []):
            types[shape].append(a)
    return ", ".join(f"{shape} of {'/'.join(names)}" for shape, names in types.items())


@operation("mma")
def multiply_matrices(instruction: Instruction, emit: Emitter) -> None:
    shape = next((modifier for modifier in instruction.modifiers if modifier[0] == "m" and modifier[1:2].isdigit()), "")
    if is_structured(instruction):
        multiply_structured(instruction, emit, shape)
        return
    types = instruction.types
    form = (shape, types[1], types[2], types[3]) if len(types) >= 4 else (shape, "", "", "")
    if (
        form not in MMA_FORMS
        or types[0] != types[3]
        or not instruction.has("row")
        or ({*types[1:3]} & {*SMALL[2:]} and not instruction.has("kind::f8f6f4"))
    ):
        emit.unsupported(f"this shape and these types; supported: {_supported()};")
    vectors = instruction.operands[:4]
    target, *sources = (operand.elements if isinstance(operand, Vector) else (operand,) for operand in vectors)
    accumulator = "b32" if types[3] == "f16" else types[3]
    kinds = (*(("f64", "f64") if types[1] == "f64" else ("b32", "b32")), accumulator)
    values = [emit.read(element, kind) for source, kind in zip(sources, kinds, strict=True) for element in source]
    counts = MMA_FORMS[form]
    # Only where they say something: engines that lack them then refuse these forms alone.
    options: dict[str, object] = {"saturating": True} if instruction.has("satfinite") else {}
    if instruction.has("xor"):
        options["exclusive"] = True
    results = emit.call(
        "mma", [accumulator] * counts[2], values, counts=counts, a=form[1], b=form[2], c=form[3], **options
    )
    for element, value in zip(target, results, strict=True):
        emit.write(element, accumulator, value)


def _matrices(instruction: Instruction) -> int:
    return int(instruction.first_of("x1", "x2", "x4")[1:])


_PACKED_BITS = {"b8": 8, "b6x16_p32": 6, "b4x16_p64": 4}
"""Bits of an element in memory, by the modifier that tells them; each becomes a byte."""


def _load_bytes(instruction: Instruction, emit: Emitter, address: Value) -> list[Value]:
    """m16n16, always transposed, and m8n16: rows of 16 elements of 4, 6 or 8 bits."""
    square = instruction.has("m16n16")
    bits = _PACKED_BITS.get(instruction.first_of(*_PACKED_BITS), 0)
    count = _matrices(instruction)
    if square != instruction.has("trans") or not bits or (count > 2 if square else bits == 8):
        emit.unsupported("this form; supported: m8n8 of b16; m16n16 (x1, x2, transposed) of b8, b8x16.b6x16_p32 and "
                         "b8x16.b4x16_p64; m8n16 of the latter two;")  # fmt: skip
    registers = count * 2 if square else count
    return emit.call("load_byte_matrix", ["b32"] * registers, [address], count=count, square=square, bits=bits)


@operation("ldmatrix")
def load_matrix(instruction: Instruction, emit: Emitter) -> None:
    target, source = instruction.operands
    assert isinstance(source, Address)
    elements = target.elements if isinstance(target, Vector) else (target,)
    if instruction.has("m8n8") and instruction.type == "b16":
        count = _matrices(instruction)
        values = emit.call("load_matrix", ["b32"] * count, [emit.address(source)],
                           count=count, transposed=instruction.has("trans"))  # fmt: skip
    else:
        values = _load_bytes(instruction, emit, emit.address(source))
    for element, value in zip(elements, values, strict=True):
        emit.write(element, "b32", value)


@operation("stmatrix", destinations=0)
def store_matrix(instruction: Instruction, emit: Emitter) -> None:
    target, source = instruction.operands
    assert isinstance(target, Address)
    count = _matrices(instruction)
    elements = source.elements if isinstance(source, Vector) else (source,)
    values = [emit.address(target), *(emit.read(element, "b32") for element in elements)]
    if instruction.has("m8n8") and instruction.type == "b16":
        emit.call("store_matrix", [], values, count=count, transposed=instruction.has("trans"))
    elif instruction.has("m16n8") and instruction.has("trans") and instruction.has("b8"):
        emit.call("store_byte_matrix", [], values, count=count)
    else:
        emit.unsupported("this form; supported: m8n8 of b16 and m16n8, transposed, of b8;")


@operation("movmatrix")
def transpose_matrix(instruction: Instruction, emit: Emitter) -> None:
    value = emit.read(instruction.operands[1], "b32")
    emit.write(instruction.operands[0], "b32", emit.call("transpose_matrix", ["b32"], [value])[0])

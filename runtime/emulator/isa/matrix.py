"""Tensor-core instructions of the sm_80 family: ldmatrix, stmatrix, movmatrix, mma.sync.

In: instructions of those opcodes. Out: calls of the engine's `load_matrix`, `store_matrix`,
`transpose_matrix`, `mma` routines. Why: shapes and element types are checked here against one table, so that
an engine may trust them.
"""

from __future__ import annotations

from ..ptx import Address, Instruction, Vector
from . import operation
from .emitter import Emitter

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
    types = instruction.types
    form = (shape, types[1], types[2], types[3]) if len(types) >= 4 else (shape, "", "", "")
    if (
        form not in MMA_FORMS
        or types[0] != types[3]
        or instruction.has("sp", "sp::ordered_metadata", "kind::mxf8f6f4")
        or not instruction.has("row")
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


def _matrices(instruction: Instruction, emit: Emitter) -> int:
    if not instruction.has("m8n8") or instruction.type != "b16":
        emit.unsupported("matrix shapes other than m8n8 of b16")
    return int(instruction.first_of("x1", "x2", "x4")[1:])


@operation("ldmatrix")
def load_matrix(instruction: Instruction, emit: Emitter) -> None:
    target, source = instruction.operands
    assert isinstance(source, Address)
    count = _matrices(instruction, emit)
    elements = target.elements if isinstance(target, Vector) else (target,)
    values = emit.call("load_matrix", ["b32"] * count, [emit.address(source)],
                       count=count, transposed=instruction.has("trans"))  # fmt: skip
    for element, value in zip(elements, values, strict=True):
        emit.write(element, "b32", value)


@operation("stmatrix", destinations=0)
def store_matrix(instruction: Instruction, emit: Emitter) -> None:
    target, source = instruction.operands
    assert isinstance(target, Address)
    count = _matrices(instruction, emit)
    elements = source.elements if isinstance(source, Vector) else (source,)
    values = [emit.address(target), *(emit.read(element, "b32") for element in elements)]
    emit.call("store_matrix", [], values, count=count, transposed=instruction.has("trans"))


@operation("movmatrix")
def transpose_matrix(instruction: Instruction, emit: Emitter) -> None:
    value = emit.read(instruction.operands[1], "b32")
    emit.write(instruction.operands[0], "b32", emit.call("transpose_matrix", ["b32"], [value])[0])

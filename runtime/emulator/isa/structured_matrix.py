"""mma.sync with a sparse A (mma.sp), with scaled blocks (block_scale), or with both.

In: instructions that have those modifiers. Out: calls of the engine's `structured_mma` routine. Why: their operands
and element types are others than those of plain products, and no kernel of ours has them. Shapes, layouts and
selectors: PTX ISA, "Matrix multiply-accumulate operation using mma.sp instruction" and "Block scaling for mma.sync".
"""

from __future__ import annotations

from dataclasses import dataclass

from ..ptx import Immediate, Instruction, Operand, Vector
from .emitter import Emitter, Value

SPARSE, ORDERED = "sp", "sp::ordered_metadata"
SCALED = "block_scale"
STRUCTURED = (SPARSE, ORDERED, SCALED)
"""Modifiers, any of which makes a product one of these."""
_HALVES, _BYTES, _NIBBLES, _EIGHTS = ("f16", "bf16"), ("s8", "u8"), ("s4", "u4"), ("e4m3", "e5m2")
SMALL = (*_EIGHTS, "e3m2", "e2m3", "e2m1")
"""Elements of kind::f8f6f4 and kind::mxf8f6f4, each in a byte."""
_SMALLER = {"e3m2", "e2m3", "e2m1"}
PACKED = "e2m1x2"
"""e2m1 in kind::mxf4 and kind::mxf4nvf4: two in a byte."""

_SPARSE_FORMS: dict[tuple[str, str, str, str], int] = {
    **{(f"m16n8k{16 * n}", half, half, "f32"): 2 * n for half in _HALVES for n in (1, 2)},
    **{(f"m16n8k{16 * n}", "f16", "f16", "f16"): 2 * n for n in (1, 2)},
    **{(f"m16n8k{8 * n}", "tf32", "tf32", "f32"): 2 * n for n in (1, 2)},
    **{(f"m16n8k{32 * n}", a, b, "s32"): 2 * n for a in _BYTES for b in _BYTES for n in (1, 2)},
    **{(f"m16n8k{64 * n}", a, b, "s32"): 2 * n for a in _NIBBLES for b in _NIBBLES for n in (1, 2)},
    **{("m16n8k64", a, b, c): 4 for a in SMALL for b in SMALL for c in ("f32", "f16")},
}
"""Registers of A, and of B, by shape and the types of A, B and C."""


@dataclass(frozen=True, slots=True)
class _Scaling:
    """`elements` of A and B; scale types with how many blocks each row of A has, at most; the modifier may be left out
    where `default` says how many."""

    elements: tuple[str, ...]
    scales: dict[str, tuple[int, ...]]
    depth: int
    default: int = 0


_SCALINGS = {
    "kind::mxf8f6f4": _Scaling(SMALL, {"ue8m0": (1,)}, 32, 1),
    "kind::mxf4": _Scaling(("e2m1",), {"ue8m0": (2,)}, 64, 2),
    "kind::mxf4nvf4": _Scaling(("e2m1",), {"ue8m0": (2, 4), "ue4m3": (4,)}, 64),
}


def is_structured(instruction: Instruction) -> bool:
    """Whether an mma.sync is one of these."""
    return instruction.has(*STRUCTURED)


def multiply_structured(instruction: Instruction, emit: Emitter, shape: str) -> None:
    """`d, a, b, c {, metadata, selector} {, scales of A, {byte, thread}, scales of B, {byte, thread}}`."""
    sparse, scaled = instruction.has(SPARSE, ORDERED), instruction.has(SCALED)
    options: dict[str, object] = {}
    a, b, c = _types(instruction, emit)
    if scaled:
        registers, options = _scaled_form(instruction, emit, shape, a, b)
        a, b = (PACKED, PACKED) if not instruction.has("kind::mxf8f6f4") else (a, b)
    else:
        registers = _SPARSE_FORMS.get((shape, a, b, c), 0)
        if not registers or ({a, b} & _SMALLER and not instruction.has("kind::f8f6f4")):
            emit.unsupported(f"this shape and these types of mma.sp; supported: {_supported()};")
    counts = (4, 2, 4) if not sparse else (registers, registers, 2 if c == "f16" else 4)
    accumulator = "b32" if c == "f16" else c
    rest = list(instruction.operands[4:])
    kinds = ("b32", "b32", accumulator)
    values = [
        emit.read(element, kind)
        for operand, kind in zip(instruction.operands[1:4], kinds, strict=True)
        for element in _elements(operand)
    ]  # fmt: skip
    if sparse:
        metadata, selector = rest.pop(0), rest.pop(0)
        values.append(emit.read(metadata, "b32"))
        options |= {"selector": _selector(selector, emit, a, registers), "ordered": instruction.has(ORDERED)}
    if scaled:
        values += _scales(emit, rest)
    if instruction.has("satfinite"):
        options["saturating"] = True
    results = emit.call("structured_mma", [accumulator] * counts[2], values, counts=counts, a=a, b=b, c=c, **options)
    for element, value in zip(_elements(instruction.operands[0]), results, strict=True):
        emit.write(element, accumulator, value)


def _selector(operand: Operand, emit: Emitter, a: str, registers: int) -> int:
    """Which lanes of a quad have the metadata: one, a pair or all of them, as there are places to tell."""
    lanes = registers // 2 * (1 if a in ("f16", "bf16", "tf32") else 2)
    if not isinstance(operand, Immediate) or operand.bits >= 4 // lanes:
        emit.unsupported(f"a sparsity selector other than the constants 0 to {4 // lanes - 1}")
    return operand.bits


def _elements(operand: Operand) -> tuple[Operand, ...]:
    return operand.elements if isinstance(operand, Vector) else (operand,)


def _types(instruction: Instruction, emit: Emitter) -> tuple[str, str, str]:
    types = instruction.types
    if len(types) < 4 or types[0] != types[3] or not instruction.has("row"):
        emit.unsupported("these types of D and C, or these layouts")
    return types[1], types[2], types[3]


def _scaled_form(
    instruction: Instruction, emit: Emitter, shape: str, a: str, b: str
) -> tuple[int, dict[str, object]]:  # fmt: skip
    """Registers of a factor (of a sparse product), and the options of the routine."""
    form = _SCALINGS.get(instruction.first_of(*_SCALINGS))
    size = next((m for m in instruction.modifiers if m.startswith("scale_vec::")), "")
    factor = instruction.first_of("ue8m0", "ue4m3")
    sparse = instruction.has(SPARSE, ORDERED)
    count = int(size[-2]) if size else form.default if form is not None else 0
    if (
        form is None or not {a, b} <= set(form.elements) or count not in form.scales.get(factor, ())
        or shape != f"m16n8k{form.depth * (2 if sparse else 1)}"
    ):  # fmt: skip
        kinds = "; ".join(
            f"{kind} of {'/'.join(form.elements)} with {', '.join(form.scales)}" for kind, form in _SCALINGS.items()
        )
        emit.unsupported(f"this form of block_scale; supported: {kinds};")
    return 4, {"scales": count, "factor": factor}


def _scales(emit: Emitter, operands: list[Operand]) -> list[Value]:
    """The words with the scales of A and of B, each followed by its byte and thread selectors."""
    values = []
    for data, selectors in (operands[:2], operands[2:4]):
        values.append(emit.read(data, "b32"))
        values += [emit.convert("u16", "u32", emit.read(one, "u16")) for one in _elements(selectors)]
    return values


def _supported() -> str:
    shapes: dict[str, list[str]] = {}
    for shape, a, _, _ in _SPARSE_FORMS:
        if a not in shapes.setdefault(shape, []):
            shapes[shape].append(a)
    return ", ".join(f"{shape} of {'/'.join(names)}" for shape, names in shapes.items())

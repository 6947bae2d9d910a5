"""tile.dot: one step of a contraction's main loop, by the instruction it names.

In: two shared tiles, an accumulator in registers and the stage of the ring to read. Out: the accumulator's
new registers.
"""

from __future__ import annotations

from mlir import ir
from mlir.dialects import llvm

from ...runtime.errors import InternalError
from .context import LoweringContext, RegisterTile, SharedTile, lowering
from .dot_fma import dot_fma
from .dot_mma import INSTRUCTIONS, dot_mma
from .dot_wgmma import dot_wgmma, find_shape

_REGISTER_LETTERS = {"f32": "f", "f64": "d", "i32": "r", "i64": "l"}


@lowering("tile.dot")
def _dot(context: LoweringContext, operation: ir.Operation) -> None:
    left, right, accumulator = (context.get(operand) for operand in list(operation.operands)[:3])
    assert isinstance(right, SharedTile) and isinstance(accumulator, RegisterTile)
    stage = context.scalar(operation.operands[3])
    name = ir.StringAttr(operation.attributes["instruction"]).value
    if shape := find_shape(name):
        sums = None if _is_zero(operation.operands[2]) else accumulator.values
        result = dot_wgmma(context, left, right, accumulator.layout, sums, stage, shape)
    elif name in INSTRUCTIONS:
        result = dot_mma(context, left, right, accumulator, stage, INSTRUCTIONS[name])
    elif not isinstance(left, SharedTile):
        raise InternalError(f"tile.dot: {name} takes no left operand in registers")
    elif name == "fma":
        result = dot_fma(context, left, right, accumulator, stage)
    else:
        known = ", ".join(("fma", "m64nNkK.TYPE", *INSTRUCTIONS))
        raise InternalError(f"tile.dot: unknown instruction {name!r}; known: {known}")
    if "pinned" in operation.attributes:
        result = RegisterTile(result.layout, tuple(_pinned(value) for value in result.values))
    context.set(operation.results[0], result)


def _is_zero(tile: ir.Value) -> bool:
    """True for a tile of zeros that is made for this product: wgmma need not read them."""
    made = tile.owner
    if isinstance(made, ir.Block) or made.name != "tile.full" or isinstance(made.operands[0].owner, ir.Block):
        return False
    constant = made.operands[0].owner
    if constant.name != "arith.constant":
        return False
    value = constant.attributes["value"]
    kind = ir.FloatAttr if isinstance(value, ir.FloatAttr) else ir.IntegerAttr
    return bool(kind(value).value == 0)


def _pinned(value: ir.Value) -> ir.Value:
    """The same value behind an empty piece of assembly that LLVM must leave where it stands.

    Where a main loop has a single step it disappears, and LLVM would then sink every sum into the branch that
    stores it, keeping all operands alive until there: hundreds of registers.
    """
    letter = _REGISTER_LETTERS[str(value.type)]
    result = llvm.inline_asm(value.type, [value], "", f"={letter},0", has_side_effects=True)
    assert isinstance(result, ir.Value)
    return result

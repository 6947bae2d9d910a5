"""tile.dot: one step of a contraction's main loop, by the instruction it names.

In: two shared tiles, an accumulator in registers and the stage of the ring to read. Out: the accumulator's
new registers.
"""

from __future__ import annotations

from mlir import ir

from ...runtime.errors import InternalError
from .context import LoweringContext, RegisterTile, SharedTile, lowering
from .dot_fma import dot_fma
from .dot_mma import INSTRUCTIONS, dot_mma


@lowering("tile.dot")
def _dot(context: LoweringContext, operation: ir.Operation) -> None:
    left, right, accumulator = (context.get(operand) for operand in list(operation.operands)[:3])
    assert (
        isinstance(left, SharedTile)
        and isinstance(right, SharedTile)
        and isinstance(accumulator, RegisterTile)
    )
    stage = context.scalar(operation.operands[3])
    name = ir.StringAttr(operation.attributes["instruction"]).value
    if name == "fma":
        result = dot_fma(context, left, right, accumulator, stage)
    elif name in INSTRUCTIONS:
        result = dot_mma(context, left, right, accumulator, stage, INSTRUCTIONS[name])
    else:
        raise InternalError(f"tile.dot: unknown instruction {name!r}; known: fma, {', '.join(INSTRUCTIONS)}")
    context.set(operation.results[0], result)

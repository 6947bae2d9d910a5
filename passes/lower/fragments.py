"""tile.pack and tile.fragments: left operands of products in registers.

In: weights in an accumulator's layout, or a shared tile. Out: registers of two neighbours each, in the order in which
mma.sync m16n8k16 and wgmma take them: what one product has made becomes the operand of the next without leaving its
threads, and what every step of a loop multiplies is loaded once.
"""

from __future__ import annotations

from dataclasses import replace

from mlir import ir
from mlir.dialects import llvm

from ...runtime.errors import InternalError
from .context import LoweringContext, RegisterTile, SharedTile, lowering, tile_type
from .dot_layouts import FragmentLayout, MmaLayout, PairLayout, WarpgroupLayout
from .dot_mma import INSTRUCTIONS, FragmentLoader


@lowering("tile.pack")
def _pack(context: LoweringContext, operation: ir.Operation) -> None:
    """For wgmma in volatile assembly: a register of a product that still runs must not be written, so that what waits
    for it must come first.
    """
    tile, target = context.get(operation.operands[0]), context.layout(operation.results[0].type)
    assert isinstance(tile, RegisterTile) and isinstance(tile.layout, (WarpgroupLayout, MmaLayout))
    if not isinstance(target, (PairLayout, FragmentLayout)) or target.accumulator != replace(tile.layout, width=2):
        raise InternalError(f"tile.pack takes {tile.layout} to pairs of the same warps, not {target}")
    kind = str(tile_type(operation.results[0].type).element)
    assembly = f"cvt.rn.{kind}x2.f32 $0, $2, $1;"
    is_asynchronous = isinstance(target, PairLayout)
    across = tile.layout.columns // 8
    registers = []
    for group in target.groups():
        first = (group.row_slot * across + group.column_slot) * 2
        pair = list(tile.values[first : first + 2])
        packed = llvm.inline_asm(context.i32, pair, assembly, "=r,f,f", has_side_effects=is_asynchronous)
        if not is_asynchronous and INSTRUCTIONS[f"m16n8k16.{kind}"].packed:
            packed = llvm.bitcast(ir.VectorType.get([2], ir.F16Type.get()), packed)
        registers.append(packed)
    context.set(operation.results[0], RegisterTile(target, tuple(registers)))


@lowering("tile.fragments")
def _fragments(context: LoweringContext, operation: ir.Operation) -> None:
    tile, target = context.get(operation.operands[0]), context.layout(operation.results[0].type)
    stage = context.scalar(operation.operands[1])
    assert isinstance(tile, SharedTile)
    if not isinstance(target, FragmentLayout):
        raise InternalError(f"tile.fragments gives left operands of mma.sync, not {target}")
    instruction = INSTRUCTIONS[f"m16n8k16.{tile.element}"]
    row, _ = target.accumulator.warp_origin(context)
    loader = FragmentLoader(context, tile, stage, row, 0, instruction)
    registers: list[ir.Value] = []
    for block in range(target.blocks):
        for depth in range(0, target.columns, instruction.depth):
            registers += loader.load(block * 16, depth)
    context.set(operation.results[0], RegisterTile(target, tuple(registers)))

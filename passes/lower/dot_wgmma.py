"""The main loop on Hopper's tensor cores: wgmma, whose operands are read from swizzled shared tiles by descriptors.

In: two shared tiles with a 128-byte swizzle, and an accumulator in `wgmma` layout. Out: the accumulator's registers
while the products still run; tile.dot_wait waits. Descriptors and layouts are written in the PTX ISA under
"Asynchronous Warpgroup Level Matrix Shared Memory Layout".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from mlir import ir
from mlir.dialects import arith, llvm, nvvm

from ...runtime.errors import InternalError
from .context import LoweringContext, RegisterTile, SharedTile, byte_width, lowering
from .dot_fma import stage_offset
from .dot_layouts import WARP, WarpgroupLayout, parse_shared

BLOCK_ROWS = 64  # of one wgmma
LINE_BYTES = 128  # a line of a swizzled tile
_ATOM_LINES = 8  # lines after which the swizzle repeats
_SWIZZLE_128 = 1 << 62


@dataclass(frozen=True)
class WgmmaShape:
    """One wgmma: `columns` and `depth` of it, and the PTX type of both operands."""

    columns: int
    depth: int
    operands: str

    @property
    def name(self) -> str:
        """As PTX writes it, for sums in f32."""
        return f"wgmma.mma_async.sync.aligned.m64n{self.columns}k{self.depth}.f32.{self.operands}.{self.operands}"


@lru_cache(maxsize=256)
def find_shape(instruction: str) -> WgmmaShape | None:
    """The shape that ``m64n256k16.f16`` names; None for another kind of instruction."""
    match = re.fullmatch(r"m64n(\d+)k(\d+)\.(f16|bf16|tf32)", instruction)
    return WgmmaShape(int(match.group(1)), int(match.group(2)), match.group(3)) if match else None


def dot_wgmma(
    context: LoweringContext,
    left: SharedTile,
    right: SharedTile,
    accumulator: RegisterTile,
    stage: ir.Value,
    shape: WgmmaShape,
) -> RegisterTile:
    """accumulator + left x right, started and committed as one group."""
    layout = accumulator.layout
    if not isinstance(layout, WarpgroupLayout) or layout.columns != shape.columns:
        raise InternalError(f"{shape.name} needs a wgmma accumulator of {shape.columns} columns, not {layout}")
    steps = left.columns // shape.depth
    left_operand, right_operand = _Descriptor(context, left, 0, stage), _Descriptor(context, right, 1, stage)
    group = _warpgroup(context, layout)
    values = list(accumulator.values)
    nvvm.wgmma_fence_aligned()
    for block in range(layout.blocks):
        first = context.add(context.multiply(group, layout.blocks * BLOCK_ROWS), block * BLOCK_ROWS)
        pairs = [
            (left_operand.at(first, step * shape.depth), right_operand.at(None, step * shape.depth))
            for step in range(steps)
        ]
        places = _places(layout, block)
        sums = _multiply(shape, [values[place] for place in places], pairs, (left_operand, right_operand))
        for place, value in zip(places, sums, strict=True):
            values[place] = value
    nvvm.wgmma_commit_group_sync_aligned()
    return RegisterTile(layout, tuple(values))


@lowering("tile.dot_wait")
def _wait(context: LoweringContext, operation: ir.Operation) -> None:
    """Registers of running products must not be touched, not even by a tie; those of finished ones are tied, so that
    nothing that reads them moves in front of the wait.
    """
    tile = context.get(operation.operands[0])
    assert isinstance(tile, RegisterTile)
    pending = ir.IntegerAttr(operation.attributes["pending"]).value
    if pending:
        nvvm.wgmma_wait_group_sync_aligned(pending)
        context.set(operation.results[0], tile)
        return
    values = _tied("wgmma.wait_group.sync.aligned 0;", list(tile.values), [])
    context.set(operation.results[0], RegisterTile(tile.layout, tuple(values)))


def _warpgroup(context: LoweringContext, layout: WarpgroupLayout) -> ir.Value:
    """Which warpgroup this is: the same for all lanes, and made so that ptxas knows it."""
    if layout.warpgroups == 1:
        return context.integer(0)
    number = context.divide(context.thread, 4 * WARP)
    every = arith.constant(context.i32, -1)
    return nvvm.shfl_sync(context.i32, every, number, context.integer(0), context.integer(WARP - 1), nvvm.ShflKind.idx)


def _places(layout: WarpgroupLayout, block: int) -> list[int]:
    """The registers of a 64-row block in the instruction's order: for every 8 columns, row g, then row g + 8."""
    across = layout.columns // 8
    order = []
    for piece in range(across):
        for half in (0, 1):
            first = ((2 * block + half) * across + piece) * 2
            order += [first, first + 1]
    return order


def _multiply(
    shape: WgmmaShape,
    sums: list[ir.Value],
    pairs: list[tuple[ir.Value, ir.Value]],
    operands: tuple[_Descriptor, _Descriptor],
) -> list[ir.Value]:
    """The products of all steps of k into one block of sums, in one piece of assembly that LLVM cannot take apart."""
    count = len(sums)
    registers = ", ".join(f"${index}" for index in range(count))
    transposed = "" if shape.operands == "tf32" else "".join(f", {int(not own.depth_contiguous)}" for own in operands)
    lines = ["{", ".reg .pred accumulate;", "setp.eq.u32 accumulate, 0, 0;"]
    for step in range(len(pairs)):
        left, right = 2 * count + 2 * step, 2 * count + 2 * step + 1
        lines.append(f"{shape.name} {{{registers}}}, ${left}, ${right}, accumulate, 1, 1{transposed};")
    lines.append("}")
    return _tied("\n".join(lines), sums, [value for pair in pairs for value in pair])


def _tied(assembly: str, values: list[ir.Value], others: list[ir.Value]) -> list[ir.Value]:
    """Assembly that changes `values` (f32) in place and reads `others` (i64)."""
    f32 = ir.F32Type.get()
    constraints = ",".join(["=f"] * len(values) + [str(index) for index in range(len(values))] + ["l"] * len(others))
    result = llvm.inline_asm(
        llvm.StructType.get_literal([f32] * len(values)),
        [*values, *others],
        assembly,
        constraints,
        has_side_effects=True,
    )
    return [llvm.extractvalue(f32, result, [index]) for index in range(len(values))]


class _Descriptor:
    """Descriptors of one operand's tile; `dimension` of the tile is not k."""

    def __init__(self, context: LoweringContext, tile: SharedTile, dimension: int, stage: ir.Value) -> None:
        self.context, self.tile, self.dimension = context, tile, dimension
        layout = parse_shared(tile.layout)
        self.size = byte_width(tile.element)
        if layout.swizzle != LINE_BYTES or layout.line * self.size != LINE_BYTES:
            raise InternalError(f"wgmma reads tiles in lines of {LINE_BYTES} swizzled bytes, not {tile.layout}")
        self.depth_contiguous = layout.fast != dimension
        lines = tile.rows if layout.fast == 1 else tile.columns
        self.panel_bytes = lines * LINE_BYTES
        address = context.add(context.shared_address(), stage_offset(context, tile, stage))
        units = arith.shrui(address, context.integer(4))
        atom = _ATOM_LINES * LINE_BYTES >> 4
        # Leading offset: between panels along the dimension that is not k; ignored where k is contiguous.
        leading = 1 if self.depth_contiguous else self.panel_bytes >> 4
        fixed = _SWIZZLE_128 | atom << 32 | leading << 16
        wide = arith.extui(ir.IntegerType.get_signless(64), units)
        self.base = arith.ori(wide, _wide(fixed))

    def at(self, line: ir.Value | None, depth: int) -> ir.Value:
        """The descriptor that starts at `line` (a multiple of 64; None: the first) and `depth`, a multiple of the
        instruction's.
        """
        if self.depth_contiguous:
            panel, inside = divmod(depth * self.size, LINE_BYTES)
            offset = panel * self.panel_bytes + inside
            stride = LINE_BYTES
        else:
            offset, stride = depth * LINE_BYTES, self.panel_bytes // BLOCK_ROWS
        value = self.base
        if line is not None:
            context = self.context
            moved = arith.shrui(context.multiply(line, stride), context.integer(4))
            value = arith.addi(value, arith.extui(ir.IntegerType.get_signless(64), moved))
        return arith.addi(value, _wide(offset >> 4)) if offset else value


def _wide(value: int) -> ir.Value:
    return arith.constant(ir.IntegerType.get_signless(64), value)

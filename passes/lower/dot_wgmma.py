"""The main loop on Hopper's tensor cores: wgmma, whose operands are read from swizzled shared tiles by descriptors.

In: two shared tiles with a 128-byte swizzle, and an accumulator in `wgmma` layout. Out: the accumulator's registers
while the products still run; tile.dot_wait waits. Descriptors and layouts are written in the PTX ISA under
"Asynchronous Warpgroup Level Matrix Shared Memory Layout".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from mlir import ir
from mlir.dialects import arith, llvm, nvvm

from ...runtime.errors import InternalError
from .context import LoweringContext, RegisterTile, SharedTile, byte_width, lowering
from .dot_fma import stage_offset
from .dot_layouts import WarpgroupLayout, parse_shared
from .layouts import Layout
from .roles import warpgroup_number

BLOCK_ROWS = 64  # of one wgmma
_ATOM_LINES = 8  # lines after which the swizzle repeats
_WINDOW = (1 << 18) - 1  # bytes that a descriptor's start reaches
_SWIZZLES = {128: 1 << 62, 64: 2 << 62, 32: 3 << 62}  # of a descriptor, by the bytes of a line


# By the PTX type of the operands: the type of the sums, and which further operands there are.
_SUMS = {"f16": "f32", "bf16": "f32", "tf32": "f32", "e4m3": "f32", "e5m2": "f32", "s8": "s32", "u8": "s32"}
_TRANSPOSABLE = ("f16", "bf16")  # the others are read along k only


@dataclass(frozen=True)
class WgmmaShape:
    """One wgmma: `columns` and `depth` of it, and the PTX types of its operands."""

    columns: int
    depth: int
    left: str
    right: str

    @property
    def sums(self) -> str:
        """The PTX type of the sums."""
        return _SUMS[self.left]

    @property
    def name(self) -> str:
        """As PTX writes it."""
        shape = f"m64n{self.columns}k{self.depth}"
        return f"wgmma.mma_async.sync.aligned.{shape}.{self.sums}.{self.left}.{self.right}"

    def flags(self, transposed: Sequence[bool]) -> str:
        """The operands after the predicate: signs of floats, and for each operand in shared memory its order."""
        signs = "" if self.sums == "s32" else ", 1, 1"
        return signs + "".join(f", {int(flag)}" for flag in transposed if self.left in _TRANSPOSABLE)


@lru_cache(maxsize=256)
def find_shape(instruction: str) -> WgmmaShape | None:
    """The shape that ``m64n256k16.f16`` or ``m64n64k32.u8.s8`` names; None for another kind of instruction."""
    match = re.fullmatch(r"m64n(\d+)k(\d+)\.(\w+?)(?:\.(\w+))?", instruction)
    if match is None or match.group(3) not in _SUMS:
        return None
    return WgmmaShape(int(match.group(1)), int(match.group(2)), match.group(3), match.group(4) or match.group(3))


def dot_wgmma(
    context: LoweringContext,
    left: SharedTile | RegisterTile,
    right: SharedTile,
    layout: Layout,
    sums: Sequence[ir.Value] | None,
    stage: ir.Value,
    shape: WgmmaShape,
) -> RegisterTile:
    """sums + left x right, started and committed as one group; without `sums` the product alone.

    The left operand may be in registers, from tile.pack.
    """
    if not isinstance(layout, WarpgroupLayout) or layout.columns != shape.columns:
        raise InternalError(f"{shape.name} needs a wgmma accumulator of {shape.columns} columns, not {layout}")
    right_operand = _Descriptor(context, right, 1, stage)
    shared = _Descriptor(context, left, 0, stage) if isinstance(left, SharedTile) else None
    steps = right.rows // shape.depth
    group = _warpgroup(context, layout)
    values: list[ir.Value | None] = [None] * layout.registers if sums is None else list(sums)
    nvvm.wgmma_fence_aligned()
    for block in range(layout.blocks):
        first = context.add(context.multiply(group, layout.blocks * BLOCK_ROWS), block * BLOCK_ROWS)
        pairs = []
        for step in range(steps):
            depth = step * shape.depth
            own = _fragment(left, block, step) if shared is None else (shared.at(first, depth),)
            pairs.append((own, right_operand.at(None, depth)))
        places = _places(layout, block)
        before = [value for value in (values[place] for place in places) if value is not None]
        transposed = [not operand.depth_contiguous for operand in (shared, right_operand) if operand is not None]
        results = _multiply(shape, len(places), before, pairs, transposed)
        for place, value in zip(places, results, strict=True):
            values[place] = value
    nvvm.wgmma_commit_group_sync_aligned()
    return RegisterTile(layout, tuple(value for value in values if value is not None))


def _fragment(tile: SharedTile | RegisterTile, block: int, step: int) -> tuple[ir.Value, ...]:
    """The four registers of 64 rows x one step of a packed tile."""
    assert isinstance(tile, RegisterTile)
    steps = tile.layout.columns // 16
    first = (block * steps + step) * 4
    return tile.values[first : first + 4]


@lowering("tile.dot_wait")
def _wait(context: LoweringContext, operation: ir.Operation) -> None:
    """Registers of running products must not be touched, not even by a tie; those of finished ones are tied, so that
    nothing that reads them moves in front of the wait.
    """
    tile = context.get(operation.operands[0])
    assert isinstance(tile, RegisterTile)
    pending = ir.IntegerAttr(operation.attributes["pending"]).value
    others = ir.IntegerAttr(operation.attributes["others"]).value if "others" in operation.attributes else 0
    if pending > others:
        nvvm.wgmma_wait_group_sync_aligned(pending)
        context.set(operation.results[0], tile)
        return
    values = _tied(f"wgmma.wait_group.sync.aligned {pending};", list(tile.values), [])
    context.set(operation.results[0], RegisterTile(tile.layout, tuple(values)))


def _warpgroup(context: LoweringContext, layout: WarpgroupLayout) -> ir.Value:
    return context.integer(0) if layout.warpgroups == 1 else warpgroup_number(context)


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
    count: int,
    sums: list[ir.Value],
    pairs: list[tuple[tuple[ir.Value, ...], ir.Value]],
    transposed: list[bool],
) -> list[ir.Value]:
    """The products of all steps of k into one block of `count` sums, in one piece of assembly that LLVM cannot take
    apart. Without sums the first product starts them. `transposed` tells it of each operand in shared memory.
    """
    registers = ", ".join(f"${index}" for index in range(count))
    flags = shape.flags(transposed)
    lines = ["{", ".reg .pred accumulate;", f"setp.{'eq' if sums else 'ne'}.u32 accumulate, 0, 0;"]
    others: list[ir.Value] = []
    for left, right in pairs:
        names = [f"${count + len(sums) + len(others) + place}" for place in range(len(left) + 1)]
        first = names[0] if len(left) == 1 else "{" + ", ".join(names[:-1]) + "}"
        lines.append(f"{shape.name} {{{registers}}}, {first}, {names[-1]}, accumulate{flags};")
        if not sums and not others:
            lines.append("setp.eq.u32 accumulate, 0, 0;")
        others += [*left, right]
    lines.append("}")
    type_ = ir.F32Type.get() if shape.sums == "f32" else ir.IntegerType.get_signless(32)
    return _assembly("\n".join(lines), [type_] * count, sums, others)


def _tied(assembly: str, values: list[ir.Value], others: list[ir.Value]) -> list[ir.Value]:
    """Assembly that changes `values` in place and reads `others`."""
    return _assembly(assembly, [value.type for value in values], values, others)


def _assembly(text: str, types: list[ir.Type], values: list[ir.Value], others: list[ir.Value]) -> list[ir.Value]:
    """Assembly with results of `types`, which begin as `values` where there are any."""
    results = ["=f" if isinstance(own, ir.F32Type) else "=r" for own in types]
    letters = ["l" if ir.IntegerType(own.type).width == 64 else "r" for own in others]
    constraints = ",".join(results + [str(index) for index in range(len(values))] + letters)
    result = llvm.inline_asm(
        llvm.StructType.get_literal(types), [*values, *others], text, constraints, has_side_effects=True
    )
    return [llvm.extractvalue(own, result, [index]) for index, own in enumerate(types)]


class _Descriptor:
    """Descriptors of one operand's tile; `dimension` of the tile is not k."""

    def __init__(self, context: LoweringContext, tile: SharedTile, dimension: int, stage: ir.Value) -> None:
        self.context, self.tile, self.dimension = context, tile, dimension
        layout = parse_shared(tile.layout)
        self.size = byte_width(tile.element)
        self.depth_contiguous = layout.fast != dimension
        if layout.swizzle not in _SWIZZLES or layout.line * self.size != layout.swizzle:
            raise InternalError(f"wgmma reads tiles in lines of 32, 64 or 128 swizzled bytes, not {tile.layout}")
        if not self.depth_contiguous and self.size != 2:
            raise InternalError(f"wgmma reads operands of {self.size} bytes along k only, not {tile.layout}")
        lines = tile.rows if layout.fast == 1 else tile.columns
        self.span = layout.swizzle
        self.panel_bytes = lines * self.span
        # In a cluster an address in the shared window has the block's rank from bit 24 on, in the next field: cut off.
        base = arith.andi(context.shared_address(), context.integer(_WINDOW))
        address = context.add(base, stage_offset(context, tile, stage))
        units = arith.shrui(address, context.integer(4))
        atom = _ATOM_LINES * self.span >> 4
        # Leading offset: between panels along the dimension that is not k; ignored where k is contiguous.
        leading = 1 if self.depth_contiguous else self.panel_bytes >> 4
        fixed = _SWIZZLES[self.span] | atom << 32 | leading << 16
        wide = arith.extui(ir.IntegerType.get_signless(64), units)
        self.base = arith.ori(wide, _wide(fixed))

    def at(self, line: ir.Value | None, depth: int) -> ir.Value:
        """The descriptor that starts at `line` (a multiple of 64; None: the first) and `depth`, a multiple of the
        instruction's.
        """
        if self.depth_contiguous:
            panel, inside = divmod(depth * self.size, self.span)
            offset = panel * self.panel_bytes + inside
            stride = self.span
        else:
            offset, stride = depth * self.span, self.panel_bytes // BLOCK_ROWS
        value = self.base
        if line is not None:
            context = self.context
            moved = arith.shrui(context.multiply(line, stride), context.integer(4))
            value = arith.addi(value, arith.extui(ir.IntegerType.get_signless(64), moved))
        return arith.addi(value, _wide(offset >> 4)) if offset else value


def _wide(value: int) -> ir.Value:
    return arith.constant(ir.IntegerType.get_signless(64), value - (value >> 63 << 64))  # as a signed number

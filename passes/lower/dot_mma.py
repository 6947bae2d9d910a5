"""The main loop on tensor cores of the sm_80 family: ldmatrix and mma.sync m16n8.

In: two shared tiles of f16, bf16, f32 (as tf32) or 8-bit integers or floats and an accumulator in `mma` layout. Out:
the accumulator's new registers. Operands that are contiguous along k come with plain ldmatrix, 16-bit ones that are not
with its transposing form, 32-bit ones with scalar loads; 8-bit ones always are. Which lane holds what is written in
the PTX ISA under "Matrix fragments for mma.m16n8k32", "... m16n8k16" and "... m16n8k8".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from mlir import ir
from mlir.dialects import arith, llvm, nvvm

from .context import LoweringContext, RegisterTile, SharedTile, byte_width
from .dot_fma import stage_offset
from .dot_layouts import WARP, FragmentLayout, MmaLayout, parse_shared

BYTES = ("s8", "u8")
SMALL_FLOATS = ("e4m3", "e5m2")


@dataclass(frozen=True)
class MmaInstruction:
    """One mma.sync shape: `depth` is its k, `left` and `right` the PTX types of its multiplicands."""

    depth: int
    left: str  # a member of nvvm.MMATypes
    right: str
    packed: bool = False  # multiplicand registers are vector<2xf16>, else i32
    rounded: bool = False  # f32 operands are rounded to tf32 first

    @property
    def is_integer(self) -> bool:
        """Products of 8-bit integers, summed in i32 that wraps."""
        return self.left in BYTES

    @property
    def is_small_float(self) -> bool:
        """Products of 8-bit floats, from sm_89 on."""
        return self.left in SMALL_FLOATS


INSTRUCTIONS = {
    "m16n8k16.f16": MmaInstruction(16, "f16", "f16", packed=True),
    "m16n8k16.bf16": MmaInstruction(16, "bf16", "bf16"),
    "m16n8k8.tf32": MmaInstruction(8, "tf32", "tf32", rounded=True),
    **{
        f"m16n8k32.{left}.{right}": MmaInstruction(32, left, right)
        for kinds in (BYTES, SMALL_FLOATS)
        for left in kinds
        for right in kinds
    },
}


def dot_mma(
    context: LoweringContext,
    left: SharedTile | RegisterTile,
    right: SharedTile,
    accumulator: RegisterTile,
    stage: ir.Value,
    instruction: MmaInstruction,
) -> RegisterTile:
    """accumulator + left x right, in steps of the instruction's k. `left` may be in registers already: fragments.py."""
    layout = accumulator.layout
    assert isinstance(layout, MmaLayout)
    down, across = layout.pieces
    row, column = layout.warp_origin(context)
    load_left: Callable[[int, int], list[ir.Value]] = partial(_held, left)
    right_loader = FragmentLoader(context, right, stage, column, 1, instruction)
    depths = right.rows // layout.warp_depth
    first = context.multiply(layout.depth_group(context), depths) if layout.warp_depth > 1 else None
    if first is not None:
        right_loader.advance(first)
    if isinstance(left, SharedTile):
        left_loader = FragmentLoader(context, left, stage, row, 0, instruction)
        if first is not None:
            left_loader.advance(first)
        load_left = left_loader.load
    values = list(accumulator.values)
    for depth in range(0, depths, instruction.depth):
        right_fragments = _right_fragments(right_loader, across, depth)
        for i in range(down):
            left_fragment = load_left(i * 16, depth)
            for j in range(across):
                places = _places(i, j, across)
                results = _mma(
                    instruction, left_fragment, right_fragments[j], [values[place] for place in places]
                )
                for place, value in zip(places, results, strict=True):
                    values[place] = value
    return RegisterTile(layout, tuple(values))


def _held(left: SharedTile | RegisterTile, line: int, depth: int) -> list[ir.Value]:
    """The registers of 16 lines x one step of k of a left operand in registers."""
    assert isinstance(left, RegisterTile) and isinstance(left.layout, FragmentLayout)
    first = (line // 16 * (left.layout.columns // 16) + depth // 16) * 4
    return list(left.values[first : first + 4])


def _places(i: int, j: int, across: int) -> list[int]:
    """Registers of piece (i, j) in the order of the layout's groups: rows g then g + 8, two columns each."""
    upper = (2 * i * across + j) * 2
    lower = ((2 * i + 1) * across + j) * 2
    return [upper, upper + 1, lower, lower + 1]


def _right_fragments(loader: FragmentLoader, across: int, depth: int) -> list[list[ir.Value]]:
    """b0, b1 of every 8 columns; a load brings 16 columns at once."""
    fragments: list[list[ir.Value]] = []
    for j in range(0, across, 2):
        b = loader.load(j * 8, depth, half=j + 1 >= across)
        fragments += [b[0:2], b[2:4]]
    return fragments[:across]


def _mma(
    instruction: MmaInstruction, left: list[ir.Value], right: list[ir.Value], sums: list[ir.Value]
) -> list[ir.Value]:
    if instruction.is_small_float:
        return _mma_assembly(instruction, left, right, sums)
    sum_type = sums[0].type
    result = nvvm.mma_sync(
        llvm.StructType.get_literal([sum_type] * 4),
        ir.Attribute.parse(f"#nvvm.shape<m = 16, n = 8, k = {instruction.depth}>"),
        nvvm.MMALayout.row,
        nvvm.MMALayout.col,
        left,
        right,
        sums,
        int_overflow_behavior=nvvm.MMAIntOverflow.wrapped if instruction.is_integer else None,
        multiplicand_a_ptx_type=getattr(nvvm.MMATypes, instruction.left),
        multiplicand_b_ptx_type=getattr(nvvm.MMATypes, instruction.right),
    )
    return [llvm.extractvalue(sum_type, result, [index]) for index in range(4)]


def _mma_assembly(
    instruction: MmaInstruction, left: list[ir.Value], right: list[ir.Value], sums: list[ir.Value]
) -> list[ir.Value]:
    """The same for types that nvvm.mma.sync does not know: 8-bit floats."""
    name = f"mma.sync.aligned.m16n8k{instruction.depth}.row.col.f32.{instruction.left}.{instruction.right}.f32"
    text = f"{name} {{$0, $1, $2, $3}}, {{$8, $9, $10, $11}}, {{$12, $13}}, {{$4, $5, $6, $7}};"
    sum_type = sums[0].type
    result = llvm.inline_asm(
        llvm.StructType.get_literal([sum_type] * 4),
        [*sums, *left, *right],
        text,
        ",".join(["=f"] * 4 + ["f"] * 4 + ["r"] * 6),
    )
    return [llvm.extractvalue(sum_type, result, [index]) for index in range(4)]


class FragmentLoader:
    """Loads 16 lines x one k step of an operand as four registers: of the left, a0 to a3; of the right, b0,
    b1 of two neighbouring pieces.
    """

    def __init__(
        self,
        context: LoweringContext,
        tile: SharedTile,
        stage: ir.Value,
        origin: ir.Value,
        dimension: int,
        instruction: MmaInstruction,
    ) -> None:
        """`dimension` of the tile is not k; the warp's lines start at `origin`."""
        self.context, self.tile, self.instruction, self.dimension = context, tile, instruction, dimension
        shared = parse_shared(tile.layout)
        self.line_stride, self.depth_stride = shared.strides[dimension], shared.strides[1 - dimension]
        self.size = byte_width(tile.element)
        self.depth_contiguous = shared.fast != dimension
        self.matrices = self.depth_contiguous or self.size == 2
        line, depth = self._lane_position()
        offset = context.add(
            context.multiply(context.add(origin, line), self.line_stride),
            context.multiply(depth, self.depth_stride),
        )
        byte_offset = context.add(stage_offset(context, tile, stage), context.multiply(offset, self.size))
        self.base = context.shared_pointer(byte_offset)

    def _lane_position(self) -> tuple[ir.Value, ir.Value]:
        """(line, k) of the address that this lane gives, relative to the warp's first line and the k step."""
        context = self.context
        lane = context.remainder(context.thread, WARP)
        if not self.matrices:
            return context.divide(lane, 4), context.remainder(lane, 4)
        # Lane l addresses line l & 7 of matrix l >> 3. Of the left, matrices 0, 1 lie below each other and 2,
        # 3 further along k; of the right, 0, 1 lie along k and 2, 3 are the next 8 columns. A transposing
        # load takes lines along k.
        half = self.instruction.depth // 2
        inside, first = context.remainder(lane, 8), context.remainder(context.divide(lane, 8), 2)
        second = context.divide(lane, 16)
        along_lines, along_depth = (first, second) if self.dimension == 0 else (second, first)
        line, depth = context.multiply(along_lines, 8), context.multiply(along_depth, half)
        if self.depth_contiguous:
            return context.add(line, inside), depth
        return line, context.add(depth, inside)

    def advance(self, depth: ir.Value) -> None:
        """Load from `depth` k further on."""
        offset = self.context.multiply(depth, self.depth_stride)
        self.base = self.context.offset_pointer(self.base, offset, self.tile.element)

    def load(self, line: int, depth: int, half: bool = False) -> list[ir.Value]:
        """The four registers at lines `line`.. and k `depth`..; with `half`, only the first 8 lines matter
        (and exist).
        """
        if not self.matrices:
            return self._load_scalars(line, depth, half)
        offset = line * self.line_stride + depth * self.depth_stride
        pointer = self.context.offset_pointer(self.base, offset, self.tile.element)
        i32, count = self.context.i32, 2 if half else 4
        loaded = nvvm.ldmatrix(
            llvm.StructType.get_literal([i32] * count),
            pointer,
            count,
            nvvm.MMALayout.row if self.depth_contiguous else nvvm.MMALayout.col,
            ir.Attribute.parse("#nvvm.ld_st_matrix_shape<m = 8, n = 8>"),
            nvvm.LdStMatrixEltType.B16,
        )
        return [self._register(llvm.extractvalue(i32, loaded, [index])) for index in range(count)]

    def _load_scalars(self, line: int, depth: int, half: bool) -> list[ir.Value]:
        """32-bit elements whose lines are not along k: register r of the left is (g + 8*(r & 1), t + 4*(r >>
        1)), of the right swapped.
        """
        registers = []
        for index in range(2 if half else 4):
            low, high = index % 2, index // 2
            down, along = (low, high) if self.dimension == 0 else (high, low)
            offset = (line + 8 * down) * self.line_stride + (depth + 4 * along) * self.depth_stride
            pointer = self.context.offset_pointer(self.base, offset, self.tile.element)
            registers.append(self._register(self.context.load(pointer, self.context.i32, 4)))
        return registers

    def _register(self, value: ir.Value) -> ir.Value:
        """A loaded i32 as the multiplicand register that the instruction takes."""
        if self.instruction.packed:
            return llvm.bitcast(ir.VectorType.get([2], ir.F16Type.get()), value)
        if self.instruction.rounded:
            real = arith.bitcast(ir.F32Type.get(), value)
            return nvvm.convert_float_to_tf32(self.context.i32, real, rnd=nvvm.FPRoundingMode.RNA)
        return value

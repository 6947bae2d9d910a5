"""wgmma of the fast engine: each warp computes its 16 rows of the product when it comes to the instruction.

In: accumulators in their places in memory, descriptors or registers of A, descriptors of B. Out: the accumulators
changed. Why: with lane 4g + t, columns 8i + 2t + e and rows 8h + g an accumulator is an 8 by 4 block as it stands, so
that a step of k is one multiplication of four rows of A, each repeated, with four columns of B, repeated.

Nobody may write the operands before the warpgroup has waited, so that its warps may read them one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .llvm_context import FAULT_DESCRIPTOR, FAULT_SWITCH
from .llvm_module import call, field_pointer, load_field
from .llvm_operands import WIDTHS, Operand, decode, emit, halves, words_of_register
from .llvm_values import LANES, Code, Value
from .ptx import Operand as PtxOperand
from .ptx import Register

if TYPE_CHECKING:
    from .llvm_codegen import Generator

_EVENS_AND_ODDS = ((0, 2, 4, 6), (1, 3, 5, 7))
_HALVES = ((0, 1, 2, 3), (4, 5, 6, 7))
_ROWS = 64
_VECTOR = "<16 x float>"
_WHOLE = f"<{LANES} x i32>"
_PLACES = tuple((half, part) for half in range(2) for part in range(2))
"""Rows 8 half + 4 part and the three after it: what one vector of 16 holds of an accumulator."""


# The instruction.
def multiply(
    emit: Generator, operands: Sequence[PtxOperand], values: Sequence[Value], columns: int, types: tuple[str, ...],
    in_registers: bool, negated: bool, transposed: tuple[bool, bool], saturating: bool,
) -> None:  # fmt: skip
    """wgmma.mma_async: D = A B + D, or A B where scale-d is false."""
    from .llvm_routines import record_fault, require_whole_warp

    code = emit.code
    if emit.guard is not None:
        emit.unsupported("a guard")
    require_whole_warp(emit, "wgmma")
    warps = -(-(emit.shape[0] * emit.shape[1] * emit.shape[2]) // LANES)
    if warps % 4:
        alone = code.compare("icmp uge", emit.field("warp", "i32"), code.integer("i32", warps // 4 * 4))
        label = code.name()[1:]
        code.line(f"br i1 {alone.text}, label %alone{label}, label %grouped{label}")
        code.label(f"alone{label}")
        site = emit.site("", "wgmma executed by a warp whose warpgroup lacks warps", 0)
        record_fault(emit, FAULT_SWITCH, site, emit.active())
        code.line(f"br label %grouped{label}")
        code.label(f"grouped{label}")
    numbers = [emit.numbers[operand.name] for operand in operands if isinstance(operand, Register)]
    if len(numbers) != len(operands):
        emit.unsupported("accumulators that are no registers")
    *left, right, scale = values
    form = _Form(columns, types, in_registers, negated, transposed, saturating)
    name = emit.module.helper(form.name, form.header, form.build)
    given = [code.widen(code.bits(value)) for value in left] if in_registers else [code.lane(left[0], 0)]
    given += [code.lane(right, 0), code.resize(code.lane(scale, 0), "i32")]
    table = emit.places_of(numbers)
    site = emit.site("shared", "wgmma", 16)
    arguments = "".join(f", {value.typed}" for value in given)
    call(code, "void", name, f"ptr %context, i32 {site}, ptr {table}{arguments}")


def _nothing(emit: Generator, results: Sequence[str], values: Sequence[Value], **static: Any) -> list[Value]:
    """Products that are computed at once need no synchronisation."""
    return []


class _Form:
    """The helper of one shape and its types."""

    def __init__(
        self, columns: int, types: tuple[str, ...], in_registers: bool, negated: bool, transposed: tuple[bool, bool],
        saturating: bool,
    ) -> None:  # fmt: skip
        self.columns = columns
        self.result, self.left_type, self.right_type = types
        self.in_registers = in_registers
        self.negated = negated
        self.saturating = saturating
        self.left = Operand(self.left_type, transposed[0], _HALVES)
        self.right = Operand(self.right_type, transposed[1], _EVENS_AND_ODDS)
        self.depth = self.right.depth

    @property
    def name(self) -> str:
        """Of the helper."""
        flags = (self.in_registers, self.negated, self.left.transposed, self.right.transposed, self.saturating)
        types = f"{self.result}_{self.left_type}_{self.right_type}"
        return f"wgmma_{self.columns}_{types}_{''.join(str(int(flag)) for flag in flags)}"

    @property
    def header(self) -> str:
        """`(context, site, places of the accumulators, A's registers or descriptor, B's descriptor, scale)`."""
        left = ", ".join(f"{_WHOLE} %a{index}" for index in range(4)) if self.in_registers else "i64 %left"
        return f"void @(ptr %context, i32 %site, ptr %table, {left}, i64 %right, i32 %scale)"

    def build(self, code: Code) -> None:
        """The body: A once, then eight columns at a time."""
        code.line(f"%rows = alloca [{4 * self.depth} x {_VECTOR}], align 64")
        code.line(f"%buffer = alloca [{8 * self.depth} x float], align 64")
        code.line("%adds = icmp ne i32 %scale, 0")
        if self.in_registers:
            self._rows_from_registers(code)
        else:
            self._rows_from_memory(code)
        right = decode(code, "%right")
        code.line("br label %ahead")
        code.label("ahead")
        code.line("br label %columns")
        code.label("columns")
        code.line("%number = phi i32 [ 0, %ahead ], [ %next, %stored ]")
        self.right.load(code, right, "%number", "%buffer", "wrong_right")
        self._columns(code)
        code.line("br label %stored")
        code.label("stored")
        code.line("%next = add i32 %number, 1")
        code.line(f"%more = icmp ult i32 %next, {self.columns // 8}")
        code.line("br i1 %more, label %columns, label %done")
        code.label("done")
        code.line("ret void")
        _report(code, "wrong_right", "%right", self.columns, self.right.transposed)
        if not self.in_registers:
            _report(code, "wrong_left", "%left", _ROWS, self.left.transposed)

    # A: for each k four vectors, in which each of four rows stands four times.
    def _store_rows(self, code: Code, k: int, place: tuple[int, int], vector: str) -> None:
        if self.negated:
            vector = emit(code, f"fneg {_VECTOR} {vector}")
        index = 4 * k + _PLACES.index(place)
        pointer = emit(code, f"getelementptr {_VECTOR}, ptr %rows, i64 {index}")
        code.line(f"store {_VECTOR} {vector}, ptr {pointer}, align 64")

    def _rows_from_memory(self, code: Code) -> None:
        fields = decode(code, "%left")
        warp = load_field(code, "warp", "i32").text
        first = emit(code, f"shl i32 {emit(code, f'and i32 {warp}, 3')}, 1")
        repeated = ", ".join(f"i32 {index // 4}" for index in range(16))
        for half in range(2):
            self.left.load(code, fields, emit(code, f"add i32 {first}, {half}"), "%buffer", "wrong_left")
            for k in range(self.depth):
                for part in range(2):
                    place = emit(code, f"getelementptr float, ptr %buffer, i64 {self.left.place(k, part)}")
                    four = emit(code, f"load <4 x float>, ptr {place}, align 16")
                    spread = emit(
                        code, f"shufflevector <4 x float> {four}, <4 x float> poison, <16 x i32> <{repeated}>"
                    )  # fmt: skip
                    self._store_rows(code, k, (half, part), spread)

    def _rows_from_registers(self, code: Code) -> None:
        each = 32 // WIDTHS[self.left_type]
        for register in range(4):
            along, half = divmod(register, 2)
            for element in range(each):
                value = Value(f"%a{register}", "i32", True)
                wide = words_of_register(code, self.left_type, value, element)
                for part in range(2):
                    for column in range(4):
                        lanes = ", ".join(f"i32 {16 * part + lane // 4 * 4 + column}" for lane in range(16))
                        vector = emit(
                            code, f"shufflevector <32 x float> {wide}, <32 x float> poison, <16 x i32> <{lanes}>"
                        )  # fmt: skip
                        self._store_rows(code, 4 * each * along + each * column + element, (half, part), vector)

    # Eight columns.
    def _columns(self, code: Code) -> None:
        totals = [[self._initial(code, rows, odd) for odd in range(2)] for rows in _PLACES]
        repeated = ", ".join(f"i32 {index % 4}" for index in range(16))
        code.declare("llvm.fma.v16f32", f"declare {_VECTOR} @llvm.fma.v16f32({_VECTOR}, {_VECTOR}, {_VECTOR})")
        for k in range(self.depth):
            right = []
            for odd in range(2):
                place = emit(code, f"getelementptr float, ptr %buffer, i64 {self.right.place(k, odd)}")
                four = emit(code, f"load <4 x float>, ptr {place}, align 16")
                spread = f"shufflevector <4 x float> {four}, <4 x float> poison, <16 x i32> <{repeated}>"
                right.append(emit(code, spread))
            for index, sums in enumerate(totals):
                pointer = emit(code, f"getelementptr {_VECTOR}, ptr %rows, i64 {4 * k + index}")
                left = emit(code, f"load {_VECTOR}, ptr {pointer}, align 64")
                for odd in range(2):
                    operands = f"{_VECTOR} {left}, {_VECTOR} {right[odd]}, {_VECTOR} {sums[odd]}"
                    sums[odd] = emit(code, f"call {_VECTOR} @llvm.fma.v16f32({operands})")
        for rows, sums in zip(_PLACES, totals, strict=True):
            self._finish(code, rows, *sums)

    def _accumulator(self, code: Code, place: tuple[int, int], odd: int) -> str:
        """Where 16 lanes of an accumulator lie; halves of both columns are in one."""
        half, part = place
        packed = self.result == "f16"
        index = emit(code, f"mul i32 %number, {2 if packed else 4}")
        index = emit(code, f"add i32 {index}, {half if packed else 2 * half + odd}")
        entry = emit(code, f"getelementptr ptr, ptr %table, i32 {index}")
        register = emit(code, f"load ptr, ptr {entry}, align 8")
        return emit(code, f"getelementptr i8, ptr {register}, i64 {64 * part}")

    def _initial(self, code: Code, place: tuple[int, int], odd: int) -> str:
        """What the sums begin with: D in f32, else nothing."""
        if self.result != "f32":
            return "zeroinitializer"
        old = emit(code, f"load {_VECTOR}, ptr {self._accumulator(code, place, odd)}, align 8")
        return emit(code, f"select i1 %adds, {_VECTOR} {old}, {_VECTOR} zeroinitializer")

    def _finish(self, code: Code, place: tuple[int, int], even: str, odd: str) -> None:
        """Sums into the accumulators; D is added here where it is no f32."""
        if self.result == "f16":
            self._finish_halves(code, place, even, odd)
            return
        for number, total in enumerate((even, odd)):
            pointer = self._accumulator(code, place, number)
            if self.result == "s32":
                whole = emit(code, f"fptosi {_VECTOR} {total} to <16 x i32>")
                old = emit(code, f"load <16 x i32>, ptr {pointer}, align 8")
                old = emit(code, f"select i1 %adds, <16 x i32> {old}, <16 x i32> zeroinitializer")
                code.line(f"store <16 x i32> {self._sum(code, whole, old)}, ptr {pointer}, align 8")
            else:
                code.line(f"store {_VECTOR} {total}, ptr {pointer}, align 8")

    def _sum(self, code: Code, a: str, b: str) -> str:
        if not self.saturating:
            return emit(code, f"add <16 x i32> {a}, {b}")
        name = "llvm.sadd.sat.v16i32"
        code.declare(name, f"declare <16 x i32> @{name}(<16 x i32>, <16 x i32>)")
        return emit(code, f"call <16 x i32> @{name}(<16 x i32> {a}, <16 x i32> {b})")

    def _finish_halves(self, code: Code, place: tuple[int, int], *sums: str) -> None:
        pointer = self._accumulator(code, place, 0)
        packed = emit(code, f"load <16 x i32>, ptr {pointer}, align 8")
        words = []
        for odd, total in enumerate(sums):
            bits = emit(code, f"lshr <16 x i32> {packed}, splat (i32 {16 * odd})")
            bits = emit(code, f"trunc <16 x i32> {bits} to <16 x i16>")
            old = emit(code, f"select i1 %adds, {_VECTOR} {halves(code, bits, 16)}, {_VECTOR} zeroinitializer")
            whole = emit(code, f"fadd {_VECTOR} {total}, {old}")
            half = emit(code, f"fptrunc {_VECTOR} {whole} to <16 x half>")
            nan = emit(code, f"fcmp uno {_VECTOR} {whole}, zeroinitializer")
            rounded = emit(code, f"bitcast <16 x half> {half} to <16 x i16>")
            rounded = emit(code, f"select <16 x i1> {nan}, <16 x i16> splat (i16 32767), <16 x i16> {rounded}")
            words.append(emit(code, f"zext <16 x i16> {rounded} to <16 x i32>"))
        high = emit(code, f"shl <16 x i32> {words[1]}, splat (i32 16)")
        code.line(f"store <16 x i32> {emit(code, f'or <16 x i32> {words[0]}, {high}')}, ptr {pointer}, align 8")


def _report(code: Code, label: str, descriptor: str, rows: int, along_rows: bool) -> None:
    """The block `label`: note a descriptor that leaves shared memory, for `llvm_faults.py`."""
    code.label(label)
    kind = load_field(code, "fault_kind", "i32").text
    first = emit(code, f"icmp eq i32 {kind}, 0")
    code.line(f"br i1 {first}, label %note_{label}, label %noted_{label}")
    code.label(f"note_{label}")
    warp = load_field(code, "warp", "i32").text
    for name, value in (
        ("fault_kind", f"i32 {FAULT_DESCRIPTOR}"), ("fault_site", "i32 %site"), ("fault_lanes", "i32 1"),
        ("fault_warp", f"i32 {warp}"),
    ):  # fmt: skip
        code.line(f"store {value}, ptr {field_pointer(code, name)}")
    place = field_pointer(code, "fault_address")
    for index, text in enumerate((descriptor, str(rows), str(int(along_rows)))):
        code.line(f"store i64 {text}, ptr {emit(code, f'getelementptr i64, ptr {place}, i64 {index}')}")
    code.line(f"br label %noted_{label}")
    code.label(f"noted_{label}")
    code.line("ret void")


WARPGROUP_ROUTINES: dict[str, Callable[..., list[Value]]] = dict.fromkeys(
    ("warpgroup_fence", "warpgroup_commit", "warpgroup_wait"), _nothing
)
"""By emitter name."""

"""wgmma of the fast engine: each warp computes its 16 rows of the product when it comes to the instruction.

In: accumulators in their places in memory, descriptors or registers of A, descriptors of B. Out: the accumulators
changed. Why: a column of the sixteen rows fills a vector of the host, so that a step of k is one multiply-add for each
column, whose broadcast of B its load does; rows of B need widening only, and A is turned once for all columns.

Nobody may write the operands before the warpgroup has waited, so that its warps may read them one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .llvm_context import FAULT_DESCRIPTOR, FAULT_SWITCH
from .llvm_module import call, field_pointer, load_field
from .llvm_operands import ROWS, WIDTHS, Operand, decode, emit, halves, words_of_register
from .llvm_prepared import broadcast, multiply_add, turned_inside, turned_quarters
from .llvm_values import LANES, Code, Value, constant_vector
from .ptx import Operand as PtxOperand
from .ptx import Register

if TYPE_CHECKING:
    from .llvm_codegen import Generator

_ROWS = 64
_WARP_ROWS = 16
_ORDER = tuple(4 * (lane % 4) + lane // 4 for lane in range(_WARP_ROWS))
"""The row in each lane of a column: those of one quarter of a vector end up in four accumulators."""
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
        self.left = Operand(self.left_type, transposed[0])
        self.right = Operand(self.right_type, transposed[1])
        self.depth = self.right.depth
        self.step = 1
        """Columns at once, in eights: as many as the host has registers for."""

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
        """The body: A once, then 8 or 16 columns at a time."""
        self.step = 2 if self.columns % 16 == 0 and code.avx512 else 1
        code.line(f"%rows = alloca [{self.depth} x {_VECTOR}], align 64")
        # In a local array LLVM would replace loads of single floats, which broadcast for nothing, by shuffles.
        buffer = load_field(code, "scratch", "ptr").text
        buffers = [buffer, emit(code, f"getelementptr float, ptr {buffer}, i64 {ROWS * self.depth}")]
        code.line("%adds = icmp ne i32 %scale, 0")
        if self.in_registers:
            self._rows_from_registers(code)
        else:
            self._rows_from_memory(code, buffers)
        right = decode(code, "%right")
        code.line("br label %ahead")
        code.label("ahead")
        code.line("br label %columns")
        code.label("columns")
        code.line("%number = phi i32 [ 0, %ahead ], [ %next, %stored ]")
        eights = [emit(code, f"add i32 %number, {index}") for index in range(self.step)]
        for eight, place in zip(eights, buffers, strict=False):
            self.right.load(code, right, eight, place, "wrong_right")
        self._columns(code, eights, buffers)
        code.line("br label %stored")
        code.label("stored")
        code.line(f"%next = add i32 %number, {self.step}")
        code.line(f"%more = icmp ult i32 %next, {self.columns // 8}")
        code.line("br i1 %more, label %columns, label %done")
        code.label("done")
        code.line("ret void")
        _report(code, "wrong_right", "%right", self.columns, self.right.transposed)
        if not self.in_registers:
            _report(code, "wrong_left", "%left", _ROWS, self.left.transposed)

    # A: for each k a vector of all rows, in their order.
    def _store_rows(self, code: Code, k: int, vector: str) -> None:
        if self.negated:
            vector = emit(code, f"fneg {_VECTOR} {vector}")
        pointer = emit(code, f"getelementptr {_VECTOR}, ptr %rows, i64 {k}")
        code.line(f"store {_VECTOR} {vector}, ptr {pointer}, align 64")

    def _rows_from_memory(self, code: Code, buffers: list[str]) -> None:
        fields = decode(code, "%left")
        warp = load_field(code, "warp", "i32").text
        first = emit(code, f"shl i32 {emit(code, f'and i32 {warp}, 3')}, 1")
        for half, buffer in enumerate(buffers):
            self.left.load(code, fields, emit(code, f"add i32 {first}, {half}"), buffer, "wrong_left")
        if self.left.transposed:
            self._ordered_rows(code, buffers)
        else:
            self._turned_rows(code, buffers[0])

    def _ordered_rows(self, code: Code, buffers: list[str]) -> None:
        """The rows of each k lie together, eight and eight."""
        eight = f"<{ROWS} x float>"
        for k in range(self.depth):
            halves_of_k = [
                emit(code, f"load {eight}, ptr {emit(code, f'getelementptr float, ptr {buffer}, i64 {ROWS * k}')}")
                for buffer in buffers
            ]
            pair = ", ".join(f"{eight} {part}" for part in halves_of_k)
            order = constant_vector("i32", _ORDER)
            self._store_rows(code, k, emit(code, f"shufflevector {pair}, <{_WARP_ROWS} x i32> {order}"))

    def _turned_rows(self, code: Code, buffer: str) -> None:
        """Row lies after row: sixteen by sixteen they are transposed, in quarters of vectors and then by quarters."""
        for start in range(0, self.depth, _WARP_ROWS):
            rows = []
            for row in range(_WARP_ROWS):
                place = emit(code, f"getelementptr float, ptr {buffer}, i64 {self.depth * row + start}")
                rows.append(emit(code, f"load {_VECTOR}, ptr {place}, align 4"))
            quarters = [turned_inside(code, rows[first::4]) for first in range(4)]
            for inner in range(4):
                for outer, vector in enumerate(turned_quarters(code, [quarter[inner] for quarter in quarters])):
                    if start + 4 * outer + inner < self.depth:
                        self._store_rows(code, start + 4 * outer + inner, vector)

    def _rows_from_registers(self, code: Code) -> None:
        each = 32 // WIDTHS[self.left_type]
        for along in range(2):
            for element in range(each):
                wide = [
                    words_of_register(code, self.left_type, Value(f"%a{2 * along + half}", "i32", True), element)
                    for half in range(2)
                ]
                pair = ", ".join(f"<{LANES} x float> {part}" for part in wide)
                for column in range(4):
                    lanes = constant_vector("i32", [row // 8 * LANES + row % 8 * 4 + column for row in _ORDER])
                    vector = emit(code, f"shufflevector {pair}, <{_WARP_ROWS} x i32> {lanes}")
                    self._store_rows(code, 4 * each * along + each * column + element, vector)

    # Columns.
    def _columns(self, code: Code, eights: list[str], buffers: list[str]) -> None:
        """Multiply all rows by the columns in the buffers, whose numbers are `eights`, and add to the accumulators."""
        totals: list[str | None] = [None] * (ROWS * len(eights))
        for k in range(self.depth):
            pointer = emit(code, f"getelementptr {_VECTOR}, ptr %rows, i64 {k}")
            left = emit(code, f"load {_VECTOR}, ptr {pointer}, align 64")
            for column, total in enumerate(totals):
                group, inner = divmod(column, ROWS)
                right = broadcast(code, buffers[group], 4 * self.right.place(k, inner))
                totals[column] = multiply_add(code, right, left, total)
        sums = [total for total in totals if total is not None]
        for index, eight in enumerate(eights):
            evens, odds = (turned_inside(code, sums[ROWS * index + odd : ROWS * (index + 1) : 2]) for odd in (0, 1))
            for place, even, odd in zip(_PLACES, evens, odds, strict=True):
                self._finish(code, (eight, *place), even, odd)

    def _accumulator(self, code: Code, place: tuple[str, int, int], odd: int) -> str:
        """Where 16 lanes of an accumulator lie; halves of both columns are in one."""
        eight, half, part = place
        packed = self.result == "f16"
        index = emit(code, f"mul i32 {eight}, {2 if packed else 4}")
        index = emit(code, f"add i32 {index}, {half if packed else 2 * half + odd}")
        entry = emit(code, f"getelementptr ptr, ptr %table, i32 {index}")
        register = emit(code, f"load ptr, ptr {entry}, align 8")
        return emit(code, f"getelementptr i8, ptr {register}, i64 {64 * part}")

    def _finish(self, code: Code, place: tuple[str, int, int], even: str, odd: str) -> None:
        """Sums into the accumulators."""
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
                old = emit(code, f"load {_VECTOR}, ptr {pointer}, align 8")
                old = emit(code, f"select i1 %adds, {_VECTOR} {old}, {_VECTOR} zeroinitializer")
                code.line(f"store {_VECTOR} {emit(code, f'fadd {_VECTOR} {total}, {old}')}, ptr {pointer}, align 8")

    def _sum(self, code: Code, a: str, b: str) -> str:
        if not self.saturating:
            return emit(code, f"add <16 x i32> {a}, {b}")
        name = "llvm.sadd.sat.v16i32"
        code.declare(name, f"declare <16 x i32> @{name}(<16 x i32>, <16 x i32>)")
        return emit(code, f"call <16 x i32> @{name}(<16 x i32> {a}, <16 x i32> {b})")

    def _finish_halves(self, code: Code, place: tuple[str, int, int], *sums: str) -> None:
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

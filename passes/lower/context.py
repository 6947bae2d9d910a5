"""The state of one kernel's lowering: values seen so far, thread position, shared memory.

In: operations of the tile level, one at a time, through the driver in kernel.py. Out: operations on scalars of one
thread. Rules only build IR through this class; the driver owns location, mapping and failure. Inside a kernel `index`
is i32: no tensor may have 2^31 elements, which the runtime checks before it launches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from mlir import ir
from mlir.dialects import arith, llvm, nvvm

from ..target import Target
from .layouts import Layout, parse_layout


@dataclass(frozen=True)
class Memory:
    """A kernel argument: a global pointer and the dtype it points to (`i1` lies in memory as one byte)."""

    pointer: ir.Value
    element: ir.Type


@dataclass(frozen=True)
class Barriers:
    """Barriers in shared memory from byte `offset` on, 8 bytes each."""

    offset: int


@dataclass(frozen=True)
class RegisterTile:
    """A tile in registers: `values` holds a scalar for each register of the layout, in group order."""

    layout: Layout
    values: tuple[ir.Value, ...]


@dataclass(frozen=True)
class SharedTile:
    """`stages` tiles in shared memory from byte `offset` on; `layout` is the text of the tile type."""

    offset: int
    rows: int
    columns: int
    element: ir.Type
    layout: str
    stages: int
    stage_bytes: int


Rule: TypeAlias = "Callable[[LoweringContext, ir.Operation], None]"

RULES: dict[str, Rule] = {}


def lowering(name: str) -> Callable[[Rule], Rule]:
    """Decorator: the one rule that lowers the tile operation `name`."""

    def register(rule: Rule) -> Rule:
        RULES[name] = rule
        return rule

    return register


@dataclass(frozen=True)
class TileType:
    """A tile type taken apart."""

    rows: int
    columns: int
    element: ir.Type
    layout: str


_TILE_TYPES: dict[str, tuple[int, int, str, str]] = {}


def tile_type(type_: ir.Type) -> TileType:
    """Take ``!tile.tile<[rows, columns], element, "layout">`` apart."""
    text = str(type_)
    if text not in _TILE_TYPES:
        _TILE_TYPES[text] = _split(text)
    rows, columns, element_text, layout_text = _TILE_TYPES[text]
    return TileType(rows, columns, ir.Type.parse(element_text), layout_text)


def _split(text: str) -> tuple[int, int, str, str]:
    body = text.removeprefix("!tile.tile<[").removesuffix('">')
    shape, _, rest = body.partition("], ")
    element, _, layout = rest.partition(', "')
    rows, columns = (int(part.split(":")[0]) for part in shape.split(","))
    return rows, columns, element, layout


@dataclass
class LoweringContext:
    """Builds the scalar program of one thread."""

    target: Target
    threads: int
    values: dict[ir.Value, Any] = field(default_factory=dict)
    shared_bytes: int = 0
    shared_base: ir.Value | None = None  # !llvm.ptr<3>
    thread: ir.Value = None  # i32, set by the driver
    role: int = 0  # number of the role being lowered, and of its barrier; 0 for the whole block
    roles: int = 0  # so far
    group: ir.Value | None = None  # of four warps, where each group of the role runs as if it were alone
    # What depends on the thread and on constants alone is computed once, in front of `anchor` at the function's start.
    anchor: ir.Operation | None = None
    _at_entry: set[ir.Value] = field(default_factory=set)
    _once: dict[Any, ir.Value] = field(default_factory=dict)

    # Types ---------------------------------------------------------------------------------------------------------
    @property
    def i32(self) -> ir.Type:
        return ir.IntegerType.get_signless(32)

    def scalar_type(self, type_: ir.Type) -> ir.Type:
        """`index` becomes i32, everything else stays."""
        return self.i32 if isinstance(type_, ir.IndexType) or str(type_) == "index" else type_

    # Values --------------------------------------------------------------------------------------------------------
    def get(self, value: ir.Value) -> Any:
        """What a tile-level value became. Raises KeyError for one that was never lowered."""
        return self.values[value]

    def scalar(self, value: ir.Value) -> ir.Value:
        found = self.values[value]
        assert isinstance(found, ir.Value)
        return found

    def set(self, value: ir.Value, lowered: Any) -> None:
        self.values[value] = lowered

    def layout(self, type_: ir.Type) -> Layout:
        tile = tile_type(type_)
        return parse_layout(tile.layout, tile.rows, tile.columns)

    # Values made once ----------------------------------------------------------------------------------------------
    def start(self, thread: ir.Value) -> None:
        """Begin the body: whatever is made once will stand in front of what is emitted from now on."""
        self.thread = thread
        self._at_entry.add(thread)
        self.anchor = arith.constant(self.i32, 0).owner

    def once(self, key: Any, make: Callable[[], ir.Value]) -> ir.Value:
        """The value of `make`, which depends on the thread and on constants only, emitted at the function's start."""
        found = self._once.get(key)
        if found is None:
            assert self.anchor is not None
            with ir.InsertionPoint(self.anchor):
                found = make()
            self._once[key] = found
            self._at_entry.add(found)
        return found

    def pure(self, key: Any, operands: Sequence[ir.Value], make: Callable[[], ir.Value]) -> ir.Value:
        """The value of `make`, a pure operation on `operands`: once, where they are all made once; else here."""
        if all(operand in self._at_entry for operand in operands):
            return self.once((key, *operands), make)
        return make()

    def constant(self, type_: ir.Type, attribute: ir.Attribute) -> ir.Value:
        """A constant of any scalar type."""
        return self.once((type_, attribute), lambda: arith.constant(type_, attribute))

    # Integer arithmetic on i32 with the obvious constants folded ---------------------------------------------------
    def integer(self, value: int, bits: int = 32) -> ir.Value:
        return self.once((value, bits), lambda: arith.constant(ir.IntegerType.get_signless(bits), value))

    def add(self, left: ir.Value, right: ir.Value | int) -> ir.Value:
        if isinstance(right, int):
            if right == 0:
                return left
            right = self.integer(right)
        return self.pure("addi", (left, right), lambda: arith.addi(left, right))

    def multiply(self, left: ir.Value, right: ir.Value | int) -> ir.Value:
        if isinstance(right, int):
            if right == 1:
                return left
            right = self.integer(right)
        return self.pure("muli", (left, right), lambda: arith.muli(left, right))

    def divide(self, left: ir.Value, right: int) -> ir.Value:
        """Unsigned division by a constant."""
        if right == 1:
            return left
        divisor = self.integer(right)
        return self.pure("divui", (left, divisor), lambda: arith.divui(left, divisor))

    def remainder(self, left: ir.Value, right: int) -> ir.Value:
        """Unsigned remainder by a constant."""
        if right == 1:
            return self.integer(0)
        divisor = self.integer(right)
        return self.pure("remui", (left, divisor), lambda: arith.remui(left, divisor))

    def less(self, left: ir.Value, right: ir.Value | int) -> ir.Value:
        if isinstance(right, int):
            right = self.integer(right)
        return arith.cmpi(arith.CmpIPredicate.slt, left, right)

    # Memory --------------------------------------------------------------------------------------------------------
    def allocate_shared(self, nbytes: int, alignment: int = 16) -> int:
        """Reserve dynamic shared memory; returns its byte offset. Space is not reused."""
        offset = -(-self.shared_bytes // alignment) * alignment
        self.shared_bytes = offset + nbytes
        return offset

    def shared_pointer(self, byte_offset: ir.Value | int) -> ir.Value:
        """!llvm.ptr<3> to a byte of this block's dynamic shared memory; the offset is i32."""
        assert self.shared_base is not None
        return self.offset_pointer(self.shared_base, byte_offset, ir.IntegerType.get_signless(8))

    def shared_address(self) -> ir.Value:
        """The address of dynamic shared memory in the shared window, i32."""
        base = self.shared_base
        return self.once("shared address", lambda: llvm.ptrtoint(self.i32, base))

    def offset_pointer(self, base: ir.Value, offset: ir.Value | int, element: ir.Type) -> ir.Value:
        """base + offset elements of the given type."""
        dynamic: Sequence[ir.Value] = []
        if isinstance(offset, int):
            indices = [offset]
        else:
            indices, dynamic = [-2147483648], [offset]
        return llvm.getelementptr(base.type, base, dynamic, indices, element, None)

    def load(self, pointer: ir.Value, type_: ir.Type, alignment: int) -> ir.Value:
        return llvm.load(type_, pointer, alignment=alignment)

    def store(self, value: ir.Value, pointer: ir.Value, alignment: int) -> None:
        llvm.store(value, pointer, alignment=alignment)

    def barrier(self) -> None:
        """Wait for all threads of the block, or of the role."""
        if self.role == 0:
            nvvm.barrier0()
        else:
            number = self.integer(self.role)
            if self.group is not None:
                number = self.add(self.group, number)
            nvvm.barrier(None, barrier_id=number, number_of_threads=self.integer(self.threads))


def byte_width(type_: ir.Type) -> int:
    """Bytes of one element in memory."""
    if isinstance(type_, ir.IntegerType):
        return max(1, int(type_.width) // 8)
    return int(ir.FloatType(type_).width) // 8

"""Lowering of scalar bodies: the region of a tile.map run for a few neighbouring columns (lanes) at once.

In: a region on `index` and scalars. Out: the same operations for each lane, where values that do not depend on the
lane are computed once, loads marked ``contiguous`` become one vector access, and stores are put off so that all loads
are in flight first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from mlir import ir
from mlir.dialects import arith, llvm, scf, vector

from ...runtime.errors import InternalError
from .atomics import combine_atomically
from .context import LoweringContext, Memory, RegisterTile, byte_width
from .layouts import Group

Lanes: TypeAlias = "ir.Value | list[ir.Value]"  # one value for all lanes, or one a lane

VECTOR_BYTES = 16  # the widest global access
# Where the model's arithmetic allows it (fastmath<afn>; passes/graph/approximate_functions.py has the errors). Not the
# shorter div.approx: that makes zero of quotients whose divisor is above 2^126, which bf16 has.
_APPROXIMATE = {
    "arith.divf": "llvm.nvvm.div.full",
    "math.exp": "llvm.nvvm.ex2.approx.ftz.f",
    "math.exp2": "llvm.nvvm.ex2.approx.ftz.f",
    "math.sqrt": "llvm.nvvm.sqrt.approx.f",
}
_RECIPROCAL = "llvm.nvvm.rcp.approx.ftz.f"  # where a quotient allows it too (fastmath<arcp>)
_LOG2_E = 1.4426950408889634


@dataclass
class BodyEmitter:
    """Emits one body for one group of a layout. `stores` collects what the caller runs after all loads."""

    context: LoweringContext
    group: Group
    active: ir.Value | None  # i1: this group is inside the bounds; None when it always is
    values: dict[ir.Value, Lanes] = field(default_factory=dict)
    stores: list[Callable[[], None]] = field(default_factory=list)

    def run(self, block: ir.Block) -> list[Lanes]:
        """Emit every operation of the block; returns the operands of its last operation (the yield)."""
        operations = list(block.operations)
        for position, view in enumerate(operations):
            operation = view.operation
            if operation.name in ("gpu.yield", "scf.yield"):
                if position != len(operations) - 1:
                    raise InternalError("a yield stands before the end of a body")
                return [self.get(operand) for operand in operation.operands]
            handler = _HANDLERS.get(operation.name)
            if handler is not None:
                handler(self, operation)
            else:
                self._clone(operation)
        return []

    def get(self, value: ir.Value) -> Lanes:
        """The lanes of a value of the body, or the one value of something outside it."""
        if value in self.values:
            return self.values[value]
        return self.context.scalar(value)

    def lane(self, value: ir.Value, lane: int) -> ir.Value:
        found = self.get(value)
        return found[lane] if isinstance(found, list) else found

    def _clone(self, operation: ir.Operation) -> None:
        if len(operation.regions):
            raise InternalError(f"no lowering for '{operation.name}' inside a body")
        operands = [self.get(operand) for operand in operation.operands]
        width = self.group.width if any(isinstance(operand, list) for operand in operands) else 1
        clones = [
            clone_scalar(self.context, operation, [o[lane] if isinstance(o, list) else o for o in operands])
            for lane in range(width)
        ]
        for index, result in enumerate(operation.results):
            found = [clone[index] for clone in clones]
            self.values[result] = found if width > 1 else found[0]


def clone_scalar(context: LoweringContext, operation: ir.Operation, operands: Sequence[ir.Value]) -> list[ir.Value]:
    """The same operation on other operands, with `index` turned into i32."""
    name = operation.name
    if name in ("arith.index_cast", "arith.index_castui"):
        return [_resize(operands[0], context.scalar_type(operation.results[0].type), name.endswith("ui"))]
    if name == "arith.constant":
        type_, value = operation.results[0].type, operation.attributes["value"]
        if isinstance(type_, ir.IndexType):
            type_, value = context.i32, ir.IntegerAttr.get(context.i32, ir.IntegerAttr(value).value)
        return [context.constant(type_, value)]
    flags = str(operation.attributes["fastmath"]) if "fastmath" in operation.attributes else ""
    if name in _APPROXIMATE and "afn" in flags:
        arguments, type_ = list(operands), operation.results[0].type
        if "arcp" in flags:
            reciprocal = llvm.call_intrinsic(type_, ir.StringAttr.get(_RECIPROCAL), [arguments[1]], [], [])
            return [arith.mulf(arguments[0], reciprocal)]
        if name == "math.exp":
            arguments = [arith.mulf(arguments[0], context.constant(type_, ir.FloatAttr.get(type_, _LOG2_E)))]
        return [llvm.call_intrinsic(type_, ir.StringAttr.get(_APPROXIMATE[name]), arguments, [], [])]
    attributes = {}
    for named in operation.attributes:
        key, value = (named.name, named.attr) if hasattr(named, "attr") else (named, operation.attributes[named])
        attributes[key] = value
    results = [context.scalar_type(result.type) for result in operation.results]
    clone = ir.Operation.create(name, results=results, operands=list(operands), attributes=attributes)
    return list(clone.results)


def _resize(value: ir.Value, target: ir.Type, unsigned: bool) -> ir.Value:
    own, wanted = ir.IntegerType(value.type).width, ir.IntegerType(target).width
    if own == wanted:
        return value
    if own > wanted:
        return arith.trunci(target, value)
    return arith.extui(target, value) if unsigned else arith.extsi(target, value)


# Memory ------------------------------------------------------------------------------------------------------------
def memory_element(context: LoweringContext, element: ir.Type) -> ir.Type:
    """The type in memory: i1 is a byte."""
    return ir.IntegerType.get_signless(8) if str(element) == "i1" else element


def from_memory(value: ir.Value, element: ir.Type) -> ir.Value:
    """A loaded value as the body takes it: a bool is one byte in memory and i1 in the body."""
    if str(element) != "i1":
        return value
    zero = arith.constant(value.type, 0)
    return arith.cmpi(arith.CmpIPredicate.ne, value, zero)


def to_memory(value: ir.Value, element: ir.Type) -> ir.Value:
    """A value of the body as it is stored: the inverse of `from_memory`."""
    return arith.extui(ir.IntegerType.get_signless(8), value) if str(element) == "i1" else value


def _load(emitter: BodyEmitter, operation: ir.Operation) -> None:
    context = emitter.context
    memory = context.get(operation.operands[0])
    assert isinstance(memory, Memory)
    kind = ir.StringAttr(operation.attributes["lanes"]).value
    masked = len(operation.operands) == 4
    width = emitter.group.width
    offset = emitter.get(operation.operands[1])
    predicate = emitter.get(operation.operands[2]) if masked else None
    other = emitter.get(operation.operands[3]) if masked else None

    def pick(value: Lanes, lane: int) -> ir.Value:
        return value[lane] if isinstance(value, list) else value

    instead = ir.IntegerAttr(operation.attributes["instead"]).value if "instead" in operation.attributes else 0

    def safe(lane: int) -> ir.Value:
        own = pick(offset, lane)
        return own if predicate is None else arith.select(pick(predicate, lane), own, context.integer(instead))

    def finish(values: list[ir.Value]) -> list[ir.Value]:
        loaded = [from_memory(value, memory.element) for value in values]
        if predicate is None or other is None:
            return loaded
        return [arith.select(pick(predicate, lane), value, pick(other, lane)) for lane, value in enumerate(loaded)]

    stored = memory_element(context, memory.element)
    size = byte_width(stored)
    result = operation.results[0]
    if kind == "contiguous" and width > 1:
        emitter.values[result] = finish(load_vector(context, memory.pointer, safe(0), stored, width))
        return
    uniform = width == 1 or kind == "uniform" or not (isinstance(offset, list) or isinstance(predicate, list))
    lanes = 1 if uniform else width
    values = [
        llvm.load(stored, context.offset_pointer(memory.pointer, safe(lane), stored), alignment=size)
        for lane in range(lanes)
    ]
    finished = finish(values)
    emitter.values[result] = finished[0] if lanes == 1 else finished


def _load_run(emitter: BodyEmitter, operation: ir.Operation) -> None:
    """Neighbouring elements as one value a lane: integers of all lanes in one access, vectors each in its own."""
    context, width = emitter.context, emitter.group.width
    memory, type_ = context.get(operation.operands[0]), operation.results[0].type
    assert isinstance(memory, Memory)
    masked = len(operation.operands) == 3

    def place(lane: int) -> ir.Value:
        offset = emitter.lane(operation.operands[1], lane)
        if masked:
            offset = arith.select(emitter.lane(operation.operands[2], lane), offset, context.integer(0))
        return context.offset_pointer(memory.pointer, offset, memory.element)

    def finish(value: ir.Value, lane: int) -> ir.Value:
        if not masked:
            return value
        zeros = context.constant(type_, _zeros(type_))
        return arith.select(emitter.lane(operation.operands[2], lane), value, zeros)

    kind = ir.StringAttr(operation.attributes["lanes"]).value
    if kind == "contiguous" and width > 1:
        found = load_vector(context, place(0), context.integer(0), type_, width)
    else:
        found = [_load_wide(context, place(lane), type_) for lane in range(1 if kind == "uniform" else width)]
    values = [finish(value, lane) for lane, value in enumerate(found)]
    emitter.values[operation.results[0]] = values if len(values) > 1 else values[0]


def _load_wide(context: LoweringContext, pointer: ir.Value, type_: ir.Type) -> ir.Value:
    """One integer, or a vector through accesses of at most 16 bytes."""
    if not isinstance(type_, ir.VectorType):
        return llvm.load(type_, pointer, alignment=byte_width(type_))
    vector_type = ir.VectorType(type_)
    values = load_vector(context, pointer, context.integer(0), vector_type.element_type, vector_type.shape[0])
    return vector.from_elements(type_, values)


def _zeros(type_: ir.Type) -> ir.Attribute:
    if not isinstance(type_, ir.VectorType):
        return ir.IntegerAttr.get(type_, 0)
    element = ir.VectorType(type_).element_type
    zero = ir.FloatAttr.get(element, 0.0) if isinstance(element, ir.FloatType) else ir.IntegerAttr.get(element, 0)
    return ir.DenseElementsAttr.get_splat(type_, zero)


def load_vector(
    context: LoweringContext, pointer: ir.Value, offset: ir.Value, stored: ir.Type, width: int
) -> list[ir.Value]:
    """`width` neighbouring elements through accesses of at most 16 bytes; the first must be aligned to the access."""
    step = min(width, VECTOR_BYTES // byte_width(stored))
    values: list[ir.Value] = []
    for start in range(0, width, step):
        place = context.offset_pointer(pointer, context.add(offset, start), stored)
        loaded = llvm.load(ir.VectorType.get([step], stored), place, alignment=step * byte_width(stored))
        values += [vector.extract(loaded, [], [lane]) for lane in range(step)]
    return values


def store_vector(context: LoweringContext, pointer: ir.Value, offset: ir.Value, values: Sequence[ir.Value]) -> None:
    """The counterpart of `load_vector`."""
    stored = values[0].type
    step = min(len(values), VECTOR_BYTES // byte_width(stored))
    for start in range(0, len(values), step):
        place = context.offset_pointer(pointer, context.add(offset, start), stored)
        packed = vector.from_elements(ir.VectorType.get([step], stored), list(values[start : start + step]))
        llvm.store(packed, place, alignment=step * byte_width(stored))


def _store(emitter: BodyEmitter, operation: ir.Operation) -> None:
    context, width = emitter.context, emitter.group.width
    memory = context.get(operation.operands[1])
    assert isinstance(memory, Memory)
    kind = ir.StringAttr(operation.attributes["lanes"]).value
    values = [to_memory(emitter.lane(operation.operands[0], lane), memory.element) for lane in range(width)]
    offsets = [emitter.lane(operation.operands[2], lane) for lane in range(width)]

    def write() -> None:
        if kind == "contiguous" and width > 1:
            store_vector(context, memory.pointer, offsets[0], values)
            return
        size = byte_width(values[0].type)
        for lane in range(width):
            place = context.offset_pointer(memory.pointer, offsets[lane], values[lane].type)
            llvm.store(values[lane], place, alignment=size)

    def guarded() -> None:
        if emitter.active is None:
            write()
            return
        branch = scf.IfOp(emitter.active)
        with ir.InsertionPoint(branch.then_block):
            write()
            scf.yield_([])

    emitter.stores.append(guarded)


def _atomic(emitter: BodyEmitter, operation: ir.Operation) -> None:
    context = emitter.context
    memory = context.get(operation.operands[1])
    assert isinstance(memory, Memory)
    kind = ir.StringAttr(operation.attributes["kind"]).value

    def combine() -> None:
        for lane in range(emitter.group.width):
            value, offset, condition = (emitter.lane(operation.operands[number], lane) for number in (0, 2, 3))
            if emitter.active is not None:
                condition = arith.andi(emitter.active, condition)
            branch = scf.IfOp(condition)
            with ir.InsertionPoint(branch.then_block):
                place = context.offset_pointer(memory.pointer, offset, memory.element)
                combine_atomically(kind, place, value)
                scf.yield_([])

    emitter.stores.append(combine)


def _element(emitter: BodyEmitter, operation: ir.Operation) -> None:
    tile = emitter.context.get(operation.operands[0])
    assert isinstance(tile, RegisterTile)
    emitter.values[operation.results[0]] = tile_lanes(tile, emitter.group)


def tile_lanes(tile: RegisterTile, group: Group) -> Lanes:
    """The registers of `tile` at a group of a map; a dimension of size 1 stretches."""
    start = 0
    for own in tile.layout.groups():
        rows_match = tile.layout.rows == 1 or own.row_slot == group.row_slot
        columns_match = tile.layout.columns == 1 or own.column_slot == group.column_slot
        if rows_match and columns_match:
            values = list(tile.values[start : start + own.width])
            return values[0] if len(values) == 1 else values
        start += own.width
    raise InternalError(f"a tile of layout {tile.layout} is read by a map of another layout")


def _select_bytes(emitter: BodyEmitter, operation: ir.Operation) -> None:
    context, result = emitter.context, operation.results[0]
    selector = context.integer(ir.IntegerAttr(operation.attributes["selector"]).value)
    operands = [emitter.get(operand) for operand in operation.operands]
    width = emitter.group.width if any(isinstance(operand, list) for operand in operands) else 1
    words = [
        llvm.call_intrinsic(
            result.type,
            ir.StringAttr.get("llvm.nvvm.prmt"),
            [*(emitter.lane(operand, lane) for operand in operation.operands), selector],
            [],
            [],
        )
        for lane in range(width)
    ]
    emitter.values[result] = words if width > 1 else words[0]


def _for(emitter: BodyEmitter, operation: ir.Operation) -> None:
    """A loop inside a body: bounds are the same for all lanes, carried values may differ."""
    width = emitter.group.width
    low, high, step = (emitter.lane(operand, 0) for operand in operation.operands[:3])
    carried = list(operation.operands)[3:]
    initial = [emitter.lane(value, lane) for value in carried for lane in range(width)]
    loop = scf.ForOp(low, high, step, initial)
    body = operation.regions[0].blocks[0]
    with ir.InsertionPoint(loop.body):
        emitter.values[body.arguments[0]] = loop.induction_variable
        for index, argument in enumerate(list(body.arguments)[1:]):
            emitter.values[argument] = list(loop.inner_iter_args)[index * width : (index + 1) * width]
        yielded = emitter.run(body)
        flat = [value[lane] if isinstance(value, list) else value for value in yielded for lane in range(width)]
        scf.yield_(flat)
    for index, result in enumerate(operation.results):
        emitter.values[result] = list(loop.results)[index * width : (index + 1) * width]


_HANDLERS: dict[str, Callable[[BodyEmitter, ir.Operation], None]] = {
    "tile.atomic": _atomic,
    "tile.load": _load,
    "tile.masked_load": _load,
    "tile.load_run": _load_run,
    "tile.select_bytes": _select_bytes,
    "tile.store": _store,
    "tile.element": _element,
    "scf.for": _for,
}

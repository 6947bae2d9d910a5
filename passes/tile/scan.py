"""The program of running sums and products.

In: a kernel function of kind ``scan`` around one graph.scan. Out: where the axis is the innermost dimension or the
dimensions inside it are few, a program that scans a line with many threads, chunk after chunk with a carry (tile.scan);
where they are many, one in which every thread walks along a line of its own, neighbours side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mlir import ir
from mlir.dialects import arith, scf

from ...dialects.tensors import Shape, element_of, scalar_type, shape_of
from ...runtime.errors import InternalError
from ...runtime.symbolic import ONE, ZERO, Expression, product
from ..lower.layouts import reduced_text
from ..unit import KernelProgram
from .builder import TileBuilder
from .elements import ElementEmitter, Indices, load_rules
from .programs import Request, finished, tile_program
from .scalars import accumulator, combine, convert, neutral, reduce_kind
from .tile_types import element, full, i64, map_, program_id, store

THREADS = 256
WALKERS = 128  # threads of a block that walks
Body = Callable[[Expression, Expression], "ir.Value | None"]  # of a map: line, place
FEW = 16  # dimensions inside the axis up to this size leave most of a warp's access unused if its lanes lie along them


@dataclass
class _Scan:
    """One program under construction: lines along `axis`, `place` counted in the direction of the scan."""

    builder: TileBuilder
    operation: ir.Operation
    result: ir.Value
    shape: Shape
    axis: int
    kind: str
    exclusive: bool
    reverse: bool

    @property
    def source(self) -> str:
        return element_of(self.operation.operands[0])

    @property
    def wide(self) -> str:
        return accumulator(self.source)

    @property
    def length(self) -> Expression:
        return self.shape[self.axis]

    @property
    def lines(self) -> Expression:
        return product([size for axis, size in enumerate(self.shape) if axis != self.axis])

    def position(self, line: Expression, place: Expression) -> Indices:
        others = [size for axis, size in enumerate(self.shape) if axis != self.axis]
        along = self.length - 1 - place if self.reverse else place
        indices = list(self.builder.delinearize(line, others))
        indices.insert(self.axis, along)
        return tuple(indices)

    def read(self, line: Expression, place: Expression) -> ir.Value:
        """In a map: an element, in the type that accumulates."""
        at = ElementEmitter(self.builder)
        found = at.element(self.operation.operands[0], self.position(line, place))
        return at.track(convert(found, self.source, self.wide), found)

    def write(self, line: Expression, place: Expression, value: ir.Value) -> None:
        """In a map: a result, rounded to its type."""
        argument = self.builder.outputs[0]
        offset = self.builder.linearize(self.position(line, place), self.shape)
        store(self.builder, convert(value, self.wide, self.source), argument.memory, offset, argument.element)

    def start(self, rows: int, columns: int, layout: str) -> ir.Value:
        """A tile of neutral elements."""
        return full(rows, columns, layout, arith.constant(scalar_type(self.wide), neutral(self.kind, self.wide)))


@tile_program("scan")
def scan_program(request: Request) -> KernelProgram:
    """
    before: one graph.scan with cheap work on its operand
    after:  an scf.for over the line, in chunks with a tile.scan each, or element by element
    """
    load_rules()
    operation = next((op for op in request.operations if op.name == "graph.scan"), None)
    if operation is None or len(request.returned) != 1 or request.returned[0] != operation.results[0]:
        raise InternalError(f"kernel {request.name}: a scan kernel returns one graph.scan")
    builder = TileBuilder(request.function, request.name)
    module = builder.declare()
    attributes = operation.attributes
    scan = _Scan(
        builder,
        operation,
        operation.results[0],
        shape_of(operation.results[0]),
        ir.IntegerAttr(attributes["axis"]).value,
        ir.StringAttr(attributes["kind"]).value,
        ir.IntegerAttr(attributes["exclusive"]).value != 0,
        ir.IntegerAttr(attributes["reverse"]).value != 0,
    )
    inner = product(list(scan.shape[scan.axis + 1 :])).as_constant()
    with ir.InsertionPoint(builder.block):
        count, threads = _walk(scan) if inner is None or inner > FEW else _chunks(scan)
        builder.finish(threads)
    return finished(request, builder, module, "scan", (count, ONE, ONE), threads)


def _chunks(scan: _Scan) -> tuple[Expression, int]:
    """Several threads a line; returns the number of blocks and of threads."""
    builder, length = scan.builder, scan.length
    vector = next(width for width in (4, 2, 1) if length.divisible_by(width))
    wanted = -(-(length.as_constant() or THREADS * vector) // vector)
    columns = min(THREADS, 1 << max(0, wanted - 1).bit_length())
    rows = max(1, WALKERS // columns)
    chunk, type_ = columns * vector, scalar_type(scan.wide)
    layout = f"blocked<{rows}x{columns}, vector={vector}>"
    carried = reduced_text(1, layout, rows, chunk)
    count = scan.lines.ceil_divide(rows)
    origin = builder.variable(program_id(0), "block", count) * rows
    loop = scf.ForOp(builder.index(0), builder.index(length), builder.index(chunk), [scan.start(rows, 1, carried)])
    with ir.InsertionPoint(loop.body), builder.region():
        first = builder.variable(loop.induction_variable, "chunk", length)
        bounds = [builder.index(value) for value in (origin, first, scan.lines, length)]
        whole = ["rows"] if scan.lines.divisible_by(rows) else []
        whole += ["columns"] if length.divisible_by(chunk) else []

        def over(body: Body, element_type: ir.Type | None = None) -> ir.Value | None:
            def emit(i: ir.Value, j: ir.Value) -> ir.Value | None:
                line, place = builder.variable(i, "line", scan.lines), builder.variable(j, "place", length)
                if vector > 1:
                    builder.varying.add(j)
                with builder.vectorised(place, vector):
                    return body(line, place)

            fill = neutral(scan.kind, scan.wide) if element_type else None
            return map_(builder, bounds[:2], bounds[2:], (rows, chunk), layout, emit, element_type, fill, whole)

        given = over(scan.read, type_)
        scanned, total = _scanned(scan, given, loop.inner_iter_args[0])
        over(lambda line, place: scan.write(line, place, _here(builder, scanned, type_)))
        scf.yield_([total])
    return count, rows * columns


def _here(builder: TileBuilder, tile: ir.Value, type_: ir.Type) -> ir.Value:
    """The tile's element, which differs from lane to lane."""
    value = element(tile, type_)
    builder.varying.add(value)
    return value


def _scanned(scan: _Scan, tile: ir.Value | None, carry: ir.Value) -> list[ir.Value]:
    assert tile is not None
    operation = ir.Operation.create(
        "tile.scan",
        results=[tile.type, carry.type],
        operands=[tile, carry],
        attributes={"kind": ir.StringAttr.get(reduce_kind(scan.kind, scan.wide)), "exclusive": i64(scan.exclusive)},
    )
    return list(operation.results)


def _walk(scan: _Scan) -> tuple[Expression, int]:
    """A thread a line; returns the number of blocks and of threads."""
    builder, type_ = scan.builder, scalar_type(scan.wide)
    layout = f"blocked<1x{WALKERS}, vector=1>"
    count = scan.lines.ceil_divide(WALKERS)
    origin = builder.variable(program_id(0), "block", count) * WALKERS
    bounds = [builder.index(value) for value in (ZERO, origin, ONE, scan.lines)]
    whole = ["rows", *(["columns"] if scan.lines.divisible_by(WALKERS) else [])]
    start = scan.start(1, WALKERS, layout)
    loop = scf.ForOp(builder.index(0), builder.index(scan.length), builder.index(1), [start])
    with ir.InsertionPoint(loop.body), builder.region():
        place = builder.variable(loop.induction_variable, "place", scan.length)
        before = loop.inner_iter_args[0]

        def step(_: ir.Value, j: ir.Value) -> ir.Value:
            line = builder.variable(j, "line", scan.lines)
            own = element(before, type_)
            total = combine(scan.kind, scan.wide, own, scan.read(line, place))
            scan.write(line, place, own if scan.exclusive else total)
            return total

        scf.yield_([map_(builder, bounds[:2], bounds[2:], (1, WALKERS), layout, step, type_, full_dimensions=whole)])
    return count, WALKERS

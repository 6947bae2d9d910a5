"""The program of scatters: a thread an update, which it combines with what its place holds.

In: a kernel function of kind ``scatter`` around one graph.scatter. Out: a tile.map over the updates with one
tile.atomic. Before the launch the host copies the initial values, or fills the result with zeros.
"""

from __future__ import annotations

from mlir import ir
from mlir.dialects import arith

from ...dialects.tensors import element_of, shape_of
from ...runtime.errors import InternalError
from ...runtime.symbolic import ONE, product
from ..unit import KernelProgram
from .builder import TileBuilder
from .elements import ElementEmitter, load_rules
from .programs import Request, finished, tile_program
from .scalars import reduce_kind
from .tile_types import map_, program_id

THREADS = 128


@tile_program("scatter")
def scatter_program(request: Request) -> KernelProgram:
    """
    before: one graph.scatter with cheap work on its operands
    after:  a tile.map over the updates that loads a place and an update and combines it there
    """
    load_rules()
    operation = next((op for op in request.operations if op.name == "graph.scatter"), None)
    if operation is None or len(request.returned) != 1 or request.returned[0] != operation.results[0]:
        raise InternalError(f"kernel {request.name}: a scatter kernel returns one graph.scatter")
    places, updates, *initial = operation.operands
    shape = shape_of(updates)
    total = product(list(shape))
    builder = TileBuilder(request.function, request.name)
    module = builder.declare()
    target = builder.outputs[0]
    kind = reduce_kind(ir.StringAttr(operation.attributes["kind"]).value, element_of(updates))
    with ir.InsertionPoint(builder.block):
        count = total.ceil_divide(THREADS)
        block = builder.variable(program_id(0), "block", count)

        def combine(_: ir.Value, j: ir.Value) -> None:
            indices = builder.delinearize(builder.variable(j, "update", total), shape)
            at = ElementEmitter(builder)
            place, value = at.element(places, indices), at.element(updates, indices)
            somewhere = arith.cmpi(arith.CmpIPredicate.sge, place, arith.constant(place.type, 0))
            operands = [value, target.memory, arith.index_cast(ir.IndexType.get(), place), somewhere]
            ir.Operation.create("tile.atomic", operands=operands, attributes={"kind": ir.StringAttr.get(kind)})

        limits = (builder.index(1), builder.index(total))
        full = ["rows", *(["columns"] if total.divisible_by(THREADS) else [])]
        origin = (builder.index(0), builder.index(block * THREADS))
        map_(builder, origin, limits, (1, THREADS), f"blocked<1x{THREADS}, vector=1>", combine, full_dimensions=full)
        builder.finish(THREADS)
    program = finished(request, builder, module, "scatter", (count, ONE, ONE), THREADS)
    if initial:
        program.prepared.append((0, "copy", ir.BlockArgument(initial[0]).arg_number))
    else:
        program.prepared.append((0, "fill", 0))
    return program

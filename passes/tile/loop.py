"""The program of kernels whose every result element is independent: pointwise chains, data movement, windows.

In: a kernel function of kind ``loop``. Out: one flat loop over the result: a tile of neighbouring elements per block,
vectors of up to 16 bytes per thread. Broadcasts, transposes, slices, concatenations and windows are index functions
inside the body.
"""

from __future__ import annotations

from mlir import ir

from ...dialects.tensors import element_of, shape_of
from ...runtime.errors import InternalError
from ...runtime.symbolic import ONE, Expression, product
from ..unit import KernelProgram
from .builder import TileBuilder, bytes_of
from .elements import ElementEmitter
from .programs import Request, finished, tile_program
from .tile_types import map_, program_id, store
from .turned_loop import turned_program

THREADS = 128
WIDE = 16  # bytes of one access
_HEAVY = (
    "graph.pool",
    "graph.convolution",
    "graph.convolution_transpose",
    "graph.reduce",
)


@tile_program("loop")
def loop_program(request: Request) -> KernelProgram:
    """
    before: a function of maps and data movement that returns tensors of one shape
    after:  tile.map over the flat positions of that shape, with loads and stores inside
    """
    returned = request.returned
    shape = shape_of(returned[0])
    if any(shape_of(value) != shape for value in returned):
        raise InternalError(f"kernel {request.name}: a loop kernel returns tensors of one shape")
    turned = turned_program(request)
    if turned is not None:
        return turned
    total = product(list(shape))
    vector = _vector_width(request, total)
    unroll = _unroll(request, total, vector)
    columns = THREADS * vector * unroll
    builder = TileBuilder(request.function, request.name)
    module = builder.declare()
    with ir.InsertionPoint(builder.block):
        count = total.ceil_divide(columns)
        block = builder.variable(program_id(0), "block", count)
        emitter = ElementEmitter(builder)
        schedule = {"columns": columns, "vector": vector, "unroll": unroll}
        builder.set_attribute("tile.schedule", _schedule(schedule))

        def body(_: ir.Value, j: ir.Value) -> None:
            flat = builder.variable(j, "flat", total)
            with builder.vectorised(flat, vector):
                if vector > 1:
                    builder.varying.add(j)
                indices = builder.delinearize(flat, shape)
                inside = emitter.fresh()
                for argument, value in zip(builder.outputs, returned, strict=True):
                    offset = builder.offset(argument, indices)
                    store(builder, inside.element(value, indices), argument.memory, offset, argument.element)

        map_(
            builder,
            (builder.index(0), builder.index(block * columns)),
            (builder.index(1), builder.index(total)),
            (1, columns),
            f"blocked<1x{THREADS}, vector={vector}>",
            body,
            full_dimensions=["rows", *(["columns"] if total.divisible_by(columns) else [])],
        )
        builder.finish(THREADS)
    return finished(request, builder, module, "loop", (count, ONE, ONE), THREADS)


def _schedule(values: dict[str, int]) -> ir.Attribute:
    i64 = ir.IntegerType.get_signless(64)
    return ir.DictAttr.get({name: ir.IntegerAttr.get(i64, value) for name, value in values.items()})


def _vector_width(request: Request, total: Expression) -> int:
    """The widest vector that divides the result and keeps the stores within 16 bytes each."""
    widest = max(bytes_of(element_of(value)) for value in request.returned)
    width = WIDE // widest
    if any(operation.name in _HEAVY for operation in request.operations):
        width = min(width, 4)
    while width > 1 and not total.divisible_by(width):
        width //= 2
    return max(1, width)


def _unroll(request: Request, total: Expression, vector: int) -> int:
    """Vectors per thread: more loads in flight for large, cheap kernels."""
    if any(operation.name in _HEAVY for operation in request.operations):
        return 1
    size = total.as_constant()
    if size is not None and size < 108 * 4 * THREADS * vector:
        return 1
    return 2 if vector * 2 <= 8 else 1

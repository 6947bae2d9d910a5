"""The program of kernels whose every result element is independent: pointwise chains, data movement, windows.

In: a kernel function of kind ``loop``. Out: one flat loop over the result: a tile of neighbouring elements per block,
vectors of up to 16 bytes per thread. Broadcasts, transposes, slices, concatenations and windows are index functions
inside the body.
"""

from __future__ import annotations

from mlir import ir

from ...dialects.tensors import shape_of
from ...runtime.errors import InternalError
from ...runtime.symbolic import ONE, product
from ...runtime.tuning import describe
from ..unit import KernelProgram
from .builder import TileBuilder
from .elements import ElementEmitter
from .loop_schedule import loop_problem, loop_schedules
from .programs import Request, finished, tile_program
from .tile_types import map_, program_id, store
from .turned_loop import turned_program
from .window_runs import window_program


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
    program = turned if turned is not None else window_program(request)
    if program is not None:
        return program
    total = product(list(shape))
    schedule = request.choose("loop", describe(loop_problem(request)), loop_schedules(request, total))
    vector, columns = schedule.vector, schedule.columns
    builder = TileBuilder(request.function, request.name)
    module = builder.declare()
    with ir.InsertionPoint(builder.block):
        count = total.ceil_divide(columns)
        block = builder.variable(program_id(0), "block", count)
        emitter = ElementEmitter(builder)
        noted = {"columns": columns, "vector": vector, "unroll": schedule.unroll}
        builder.set_attribute("tile.schedule", _schedule(noted))

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
            f"blocked<1x{schedule.threads}, vector={vector}>",
            body,
            full_dimensions=["rows", *(["columns"] if total.divisible_by(columns) else [])],
        )
        builder.finish(schedule.threads)
    return finished(request, builder, module, "loop", (count, ONE, ONE), schedule.threads)


def _schedule(values: dict[str, int]) -> ir.Attribute:
    i64 = ir.IntegerType.get_signless(64)
    return ir.DictAttr.get({name: ir.IntegerAttr.get(i64, value) for name, value in values.items()})

"""The program of kernels whose every result element is independent: pointwise chains, data movement, windows.

In: a kernel function of kind ``loop``. Out: one flat loop over the result: a tile of neighbouring elements per block,
vectors of up to 16 bytes per thread. Broadcasts, transposes, slices, concatenations and windows are index functions
inside the body.
"""

from __future__ import annotations

from functools import partial

from ...dialects.tensors import shape_of
from ...runtime.errors import InternalError
from ...runtime.symbolic import product
from ...runtime.tuning import describe
from ..unit import KernelProgram
from .flat import flat_program, store_results
from .loop_schedule import loop_problem, loop_schedules
from .programs import Request, tile_program
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
    noted = {"columns": schedule.columns, "vector": schedule.vector, "unroll": schedule.unroll}
    block = (schedule.threads, schedule.columns, schedule.vector)
    return flat_program(request, shape, block, noted, partial(store_results, request))

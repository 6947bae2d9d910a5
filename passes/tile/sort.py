"""The program of sorts: a block for every run of a line.

In: a kernel function of kind ``sort`` around one graph.sort. Out: two steps over the block's run: a tile.map, chunk by
chunk, that writes keys to a workspace and positions to the result, and a tile.sort of both.
"""

from __future__ import annotations

from mlir import ir
from mlir.dialects import arith, scf

from ...dialects.tensors import element_of, shape_of
from ...runtime.errors import InternalError
from ...runtime.symbolic import ONE, ZERO, Expression, minimum, product
from ..unit import KernelProgram
from .builder import TileBuilder
from .elements import ElementEmitter, load_rules
from .programs import Request, finished, tile_program
from .tile_types import i64, map_, program_id, store

MOST = 2048  # elements that a block sorts in shared memory
THREADS = 256
SPARSE = 1024  # threads where one block sorts a long line in global memory: latency is all that counts


@tile_program("sort")
def sort_program(request: Request) -> KernelProgram:
    """
    before: one graph.sort with cheap work on its operand
    after:  an scf.for of tile.map that store keys and positions; tile.barrier; tile.sort
    """
    load_rules()
    operation = next((op for op in request.operations if op.name == "graph.sort"), None)
    if operation is None or len(request.returned) != 1 or request.returned[0] != operation.results[0]:
        raise InternalError(f"kernel {request.name}: a sort kernel returns one graph.sort")
    keys = operation.operands[0]
    shape = shape_of(keys)
    length, lines = shape[-1], product(list(shape[:-1]))
    size = length.as_constant()
    run = ir.IntegerAttr(operation.attributes["run"]).value
    longest = run or size
    most = 1 << max(0, longest - 1).bit_length() if longest is not None and longest <= MOST else 0
    threads = SPARSE if not most else min(THREADS, max(32, most // 2))
    runs = length.ceil_divide(run) if run else ONE
    builder = TileBuilder(request.function, request.name)
    module = builder.declare([(element_of(keys), shape)])
    with ir.InsertionPoint(builder.block):
        block = builder.variable(program_id(0), "block", lines * runs)
        line, number = builder.delinearize(block, [lines, runs])
        start = number * run
        end = length if not run else minimum(start + run, length)
        _prepare(builder, keys, line, start, end, threads)
        ir.Operation.create("tile.barrier")
        offset = builder.index(line * length + start)
        operands = [builder.workspaces[0].memory, builder.outputs[0].memory, offset, builder.index(end - start)]
        ir.Operation.create("tile.sort", operands=operands, attributes={"most": i64(most)})
        builder.finish(threads)
    return finished(request, builder, module, "sort", (lines * runs, ONE, ONE), threads)


def _prepare(
    builder: TileBuilder, keys: ir.Value, line: Expression, start: Expression, end: Expression, threads: int
) -> None:
    """Keys into the workspace and positions into the result, from `start` to `end` of a line."""
    shape = shape_of(keys)
    length = shape[-1]
    loop = scf.ForOp(builder.index(start), builder.index(end), builder.index(threads))
    with ir.InsertionPoint(loop.body), builder.region():

        def body(_: ir.Value, j: ir.Value) -> None:
            place = builder.variable(j, "place", length)
            indices = (*builder.delinearize(line, list(shape[:-1])), place)
            key = ElementEmitter(builder).element(keys, indices)
            offset = builder.linearize((line, place), [product(list(shape[:-1])), length])
            store(builder, key, builder.workspaces[0].memory, offset, builder.workspaces[0].element)
            number = arith.index_cast(ir.IntegerType.get_signless(32), j)
            store(builder, number, builder.outputs[0].memory, offset, "i32")

        origin = (builder.index(ZERO), loop.induction_variable)
        limits = (builder.index(ONE), builder.index(end))
        map_(builder, origin, limits, (1, threads), f"blocked<1x{threads}, vector=1>", body, full_dimensions=["rows"])
        scf.yield_([])

"""The frame of programs that go over the flat positions of a shape: pointwise loops, windows.

In: a shape, how many positions a block takes, what to do at each. Out: a tile.map whose blocks, bounds and vectors are
the same for all of them.
"""

from __future__ import annotations

from collections.abc import Callable

from mlir import ir

from ...dialects.tensors import Shape
from ...runtime.symbolic import ONE, product
from ..unit import KernelProgram
from .builder import TileBuilder
from .elements import ElementEmitter, Indices
from .programs import Request, finished
from .tile_types import i64, map_, program_id, store


def flat_program(
    request: Request,
    shape: Shape,
    block: tuple[int, int, int],
    noted: dict[str, int],
    body: Callable[[TileBuilder, ElementEmitter, Indices], None],
) -> KernelProgram:
    """A program that runs `body` at every position of `shape`; a `block` is (threads, positions, those of an access).

    `noted` is told in the attribute ``tile.schedule``.
    """
    threads, columns, vector = block
    builder = TileBuilder(request.function, request.name)
    module = builder.declare()
    total = product(list(shape))
    with ir.InsertionPoint(builder.block):
        count = total.ceil_divide(columns)
        number = builder.variable(program_id(0), "block", count)
        emitter = ElementEmitter(builder)
        builder.set_attribute("tile.schedule", ir.DictAttr.get({name: i64(value) for name, value in noted.items()}))

        def at_position(_: ir.Value, j: ir.Value) -> None:
            flat = builder.variable(j, "flat", total)
            with builder.vectorised(flat, vector):
                if vector > 1:
                    builder.varying.add(j)
                body(builder, emitter.fresh(), tuple(builder.delinearize(flat, shape)))

        map_(
            builder,
            (builder.index(0), builder.index(number * columns)),
            (builder.index(1), builder.index(total)),
            (1, columns),
            f"blocked<1x{threads}, vector={vector}>",
            at_position,
            full_dimensions=["rows", *(["columns"] if total.divisible_by(columns) else [])],
        )
        builder.finish(threads)
    return finished(request, builder, module, "loop", (count, ONE, ONE), threads)


def store_results(request: Request, builder: TileBuilder, inside: ElementEmitter, indices: Indices) -> None:
    """What the kernel returns at a position, each to its place."""
    for argument, value in zip(builder.outputs, request.returned, strict=True):
        offset = builder.offset(argument, indices)
        store(builder, inside.element(value, indices), argument.memory, offset, argument.element)

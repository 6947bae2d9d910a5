"""What stands behind a contraction in its kernel: the epilogue on one sum, and the stores of what it makes.

In: a sum and its place in the contraction's view. Out: operations in the body of a map. One place, because every kind
of contraction program ends like this.
"""

from __future__ import annotations

from mlir import ir

from ...dialects.tensors import element_of
from ...runtime.symbolic import Expression
from .builder import TileBuilder
from .contraction import Contraction
from .elements import ElementEmitter
from .forward import forward_position
from .loop import store
from .scalars import convert


def store_results(
    builder: TileBuilder,
    view: Contraction,
    returned: list[ir.Value],
    total: tuple[ir.Value, str],
    place: tuple[Expression, Expression, Expression],
) -> None:
    """Run the rest of the kernel on a sum (value, dtype) at (batch, row, column) and store all that is returned."""
    own, accumulator = total
    result = view.operation.results[0]
    value = convert(own, accumulator, element_of(result))
    if builder.vector is not None and builder.vector.width > 1:
        builder.varying.update((own, value))
    emitter = ElementEmitter(builder)
    emitter.bind(result, lambda _: value)
    position = view.result(*place)
    for argument, made in zip(builder.outputs, returned, strict=True):
        indices = forward_position(builder, result, position, made)
        offset = builder.linearize(indices, argument.shape)
        store(builder, emitter.element(made, indices), argument.memory, offset, argument.element)

"""Tensors in memory as strides: addresses that are linear in a position, as tensor maps want them.

In: an address as an `Expression` over the symbols of a position, or a tensor of a kernel. Out: what a step along each
of them adds to it, and where the first element lies; None where the address is not linear.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlir import ir

from ...dialects.tensors import Shape, scalar_type, shape_of
from ...runtime.symbolic import ONE, ZERO, Expression
from ..lower.context import byte_width
from .builder import Argument, TileBuilder
from .elements import ElementEmitter
from .tile_types import ACCESS_BYTES


@dataclass(frozen=True)
class StridedTensor:
    """A tensor that is a part of an argument's: strides are in elements, the first lies `origin` elements in."""

    argument: Argument
    strides: Shape
    origin: Expression


def strides_of(offset: Expression, names: tuple[str, ...]) -> tuple[tuple[Expression, ...], Expression] | None:
    """((a, b, ...), start) where the offset is a * first + b * second + ... of the symbols + start, which depends on
    sizes only.
    """
    strides = [stride for stride in map(offset.coefficient, names) if stride is not None]
    if len(strides) < len(names) or any(name in stride.symbols for name in names for stride in strides):
        return None
    start = offset - sum((stride * Expression.symbol(name) for stride, name in zip(strides, names, strict=True)), ZERO)
    return None if any(name.startswith("%") for name in start.symbols) else (tuple(strides), start)


def can_start_boxes(strides: Sequence[Expression], origin: Expression, element: str) -> bool:
    """Whether tensor maps take these outer strides and the first element's offset: steps forward of whole accesses."""
    access = ACCESS_BYTES // byte_width(scalar_type(element))
    forward = not any((-stride).is_nonnegative() for stride in strides)
    return forward and all(offset.divisible_by(access) for offset in (*strides, origin))


def strides_of_tensor(builder: TileBuilder, tensor: ir.Value) -> StridedTensor | None:
    """Strides of a kernel's value that data movement alone makes of an argument, with neighbours along the last
    dimension; else None. A dimension of one element has the stride that it would have were there more.
    """
    shape = shape_of(tensor)
    names = tuple(f"%position{axis}" for axis in range(len(shape)))
    builder.extents.update(zip(names, shape, strict=True))
    address = ElementEmitter(builder).address(tensor, tuple(map(Expression.symbol, names)))
    found = strides_of(address.offset, names) if address is not None and not address.inside else None
    if address is None or found is None or found[0][-1] != 1:
        return None
    strides = [ONE]
    for size, stride in reversed(list(zip(shape[1:], found[0][:-1], strict=True))):
        strides.insert(0, strides[0] * size if stride == 0 else stride)
    return StridedTensor(address.argument, tuple(strides), found[1])

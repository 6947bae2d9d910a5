"""What a zero point adds to a convolution with padding: sums of the weights over the taps inside the image.

In: a convolution and its integer weights. Out: a table of such sums for every way in which the window can leave the
image, and a function that finds the entry of a position. It exists because padding is zero and not the zero point,
so at the borders the weights of the taps outside must not be counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mlir import ir

from ...dialects import graph_builder as build
from ...dialects.scalar import Scalar
from ...dialects.tensors import shape_of
from ...runtime.symbolic import Expression
from ..unit import WeightStore
from .rewriting import expressions, integers, node_names

Array = np.ndarray[Any, Any]
MOST_ENTRIES = 1 << 20


@dataclass(frozen=True)
class Window:
    """One spatial dimension. `few`: the window never leaves the image on both sides, so fewer cases are told apart."""

    size: Expression
    taps: int
    stride: int
    dilation: int
    pad: Expression
    few: bool

    @property
    def cases(self) -> list[tuple[int, int]]:
        """(first tap inside, the one after the last) of every case, in the order of their numbers."""
        count = self.taps
        if self.few:
            return [(0, last) for last in range(count)] + [(first, count) for first in range(count + 1)]
        return [(first, last) for first in range(count + 1) for last in range(count + 1)]

    def case(self, position: Scalar) -> Scalar:
        """In a map: the number of the case at a position of the result."""
        begin = position * self.stride - build.dimension(self.pad)
        first, last = self._taps_before(-begin), self._taps_before(build.dimension(self.size) - begin)
        return first + last if self.few else first * (self.taps + 1) + last

    def _taps_before(self, distance: Scalar) -> Scalar:
        return ((distance.maximum(0) + (self.dilation - 1)) / self.dilation).minimum(self.taps)


def windows_of(operation: ir.Operation) -> list[Window]:
    """The spatial dimensions of a graph.convolution that is still channels-first."""
    sizes, kernel = (shape_of(operand)[2:] for operand in operation.operands)
    strides, dilations = integers(operation, "strides"), integers(operation, "dilations")
    pads = expressions(operation, "pads")
    windows = []
    for axis, size in enumerate(sizes):
        taps = kernel[axis].as_constant() or 0
        few = (size - (taps - 1) * dilations[axis]).is_nonnegative()
        windows.append(Window(size, taps, strides[axis], dilations[axis], pads[axis], few))
    return windows


def table_entries(operation: ir.Operation) -> int:
    """Numbers in the table."""
    entries = shape_of(operation.operands[1])[0].as_constant() or 0
    for window in windows_of(operation):
        entries *= len(window.cases)
    return entries


def sums_by_case(array: Array, windows: Sequence[Window]) -> Array:
    """[O, C, k...] -> [cases..., O]: sums over channels and over the taps inside."""
    sums: Array = np.moveaxis(array.astype(np.int64).sum(axis=1), 0, -1)
    for axis, window in enumerate(windows):
        before = np.insert(np.cumsum(sums, axis=axis), 0, 0, axis=axis)
        first, last = np.array(window.cases).T
        sums = before.take(np.maximum(first, last), axis) - before.take(first, axis)
    return sums.astype(np.int32)


def weight_sums(operation: ir.Operation, array: Array, weights: WeightStore) -> ir.Value:
    """The table as a weight."""
    sums = sums_by_case(array, windows_of(operation))
    names = node_names(operation.location)
    return build.weight(weights.add(f"{names[0] if names else 'convolution'}.sums", sums), sums.shape, "i32")


def sum_inside(operation: ir.Operation, table: ir.Value) -> Scalar:
    """In a map over the result: the sum of the weights over the taps inside."""
    cases = [window.case(build.index(2 + axis)) for axis, window in enumerate(windows_of(operation))]
    return build.element_at(table, [*cases, build.index(1)])

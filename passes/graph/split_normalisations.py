"""Normalisations of few long lines: statistics of parts by the whole card, then of the lines, then what reads them.

In: mean and sum of squared differences over a line, as importers write every normalisation. Out: both from parts of a
line, each of which stays in the registers of a block. Few groups of a large image otherwise keep few multiprocessors
busy, which read the image three times. The parts are joined as by Chan, Golub and LeVeque (1983), without cancellation.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlir import ir

from ...dialects import graph_builder
from ...dialects.scalar import Scalar
from ...dialects.tensors import element_of, shape_of
from ..target import Target
from .cut_values import Cut, cut_value
from .rewriting import body_of, building_before, captures, integers, operations_of, producer, string, users

# Estimates: bytes a microsecond of one block and, for each multiprocessor, of the card; microseconds of a launch.
_BLOCK_RATE = 15e3
_CARD_RATE = 20e3
_LAUNCH = 3.0
_CLUSTER = 8  # blocks that share a line otherwise
_KEPT = 8192  # elements of a line that a block has in registers
_BLOCKS = 2  # for each multiprocessor


@dataclass(frozen=True)
class _Normalisation:
    """total = sum x; mean = total / count; variance = sum (x - mean)^2, the last not divided yet."""

    total: ir.Operation
    mean: ir.Operation
    variance: ir.Operation

    @property
    def source(self) -> ir.Value:
        """x."""
        return self.total.operands[0]


def split_normalisation(total: ir.Operation, target: Target) -> bool:
    """Compute the statistics that begin with the sum `total` from parts where that is predicted to be faster; True when
    it was done.

    before::

        %s = reduce sum %x           : tensor<1x64x4096xf32> -> tensor<1x1x1xf32>
        %m = %s / 262144
        %v = reduce sum (%x - %m)^2

    after::

        %p = reshape %x              : tensor<1x64x1x4096xf32>
        %t = reduce sum %p           : -> tensor<1x64xf32>, one number a part
        %q = reduce sum (%p - %t / 4096)^2
        %s = reduce sum %t;  %m = %s / 262144
        %v = reduce sum (%q + 4096 * (%t / 4096 - %m)^2)
    """
    found = _find(total)
    parts = _parts(found, target) if found is not None else None
    if found is None or parts is None:
        return False
    axis, count = parts
    axes = integers(total, "axes")
    length = _count(found.source, axes) // count
    with building_before(total):
        cut = cut_value(found.source, Cut(len(shape_of(found.source)) - axis, count, total), total)
        inner = [other + (other >= axis) for other in axes]
        sums = graph_builder.reduce(cut, "sum", inner)
        squares = graph_builder.map([cut, sums], lambda x, s: _square(x - s / float(length)))
        spread = graph_builder.reduce(squares, "sum", inner)
        sums, spread = (graph_builder.remove_dimensions(value, [axis + 1]) for value in (sums, spread))
        whole = graph_builder.reduce(sums, "sum", [axis])
    total.results[0].replace_all_uses_with(whole)
    with building_before(found.variance):
        joined = graph_builder.map(
            [spread, sums, found.mean.results[0]],
            lambda q, s, mean: q + _square(s / float(length) - mean) * float(length),
        )
        variance = graph_builder.reduce(joined, "sum", [axis])
    found.variance.results[0].replace_all_uses_with(variance)
    return True


def _square(value: Scalar) -> Scalar:
    return value * value


# Recognition --------------------------------------------------------------------------------------------------------
def _find(total: ir.Operation) -> _Normalisation | None:
    source, axes = total.operands[0], integers(total, "axes")
    if string(total, "kind") != "sum" or element_of(source) != "f32":
        return None
    for mean in users(total.results[0]):
        if _body(mean) != ["graph.element", "arith.constant", "arith.divf"]:
            continue
        for difference in users(mean.results[0]):
            if not _is_difference(difference, source, mean.results[0]):
                continue
            for square in users(difference.results[0]):
                variance = _variance(square, axes)
                if variance is not None:
                    return _Normalisation(total, mean, variance)
    return None


def _body(operation: ir.Operation) -> list[str]:
    """Names of a map's scalar operations without the yield."""
    return [inner.name for inner in operations_of(body_of(operation))][:-1] if operation.name == "graph.map" else []


def _is_difference(operation: ir.Operation, source: ir.Value, mean: ir.Value) -> bool:
    if sorted(_body(operation)) != ["arith.subf", "graph.element", "graph.element"]:
        return False
    subtraction = next(own for own in operations_of(body_of(operation)) if own.name == "arith.subf")
    read = [made.operands[0] for made in map(producer, subtraction.operands) if made is not None]
    return read == [source, mean]


def _variance(square: ir.Operation, axes: tuple[int, ...]) -> ir.Operation | None:
    """The sum of squares over the same axes, its only reader."""
    if _body(square) != ["graph.element", "arith.mulf"] or len(captures(square)) != 1:
        return None
    readers = users(square.results[0])
    reader = readers[0] if len(readers) == 1 else None
    if reader is None or reader.name != "graph.reduce" or string(reader, "kind") != "sum":
        return None
    return reader if integers(reader, "axes") == axes else None


# Decision -----------------------------------------------------------------------------------------------------------
def _parts(found: _Normalisation, target: Target) -> tuple[int, int] | None:
    """(dimension to cut, number of parts) where three kernels are predicted to take less time than one."""
    axes = integers(found.total, "axes")
    sizes = [size.as_constant() for size in shape_of(found.source)]
    if not all(sizes):
        return None
    line = _count(found.source, axes)
    lines = _count(found.source, [axis for axis in range(len(sizes)) if axis not in axes])
    nbytes = 2.0 * lines * line  # of 16 bits, as kernels store them, or more
    ways = _CLUSTER if target.cluster else 1
    moved = nbytes * (2 if line <= ways * _KEPT else 4)
    alone = moved / (min(lines * ways, target.multiprocessors) * _BLOCK_RATE)
    together = 3 * nbytes / (target.multiprocessors * _CARD_RATE) + 2 * _LAUNCH
    if alone < together:
        return None
    least, wanted = -(-line // _KEPT), -(-_BLOCKS * target.multiprocessors // lines)
    for axis in axes:  # the outer ones first: neighbours stay together
        size = sizes[axis] or 1
        cuts = [parts for parts in range(max(2, least), size + 1) if size % parts == 0]
        if cuts:
            return axis, min(cuts, key=lambda parts: abs(parts - wanted))
    return None


def _count(value: ir.Value, axes: list[int] | tuple[int, ...]) -> int:
    total = 1
    for axis in axes:
        total *= shape_of(value)[axis].as_constant() or 1
    return total

"""The statistics of a normalisation, read from the kernel that computes them and written again over parts of lines.

In: a kernel function that makes a few numbers for every line of one tensor: from its sum, and the sum of its squares,
plain or about the mean. Out: which sums those are; and the same kernel over sums of parts of the lines, which whoever
makes the tensor can add up before it is stored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from mlir import ir

from ...dialects import graph_builder
from ...dialects.scalar import Scalar
from ...dialects.tensors import Shape, element_of, rank_of, shape_of
from ...runtime.symbolic import ONE
from .rewriting import body_of, clone_into, integers, operations_of, producer, string
from .scalar_semantics import constant_value

Values = dict[ir.Value, ir.Value]


@dataclass(frozen=True)
class Statistics:
    """What a kernel of statistics adds up: `sums` of the elements, `squares` of them, or of their distance from the
    mean where they are `centred`. One of both may be missing.
    """

    function: ir.Operation
    sums: ir.Operation | None
    squares: ir.Operation | None
    centred: bool

    @property
    def shape(self) -> Shape:
        """Of the tensor."""
        return shape_of(body_of(self.function).arguments[0])

    @property
    def count(self) -> int:
        """Of the sums that are needed of each part of a line."""
        return (self.sums is not None) + (self.squares is not None)

    def parts_shape(self, width: int) -> Shape:
        """One number for each part of a line."""
        return (*self.shape[:-1], ONE * (self.length // width))

    @property
    def length(self) -> int:
        """Elements of a line."""
        return self.shape[-1].as_constant() or 0

    # In the kernel that makes the tensor ------------------------------------------------------------------------------
    def of_parts(self, tensor: ir.Value, width: int) -> list[ir.Value]:
        """The sums of parts of `width` elements of the lines of a tensor in f32, at the current insertion point: plain
        ones, then those of squares, about the mean of the part where they are centred.
        """
        shape = self.parts_shape(width)
        parts = graph_builder.reshape(tensor, (*shape, ONE * width))
        axis, found = len(shape), []
        if self.sums is not None:
            found.append(graph_builder.reduce(parts, "sum", [axis]))
        if self.centred:
            squares = graph_builder.map([parts, found[0]], lambda own, total: _square(own - total * (1.0 / width)))
            found.append(graph_builder.reduce(squares, "sum", [axis]))
        elif self.squares is not None:
            found.append(graph_builder.reduce(graph_builder.map([parts], _square), "sum", [axis]))
        return [graph_builder.reshape(own, shape) for own in found]

    # In the kernels that read the statistics --------------------------------------------------------------------------
    def from_parts(self, parts: list[ir.Value], width: int, point: ir.InsertionPoint) -> list[ir.Value]:
        """What the kernel returns, computed from the sums of parts in front of `point`.

        Sums of squares about the means of parts become one about the mean of the line: each part is off by its own
        distance, as often as it has elements (Chan, Golub and LeVeque, 1979).
        """
        axis = len(self.shape) - 1
        values: Values = {}
        body = operations_of(body_of(self.function))
        with point:
            if self.sums is not None:
                values[self.sums.results[0]] = graph_builder.reduce(parts[0], "sum", [axis])
        for operation in body:
            if operation == self.squares:
                with point:
                    values[operation.results[0]] = graph_builder.reduce(
                        self._squares(parts, width, values), "sum", [axis]
                    )
            elif operation.name == "graph.map" and shape_of(operation.results[0])[-1] == 1:
                clone_into(operation, values, point)
        return [values[operand] for operand in body[-1].operands]

    def _squares(self, parts: list[ir.Value], width: int, values: Values) -> ir.Value:
        """Sums of squares of parts, about the mean of the line where they are centred."""
        if not self.centred:
            return parts[-1]
        assert self.sums is not None
        total = values[self.sums.results[0]]

        def about_line(own: Scalar, squares: Scalar, line: Scalar) -> Scalar:
            return squares + _square(own * (1.0 / width) - line * (1.0 / self.length)) * float(width)

        return graph_builder.map([*parts, total], about_line)


def _square(value: Scalar) -> Scalar:
    return value * value


def find_statistics(function: ir.Operation) -> Statistics | None:
    """The statistics that a kernel function makes of its only argument; None where it makes anything else."""
    block = body_of(function)
    if string(function, "graph.kernel") != "row" or len(block.arguments) != 1:
        return None
    *body, end = operations_of(block)
    tensor, axis = block.arguments[0], rank_of(block.arguments[0]) - 1
    if shape_of(tensor)[-1].as_constant() is None or any(shape_of(own)[-1] != 1 for own in end.operands):
        return None
    same, sums, squares, centred = {tensor}, None, None, False
    for operation in body:
        if operation.name == "graph.reduce":
            plain = string(operation, "kind") == "sum" and integers(operation, "axes") == (axis,)
            if not plain or element_of(operation.results[0]) != "f32":
                return None
            square = _squared(operation.operands[0], same, sums)
            if operation.operands[0] in same and sums is None:
                sums = operation
            elif square is not None and squares is None:
                squares, centred = operation, square == "centred"
            else:
                return None
        elif operation.name != "graph.map" or not _reads_lines(operation, same):
            return None
        elif _names(operation) == ["graph.element", "arith.extf", "gpu.yield"]:
            same.add(operation.results[0])
    found = Statistics(function, sums, squares, centred)
    return found if found.count else None


def _reads_lines(operation: ir.Operation, same: set[ir.Value]) -> bool:
    """Whether a map is one of the tensor's shape, or reads nothing but numbers of lines."""
    read = [inner.operands[0] for inner in operations_of(body_of(operation)) if inner.name == "graph.element"]
    full = shape_of(operation.results[0]) == shape_of(next(iter(same)))
    return full or all(not shape_of(value) or shape_of(value)[-1] == 1 for value in read)


def _names(operation: ir.Operation) -> list[str]:
    return [inner.name for inner in operations_of(body_of(operation))]


def _squared(value: ir.Value, same: set[ir.Value], sums: ir.Operation | None) -> str | None:
    """What squares a map yields: "plain" or "centred", those of the tensor's elements, or of them without the mean."""
    maker = producer(value)
    if maker is None or maker.name != "graph.map":
        return None
    product = _made(operations_of(body_of(maker))[-1].operands[0])
    if product is None or product.name != "arith.mulf" or product.operands[0] != product.operands[1]:
        return None
    base = _made(product.operands[0])
    if _reads(base, same):
        return "plain"
    if base is None or base.name != "arith.subf" or sums is None or not _reads(_made(base.operands[0]), same):
        return None
    mean = _made(base.operands[1])
    return "centred" if mean is not None and mean.name == "graph.element" and _is_mean(mean.operands[0], sums) else None


def _made(scalar: ir.Value) -> ir.Operation | None:
    """What computes a scalar, in front of conversions between floats."""
    maker = producer(scalar)
    while maker is not None and maker.name in ("arith.extf", "arith.truncf"):
        maker = producer(maker.operands[0])
    return maker


def _reads(operation: ir.Operation | None, values: set[ir.Value]) -> bool:
    return operation is not None and operation.name == "graph.element" and operation.operands[0] in values


def _is_mean(value: ir.Value, sums: ir.Operation) -> bool:
    """Whether a map divides the sums by the number of elements of a line, and does nothing else."""
    maker = producer(value)
    if maker is None or maker.name != "graph.map":
        return False
    quotient = _made(operations_of(body_of(maker))[-1].operands[0])
    if quotient is None or quotient.name not in ("arith.divf", "arith.mulf"):
        return False
    operands = [_made(operand) for operand in quotient.operands]
    read = [own for own in operands if _reads(own, {sums.results[0]})]
    constants = [own for own in operands if own is not None and own.name == "arith.constant"]
    if len(read) != 1 or len(constants) != 1 or (quotient.name == "arith.divf" and operands[0] != read[0]):
        return False
    length = shape_of(sums.operands[0])[-1].as_constant() or 0
    factor = float(constant_value(constants[0]))
    return bool(np.isclose(factor, length if quotient.name == "arith.divf" else 1 / length, rtol=1e-6))

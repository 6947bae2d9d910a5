"""What one kernel has to do: its arithmetic and the bytes it reads and writes, counted on its graph function.

In: a kernel function of the graph level, behind fusion. Out: `Work`. Sizes that are known at run time only count as
their hints, within `typical_sizes`. Attention counts every score, also those that a mask leaves out.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlir import ir

from tilewright.dialects.tensors import element_of, shape_of
from tilewright.passes.graph.rewriting import body_of, inner_operations, operations_of, string
from tilewright.passes.tile.schedule import size_guess
from tilewright.passes.unit import KernelProgram
from tilewright.runtime.dtypes import dtype
from tilewright.runtime.symbolic import product

_TENSOR = {"f16": "f16", "bf16": "bf16", "i8": "int8", "ui8": "int8", "f8E4M3FN": "f8", "f8E5M2": "f8"}
_CONTRACTIONS = ("graph.matmul", "graph.convolution", "graph.convolution_transpose")
_SCALAR = ("arith.", "math.")


@dataclass(frozen=True)
class Work:
    """`flops` by the rate of runtime/gpus.py at which they run, `operations` of maps and reductions, bytes."""

    flops: dict[str, int]
    operations: int
    read: int
    written: int


def work_of(function: ir.Operation, program: KernelProgram) -> Work:
    """Everything that a launch of the kernel does; what is copied or filled in front of it is written once more."""
    flops: dict[str, int] = {}
    operations = 0
    for own in inner_operations(function):
        if own.name in _CONTRACTIONS:
            kind = _kind(own)
            flops[kind] = flops.get(kind, 0) + _contraction(own)
        elif own.name == "graph.map":
            operations += _size(own.results[0]) * sum(inner.name.startswith(_SCALAR) for inner in inner_operations(own))
        elif own.name in ("graph.reduce", "graph.pool", "graph.scan"):
            operations += _size(own.operands[0])
    returned = list(operations_of(body_of(function))[-1].operands)
    written = sum(bytes_of_value(value) for value in returned)
    prepared = sum(bytes_of_value(returned[output]) for output, _, _ in program.prepared)
    read = sum(footprint(argument) for argument in body_of(function).arguments)
    return Work(flops, operations, read + prepared, written + prepared)


def bytes_of_value(value: ir.Value) -> int:
    """The memory that the tensor takes."""
    return _size(value) * dtype(element_of(value)).bytes


def footprint(argument: ir.Value) -> int:
    """The bytes of an argument that its kernel reads: of a table only the rows that are looked up."""
    each, whole = dtype(element_of(argument)).bytes, bytes_of_value(argument)
    read = 0
    for use in argument.uses:
        reader = use.owner.operation
        if reader.name == "graph.slice":
            read += bytes_of_value(reader.results[0])
        elif reader.name == "graph.element_at":
            read += _size(reader.parent.results[0]) * each
        else:
            return whole
    return min(read, whole)


def _size(value: ir.Value) -> int:
    return size_guess(product(list(shape_of(value))))


def _kind(contraction: ir.Operation) -> str:
    element = element_of(contraction.operands[0])
    if element == "f32" and "precision" in contraction.attributes:
        return string(contraction, "precision")
    return _TENSOR.get(element, element)


def _contraction(own: ir.Operation) -> int:
    """Multiply-adds count twice."""
    left = shape_of(own.operands[0])
    if own.name == "graph.matmul":
        depth = left[-2] if ir.IntegerAttr(own.attributes["transpose_left"]).value else left[-1]
        return 2 * _size(own.results[0]) * size_guess(depth)
    last = string(own, "layout") == "channels_last"
    if own.name == "graph.convolution_transpose":
        channels = left[-1] if last else left[1]
        return 2 * _size(own.operands[0]) * _size(own.operands[1]) // size_guess(channels)
    result = shape_of(own.results[0])
    return 2 * _size(own.results[0]) * _size(own.operands[1]) // size_guess(result[-1] if last else result[1])

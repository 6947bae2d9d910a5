"""A complex tensor while it is imported: two tensors of one shape, the real and the imaginary parts.

In: constants, arguments of the graph, host values. Out: `ComplexTensor`, of which operators see the parts
(complex_numbers.py); outputs of the model have both beside each other, as callers have complex numbers.
"""

from __future__ import annotations

import numpy as np
from mlir import ir

from ...dialects import graph_builder as build
from ...dialects.scalar import Scalar
from ...runtime.dtypes import COMPLEX_OF, COMPLEX_PARTS
from ...runtime.symbolic import ONE, Expression
from .errors import Unsupported
from .held import Content, HeldValue
from .tensor import Array, Materialiser, Tensor

Parts = tuple[Tensor, Tensor]


class ComplexTensor(Tensor):
    """A tensor, sequence or optional of complex numbers; `parts` are two of the same, of floats."""

    def __init__(self, materialiser: Materialiser, parts: Parts, dtype: str) -> None:
        super().__init__(materialiser, dtype, parts[0].shape, name=parts[0].name)
        self.parts = parts
        self.sources = parts[0].sources | parts[1].sources

    @staticmethod
    def of_value(materialiser: Materialiser, value: ir.Value, name: str = "") -> ComplexTensor:
        """Of parts beside each other in the last dimension, as `value` gives them back."""
        shape = build.shape_of(value)[:-1]

        def part(number: int) -> Tensor:
            def body() -> Scalar:
                return build.element_at(value, [*(build.index(axis) for axis in range(len(shape))), number])

            return Tensor.of_value(materialiser, build.map([], body, shape=shape), name)

        real, imaginary = part(0), part(1)
        return ComplexTensor(materialiser, (real, imaginary), COMPLEX_OF[real.dtype])

    @staticmethod
    def of_array(materialiser: Materialiser, array: Array, dtype: str, name: str = "") -> ComplexTensor:
        """A constant."""
        arrays = (np.ascontiguousarray(part).reshape(array.shape) for part in (array.real, array.imag))
        real, imaginary = (Tensor.of_array(materialiser, part, COMPLEX_PARTS[dtype], name) for part in arrays)
        return ComplexTensor(materialiser, (real, imaginary), dtype)

    @staticmethod
    def of_held(materialiser: Materialiser, value: ir.Value, kind: str, content: Content) -> ComplexTensor:
        """Of a sequence or optional that the host holds."""
        values = build.host("complex_parts", [value], 2).results
        part = Content(COMPLEX_PARTS[content.dtype], content.shape)
        real, imaginary = (HeldValue(materialiser, kind, item, part) for item in values)
        return ComplexTensor(materialiser, (real, imaginary), content.dtype)

    @property
    def is_on_host(self) -> bool:
        return self.parts[0].is_on_host

    @property
    def kind(self) -> str:
        """Of a host value: sequence or optional."""
        return self.parts[0].dtype

    @property
    def value(self) -> ir.Value:
        """None has one. Raises Unsupported: whoever asks has not been told that the tensor is complex."""
        raise Unsupported(f"{self.dtype} where the model does not declare it", "declared types of complex values")

    def joined(self) -> ir.Value:
        """Both parts beside each other in a new last dimension; of a host value one with complex numbers."""
        if self.is_on_host:
            values = [build.fetch(part.value) if isinstance(part, HeldValue) else part.value for part in self.parts]
            return build.host("complex_joined", values, 1).results[0]
        real, imaginary = (build.reshape(part.value, [*part.shape, ONE]) for part in self.parts)
        rank, shape = len(self.shape), [*self.shape, Expression.constant(2)]
        return build.map([real, imaginary], lambda a, b: build.index(rank).eq(0).select(a, b), shape=shape)

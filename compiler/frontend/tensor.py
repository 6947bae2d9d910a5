"""A value of the ONNX graph while it is imported: what is known about it, and its IR value once something
needs it.

In: a constant array (perhaps still in the file), a symbolic value (shape arithmetic), or an IR value. Out:
`Tensor`, which makes the IR value on demand, so that shape arithmetic and unused weights leave no trace in
the module.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Any

import numpy as np
from mlir import ir

from ...dialects import graph_builder as build
from ...dialects.scalar import Scalar
from ...dialects.tensors import Shape, element_of, shape_of
from ...passes.unit import WeightStore
from ...runtime.dtypes import DTYPES, HOST_TYPES, NARROW
from ...runtime.symbolic import Expression, expression

Array = np.ndarray[Any, Any]
Loader = Callable[[], Array]

INLINE_ELEMENTS = 16  # constants of at most this size stand in the IR itself
CACHED_BYTES = 1 << 16  # constants of at most this size are kept after they were read from the file
KNOWN_ELEMENTS = 1024  # symbolic values are tracked for integer tensors of at most this size
FEW_ELEMENTS = 64  # of a tensor that depends on data: sizes and the like, which others may stand beside


class Materialiser:
    """Where constants become operations: before `anchor`, at the top of the function, so that every region
    sees them.
    """

    def __init__(self, anchor: ir.Operation, weights: WeightStore) -> None:
        self.anchor = anchor
        self.weights = weights
        self.binders: dict[str, ir.Operation] = {}  # by symbol: the call on the host that finds it, in order

    def point(self, symbols: Set[str]) -> ir.InsertionPoint:
        """Where something can stand that mentions these symbols: at the top, or after the last call that finds one."""
        calls = [call for symbol, call in self.binders.items() if symbol in symbols]
        return ir.InsertionPoint.after(calls[-1]) if calls else ir.InsertionPoint(self.anchor)


class Tensor:
    """One ONNX value. `shape` is symbolic; `known` is its value as an object array of expressions, where
    that is known.

    Elements of `known` are `Expression` for integers and booleans and `Ratio` for floats
    (shape_arithmetic.py).
    """

    def __init__(
        self,
        materialiser: Materialiser,
        dtype: str,
        shape: Shape,
        *,
        name: str = "",
        value: ir.Value | None = None,
        loader: Loader | None = None,
        known: Array | None = None,
    ) -> None:
        self.dtype = dtype
        self.shape = shape
        self.name = name
        self.sources: frozenset[str] = frozenset()  # the model inputs that it is computed from
        self._materialiser = materialiser
        self._value = value
        self._loader = loader
        self._known = known
        self._partly_known: Array | None = None  # where only some are known

    @staticmethod
    def of_value(materialiser: Materialiser, value: ir.Value, name: str = "") -> Tensor:
        """A tensor computed by the graph."""
        return Tensor(materialiser, element_of(value), shape_of(value), name=name, value=value)

    @staticmethod
    def of_array(materialiser: Materialiser, array: Array, dtype: str, name: str = "") -> Tensor:
        """A constant."""
        shape = tuple(expression(size) for size in array.shape)
        return Tensor(materialiser, dtype, shape, name=name, loader=lambda: array)

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int | None:
        """Number of elements when it is static."""
        total = 1
        for dimension in self.shape:
            size = dimension.as_constant()
            if size is None:
                return None
            total *= size
        return total

    @property
    def is_constant(self) -> bool:
        """True when `array()` gives its value."""
        return self._loader is not None

    def array(self) -> Array:
        """The value of a constant. Raises ModelError when the file's data does not fit the declared shape."""
        assert self._loader is not None
        array = self._loader()
        if array.nbytes <= CACHED_BYTES:
            self._loader = lambda: array
        return array

    def known(self) -> Array | None:
        """The value as an object array, for constants and shape arithmetic; None when it depends on data."""
        if self._known is None and self._loader is not None:
            size = self.size
            if size is not None and size <= KNOWN_ELEMENTS and self.dtype not in NARROW and not self.is_on_host:
                self._known = _objects(self.array())
        return self._known

    def partly_known(self) -> Array | None:
        """`known()` with None for the elements that depend on data; None where nothing can be known of any."""
        known = self.known()
        if known is not None:
            return known
        if self._partly_known is None and self.dtype in ("i32", "i64") and (self.size or FEW_ELEMENTS) < FEW_ELEMENTS:
            self._partly_known = np.full([size.as_constant() for size in self.shape], None, dtype=object)
        return self._partly_known

    def learn(self, elements: Array) -> None:
        """What is known of a value that the graph computes: its elements, None for those that depend on data."""
        if is_complete(elements) and not self.is_constant:
            self._known = elements
        else:
            self._partly_known = elements

    @property
    def value(self) -> ir.Value:
        """The IR value. Constants and symbolic values become operations at the top of the function."""
        if self._value is None:
            if self._loader is None and (array := self._numbers()) is not None and not is_repeated(array):
                self._loader = lambda: array
            context = self._materialiser.anchor.context
            with self._materialiser.point(self._symbols()), ir.Location.name(self.name, context=context):
                self._value = self._constant() if self._loader is not None else self._symbolic()
        return self._value

    @property
    def is_on_host(self) -> bool:
        """True for strings, sequences and optionals, whose IR value is a `!graph.object`."""
        return self.dtype in HOST_TYPES

    @property
    def object(self) -> ir.Value:
        """The value on the host; tensors are downloaded."""
        return self.value if self.is_on_host else build.download(self.value)

    def _constant(self) -> ir.Value:
        assert self._loader is not None
        if self.dtype == "string":
            array = self.array()
            options = {"values": [str(item) for item in array.ravel()], "shape": list(array.shape)}
            return build.host("strings", [], 1, options).results[0]
        size = self.size
        if size is not None and size <= INLINE_ELEMENTS and self.dtype not in NARROW:
            return build.constant(self.array(), self.dtype)
        handle = self._materialiser.weights.add(self.name, self._loader)
        return build.weight(handle, self.shape, self.dtype)

    def _numbers(self) -> Array | None:
        """The array of a known value in which no size is open."""
        assert self._known is not None
        numbers = [number(element) for element in self._known.ravel()]
        if any(item is None for item in numbers) or self.dtype in NARROW:
            return None
        kind = DTYPES[self.dtype].numpy
        numerators, denominators = (
            np.array([item[part] for item in numbers if item], np.int64).astype(kind) for part in (0, 1)
        )
        quotients = numerators / denominators if np.any(denominators != kind.type(1)) else numerators
        return np.asarray(quotients.astype(kind).reshape(self._known.shape))

    def _symbolic(self) -> ir.Value:
        elements, numbers = self._known, self._numbers()
        assert elements is not None

        def body() -> Scalar:
            if numbers is not None and is_repeated(numbers):
                return Scalar.constant(numbers.flat[0].item(), self.dtype)
            position = Scalar.constant(0, "i64")
            for axis, size in enumerate(elements.shape):
                position = position * size + (build.index(axis) if size != 1 else 0)
            flat = [element.scalar(self.dtype) for element in map(as_symbolic, elements.ravel())]
            result: Scalar = flat[-1]
            for number, scalar in reversed(list(enumerate(flat[:-1]))):
                result = position.eq(number).select(scalar, result)
            return result

        if elements.size == 0:
            return build.constant(np.zeros(elements.shape, DTYPES[self.dtype].numpy), self.dtype)
        return build.map([], body, shape=elements.shape)

    def _symbols(self) -> frozenset[str]:
        """Those that a symbolic value mentions."""
        if self._known is None or self._loader is not None:
            return frozenset()
        elements = (item.numerator if isinstance(item, Ratio) else item for item in self._known.ravel())
        return frozenset().union(*(element.symbols for element in elements))

    @property
    def is_literal(self) -> bool:
        """True for constants and symbolic values of one element: maps hold them in their body."""
        return not self.is_on_host and self.size == 1 and (self._loader is not None or self._known is not None)

    def scalar(self) -> Scalar:
        """In a map: the value of a literal."""
        if self._loader is not None:
            return Scalar.constant(self.array().reshape(()).item(), self.dtype)
        assert self._known is not None
        return as_symbolic(self._known.ravel()[0]).scalar(self.dtype)


def is_complete(elements: Array) -> bool:
    """True when no element depends on data."""
    return all(item is not None for item in elements.flat)


class Ratio:
    """A float of shape arithmetic: an integer expression over a positive integer."""

    __slots__ = ("denominator", "numerator")

    def __init__(self, numerator: Expression, denominator: int = 1) -> None:
        self.numerator = numerator
        self.denominator = denominator

    def scalar(self, dtype: str) -> Scalar:
        """In a map: the value, divided in that dtype."""
        value = build.dimension(self.numerator).cast(dtype)
        return value if self.denominator == 1 else value / self.denominator


class _Integer:
    __slots__ = ("expression",)

    def __init__(self, value: Expression) -> None:
        self.expression = value

    def scalar(self, dtype: str) -> Scalar:
        return build.dimension(self.expression).cast(dtype)


def as_symbolic(element: Expression | Ratio) -> Ratio | _Integer:
    """Something with a `scalar(dtype)` method from an element of a known value."""
    return element if isinstance(element, Ratio) else _Integer(element)


def is_repeated(array: Array) -> bool:
    """Whether one number stands for several: a mask that hides nothing, say."""
    return array.size > 1 and bool(np.all(array == array.flat[0]))


def number(element: Expression | Ratio) -> tuple[int, int] | None:
    """(numerator, denominator) of an element of a known value; None where a size that is not known yet is in it."""
    numerator = (element.numerator if isinstance(element, Ratio) else element).as_constant()
    denominator = element.denominator if isinstance(element, Ratio) else 1
    return None if numerator is None else (numerator, denominator)


MAXIMUM_DENOMINATOR = 1 << 16  # floats of shape arithmetic are small fractions: scale factors, halves


def _objects(array: Array) -> Array | None:
    """An object array of expressions and ratios; None for floats that are no small fraction."""
    result = np.empty(array.shape, dtype=object)
    flat = result.reshape(-1)
    for position, item in enumerate(array.ravel().tolist()):
        if isinstance(item, float):
            if item != item or abs(item) > 1 << 52:
                return None
            numerator, denominator = item.as_integer_ratio()
            if denominator > MAXIMUM_DENOMINATOR:
                return None
            flat[position] = Ratio(Expression.constant(numerator), denominator)
        else:
            flat[position] = Expression.constant(int(item))
    return result


class EmptyOptional(Tensor):
    """An ONNX optional that holds nothing."""

    def __init__(self, materialiser: Materialiser) -> None:
        super().__init__(materialiser, "optional", ())

    @property
    def value(self) -> ir.Value:
        """None on the host, where it is asked for: it may be in a branch."""
        return build.host("nothing", [], 1).results[0]


class TensorSequence(Tensor):
    """An ONNX sequence whose tensors are known while importing: it exists at run time only as an output."""

    def __init__(self, materialiser: Materialiser, elements: list[Tensor]) -> None:
        super().__init__(materialiser, "sequence", ())
        self.elements = elements

    @property
    def value(self) -> ir.Value:
        """The sequence as a host value, where it is asked for: its tensors are downloaded."""
        return build.host("sequence", [element.object for element in self.elements], 1).results[0]

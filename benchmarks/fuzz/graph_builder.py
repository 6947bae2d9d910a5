"""What the operators of the fuzzer build with: typed values, nodes, inputs, constants and nested graphs.

In: calls of the entries in operators/. Out: a valid ONNX model and recipes for the data of its inputs. Why: shapes
are solved while a graph grows (an operator takes values that fit, or makes an input that does), so no graph is lost.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from onnx import helper

from tilewright.runtime.symbolic import Expression, expression, product

FLOATS = ("float32", "float32", "float32", "float16", "float64")  # as often as they stand here
SINGLES = ("float32", "float32", "float16")
WIDE = ("int64", "int32")
NARROW = ("uint8", "int8")
INTEGERS = (*WIDE, *NARROW)
ANY = (*FLOATS, *INTEGERS, "bool")

Shape = tuple[Expression, ...]
SIZES = (1, 2, 3, 4, 4, 5, 7, 8, 8, 16, 17, 32)  # that kernels find easy or hard
LARGE_SIZES = (*SIZES, 64, 65, 100, 128, 130, 257, 1000)
LARGEST = {
    "float16": 100.0,
    "float32": 1e4,
    "float64": 1e6,
    "int64": 1 << 40,
    "int32": 1 << 24,
    "uint8": 255,
    "int8": 127,
}


class Unfit(Exception):
    """An entry cannot be used here; the generator takes back what it did and tries another one."""


@dataclass(frozen=True)
class Value:
    """A tensor of the graph. No element's magnitude exceeds `bound`; `known` is False for sizes that depend on data."""

    name: str
    dtype: str
    shape: Shape
    bound: float = 1.0
    known: bool = True

    @property
    def rank(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    @property
    def is_float(self) -> bool:
        """True for the floating-point types."""
        return self.dtype.startswith("float")

    def extent(self, axis: int) -> int:
        """A static dimension. Raises Unfit for a symbolic one."""
        size = self.shape[axis].as_constant()
        if size is None:
            raise Unfit
        return size


@dataclass(frozen=True)
class Recipe:
    """How to draw the data of an input: uniform in [low, high], multiples of `step` unless it is 0. A few floats are of
    `edges`, where there are some.
    """

    value: Value
    low: float
    high: float
    step: float = 0.0
    edges: tuple[float, ...] = ()

    def draw(self, generator: np.random.Generator, sizes: Sequence[int]) -> np.ndarray[Any, Any]:
        """An array of the given sizes."""
        dtype = np.dtype(self.value.dtype)
        if dtype.kind == "b":
            return np.asarray(generator.random(sizes) < 0.5)
        if dtype.kind in "iu":
            return np.asarray(generator.integers(int(self.low), int(self.high), sizes, endpoint=True).astype(dtype))
        drawn = generator.uniform(self.low, self.high, sizes)
        if self.edges and drawn.size:
            drawn.flat[generator.integers(0, drawn.size, 2)] = generator.choice(self.edges, 2)
        return np.asarray((np.round(drawn / self.step) * self.step if self.step else drawn).astype(dtype))


@dataclass
class Marks:
    """How much there was of everything, to take back an attempt."""

    values: int
    nodes: int
    inputs: int
    constants: int


@dataclass
class GraphBuilder:
    """A graph that grows. `bindings` are the sizes of its symbols for which it must be valid.

    A nested graph shares inputs, constants and names with `parent`, and sees the parent's values.
    """

    rng: random.Random
    opset: int
    bindings: tuple[dict[str, int], ...]
    most_elements: int = 3000  # of a tensor: the emulator's NumPy engine takes milliseconds for so many
    parent: GraphBuilder | None = None
    values: list[Value] = field(default_factory=list)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    inputs: list[Recipe] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    numbers: tuple[int, ...] = SIZES
    counter: list[int] = field(default_factory=lambda: [0])
    float_type: str = "float32"  # that motifs compute in
    finished: list[Value] = field(default_factory=list)  # outputs that nothing may take: their sizes depend on data

    # Names, sizes ----------------------------------------------------------------------------------------------
    def name(self, prefix: str) -> str:
        """A name that nothing has yet."""
        self.counter[0] += 1
        return f"{prefix}{self.counter[0]}"

    def sizes(self, shape: Sequence[Expression]) -> list[list[int]]:
        """The shape for each binding."""
        return [[size.evaluate(binding) for size in shape] for binding in self.bindings]

    def elements(self, shape: Sequence[Expression]) -> int:
        """The largest number of elements among the bindings."""
        return max(int(np.prod(sizes, dtype=np.int64)) for sizes in self.sizes(shape))

    def smallest(self, size: Expression) -> int:
        """The smallest of a size among the bindings."""
        return min(size.evaluate(binding) for binding in self.bindings)

    def dimension(self) -> Expression:
        """A random size: a symbol where there are some, or a number."""
        symbols = list(self.bindings[0])
        if symbols and self.rng.random() < 0.4:
            return Expression.symbol(self.rng.choice(symbols))
        return expression(self.rng.choice(self.numbers))

    def shape(self, rank: int) -> Shape:
        """A random shape of few enough elements."""
        dims = [self.dimension() for _ in range(rank)]
        while self.elements(dims) > self.most_elements // 2:
            dims[self.rng.randrange(rank)] = expression(self.rng.choice((1, 2, 3)))
        return tuple(dims)

    # Values ----------------------------------------------------------------------------------------------------
    def visible(self) -> list[Value]:
        """Own values and, in a nested graph, those that it can capture."""
        return (self.parent.visible() if self.parent else []) + self.values

    def pick(
        self, types: Sequence[str], ranks: range | Sequence[int] = range(5), fits: Callable[[Value], bool] | None = None
    ) -> Value:
        """A value of one of the types and ranks for which `fits` holds: rather a late one, sometimes a fresh one."""
        found = [
            value
            for value in self.visible()
            if value.dtype in types and value.rank in ranks and value.known and (fits is None or fits(value))
        ]
        if found and self.rng.random() < 0.9:
            return found[-1] if self.rng.random() < 0.5 else self.rng.choice(found)
        made = self.fresh(self.rng.choice(tuple(types)), self.shape(self.rng.choice(list(ranks))))
        if fits is not None and not fits(made):
            raise Unfit
        return made

    def partner(self, value: Value, types: Sequence[str] = ()) -> Value:
        """Something that broadcasts with `value`: another value, the same one, or a fresh one."""
        wanted = tuple(types) or (value.dtype,)
        found = [
            other
            for other in self.visible()
            if other.dtype in wanted and other.known and broadcast(other.shape, value.shape) is not None
        ]
        if found and self.rng.random() < 0.6:
            return self.rng.choice(found)
        kept = value.shape[self.rng.randint(0, value.rank) :]
        one = expression(1)
        return self.fresh(self.rng.choice(wanted), tuple(one if self.rng.random() < 0.3 else size for size in kept))

    def fresh(self, dtype: str, shape: Shape, low: float | None = None, high: float | None = None) -> Value:
        """A new model input, or a constant where the shape is static."""
        edge = {"float": 2.0, "int": 9, "uint": 20, "bool": 1}[dtype.rstrip("0123456789")]
        low = (0 if dtype in ("uint8", "bool") else -edge) if low is None else low
        high = edge if high is None else high
        step = self.rng.choice((0.0, 0.0, 0.5)) if dtype.startswith("float") else 0.0
        value = Value(self.name("x"), dtype, shape, max(abs(low), abs(high)))
        recipe = Recipe(value, low, high, step)
        static = all(size.as_constant() is not None for size in shape)
        if static and self.rng.random() < 0.5:
            drawn = recipe.draw(np.random.default_rng(self.rng.getrandbits(32)), self.sizes(shape)[0])
            value = replace(value, name=self.constant(drawn))
        else:
            self._root().inputs.append(recipe)
        self._root().values.append(value)
        return value

    def give(self, value: Value, low: float, high: float, edges: tuple[float, ...] = ()) -> None:
        """Let the value be an input of the model, with the data of such a recipe."""
        self._root().inputs.append(Recipe(value, low, high, edges=edges))
        self._root().values.append(value)

    def constant(self, data: Any, dtype: str = "int64") -> str:
        """The name of a new initializer: an array, or numbers of `dtype`."""
        array = data if isinstance(data, np.ndarray) else np.array(data, dtype)
        name = self.name("c")
        self._root().constants.append(onnx.numpy_helper.from_array(array, name))
        return name

    def _root(self) -> GraphBuilder:
        return self.parent._root() if self.parent else self

    # Nodes -----------------------------------------------------------------------------------------------------
    def node(
        self, operator: str, inputs: Sequence[Value | str], outputs: Sequence[Value], **attributes: Any
    ) -> list[Value]:
        """Append a node; the values it gives are `outputs` under new names. Raises Unfit when one is too large."""
        made = []
        for output in outputs:
            if output.known and self.elements(output.shape) > self.most_elements:
                raise Unfit
            if output.bound > LARGEST.get(output.dtype, 1):
                raise Unfit
            made.append(replace(output, name=self.name("v")))
        names = [value.name if isinstance(value, Value) else value for value in inputs]
        self.nodes.append(helper.make_node(operator, names, [value.name for value in made], **attributes))
        for value in made:
            (self.values if value.known else self._root().finished).append(value)
        return made

    def one(
        self,
        operator: str,
        inputs: Sequence[Value | str],
        dtype: str,
        shape: Sequence[Expression],
        bound: float,
        **attributes: Any,
    ) -> Value:
        """Append a node of one output."""
        return self.node(operator, inputs, [Value("", dtype, tuple(shape), bound)], **attributes)[0]

    def like(
        self, operator: str, inputs: Sequence[Value | str], model: Value, bound: float | None = None, **attributes: Any
    ) -> Value:
        """Append a node whose output has the type and shape of `model`."""
        return self.one(
            operator, inputs, model.dtype, model.shape, model.bound if bound is None else bound, **attributes
        )

    def tamed(self, value: Value, limit: float) -> Value:
        """The value, or where it may exceed `limit` in magnitude a bounded function of it."""
        if value.bound <= limit:
            return value
        if value.is_float and limit >= 1 and self.rng.random() < 0.5:
            return self.like("Tanh", [value], value, 1.0)
        edges = [self.constant(edge, value.dtype) for edge in (0 if value.dtype == "uint8" else -limit, limit)]
        return self.like("Clip", [value, *edges], value, limit)

    def positive(self, value: Value) -> Value:
        """A function of the value in [0.5, bound + 0.5]."""
        magnitude = self.like("Abs", [value], value)
        return self.like("Add", [magnitude, self.constant(0.5, value.dtype)], value, value.bound + 0.5)

    # Attempts, nesting -----------------------------------------------------------------------------------------
    def mark(self) -> Marks:
        """Where to go back to."""
        root = self._root()
        return Marks(len(self.values), len(self.nodes), len(root.inputs), len(root.constants))

    def take_back(self, marks: Marks) -> None:
        """Forget what was made since."""
        root = self._root()
        del self.nodes[marks.nodes :]
        forgotten = {recipe.value.name for recipe in root.inputs[marks.inputs :]}
        forgotten |= {tensor.name for tensor in root.constants[marks.constants :]}
        del root.inputs[marks.inputs :]
        del root.constants[marks.constants :]
        if root is not self:
            root.values = [value for value in root.values if value.name not in forgotten]
        del self.values[marks.values :]

    def nested(self) -> GraphBuilder:
        """An empty graph inside this one."""
        return GraphBuilder(
            self.rng, self.opset, self.bindings, self.most_elements, self, numbers=self.numbers, counter=self.counter
        )

    @property
    def depth(self) -> int:
        """How many graphs are around this one."""
        return 0 if self.parent is None else 1 + self.parent.depth


def broadcast(left: Shape, right: Shape) -> Shape | None:
    """The shape of an elementwise operation, or None where sizes differ or only might be equal."""
    rank = max(len(left), len(right))
    one = expression(1)
    pairs = zip((one,) * (rank - len(left)) + left, (one,) * (rank - len(right)) + right, strict=True)
    if any(a != b and a != 1 and b != 1 for a, b in ((a, b) for a, b in pairs)):
        return None
    padded = zip((one,) * (rank - len(left)) + left, (one,) * (rank - len(right)) + right, strict=True)
    return tuple(b if a == 1 else a for a, b in padded)


def count(shape: Shape) -> Expression:
    """The number of elements."""
    return product(shape)

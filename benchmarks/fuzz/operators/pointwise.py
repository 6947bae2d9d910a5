"""Operators of one element of each input: unary functions, broadcasting, comparisons, logic, bits, types.

In: a graph. Out: one more node, or two where a function's domain asks for a guard. Most are a row of a table.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ..graph_builder import ANY, FLOATS, INTEGERS, NARROW, SINGLES, WIDE, GraphBuilder, Unfit, Value, broadcast
from .registry import operator


@dataclass(frozen=True)
class Unary:
    """A function of one value: its types, the magnitude its argument is held to, and the magnitude of its result."""

    types: tuple[str, ...] = FLOATS
    limit: float = math.inf
    bound: Callable[[float], float] = lambda bound: bound
    positive: bool = False
    since: int = 1
    attributes: tuple[str, ...] = ()


SIGNED = (*FLOATS, *WIDE, "int8")
UNARY = {
    "Abs": Unary(SIGNED),
    "Neg": Unary(SIGNED),
    "Sign": Unary(SIGNED, bound=lambda b: 1),
    "Identity": Unary(ANY),
    "Exp": Unary(FLOATS, 4, math.exp),
    "Log": Unary(FLOATS, 50, lambda b: 1 + abs(math.log(b + 1)), positive=True),
    "Sqrt": Unary(FLOATS, 1e4, lambda b: 1 + math.sqrt(b), positive=True),
    "Reciprocal": Unary(FLOATS, 1e4, lambda b: 2, positive=True),
    "Sin": Unary(FLOATS, 20, lambda b: 1),
    "Cos": Unary(FLOATS, 20, lambda b: 1),
    "Tan": Unary(SINGLES, 1, lambda b: 2),
    "Asin": Unary(SINGLES, 0.75, lambda b: 1),
    "Acos": Unary(SINGLES, 0.75, lambda b: 3),
    "Atan": Unary(SINGLES, bound=lambda b: 2),
    "Sinh": Unary(SINGLES, 3, math.exp),
    "Cosh": Unary(SINGLES, 3, math.exp),
    "Asinh": Unary(SINGLES, bound=lambda b: 1 + b),
    "Tanh": Unary(FLOATS, bound=lambda b: 1),
    "Sigmoid": Unary(FLOATS, bound=lambda b: 1),
    "Erf": Unary(SINGLES, bound=lambda b: 1),
    "Floor": Unary(FLOATS, bound=lambda b: b + 1),
    "Ceil": Unary(FLOATS, bound=lambda b: b + 1),
    "Round": Unary(FLOATS, bound=lambda b: b + 1),
    "Relu": Unary((*FLOATS, "int32")),
    "LeakyRelu": Unary(SINGLES, attributes=("alpha",)),
    "Elu": Unary(SINGLES, attributes=("alpha",)),
    "Selu": Unary(SINGLES, bound=lambda b: 2 * b + 2),
    "Celu": Unary(("float32",), attributes=("alpha",), bound=lambda b: b + 2),
    "ThresholdedRelu": Unary(SINGLES, attributes=("alpha",)),
    "HardSigmoid": Unary(SINGLES, attributes=("alpha", "beta"), bound=lambda b: 1),
    "Softplus": Unary(SINGLES, bound=lambda b: b + 1),
    "Softsign": Unary(SINGLES, bound=lambda b: 1),
    "HardSwish": Unary(SINGLES, since=14),
    "Mish": Unary(SINGLES, since=18),
    "Shrink": Unary(SINGLES, attributes=("lambd", "bias"), bound=lambda b: b + 1),
    "IsNaN": Unary(FLOATS, since=9),
    "Not": Unary(("bool",)),
    "BitwiseNot": Unary(INTEGERS, bound=lambda b: b + 1, since=18),
}
PREDICATES = ("IsNaN",)


def _unary(name: str, row: Unary) -> None:
    @operator(name, weight=0.5, since=row.since, shallow=name not in PREDICATES)
    def add(graph: GraphBuilder) -> None:
        value = graph.pick(row.types)
        value = graph.tamed(value, row.limit)
        if row.positive:
            value = graph.positive(value)
        drawn = {key: round(graph.rng.uniform(0.1, 0.9), 3) for key in row.attributes if graph.rng.random() < 0.7}
        dtype = "bool" if name in PREDICATES else value.dtype
        bound = float(row.bound(value.bound)) if value.dtype != "uint8" else 255
        graph.one(name, [value], dtype, value.shape, bound, **drawn)


for _name, _row in UNARY.items():
    _unary(_name, _row)


def _pair(graph: GraphBuilder, types: tuple[str, ...]) -> tuple[Value, Value, Value]:
    """Two values that broadcast, in either order, and what an operation of them is like."""
    left = graph.pick(types)
    right = graph.partner(left)
    shape = broadcast(left.shape, right.shape)
    assert shape is not None
    if graph.rng.random() < 0.5:
        left, right = right, left
    return left, right, Value("", left.dtype, shape, max(left.bound, right.bound))


ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a + b,
    "Mul": lambda a, b: a * b,
}


def _arithmetic(name: str, bound: Callable[[float, float], float]) -> None:
    @operator(name, weight=3, shallow=True)
    def add(graph: GraphBuilder) -> None:
        left, right, result = _pair(graph, (*FLOATS, *WIDE))
        graph.like(name, [left, right], result, bound(left.bound, right.bound))


for _name, _bound in ARITHMETIC.items():
    _arithmetic(_name, _bound)


@operator("Div", weight=2, shallow=True)
def divide(graph: GraphBuilder) -> None:
    left, right, result = _pair(graph, (*FLOATS, *WIDE))
    if right.is_float:
        divisor = graph.positive(right)
    else:  # any integer but 0
        odd = graph.like("Mul", [right, graph.constant(2, right.dtype)], right, right.bound * 2)
        divisor = graph.like("Add", [odd, graph.constant(1, right.dtype)], right, right.bound * 2 + 1)
    graph.like("Div", [left, divisor], result, left.bound * 2)


@operator("Pow", shallow=True)
def power(graph: GraphBuilder) -> None:
    base, exponent, result = _pair(graph, SINGLES)
    if graph.rng.random() < 0.5:
        number = graph.rng.choice((2.0, 3.0, 0.5, 1.0, 2.5))
        base = graph.positive(graph.tamed(base, 8))
        graph.like("Pow", [base, graph.constant(number, base.dtype)], base, (base.bound + 1) ** number)
        return
    base, exponent = graph.positive(graph.tamed(base, 3)), graph.tamed(exponent, 2)
    graph.like("Pow", [base, exponent], result, 4**2)


@operator("Mod")
def modulo(graph: GraphBuilder) -> None:
    left, right, result = _pair(graph, ("float32", *WIDE))
    if left.is_float:
        graph.like("Mod", [left, graph.positive(right)], result, left.bound, fmod=1)
        return
    odd = graph.like("Mul", [right, graph.constant(2, right.dtype)], right, right.bound * 2)
    divisor = graph.like("Add", [odd, graph.constant(1, right.dtype)], right, right.bound * 2 + 1)
    graph.like("Mod", [left, divisor], result, divisor.bound + left.bound, fmod=graph.rng.randint(0, 1))


def _variadic(name: str, types: tuple[str, ...], adds: bool) -> None:
    @operator(name, shallow=True)
    def add(graph: GraphBuilder) -> None:
        first, second, result = _pair(graph, types)
        inputs, bound = [first, second], max(first.bound, second.bound)
        third = graph.partner(result)
        shape = broadcast(result.shape, third.shape)
        if graph.rng.random() < 0.4 and shape is not None:
            inputs, bound = [*inputs, third], max(bound, third.bound)
            result = Value("", result.dtype, shape)
        graph.like(name, inputs, result, bound * (3 if adds else 1))


_variadic("Max", (*FLOATS, *WIDE), False)
_variadic("Min", (*FLOATS, *WIDE), False)
_variadic("Sum", SINGLES, True)
_variadic("Mean", SINGLES, True)


def _comparison(name: str, types: tuple[str, ...]) -> None:
    @operator(name)
    def add(graph: GraphBuilder) -> None:
        left, right, result = _pair(graph, types)
        graph.one(name, [left, right], "bool", result.shape, 1)


for _name in ("Less", "Greater", "LessOrEqual", "GreaterOrEqual"):
    _comparison(_name, (*FLOATS, *WIDE))
_comparison("Equal", (*WIDE, "bool", "float32"))
for _name in ("And", "Or", "Xor"):
    _comparison(_name, ("bool",))


def _bitwise(name: str) -> None:
    @operator(name, since=18)
    def add(graph: GraphBuilder) -> None:
        left, right, result = _pair(graph, (*WIDE, "uint8"))
        graph.like(name, [left, right], result, 255 if left.dtype == "uint8" else 2 * result.bound + 2)


for _name in ("BitwiseAnd", "BitwiseOr", "BitwiseXor"):
    _bitwise(_name)


@operator("BitShift")
def shift(graph: GraphBuilder) -> None:
    value = graph.pick(("uint8",))
    amount = graph.constant(graph.rng.randint(0, 7), "uint8")
    graph.like("BitShift", [value, amount], value, 255, direction=graph.rng.choice(("LEFT", "RIGHT")))


@operator("Where", weight=2)
def where(graph: GraphBuilder) -> None:
    left, right, result = _pair(graph, (*FLOATS, *WIDE, "uint8"))
    condition = graph.partner(result, ("bool",))
    shape = broadcast(condition.shape, result.shape)
    if shape is None:
        raise Unfit
    graph.one("Where", [condition, left, right], left.dtype, shape, result.bound)


@operator("Clip", shallow=True)
def clip(graph: GraphBuilder) -> None:
    value = graph.pick((*FLOATS, *WIDE, *NARROW))
    low = graph.rng.randint(0, 2) if value.dtype == "uint8" else graph.rng.randint(-3, 1)
    high = low + graph.rng.randint(0, 4)
    edges: list[str] = [graph.constant(edge, value.dtype) for edge in (low, high)]
    missing = graph.rng.choice((None, None, 0, 1))
    if missing is not None:
        edges[missing] = ""
    graph.like("Clip", [value, *edges], value, max(value.bound, abs(low), abs(high)))


@operator("PRelu", shallow=True)
def parametric_relu(graph: GraphBuilder) -> None:
    value = graph.pick(SINGLES, range(1, 5))
    slope = graph.fresh(value.dtype, tuple(value.shape[-1:]), -1, 1)
    graph.like("PRelu", [value, slope], value)


@operator("Gelu", since=20, shallow=True)
def gelu(graph: GraphBuilder) -> None:
    value = graph.pick(SINGLES)
    graph.like("Gelu", [value], value, approximate=graph.rng.choice(("none", "tanh")))


@operator("Cast", weight=2)
def cast(graph: GraphBuilder) -> None:
    value = graph.pick(ANY)
    target = graph.rng.choice([kind for kind in sorted(set(ANY)) if kind != value.dtype])
    limit = {"uint8": 200.0, "int8": 100.0, "float16": 60.0, "bool": math.inf}.get(target, 1e6)
    if value.is_float and target in INTEGERS:  # what does not fit has no meaning
        value = graph.tamed(value, limit)
        if target == "uint8":
            value = graph.like("Abs", [value], value)
    elif (target == "uint8" and value.dtype != "bool") or value.bound > limit:
        value = graph.like("Abs", [graph.tamed(value, min(limit, 100.0))], value, 100)
    to = {"bool": 9, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "float16": 10, "float32": 1, "float64": 11}[target]
    graph.one("Cast", [value], target, value.shape, 1 if target == "bool" else value.bound, to=to)

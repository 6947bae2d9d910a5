"""Matrix products in all their forms, with sizes that tensor-core tiles like and sizes that they do not; recurrences.

In: a graph. Out: one more node.
"""

from __future__ import annotations

from tilewright.runtime.symbolic import Expression, expression

from ..graph_builder import SINGLES, GraphBuilder, Shape, Unfit, Value, broadcast
from .registry import operator

EXTENTS = (1, 2, 3, 5, 8, 16, 16, 17, 32, 48)
TYPES = (*SINGLES, "float64")


def _extent(graph: GraphBuilder) -> Expression:
    return graph.dimension() if graph.rng.random() < 0.3 else expression(graph.rng.choice(EXTENTS))


def _product_bound(graph: GraphBuilder, left: Value, right: Value, size: Expression) -> float:
    return left.bound * right.bound * graph.elements((size,))


@operator("MatMul", weight=4)
def matmul(graph: GraphBuilder) -> None:
    left = graph.tamed(graph.pick(TYPES, range(1, 5)), 4)
    inner = left.shape[-1]
    if left.rank == 1:
        right = graph.fresh(left.dtype, (inner, _extent(graph)), -1, 1)
        graph.one("MatMul", [left, right], left.dtype, right.shape[1:], _product_bound(graph, left, right, inner))
        return
    found = [
        other
        for other in graph.visible()
        if other.dtype == left.dtype
        and other.known
        and other.rank >= 2
        and other.shape[-2] == inner
        and other.bound <= 4
    ]
    if found and graph.rng.random() < 0.4:
        right = graph.rng.choice(found)
    else:
        batch: Shape = ()
        if graph.rng.random() < 0.4:
            batch = tuple(size if graph.rng.random() < 0.7 else expression(1) for size in left.shape[:-2])
        right = graph.fresh(left.dtype, (*batch, inner, _extent(graph)), -1, 1)
    outer = broadcast(left.shape[:-2], right.shape[:-2])
    if outer is None:
        raise Unfit
    shape = (*outer, left.shape[-2], right.shape[-1])
    graph.one("MatMul", [left, right], left.dtype, shape, _product_bound(graph, left, right, inner))


@operator("Gemm", weight=2)
def gemm(graph: GraphBuilder) -> None:
    left = graph.tamed(graph.pick(TYPES, (2,)), 4)
    flags = {"transA": graph.rng.randint(0, 1), "transB": graph.rng.randint(0, 1)}
    rows, inner = reversed(left.shape) if flags["transA"] else left.shape
    columns = _extent(graph)
    right = graph.fresh(left.dtype, (columns, inner) if flags["transB"] else (inner, columns), -1, 1)
    inputs = [left, right]
    one = expression(1)
    if graph.rng.random() < 0.7:
        shapes: tuple[Shape, ...] = ((columns,), (rows, columns), (one, columns), (rows, one), ())
        inputs.append(graph.fresh(left.dtype, graph.rng.choice(shapes)))
    scales = {key: graph.rng.choice((0.5, 1.0, -1.5)) for key in ("alpha", "beta") if graph.rng.random() < 0.4}
    bound = 2 * _product_bound(graph, left, right, inner) + 4
    graph.one("Gemm", inputs, left.dtype, (rows, columns), bound, **flags, **scales)


EQUATIONS = (
    "ij,jk->ik",
    "bij,bjk->bik",
    "bij,bkj->bik",
    "ij,kj->ki",
    "bhid,bhjd->bhij",
    "ij,ij->i",
    "i,j->ij",
    "bij,jk->bki",
    "ijj->ij",
)


@operator("Einsum", weight=1)
def einsum(graph: GraphBuilder) -> None:
    equation = graph.rng.choice(EQUATIONS)
    terms, result = equation.split("->")
    sizes = {
        letter: expression(graph.rng.choice((1, 2, 3, 4, 8, 16)))
        for letter in sorted(set(result + terms))
        if letter.isalpha()
    }
    if graph.rng.random() < 0.4:
        sizes[result[0]] = graph.dimension()
    dtype = graph.rng.choice(("float32", "float32", "float64"))
    inputs = [graph.fresh(dtype, tuple(sizes[letter] for letter in term), -1, 1) for term in terms.split(",")]
    graph.one("Einsum", inputs, dtype, [sizes[letter] for letter in result], 64, equation=equation)


@operator("MatMulInteger")
def integer_matmul(graph: GraphBuilder) -> None:
    rows, inner, columns = _extent(graph), _extent(graph), _extent(graph)
    left = graph.fresh(graph.rng.choice(("uint8", "int8")), (rows, inner))
    right = graph.fresh(graph.rng.choice(("uint8", "int8")), (inner, columns))
    points = [graph.constant(graph.rng.randint(0, 5), value.dtype) for value in (left, right)]
    kept = points[: graph.rng.randint(0, 2)]
    graph.one("MatMulInteger", [left, right, *kept], "int32", (rows, columns), 25 * 25 * graph.elements((inner,)))


@operator("QuantizeLinear")
def quantise(graph: GraphBuilder) -> None:
    """To 8 bits and back."""
    value = graph.pick(("float32",), range(1, 5))
    scale = graph.constant(graph.rng.choice((0.02, 0.1, 0.5)), "float32")
    dtype = graph.rng.choice(("uint8", "int8"))
    point = graph.constant(graph.rng.randint(0, 20), dtype)
    quantised = graph.one("QuantizeLinear", [value, scale, point], dtype, value.shape, 255 if dtype == "uint8" else 127)
    if graph.rng.random() < 0.7:
        graph.one("DequantizeLinear", [quantised, scale, point], "float32", value.shape, 150)


@operator("QLinearMatMul")
def quantised_matmul(graph: GraphBuilder) -> None:
    rows, inner, columns = _extent(graph), _extent(graph), _extent(graph)
    dtype = graph.rng.choice(("uint8", "int8"))
    left, right = graph.fresh(dtype, (rows, inner)), graph.fresh(dtype, (inner, columns))
    inputs: list[Value | str] = []
    for value in (left, right):
        inputs += [value, graph.constant(0.1, "float32"), graph.constant(graph.rng.randint(0, 9), dtype)]
    inputs += [graph.constant(graph.rng.choice((0.5, 2.0)), "float32"), graph.constant(3, dtype)]
    graph.one("QLinearMatMul", inputs, dtype, (rows, columns), 255 if dtype == "uint8" else 127)


def _recurrent(name: str, gates: int) -> None:
    @operator(name, weight=0.5)
    def add(graph: GraphBuilder) -> None:
        steps, batch = graph.dimension(), graph.dimension()
        if name == "RNN":  # whose number of steps has to be static
            steps = expression(graph.rng.choice((1, 2, 5, 8)))
        features, hidden = graph.rng.choice((1, 3, 8)), graph.rng.choice((1, 4, 8))
        direction = graph.rng.choice(("forward", "reverse", "bidirectional"))
        ways = expression(2 if direction == "bidirectional" else 1)
        if graph.smallest(steps) < 1:
            raise Unfit
        value = graph.fresh("float32", (steps, batch, expression(features)), -1, 1)
        weights = graph.fresh("float32", (ways, expression(gates * hidden), expression(features)), -1, 1)
        again = graph.fresh("float32", (ways, expression(gates * hidden), expression(hidden)), -1, 1)
        inputs = [value, weights, again]
        if graph.rng.random() < 0.5:
            inputs.append(graph.fresh("float32", (ways, expression(2 * gates * hidden)), -1, 1))
        state = Value("", "float32", (ways, batch, expression(hidden)), 1.0)
        outputs = [Value("", "float32", (steps, *state.shape), state.bound), state]
        outputs += [Value("", "float32", state.shape, 40)] * (name == "LSTM")
        attributes = {"linear_before_reset": graph.rng.randint(0, 1)} if name == "GRU" else {}
        graph.node(name, inputs, outputs, hidden_size=hidden, direction=direction, **attributes)


for _name, _gates in (("RNN", 1), ("GRU", 3), ("LSTM", 4)):
    _recurrent(_name, _gates)


@operator("Attention", since=23)
def attention(graph: GraphBuilder) -> None:
    batch, heads, queries, keys = graph.dimension(), graph.rng.choice((1, 2, 4)), graph.dimension(), graph.dimension()
    if graph.smallest(keys) < 1:
        raise Unfit
    width = expression(graph.rng.choice((4, 8, 16)))
    query = graph.fresh("float32", (batch, expression(heads), queries, width), -1, 1)
    key, value = (graph.fresh("float32", (batch, expression(heads), keys, width), -1, 1) for _ in range(2))
    graph.one("Attention", [query, key, value], "float32", query.shape, 1, is_causal=graph.rng.randint(0, 1))

"""The graph interpreter against numpy and onnx's reference: it is what every other part is compared with."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from tests.passes.graph.programs import build, noise

from tilewright.dialects import graph_builder
from tilewright.passes.graph import numpy_operations
from tilewright.passes.graph.interpret import interpret
from tilewright.passes.graph.numpy_operations import Window
from tilewright.passes.graph.scalar_semantics import _ELEMENTWISE, _compare_floats
from tilewright.runtime.errors import InternalError, ModelError

# float32 sums of at most 100 products of normal numbers against float64.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def _naive_convolution(x: np.ndarray, w: np.ndarray, groups: int, window: Window) -> np.ndarray:
    """Cross-correlation by definition, in float64."""
    rank = x.ndim - 2
    low, high = window.pads[:rank], window.pads[rank:]
    padded = np.pad(x.astype(np.float64), [(0, 0), (0, 0), *zip(low, high, strict=True)])
    kernel = w.shape[2:]
    sizes = [
        (padded.shape[2 + d] - (kernel[d] - 1) * window.dilations[d] - 1) // window.strides[d] + 1 for d in range(rank)
    ]
    result = np.zeros((x.shape[0], w.shape[0], *sizes))
    per_group, outputs = x.shape[1] // groups, w.shape[0] // groups
    for position in np.ndindex(*sizes):
        corner = [p * s for p, s in zip(position, window.strides, strict=True)]
        view = tuple(slice(c, c + (k - 1) * d + 1, d) for c, k, d in zip(corner, kernel, window.dilations, strict=True))
        for o in range(w.shape[0]):
            first = o // outputs * per_group
            seen = padded[(slice(None), slice(first, first + per_group), *view)]
            axes = tuple(range(1, seen.ndim))
            result[(slice(None), o, *position)] = (seen * w[o].astype(np.float64)).sum(axes)
    return result


CASES = [
    ((2, 4, 9), (6, 4, 3), 1, Window((2,), (1, 1), (1,))),
    ((1, 4, 7, 8), (6, 2, 3, 2), 2, Window((1, 2), (1, 0, 2, 1), (1, 1))),
    ((2, 4, 6, 6), (4, 1, 3, 3), 4, Window((1, 1), (2, 2, 2, 2), (2, 2))),
    ((1, 2, 4, 4, 4), (3, 2, 2, 2, 2), 1, Window((1, 1, 1), (0,) * 6, (1, 1, 1))),
]


@pytest.mark.parametrize("shape, weight, groups, window", CASES)
def test_convolution_by_definition(
    shape: tuple[int, ...], weight: tuple[int, ...], groups: int, window: Window
) -> None:
    x, w = noise(1, *shape), noise(2, *weight)
    expected = _naive_convolution(x, w, groups, window)
    actual = numpy_operations.convolution(x, w, groups, window, expected.shape[2:], np.dtype(np.float32))
    np.testing.assert_allclose(actual, expected, **CLOSE)


@pytest.mark.parametrize("shape, weight, groups, window", CASES)
def test_convolution_transpose_is_the_adjoint(
    shape: tuple[int, ...], weight: tuple[int, ...], groups: int, window: Window
) -> None:
    """<convolution(x), y> = <x, convolution_transpose(y)> for every x and y."""
    x, w = noise(1, *shape), noise(2, *weight)
    forward = _naive_convolution(x, w, groups, window)
    y = noise(3, *forward.shape)
    back = numpy_operations.convolution_transpose(y, w, groups, window, shape[2:], np.dtype(np.float32))
    assert back.shape == x.shape
    assert np.vdot(forward, y) == pytest.approx(np.vdot(x.astype(np.float64), back), rel=1e-4, abs=1e-3)


def test_channels_last_is_channels_first_transposed() -> None:
    x, w = noise(1, 2, 4, 5, 6), noise(2, 6, 2, 3, 3)

    def first(x, weight):
        y = graph_builder.convolution(x, weight("w"), 2, [1, 2], [1, 1, 1, 1], [1, 1])
        return [graph_builder.pool(y, "average", [2, 2], [1, 1], [1, 0, 0, 1], [1, 1])]

    unit = build({"x": x.shape}, first, {"w": w})
    expected = interpret(unit, {"x": x})["y0"]
    last = Window((1, 2), (1, 1, 1, 1), (1, 1))
    convolved = _naive_convolution(x, w, 2, last)
    padded = np.pad(convolved, [(0, 0), (0, 0), (1, 0), (0, 1)], constant_values=np.nan)
    stacked = np.stack(
        [padded[:, :, i : i + convolved.shape[2], j : j + convolved.shape[3]] for i in (0, 1) for j in (0, 1)]
    )
    np.testing.assert_allclose(expected, np.nanmean(stacked, axis=0), **CLOSE)


@pytest.mark.parametrize("include_padding", [False, True])
def test_average_pool_counts_padding_as_asked(include_padding: bool) -> None:
    x = np.ones((1, 1, 2, 2), np.float32)
    window = Window((1, 1), (1, 1, 1, 1), (1, 1))
    pooled = numpy_operations.pool(x, "average", (3, 3), window, include_padding, (2, 2))
    np.testing.assert_allclose(pooled, np.full((1, 1, 2, 2), 4 / 9 if include_padding else 1.0), rtol=1e-6)


def test_max_pool_of_negative_values_ignores_padding() -> None:
    window = Window((1, 1), (1, 1, 1, 1), (1, 1))
    pooled = numpy_operations.pool(np.full((1, 1, 2, 2), -3.0, np.float32), "max", (3, 3), window, False, (2, 2))
    assert (pooled == -3).all()


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("operator", ["LSTM", "GRU"])
def test_recurrences_agree_with_onnx(operator: str, direction: str) -> None:
    steps, batch, inputs, hidden = 4, 2, 3, 5
    gates = 4 if operator == "LSTM" else 3
    x, w, r = noise(1, steps, batch, inputs), noise(2, 1, gates * hidden, inputs), noise(3, 1, gates * hidden, hidden)
    b, h0, c0 = noise(4, 1, 2 * gates * hidden), noise(5, 1, batch, hidden), noise(6, 1, batch, hidden)
    names = ["x", "w", "r", "b", "", "h0"] + (["c0"] if operator == "LSTM" else [])
    node = onnx.helper.make_node(operator, names, ["y", "y_h"], hidden_size=hidden, direction="forward")
    shapes = {"x": x, "w": w, "r": r, "b": b, "h0": h0, "c0": c0}
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shapes[name].shape) for name in names if name
    ]
    outputs = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("y", "y_h")]
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", values, outputs))
    # The reference evaluator runs forward only; running backwards is running forward on the reversed sequence.
    given = {**shapes, "x": x[::-1].copy() if direction == "reverse" else x}
    fed = {name: given[name] for name in names if name}
    y, y_h = ReferenceEvaluator(model).run(None, fed)
    reverse = direction == "reverse"
    own_bias, recurrent_bias = b[0, : gates * hidden], b[0, gates * hidden :]
    projected = x @ w[0].T + own_bias
    if operator == "LSTM":
        mine = numpy_operations.lstm(
            projected + recurrent_bias, r[0], h0[0], c0[0], np.zeros(3 * hidden, np.float32), reverse
        )
    else:
        mine = numpy_operations.gru(projected, r[0], recurrent_bias, h0[0], reverse, False)
    expected = y[::-1, 0] if reverse else y[:, 0]
    np.testing.assert_allclose(mine[0], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(mine[1], y_h[0], rtol=1e-5, atol=1e-6)


def test_movements_against_numpy() -> None:
    x = noise(1, 3, 4, 5)

    def body(x, weight):
        padded = graph_builder.pad(x, graph_builder.constant(np.float32(7)), [0, 1, -1], [0, 2, -1])
        sliced = graph_builder.slice(x, [2, 0, 4], [3, 2, 3], [-1, 2, -2])
        joined = graph_builder.concatenate([x, graph_builder.transpose(x, [0, 1, 2]), x], 1)
        return [padded, sliced, joined, graph_builder.broadcast(graph_builder.reshape(x, [3, 1, 20]), [3, 2, 20])]

    results = interpret(build({"x": x.shape}, body), {"x": x})
    np.testing.assert_array_equal(results["y0"], np.pad(x, [(0, 0), (1, 2), (0, 0)], constant_values=7)[:, :, 1:-1])
    np.testing.assert_array_equal(results["y1"], x[::-1, ::2, ::-2])
    np.testing.assert_array_equal(results["y2"], np.concatenate([x, x, x], 1))
    np.testing.assert_array_equal(results["y3"], np.broadcast_to(x.reshape(3, 1, 20), (3, 2, 20)))


def test_reductions_and_scans_against_numpy() -> None:
    x = noise(1, 3, 4, 5)

    def body(x, weight):
        return [
            graph_builder.reduce(x, "sum", [0, 2]),
            graph_builder.reduce(x, "max", [1]),
            graph_builder.arg_reduce(x, "min", 2),
            graph_builder.scan(x, "sum", 1, exclusive=True, reverse=True),
        ]

    results = interpret(build({"x": x.shape}, body), {"x": x})
    np.testing.assert_allclose(results["y0"], x.sum((0, 2), keepdims=True), rtol=1e-6)
    np.testing.assert_array_equal(results["y1"], x.max(1, keepdims=True))
    np.testing.assert_array_equal(results["y2"], x.argmin(2)[:, :, None])
    shifted = np.concatenate([np.zeros((3, 1, 5)), np.cumsum(x[:, ::-1], axis=1)[:, :-1]], 1)[:, ::-1]
    np.testing.assert_allclose(results["y3"], shifted, rtol=1e-5, atol=1e-6)


def test_symbols_are_bound_from_input_shapes() -> None:
    def body(x, weight):
        return [graph_builder.map([x], lambda e: e * graph_builder.dimension("n*2").cast("f32"))]

    unit = build({"x": ["n", 3]}, body)
    assert interpret(unit, {"x": np.ones((4, 3), np.float32)})["y0"].tolist() == [[8.0] * 3] * 4


@pytest.mark.parametrize(
    "inputs, message",
    [
        ({}, "input 'x' is missing"),
        ({"x": np.ones((1, 3), np.float64)}, "input 'x' has dtype float64, expected float32"),
        ({"x": np.ones((1, 4), np.float32)}, r"input 'x' has shape \(1, 4\), expected \(1, 3\)"),
    ],
)
def test_wrong_inputs_are_named(inputs: dict[str, np.ndarray], message: str) -> None:
    unit = build({"x": ["n", 3]}, lambda x, weight: [x])
    with pytest.raises(ModelError, match=message):
        interpret(unit, inputs)


def test_a_wrong_result_type_is_an_internal_error() -> None:
    def body(x, weight):
        return [graph_builder.build("transpose", [2, 3], "f32", [x], permutation=[1, 0])]

    with pytest.raises(InternalError, match=r"'graph.transpose' gave shape \(3, 2\)"):
        interpret(build({"x": [2, 3]}, body), {"x": np.ones((2, 3), np.float32)})


def test_trace_sees_every_operation() -> None:
    seen: list[str] = []
    unit = build({"x": [2]}, lambda x, weight: [graph_builder.map([x], lambda e: e + 1.0)])
    interpret(unit, {"x": np.zeros(2, np.float32)}, trace=lambda operation, results: seen.append(operation.name))
    assert seen == ["graph.map"]


# Scalars ------------------------------------------------------------------------------------------------------
INTEGERS = [
    ("arith.divsi", -7, 2, -3),
    ("arith.divsi", 7, -2, -3),
    ("arith.remsi", -7, 2, -1),
    ("arith.divui", -1, 2, 127),
    ("arith.remui", -1, 10, 5),
    ("arith.shrui", -128, 3, 16),
    ("arith.shrsi", -128, 3, -16),
    ("arith.maxui", -1, 1, -1),
    ("arith.maxsi", -1, 1, 1),
    ("arith.addi", 127, 1, -128),
    ("math.ipowi", -1, -3, -1),
    ("math.ipowi", 2, -1, 0),
]


@pytest.mark.parametrize("name, left, right, expected", INTEGERS)
def test_eight_bit_integers(name: str, left: int, right: int, expected: int) -> None:
    with np.errstate(all="ignore"):
        result = _ELEMENTWISE[name](np.array([left], np.int8), np.array([right], np.int8))
    assert result.dtype == np.int8 and result.tolist() == [expected]


@pytest.mark.parametrize(
    "predicate, with_nan, smaller, equal",
    [
        (1, False, False, True),
        (4, False, True, False),
        (6, False, True, False),
        (13, True, True, False),
        (7, False, True, True),
        (14, True, False, False),
        (11, True, True, False),
        (3, False, False, True),
    ],
)
def test_float_comparisons_with_nan(predicate: int, with_nan: bool, smaller: bool, equal: bool) -> None:
    left = np.array([np.nan, 1, 2], np.float32)
    right = np.array([1, 2, 2], np.float32)
    assert _compare_floats(predicate, left, right).tolist() == [with_nan, smaller, equal]


def test_unsigned_tensors_are_signless_in_bodies() -> None:
    def body(x, weight):
        return [graph_builder.map([x], lambda e: (e.cast("i32") + 1).cast("ui8"))]

    unit = build({"x": [3]}, body, elements={"x": "ui8"})
    result = interpret(unit, {"x": np.array([0, 200, 255], np.uint8)})["y0"]
    assert result.dtype == np.uint8 and result.tolist() == [1, 201, 0]


def test_out_of_order_gather() -> None:
    x = noise(1, 4, 3)

    def body(x, weight):
        return [
            graph_builder.map(
                [],
                lambda: graph_builder.element_at(x, [3 - graph_builder.index(0), graph_builder.index(1)]),
                shape=[4, 3],
            )
        ]

    np.testing.assert_array_equal(interpret(build({"x": [4, 3]}, body), {"x": x})["y0"], x[::-1])

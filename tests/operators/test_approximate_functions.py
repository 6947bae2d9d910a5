"""In f16 and bf16 exponentials and quotients are approximate: near enough, and exact where it shows."""

import math

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import tilewright

NARROW = {
    "f16": (np.dtype(np.float16), TensorProto.FLOAT16),
    "bf16": (np.dtype(ml_dtypes.bfloat16), TensorProto.BFLOAT16),
}


def run(nodes, x, kind, precision):
    inputs = [helper.make_tensor_value_info("x", kind, x.shape)]
    graph = helper.make_graph(nodes, "approximate", inputs, [helper.make_tensor_value_info("y", kind, x.shape)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    engine = tilewright.compile(model, precision=precision)
    with engine.session(device="emulator") as session:
        return session.run({"x": x})["y"], "".join(map(engine.ptx, engine.kernels))


@pytest.mark.parametrize("precision", NARROW)
def test_silu_is_roundings_away(precision):
    """Numbers from tiny to the largest, where exp(-x) is infinite, and no number."""
    dtype, kind = NARROW[precision]
    largest = float(ml_dtypes.finfo(dtype).max)
    x = np.concatenate([np.linspace(-85, 85, 721), [largest, -largest, np.inf, np.nan, 1e-4, -1e-4, 0.0]]).astype(dtype)
    nodes = [helper.make_node("Sigmoid", ["x"], ["s"]), helper.make_node("Mul", ["x", "s"], ["y"])]
    answer, ptx = run(nodes, x, kind, precision)
    wide = x.astype(np.float64)
    with np.errstate(all="ignore"):
        expected = wide / (1 + np.exp(-wide))
    # The model rounds to its narrow type twice, by eps / 2 or to a subnormal (times |x|); f32 errs by 2^-16 at most.
    limits = ml_dtypes.finfo(dtype)
    np.testing.assert_allclose(
        answer.astype(np.float64), expected, rtol=float(limits.eps) * 1.02, atol=85 * float(limits.smallest_subnormal)
    )
    assert "rcp.approx.ftz.f32" in ptx and "div." not in ptx


def _erf_of_halves() -> list[onnx.NodeProto]:
    """GELU as PyTorch exports it in f16, whose square root of two has 11 bits."""
    numbers = {"root": 2**0.5, "one": 1.0, "half": 0.5}
    values = [helper.make_tensor(name, TensorProto.FLOAT16, [], [number]) for name, number in numbers.items()]
    return [
        *(helper.make_node("Constant", [], [value.name], value=value) for value in values),
        helper.make_node("Div", ["x", "root"], ["scaled"]),
        helper.make_node("Erf", ["scaled"], ["erf"]),
        helper.make_node("Add", ["erf", "one"], ["sum"]),
        helper.make_node("Mul", ["x", "sum"], ["product"]),
        helper.make_node("Mul", ["product", "half"], ["y"]),
    ]


def _exact_gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * np.frompyfunc(math.erfc, 1, 1)(-x / math.sqrt(2)).astype(np.float64)


def _gelu_by_tanh(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


GELUS = {
    "erf": ([helper.make_node("Gelu", ["x"], ["y"])], _exact_gelu, 0.0),
    # By x d log Phi / dx = x^2 times the relative error of the root, 2^-14, for x^2 up to 36.
    "erf of halves": (_erf_of_halves(), _exact_gelu, 36 * 2**-14),
    "tanh": ([helper.make_node("Gelu", ["x"], ["y"], approximate="tanh")], _gelu_by_tanh, 0.0),
}


@pytest.mark.parametrize("name", GELUS)
def test_gelu_in_f16(name):
    """All of f16 from -12 to 12, its largest numbers, infinity and none; tails, too, to a part of a unit."""
    nodes, reference, given = GELUS[name]
    x = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    x = np.concatenate([x[np.abs(x) <= 12], np.array([-65504, 65504, np.inf, np.nan], np.float16)])
    answer, ptx = run(nodes, x, TensorProto.FLOAT16, "f16")
    with np.errstate(all="ignore"):
        expected = reference(x.astype(np.float64))
    # Half a unit of f16 is 2^-11. Of the polynomial 3.5e-5; exponents of up to 36 * 1.44 in f32 have 2^-19 at most.
    limit = 2**-11 + 2**-19 + (given or 3.5e-5)
    np.testing.assert_allclose(answer.astype(np.float64)[:-4], expected[:-4], rtol=limit, atol=2**-25 + 6.1e-9)
    np.testing.assert_array_equal(answer[-4:], np.array([0, 65504, np.inf, np.nan], np.float16))
    assert "div." not in ptx and "setp.lt" not in ptx and "abs.ftz" not in ptx


def test_softmax_in_f16():
    x = np.random.default_rng(0).normal(0, 20, (4, 1000)).astype(np.float16)
    answer, ptx = run([helper.make_node("Softmax", ["x"], ["y"])], x, TensorProto.FLOAT16, "f16")
    powers = np.exp(x.astype(np.float64) - x.astype(np.float64).max(1, keepdims=True))
    # f16's rounding, 2^-11, and its smallest number; exponents up to 100 add 100 * 2^-23.
    np.testing.assert_allclose(answer, powers / powers.sum(1, keepdims=True), rtol=2**-10.9, atol=2**-24)
    assert "div.rn.f32" not in ptx


def test_what_is_rounded_down_stays_exact():
    x = np.arange(-2000, 2000).astype(np.float16)
    nodes = [
        helper.make_node("Constant", [], ["three"], value=helper.make_tensor("", TensorProto.FLOAT16, [], [3.0])),
        helper.make_node("Div", ["x", "three"], ["third"]),
        helper.make_node("Floor", ["third"], ["y"]),
    ]
    answer, ptx = run(nodes, x, TensorProto.FLOAT16, "f16")
    exact = (x.astype(np.float32) / np.float32(3)).astype(np.float16)
    np.testing.assert_array_equal(answer, np.floor(exact))
    assert "div.full" not in ptx


@pytest.mark.parametrize("precision", ["strict", "tf32"])
def test_f32_is_exact(precision):
    x = np.linspace(-5, 5, 300, dtype=np.float32)
    _, ptx = run([helper.make_node("Softmax", ["x"], ["y"])], x, TensorProto.FLOAT, precision)
    assert "div.rn.f32" in ptx and "div.full" not in ptx

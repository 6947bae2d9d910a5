"""Products of half-precision tensors whose lines are scaled, in the ways that models write it, against float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import tilewright
from tilewright.runtime.sanitizing import parse_order, sanitize

ROWS, DEPTH = 64, 128
Array = NDArray[np.generic]
_random = np.random.default_rng(0)
W, V = ((0.1 * _random.standard_normal((DEPTH, DEPTH))).astype(np.float16) for _ in range(2))
ONE = np.ones(DEPTH, np.float16)


def _norm(x: Array) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    return np.asarray(centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5))


Case = tuple[list[tuple[str, list[str], str]], dict[str, tuple[int, ...]], Callable[..., Array]]
CASES: dict[str, Case] = {
    "a scalar that the model is given": (
        [("Mul", ["x", "s"], "a"), ("MatMul", ["a", "w"], "y")], {"s": ()}, lambda x, s: (x * s) @ W,
    ),
    "a number of each line, times and plus": (
        [("Mul", ["x", "s"], "a"), ("Add", ["a", "s"], "b"), ("MatMul", ["b", "w"], "y")],
        {"s": (ROWS, 1)}, lambda x, s: (x * s + s) @ W,
    ),
    "a norm in f32, then a mask in f16": (
        [
            ("Cast:1", ["x"], "wide"), ("ReduceL2", ["wide", "last"], "root"), ("Div", ["wide", "root"], "n"),
            ("Cast:10", ["n"], "half"), ("Mul", ["half", "s"], "a"), ("MatMul", ["a", "w"], "y"),
        ],
        {"s": (ROWS, 1)}, lambda x, s: (x / np.sqrt((x**2).sum(-1, keepdims=True)) * s) @ W,
    ),
    "a product in front, without a bias": (
        [("MatMul", ["x", "w"], "p"), ("LayerNormalization", ["p", "one"], "n"), ("MatMul", ["n", "v"], "y")],
        {}, lambda x: _norm(x @ W) @ V,
    ),
}  # fmt: skip


def compiled(nodes: list[tuple[str, list[str], str]], inputs: dict[str, tuple[int, ...]]) -> tilewright.Engine:
    """The model in f16, for wgmma."""
    made = []
    for name, operands, result in nodes:
        operator, _, element = name.partition(":")
        attributes = {"to": int(element)} if element else {}
        made.append(helper.make_node(operator, operands, [result], **attributes))
    half = TensorProto.FLOAT16
    shapes = {"x": (ROWS, DEPTH), **inputs}
    constants = {"w": W, "v": V, "one": ONE, "last": np.array([-1])}
    graph = helper.make_graph(
        made,
        "lines",
        [helper.make_tensor_value_info(name, half, shape) for name, shape in shapes.items()],
        [helper.make_tensor_value_info("y", half, [ROWS, DEPTH])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return tilewright.compile(onnx.shape_inference.infer_shapes(model), target="sm_90a")


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_lines_that_are_scaled(case: Case) -> None:
    nodes, shapes, exact = case
    random = np.random.default_rng(1)
    inputs = {name: random.uniform(0.5, 2, shape).astype(np.float16) for name, shape in shapes.items()}
    inputs["x"] = random.standard_normal((ROWS, DEPTH)).astype(np.float16)
    with compiled(nodes, shapes).session("emulator", checked=True) as session:
        found = session.run(inputs)["y"].astype(np.float64)
    wanted = exact(**{name: array.astype(np.float64) for name, array in inputs.items()})
    # Operands and results in 11 bits: 2^-11 of the largest, and as much once more for what is stored in between.
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2**-10 * float(np.abs(wanted).max()))


def test_a_quotient_by_a_number_next_to_zero() -> None:
    """One over it is no half, the quotient is."""
    nodes = [("Div", ["x", "s"], "a"), ("MatMul", ["a", "w"], "y")]
    x = (1e-5 * np.random.default_rng(1).standard_normal((ROWS, DEPTH))).astype(np.float16)
    s = np.full((ROWS, 1), 1.2e-5, np.float16)
    with compiled(nodes, {"s": (ROWS, 1)}).session("emulator", checked=True) as session:
        found = session.run({"x": x, "s": s})["y"].astype(np.float64)
    wanted = x.astype(np.float64) / s.astype(np.float64) @ W
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2**-10 * float(np.abs(wanted).max()))  # as above


def _silu(x: Array) -> Array:
    return np.asarray(x / (1 + np.exp(-x)))


GAMMA, BETA = (_random.uniform(0.5, 1.5, 520).astype(np.float16), _random.standard_normal(520).astype(np.float16))
U, GATE = ((0.05 * _random.standard_normal((520, 256))).astype(np.float16) for _ in range(2))
Few = tuple[list[onnx.NodeProto], Callable[[Array], Array]]
FEW: dict[str, Few] = {
    "layer norm and bias": (
        [
            helper.make_node("LayerNormalization", ["x", "gamma", "beta"], ["n"]),
            helper.make_node("MatMul", ["n", "u"], ["p"]), helper.make_node("Add", ["p", "bias"], ["y"]),
        ],
        lambda x: (_norm(x) * GAMMA.astype(float) + BETA.astype(float)) @ U.astype(float) + BETA[:256].astype(float),
    ),
    "root mean square and a gate": (
        [
            helper.make_node("RMSNormalization", ["x", "gamma"], ["n"]),
            helper.make_node("MatMul", ["n", "gate"], ["g"]), helper.make_node("MatMul", ["n", "u"], ["v"]),
            helper.make_node("Sigmoid", ["g"], ["s"]), helper.make_node("Mul", ["g", "s"], ["silu"]),
            helper.make_node("Mul", ["silu", "v"], ["y"]),
        ],
        lambda x: (
            _silu((n := x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * GAMMA.astype(float)) @ GATE.astype(float))
            * (n @ U.astype(float))
        ),
    ),
    "tied weights, lines along k": (
        [
            helper.make_node("LayerNormalization", ["x", "gamma", "beta"], ["n"]),
            helper.make_node("Transpose", ["turned"], ["u"], perm=[1, 0]),
            helper.make_node("MatMul", ["n", "u"], ["y"]),
        ],
        lambda x: (_norm(x) * GAMMA.astype(float) + BETA.astype(float)) @ U.astype(float),
    ),
}  # fmt: skip


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("case", FEW.values(), ids=FEW)
def test_few_rows_are_normalised_by_the_product(case: Few, rows: int, target: str) -> None:
    """One kernel: each block adds its rows up itself; 520 is no multiple of what its threads read at once."""
    nodes, exact = case
    half = TensorProto.FLOAT16
    read = {name for node in nodes for name in node.input}
    weights = {"gamma": GAMMA, "beta": BETA, "u": U, "gate": GATE, "bias": BETA[:256], "turned": U.T.copy()}
    graph = helper.make_graph(
        nodes,
        "few",
        [helper.make_tensor_value_info("x", half, [1, rows, 520])],
        [helper.make_tensor_value_info("y", half, [1, rows, 256])],
        [numpy_helper.from_array(weights[name], name) for name in sorted(read & weights.keys() - {nodes[1].output[0]})],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    engine = tilewright.compile(model, target=target)
    assert list(engine.kernels) == ["dot_0"] and len(engine.program.launches) == 1
    x = (2 * np.random.default_rng(1).standard_normal((1, rows, 520)) + 3).astype(np.float16)
    found, report = sanitize(engine, [{"x": x}], parse_order("random:1"))
    assert not report.findings, str(report)
    wanted = exact(x.astype(np.float64))
    # As above: 2^-11 for weights with their factors, as much for the result; sums in f32.
    np.testing.assert_allclose(found[0]["y"].astype(np.float64), wanted, rtol=0, atol=2**-10 * np.abs(wanted).max())

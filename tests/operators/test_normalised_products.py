"""Products of half-precision tensors whose lines are scaled, in the ways that models write it, against float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import tilewright

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

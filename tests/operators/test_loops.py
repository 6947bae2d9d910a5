"""Loops whose number of iterations only a run knows, on the emulator and on the interpreter."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

import tilewright
from tilewright.compiler.frontend import import_model
from tilewright.passes.graph.interpret import interpret
from tilewright.runtime.program import Loop

Array = np.ndarray[Any, Any]


def body(nodes: list[onnx.NodeProto], shape: list[Any]) -> onnx.GraphProto:
    """A loop body from `n`, `going_in`, `a` to `going`, `b`."""
    given = [
        helper.make_tensor_value_info("n", TensorProto.INT64, []),
        helper.make_tensor_value_info("going_in", TensorProto.BOOL, []),
        helper.make_tensor_value_info("a", TensorProto.FLOAT, shape),
    ]
    wanted = [
        helper.make_tensor_value_info("going", TensorProto.BOOL, []),
        helper.make_tensor_value_info("b", TensorProto.FLOAT, shape),
    ]
    return helper.make_graph(nodes, "body", given, wanted)


def model_of(
    nodes: list[onnx.NodeProto], inputs: dict[str, tuple[int, list[Any]]], outputs: list[str]
) -> onnx.ModelProto:
    given = [helper.make_tensor_value_info(name, *kind) for name, kind in inputs.items()]
    wanted = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(nodes, "loops", given, wanted)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])


def run_both(model: onnx.ModelProto, runs: list[dict[str, Array]]) -> list[dict[str, Array]]:
    """Results of every run, the same from the emulator and the interpreter to the last bit but fused multiply-adds."""
    unit = import_model(model)
    engine = tilewright.compile(model)
    assert any(isinstance(item, Loop) for _, item in engine.program.flatten())
    results = []
    with engine.session("emulator", checked=True) as session, engine.session("emulator") as shared:
        for fed in runs:
            given = session.run(fed)
            for name, wanted in interpret(unit, fed).items():
                np.testing.assert_allclose(given[name], wanted, rtol=1e-6)  # one rounding in each of a few steps
                np.testing.assert_array_equal(shared.run(fed)[name], given[name])  # buffers that share memory
            results.append(given)
    return results


def test_a_trip_count_from_data() -> None:
    doubled = body(
        [
            helper.make_node("Identity", ["going_in"], ["going"]),
            helper.make_node("Mul", ["a", "factor"], ["c"]),  # from outside the loop
            helper.make_node("Add", ["c", "bias"], ["b"]),
        ],
        ["k", 3],
    )
    nodes = [
        helper.make_node("Abs", ["f"], ["factor"]),
        helper.make_node("Neg", ["f"], ["bias"]),
        helper.make_node("Loop", ["trips", "", "x"], ["y"], body=doubled),
        helper.make_node("Relu", ["y"], ["z"]),
    ]
    inputs = {"x": (TensorProto.FLOAT, ["k", 3]), "f": (TensorProto.FLOAT, [3]), "trips": (TensorProto.INT64, [])}
    generator = np.random.default_rng(0)
    x, f = (generator.normal(size=shape).astype(np.float32) for shape in ((4, 3), (3,)))
    runs = [{"x": x, "f": f, "trips": np.array(count, np.int64)} for count in (0, 1, 5, 2)]
    for fed, results in zip(runs, run_both(model_of(nodes, inputs, ["y", "z"]), runs), strict=True):
        wanted = x.astype(np.float64)
        for _ in range(int(fed["trips"])):
            wanted = wanted * np.abs(f) - f
        np.testing.assert_allclose(results["y"], wanted, rtol=1e-5, atol=1e-6)  # a few f32 roundings
        np.testing.assert_allclose(results["z"], np.maximum(wanted, 0), rtol=1e-5, atol=1e-6)


def test_a_condition_from_data() -> None:
    halved = body(
        [
            helper.make_node("Mul", ["a", "half"], ["b"]),
            helper.make_node("ReduceMax", ["b"], ["largest"], keepdims=0),
            helper.make_node("Greater", ["largest", "limit"], ["going"]),
        ],
        ["k"],
    )
    nodes = [
        helper.make_node("Constant", [], ["half"], value_float=0.5),
        helper.make_node("Constant", [], ["yes"], value=onnx.numpy_helper.from_array(np.array(True))),
        helper.make_node("Loop", ["", "yes", "x"], ["y"], body=halved),
    ]
    inputs = {"x": (TensorProto.FLOAT, ["k"]), "limit": (TensorProto.FLOAT, [])}
    runs = [
        {"x": np.array(values, np.float32), "limit": np.array(limit, np.float32)}
        for values, limit in (([8.0, 3.0], 1.5), ([100.0], 1.0), ([1.0, 1.0, 1.0], 5.0))
    ]
    for fed, results in zip(runs, run_both(model_of(nodes, inputs, ["y"]), runs), strict=True):
        wanted = fed["x"] / 2
        while wanted.max() > fed["limit"]:
            wanted = wanted / 2
        np.testing.assert_array_equal(results["y"], wanted)


def test_loops_inside_loops() -> None:
    inner = body(
        [helper.make_node("Identity", ["going_in"], ["going"]), helper.make_node("Add", ["a", "step"], ["b"])], [2]
    )
    outer = helper.make_graph(
        [
            helper.make_node("Identity", ["go_in"], ["go"]),
            helper.make_node("Cast", ["m"], ["step"], to=TensorProto.FLOAT),
            helper.make_node("Loop", ["m", "", "s"], ["t"], body=inner),
        ],
        "outer",
        [
            helper.make_tensor_value_info("m", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_in", TensorProto.BOOL, []),
            helper.make_tensor_value_info("s", TensorProto.FLOAT, [2]),
        ],
        [
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("t", TensorProto.FLOAT, [2]),
        ],
    )
    nodes = [helper.make_node("Loop", ["trips", "", "x"], ["y"], body=outer)]
    model = model_of(nodes, {"x": (TensorProto.FLOAT, [2]), "trips": (TensorProto.INT64, [])}, ["y"])
    x = np.array([1.0, -1.0], np.float32)
    runs = [{"x": x, "trips": np.array(count, np.int64)} for count in (4, 0, 2)]
    for fed, results in zip(runs, run_both(model, runs), strict=True):
        np.testing.assert_array_equal(results["y"], x + sum(step * step for step in range(int(fed["trips"]))))


def test_many_iterations_become_a_loop() -> None:
    counted = body(
        [helper.make_node("Identity", ["going_in"], ["going"]), helper.make_node("Add", ["a", "one"], ["b"])], [2]
    )
    nodes = [
        helper.make_node("Constant", [], ["trips"], value_int=600),
        helper.make_node("Constant", [], ["one"], value_float=1.0),
        helper.make_node("Loop", ["trips", "", "x"], ["y"], body=counted),
    ]
    unit = import_model(model_of(nodes, {"x": (TensorProto.FLOAT, [2])}, ["y"]))
    x = np.array([0.5, -600.0], np.float32)
    np.testing.assert_array_equal(interpret(unit, {"x": x})["y"], x + 600)


def parsed(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : 20]> {text}')


def same_as_onnxruntime(model: onnx.ModelProto, runs: list[dict[str, Array]]) -> None:
    """Every output of every run; the loops add, multiply and compare few numbers: a rounding or two."""
    reference = onnxruntime.InferenceSession(model.SerializeToString())
    for fed, results in zip(runs, run_both(model, runs), strict=True):
        for got, want in zip(results.values(), reference.run(None, fed), strict=True):
            assert got.shape == want.shape or got.size == want.size == 0  # whose shape onnxruntime does not know
            np.testing.assert_allclose(got.ravel(), want.ravel(), rtol=1e-6, atol=1e-6)


def test_values_collected_until_a_condition_ends_the_loop() -> None:
    """Room for as many turns as an input says, of which those that ran are the result; none at all, too."""
    model = parsed("""g (int64 trips, float[2,n] x, float limit) => (float[2,n] last, float[m,n] rows, float[m] sums) {
      yes = Constant <value = bool {1}> ()
      last, rows, sums = Loop (trips, yes, x) <body = b (int64 i, bool go, float[2,n] a)
          => (bool again, float[2,n] next, float[n] row, float sum) {
        two = Constant <value = float {2.0}> ()
        next = Mul (a, two)
        axes = Constant <value = int64[1] {0}> ()
        row = ReduceSum <keepdims = 0> (next, axes)
        sum = ReduceSum <keepdims = 0> (next)
        again = Less (sum, limit)
      }>
    }""")
    x = np.array([[1.0, 2.0, 3.0], [0.5, 0.25, 1.0]], np.float32)
    limit = np.array(100, np.float32)
    same_as_onnxruntime(model, [{"trips": np.array(trips), "x": x, "limit": limit} for trips in (20, 3, 0)])


@pytest.mark.parametrize("backwards", [0, 1])
def test_scan_of_a_dynamic_length(backwards: int) -> None:
    """States and rows, scanned along an inner axis and stacked along another, in either direction."""
    options = f"scan_input_axes = [1, 0], scan_input_directions = [{backwards}, 0], "
    options += f"scan_output_axes = [1], scan_output_directions = [{backwards}]"
    model = parsed(f"""g (float[3] s, float[3,t] x, float[t,3] y) => (float[3] end, float[3,t] rows) {{
      end, rows = Scan <num_scan_inputs = 2, {options},
        body = b (float[3] state, float[3] a, float[3] c) => (float[3] next, float[3] row) {{
          sum = Add (state, a)
          next = Mul (sum, c)
          row = Sub (next, a)
        }}> (s, x, y)
    }}""")
    rng = np.random.default_rng(4)

    def fed(length: int) -> dict[str, Array]:
        shapes = {"s": (3,), "x": (3, length), "y": (length, 3)}
        return {name: rng.uniform(0.5, 1.5, shape).astype(np.float32) for name, shape in shapes.items()}

    same_as_onnxruntime(model, [fed(1), fed(5)])

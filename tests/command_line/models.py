"""Small ONNX models for tests of the pipeline, the API and the command line.

In: nothing. Out: ModelProtos that compile in a moment, and some that cannot.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def make(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, list[int | str]],
    outputs: dict[str, list[int | str]],
    weights: dict[str, np.ndarray] | None = None,
    name: str = "tiny",
) -> onnx.ModelProto:
    """A float32 model of opset 17 that older onnxruntimes read too."""
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(key, TensorProto.FLOAT, shape) for key, shape in inputs.items()],
        [helper.make_tensor_value_info(key, TensorProto.FLOAT, shape) for key, shape in outputs.items()],
        [numpy_helper.from_array(array, key) for key, array in (weights or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def products() -> onnx.ModelProto:
    """Two products, the first in f16 and the second in f32."""
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], name="Cast_0", to=TensorProto.FLOAT16),
        helper.make_node("MatMul", ["h", "v"], ["p"], name="MatMul_1"),
        helper.make_node("Cast", ["p"], ["q"], name="Cast_1", to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["q", "w"], ["y"], name="MatMul_2"),
    ]
    weights = {"v": np.ones((16, 24), np.float16), "w": np.ones((24, 16), np.float32)}
    return make(nodes, {"x": ["n", 16]}, {"y": ["n", 16]}, weights)


def softmax() -> onnx.ModelProto:
    """softmax(relu(x + w)) with a dynamic batch: one kernel."""
    nodes = [
        helper.make_node("Add", ["x", "w"], ["a"], name="Add_1"),
        helper.make_node("Relu", ["a"], ["r"], name="Relu_2"),
        helper.make_node("Softmax", ["r"], ["y"], name="Softmax_3"),
    ]
    return make(nodes, {"x": ["n", 10]}, {"y": ["n", 10]}, {"w": np.linspace(-1, 1, 10, dtype=np.float32)})


def perceptron(hidden: int = 24) -> onnx.ModelProto:
    """Two matmuls with a bias and a Relu: two kernels or more."""
    generator = np.random.default_rng(0)
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"], name="Gemm_1"),
        helper.make_node("Relu", ["h"], ["r"], name="Relu_2"),
        helper.make_node("MatMul", ["r", "w2"], ["y"], name="MatMul_3"),
    ]
    weights = {
        "w1": generator.standard_normal((12, hidden)).astype(np.float32),
        "b1": generator.standard_normal(hidden).astype(np.float32),
        "w2": generator.standard_normal((hidden, 5)).astype(np.float32),
    }
    return make(nodes, {"x": ["n", 12]}, {"y": ["n", 5]}, weights)


def unsupported() -> onnx.ModelProto:
    """Two nodes that cannot be compiled, and one that depends on them."""
    nodes = [
        helper.make_node("Find", ["x"], ["i"], name="find_1", domain="com.example"),
        helper.make_node("Cast", ["i"], ["f"], name="cast_2", to=TensorProto.FLOAT),
        helper.make_node("Rank", ["x"], ["y"], name="rank_3", domain="com.example"),
    ]
    model = make(nodes, {"x": ["n", 10]}, {"y": ["k"], "f": [2, "m"]})
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    return model

"""Small models whose kernels are worth breaking: in nothing, out ONNX models that compile to one or two kernels each.

Sizes are odd on purpose, so that tiles have edges, and large enough that pipelines turn over and rows span warps.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def _model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, list[int | str]],
    output: list[int | str],
    weights: dict[str, np.ndarray] | None = None,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "mutants",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in (weights or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def matmul() -> onnx.ModelProto:
    """relu(x w + b): edges in every dimension, five steps of k."""
    generator = np.random.default_rng(0)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="MatMul_1"),
        helper.make_node("Add", ["h", "b"], ["a"], name="Add_2"),
        helper.make_node("Relu", ["a"], ["y"], name="Relu_3"),
    ]
    weights = {"w": generator.standard_normal((152, 72)), "b": generator.standard_normal(72)}
    return _model(nodes, {"x": ["n", 152]}, ["n", 72], weights)


def convolution() -> onnx.ModelProto:
    """A padded 3x3 convolution with a bias, as an implicit matrix product."""
    generator = np.random.default_rng(1)
    node = helper.make_node(
        "Conv", ["x", "w", "b"], ["y"], name="Conv_1", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]
    )
    weights = {"w": generator.standard_normal((24, 16, 3, 3)) / 8, "b": generator.standard_normal(24)}
    return _model([node], {"x": ["n", 16, 11, 13]}, ["n", 24, 6, 7], weights)


def softmax() -> onnx.ModelProto:
    """Rows long enough for several warps."""
    node = helper.make_node("Softmax", ["x"], ["y"], name="Softmax_1", axis=-1)
    return _model([node], {"x": ["n", 2500]}, ["n", 2500])


def long_lines() -> onnx.ModelProto:
    """Softmax of so few and long rows that blocks of a cluster share one, where there are clusters."""
    node = helper.make_node("Softmax", ["x"], ["y"], name="Softmax_1", axis=-1)
    return _model([node], {"x": [2, 20000]}, [2, 20000])


def attention() -> onnx.ModelProto:
    """Two heads of 16 over 100 words, with the projections before: a kernel of its own loads what they wrote."""
    generator = np.random.default_rng(2)
    shape = numpy_helper.from_array(np.array([0, 100, 2, 16], np.int64), "shape")
    nodes = []
    for name, permutation in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
        nodes += [
            helper.make_node("MatMul", ["x", f"w{name}"], [f"m{name}"], name=f"MatMul_{name}"),
            helper.make_node("Reshape", [f"m{name}", "shape"], [f"r{name}"], name=f"Reshape_{name}"),
            helper.make_node("Transpose", [f"r{name}"], [name], name=f"Transpose_{name}", perm=permutation),
        ]
    nodes += [
        helper.make_node("MatMul", ["q", "k"], ["s"], name="MatMul_1"),
        helper.make_node("Mul", ["s", "scale"], ["t"], name="Mul_2"),
        helper.make_node("Softmax", ["t"], ["p"], name="Softmax_3", axis=-1),
        helper.make_node("MatMul", ["p", "v"], ["y"], name="MatMul_4"),
    ]
    weights = {f"w{name}": generator.standard_normal((32, 32)) / 4 for name in "qkv"}
    model = _model(nodes, {"x": ["n", 100, 32]}, ["n", 2, 100, 16], {**weights, "scale": np.array(0.25)})
    model.graph.initializer.append(shape)
    return model


def pointwise() -> onnx.ModelProto:
    """A transposition with arithmetic around it."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], name="Transpose_1", perm=[0, 2, 1]),
        helper.make_node("Sigmoid", ["t"], ["s"], name="Sigmoid_2"),
        helper.make_node("Mul", ["t", "s"], ["y"], name="Mul_3"),
    ]
    return _model(nodes, {"x": ["n", 30, 47]}, ["n", 47, 30])

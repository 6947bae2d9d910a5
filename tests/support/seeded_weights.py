"""Hollow models and back: graphs whose weights are ConstantOfShape nodes, and seeded random weights for them.

onnx ships its "light" models hollow, and as shipped they answer a constant: no check. `fill` gives
them values that keep activations near unit scale; `hollow` makes small files to commit.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Weight = NDArray[np.float32]
SMALLEST_HOLLOW = 32  # smaller weights stay: they are often shapes, scales and epsilons
PASSED_THROUGH = {"Unsqueeze", "Reshape", "Transpose", "Identity", "Squeeze"}


def _spread(generator: np.random.Generator, shape: tuple[int, ...]) -> Weight:
    return generator.uniform(0.5, 1.5, shape).astype(np.float32)


def _damped(generator: np.random.Generator, shape: tuple[int, ...]) -> Weight:
    """For the end of a residual branch: sixteen sums would otherwise double the variance sixteen times."""
    return generator.uniform(0.1, 0.5, shape).astype(np.float32)


def _small(generator: np.random.Generator, shape: tuple[int, ...]) -> Weight:
    return (0.1 * generator.standard_normal(shape)).astype(np.float32)


def _normal(axis: int | None, gain: float) -> Callable[[np.random.Generator, tuple[int, ...]], Weight]:
    """Normal values of variance gain / fan-in; `axis` is the fan-in's, None: all axes but the first."""

    def draw(generator: np.random.Generator, shape: tuple[int, ...]) -> Weight:
        fan_in = int(np.prod(shape[1:])) if axis is None else shape[axis]
        return (generator.standard_normal(shape) * np.sqrt(gain / fan_in)).astype(np.float32)

    return draw


# What a weight is, by the operator that takes it and the position it has there.
ROLES: dict[tuple[str, int], Callable[[np.random.Generator, tuple[int, ...]], Weight]] = {
    ("Conv", 1): _normal(None, 2.0),
    ("ConvTranspose", 1): _normal(0, 2.0),
    ("MatMul", 1): _normal(-2, 1.0),
    ("Gemm", 1): _normal(-1, 0.01),  # the classifier before a softmax: small, so that no class wins outright
    ("Gather", 0): _normal(-1, 1.0),
    ("Mul", 0): _spread,
    ("Mul", 1): _spread,
    ("BatchNormalization", 1): _spread,
    ("BatchNormalization before Sum", 1): _damped,
    ("BatchNormalization", 4): _spread,
    ("BatchNormalization before Sum", 4): _spread,
    ("LayerNormalization", 1): _spread,
    ("GroupNormalization", 1): _spread,
}


def fill(model: onnx.ModelProto, seed: int = 0) -> onnx.ModelProto:
    """A copy of a hollow model in which every ConstantOfShape weight is an initializer with seeded values.

    Values depend on the seed, the weight's name and its role only, not on what else is in the model.
    """
    filled = onnx.ModelProto()
    filled.CopyFrom(model)
    graph = filled.graph
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for tensor in graph.initializer:  # trained variances near zero would magnify our weights a hundred times
        if _role(graph, tensor.name) == ("BatchNormalization", 4):
            generator = np.random.default_rng([seed, zlib.crc32(tensor.name.encode())])
            values = _spread(generator, tuple(tensor.dims))
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    hollow_nodes = [n for n in graph.node if n.op_type == "ConstantOfShape" and n.input[0] in shapes]
    for node in hollow_nodes:
        shape = tuple(int(extent) for extent in shapes[node.input[0]])
        generator = np.random.default_rng([seed, zlib.crc32(node.output[0].encode())])
        draw = ROLES.get(_role(graph, node.output[0]), _small)
        graph.initializer.append(numpy_helper.from_array(draw(generator, shape), node.output[0]))
        graph.node.remove(node)
    shape_names = {node.input[0] for node in hollow_nodes}
    for container in (graph.initializer, graph.input):
        kept = [entry for entry in container if entry.name not in shape_names]
        del container[:]
        container.extend(kept)
    return filled


def hollow(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which every float32 initializer that is not tiny is a ConstantOfShape node: a small file."""
    emptied = onnx.ModelProto()
    emptied.CopyFrom(model)
    graph = emptied.graph
    weights = [tensor for tensor in graph.initializer if _is_weight(tensor)]
    nodes = []
    for tensor in weights:
        shape_name = f"{tensor.name}__SHAPE"
        value = helper.make_tensor("value", onnx.TensorProto.FLOAT, [1], [0.02])
        nodes.append(helper.make_node("ConstantOfShape", [shape_name], [tensor.name], value=value))
        graph.initializer.append(numpy_helper.from_array(np.array(tensor.dims, dtype=np.int64), shape_name))
        graph.initializer.remove(tensor)
    nodes.extend(graph.node)
    del graph.node[:]
    graph.node.extend(nodes)
    return emptied


def _is_weight(tensor: onnx.TensorProto) -> bool:
    return tensor.data_type == onnx.TensorProto.FLOAT and int(np.prod(tensor.dims)) >= SMALLEST_HOLLOW


def _role(graph: onnx.GraphProto, name: str) -> tuple[str, int]:
    """The operator that takes a weight and the position there, seen through operators that only move data."""
    for node in graph.node:
        if name in node.input:
            if node.op_type in PASSED_THROUGH:
                return _role(graph, node.output[0])
            summed = any(node.output[0] in other.input for other in graph.node if other.op_type == "Sum")
            return node.op_type + (" before Sum" if summed else ""), list(node.input).index(name)
    return "", 0

"""Quantised layers: bytes, functions of a byte, products of bytes, and several layers that differ in numbers only.

In: a graph. Out: what tabulate-bytes, share-numbers, multiply-integers and multiply-small-floats look for.
"""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
from onnx import TensorProto, helper

from tilewright.runtime.symbolic import expression

from ..graph_builder import GraphBuilder, Value
from .parts import activated, depth_of, numbers, tensor, weight
from .registry import motif

Array = np.ndarray[Any, Any]

BYTES = ("uint8", "int8")
LARGEST = {"uint8": 255, "int8": 127}
COSTLY = ("gelu", "silu", "Tanh", "Sigmoid", "Elu", "Erf", "Softplus", "Sqrt of Abs", "Reciprocal")


def _quantised(graph: GraphBuilder, value: Value, dtype: str, scale: float, point: int) -> tuple[Value, list[str]]:
    """(bytes of the value, their scale and zero point)."""
    parameters = [graph.constant(scale, "float32"), graph.constant(point, dtype)]
    made = Value("", dtype, value.shape, LARGEST[dtype])
    return graph.node("QuantizeLinear", [value, *parameters], [made])[0], parameters


def _dequantised(graph: GraphBuilder, value: Value, parameters: list[str]) -> Value:
    return graph.one("DequantizeLinear", [value, *parameters], "float32", value.shape, 20.0)


def _costly(graph: GraphBuilder, value: Value) -> Value:
    kind = graph.rng.choice(COSTLY)
    if kind == "Sqrt of Abs":
        return graph.like("Sqrt", [graph.like("Abs", [value], value)], value, 5.0)
    if kind == "Reciprocal":  # infinite for a byte that is the zero point
        return graph.like("Reciprocal", [value], value, 20.0)
    if kind in ("Softplus", "Erf"):
        return graph.like(kind, [value], value, 21.0)
    return activated(graph, value, (kind,))


def _scale(graph: GraphBuilder) -> float:
    return round(graph.rng.uniform(0.01, 0.1), 4)


@motif("function of bytes", weight=2, precisions=("model", "f16", "strict", "bf16"))
def function_of_bytes(graph: GraphBuilder) -> None:
    """Quantise, dequantise, a costly function or two, quantise; other readers of the bytes, other operands."""
    value = tensor(graph, "float32")
    dtype = graph.rng.choice(BYTES)
    for _ in range(graph.rng.choice((1, 1, 2))):
        stored, parameters = _quantised(graph, value, dtype, _scale(graph), graph.rng.randint(0, 100))
        value = _dequantised(graph, stored, parameters)
        made = _costly(graph, value)
        if graph.rng.random() < 0.3:
            made = activated(graph, made, ("Tanh", "Sigmoid"))
        if graph.rng.random() < 0.2:
            other = weight(graph, "float32", (depth_of(made),))
            made = graph.like("Mul", [made, other], made, made.bound)
        if graph.rng.random() < 0.2:
            made = graph.like("Add", [value, made], made, made.bound + value.bound)
        value = made
    if graph.rng.random() < 0.7:
        _quantised(graph, value, graph.rng.choice(BYTES), _scale(graph), graph.rng.randint(0, 30))


@motif("quantised layers", weight=2, precisions=("model", "f16", "strict"))
def quantised_layers(graph: GraphBuilder) -> None:
    """Two to four layers of one shape between bytes, each with its own scales; as QDQ pairs or QLinearMatMul."""
    depth, dtype = graph.rng.choice((16, 32, 48, 64)), graph.rng.choice(BYTES)
    value = tensor(graph, "float32", depth)
    stored, parameters = _quantised(graph, value, dtype, _scale(graph), graph.rng.randint(0, 30))
    activation = graph.rng.choice(("", "", "Relu", "gelu"))
    way, has_bias = graph.rng.choice(("pairs", "pairs", "fused")), graph.rng.random() < 0.5
    kind, differs = ("int8" if graph.rng.random() < 0.7 else dtype), graph.rng.random() < 0.4 and way == "pairs"
    point = graph.rng.choice((0, 0, 5)) if kind == "int8" else 100
    for _ in range(graph.rng.randint(2, 4)):
        scales = _weight_scales(graph, depth, differs)
        points = np.full(scales.shape, point, kind)
        matrix = numbers(graph).integers(-20, 20, (depth, depth)).astype(np.int64) + point
        weights = [graph.constant(matrix.astype(kind)), graph.constant(scales), graph.constant(points)]
        if way == "fused":
            target = [graph.constant(_scale(graph), "float32"), graph.constant(graph.rng.randint(0, 30), dtype)]
            stored = graph.like("QLinearMatMul", [stored, *parameters, *weights, *target], stored)
            parameters = target
            continue
        wide = graph.one(
            "DequantizeLinear", weights, "float32", (expression(depth), expression(depth)), 2.0, axis=1
        )
        made = graph.like("MatMul", [_dequantised(graph, stored, parameters), wide], value, 20.0)
        if has_bias:
            made = graph.like("Add", [made, weight(graph, "float32", (depth,))], made, 21.0)
        if activation:
            made = activated(graph, made, (activation,))
        stored, parameters = _quantised(graph, made, dtype, _scale(graph), graph.rng.randint(0, 30))
    if graph.rng.random() < 0.5:
        _dequantised(graph, stored, parameters)


def _weight_scales(graph: GraphBuilder, columns: int, differ: bool) -> Array:
    """One scale, or one for each column."""
    if differ:
        return numbers(graph).uniform(0.005, 0.02, (columns,)).astype(np.float32)
    return np.array(_scale(graph) / 5, np.float32)


SMALL = {TensorProto.FLOAT8E4M3FN: ml_dtypes.float8_e4m3fn, TensorProto.FLOAT8E5M2: ml_dtypes.float8_e5m2}


@motif("small floats", weight=1, since=19, precisions=("f16", "bf16"), targets=("sm_90a",))
def small_floats(graph: GraphBuilder) -> None:
    """A product of dequantised 8-bit floats; the weight's scale is one or a column's, its numbers odd ones too."""
    kind = graph.rng.choice(list(SMALL))
    value = tensor(graph, "float32", graph.rng.choice((48, 64, 96, 128)))
    depth, columns = depth_of(value), graph.rng.choice((8, 16, 33, 64))
    scale = graph.constant(graph.rng.choice((0.02, 0.5, 1e-3)), "float32")
    zero = _small(graph, np.zeros((), np.float32), kind)
    hidden = Value("", "uint8", value.shape, 255, known=False)  # of a type that the graph does not know
    stored = graph.node("QuantizeLinear", [value, scale, zero], [hidden])[0]
    graph.finished.remove(stored)
    left = graph.one("DequantizeLinear", [stored, scale, zero], "float32", value.shape, 2 * value.bound)
    drawn = numbers(graph).normal(0, 1, (depth, columns)).astype(np.float32)
    if graph.rng.random() < 0.3:
        drawn[:2, :1], drawn[2:4, -1:] = -0.0, 2.0**-9  # a zero with a sign, a number without a leading one
    matrix = _small(graph, drawn, kind)
    several = graph.rng.random() < 0.5
    scales = numbers(graph).uniform(0.01, 0.2, (columns,) if several else ()).astype(np.float32)
    points = _small(graph, np.zeros(scales.shape, np.float32), kind)
    shape = (expression(depth), expression(columns))
    right = graph.one("DequantizeLinear", [matrix, graph.constant(scales), points], "float32", shape, 1.0, axis=1)
    bound = 3 * value.bound * math.sqrt(depth)
    made = graph.one("MatMul", [left, right], "float32", (*value.shape[:-1], shape[1]), bound)
    if graph.rng.random() < 0.5:
        activated(graph, made)


def _small(graph: GraphBuilder, array: Array, kind: int) -> str:
    """A constant of 8-bit floats."""
    name = graph.name("c")
    data = array.astype(SMALL[kind]).tobytes()
    graph.constants.append(helper.make_tensor(name, kind, array.shape, data, raw=True))
    return name

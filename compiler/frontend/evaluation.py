"""Constant nodes, evaluated while importing.

In: a node with arrays for its inputs. Out: its outputs by onnx's reference implementation, or None where it
has none or the result would be large. Random operators are never folded.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import onnx

from ...runtime.dtypes import from_numpy
from ...runtime.errors import ModelError
from .node import Node
from .tensor import Array, Tensor

FOLDED_BYTES = 1 << 20  # results up to this size are folded, larger ones only when they do not grow
MOST_SIZES = 8  # integers in an input that has sizes
RANDOM = {
    "RandomNormal",
    "RandomUniform",
    "RandomNormalLike",
    "RandomUniformLike",
    "Bernoulli",
    "Multinomial",
    "Dropout",
}
# Work for kernels, and for `fold-constants`, whose arithmetic is our own: onnx's evaluator is slow here, and wrong
# about some (GlobalMaxPool of one spatial dimension, LRN of more neighbours than channels).
HEAVY = {
    *("Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "DeformConv", "Col2Im", "GridSample", "RoiAlign"),
    *("MaxPool", "AveragePool", "LpPool", "GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool", "LRN"),
    *("BatchNormalization", "InstanceNormalization", "GroupNormalization", "LayerNormalization", "LpNormalization"),
    *("MeanVarianceNormalization", "RMSNormalization", "Attention", "LSTM", "GRU", "RNN"),
    *("Resize", "Upsample", "Pad", "OneHot", "MaxRoiPool", "MaxUnpool", "MelWeightMatrix"),
}
GROWING = {"Expand", "Tile"}
SIZED = {  # the values of integer inputs are sizes
    *("TopK", "DFT", "STFT", "AffineGrid", "CenterCropPad", "BlackmanWindow", "HannWindow", "HammingWindow"),
}
QUANTISED = {"DequantizeLinear"}  # products of integers are made of its inputs (passes/graph/multiply_integers.py)
NEVER = RANDOM | HEAVY | QUANTISED | {"If", "Loop", "Scan", "SequenceMap", "Constant", "ConstantOfShape"}


def evaluate(node: Node, arrays: list[Array | None]) -> list[Array] | None:
    """The outputs for these inputs, by the reference implementation; None when that fails."""
    from onnx.reference import ReferenceEvaluator

    names = [f"i{position}" if array is not None else "" for position, array in enumerate(arrays)]
    outputs = [f"o{position}" for position in range(max(len(node.outputs), 1))]
    proto = onnx.NodeProto()
    proto.CopyFrom(node.proto)
    del proto.input[:], proto.output[:]
    proto.input.extend(names)
    proto.output.extend(outputs)
    given = {name: array for name, array in zip(names, arrays, strict=True) if array is not None}
    opsets = [onnx.helper.make_opsetid(node.domain, node.version)]
    function = onnx.helper.make_function("fold", "fold", list(given), outputs, [proto], opsets)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            results = ReferenceEvaluator(function).run(None, given, attributes={})
    except Exception:  # whatever it cannot evaluate stays in the graph, where our own checks speak
        return None
    if not all(isinstance(result, (np.ndarray, np.generic)) for result in results):
        return None
    found = [np.asarray(result) for result in results]
    return [array.astype(kind, copy=False) for array, kind in zip(found, _types(node, arrays, found), strict=True)]


def _types(node: Node, arrays: list[Array | None], results: list[Array]) -> list[np.dtype[Any]]:
    """The dtypes that outputs must have: where the schema gives an output the type of an input, numpy's sums of 32-bit
    integers have 64.
    """
    found = [result.dtype for result in results]
    if not onnx.defs.has(node.operator, node.version, node.domain):
        return found
    schema = onnx.defs.get_schema(node.operator, node.version, node.domain)
    known = {
        formal.type_str: array.dtype
        for formal, array in zip(schema.inputs, arrays, strict=False)
        if array is not None and formal.is_homogeneous
    }
    named = [known.get(formal.type_str, kind) for formal, kind in zip(schema.outputs, found, strict=False)]
    return named + found[len(named) :]


def fold(node: Node) -> list[tuple[Array, str]] | None:
    """Outputs of a node whose inputs are all constants, when they are small or no larger than the inputs."""
    given = [tensor for tensor in node.inputs if tensor is not None]
    if not given or node.operator in NEVER or not all(tensor.is_constant for tensor in given):
        return None
    if _bytes(given) > FOLDED_BYTES and node.operator not in (
        "Reshape",
        "Squeeze",
        "Unsqueeze",
        "Identity",
        "Transpose",
    ):
        return None
    limit = max(FOLDED_BYTES, _bytes(given))
    if _elements(node) * 8 > limit:
        return None
    results = evaluate(node, [tensor.array() if tensor is not None else None for tensor in node.inputs])
    if results is None or sum(result.nbytes for result in results) > limit:
        return None
    try:
        return [(result, from_numpy(result.dtype).name) for result in results]
    except ModelError:  # strings and other types that only the reference knows
        return None


def _elements(node: Node) -> int:
    """An upper bound of the outputs' elements, before anything is computed: files are untrusted."""
    sizes = [tensor.size or 0 for tensor in node.inputs if tensor is not None]
    if node.operator in GROWING:
        counts = [abs(int(item)) for item in node.input(1).array().ravel()] if node.has(1) else []
        return math.prod(counts) * max(sizes[0], 1)
    if node.operator in SIZED:
        arrays = [tensor.array() for tensor in node.inputs if tensor is not None]
        integers = [array for array in arrays if array.dtype.kind in "iu" and array.size <= MOST_SIZES]
        return math.prod(max(abs(int(item)), 1) for array in integers for item in array.ravel()) * max(sizes[0], 1)
    if node.operator == "Range":
        start, limit, step = (float(tensor.array().reshape(())) for tensor in node.inputs if tensor is not None)
        return int(abs(limit - start) / abs(step)) + 1 if step and math.isfinite(limit - start) else 1 << 62
    if node.operator in ("Gather", "MatMul", "Einsum", "Gemm", "Expand"):
        return math.prod(max(size, 1) for size in sizes)
    if node.operator in ("Concat", "Reshape", "Squeeze", "Unsqueeze", "Slice"):
        return sum(sizes)
    rank = max(tensor.rank for tensor in node.inputs if tensor is not None)
    shapes = [
        [1] * (rank - tensor.rank) + [size.as_constant() or 0 for size in tensor.shape]
        for tensor in node.inputs
        if tensor is not None
    ]
    return math.prod(max(column) for column in zip(*shapes, strict=True))


def _bytes(tensors: list[Tensor]) -> int:
    return sum((tensor.size or 0) * 8 for tensor in tensors)

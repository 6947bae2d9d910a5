"""onnxruntime's operators (com.microsoft) that exporters and its optimizer write: activations, products, norms.

In: tensors as onnxruntime defines them. Out: the same maps, reductions and products as the standard operators.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from mlir import ir

from ....dialects import graph_builder as build
from ....dialects.scalar import Scalar
from ..errors import Unsupported
from ..node import Node
from ..registry import find_operator, onnx_operator
from ..tensor import Tensor
from .matrix import product_of
from .reduction import wide, widened

DOMAIN = "com.microsoft"
ScalarFunction = Callable[[Scalar], Scalar]
STANDARD = (  # written in this domain with the meaning of the standard operator of that opset
    *(("QuantizeLinear", 21), ("DequantizeLinear", 21), ("Unique", 11), ("Trilu", 14), ("GatherND", 13)),
    *(("Pad", 18), ("GridSample", 16), ("Range", 11)),
)


def _register_standard(name: str, version: int) -> None:
    @onnx_operator(name, domain=DOMAIN)
    def import_standard(node: Node) -> object:
        function = find_operator("", name, version)
        if function is None:
            raise Unsupported(f"operator {name} of domain '{DOMAIN}'", "see docs/operators.md")
        return function(node)


for _name, _version in STANDARD:
    _register_standard(_name, _version)


# Activations ------------------------------------------------------------------------------------------------
def gelu(x: Scalar) -> Scalar:
    """x * (1 + erf(x / sqrt 2)) / 2"""
    return x * 0.5 * ((x * math.sqrt(0.5)).erf() + 1.0)


def fast_gelu(x: Scalar) -> Scalar:
    """The same with the hyperbolic tangent in place of the error function."""
    return x * 0.5 * ((x * math.sqrt(2.0 / math.pi) * (x * x * 0.044715 + 1.0)).tanh() + 1.0)


@onnx_operator("Gelu", "BiasGelu", domain=DOMAIN)
def bias_gelu(node: Node) -> ir.Value:
    return _activated(node, gelu)


@onnx_operator("FastGelu", domain=DOMAIN)
def biased_fast_gelu(node: Node) -> ir.Value:
    return _activated(node, fast_gelu)


@onnx_operator("QuickGelu", domain=DOMAIN)
def quick_gelu(node: Node) -> ir.Value:
    alpha = float(node.get("alpha", 1.702))
    return _activated(node, lambda x: x * (x * alpha).sigmoid())


def _activated(node: Node, function: ScalarFunction) -> ir.Value:
    """A function of the input plus an optional bias, in the wide dtype."""
    inputs = [tensor for tensor in node.inputs if tensor is not None]
    target = wide(node.dtype(0))

    def body(x: Scalar, *bias: Scalar) -> Scalar:
        value = x.cast(target)
        return function(value + bias[0].cast(target) if bias else value)

    return node.map(inputs, body, element=node.dtype(0))


# Products ---------------------------------------------------------------------------------------------------
@onnx_operator("FusedMatMul", "TransposeMatMul", domain=DOMAIN)
def fused_matmul(node: Node) -> ir.Value:
    """alpha * A' x B', where either may be transposed, and its batch dimensions moved inward."""
    left = _batch_moved(node, node.input(0), bool(node.get("transBatchA", 0)))
    right = _batch_moved(node, node.input(1), bool(node.get("transBatchB", 0)))
    flags = bool(node.get("transA", 0)), bool(node.get("transB", 0))
    alpha = float(node.get("alpha", 1.0))
    element = left.dtype if alpha == 1 else wide(left.dtype)
    if left.rank > 1 and right.rank > 1:
        value = build.matmul(left.value, right.value, *flags, element=element, unify=node.unify)
    else:
        value = product_of(node, left, right, element)
    return value if alpha == 1 else node.map([value], lambda x: x * alpha, element=left.dtype)


def _batch_moved(node: Node, tensor: Tensor, wanted: bool) -> Tensor:
    """[M, batch..., K] -> [batch..., M, K]"""
    if not wanted:
        return tensor
    order = [*range(1, tensor.rank - 1), 0, tensor.rank - 1]
    return node.tensor(build.transpose(tensor.value, order))


ACTIVATIONS: dict[str, ScalarFunction] = {
    "Relu": lambda x: x.maximum(0.0),
    "Tanh": Scalar.tanh,
    "Sigmoid": Scalar.sigmoid,
}


def activation_of(node: Node) -> ScalarFunction:
    """The attribute `activation` with its parameters."""
    name = node.get("activation", "")
    given = [float(item) for item in node.get("activation_params") or []]
    single = [float(node.get(f"activation_{key}", default)) for key, default in (("alpha", 0.01), ("beta", 0.5))]
    alpha, beta = (given + single[len(given) :])[:2]
    with_parameters: dict[str, ScalarFunction] = {
        "LeakyRelu": lambda x: x.lt(0.0).select(x * alpha, x),
        "Clip": lambda x: x.clip(alpha, beta),
        "HardSigmoid": lambda x: (x * alpha + beta).clip(0.0, 1.0),
    }
    functions = {"": lambda x: x, **ACTIVATIONS, **with_parameters}
    if name not in functions:
        raise Unsupported(f"{node.operator} with the activation '{name}'", ", ".join(functions))
    return functions[name]


@onnx_operator("FusedConv", domain=DOMAIN)
def fused_convolution(node: Node) -> ir.Value:
    """Conv, plus a tensor of the same shape, then an activation."""
    from .convolution import convolution

    function, dtype = activation_of(node), node.dtype(0)
    value = convolution(node)
    inputs: list[ir.Value | Tensor] = [value] + ([node.input(3)] if node.has(3) else [])
    return node.map(inputs, lambda x, *z: function(x + z[0] if z else x), element=dtype)


@onnx_operator("FusedGemm", domain=DOMAIN)
def fused_gemm(node: Node) -> ir.Value:
    from .matrix import gemm

    function = activation_of(node)
    return node.map([gemm(node)], function, element=node.dtype(0))


# Normalisations ---------------------------------------------------------------------------------------------
@onnx_operator("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", domain=DOMAIN)
def skip_layer_normalization(node: Node) -> list[Tensor | ir.Value | None]:
    """The sum of input, skip and bias, normalised over the last axis; the sum itself is the fourth output."""
    simplified = node.operator == "SkipSimplifiedLayerNormalization"
    places = (0, 1, 3) if simplified else (0, 1, 4)
    parts = [node.tensor(widened(node, node.input(place))) for place in places if node.has(place)]
    total = node.map(parts, lambda first, *rest: sum(rest, first))
    bias = None if simplified else node.optional(3)
    value = normalised(node, total, node.input(2), bias, float(node.get("epsilon", 1e-12)), not simplified)
    dtype = node.dtype(0)
    return [build.cast(value, dtype), None, None, build.cast(total, dtype)]


def normalised(
    node: Node, value: ir.Value, scale: Tensor, bias: Tensor | None, epsilon: float, centred: bool
) -> ir.Value:
    """Over the last axis: minus the mean (when `centred`), over the deviation, times scale, plus bias; wide dtype."""
    axes = [build.rank_of(value) - 1]
    rest = node.map([value, build.mean(value, axes)], lambda x, m: x - m) if centred else value
    squares = build.mean(node.map([rest], lambda d: d * d), axes)
    inverse = node.map([squares], lambda v: 1.0 / (v + epsilon).sqrt())
    given = [node.tensor(widened(node, tensor)) for tensor in (scale, bias) if tensor is not None]
    return node.map([rest, inverse, *given], lambda d, i, s, *b: d * i * s + b[0] if b else d * i * s)


@onnx_operator("EmbedLayerNormalization", domain=DOMAIN)
def embed_layer_normalization(node: Node) -> list[Tensor | ir.Value | None]:
    """Word, position and segment embeddings added and normalised: [N, steps] -> [N, steps, hidden]."""
    ids, words, places = node.input(0), node.input(2), node.input(3)
    shape = [*ids.shape, words.shape[1]]
    segments = node.optional(4) if node.has(1) else None
    given = node.optional(8)

    def row(table: Tensor, number: Scalar) -> Scalar:
        inside = number.cast("i64").clip(0, build.dimension(table.shape[0]) - 1)
        return build.element_at(table.value, [inside, build.index(2)]).cast(wide(words.dtype))

    def body() -> Scalar:
        here = [build.index(0), build.index(1)]
        value = row(words, build.element_at(ids.value, here))
        value = value + row(places, build.element_at(given.value, here) if given else here[1])
        if segments is not None:
            value = value + row(segments, build.element_at(node.value(1), here))
        return value

    total = node.map([], body, shape=shape)
    epsilon = float(node.get("epsilon", 1e-12))
    value = normalised(node, total, node.input(5), node.input(6), epsilon, True)
    mask = node.optional(7)
    if mask is None:
        lengths: ir.Value = node.map([], lambda: Scalar.constant(0, "i32"), shape=[ids.shape[0]])
    else:
        lengths = build.remove_dimensions(build.reduce(mask.value, "sum", [1]), [1])
    return [build.cast(value, words.dtype), lengths, build.cast(total, words.dtype)]

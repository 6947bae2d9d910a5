"""onnxruntime's operators (com.microsoft) with the channels last, which its optimisers write for its own kernels.

In: tensors [N, spatial..., C]. Out: the operators with the channels second, between transposes, which the plan of
layouts then places as suits ours.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass

from mlir import ir

from ....dialects import graph_builder as build
from ..node import Node
from ..registry import OperatorFunction, onnx_operator
from ..tensor import Tensor
from .contrib import DOMAIN, fused_convolution
from .convolution import convolution
from .pooling import max_pool
from .quantization import quantized_convolution


@dataclass(frozen=True)
class Turned:
    """The operator with the channels second, and which inputs have them last: `always`, or where the node's attribute
    `channels_last` says so.
    """

    function: OperatorFunction
    inputs: tuple[int, ...] = (0,)
    always: bool = True


OPERATORS = {
    "NhwcConv": Turned(convolution, (0, 1)),  # its weights are [O, kernel..., C / groups]
    "NhwcFusedConv": Turned(fused_convolution, (0, 3)),  # its weights are those of Conv
    "NhwcMaxPool": Turned(max_pool),
    "QLinearConv": Turned(quantized_convolution, always=False),
}


@onnx_operator(*OPERATORS, domain=DOMAIN)
def with_channels_last(node: Node) -> ir.Value:
    turned = OPERATORS[node.operator]
    if not turned.always and not node.get("channels_last", 0):
        return only_output(turned.function(node))
    inner = channels_second(node, turned.inputs)
    return channels_moved_last(only_output(turned.function(inner)))


def only_output(results: object) -> ir.Value:
    """The first of what an importer gave."""
    first = results[0] if isinstance(results, (list, tuple)) else results
    value: ir.Value = first.value if isinstance(first, Tensor) else first
    return value


def channels_second(node: Node, places: tuple[int, ...]) -> Node:
    """The node with these inputs as [N, C, spatial...]."""
    inner = copy(node)
    inner.inputs = list(node.inputs)
    for place in places:
        tensor = node.optional(place)
        if tensor is not None:
            inner.inputs[place] = node.tensor(channels_moved_second(tensor.value))
    return inner


def channels_moved_second(value: ir.Value) -> ir.Value:
    """[N, spatial..., C] -> [N, C, spatial...]"""
    rank = build.rank_of(value)
    return build.transpose(value, [0, rank - 1, *range(1, rank - 1)])


def channels_moved_last(value: ir.Value) -> ir.Value:
    """[N, C, spatial...] -> [N, spatial..., C]"""
    rank = build.rank_of(value)
    return build.transpose(value, [0, *range(2, rank), 1])

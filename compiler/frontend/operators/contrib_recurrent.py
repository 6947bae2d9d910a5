"""onnxruntime's LSTM with 8-bit weights (com.microsoft), which its dynamic quantisation makes.

In: a sequence in f32, weights as integers with scales. Out: the LSTM of recurrent.py, whose product with the input
is one of integers, and whose recurrence weights are dequantised where they are read.
"""

from __future__ import annotations

from mlir import ir

from ....dialects import graph_builder as build
from ....dialects.scalar import Scalar
from ..errors import Unsupported
from ..node import Node
from ..registry import onnx_operator
from ..tensor import Tensor
from .contrib import DOMAIN
from .matrix import product_of, shifted
from .quantization import dynamic_quantize_linear
from .recurrent import Sequence, direction_of, is_plain, lstm_bias, run_lstm, sequence_of, stack


@onnx_operator("DynamicQuantizeLSTM", domain=DOMAIN)
def dynamic_quantize_lstm(node: Node) -> list[ir.Value]:
    """The input is quantised with the scale of its own range, as DynamicQuantizeLinear does. onnxruntime rounds the
    hidden state to 8 bits before every step, too; here it keeps its bits, as in the model that was quantised.
    """
    sequence = sequence_of(node, hidden_axis=1)
    if not is_plain(node, sequence):
        raise Unsupported("DynamicQuantizeLSTM with other activations or clip", "sigmoid, tanh, tanh")
    quantised = [node.tensor(value) for value in dynamic_quantize_linear(node)]
    outputs = [_direction(node, sequence, quantised, direction) for direction in range(sequence.directions)]
    return [stack(node, sequence, [item[number] for item in outputs], number == 0) for number in range(3)]


def _direction(node: Node, sequence: Sequence, quantised: list[Tensor], direction: int) -> list[ir.Value]:
    x, scale, zero = quantised
    weight, weight_scale, weight_zero = (_part(node, place, direction) for place in (1, 8, 9))
    inner = product_of(node, shifted(node, x, zero), shifted(node, weight, weight_zero), "i32")
    bias = lstm_bias(node, sequence, direction)

    def scaled(v: Scalar, a: Scalar, b: Scalar, *rest: Scalar) -> Scalar:
        value = v.cast("f32") * (a * b)
        return value + rest[0] if rest else value

    gates = node.map([inner, scale, weight_scale, *([bias] if bias is not None else [])], scaled)
    return run_lstm(node, sequence, direction, gates, _recurrence(node, direction))


def _recurrence(node: Node, direction: int) -> ir.Value:
    """[H, 4H] of integers as [4H, H] of f32."""
    weight, scale, zero = (_part(node, place, direction) for place in (2, 10, 11))
    value = node.map(
        [weight, scale, zero],
        lambda v, s, z: (v.cast("i32") - z.cast("i32")).cast("f32") * s,
        shape=weight.shape,
    )
    return build.transpose(value, [1, 0])


def _part(node: Node, position: int, direction: int) -> Tensor:
    """A weight of one direction; its scale and zero point are for all of it or one a column."""
    tensor = direction_of(node, node.input(position), direction)
    return node.reshaped(tensor, []) if tensor.size == 1 else tensor

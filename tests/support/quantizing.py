"""Quantised and half-precision forms of a model, made with onnxruntime's tools.

In: a model, inputs to calibrate with, and one of FORMS. Out: the quantised model in memory.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

Inputs = Mapping[str, NDArray[np.generic]]
# Static forms have a scale for every activation, found from the inputs; dynamic ones find it in each run.
FORMS = {
    "qdq": "QuantizeLinear and DequantizeLinear around every operator, i8",
    "qdq-channels": "the same with u8 activations and a scale for each output channel of a weight",
    "qoperator": "QLinearConv, QLinearMatMul and their kin, u8 activations",
    "dynamic": "DynamicQuantizeLinear, MatMulInteger, ConvInteger with i8 weights",
    "dynamic-u8": "the same with u8 weights, whose zero points are not 0",
    "int4": "MatMulNBits: 4-bit weights in blocks of 32",
    "int4-qdq": "DequantizeLinear of int4 weights in blocks of 32, opset 21",
    "f16": "float16 weights and activations",
}


class _Calibration:
    """Inputs one after the other, as the quantizer wants to read them."""

    def __init__(self, batches: Sequence[Inputs]) -> None:
        self._batches: Iterator[Inputs] = iter(batches)

    def get_next(self) -> Inputs | None:
        """The next inputs, None after the last."""
        return next(self._batches, None)


def quantized(model: onnx.ModelProto, batches: Sequence[Inputs], form: str) -> onnx.ModelProto:
    """The model in that form."""
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    logging.getLogger().setLevel(logging.ERROR)  # the quantizer advises to preprocess, which has been done
    with tempfile.TemporaryDirectory() as folder:
        given, source, target = (Path(folder) / f"{stem}.onnx" for stem in ("given", "source", "target"))
        onnx.save(model, given)
        quant_pre_process(given, source, skip_symbolic_shape=True)
        if form.startswith("int4"):
            return _int4(source, qdq=form.endswith("qdq"))
        if form == "f16":
            return _half(source)
        if form.startswith("dynamic"):
            _forget_shapes_of_weights(source)
            quantize_dynamic(source, target, weight_type=QuantType.QUInt8 if form.endswith("u8") else QuantType.QInt8)
        else:
            _static(source, target, batches, form)
        return onnx.load(target)


def _forget_shapes_of_weights(path: Path) -> None:
    """The dynamic quantizer turns the weights of a Gemm round, and stumbles over the shape that they had."""
    model = onnx.load(path)
    weights = {tensor.name for tensor in model.graph.initializer}
    kept = [info for info in model.graph.value_info if info.name not in weights]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)
    onnx.save(model, path)


def _half(source: Path) -> onnx.ModelProto:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    result: onnx.ModelProto = convert_float_to_float16(onnx.load(source), keep_io_types=True)
    return result


def _int4(source: Path, qdq: bool) -> onnx.ModelProto:
    from onnxruntime.quantization import QuantFormat
    from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer

    logging.getLogger(MatMulNBitsQuantizer.__module__).setLevel(logging.ERROR)  # it tells of every node that it skips
    form = QuantFormat.QDQ if qdq else QuantFormat.QOperator
    options = DefaultWeightOnlyQuantConfig(block_size=32, is_symmetric=True, quant_format=form)
    quantizer = MatMulNBitsQuantizer(onnx.load(source), algo_config=options)
    quantizer.process()
    result: onnx.ModelProto = quantizer.model.model
    return result


def _static(source: Path, target: Path, batches: Sequence[Inputs], form: str) -> None:
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    options: dict[str, Any] = {
        "quant_format": QuantFormat.QOperator if form == "qoperator" else QuantFormat.QDQ,
        "per_channel": form == "qdq-channels",
        "activation_type": QuantType.QInt8 if form == "qdq" else QuantType.QUInt8,
        "weight_type": QuantType.QInt8,
    }
    quantize_static(source, target, _Calibration(batches), **options)

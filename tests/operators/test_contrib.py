"""onnxruntime's operators (com.microsoft) against onnxruntime itself, through the importer and the graph interpreter.

One row of CASES a case: operator, attributes, inputs, number of outputs compared. Some run on the emulator too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import tilewright
from tilewright.compiler.frontend import import_model
from tilewright.passes.graph.interpret import interpret

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(7)
EMULATED = ("matmul_nbits", "skip_layer_norm", "group_query", "qlinear_add", "dynamic_quantize_matmul",
            "gather_block_quantized", "qlinear_conv_last", "mixture", "quantised_mixture")  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A node; an input of None is left out. `outputs` are the positions to compare."""

    name: str
    operator: str
    inputs: list[Array | None]
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: tuple[int, ...] = (0,)
    steps: int = 0  # quantised results may differ by as many steps where a product rounds the other way


def floats(*shape: int, scale: float = 1.0) -> Array:
    return (RNG.normal(size=shape) * scale).astype(np.float32)


def integers(low: int, high: int, *shape: int, kind: Any = np.uint8) -> Array:
    return RNG.integers(low, high, shape).astype(kind)


def scalar(value: float, kind: Any = np.float32) -> Array:
    return np.array(value, kind)


X = floats(2, 5, 32)
TABLES = [np.cos(floats(16, 4)), np.sin(floats(16, 4))]
WIDE_TABLES = [np.cos(floats(16, 8)), np.sin(floats(16, 8))]
QUANTISED = [integers(0, 256, 2, 6, 4, 4), scalar(0.02), scalar(120, np.uint8)]
TARGET = [scalar(0.05), scalar(110, np.uint8)]
CASES = [
    Case("gelu", "Gelu", [X]),
    Case("bias_gelu", "BiasGelu", [X, floats(32)]),
    Case("fast_gelu", "FastGelu", [X, floats(32)]),
    Case("quick_gelu", "QuickGelu", [X], {"alpha": 1.5}),
    Case("fused_matmul", "FusedMatMul", [floats(2, 4, 3), floats(2, 5, 4)], {"transA": 1, "transB": 1, "alpha": 0.5}),
    Case("fused_matmul_batches", "FusedMatMul", [floats(3, 2, 4), floats(2, 4, 5)], {"transBatchA": 1}),
    Case("fused_conv", "FusedConv", [floats(1, 3, 6, 6), floats(4, 3, 3, 3), floats(4)], {"activation": "Relu"}),
    Case(
        "skip_layer_norm",
        "SkipLayerNormalization",
        [X, floats(2, 5, 32), floats(32), floats(32), floats(32)],
        {"epsilon": 1e-5},
        (0, 3),
    ),
    Case(
        "skip_rms_norm",
        "SkipSimplifiedLayerNormalization",
        [X, floats(2, 5, 32), floats(32)],
        {"epsilon": 1e-5},
        (0, 3),
    ),
    Case(
        "embed_layer_norm",
        "EmbedLayerNormalization",
        [
            integers(0, 9, 2, 5, kind=np.int32),
            integers(0, 2, 2, 5, kind=np.int32),
            floats(9, 8),
            floats(6, 8),
            floats(2, 8),
            floats(8),
            floats(8),
            np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32),
        ],
        {"epsilon": 1e-5},
        (0, 1),
    ),
    Case(
        "matmul_nbits",
        "MatMulNBits",
        [floats(3, 40), integers(0, 256, 6, 3, 8), floats(18)],
        {"K": 40, "N": 6, "bits": 4, "block_size": 16},
    ),
    Case(
        "matmul_nbits_zeros",
        "MatMulNBits",
        [floats(3, 64), integers(0, 256, 6, 4, 8), floats(24), integers(0, 256, 12)],
        {"K": 64, "N": 6, "bits": 4, "block_size": 16},
    ),
    Case(
        "dynamic_quantize_matmul",
        "DynamicQuantizeMatMul",
        [X, integers(0, 256, 32, 6), floats(6) ** 2, integers(0, 256, 6), floats(6)],
    ),
    Case(
        "matmul_integer_to_float",
        "MatMulIntegerToFloat",
        [
            integers(0, 256, 4, 8),
            integers(-128, 128, 8, 6, kind=np.int8),
            scalar(0.1),
            floats(6) ** 2,
            scalar(7, np.uint8),
            None,
            floats(6),
        ],
    ),
    Case(
        "qlinear_add",
        "QLinearAdd",
        [*QUANTISED, integers(0, 256, 6, 1, 4), scalar(0.03), scalar(90, np.uint8), *TARGET],
        steps=1,
    ),
    Case(
        "qlinear_mul",
        "QLinearMul",
        [*QUANTISED, integers(0, 256, 6, 1, 4), scalar(0.03), scalar(90, np.uint8), *TARGET],
        steps=1,
    ),
    Case("qlinear_sigmoid", "QLinearSigmoid", [*QUANTISED, scalar(1 / 256), scalar(0, np.uint8)], steps=1),
    Case("qlinear_leaky_relu", "QLinearLeakyRelu", [*QUANTISED, *TARGET], {"alpha": 0.1}, steps=1),
    Case(
        "qlinear_softmax",
        "QLinearSoftmax",
        [*QUANTISED, scalar(1 / 256), scalar(0, np.uint8)],
        {"axis": -1, "opset": 13},
        steps=1,
    ),
    Case("qlinear_global_pool", "QLinearGlobalAveragePool", [*QUANTISED, *TARGET], steps=1),
    Case(
        "qlinear_pool",
        "QLinearAveragePool",
        [*QUANTISED, *TARGET],
        {"kernel_shape": [2, 2], "strides": [2, 2]},
        steps=1,
    ),
    Case(
        "qlinear_concat",
        "QLinearConcat",
        [*TARGET, *QUANTISED, integers(0, 256, 2, 3, 4, 4), scalar(0.1), scalar(8, np.uint8)],
        {"axis": 1},
        steps=1,
    ),
    Case(
        "qgemm",
        "QGemm",
        [
            integers(0, 256, 4, 8),
            scalar(0.02),
            scalar(9, np.uint8),
            integers(-128, 128, 6, 8, kind=np.int8),
            scalar(0.03),
            scalar(0, np.int8),
            integers(-99, 99, 6, kind=np.int32),
            *TARGET,
        ],
        {"transB": 1},
        steps=1,
    ),
    Case(
        "multi_head",
        "MultiHeadAttention",
        [X, floats(2, 7, 32), floats(2, 7, 32), floats(96), np.array([7, 4], np.int32)],
        {"num_heads": 4},
    ),
    Case(
        "multi_head_mask",
        "MultiHeadAttention",
        [
            X,
            floats(2, 7, 32),
            floats(2, 7, 32),
            None,
            integers(0, 2, 2, 7, kind=np.int32) | np.eye(2, 7, dtype=np.int32),
        ],
        {"num_heads": 4, "scale": 0.2},
    ),
    Case(
        "attention",
        "Attention",
        [X, floats(32, 96, scale=0.2), floats(96), np.array([5, 3], np.int32)],
        {"num_heads": 4, "unidirectional": 1},
    ),
    Case(
        "attention_past",
        "Attention",
        [X, floats(32, 96, scale=0.2), floats(96), None, floats(2, 2, 4, 3, 8)],
        {"num_heads": 4, "unidirectional": 1},
        (0, 1),
    ),
    Case(
        "quantised_attention",
        "QAttention",
        [
            integers(0, 256, 2, 5, 32),
            integers(-128, 128, 32, 96, kind=np.int8),
            floats(96),
            scalar(0.02),
            scalar(0.01),
            None,
            scalar(127, np.uint8),
            scalar(0, np.int8),
        ],
        {"num_heads": 4},
    ),
    Case("rotary", "RotaryEmbedding", [floats(2, 5, 32), integers(0, 16, 2, 5, kind=np.int64), *TABLES]),
    Case(
        "rotary_offset", "RotaryEmbedding", [floats(2, 4, 5, 8), np.array([3], np.int64), *TABLES], {"interleaved": 1}
    ),
    Case(
        "group_query",
        "GroupQueryAttention",
        [
            floats(2, 1, 64),
            floats(2, 1, 32),
            floats(2, 1, 32),
            floats(2, 2, 4, 16),
            floats(2, 2, 4, 16),
            np.array([4, 4], np.int32),
            np.array(5, np.int32),
            *WIDE_TABLES,
        ],
        {"num_heads": 4, "kv_num_heads": 2, "do_rotary": 1},
        (0, 1, 2),
    ),
    Case(
        "group_query_prompt",
        "GroupQueryAttention",
        [floats(1, 5, 64), None, None, None, None, np.array([4], np.int32), np.array(5, np.int32)],
        {"num_heads": 4, "kv_num_heads": 2, "local_window_size": 3},
        (0, 1, 2),
    ),
    Case(
        "qlinear_where",
        "QLinearWhere",
        [
            integers(0, 2, 2, 6, 4, 4, kind=np.bool_),
            *QUANTISED,
            integers(0, 256, 4),
            scalar(0.1),
            scalar(8, np.uint8),
            *TARGET,
        ],
        steps=1,
    ),
    Case(
        "gather_block_quantized",
        "GatherBlockQuantized",
        [integers(0, 256, 9, 32), integers(-9, 9, 2, 3, kind=np.int64), floats(9, 4), integers(0, 256, 9, 2)],
        {"block_size": 16, "quantize_axis": 1, "gather_axis": 0, "bits": 4},
    ),
    Case(
        "gather_block_quantized_bytes",
        "GatherBlockQuantized",
        [integers(0, 256, 9, 2, 32), integers(0, 9, 4, kind=np.int32), floats(9, 2, 2)],
        {"block_size": 16, "quantize_axis": 2, "bits": 8},
    ),
    Case(
        "max_pool_last",
        "NhwcMaxPool",
        [integers(0, 256, 2, 9, 7, 3)],
        {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]},
    ),
    Case(
        "qlinear_conv_last",
        "QLinearConv",
        [
            *[integers(0, 256, 2, 9, 7, 4), scalar(0.02), scalar(120, np.uint8)],
            *[integers(0, 256, 6, 2, 3, 3), floats(6) ** 2 * 0.01 + 0.01, np.full(6, 128, np.uint8)],
            *[scalar(0.5), scalar(100, np.uint8), integers(-100, 100, 6, kind=np.int32)],
        ],
        {"channels_last": 1, "group": 2, "pads": [1, 1, 1, 1]},
        steps=1,
    ),
    Case(
        "qlinear_pool_last",
        "QLinearAveragePool",
        [integers(0, 256, 2, 9, 7, 4), scalar(0.02), scalar(120, np.uint8), *TARGET],
        {"channels_last": 1, "ceil_mode": 1, "kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
        steps=1,
    ),
    Case(
        "mixture",
        "MoE",
        [floats(5, 8), floats(5, 4), floats(4, 16, 8), floats(4, 16), floats(4, 8, 16), floats(4, 8)],
        {"k": 2, "activation_type": "silu"},
    ),
    Case(
        "mixture_gated",
        "MoE",
        [floats(2, 3, 8), floats(6, 4), floats(4, 32, 8), floats(4, 32), floats(4, 8, 16), floats(4, 8)],
        {"k": 2, "activation_type": "swiglu", "swiglu_fusion": 1, "swiglu_limit": 1.0, "activation_alpha": 1.7,
         "activation_beta": 1.0, "normalize_routing_weights": 1},
    ),
    Case(
        "quantised_mixture",
        "QMoE",
        [
            *[floats(5, 32), floats(5, 4), integers(0, 256, 4, 32, 16), floats(4, 32, 2) ** 2 * 0.1, floats(4, 32)],
            *[integers(0, 256, 4, 32, 16), floats(4, 32, 2) ** 2 * 0.1, floats(4, 32), None, None, None],
            *[integers(0, 256, 4, 32, 1), integers(0, 256, 4, 32, 1)],
        ],
        {"k": 2, "activation_type": "relu", "normalize_routing_weights": 1, "block_size": 16},
    ),
    Case(
        "quantised_mixture_bytes",
        "QMoE",
        [
            *[floats(5, 32), floats(5, 4), integers(0, 256, 4, 64, 32), floats(4, 64) ** 2 * 0.01, floats(4, 64)],
            *[integers(0, 256, 4, 32, 32), floats(4, 32) ** 2 * 0.01, None],
        ],
        {"k": 1, "activation_type": "swiglu", "swiglu_fusion": 1, "normalize_routing_weights": 1,
         "expert_weight_bits": 8},
    ),
]  # fmt: skip


def model_of(case: Case) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """One node whose float inputs are inputs of the model and the others constants."""
    names = [f"i{place}" if array is not None else "" for place, array in enumerate(case.inputs)]
    node = helper.make_node(
        case.operator, names, [f"o{place}" if place in case.outputs else "" for place in range(max(case.outputs) + 1)],
        domain="com.microsoft", **case.attributes,
    )  # fmt: skip
    fed = {name: array for name, array in zip(names, case.inputs, strict=True) if array is not None and name == "i0"}
    constants = [
        onnx.numpy_helper.from_array(array, name)
        for name, array in zip(names, case.inputs, strict=True)
        if array is not None and name not in fed
    ]
    given = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in fed.items()
    ]
    wanted = [helper.make_empty_tensor_value_info(f"o{place}") for place in case.outputs]
    graph = helper.make_graph([node], case.name, given, wanted, constants)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9), fed


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_same_as_onnxruntime(case: Case) -> None:
    runtime = pytest.importorskip("onnxruntime")
    model, fed = model_of(case)
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    reference = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    expected = dict(zip([f"o{place}" for place in case.outputs], reference.run(None, fed), strict=True))
    compare(case, interpret(import_model(model), fed), expected)
    if case.name in EMULATED:
        with tilewright.compile(model).session("emulator", checked=True) as session:
            compare(case, session.run(fed), expected)


def compare(case: Case, given: dict[str, Array], expected: dict[str, Array]) -> None:
    """Integers within the case's steps; floats to 2e-5 of the largest element: sums of up to 96 f32 products."""
    for name, wanted in expected.items():
        assert given[name].dtype == wanted.dtype and given[name].shape == wanted.shape
        if wanted.dtype.kind in "iu":
            assert np.abs(given[name].astype(np.int64) - wanted.astype(np.int64)).max() <= case.steps
        else:
            np.testing.assert_allclose(given[name], wanted, rtol=2e-5, atol=2e-5 * np.abs(wanted).max())

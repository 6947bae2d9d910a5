"""Transposed convolutions as products and convolutions: their numbers, by the graph interpreter and as kernels."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, parser

import tilewright
from tilewright.compiler.compilation import Compilation, Options
from tilewright.compiler.pipeline import run_pipeline
from tilewright.passes.graph.interpret import interpret
from tilewright.runtime.emulator.observer import Order
from tilewright.runtime.sanitizing import sanitize

RNG = np.random.default_rng(0)


def _model(nodes: str, inputs: str, weights: dict[str, tuple[int, ...]]) -> onnx.ModelProto:
    text = f'<ir_version: 10, opset_import: ["": 21]> enlarge ({inputs}) => (float[?] y) {{ {nodes} }}'
    model = parser.parse_model(text)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    for name, shape in weights.items():
        array = (RNG.standard_normal(shape) / np.sqrt(np.prod(shape[:1]) or 1)).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    return model


def _expected(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    return np.asarray(onnxruntime.InferenceSession(model.SerializeToString()).run(["y"], {"x": x})[0])


@pytest.mark.parametrize(
    "attributes,spatial,kernel,kind",
    [
        ("strides = [2, 2]", (5, 4), (2, 2), "graph.matmul"),
        ("strides = [3]", (7,), (3,), "graph.matmul"),
        ("strides = [1, 2, 3]", (2, 3, 4), (1, 2, 3), "graph.matmul"),
        ("pads = [1, 0, 2, 1]", (5, 6), (3, 4), "graph.convolution"),
        ("dilations = [2]", (9,), (3,), "graph.convolution"),
        ("output_padding = [0, 1], strides = [2, 2]", (5, 4), (2, 2), "graph.convolution_transpose"),
        ("pads = [3, 3]", (9,), (3,), "graph.convolution_transpose"),
    ],
)
def test_numbers(attributes: str, spatial: tuple[int, ...], kernel: tuple[int, ...], kind: str) -> None:
    sizes = ", ".join(map(str, spatial))
    model = _model(f"y = ConvTranspose <{attributes}> (x, w)", f"float[n, 6, {sizes}] x", {"w": (6, 5, *kernel)})
    compilation = Compilation(Options(target="sm_80"), model)
    run_pipeline(compilation, last="plain-transposed-convolutions")
    assert f'"{kind}"(' in str(compilation.unit.module)
    x = RNG.standard_normal((2, 6, *spatial)).astype(np.float32)
    found = interpret(compilation.unit, {"x": x})["y"]
    # Sums of at most 72 products in another order.
    np.testing.assert_allclose(found, _expected(model, x), rtol=0, atol=1e-5)


def test_a_u_net_enlarges_by_one_kernel_with_wgmma() -> None:
    """With bias and activation in its epilogue; channels last in front and behind."""
    nodes = """a = Conv (x, v)  r = Relu(a)  t = ConvTranspose <strides = [2, 2]> (r, w, b)  q = Relu(t)
        y = Conv <pads = [1, 1, 1, 1]> (q, u)"""
    shapes = {"v": (64, 16, 1, 1), "w": (64, 64, 2, 2), "b": (64,), "u": (16, 64, 3, 3)}
    model = _model(nodes, "float[1, 16, 6, 10] x", shapes)
    engine = tilewright.compile(model, target="sm_90a", precision="f16")
    launches = [launch.kernel for launch in engine.program.launches]
    assert len(launches) == 3 and "wgmma.mma_async" in engine.ptx(launches[1])
    x = RNG.standard_normal((1, 16, 6, 10)).astype(np.float32)
    ((found,), report) = sanitize(engine, [{"x": x}], Order("random", 4))
    assert not report.findings, str(report)
    wanted = _expected(model, x)
    # Three layers, each rounded to 11 bits.
    np.testing.assert_allclose(found["y"], wanted, rtol=0, atol=2**-8 * np.abs(wanted).max())

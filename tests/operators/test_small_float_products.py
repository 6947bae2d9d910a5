"""Products of 8-bit floats on tensor cores: QuantizeLinear, DequantizeLinear and Cast around MatMul and Gemm."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import tilewright
from tilewright.runtime.device import open_device
from tilewright.runtime.sanitizing import parse_order, sanitize
from tilewright.runtime.session import Session

Array = np.ndarray
E4M3, E5M2 = TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2
NUMPY = {E4M3: ml_dtypes.float8_e4m3fn, E5M2: ml_dtypes.float8_e5m2}
LARGEST = {E4M3: 448.0, E5M2: 57344.0}
SCALE = 0.02


@dataclass(frozen=True)
class Case:
    """x of m x k, quantised, times weights of k x n with a scale for each column."""

    kind: int = E4M3
    sizes: tuple[int, int, int] = (70, 128, 96)
    operator: str = "MatMul"
    instruction: str = "wgmma"
    target: str = "sm_90a"
    zeros: bool = False  # a zero point for each column, too

    @property
    def weight(self) -> Array:
        _, k, n = self.sizes
        shape = (n, k) if self.operator == "Gemm" else (k, n)
        return np.random.default_rng(0).standard_normal(shape).astype(NUMPY[self.kind])

    @property
    def scales(self) -> Array:
        return np.linspace(0.01, 0.05, self.sizes[2], dtype=np.float32)

    def model(self) -> onnx.ModelProto:
        _, k, n = self.sizes
        axis = 0 if self.operator == "Gemm" else 1
        turned = {"transB": 1} if self.operator == "Gemm" else {}
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["a"]),
            helper.make_node("DequantizeLinear", ["w", "scales", *["zeros"] * self.zeros], ["b"], axis=axis),
            helper.make_node(self.operator, ["a", "b"], ["p"], **turned),
            helper.make_node("Relu", ["p"], ["y"]),
        ]
        weights = [
            helper.make_tensor("w", self.kind, self.weight.shape, self.weight.tobytes(), raw=True),
            helper.make_tensor("zero", self.kind, (), b"\0", raw=True),
            *[helper.make_tensor("zeros", self.kind, (n,), bytes(n), raw=True)] * self.zeros,
            numpy_helper.from_array(np.float32(SCALE), "scale"),
            numpy_helper.from_array(self.scales, "scales"),
        ]
        values = [helper.make_tensor_value_info(*given) for given in (("x", 1, ["m", k]), ("y", 1, ["m", n]))]
        graph = helper.make_graph(nodes, "small_floats", values[:1], values[1:], weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)

    def expected(self, x: Array) -> Array:
        largest = LARGEST[self.kind]
        q = np.clip(x / np.float32(SCALE), -largest, largest).astype(NUMPY[self.kind]).astype(np.float64)
        w = self.weight.astype(np.float64)
        return np.maximum(q @ (w.T if self.operator == "Gemm" else w) * SCALE * self.scales, 0)


CASES = {
    "e4m3": Case(),
    "e5m2, weights of a Gemm": Case(E5M2, operator="Gemm"),
    "zero points of columns": Case(zeros=True),
    "a few rows": Case(sizes=(6, 64, 200)),
    "lines that no tensor map has": Case(sizes=(33, 68, 66), instruction="m16n8k32.row.col.f32.e4m3.e4m3"),
    "e5m2, such lines": Case(E5M2, (20, 100, 34), instruction="m16n8k32.row.col.f32.e5m2.e5m2"),
    "lines of odd length": Case(sizes=(33, 65, 66), instruction="m16n8k16.row.col.f32.f16.f16"),
    "Ada": Case(instruction="m16n8k32.row.col.f32.e4m3.e4m3", target="sm_89"),
    "Ada, weights of a Gemm": Case(E5M2, operator="Gemm", instruction="m16n8k32", target="sm_89"),
    "Blackwell's cards": Case(E5M2, (6, 64, 200), instruction="m16n8k32.row.col.f32.e5m2.e5m2", target="sm_120"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_quantised_products(case: Case) -> None:
    engine = tilewright.compile(case.model(), target=case.target, precision="f16")
    ptx = "".join(engine.ptx(name) for name in engine.kernels)
    assert case.instruction in ptx and ("wgmma.mma_async" in ptx) == (case.instruction == "wgmma")
    x = 2 * np.random.default_rng(1).standard_normal((case.sizes[0], case.sizes[1])).astype(np.float32)
    with Session(engine, open_device("emulator")) as session:
        found = session.run({"x": x})["y"]
    expected = case.expected(x)
    # Products are exact, and on the emulator so are sums but for f32's 2**-24 a step; a GPU keeps fewer bits of them.
    np.testing.assert_allclose(found, expected, rtol=0, atol=2**-20 * float(np.abs(expected).max()))


INSTRUCTIONS = {"sm_90a": "wgmma.mma_async", "sm_89": "mma.sync"}


@pytest.mark.parametrize("target", INSTRUCTIONS)
def test_casts_are_decoders_too_and_the_sanitizer_finds_nothing(target: str) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["q"], to=E4M3),
        helper.make_node("Cast", ["q"], ["a"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["w"], ["b"], to=TensorProto.FLOAT16),
        helper.make_node("MatMul", ["a", "b"], ["y"]),
    ]
    weight = np.random.default_rng(0).standard_normal((64, 64)).astype(NUMPY[E4M3])
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT16, ["m", 64]) for name in "xy"]
    weights = [helper.make_tensor("w", E4M3, weight.shape, weight.tobytes(), raw=True)]
    graph = helper.make_graph(nodes, "casts", values[:1], values[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    engine = tilewright.compile(model, target=target, precision="f16")
    ptx = "".join(engine.ptx(name) for name in engine.kernels)
    assert INSTRUCTIONS[target] in ptx and "e4m3.e4m3" in ptx
    x = np.random.default_rng(1).standard_normal((66, 64)).astype(np.float16)
    outputs, report = sanitize(engine, [{"x": x}], parse_order("random:2"))
    assert "nothing found" in str(report)
    expected = x.astype(NUMPY[E4M3]).astype(np.float64) @ weight.astype(np.float64)
    # A half keeps 2**-11 of each number.
    np.testing.assert_allclose(outputs[0]["y"], expected, rtol=2**-10, atol=2**-10)


@pytest.mark.parametrize("options", [{"target": "sm_80", "precision": "f16"}, {"precision": "strict"}])
def test_elsewhere_nothing_changes(options: dict[str, str]) -> None:
    engine = tilewright.compile(Case().model(), **options)
    assert not any("wgmma" in engine.ptx(name) for name in engine.kernels)

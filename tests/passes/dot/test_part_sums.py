"""Products that add up the statistics of their result: no row kernel reads it, whatever program computes the product."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

import tilewright
from tilewright.runtime.engine import Engine
from tilewright.runtime.sanitizing import sanitize

NORMS = {
    "layer": "n = LayerNormalization <axis = -1, epsilon = 0.001> (s, gamma, beta)",
    # As exporters write it in other versions; a quotient, and a mean of squares.
    "root": "p = Mul(s, s)  q = ReduceMean <keepdims = 1> (p, last)  t = Add(q, tiny)  u = Sqrt(t)  v = Div(s, u)"
    "  n = Mul(v, gamma)",
}


@dataclass(frozen=True)
class Case:
    """s = x w + bias + r; y = norm(s) w2, in f16 or f32 as the model has it; `mean` is added by the bias."""

    rows: int | str
    depth: int
    width: int
    columns: int
    norm: str = "layer"
    element: str = "float16"
    mean: float = 0.0
    residual: bool = False  # the normalised tensor is added to the last product
    gate: bool = False  # the last product is a gate of two
    actual: int = 0  # rows, where they are not known

    def model(self) -> onnx.ModelProto:
        """The model; what it reads has the type that kernels store."""
        casts = "" if self.element == "float16" else "<to = 1>"
        text = f"""<ir_version: 10, opset_import: ["": 20]>
            norm (float16[{self.rows}, {self.depth}] xh, float16[{self.rows}, {self.width}] rh) => ({self.element}[?] y) {{
            x = {f"Cast {casts} (xh)" if casts else "Identity(xh)"}  r = {f"Cast {casts} (rh)" if casts else "Identity(rh)"}
            a = MatMul(x, w)  b = Add(a, bias)  s = Add(b, r)  {NORMS[self.norm]}
            {self._last} }}"""
        model = parser.parse_model(text)
        kind = np.float16 if self.element == "float16" else np.float32
        for name, array in self.weights().items():
            model.graph.initializer.append(numpy_helper.from_array(array.astype(kind), name))
        model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "last"))
        model.graph.initializer.append(numpy_helper.from_array(np.array(1e-3, kind), "tiny"))
        return model

    @property
    def _last(self) -> str:
        if self.gate:
            return "g = MatMul(n, w2)  e = Sigmoid(g)  f = Mul(g, e)  z = MatMul(n, w3)  y = Mul(f, z)"
        return "z = MatMul(n, w2)  y = Add(z, n)" if self.residual else "y = MatMul(n, w2)"

    def weights(self) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(7)
        found = {
            "w": rng.standard_normal((self.depth, self.width)) / np.sqrt(self.depth),
            "bias": rng.standard_normal(self.width) + self.mean,
            "gamma": 1 + 0.2 * rng.standard_normal(self.width),
            "beta": rng.standard_normal(self.width),
            "w2": rng.standard_normal((self.width, self.columns)) / np.sqrt(self.width),
        }
        if self.gate:
            found["w3"] = rng.standard_normal((self.width, self.columns)) / np.sqrt(self.width)
        return {name: array.astype(np.float16) for name, array in found.items()}

    def inputs(self) -> dict[str, np.ndarray]:
        rng, rows = np.random.default_rng(8), self.actual or self.rows
        return {
            "xh": rng.standard_normal((rows, self.depth)).astype(np.float16),
            "rh": rng.standard_normal((rows, self.width)).astype(np.float16),
        }

    def expected(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """In float64, but for s, which is stored."""
        w = {name: array.astype(np.float64) for name, array in self.weights().items()}
        s = inputs["xh"].astype(np.float64) @ w["w"] + w["bias"] + inputs["rh"].astype(np.float64)
        c = s if self.norm == "root" else s - s.mean(1, keepdims=True)
        n = c / np.sqrt((c * c).mean(1, keepdims=True) + 1e-3) * w["gamma"]
        n = n if self.norm == "root" else n + w["beta"]
        first = n @ w["w2"]
        if self.gate:
            return first / (1 + np.exp(-first)) * (n @ w["w3"])
        return first + n if self.residual else first

    def __str__(self) -> str:
        return f"{self.rows}x{self.width}x{self.depth}-{self.norm}-{self.element}{'-residual' * self.residual}{'-gate' * self.gate}"


CASES = [
    Case(150, 64, 256, 192, mean=8.0),  # the residual in boxes, an edge of rows
    Case(150, 64, 256, 192, "root", element="float"),
    Case(150, 64, 192, 192, residual=True),  # what the residual is normalised from comes in boxes
    Case(80, 64, 128, 128, "root", "float", residual=True),  # and is read by threads
    Case(100, 64, 128, 96, "root", gate=True),
    Case(64, 1024, 128, 64, element="float"),  # k shared by a cluster, whose blocks have some rows each
    Case("n", 64, 256, 192, element="float", actual=70),
]


def kinds(engine: Engine) -> list[str]:
    return [name.rsplit("_", 1)[0] for name in engine.kernels]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_statistics_come_from_the_product(case: Case) -> None:
    engine = tilewright.compile(case.model(), precision="f16")
    assert kinds(engine) == ["dot", "dot"]
    inputs = case.inputs()
    (outputs,), report = sanitize(engine, [inputs])
    assert not report.findings
    expected = case.expected(inputs)
    # s, some 8 in size where it has a mean, is stored with a rounding of 2^-12 of itself, and the
    # weights are rounded; of 128 to 256 such products the errors add up to some deviations of that, y is near 1. In
    # models in f16 y is rounded, too; a gate multiplies two sums of some deviations, and so their errors.
    tolerance = 5e-4 * (4 + case.mean) * (4 if case.gate else 2)
    np.testing.assert_allclose(outputs["y"].astype(np.float64), expected, rtol=2**-11, atol=tolerance)


def test_a_reader_that_is_no_product_gets_a_kernel_for_the_statistics() -> None:
    """y = norm(s) w2, and the mean itself is a result: it is computed from the sums of parts, not from s."""
    case = Case(128, 64, 256, 192, element="float")
    model = case.model()
    mean = parser.parse_graph("mean (float[128, 256] s) => (float[128, 1] m) { m = ReduceMean <keepdims = 1> (s, last) }")
    model.graph.node.extend(mean.node)
    model.graph.output.extend(mean.output)
    engine = tilewright.compile(model, precision="f16")
    inputs = case.inputs()
    (outputs,), report = sanitize(engine, [inputs])
    assert not report.findings
    np.testing.assert_allclose(outputs["y"].astype(np.float64), case.expected(inputs), rtol=0, atol=4e-3)
    w = {name: array.astype(np.float64) for name, array in case.weights().items()}
    s = inputs["xh"].astype(np.float64) @ w["w"] + w["bias"] + inputs["rh"].astype(np.float64)
    # Sums of 256 values near 1 in f32.
    np.testing.assert_allclose(outputs["m"], s.mean(1, keepdims=True), rtol=0, atol=1e-5)
    assert list(engine.kernels) == ["dot_0", "row_0_of_parts", "dot_1"]


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
def test_exact_precisions_and_other_targets_keep_the_row_kernel(target: str) -> None:
    precision = "f16" if target == "sm_80" else "tf32"
    engine = tilewright.compile(Case(128, 64, 256, 192).model(), target=target, precision=precision)
    assert "row" in kinds(engine)

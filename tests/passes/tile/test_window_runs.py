"""Runs of windows: answers against numpy and onnxruntime under the sanitizer, what is loaded, and what is chosen."""

from __future__ import annotations

import re

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, numpy_helper, parser

import tilewright
from tilewright.passes.tile import window_runs
from tilewright.passes.tile.window_runs import WindowProblem, WindowSchedule, window_schedules
from tilewright.runtime.emulator.observer import Order
from tilewright.runtime.sanitizing import sanitize

DEPTHWISE = "a = Conv <group = 16, strides = [{s}, {s}], pads = [{p}, {p}, {p}, {p}]> (t, w)  b = Relu(a)"
MAXIMUM = "b = MaxPool <kernel_shape = [{k}, {k}], strides = [{s}, {s}], pads = [{p}, {p}, {p}, {p}]> (t)"
AVERAGE = "b = AveragePool <kernel_shape = [{k}, {k}], strides = [{s}, {s}], pads = [{p}, {p}, {p}, {p}]> (t)"


def _engine(window: str, kernel: int, stride: int) -> tuple[ModelProto, tilewright.Engine]:
    nodes = window.format(k=kernel, s=stride, p=kernel // 2)
    text = (
        '<ir_version: 10, opset_import: ["": 21]> window (float[n, 7, 12, 16] x) => (float[?] y)'
        f" {{ t = Transpose <perm = [0, 3, 1, 2]> (x)  {nodes}  y = Transpose <perm = [0, 2, 3, 1]> (b) }}"
    )
    model = parser.parse_model(text)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    if "Conv" in window:
        weight = np.random.default_rng(1).standard_normal((16, 1, kernel, kernel)).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    return model, tilewright.compile(model, target="sm_90a")


@pytest.mark.parametrize(
    "window,kernel,stride,schedule",
    [
        (DEPTHWISE, 3, 1, WindowSchedule(4, 4)),
        (DEPTHWISE, 5, 2, WindowSchedule(2, 3)),
        (MAXIMUM, 3, 2, WindowSchedule(4, 2)),
        (AVERAGE, 5, 1, WindowSchedule(4, 3)),
    ],
)
def test_runs(window: str, kernel: int, stride: int, schedule: WindowSchedule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_runs, "window_schedules", lambda *_: [schedule])
    model, engine = _engine(window, kernel, stride)
    x = np.random.default_rng(0).standard_normal((2, 7, 12, 16)).astype(np.float32)
    ((found,), report) = sanitize(engine, [{"x": x}], Order("random", 2))
    assert not report.findings, str(report)
    (wanted,) = onnxruntime.InferenceSession(model.SerializeToString()).run(["y"], {"x": x})
    # At most 25 products in another order.
    np.testing.assert_allclose(found["y"], wanted, rtol=0, atol=2e-6 * np.abs(wanted).max())


def test_neighbours_share_what_they_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four windows of 3x3 lie on 3x6 pixels; the nine weights are read once."""
    monkeypatch.setattr(window_runs, "window_schedules", lambda *_: [WindowSchedule(4, 4)])
    _, engine = _engine(DEPTHWISE, 3, 1)
    (kernel,) = engine.kernels
    assert len(re.findall(r"ld\.global[^ ]*\.v4", engine.ptx(kernel))) == 18 + 9
    assert len(re.findall(r"st\.global[^ ]*\.v4", engine.ptx(kernel))) == 4


def test_schedules_spare_registers_and_fill_the_card() -> None:
    large = WindowProblem(64 * 14 * 14 * 672, 14, 672, (5, 5), (1, 1), 2)
    assert window_schedules(large, 132)[0].run > 1
    assert all(window_runs._registers(large, own) <= window_runs.MOST_REGISTERS for own in window_schedules(large, 132))
    small = WindowProblem(14 * 14 * 576, 14, 576, (3, 3), (1, 1), 2)
    assert window_schedules(small, 132)[0] == WindowSchedule(4, 1)
    odd = WindowProblem(64 * 14 * 14 * 3, 14, 3, (3, 3), (1, 1), 2)
    assert {own.vector for own in window_schedules(odd, 132)} == {1}

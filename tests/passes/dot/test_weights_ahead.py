"""Weights are asked for before the kernels in front have ended; what those make is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser
from tests.passes.dot.test_wgmma_schedules import ALL, force

import tilewright
from tilewright.passes.tile.schedule import Schedule
from tilewright.runtime.sanitizing import parse_order, sanitize

HOPPER = "sm_90a"
SIZE = 136
PRODUCT = """<ir_version: 9, opset_import: ["" : 19]>
    product (float16[rows,136] x) => (float16[rows,136] y) { y = MatMul(x, w) }"""
WAIT, COPY = "griddepcontrol.wait", "cp.async.bulk.tensor"
SCHEDULES = {
    "more steps than stages, and tiles than blocks": replace(ALL["64x64, 1 share columns, 1 share k"], resident=3, stages=2),
    "weights for two blocks": replace(ALL["128x128, 2 share columns, 1 share k"], resident=2),
    "in turn": replace(ALL["64x64, 1 share columns, 1 share k, in turn"], resident=2),
    "a part of k": ALL["64x32, 1 share columns, 2 share k"],
}


def model_of(text: str) -> onnx.ModelProto:
    """With integers as weights that halves hold."""
    model = parser.parse_model(text)
    weight = np.random.default_rng(0).integers(-2, 3, (SIZE, SIZE)).astype(np.float16)
    model.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    return model


def check(rows: int) -> tuple[str, str]:
    """The PTX of a product in front of the wait and behind it, after a run that the sanitizer watched."""
    model = model_of(PRODUCT.replace("rows", str(rows)))
    engine = tilewright.compile(model, target=HOPPER, precision="f16", cache=False)
    x = np.random.default_rng(2).integers(-2, 3, (rows, SIZE)).astype(np.float16)
    outputs, report = sanitize(engine, [{"x": x}], parse_order("random:1"))
    assert "nothing found" in str(report)
    weight = numpy_helper.to_array(model.graph.initializer[0]).astype(np.float64)
    # Sums of these integers are exact, and halves hold them.
    np.testing.assert_array_equal(outputs[0]["y"], x.astype(np.float64) @ weight)
    before, after = engine.ptx("dot_0").split(WAIT)
    return before, after


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_the_ring_begins_with_weights(schedule: Schedule, monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch, schedule)
    before, after = check(SIZE)
    assert before.count(COPY) == 1 and COPY in after


def test_few_rows_have_weights_on_the_left() -> None:
    before, after = check(24)
    assert COPY in before and "wgmma" in after


def test_what_other_kernels_make_is_waited_for() -> None:
    """x w = h, and neither operand of h h is a weight."""
    text = PRODUCT.replace("rows", "136").replace("y = MatMul(x, w)", "h = MatMul(x, w) y = MatMul(h, h)")
    engine = tilewright.compile(model_of(text), target=HOPPER, precision="f16")
    fetched = [COPY in engine.ptx(launch.kernel).split(WAIT)[0] for launch in engine.program.launches]
    assert fetched == [True, False]

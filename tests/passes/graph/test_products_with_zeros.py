"""Weights that passes fill with zeros: how far a number that is not finite reaches through them (docs/precision.md)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from mlir import ir
from tests.passes.graph.programs import build, noise

from tilewright.dialects import graph_builder as g
from tilewright.passes.graph.fold_space_into_channels import fold_space_into_channels
from tilewright.passes.graph.interpret import interpret
from tilewright.passes.graph.join_groups import join_groups


def test_an_infinity_stays_in_its_line_of_channels_and_its_windows() -> None:
    """128 channels in groups of four, joined to lines of 64."""
    weights = {"w": noise(1, 128, 4, 3, 3)}

    def body(x: ir.Value, weight: Callable[[str], ir.Value]) -> list[ir.Value]:
        return [g.convolution(x, weight("w"), 32, [1, 1], [1, 1, 1, 1], [1, 1], "f32")]

    unit = build({"x": (1, 128, 8, 8)}, body, weights, "f16")
    x = noise(0, 1, 128, 8, 8)
    x[0, 5, 2, 3] = np.inf
    before = interpret(unit, {"x": x})["y0"]
    join_groups(unit)
    after = interpret(unit, {"x": x})["y0"]
    assert ".joined" in str(unit.module) and not np.isfinite(before[0, 4:8, 1:4, 2:5]).any()
    reached = np.zeros(before.shape, bool)
    reached[0, :64, 1:4, 2:5] = True
    np.testing.assert_array_equal(np.isfinite(after), ~reached)
    # The same products; zeros between them may change the order of 36 sums in f32.
    np.testing.assert_allclose(after[~reached], before[~reached], rtol=0, atol=1e-5)


def test_an_infinity_reaches_windows_whose_blocks_it_is_in() -> None:
    """Windows of 7 x 7 with a stride of two are four blocks of two pixels: one more pixel to the right and below."""
    weights = {"w": noise(1, 16, 3, 7, 7)}

    def body(x: ir.Value, weight: Callable[[str], ir.Value]) -> list[ir.Value]:
        return [g.convolution(x, weight("w"), 1, [2, 2], [3, 3, 3, 3], [1, 1], "f32")]

    unit = build({"x": (1, 3, 32, 32)}, body, weights, "f16")
    x = noise(0, 1, 3, 32, 32)
    x[0, 1, 16, 16] = np.inf  # the last of the seven pixels of window 8 would be 19, of window 6 it is 15
    before = interpret(unit, {"x": x})["y0"]
    fold_space_into_channels(unit)
    after = interpret(unit, {"x": x})["y0"]
    assert ".blocks" in str(unit.module)
    windows = [np.flatnonzero(~np.isfinite(values[0, 0]).all(axis=0)) for values in (before, after)]
    np.testing.assert_array_equal(windows[0], [7, 8, 9])
    np.testing.assert_array_equal(windows[1], [6, 7, 8, 9])

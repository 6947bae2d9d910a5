"""Products that normalise their sums: as exact as those of normalised tensors, whatever the mean of a line."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from mlir import ir
from tests.passes.graph.programs import Body, build, count, noise

from tilewright.dialects import graph_builder as g
from tilewright.dialects import verify
from tilewright.passes.graph.fold_normalisations import fold_normalisations
from tilewright.passes.graph.interpret import interpret
from tilewright.passes.graph.plan_precision import plan_precision
from tilewright.passes.unit import Unit
from tilewright.runtime.dtypes import dtype
from tilewright.runtime.errors import ModelError

ROWS, DEPTH, COLUMNS = 64, 256, 96
WEIGHTS = {
    "gamma": 1 + 0.2 * noise(1, DEPTH),
    "beta": noise(2, DEPTH),
    "w": noise(3, DEPTH, COLUMNS) / 16,
    "bias": noise(4, COLUMNS),
    "turned": noise(3, COLUMNS, DEPTH) / 16,
}


def product_of_norm(x: ir.Value, weight: Callable[[str], ir.Value]) -> list[ir.Value]:
    centred = g.map([x, g.mean(x, [1])], lambda e, m: e - m)
    scale = g.map([g.mean(g.map([centred], lambda e: e * e), [1])], lambda v: (v + 1e-5).rsqrt())
    normal = g.map([centred, scale, weight("gamma"), weight("beta")], lambda e, s, c, b: e * s * c + b)
    sums = g.matmul(normal, weight("w"))
    return [g.map([sums, weight("bias")], lambda a, b: a + b)]


def behind_a_map(x: ir.Value, weight: Callable[[str], ir.Value]) -> list[ir.Value]:
    """Of a tensor that a kernel makes: what enters the model in f32 is normalised by a kernel."""
    return product_of_norm(g.map([x], lambda e: e * 1.0), weight)


def planned(
    precision: str,
    fold: bool,
    body: Body = behind_a_map,
    weights: dict[str, np.ndarray] = WEIGHTS,
) -> Unit:
    unit = build({"x": (ROWS, DEPTH)}, body, weights, precision)
    if fold:
        fold_normalisations(unit)
    plan_precision(unit)
    with unit.module.context, ir.Location.unknown():
        verify(unit.module)
    return unit


@pytest.mark.parametrize("precision", ["f16", "bf16"])
@pytest.mark.parametrize("mean", [0.0, 1.0, 30.0])
def test_a_mean_costs_nothing(precision: str, mean: float) -> None:
    """The tensor is what a kernel has stored, narrow. Folded, its normalised values are not rounded once more, and the
    mean, of up to 30 deviations, does not come back through the rounding of the weights.
    """
    x = (noise(0, ROWS, DEPTH) + mean).astype(dtype(precision).numpy).astype(np.float32)
    wide = {name: array.astype(np.float64) for name, array in WEIGHTS.items()}
    centred = x - x.mean(1, keepdims=True, dtype=np.float64)
    normal = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5) * wide["gamma"] + wide["beta"]
    exact = normal @ wide["w"] + wide["bias"]
    errors = []
    for fold in (False, True):
        unit = planned(precision, fold)
        assert count(unit, "graph.matmul") == 1
        errors.append(float(np.sqrt(np.mean((interpret(unit, {"x": x})["y0"] - exact) ** 2))))
    # One rounding of two is gone; both are alike, so the error falls by about the root of two. Sums of 256 products of
    # a mean of 30 in f32 (2^-24) are far below it.
    assert errors[1] < 0.85 * errors[0]


def root_of_squares(x: ir.Value, weight: Callable[[str], ir.Value]) -> list[ir.Value]:
    made = g.map([x], lambda e: e * 1.0)
    root = g.map([g.mean(g.map([made], lambda e: e * e), [1])], lambda v: (v + 1e-5).sqrt())
    normal = g.map([made, root, weight("gamma")], lambda e, r, c: e / r * c)
    return [g.matmul(normal, weight("turned"), transpose_right=True)]


def test_a_root_mean_square_and_a_turned_weight() -> None:
    x = noise(0, ROWS, DEPTH)
    before, after = (planned("f16", fold, root_of_squares) for fold in (False, True))
    assert count(after, "graph.matmul") == 1 and ".normalised" in str(after.module)
    # Both round two operands to 11 bits, of 256 products whose sum is near 1: 2^-12 * 2, some deviations of it.
    found, expected = (interpret(unit, {"x": x})["y0"] for unit in (after, before))
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-3)


@pytest.mark.parametrize("body", [behind_a_map, root_of_squares])
@pytest.mark.parametrize("factor", [2.0**20, 2.0**-20])
def test_factors_far_from_one(factor: float, body: Body) -> None:
    """Weights times such factors have no place in f16, or the last bits of it; a power of two less, they do."""
    x = noise(0, ROWS, DEPTH)
    grown = {name: array * factor if name in ("gamma", "beta", "bias") else array for name, array in WEIGHTS.items()}
    usual, unusual = (planned("f16", True, body, weights) for weights in (WEIGHTS, grown))
    found, expected = (interpret(unit, {"x": x})["y0"] for unit in (unusual, usual))
    # The same but for weights below 2^-14, whose last bits f16 has only where they are larger: 2^-25 of 256 products.
    np.testing.assert_allclose(found / factor, expected, rtol=0, atol=2**-20)


def _absent() -> np.ndarray:
    raise ModelError("there is no such file")


@pytest.mark.parametrize("names", [("gamma",), ("w", "bias"), ("gamma", "beta", "w", "bias")])
@pytest.mark.parametrize("missing", ["not there", "no file"])
def test_ir_may_come_without_its_weights(names: tuple[str, ...], missing: str) -> None:
    unit = build({"x": (ROWS, DEPTH)}, behind_a_map, {**WEIGHTS, "gamma": 1e6 * WEIGHTS["gamma"]}, "f16")
    for name in names:
        unit.weights.discard(name)
        if missing == "no file":
            unit.weights.add(name, _absent)
    fold_normalisations(unit)
    assert ".normalised" in str(unit.module)


@pytest.mark.parametrize("precision", ["strict", "tf32"])
def test_exact_precisions_keep_the_order_of_the_model(precision: str) -> None:
    unit = build({"x": (ROWS, DEPTH)}, behind_a_map, WEIGHTS, precision)
    before = str(unit.module)
    fold_normalisations(unit)
    assert str(unit.module) == before


def test_few_lines_stay() -> None:
    unit = build({"x": (8, DEPTH)}, behind_a_map, WEIGHTS, "f16")
    before = str(unit.module)
    fold_normalisations(unit)
    assert str(unit.module) == before


def test_what_enters_or_leaves_the_model_wide_stays() -> None:
    def leaving(x: ir.Value, weight: Callable[[str], ir.Value]) -> list[ir.Value]:
        made = g.map([x], lambda e: e * 1.0)
        return [*product_of_norm(made, weight), g.reshape(made, [DEPTH, ROWS])]

    for body in (product_of_norm, leaving):
        unit = build({"x": (ROWS, DEPTH)}, body, WEIGHTS, "f16")
        before = str(unit.module)
        fold_normalisations(unit)
        assert str(unit.module) == before

"""Matmuls that share an operand are merged when nothing is lost by it, and compute the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from mlir import ir
from tests.passes.graph.programs import build, check_passes, count

from tilewright.dialects import create_context, verify
from tilewright.dialects import graph_builder as g
from tilewright.passes.graph.interpret import interpret
from tilewright.passes.graph.merge_matmuls import merge_matmuls
from tilewright.passes.unit import Unit, WeightStore

X, H = "tensor<2x5x8xf32>", "tensor<2x5x2x4xf32>"


def unit(bias: bool, activated: bool) -> Unit:
    rng = np.random.default_rng(0)
    weights = WeightStore()
    lines = []
    for name in "qkv":
        weights.add(f"w{name}", rng.standard_normal((8, 8)).astype(np.float32))
        weights.add(f"b{name}", rng.standard_normal(8).astype(np.float32))
        lines.append(
            f"""
  %w{name} = "graph.weight"() {{handle = "w{name}"}} : () -> tensor<8x8xf32>
  %b{name} = "graph.weight"() {{handle = "b{name}"}} : () -> tensor<8xf32>
  %m{name} = "graph.matmul"(%x, %w{name}) {{transpose_left = 0 : i64, transpose_right = 0 : i64}} : ({X},
  tensor<8x8xf32>) -> {X}"""
        )
        source = f"%m{name}"
        if bias:
            lines.append(
                f"""
  %a{name} = "graph.map"() ({{
    %e = "graph.element"(%m{name}) : ({X}) -> f32
    %c = "graph.element"(%b{name}) : (tensor<8xf32>) -> f32
    %s = arith.addf %e, %c : f32
    gpu.yield %s : f32
  }}) : () -> {X}"""
            )
            source = f"%a{name}"
        if activated:
            lines.append(
                f"""
  %t{name} = "graph.map"() ({{
    %e = "graph.element"({source}) : ({X}) -> f32
    %s = math.tanh %e : f32
    gpu.yield %s : f32
  }}) : () -> {X}"""
            )
            source = f"%t{name}"
        lines.append(f'\n  %h{name} = "graph.reshape"({source}) : ({X}) -> {H}')
    results = ", ".join(f'{H} {{graph.name = "{name}"}}' for name in "qkv")
    text = f"""
func.func @main(%x: {X} {{graph.name = "x"}}) -> ({results}) {{{"".join(lines)}
  return %hq, %hk, %hv : {H}, {H}, {H}
}}"""
    with create_context(), ir.Location.unknown():
        return Unit(ir.Module.parse(text), weights)


@pytest.mark.parametrize("bias", [False, True])
def test_merges(bias: bool) -> None:
    x = np.random.default_rng(1).standard_normal((2, 5, 8)).astype(np.float32)
    before = interpret(unit(bias, False), {"x": x})
    made = unit(bias, False)
    merge_matmuls(made)
    verify(made.module)
    text = str(made.module)
    assert text.count('"graph.matmul"') == 1 and text.count('"graph.slice"') == 3
    after = interpret(made, {"x": x})
    for name in "qkv":
        # numpy may sum a wider product in another order
        np.testing.assert_allclose(after[name], before[name], rtol=1e-5, atol=1e-6)


def test_an_activation_stays_with_its_matmul() -> None:
    made = unit(True, True)
    merge_matmuls(made)
    assert str(made.module).count('"graph.matmul"') == 3


@pytest.mark.parametrize("biased", ["qkv", "qv", "k"])
def test_halves_of_different_widths_with_some_biases(biased: str) -> None:
    """Fewer heads of keys, biases in f16 as importers write them (widened, added, rounded), none for some."""
    rng = np.random.default_rng(2)
    widths = {"q": 8, "k": 4, "v": 4}
    weights = {f"w{name}": rng.standard_normal((8, width)).astype(np.float16) for name, width in widths.items()}
    weights |= {f"b{name}": rng.standard_normal(widths[name]).astype(np.float16) for name in biased}

    def body(x: ir.Value, weight: Callable[[str], ir.Value]) -> list[ir.Value]:
        results = []
        for name, width in widths.items():
            y = g.matmul(x, weight(f"w{name}"))
            if name in biased:
                y = g.map([y, weight(f"b{name}")], lambda a, b: (a.cast("f32") + b.cast("f32")).cast("f16"))
            results.append(g.reshape(y, [5, width // 2, 2]))
        return results

    made = build({"x": (5, 8)}, body, weights, elements={"x": "f16"})
    x = rng.standard_normal((5, 8)).astype(np.float16)
    check_passes(made, {"x": x}, [merge_matmuls], 2e-3)  # f16 results, 2^-11 of each
    assert count(made, "graph.matmul") == 1


def test_prepared_weights_are_made_once_and_within_the_limit() -> None:
    made: list[str] = []
    store = WeightStore()
    for name in "ab":
        store.add(name, lambda name=name: made.append(name) or np.zeros(100, np.float32))  # type: ignore[misc]
    store.prepare(["a", "b"], limit=500)
    store.get("a")
    store.get("b")
    assert made == ["a", "b", "b"], "the second passes the limit and is made again"

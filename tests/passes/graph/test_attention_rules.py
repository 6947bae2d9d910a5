"""Attention is found in the decomposed graph, whatever scales and masks the scores."""

from __future__ import annotations

import numpy as np
import pytest
from mlir import ir
from tests.support.kernels import tensor

from tilewright.dialects import create_context
from tilewright.passes.graph.fuse import fuse
from tilewright.passes.graph.interpret import interpret
from tilewright.passes.unit import Unit, WeightStore

FULL, SCORES, LINE, TURNED = tensor("2,9,4,8"), tensor("2,4,9,9"), tensor("2,4,9,1"), tensor("2,4,9,8")


def program(replace_nan: bool, leak: bool) -> str:
    """Heads are split from [batch, sequence, heads, size] by transposes and merged again."""
    turn = "{permutation = array<i64: 0, 2, 1, 3>}"
    tail = (
        """
    %t = arith.cmpf uno, %s1, %s1 : f32
    %zero = arith.constant 0.0 : f32
    %r = arith.select %t, %zero, %s1 : f32
    gpu.yield %r : f32"""
        if replace_nan
        else "gpu.yield %s1 : f32"
    )
    results, types = ("%x, %p", f"{FULL}, {SCORES}") if leak else ("%x", FULL)
    named = ", ".join(f'{type_} {{graph.name = "y{i}"}}' for i, type_ in enumerate(types.split(", ")))
    return f"""
func.func @main(%q: {FULL} {{graph.name = "q"}}, %k: {FULL} {{graph.name = "k"}}, %v: {FULL} {{graph.name = "v"}}) ->
({named}) {{
  %qt = "graph.transpose"(%q) {turn} : ({FULL}) -> {TURNED}
  %kt = "graph.transpose"(%k) {turn} : ({FULL}) -> {TURNED}
  %vt = "graph.transpose"(%v) {turn} : ({FULL}) -> {TURNED}
  %s = "graph.matmul"(%qt, %kt) {{transpose_left = 0 : i64, transpose_right = 1 : i64}} : ({TURNED}, {TURNED}) ->
  {SCORES} %c = "graph.map"() ({{
    %a = "graph.element"(%s) : ({SCORES}) -> f32
    %f = arith.constant 0.3 : f32
    %g = arith.mulf %a, %f : f32
    gpu.yield %g : f32
  }}) : () -> {SCORES}
  %m = "graph.reduce"(%c) {{axes = array<i64: 3>, kind = "max"}} : ({SCORES}) -> {LINE}
  %e = "graph.map"() ({{
    %a = "graph.element"(%c) : ({SCORES}) -> f32
    %b = "graph.element"(%m) : ({LINE}) -> f32
    %s1 = arith.subf %a, %b : f32
    %q1 = math.exp %s1 : f32
    gpu.yield %q1 : f32
  }}) : () -> {SCORES}
  %z = "graph.reduce"(%e) {{axes = array<i64: 3>, kind = "sum"}} : ({SCORES}) -> {LINE}
  %p = "graph.map"() ({{
    %a = "graph.element"(%e) : ({SCORES}) -> f32
    %b = "graph.element"(%z) : ({LINE}) -> f32
    %s1 = arith.divf %a, %b : f32
    {tail}
  }}) : () -> {SCORES}
  %o = "graph.matmul"(%p, %vt) {{transpose_left = 0 : i64, transpose_right = 0 : i64}} : ({SCORES}, {TURNED}) ->
  {TURNED} %x = "graph.transpose"(%o) {turn} : ({TURNED}) -> {FULL} return {results} : {types}
}}"""


def fused(text: str) -> Unit:
    with create_context(), ir.Location.unknown():
        unit = Unit(ir.Module.parse(text), WeightStore())
        fuse(unit)
    return unit


@pytest.mark.parametrize("replace_nan", [False, True])
def test_one_kernel(replace_nan: bool) -> None:
    unit = fused(program(replace_nan, leak=False))
    text = str(unit.module)
    assert 'graph.kernel = "attention"' in text
    assert text.count("call @") == 1, "transposes are read and written through"
    rng = np.random.default_rng(0)
    inputs = {name: rng.standard_normal((2, 9, 4, 8)).astype(np.float32) for name in "qkv"}
    plain = Unit(ir.Module.parse(program(replace_nan, False), create_context()), WeightStore())
    np.testing.assert_array_equal(interpret(unit, inputs)["y0"], interpret(plain, inputs)["y0"])


def test_weights_that_are_read_elsewhere_stay() -> None:
    assert 'graph.kernel = "attention"' not in str(fused(program(False, leak=True)).module)

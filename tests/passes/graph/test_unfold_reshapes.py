"""Pass `unfold-reshapes`: a group normalisation becomes one row, channels-last, and answers stay."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlir import ir
from tests.passes.graph.programs import build, check_passes, count, kinds, noise

from tilewright.dialects import graph_builder as g
from tilewright.passes.graph.fuse import fuse
from tilewright.passes.graph.merge_maps import merge_maps
from tilewright.passes.graph.plan_layout import plan_layout
from tilewright.passes.graph.simplify import simplify
from tilewright.passes.graph.unfold_reshapes import refine, unfold_reshapes
from tilewright.runtime.symbolic import expression

Weight = Callable[[str], ir.Value]
WEIGHTS = {"conv": noise(1, 8, 8, 3, 3) * 0.3, "scale": noise(2, 8, 1, 1), "offset": noise(3, 8, 1, 1)}


def group_norm(x: ir.Value, w: Weight) -> ir.Value:
    rows = g.reshape(x, ["n", 4, "2*h*5"])
    centred = g.map([rows, g.mean(rows, [2])], lambda a, m: a - m)
    variance = g.mean(g.map([centred], lambda a: a * a), [2])
    scaled = g.reshape(g.map([centred, variance], lambda a, v: a * (v + 1e-3).rsqrt()), ["n", 8, "h", 5])
    return g.map([scaled, w("scale"), w("offset")], lambda a, s, b: (a * s + b).maximum(0.0))


def test_group_normalisation_between_convolutions_is_one_row() -> None:
    def body(x: ir.Value, w: Weight) -> list[ir.Value]:
        first = g.convolution(x, w("conv"), 1, [1, 1], [1] * 4, [1, 1])
        return [g.convolution(group_norm(first, w), w("conv"), 1, [1, 1], [1] * 4, [1, 1])]

    unit = build({"x": ["n", 8, "h", 5]}, body, WEIGHTS)
    passes = [simplify, unfold_reshapes, plan_layout, simplify, merge_maps, fuse]
    check_passes(unit, {"x": noise(0, 2, 8, 6, 5)}, passes, 1e-4)
    assert kinds(unit) == ["dot", "row", "dot"]


def test_other_readers_get_the_joined_shape() -> None:
    def body(x: ir.Value, w: Weight) -> list[ir.Value]:
        rows = g.reshape(x, ["n", 4, "2*h*5"])
        total = g.reduce(rows, "sum", [2])
        other = g.map([rows, total], lambda a, b: a - b + g.index(2).cast("f32"))
        return [other, total, g.slice(g.map([rows, total], lambda a, b: a * b), [0, 1, 3], ["n", 2, 4])]

    unit = build({"x": ["n", 8, "h", 5]}, body)
    check_passes(unit, {"x": noise(0, 2, 8, 6, 5)}, [unfold_reshapes, simplify, fuse], 1e-4)


def test_rows_that_join_nothing_stay() -> None:
    def body(x: ir.Value, w: Weight) -> list[ir.Value]:
        return [g.reduce(g.reshape(x, ["n", 2, 4, 6]), "sum", [3])]

    unit = build({"x": ["n", 8, 6]}, body)
    before = str(unit.module)
    unfold_reshapes(unit)
    assert str(unit.module) == before and count(unit, "graph.reshape") == 1


@pytest.mark.parametrize(
    "first, second, fine",
    [
        (["n", 8, "h", "w"], ["n", 4, "2*h*w"], ["n", 4, 2, "h", "w"]),
        ([6, 4], [4, 6], None),  # 6 and 4 do not divide each other
        ([2, 1, 3], [6], [2, 1, 3]),
        ([12], [3, 4], [3, 4]),
    ],
)
def test_refinement(first: list[int | str], second: list[int | str], fine: list[int | str] | None) -> None:
    shapes = [tuple(expression(size) for size in shape) for shape in (first, second)]
    refined = refine(*shapes)
    assert (None if refined is None else [str(size) for size in refined[0]]) == (
        None if fine is None else [str(expression(size)) for size in fine]
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([1, 2, 3, 5]), min_size=1, max_size=5), st.data())
def test_refinement_joins_to_both(sizes: list[int], data: st.DataObject) -> None:
    def joined() -> list[int]:
        cuts = data.draw(st.lists(st.booleans(), min_size=len(sizes), max_size=len(sizes)))
        groups: list[list[int]] = [[]]
        for size, cut in zip(sizes, cuts, strict=True):
            groups = [*groups, [size]] if cut else [*groups[:-1], [*groups[-1], size]]
        return [int(np.prod(group)) for group in groups]

    first, second = joined(), joined()
    refined = refine(tuple(map(expression, first)), tuple(map(expression, second)))
    if refined is None:
        return
    fine = [int(size.as_constant() or 0) for size in refined[0]]
    for shape, pieces in ((first, refined[1]), (second, refined[2])):
        assert [int(np.prod([fine[item] for item in piece])) for piece in pieces] == shape
        assert [item for piece in pieces for item in piece] == sorted({i for p in pieces for i in p})
        assert np.prod([fine[item] for piece in pieces for item in piece]) == np.prod(fine)

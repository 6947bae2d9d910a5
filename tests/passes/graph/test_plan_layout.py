"""Passes `plan-layout` and `fold-affine-into-convolution`: where transposes are left, and that answers stay."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlir import ir
from tests.passes.graph.programs import build, check_passes, count, noise
from tests.support.filecheck import check

from tilewright.dialects import graph_builder as g
from tilewright.passes.graph.fold_affine_into_convolution import fold_affine_into_convolution
from tilewright.passes.graph.fold_constants import fold_constants
from tilewright.passes.graph.plan_layout import compose, inverse, plan_layout
from tilewright.passes.graph.reassociation import reassociate
from tilewright.passes.graph.simplify import simplify
from tilewright.runtime.symbolic import expression

Weight = Callable[[str], ir.Value]
WEIGHTS = {
    "a": noise(1, 8, 3, 3, 3),
    "b": noise(2, 8, 8, 1, 1),
    "depthwise": noise(3, 8, 1, 3, 3),
    "scale": noise(4, 8, 1, 1),
    "offset": noise(5, 8, 1, 1),
    "up": noise(6, 8, 4, 2, 2),
}


def convolve(x: ir.Value, weight: ir.Value, groups: int = 1, pad: int = 1) -> ir.Value:
    return g.convolution(x, weight, groups, [1, 1], [pad] * 4, [1, 1])


def relu(x: ir.Value) -> ir.Value:
    return g.map([x], lambda e: e.maximum(0.0))


def between(x: ir.Value, weight: Weight, step: Callable[[ir.Value, Weight], ir.Value]) -> list[ir.Value]:
    """A convolution, the step, and a convolution again."""
    return [convolve(step(convolve(x, weight("a")), weight), weight("b"), pad=0)]


def shuffle(x: ir.Value, weight: Weight) -> ir.Value:
    split = g.transpose(g.reshape(x, ["n", 2, 4, 6, 8]), [0, 2, 1, 3, 4])
    return g.reshape(split, ["n", 8, 6, 8])


def upsample(x: ir.Value, weight: Weight) -> ir.Value:
    def nearest() -> g.Scalar:
        return g.element_at(x, [g.index(0), g.index(1), g.index(2) // 2, g.index(3) // 2])

    return g.map([], nearest, shape=["n", 8, 12, 16])


def squeeze_and_excite(x: ir.Value, weight: Weight) -> ir.Value:
    gate = g.map([g.mean(x, [2, 3])], lambda e: e.sigmoid())
    return g.map([x, gate], lambda a, b: a * b)


def pad_and_slice(x: ir.Value, weight: Weight) -> ir.Value:
    padded = g.pad(x, g.constant(np.float32(1)), [0, 0, 1, 2], [0, 0, 3, 0])
    return g.slice(padded, [0, 0, 1, 0], ["n", 8, 5, 4], [1, 1, 1, 2])


# step -> transposes that are left between the two convolutions
STEPS = {
    "relu": (lambda x, weight: relu(x), 0),
    "affine": (
        lambda x, w: g.map([x, w("scale"), w("offset")], lambda a, b, c: (a * b + c).tanh()),
        0,
    ),
    "residual": (lambda x, w: g.map([convolve(x, w("b"), pad=0), x], lambda a, b: a + b), 0),
    "concatenate": (
        lambda x, w: g.slice(g.concatenate([x, relu(x)], 1), [0, 4, 0, 0], ["n", 8, 6, 8]),
        0,
    ),
    "pool": (lambda x, w: g.pool(x, "max", [2, 2], [2, 2], [0] * 4, [1, 1]), 0),
    "depthwise": (lambda x, w: convolve(x, w("depthwise"), groups=8), 0),
    "transposed": (
        lambda x, w: g.concatenate([g.convolution_transpose(x, w("up"), 1, [2, 2], [0] * 4, [1, 1], [12, 16])] * 2, 1),
        0,
    ),
    "shuffle": (shuffle, 1),  # the shuffle itself
    "upsample": (upsample, 0),
    "squeeze": (squeeze_and_excite, 0),
    "pad": (pad_and_slice, 0),
    "index": (lambda x, w: g.map([x], lambda e: e + g.index(1).cast("f32") * g.index(3).cast("f32")), 0),
    "flat": (lambda x, w: g.reshape(relu(g.reshape(x, ["n", 8, 48])), ["n", 8, 6, 8]), 0),
    "softmax over channels": (lambda x, w: g.map([x, g.reduce(x, "max", [1])], lambda a, b: a - b), 0),
    "largest": (lambda x, w: g.map([x, g.arg_reduce(x, "max", 1)], lambda a, b: a + b.cast("f32")), 0),
    "own transposes": (lambda x, w: g.transpose(relu(g.transpose(x, [0, 2, 3, 1])), [0, 3, 1, 2]), 0),
}


@pytest.mark.parametrize("name", STEPS)
def test_what_lies_between_convolutions_follows(name: str) -> None:
    step, left = STEPS[name]
    unit = build({"x": ["n", 3, 6, 8]}, lambda x, weight: between(x, weight, step), WEIGHTS)
    inputs = {"x": noise(0, 2, 3, 6, 8)}
    check_passes(unit, inputs, [plan_layout, simplify])
    assert count(unit, "graph.transpose") == left + 2  # the input and the output
    assert "channels_first" not in str(unit.module)


def test_transposes_stand_at_inputs_and_outputs_only() -> None:
    unit = build({"x": ["n", 3, 6, 8]}, lambda x, w: [convolve(relu(convolve(x, w("a"))), w("b"))], WEIGHTS)
    check_passes(unit, {"x": noise(0, 2, 3, 6, 8)}, [plan_layout, simplify])
    check(
        str(unit.module),
        """
        CHECK: graph.transpose{{.*}}array<i64: 0, 2, 3, 1>
        CHECK: graph.weight{{.*}}tensor<3x3x3x8xf32>
        CHECK: graph.convolution{{.*}}channels_last
        CHECK-NOT: graph.transpose
        CHECK: graph.convolution{{.*}}channels_last
        CHECK: graph.transpose{{.*}}array<i64: 0, 3, 1, 2>
        """,
    )


def test_one_dimensional_convolutions() -> None:
    def body(x: ir.Value, weight: Weight) -> list[ir.Value]:
        y = g.convolution(x, weight("w"), 1, [2], [1, 1], [1])
        return [g.pool(relu(y), "average", [3], [1], [1, 1], [1])]

    unit = build({"x": [2, 4, "t"]}, body, {"w": noise(1, 6, 4, 3)})
    check_passes(unit, {"x": noise(0, 2, 4, 9)}, [plan_layout, simplify])
    assert count(unit, "graph.transpose") == 2


def test_models_without_windows_are_left_alone() -> None:
    unit = build({"x": [2, 3, 4]}, lambda x, w: [relu(g.transpose(x, [2, 0, 1]))])
    before = str(unit.module)
    plan_layout(unit)
    assert str(unit.module) == before


def test_affine_maps_fold_into_weights() -> None:
    def body(x: ir.Value, weight: Weight) -> list[ir.Value]:
        y = g.map([convolve(x, weight("a")), weight("offset")], lambda a, b: a - b)
        y = g.map([y, weight("scale"), weight("offset")], lambda a, s, o: (o - a * s) / 2.0)
        return [relu(y)]

    unit = build({"x": ["n", 3, 6, 8]}, body, WEIGHTS)
    check_passes(unit, {"x": noise(0, 2, 3, 6, 8)}, [fold_constants, fold_affine_into_convolution])
    check(
        str(unit.module),
        """
        CHECK: graph.weight{{.*}}handle = "a.scaled"
        CHECK: graph.convolution
        CHECK: graph.weight{{.*}}handle = "a.bias"
        CHECK: graph.map
        CHECK-NEXT: graph.element
        CHECK-NEXT: graph.element
        CHECK-NEXT: arith.addf
        CHECK-NEXT: gpu.yield
        """,
    )
    assert count(unit, "graph.map") == 2


@pytest.mark.parametrize("leak", [False, True])
def test_affine_maps_of_transposed_convolutions(leak: bool) -> None:
    def body(x: ir.Value, weight: Weight) -> list[ir.Value]:
        y = g.convolution_transpose(x, weight("up"), 1, [2, 2], [0] * 4, [1, 1], [12, 16])
        z = g.map([y], lambda e: e * 3.0 + 1.0)
        return [z, y] if leak else [z]

    unit = build({"x": [2, 8, 6, 8]}, body, WEIGHTS)
    check_passes(unit, {"x": noise(0, 2, 8, 6, 8)}, [fold_constants, fold_affine_into_convolution])
    assert ("up.scaled" in str(unit.module)) == (not leak)  # another reader needs the plain result


def test_maps_that_are_not_affine_stay() -> None:
    def body(x: ir.Value, weight: Weight) -> list[ir.Value]:
        return [g.map([convolve(x, weight("a"))], lambda e: e * e)]

    unit = build({"x": [2, 3, 6, 8]}, body, WEIGHTS)
    check_passes(unit, {"x": noise(0, 2, 3, 6, 8)}, [fold_affine_into_convolution])
    assert "scaled" not in str(unit.module)


# Arithmetic of permutations and reshapes ----------------------------------------------------------------------
@given(st.permutations(range(4)), st.permutations(range(4)))
def test_permutations_compose_as_transposes(outer: list[int], inner: list[int]) -> None:
    x = np.arange(24).reshape(1, 2, 3, 4)
    np.testing.assert_array_equal(x.transpose(outer).transpose(inner), x.transpose(compose(outer, inner)))
    np.testing.assert_array_equal(x.transpose(outer).transpose(inverse(outer)), x)


@pytest.mark.parametrize(
    "source, target, pieces",
    [
        (["n", 12, "h", "w"], ["n", 3, 4, "h*w"], [([0], [0]), ([1], [1, 2]), ([2, 3], [3])]),
        ([2, 3, 4], [6, 4], [([0, 1], [0]), ([2], [1])]),
        (["n", 8, 1, 1], ["n", 8], [([0], [0]), ([1, 2, 3], [1])]),
        ([4, 6], [3, 8], [([0, 1], [0, 1])]),
    ],
)
def test_reassociation_is_as_fine_as_can_be(
    source: list[int | str], target: list[int | str], pieces: list[tuple[list[int], list[int]]]
) -> None:
    shapes = [tuple(expression(size) for size in shape) for shape in (source, target)]
    assert reassociate(*shapes) == pieces


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from([1, 2, 3, 4]), min_size=1, max_size=3), min_size=1, max_size=3))
def test_reassociation_of_joined_dimensions_covers_all(groups: list[list[int]]) -> None:
    source = tuple(expression(size) for group in groups for size in group)
    target = tuple(expression(int(np.prod(group))) for group in groups)
    pieces = reassociate(source, target)
    assert pieces is not None
    assert [axis for left, _ in pieces for axis in left] == list(range(len(source)))
    assert [axis for _, right in pieces for axis in right] == list(range(len(target)))

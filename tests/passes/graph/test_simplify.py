"""Passes `fold-constants`, `simplify` and `merge-maps`: what is left of small programs, and that answers stay."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from mlir import ir
from tests.passes.graph.programs import Body, build, check_passes, count, noise
from tests.support.filecheck import check

from tilewright.dialects import graph_builder as g
from tilewright.passes.graph.fold_constants import fold_constants
from tilewright.passes.graph.merge_maps import merge_maps
from tilewright.passes.graph.simplify import simplify

Shape = list[int | str]


def _unused_and_duplicates(x: ir.Value, weight: Callable[[str], ir.Value]) -> list[ir.Value]:
    g.map([x], lambda e: e.exp())
    first, second = g.map([x], lambda e: e * 2.0), g.map([x], lambda e: e * 2.0)
    return [g.map([first, second], lambda a, b: a + b)]


def _transposes_cancel(x: ir.Value, weight: Callable[[str], ir.Value]) -> list[ir.Value]:
    return [g.transpose(g.transpose(x, [2, 0, 1]), [1, 2, 0])]


def _transposed_ones(x: ir.Value, weight: Callable[[str], ir.Value]) -> list[ir.Value]:
    return [g.map([g.transpose(g.reduce(x, "max", [1]), [1, 0, 2])], lambda e: e + 1.0)]


def _reshapes_join(x: ir.Value, weight: Callable[[str], ir.Value]) -> list[ir.Value]:
    return [g.map([g.reshape(g.reshape(x, [24]), [2, 12])], lambda e: e + 1.0)]


def _slice_of_slice(x: ir.Value, weight: Callable[[str], ir.Value]) -> list[ir.Value]:
    return [g.slice(g.slice(x, [0, 1, 0], [2, 2, 4]), [0, 0, 3], [2, 1, 2], [1, 1, -2])]


def _slice_of_concatenation(x: ir.Value, weight: Callable[[str], ir.Value]) -> list[ir.Value]:
    y = g.map([x], lambda e: e.exp())
    return [g.map([g.slice(g.concatenate([x, y], 1), [0, 3, 0], [2, 3, 4])], lambda e: e + 1.0)]


def _nested_concatenation(x: ir.Value, weight: Callable[[str], ir.Value]) -> list[ir.Value]:
    return [g.concatenate([g.concatenate([x, x], 2), x], 2)]


def _broadcast_into_map(x: ir.Value, weight: Callable[[str], ir.Value]) -> list[ir.Value]:
    wide = g.broadcast(g.reduce(x, "sum", [1]), [2, 3, 4])
    return [g.map([x, wide], lambda a, b: a - b)]


def _unsqueezed_into_map(x: ir.Value, weight: Callable[[str], ir.Value]) -> list[ir.Value]:
    return [g.map([g.reshape(x, [1, 2, 3, 4]), x], lambda a, b: a - b)]


# body, operation, how many are left
CASES = [
    (_unused_and_duplicates, "graph.map", 2),
    (_transposes_cancel, "graph.transpose", 0),
    (_transposed_ones, "graph.transpose", 0),
    (_reshapes_join, "graph.reshape", 1),
    (_slice_of_slice, "graph.slice", 1),
    (_slice_of_concatenation, "graph.concatenate", 0),
    (_nested_concatenation, "graph.concatenate", 1),
    (_broadcast_into_map, "graph.broadcast", 0),
    (_unsqueezed_into_map, "graph.reshape", 0),
]


@pytest.mark.parametrize("body, operation, left", CASES, ids=lambda value: getattr(value, "__name__", None))
def test_simplify_removes(body: Body, operation: str, left: int) -> None:
    unit = build({"x": [2, 3, 4]}, body)
    check_passes(unit, {"x": noise(0, 2, 3, 4)}, [simplify])
    assert count(unit, operation) == left


def test_transposes_become_flags_of_the_product() -> None:
    def body(x: ir.Value, y: ir.Value, weight: Callable[[str], ir.Value]) -> list[ir.Value]:
        # [B, S, H, D] -> [B, H, D, S], as exporters write the keys of an attention
        return [g.matmul(g.transpose(x, [0, 2, 1, 3]), g.transpose(y, [0, 2, 3, 1]))]

    unit = build({"x": [2, "s", 3, 4], "y": [2, "s", 3, 4]}, body)
    check_passes(unit, {"x": noise(0, 2, 5, 3, 4), "y": noise(1, 2, 5, 3, 4)}, [simplify])
    check(
        str(unit.module),
        """
        CHECK: graph.transpose{{.*}}permutation = array<i64: 0, 2, 1, 3>
        CHECK: graph.transpose{{.*}}permutation = array<i64: 0, 2, 1, 3>
        CHECK: graph.matmul{{.*}}transpose_right = 1
        """,
    )


def test_zero_padding_becomes_the_convolutions_own() -> None:
    def body(x: ir.Value, weight: Callable[[str], ir.Value]) -> list[ir.Value]:
        padded = g.pad(x, g.constant(np.float32(0)), [0, 0, 1, 2], [0, 0, 0, 1])
        return [g.convolution(padded, weight("w"), 1, [1, 1], [1, 0, 0, 0], [1, 1])]

    unit = build({"x": [1, 2, "h", 5]}, body, {"w": noise(1, 3, 2, 2, 2)})
    check_passes(unit, {"x": noise(0, 1, 2, 6, 5)}, [simplify])
    check(
        str(unit.module),
        """
        CHECK-NOT: graph.pad
        CHECK: graph.convolution{{.*}}pads = ["2", "2", "0", "1"]
        """,
    )


def test_other_padding_stays() -> None:
    def body(x: ir.Value, weight: Callable[[str], ir.Value]) -> list[ir.Value]:
        padded = g.pad(x, g.constant(np.float32(1)), [0, 0, 1, 1], [0, 0, 1, 1])
        return [g.convolution(padded, weight("w"), 1, [1, 1], [0] * 4, [1, 1])]

    unit = build({"x": [1, 2, 6, 5]}, body, {"w": noise(1, 3, 2, 2, 2)})
    check_passes(unit, {"x": noise(0, 1, 2, 6, 5)}, [simplify])
    assert count(unit, "graph.pad") == 1


def test_constants_are_folded_and_scalars_enter_bodies() -> None:
    def body(x: ir.Value, weight: Callable[[str], ir.Value]) -> list[ir.Value]:
        turned = g.transpose(weight("w"), [1, 0])
        doubled = g.map([turned], lambda e: e * 2.0)
        half = g.constant(np.float32(0.5))
        scaled = g.map([g.matmul(x, doubled), half], lambda a, b: a * b)
        return [g.map([scaled, weight("one")], lambda a, b: a + b)]

    unit = build({"x": ["n", 40]}, body, {"w": noise(1, 30, 40), "one": np.ones((1, 1), np.float32)})
    check_passes(unit, {"x": noise(0, 3, 40)}, [fold_constants, simplify])
    check(
        str(unit.module),
        """
        CHECK: func.func @main
        CHECK-COUNT-1: graph.weight
        CHECK-NOT: graph.weight
        CHECK-NOT: graph.constant
        CHECK: arith.constant 5.000000e-01
        CHECK: arith.constant 1.000000e+00
        """,
    )


def test_large_results_are_not_folded() -> None:
    """int8 weights stay int8: their conversion fuses into the product that reads them."""

    def body(x: ir.Value, weight: Callable[[str], ir.Value]) -> list[ir.Value]:
        return [g.matmul(x, g.map([weight("w")], lambda e: e.cast("f32") * 0.1))]

    weights = np.random.default_rng(0).integers(-128, 128, (600, 600)).astype(np.int8)
    unit = build({"x": [2, 600]}, body, {"w": weights})
    fold_constants(unit)
    assert count(unit, "graph.map") == 1
    small = build({"x": [2, 60]}, body, {"w": weights[:60, :60]})
    fold_constants(small)
    assert count(small, "graph.map") == 0


def test_symbols_are_not_folded() -> None:
    def body(x: ir.Value, weight: Callable[[str], ir.Value]) -> list[ir.Value]:
        size = g.map([weight("w")], lambda e: e * g.dimension("n").cast("f32"))
        return [g.map([x, size], lambda a, b: a * b)]

    unit = build({"x": ["n", 3]}, body, {"w": noise(0, 3)})
    check_passes(unit, {"x": noise(1, 5, 3)}, [fold_constants, simplify])
    assert count(unit, "graph.map") == 2


@pytest.mark.parametrize("element", ["f32", "f16", "bf16", "f64", "i8", "i64", "ui8", "ui64", "i1"])
def test_scalars_of_every_element_type_enter_bodies(element: str) -> None:
    def body(x: ir.Value, weight: Callable[[str], ir.Value]) -> list[ir.Value]:
        one = g.constant(np.array([[1]]), element)
        return [g.map([x, one], lambda a, b: a + b.cast("f32"))]

    unit = build({"x": [2, 3]}, body)
    check_passes(unit, {"x": noise(0, 2, 3)}, [fold_constants, simplify])
    assert count(unit, "graph.constant") == 0


def test_largest_unsigned_scalar() -> None:
    def body(x: ir.Value, weight: Callable[[str], ir.Value]) -> list[ir.Value]:
        return [g.map([x, g.constant(np.uint8(255))], lambda a, b: a + b)]

    unit = build({"x": [2]}, body, elements={"x": "ui8"})
    check_passes(unit, {"x": np.array([1, 2], np.uint8)}, [fold_constants])


def test_maps_with_one_reader_merge() -> None:
    def body(x: ir.Value, weight: Callable[[str], ir.Value]) -> list[ir.Value]:
        y = g.map([x], lambda e: e * 2.0)
        z = g.map([y, weight("w")], lambda a, b: a + b)
        gate = g.map([z], lambda e: e.sigmoid())
        return [g.map([z, gate], lambda a, b: a * b)]

    unit = build({"x": [4, 3]}, body, {"w": noise(1, 3)})
    check_passes(unit, {"x": noise(0, 4, 3)}, [merge_maps])
    # z has two readers: the gate joins the product, y joins z.
    assert count(unit, "graph.map") == 2


def test_maps_of_other_shapes_do_not_merge() -> None:
    def body(x: ir.Value, weight: Callable[[str], ir.Value]) -> list[ir.Value]:
        y = g.map([g.reduce(x, "sum", [1])], lambda e: e.exp())
        return [g.map([x, y], lambda a, b: a * b)]

    unit = build({"x": [4, 3]}, body)
    check_passes(unit, {"x": noise(0, 4, 3)}, [merge_maps])
    assert count(unit, "graph.map") == 2


def test_reductions_without_kept_dimensions_stay_in_one_shape() -> None:
    """mean -> [n, 4], square, -> [n, 4, 1] again: as JAX exports a normalisation."""

    def body(x: ir.Value, weight: Callable[[str], ir.Value]) -> list[ir.Value]:
        mean = g.reshape(g.reduce(x, "sum", [2]), ["n", 4])
        mean = g.map([mean, weight("w")], lambda a, b: a * 0.2 + b)
        shifted = g.map([mean], lambda e: e + g.index(1).cast("f32"))
        again = g.map([shifted, g.reshape(mean, ["n", 4])], lambda a, b: a * b)
        return [g.map([x, g.reshape(again, ["n", 4, 1])], lambda a, b: a - b)]

    unit = build({"x": ["n", 4, 5]}, body, {"w": noise(1, 4)})
    check_passes(unit, {"x": noise(0, 2, 4, 5)}, [simplify, fold_constants, simplify])
    assert count(unit, "graph.reshape") == 0


def test_sizes_that_are_equal_at_run_time_only_keep_their_names() -> None:
    """Importers tie n and m by a check at run time; no rule may ask for a proof again."""

    def body(x: ir.Value, y: ir.Value, weight: Callable[[str], ir.Value]) -> list[ir.Value]:
        inner = g.concatenate([x, y], 1, unify=lambda left, right: left)
        return [g.concatenate([inner, x], 1)]

    unit = build({"x": ["n", 3], "y": ["m", 2]}, body)
    check_passes(unit, {"x": noise(0, 4, 3), "y": noise(1, 4, 2)}, [simplify])
    assert count(unit, "graph.concatenate") == 1

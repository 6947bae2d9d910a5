"""Pass `fuse`: how many kernels of which kind small programs become, and that answers stay."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from mlir import ir
from tests.passes.graph.programs import (
    Body,
    build,
    check_passes,
    count,
    kinds,
    layer_norm,
    noise,
    softmax,
)
from tests.support.filecheck import check

from tilewright.dialects import graph_builder as g
from tilewright.passes.graph.deduplicate_kernels import deduplicate_kernels
from tilewright.passes.graph.fuse import fuse
from tilewright.passes.graph.merge_maps import merge_maps
from tilewright.passes.graph.narrow_storage import narrow_storage
from tilewright.passes.graph.plan_layout import plan_layout
from tilewright.passes.graph.plan_precision import plan_precision
from tilewright.passes.graph.rewriting import functions
from tilewright.passes.graph.simplify import simplify

Weight = Callable[[str], ir.Value]
WEIGHTS = {
    "square": noise(1, 8, 8),
    "row": noise(2, 8),
    "other": noise(3, 8),
    "conv": noise(4, 8, 8, 3, 3),
    "point": noise(5, 8, 8, 1, 1),
    "depthwise": noise(6, 8, 1, 3, 3),
    "recurrence": noise(7, 32, 8),
    "zeros": np.zeros((2, 8), np.float32),
    "peepholes": np.zeros(24, np.float32),
}


def bias(x: ir.Value, weight: Weight) -> ir.Value:
    return g.map([x, weight("row")], lambda a, b: a + b)


def relu(x: ir.Value) -> ir.Value:
    return g.map([x], lambda e: e.maximum(0.0))


def gelu(x: ir.Value) -> ir.Value:
    inner = g.map([g.map([x], lambda e: e * 0.7071)], lambda e: e.erf() + 1.0)
    return g.map([x, inner], lambda a, b: a * b * 0.5)


def linear(x: ir.Value, w: Weight) -> ir.Value:
    return bias(g.matmul(x, w("square")), w)


def normalised_sum(x: ir.Value, w: Weight) -> list[ir.Value]:
    y = g.map([x, g.map([x], lambda e: e * 0.5)], lambda a, b: a + b)
    return [layer_norm(y, 2, w("row"), w("other")), y]


def int8_weights(x: ir.Value, w: Weight) -> list[ir.Value]:
    small = g.map([w("square")], lambda e: e.cast("i8").cast("f32") * 0.1)
    return [g.matmul(x, small), g.matmul(relu(x), small)]


def heads(x: ir.Value, w: Weight) -> list[ir.Value]:
    y = g.transpose(g.reshape(linear(x, w), ["n", 5, 2, 4]), [0, 2, 1, 3])
    return [g.map([y], lambda e: e * 2.0)]


def silu_then_product(x: ir.Value, w: Weight) -> list[ir.Value]:
    gate = g.map([x], lambda e: e.sigmoid())
    y = g.map([x, gate], lambda a, b: a * b)
    return [g.matmul(y, w("square")), y]


def diamond(x: ir.Value, w: Weight) -> list[ir.Value]:
    """The residual joins the second product: joining the first would make a cycle."""
    first = relu(linear(x, w))
    second = linear(first, w)
    return [g.map([second, first], lambda a, b: a + b)]


def cross_shapes(x: ir.Value, w: Weight) -> list[ir.Value]:
    """The product is stretched afterwards, so that map is another kernel."""
    row = g.matmul(g.reduce(x, "sum", [1]), w("square"))
    return [g.map([x, row], lambda a, b: a * b)]


def two_softmaxes(x: ir.Value, w: Weight) -> list[ir.Value]:
    return [softmax(softmax(x, 2), 1)]


def pointwise_chain(x: ir.Value, w: Weight) -> list[ir.Value]:
    y = g.transpose(g.map([bias(x, w)], lambda e: e.exp()), [1, 0, 2])
    return [g.concatenate([g.slice(y, [0, 0, 1], [5, "n", 3]), g.slice(y, [0, 0, 4], [5, "n", 3])], 2)]


def repeated_exponential(x: ir.Value, w: Weight) -> list[ir.Value]:
    """exp of a row is computed once, not for every element that it is broadcast to."""
    row = g.map([w("row")], lambda e: e.exp())
    return [g.map([x, row], lambda a, b: a + b), g.map([x, row], lambda a, b: (a - b).tanh())]


def scan_and_arguments(x: ir.Value, w: Weight) -> list[ir.Value]:
    return [g.scan(relu(x), "sum", 2), g.arg_reduce(relu(x), "max", 2)]


def passed_through(x: ir.Value, w: Weight) -> list[ir.Value]:
    return [x, w("row"), g.reshape(x, ["n", 40])]


# body, kinds of the kernels, sorted
CASES: list[tuple[Body, list[str]]] = [
    (lambda x, w: [gelu(linear(x, w))], ["dot"]),
    (lambda x, w: [g.map([linear(x, w), x], lambda a, b: relu_of(a + b))], ["dot"]),
    (lambda x, w: [softmax(x, 2)], ["row"]),
    (lambda x, w: [softmax(g.map([x], lambda e: e * 0.125), 2)], ["row"]),
    (lambda x, w: [layer_norm(x, 2, w("row"), w("other"))], ["row"]),
    (normalised_sum, ["row"]),
    (int8_weights, ["dot", "dot"]),
    (heads, ["dot"]),
    (silu_then_product, ["dot", "loop"]),
    (diamond, ["dot", "dot"]),
    (cross_shapes, ["dot", "loop", "row"]),
    (two_softmaxes, ["row", "row"]),
    (pointwise_chain, ["loop"]),
    (repeated_exponential, ["loop", "loop", "loop"]),
    (scan_and_arguments, ["row", "scan"]),
    (passed_through, []),
]


def relu_of(value: g.Scalar) -> g.Scalar:
    return value.maximum(0.0)


@pytest.mark.parametrize("body, expected", CASES, ids=[getattr(case[0], "__name__", "") for case in CASES])
def test_kernels(body: Body, expected: list[str]) -> None:
    unit = build({"x": ["n", 5, 8]}, body, WEIGHTS)
    check_passes(unit, {"x": noise(0, 3, 5, 8)}, [fuse, deduplicate_kernels])
    assert sorted(kinds(unit)) == expected


IMAGE_CASES: list[tuple[Body, list[str]]] = [
    # convolution, bias, activation and the residual in one kernel
    (lambda x, w: [relu(g.map([convolve(x, w("conv")), x], lambda a, b: a + b))], ["dot"]),
    # a cheap map is computed while a 1x1 convolution reads; a 3x3 one would compute it nine times
    (lambda x, w: [convolve(relu(x), w("point"), pad=0)], ["dot"]),
    (lambda x, w: [convolve(relu(x), w("conv"))], ["dot", "loop"]),
    (lambda x, w: [relu(convolve(x, w("depthwise"), groups=8))], ["loop"]),
    (lambda x, w: [g.pool(x, "max", [3, 3], [2, 2], [1] * 4, [1, 1])], ["loop"]),
    (lambda x, w: [g.pool(g.map([x], lambda e: e.exp()), "max", [3, 3], [2, 2], [1] * 4, [1, 1])], ["loop", "loop"]),
    (lambda x, w: [g.reduce(relu(convolve(x, w("conv"))), "sum", [2, 3])], ["dot", "row"]),
]


def convolve(x: ir.Value, weight: ir.Value, groups: int = 1, pad: int = 1) -> ir.Value:
    return g.convolution(x, weight, groups, [1, 1], [pad] * 4, [1, 1])


@pytest.mark.parametrize("body, expected", IMAGE_CASES)
def test_kernels_of_images(body: Body, expected: list[str]) -> None:
    unit = build({"x": ["n", 8, 6, 7]}, body, WEIGHTS)
    check_passes(unit, {"x": noise(0, 2, 8, 6, 7)}, [plan_layout, simplify, fuse])
    assert sorted(kinds(unit)) == expected


def test_recurrences_stand_alone() -> None:
    def body(x: ir.Value, w: Weight) -> list[ir.Value]:
        gates = g.matmul(x, w("recurrence"), transpose_right=True)
        return list(g.lstm(gates, w("recurrence"), w("zeros"), w("zeros"), w("peepholes"), False))

    unit = build({"x": ["t", 2, 8]}, body, WEIGHTS)
    check_passes(unit, {"x": noise(0, 4, 2, 8)}, [fuse])
    assert kinds(unit) == ["dot", "recurrent"]


def test_a_kernel_function_is_self_contained() -> None:
    unit = build({"x": ["n", 5, 8]}, lambda x, w: [gelu(linear(x, w))], WEIGHTS)
    with unit.module.context:
        for number, operation in enumerate(functions(unit.module)["main"].regions[0].blocks[0].operations):
            operation.operation.location = ir.Location.name(f"node {number}")
    fuse(unit)
    check(
        str(unit.module),
        """
        CHECK: func.func @main
        CHECK: %[[W:.*]] = "graph.weight"() {handle = "square"}
        CHECK: %[[B:.*]] = "graph.weight"() {handle = "row"}
        CHECK: %[[Y:.*]] = call @dot_0(%arg0, %[[W]], %[[B]])
        CHECK-NEXT: return %[[Y]]
        CHECK: func.func private @dot_0(
        CHECK-SAME: graph.kernel = "dot", graph.nodes = ["node 1", "node 3", "node 4", "node 5", "node 6"]
        CHECK-NOT: graph.weight
        CHECK: graph.matmul
        CHECK: math.erf
        """,
    )


def test_branches_are_fused_on_their_own() -> None:
    text = """
    func.func @main(%x: tensor<2x3xf32> {graph.name = "x"}, %c: tensor<i1> {graph.name = "c"}) -> (tensor<2x3xf32> {graph.name = "y"}) {
      %e = "graph.map"() ({
        %a = "graph.element"(%x) : (tensor<2x3xf32>) -> f32
        %b = math.exp %a : f32
        gpu.yield %b : f32
      }) : () -> tensor<2x3xf32>
      %k = tensor.extract %c[] : tensor<i1>
      %r = scf.if %k -> tensor<2x3xf32> {
        %n = "graph.map"() ({
          %a = "graph.element"(%e) : (tensor<2x3xf32>) -> f32
          %b = arith.negf %a : f32
          gpu.yield %b : f32
        }) : () -> tensor<2x3xf32>
        scf.yield %n : tensor<2x3xf32>
      } else {
        scf.yield %x : tensor<2x3xf32>
      }
      return %r : tensor<2x3xf32>
    }
    """
    for condition in (True, False):
        unit = build({}, lambda w: [])
        with unit.module.context:
            unit.module = ir.Module.parse(text)
        inputs = {"x": noise(0, 2, 3), "c": np.array(condition)}
        check_passes(unit, inputs, [simplify, plan_layout, fuse, deduplicate_kernels])
        assert kinds(unit) == ["loop", "loop"] and count(unit, "scf.if") == 1


def test_equal_layers_share_kernels() -> None:
    def body(x: ir.Value, w: Weight) -> list[ir.Value]:
        for _ in range(3):
            x = relu(linear(x, w))
        return [softmax(x, 2)]

    unit = build({"x": ["n", 5, 8]}, body, WEIGHTS)
    check_passes(unit, {"x": noise(0, 2, 5, 8)}, [fuse, deduplicate_kernels])
    assert len(kinds(unit)) == 4
    with unit.module.context:
        assert list(functions(unit.module)) == ["main", "dot_0", "row_0"]


def test_constants_differ_and_kernels_do_not() -> None:
    def body(x: ir.Value, w: Weight) -> list[ir.Value]:
        for factor in (1.0, 2.0):
            x = g.map([g.matmul(x, w("square")), g.constant(np.arange(8) * factor, "f32")], lambda a, b: a + b)
        return [x]

    unit = build({"x": [4, 8]}, body, WEIGHTS)
    check_passes(unit, {"x": noise(0, 4, 8)}, [fuse, deduplicate_kernels])
    with unit.module.context:
        assert list(functions(unit.module)) == ["main", "dot_0"]


# Precision ----------------------------------------------------------------------------------------------------
# f16 rounds operands to 11 bits and bf16 to 8: over sums of 8 products of normal numbers.
PRECISIONS = [("tf32", 1e-6), ("f16", 5e-3), ("bf16", 5e-2)]


@pytest.mark.parametrize("precision, tolerance", PRECISIONS)
def test_precision_of_products(precision: str, tolerance: float) -> None:
    def body(x: ir.Value, w: Weight) -> list[ir.Value]:
        y = linear(x, w)
        z = g.map([relu(linear(y, w)), y], lambda a, b: a + b)
        return [softmax(z, 2), z]

    unit = build({"x": ["n", 5, 8]}, body, WEIGHTS, precision)
    passes = [plan_precision, simplify, fuse, narrow_storage, deduplicate_kernels]
    check_passes(unit, {"x": noise(0, 2, 5, 8)}, passes, tolerance * 10)
    if precision == "tf32":
        check(str(unit.module), 'CHECK: graph.matmul{{.*}}precision = "tf32"')
        return
    check(
        str(unit.module),
        f"""
        CHECK: graph.weight{{{{.*}}}}tensor<8x8x{precision}>
        CHECK: %[[Y:.*]] = call @dot_0({{{{.*}}}} -> tensor<?x5x8x{precision}
        CHECK: %[[Z:.*]] = call @dot_1({{{{.*}}}} -> tensor<?x5x8xf32
        CHECK: func.func private @dot_0
        CHECK: arith.truncf
        CHECK: graph.matmul{{{{.*}}}} -> tensor<?x5x8xf32
        CHECK: func.func private @dot_1
        CHECK: graph.matmul
        """,
    )
    assert kinds(unit) == ["dot", "dot", "row"]


def test_strict_changes_nothing() -> None:
    unit = build({"x": [2, 8]}, lambda x, w: [g.matmul(x, w("square"))], WEIGHTS)
    before = str(unit.module)
    plan_precision(unit)
    assert str(unit.module) == before


def test_additions_written_either_way_share_a_kernel() -> None:
    def body(x: ir.Value, w: Weight) -> list[ir.Value]:
        first = g.map([bias(g.matmul(x, w("square")), w), x], lambda a, b: a + b)
        product = g.map([w("row"), g.matmul(first, w("square"))], lambda b, a: b + a)
        return [g.map([first, product], lambda b, a: b + a)]

    unit = build({"x": [4, 8]}, body, WEIGHTS)
    check_passes(unit, {"x": noise(0, 4, 8)}, [merge_maps, fuse, deduplicate_kernels])
    with unit.module.context:
        assert list(functions(unit.module)) == ["main", "dot_0"]


def test_a_shortcut_keeps_its_own_bias() -> None:
    """Both products of a block with a shortcut are kernels that blocks without one have, too."""

    def body(x: ir.Value, w: Weight) -> list[ir.Value]:
        joined = relu(g.map([linear(x, w), linear(x, w)], lambda a, b: a + b))
        return [relu(g.map([linear(linear(joined, w), w), joined], lambda a, b: a + b))]

    unit = build({"x": [4, 8]}, body, WEIGHTS)
    check_passes(unit, {"x": noise(0, 4, 8)}, [merge_maps, fuse, deduplicate_kernels])
    assert len(kinds(unit)) == 4
    with unit.module.context:
        assert len(functions(unit.module)) == 3  # @main, a product with its bias, one with the sum as well

"""Loop, row and recurrent programs: graph IR in, the emulator's numbers out, against the graph interpreter."""

from __future__ import annotations

import re

import numpy as np
import pytest
from tests.support.kernels import build, emulate, reference, tensor

RNG = np.random.default_rng(0)
# libdevice's exp, tanh and erf are within 2 ulp; a sum of a few thousand f32 terms loses a few ulp more.
RELATIVE = 2e-6


def check(text: str, kind: str, *arrays: np.ndarray, relative: float = RELATIVE) -> str:
    built = build(text, kind)
    for own, wanted in zip(emulate(built, list(arrays)), reference(built, list(arrays)), strict=True):
        assert own.dtype == wanted.dtype and own.shape == wanted.shape
        if own.dtype.kind in "fV":
            scale = np.abs(wanted.astype(np.float64)).max(initial=1e-30)
            np.testing.assert_allclose(own.astype(np.float64), wanted.astype(np.float64), rtol=0, atol=relative * scale)
        else:
            np.testing.assert_array_equal(own, wanted)
    return built.program.text


def randn(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def softmax(shape: str, axis: int) -> str:
    full = tensor(shape)
    sizes = shape.split(",")
    line = tensor(",".join("1" if number == axis else size for number, size in enumerate(sizes)))
    return f"""
func.func private @k(%x: {full}) -> {full} {{
  %m = "graph.reduce"(%x) {{axes = array<i64: {axis}>, kind = "max"}} : ({full}) -> {line}
  %e = "graph.map"() ({{
    %a = "graph.element"(%x) : ({full}) -> f32
    %b = "graph.element"(%m) : ({line}) -> f32
    %s = arith.subf %a, %b : f32
    %q = math.exp %s : f32
    gpu.yield %q : f32
  }}) : () -> {full}
  %z = "graph.reduce"(%e) {{axes = array<i64: {axis}>, kind = "sum"}} : ({full}) -> {line}
  %o = "graph.map"() ({{
    %a = "graph.element"(%e) : ({full}) -> f32
    %b = "graph.element"(%z) : ({line}) -> f32
    %s = arith.divf %a, %b : f32
    gpu.yield %s : f32
  }}) : () -> {full}
  return %o : {full}
}}"""


@pytest.mark.parametrize(
    ("shape", "axis", "sizes"),
    [
        ("n,8,33", 2, (3, 8, 33)),
        ("4,64", 1, (4, 64)),
        ("5,1000", 1, (5, 1000)),
        ("2,20000", 1, (2, 20000)),
        ("n,s", 1, (3, 77)),
        ("n,s", 1, (2, 3000)),
        ("n,5,12", 1, (3, 5, 12)),
        ("2,s,40", 1, (2, 300, 40)),
        ("2,7,s", 1, (2, 7, 9)),
        ("1,1", 1, (1, 1)),
    ],
)
def test_softmax(shape: str, axis: int, sizes: tuple[int, ...]) -> None:
    check(softmax(shape, axis), "row", randn(*sizes) * 3)


def test_movement_chain() -> None:
    text = """
func.func private @k(%x: tensor<2x8x12x16xf32>, %b: tensor<64xf32>) -> tensor<2x16x12x8xf32> {
  %t = "graph.transpose"(%x) {permutation = array<i64: 0, 3, 2, 1>} : (tensor<2x8x12x16xf32>) -> tensor<2x16x12x8xf32>
  %r = "graph.reshape"(%t) : (tensor<2x16x12x8xf32>) -> tensor<2x24x64xf32>
  %e = "graph.map"() ({
    %a = "graph.element"(%r) : (tensor<2x24x64xf32>) -> f32
    %c = "graph.element"(%b) : (tensor<64xf32>) -> f32
    %s = arith.addf %a, %c : f32
    gpu.yield %s : f32
  }) : () -> tensor<2x24x64xf32>
  %o = "graph.reshape"(%e) : (tensor<2x24x64xf32>) -> tensor<2x16x12x8xf32>
  return %o : tensor<2x16x12x8xf32>
}"""
    tile = check(text, "loop", randn(2, 8, 12, 16), randn(64))
    assert "tile.turn" in tile and 'lanes = "scattered"' not in tile


@pytest.mark.parametrize("width", [3, 8])
def test_concatenate_pad_slice(width: int) -> None:
    a, b = tensor(f"n,{width}"), tensor(f"n,{2 * width}")
    joined, padded, cut = tensor(f"n,{3 * width}"), tensor(f"n + 2,{3 * width + 1}"), tensor(f"n + 2,{width}")
    text = f"""
func.func private @k(%a: {a}, %b: {b}) -> {cut} {{
  %v = "graph.constant"() {{value = dense<7.0> : tensor<f32>}} : () -> tensor<f32>
  %c = "graph.concatenate"() ({{
    gpu.yield %a, %b : {a}, {b}
  }}) {{axis = 1 : i64}} : () -> {joined}
  %p = "graph.pad"(%c, %v) {{low = ["1", "1"]}} : ({joined}, tensor<f32>) -> {padded}
  %s = "graph.slice"(%p) {{starts = ["n + 1", "{3 * width}"], steps = array<i64: -1, -2>}} : ({padded}) -> {cut}
  return %s : {cut}
}}"""
    check(text, "loop", randn(3, width), randn(3, 2 * width))


def test_concatenate_of_single_columns_in_vectors() -> None:
    """The parts end inside a vector, and an element does not move along it."""
    text = """
func.func private @k(%a: tensor<9x4xf32>, %b: tensor<9x1xf32>, %c: tensor<9x1xf32>) -> tensor<9x6xf32> {
  %o = "graph.concatenate"() ({
    gpu.yield %a, %b, %c : tensor<9x4xf32>, tensor<9x1xf32>, tensor<9x1xf32>
  }) {axis = 1 : i64} : () -> tensor<9x6xf32>
  return %o : tensor<9x6xf32>
}"""
    assert "vector=2" in check(text, "loop", randn(9, 4), randn(9, 1), randn(9, 1))


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize(("kind", "include"), [("max", 0), ("average", 0), ("average", 1)])
def test_pool(layout: str, kind: str, include: int) -> None:
    sizes = (2, 6, 9, 11) if layout == "channels_first" else (2, 9, 11, 8)
    out = (2, 6, 5, 6) if layout == "channels_first" else (2, 5, 6, 8)
    source, target = tensor(",".join(map(str, sizes))), tensor(",".join(map(str, out)))
    text = f"""
func.func private @k(%x: {source}) -> {target} {{
  %p = "graph.pool"(%x) {{kind = "{kind}", kernel = array<i64: 3, 3>, strides = array<i64: 2, 2>, dilations =
  array<i64: 1, 1>,
     pads = ["1", "1", "1", "1"], layout = "{layout}", include_padding = {include} : i64}} : ({source}) -> {target}
  return %p : {target}
}}"""
    check(text, "loop", randn(*sizes))


@pytest.mark.parametrize("kernel", [3, 7])
def test_depthwise_convolution(kernel: int) -> None:
    pad = kernel // 2
    source, weight = tensor("n,h,10,8"), tensor(f"{kernel},{kernel},1,8")
    text = f"""
func.func private @k(%x: {source}, %w: {weight}) -> {source} {{
  %p = "graph.convolution"(%x, %w) {{groups = 8 : i64, strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>,
     pads = ["{pad}", "{pad}", "{pad}", "{pad}"], layout = "channels_last"}} : ({source}, {weight}) -> {source}
  return %p : {source}
}}"""
    check(text, "loop", randn(2, 9, 10, 8), randn(kernel, kernel, 1, 8))


def test_gather_by_data() -> None:
    text = """
func.func private @k(%x: tensor<50x16xf32>, %i: tensor<?x3xi64, ["n", "3"]>) -> tensor<?x3x16xf32, ["n", "3", "16"]> {
  %o = "graph.map"() ({
    %r = "graph.index"() {axis = 0 : i64} : () -> i64
    %c = "graph.index"() {axis = 1 : i64} : () -> i64
    %d = "graph.index"() {axis = 2 : i64} : () -> i64
    %p = "graph.element_at"(%i, %r, %c) : (tensor<?x3xi64, ["n", "3"]>, i64, i64) -> i64
    %v = "graph.element_at"(%x, %p, %d) : (tensor<50x16xf32>, i64, i64) -> f32
    gpu.yield %v : f32
  }) : () -> tensor<?x3x16xf32, ["n", "3", "16"]>
  return %o : tensor<?x3x16xf32, ["n", "3", "16"]>
}"""
    tile = check(text, "loop", randn(50, 16), RNG.integers(0, 50, (4, 3)))
    assert 'lanes = "contiguous"' in tile


# Shape, axis: lines of one thread, of a warp, of several warps in several chunks with a rest, walked along.
SCANS = [((4, 9, 5), 1), ((70, 4), 1), ((3, 96), 1), ((2, 1100), 1), ((2, 2056), 1), ((6, 40), 0), ((5, 3, 200), 1)]


@pytest.mark.parametrize(("exclusive", "reverse"), [(0, 0), (1, 0), (0, 1), (1, 1)])
@pytest.mark.parametrize(("shape", "axis"), SCANS, ids=str)
def test_scan(shape: tuple[int, ...], axis: int, exclusive: int, reverse: int) -> None:
    kind = "x".join(map(str, shape))
    text = f"""
func.func private @k(%x: tensor<{kind}xf32>) -> tensor<{kind}xf32> {{
  %p = "graph.scan"(%x) {{kind = "sum", axis = {axis} : i64, exclusive = {exclusive} : i64, reverse = {reverse} : i64}} :
  (tensor<{kind}xf32>) -> tensor<{kind}xf32> return %p : tensor<{kind}xf32>
}}"""
    check(text, "scan", randn(*shape))


@pytest.mark.parametrize(("kind", "dtype"), [("product", "f64"), ("max", "i64"), ("min", "i32"), ("sum", "f16")])
def test_scan_of_other_kinds(kind: str, dtype: str) -> None:
    """Types of 16 and 64 bits go through shuffles of words."""
    text = f"""
func.func private @k(%x: {tensor("n,70", dtype)}) -> {tensor("n,70", dtype)} {{
  %p = "graph.scan"(%x) {{kind = "{kind}", axis = 1 : i64, exclusive = 1 : i64, reverse = 0 : i64}} :
  ({tensor("n,70", dtype)}) -> {tensor("n,70", dtype)} return %p : {tensor("n,70", dtype)}
}}"""
    values = RNG.integers(-8, 9, (3, 70)) if dtype[0] == "i" else RNG.uniform(0.9, 1.1, (3, 70))
    check(text, "scan", values.astype({"f64": "f8", "i64": "i8", "i32": "i4", "f16": "f2"}[dtype]))


# Length, run, key type: short and long lines, one of a size that compilation does not know, runs with a rest.
SORTS = [("3,7", 0, "ui32"), ("2,300", 0, "ui64"), ("2,n", 0, "ui32"), ("2,1000", 256, "ui32"), ("1,1", 0, "ui32")]


@pytest.mark.parametrize(("shape", "run", "dtype"), SORTS, ids=str)
def test_sort(shape: str, run: int, dtype: str) -> None:
    """Many keys are equal: their order is that of their positions."""
    text = f"""
func.func private @k(%x: {tensor(shape, dtype)}) -> {tensor(shape, "i32")} {{
  %p = "graph.sort"(%x) {{run = {run} : i64}} : ({tensor(shape, dtype)}) -> {tensor(shape, "i32")}
  return %p : {tensor(shape, "i32")}
}}"""
    sizes = [2500 if size == "n" else int(size) for size in shape.split(",")]
    check(text, "sort", RNG.integers(0, 99, sizes).astype(dtype.replace("ui", "u").replace("32", "4").replace("64", "8")))


@pytest.mark.parametrize("reverse", [0, 1])
def test_lstm(reverse: int) -> None:
    text = f"""
func.func private @k(%g: {tensor("t,n,160")}, %r: tensor<160x40xf32>, %h: {tensor("n,40")}, %c: {tensor("n,40")}, %p:
tensor<120xf32>) -> ({tensor("t,n,40")}, {tensor("n,40")}) {{
  %y:3 = "graph.lstm"(%g, %r, %h, %c, %p) {{reverse = {reverse} : i64}} : ({tensor("t,n,160")}, tensor<160x40xf32>,
  {tensor("n,40")}, {tensor("n,40")}, tensor<120xf32>) -> ({tensor("t,n,40")}, {tensor("n,40")}, {tensor("n,40")})
  return %y#0, %y#2 : {tensor("t,n,40")}, {tensor("n,40")}
}}"""
    check(text, "recurrent", randn(3, 2, 160), randn(160, 40) / 6, randn(2, 40), randn(2, 40), randn(120))


@pytest.mark.parametrize("before", [0, 1])
def test_gru(before: int) -> None:
    text = f"""
func.func private @k(%g: {tensor("t,n,120")}, %r: tensor<120x40xf32>, %b: tensor<120xf32>, %h: {tensor("n,40")}) ->
({tensor("t,n,40")}, {tensor("n,40")}) {{
  %y:2 = "graph.gru"(%g, %r, %b, %h) {{reverse = 0 : i64, linear_before_reset = {before} : i64}} :
  ({tensor("t,n,120")}, tensor<120x40xf32>, tensor<120xf32>, {tensor("n,40")}) -> ({tensor("t,n,40")},
  {tensor("n,40")}) return %y#0, %y#1 : {tensor("t,n,40")}, {tensor("n,40")}
}}"""
    check(text, "recurrent", randn(3, 2, 120), randn(120, 40) / 6, randn(120), randn(2, 40))


def test_layer_norm_keeps_the_line_in_registers() -> None:
    full, line = tensor("n,384"), tensor("n,1")
    text = f"""
func.func private @k(%x: {full}, %y: {full}, %w: tensor<384xf32>) -> ({full}, {full}) {{
  %n = arith.constant 0.00260416674 : f32
  %x2 = "graph.map"() ({{
    %a = "graph.element"(%x) : ({full}) -> f32
    %b = "graph.element"(%y) : ({full}) -> f32
    %s = arith.addf %a, %b : f32
    gpu.yield %s : f32
  }}) : () -> {full}
  %m = "graph.reduce"(%x2) {{axes = array<i64: 1>, kind = "sum"}} : ({full}) -> {line}
  %d = "graph.map"() ({{
    %c = arith.constant 0.00260416674 : f32
    %a = "graph.element"(%x2) : ({full}) -> f32
    %b = "graph.element"(%m) : ({line}) -> f32
    %u = arith.mulf %b, %c : f32
    %s = arith.subf %a, %u : f32
    gpu.yield %s : f32
  }}) : () -> {full}
  %q = "graph.map"() ({{
    %a = "graph.element"(%d) : ({full}) -> f32
    %s = arith.mulf %a, %a : f32
    gpu.yield %s : f32
  }}) : () -> {full}
  %v = "graph.reduce"(%q) {{axes = array<i64: 1>, kind = "sum"}} : ({full}) -> {line}
  %o = "graph.map"() ({{
    %c = arith.constant 0.00260416674 : f32
    %a = "graph.element"(%d) : ({full}) -> f32
    %b = "graph.element"(%v) : ({line}) -> f32
    %w0 = "graph.element"(%w) : (tensor<384xf32>) -> f32
    %u = arith.mulf %b, %c : f32
    %r = math.rsqrt %u : f32
    %s = arith.mulf %a, %r : f32
    %t = arith.mulf %s, %w0 : f32
    gpu.yield %t : f32
  }}) : () -> {full}
  return %o, %x2 : {full}, {full}
}}"""
    tile = check(text, "row", randn(5, 384), randn(5, 384), randn(384))
    assert tile.count("(%arg0, ") == 1, "the input is read once"


def attention(batch: str, queries: str, keys: str, head: int, mask: bool) -> str:
    q, k = tensor(f"{batch},{queries},{head}"), tensor(f"{batch},{keys},{head}")
    scores, line = tensor(f"{batch},{queries},{keys}"), tensor(f"{batch},{queries},1")
    m = tensor(f"{queries},{keys}")
    return f"""
func.func private @k(%q: {q}, %k: {k}, %v: {k}, %mask: {m}) -> {q} {{
  %s = "graph.matmul"(%q, %k) {{transpose_left = 0 : i64, transpose_right = 1 : i64}} : ({q}, {k}) -> {scores}
  %c = "graph.map"() ({{
    %a = "graph.element"(%s) : ({scores}) -> f32
    %f = arith.constant 0.3 : f32
    %g = arith.mulf %a, %f : f32
    %b = "graph.element"(%mask) : ({m}) -> f32
    %h = arith.addf %g, %b : f32
    gpu.yield {"%h" if mask else "%g"} : f32
  }}) : () -> {scores}
  %m = "graph.reduce"(%c) {{axes = array<i64: 2>, kind = "max"}} : ({scores}) -> {line}
  %e = "graph.map"() ({{
    %a = "graph.element"(%c) : ({scores}) -> f32
    %b = "graph.element"(%m) : ({line}) -> f32
    %s1 = arith.subf %a, %b : f32
    %q1 = math.exp %s1 : f32
    gpu.yield %q1 : f32
  }}) : () -> {scores}
  %z = "graph.reduce"(%e) {{axes = array<i64: 2>, kind = "sum"}} : ({scores}) -> {line}
  %p = "graph.map"() ({{
    %a = "graph.element"(%e) : ({scores}) -> f32
    %b = "graph.element"(%z) : ({line}) -> f32
    %s1 = arith.divf %a, %b : f32
    gpu.yield %s1 : f32
  }}) : () -> {scores}
  %o = "graph.matmul"(%p, %v) {{transpose_left = 0 : i64, transpose_right = 0 : i64}} : ({scores}, {k}) -> {q}
  return %o : {q}
}}"""


@pytest.mark.parametrize(
    ("shape", "sizes", "causal"),
    [
        (("3", "64", "96", 64), (3, 64, 96, 64), False),
        (("b", "q", "s", 32), (2, 19, 45, 32), False),
        (("b", "s", "s", 48), (2, 70, 70, 48), True),
    ],
)
def test_attention(shape: tuple[str, str, str, int], sizes: tuple[int, int, int, int], causal: bool) -> None:
    batch, queries, keys, head = sizes
    mask = np.zeros((queries, keys), np.float32)
    if causal:
        mask[np.triu_indices(queries, 1)] = -np.inf
    arrays = (randn(batch, queries, head), randn(batch, keys, head), randn(batch, keys, head), mask)
    # Scores of up to 64 terms lose a few ulp, which the exponential turns into a relative error of the weights.
    tile = check(attention(*shape, True), "attention", *arrays, relative=1e-5)
    assert tile.count('"tile.dot"') == 2


def test_attention_through_transposes_replaces_nan() -> None:
    """What fusion makes of multi-head attention, one row of which has no valid key."""
    from tests.passes.graph.test_attention_rules import fused, program

    unit = fused(program(replace_nan=True, leak=False))
    function = next(str(op) for op in unit.module.body.operations if "graph.kernel" in op.operation.attributes)
    name = re.search(r"@(\w+)", function)
    assert name is not None
    queries = randn(2, 9, 4, 8)
    queries[0, 3] = -np.inf
    built = build(function.replace(f"@{name[1]}", "@k"), "attention")
    arrays = [queries, np.abs(randn(2, 9, 4, 8)), randn(2, 9, 4, 8)]
    (own,), (wanted,) = emulate(built, arrays), reference(built, arrays)
    assert np.all(wanted[0, 3] == 0)
    np.testing.assert_allclose(own, wanted, rtol=0, atol=1e-5)  # as in test_attention


def test_empty_tensor() -> None:
    """Nothing is launched, and building the kernel divides by no size."""
    text = """
func.func private @k(%x: tensor<20x10x5xf32>) -> tensor<20x0x5xf32> {
  %s = "graph.slice"(%x) {starts = ["0", "10", "0"], steps = array<i64: 1, 1, 1>} : (tensor<20x10x5xf32>) -> tensor<20x0x5xf32>
  return %s : tensor<20x0x5xf32>
}"""
    check(text, "loop", randn(20, 10, 5))


@pytest.mark.parametrize("kind", ["max", "min"])
@pytest.mark.parametrize(("shape", "axis"), [((4, 64), 1), ((4, 64), 0), ((3, 2000), 1), ((2, 0), 1)])
def test_any_and_all(kind: str, shape: tuple[int, int], axis: int) -> None:
    """Of truth values, within a warp, across warps, of columns, and of nothing."""
    line = [1 if number == axis else size for number, size in enumerate(shape)]
    full, reduced = (f"tensor<{'x'.join(map(str, sizes))}xi1>" for sizes in (shape, line))
    attributes = f'{{axes = array<i64: {axis}>, kind = "{kind}"}}'
    text = f"""
func.func private @k(%x: {full}) -> {reduced} {{
  %m = "graph.reduce"(%x) {attributes} : ({full}) -> {reduced}
  return %m : {reduced}
}}"""
    check(text, "row", RNG.random(shape) < (0.02 if kind == "max" else 0.98))

"""Results that leave in boxes: which do, that they are right under the sanitizer, and what ptxas makes of them."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from mlir import ir
from tests.passes.dot.harness import compile_kernel
from tests.passes.dot.test_wgmma_schedules import ALL, force

from tilewright.compiler.backend.assemble import assemble, disassemble
from tilewright.dialects import graph_builder as graph
from tilewright.passes.target import find_target
from tilewright.passes.tile.schedule import Schedule
from tilewright.runtime.emulator.observer import Order
from tilewright.runtime.emulator.sanitizer import Sanitizer

HOPPER = "sm_90a"
FULL = [replace(ALL[name], resident=1) for name in (
    "64x64, 1 share columns, 1 share k",
    "128x192, 1 share columns, 1 share k",  # three strips: the slots begin anew with every tile
    "128x128, 1 share columns, 1 share k, in turn",
    "256x128, 1 share columns, 1 share k",  # two blocks of 64 rows for each group
    "64x32, 1 share columns, 1 share k",  # lines of 64 bytes
    "128x16, 1 share columns, 1 share k",  # of 32
)]  # fmt: skip
NUMPY = {"f16": np.float16, "f32": np.float32}


CASES = [("f32", FULL[0]), ("f32", FULL[-1]), *(("f16", schedule) for schedule in FULL)]


@pytest.mark.parametrize("element,schedule", CASES)
def test_one_block_stores_all_tiles(element: str, schedule: Schedule, monkeypatch: pytest.MonkeyPatch) -> None:
    """With edges in both directions, and slots that are used again and again."""
    force(monkeypatch, schedule)
    rows, columns, depth = 136, 264, 64

    def make(left: ir.Value, right: ir.Value, bias: ir.Value) -> ir.Value:
        product = graph.matmul(left, right, False, True, element="f32")
        return graph.map([product, bias], lambda x, b: (x + b).cast(element))

    kernel = compile_kernel([([rows, depth], "f16"), ([columns, depth], "f16"), ([columns], "f32")], make, HOPPER)
    assert "tile.store_boxes" in kernel.program.text and "tile.store\"" not in kernel.program.text
    assert ("stmatrix" in kernel.ptx) == (element == "f16")
    generator = np.random.default_rng(0)
    left, right = (generator.standard_normal((lines, depth)).astype(np.float16) for lines in (rows, columns))
    bias = generator.standard_normal(columns).astype(np.float32)
    sanitizer = Sanitizer(Order("random", 3))
    (found,) = kernel.run([left, right, bias], sanitizer)
    assert not sanitizer.findings
    expected = left.astype(np.float64) @ right.astype(np.float64).T + bias
    assert found.dtype == NUMPY[element]
    # Sums of 64 products of halves in f32 lose 2**-20; a half keeps 2**-11 of the largest, about 40.
    tolerance = 2**-10 if element == "f16" else 2**-19
    np.testing.assert_allclose(found / 32, expected / 32, rtol=0, atol=2 * tolerance)


@pytest.mark.parametrize("schedule", FULL[1:4], ids=("three", "in turn", "two"))
def test_a_long_epilogue_runs_on_a_strip_at_a_time(schedule: Schedule, monkeypatch: pytest.MonkeyPatch) -> None:
    """Registers hold one strip of what is under way; slots are used again while the tile's first strips leave."""
    force(monkeypatch, schedule)
    rows, columns, depth = 136, 264, 64

    def make(left: ir.Value, right: ir.Value, bias: ir.Value) -> ir.Value:
        product = graph.matmul(left, right, False, True, element="f32")
        return graph.map([product, bias], lambda x, b: ((x + b).erf() + (x - b).tanh()).cast("f16"))

    kernel = compile_kernel([([rows, depth], "f16"), ([columns, depth], "f16"), ([columns], "f32")], make, HOPPER)
    assert kernel.program.text.count('"tile.columns"') == schedule.block[1] // 64
    generator = np.random.default_rng(0)
    left, right = (generator.standard_normal((lines, depth)).astype(np.float16) / 8 for lines in (rows, columns))
    bias = generator.standard_normal(columns).astype(np.float32)
    sanitizer = Sanitizer(Order("random", 3))
    (found,) = kernel.run([left, right, bias], sanitizer)
    assert not sanitizer.findings
    product = left.astype(np.float64) @ right.astype(np.float64).T
    expected = np.frompyfunc(math.erf, 1, 1)(product + bias).astype(np.float64) + np.tanh(product - bias)
    # Half a unit of a half up to two, and what a sum of 64 products in f32 loses.
    np.testing.assert_allclose(found, expected, rtol=0, atol=2**-11 + 2**-19)


BESIDE = [
    ("f16", (2,), "128x128, 1 share columns, 1 share k"),
    ("f16", (), "64x128, 1 share columns, 1 share k, in turn"),
    ("f32", (), "128x64, 1 share columns, 1 share k, in turn"),
    ("f16", (), "128x128, 2 share columns, 1 share k"),
]


@pytest.mark.parametrize("element,batch,name", BESIDE)
def test_what_the_epilogue_reads_arrives_in_boxes(
    element: str, batch: tuple[int, ...], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every block has several tiles with edges in both directions; each slot is fetched to, read, and stored from."""
    force(monkeypatch, replace(ALL[name], resident=2))
    rows, columns, depth = 200, 264, 128

    def make(left: ir.Value, right: ir.Value, residual: ir.Value) -> ir.Value:
        product = graph.matmul(left, right, False, True, element="f32")
        return graph.map([product, residual], lambda x, r: (x * 0.5).cast(element) + r)

    shapes = [(*batch, rows, depth), (*batch, columns, depth), (*batch, rows, columns)]
    kernel = compile_kernel(list(zip(map(list, shapes), ("f16", "f16", element), strict=True)), make, HOPPER)
    assert "tile.fetch_boxes" in kernel.program.text and "tile.load\"" not in kernel.program.text
    generator = np.random.default_rng(0)
    left, right, residual = (generator.standard_normal(shape).astype(np.float16) for shape in shapes)
    sanitizer = Sanitizer(Order("random", 5))
    (found,) = kernel.run([left, right, residual.astype(NUMPY[element])], sanitizer)
    assert not sanitizer.findings
    expected = 0.5 * left.astype(np.float64) @ right.astype(np.float64).swapaxes(-1, -2) + residual
    # A half keeps 2**-11 of the product and of the sum, about 32 at most; sums in f32 lose 2**-20.
    tolerance = 2**-10 if element == "f16" else 2**-19
    np.testing.assert_allclose(found / 32, expected / 32, rtol=0, atol=2 * tolerance)


def test_large_tiles_are_stored_by_one_thread_without_spills() -> None:
    """8192 x 8192 x 8192 with a bias and a GELU: four strips of 64 columns, no other access to the result."""

    def make(left: ir.Value, right: ir.Value, bias: ir.Value) -> ir.Value:
        product = graph.matmul(left, right, False, True, element="f32")
        return graph.map([product, bias], lambda x, b: ((x + b) * 0.5 * (1.0 + (x + b).tanh())).cast("f16"))

    shape = [8192, 8192]
    kernel = compile_kernel([(shape, "f16"), (shape, "f16"), ([8192], "f32")], make, target=HOPPER)
    assembly = assemble(kernel.ptx, find_target(HOPPER), keep_cubin=True)
    assert (assembly.spills, assembly.warnings) == (0, ())
    sass = disassemble(assembly.cubin)
    assert len(re.findall(r"UTMASTG\.2D", sass)) == 4
    assert len(re.findall(r"STSM", sass)) == 16
    assert "STG" not in sass.replace("UTMASTG", "")


def results_in_boxes(columns: int, element: str) -> bool:
    def make(left: ir.Value, right: ir.Value) -> ir.Value:
        return graph.matmul(left, right, False, True, element=element)

    kernel = compile_kernel([([1024, 64], "f16"), ([columns, 64], "f16")], make, HOPPER)
    return "tile.store_boxes" in kernel.program.text


def test_lines_that_no_tensor_map_can_have_are_stored_by_threads() -> None:
    """1100 halves are no multiple of 16 bytes; as many words are."""
    assert not results_in_boxes(1100, "f16")
    assert results_in_boxes(1100, "f32")

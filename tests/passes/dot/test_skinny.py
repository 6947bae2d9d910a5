"""Contractions with few rows: weights read once, against numpy in float64, and by what ptxas makes of them."""

from __future__ import annotations

import re

import numpy as np
import pytest
from mlir import ir
from onnx import parser
from tests.passes.dot.harness import compile_kernel
from tests.passes.dot.test_convolution import Window
from tests.passes.dot.test_convolution import verify as verify_convolution
from tests.passes.dot.test_matmul import Case, verify

import tilewright
from tilewright.compiler.backend.assemble import assemble, disassemble
from tilewright.dialects import graph_builder as graph
from tilewright.passes.target import find_target
from tilewright.passes.tile.skinny_schedule import WeightsProblem, skinny_candidates
from tilewright.runtime.device import open_device
from tilewright.runtime.emulator.observer import Order
from tilewright.runtime.emulator.sanitizer import Sanitizer
from tilewright.runtime.session import Session

CASES = {
    "one row": Case("f16", sizes={"m": 1, "n": 256, "k": 512}),
    "one row, weights along k": Case("f16", sizes={"m": 1, "n": 256, "k": 512}, transposes=(False, True)),
    "three rows, bf16, edges": Case("bf16", sizes={"m": 3, "n": 264, "k": 1000}),
    "four rows along k, edges": Case("bf16", sizes={"m": 4, "n": 77, "k": 1000}, transposes=(False, True)),
    "eight rows": Case("f16", sizes={"m": 8, "n": 128, "k": 768}),
    "f32, sixteen rows": Case("f32", sizes={"m": 16, "n": 300, "k": 260}),
    "integers": Case("i8", sizes={"m": 2, "n": 272, "k": 336}),
    "few columns": Case("f16", sizes={"m": 400, "n": 1, "k": 256}),
    "batches": Case("f16", (3,), (3,), {"m": 2, "n": 136, "k": 512}),
    "columns known at run time": Case("f32", sizes={"m": 1, "n": 200, "k": 2048}, transposes=(False, True), dynamic=frozenset("n")),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_against_float64(case: Case) -> None:
    kernel = verify(case, "bias")
    assert "tile.dot" not in kernel.program.text and "tile.reduce" in kernel.program.text


DECODER = """<ir_version: 9, opset_import: ["" : 19]>
    decoder (float16[batch,1,512] x, float16[512,264] w, float16[264] b) => (float16[batch,1,264] y) {
        h = MatMul(x, w) s = Add(h, b) y = Relu(s) }"""


@pytest.mark.parametrize("target,most,other", [("sm_80", 1, "mma.sync"), ("sm_90a", 3, "wgmma")])
def test_rows_known_at_run_time_have_a_kernel_for_few(target: str, most: int, other: str) -> None:
    """Exported with a dynamic batch and run with one row: two kernels, of whose grids one is empty."""
    graph_ = parser.parse_model(DECODER)
    engine = tilewright.compile(graph_, target=target, precision="f16", hints={"batch": most})
    assert other in engine.ptx("dot_0") and other not in engine.ptx("dot_0_few")
    generator = np.random.default_rng(0)
    w = (generator.standard_normal((512, 264)) / 16).astype(np.float16)
    b = generator.standard_normal(264).astype(np.float16)
    with Session(engine, open_device("emulator"), checked=True) as session:
        for rows in (0, 1, 3, 4, 5, 66):
            grids = [launch.grid[0].evaluate({"batch": rows}) for launch in engine.program.launches]
            bound = 1 << (most - 1).bit_length()
            assert [grid > 0 for grid in grids] == [rows > bound, 0 < rows <= bound]
            x = generator.standard_normal((rows, 1, 512)).astype(np.float16)
            found = session.run({"x": x, "w": w, "b": b})["y"].astype(np.float64)
            expected = np.maximum(x.astype(np.float64) @ w.astype(np.float64) + b, 0)
            # Product and sum are rounded to halves of at most 8.
            np.testing.assert_allclose(found, expected, rtol=0, atol=2**-7)


def test_the_sanitizer_finds_nothing() -> None:
    sanitizer = Sanitizer(Order("random", 3))
    verify(Case("f16", sizes={"m": 2, "n": 136, "k": 520}), "bias", instrument=sanitizer)
    assert not sanitizer.findings


def test_weights_of_eight_bits_are_converted_on_the_way() -> None:
    """Weight-only int8 with a scale per column, and an activation in front: nothing of it touches memory."""
    generator = np.random.default_rng(1)

    def make(a: ir.Value, weight: ir.Value, scale: ir.Value) -> ir.Value:
        wide = graph.map([weight, scale], lambda w, s: w.cast("f32") * s)
        return graph.matmul(graph.map([a], lambda x: x * x), wide)

    kernel = compile_kernel([((2, 512), "f32"), ((512, 160), "i8"), ((1, 160), "f32")], make)
    assert "tile.reduce" in kernel.program.text
    a = generator.standard_normal((2, 512)).astype(np.float32)
    weight = generator.integers(-100, 100, (512, 160)).astype(np.int8)
    scale = generator.standard_normal((1, 160)).astype(np.float32)
    (found,) = kernel.run([a, weight, scale])
    expected = (a.astype(np.float64) ** 2) @ (weight * scale.astype(np.float64))
    # The square and the scaled weight are rounded to f32 each, their products summed in f32.
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-6 * np.abs(expected).max())


def test_a_convolution_of_one_pixel_is_one_too() -> None:
    """Squeeze and excitation: a 1x1 convolution over a pooled image."""
    plain = {"strides": (1, 1), "dilations": (1, 1), "pads": (0,) * 4, "channels_last": True}
    case = Window((1, 1), (1, 1), channels=512, outputs=128, images=2, **plain)  # type: ignore[arg-type]
    kernel = verify_convolution(case, "f16")
    assert kernel is not None and "tile.dot" not in kernel.program.text


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("turned", [False, True])
def test_what_ptxas_makes_of_it(target: str, turned: bool) -> None:
    """4096 x 4096 weights: every access of 16 bytes, eight of them before the first is waited for, no spills."""
    shape = [4096, 4096]

    def make(a: ir.Value, b: ir.Value) -> ir.Value:
        return graph.map([graph.matmul(a, b, False, turned, element="f32")], lambda x: x.cast("f16"))

    kernel = compile_kernel([([1, 4096], "f16"), (shape, "f16")], make, target=target)
    assembly = assemble(kernel.ptx, find_target(target), keep_cubin=True)
    assert (assembly.spills, assembly.warnings) == (0, ())
    sass = disassemble(assembly.cubin)
    opcodes = re.findall(r"\b(LDG\.[A-Z0-9_.]+|FFMA)\b", sass)
    assert [opcode for opcode in opcodes[: opcodes.index("FFMA")] if ".128" in opcode][7:]
    grid = kernel.program.grid[0].as_constant()
    assert grid is not None and grid >= 64


def test_more_rows_cost_no_second_reading() -> None:
    """The model's time for four rows is that of one, and the best candidate comes first."""
    times = []
    for rows in (1, 4):
        found = skinny_candidates(WeightsProblem(1, rows, 4096, 4096, 2, 8, True), find_target("sm_90a"))
        assert found == sorted(found, key=lambda candidate: candidate.cycles)
        times.append(found[0].cycles)
    assert times[1] < 1.05 * times[0]

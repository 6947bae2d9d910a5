"""Hopper's contraction: roles, boxes and wgmma, against numpy in float64 on the emulator, and by what ptxas makes of it."""

from __future__ import annotations

import re

import pytest
from mlir import ir
from tests.passes.dot.harness import compile_kernel
from tests.passes.dot.test_matmul import Case, verify

from tilewright.compiler.backend.assemble import assemble, disassemble
from tilewright.dialects import graph_builder as graph
from tilewright.passes.target import find_target

HOPPER = "sm_90a"
CASES = {
    "both along k": Case("f16", sizes={"m": 128, "n": 64, "k": 192}, transposes=(False, True)),
    "right along columns": Case("bf16", sizes={"m": 64, "n": 128, "k": 128}),
    "left along rows": Case("f16", sizes={"m": 128, "n": 72, "k": 64}, transposes=(True, True)),
    "neither along k": Case("bf16", sizes={"m": 72, "n": 136, "k": 80}, transposes=(True, False)),
    "edges in every direction": Case("f16", sizes={"m": 200, "n": 264, "k": 136}),
    "batches": Case("f16", (3,), (3,), {"m": 72, "n": 64, "k": 64}, transposes=(False, True)),
    "one right operand for all batches": Case("bf16", (2,), (), {"m": 40, "n": 64, "k": 64}),
    "more k than the ring has stages": Case("f16", sizes={"m": 64, "n": 64, "k": 640}),
    "more tiles than blocks": Case("f16", sizes={"m": 64 * 150, "n": 64, "k": 64}),
    "rows known at run time": Case("f16", sizes={"m": 130, "n": 128, "k": 128}, dynamic=frozenset("m")),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_against_float64(case: Case) -> None:
    kernel = verify(case, "bias", target=HOPPER)
    assert "tile.load_box" in kernel.program.text
    assert "wgmma" in kernel.ptx and "mma.sync" not in kernel.ptx


@pytest.mark.parametrize("right_turned", [True, False])
def test_large_tiles_are_what_hopper_wants(right_turned: bool) -> None:
    """The main loop of 8192 x 8192 x 8192: four wgmma a step on 128 x 256 tiles, no spills, nothing serialised."""

    def make(left: ir.Value, right: ir.Value) -> ir.Value:
        return graph.matmul(left, right, False, right_turned, element="f32")

    kernel = compile_kernel([([8192, 8192], "bf16"), ([8192, 8192], "bf16")], make, target=HOPPER)
    assembly = assemble(kernel.ptx, find_target(HOPPER), keep_cubin=True)
    assert (assembly.spills, assembly.warnings) == (0, ())
    assert assembly.registers <= 168  # 65536 / 384 threads
    sass = disassemble(assembly.cubin)
    assert len(re.findall(r"HGMMA\.64x256x16\.F32\.BF16", sass)) == 4
    assert len(re.findall(r"UTMALDG", sass)) == (2 if right_turned else 5)  # a box of 128 rows; 256 rows or 4 panels
    assert sass.count("USETMAXREG") == 2
    assert str(kernel.program.grid[0]) == "132"


def test_what_boxes_cannot_take_goes_another_way() -> None:
    """Rows of 300 halves do not begin at multiples of 16 bytes: mma.sync on padded tiles."""
    kernel = verify(Case("f16", sizes={"m": 300, "n": 100, "k": 70}), target=HOPPER)
    assert "tile.load_box" not in kernel.program.text
    assert "mma.sync" in kernel.ptx


def test_small_problems_go_another_way() -> None:
    kernel = verify(Case("f16", sizes={"m": 8, "n": 256, "k": 256}), target=HOPPER)
    assert "tile.load_box" not in kernel.program.text

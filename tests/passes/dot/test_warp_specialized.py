"""Hopper's contraction: roles, boxes and wgmma, against numpy in float64 on the emulator, and by what ptxas makes of it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from mlir import ir
from tests.passes.dot.harness import compile_kernel
from tests.passes.dot.test_convolution import Window
from tests.passes.dot.test_convolution import verify as verify_convolution
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
    "clusters, and a tile below the last row": Case("f16", sizes={"m": 2148, "n": 1024, "k": 128}),
    "tf32": Case("f32", sizes={"m": 136, "n": 72, "k": 100}, transposes=(False, True), precision="tf32"),
    "tf32, k shared by blocks": Case(
        "f32", sizes={"m": 64, "n": 64, "k": 1024}, transposes=(False, True), precision="tf32"
    ),
    "signed bytes": Case("i8", sizes={"m": 130, "n": 72, "k": 272}, transposes=(False, True)),
    "bytes, k shared by blocks": Case("ui8", sizes={"m": 64, "n": 64, "k": 4096}, transposes=(False, True)),
    "rows known at run time": Case("f16", sizes={"m": 130, "n": 128, "k": 128}, dynamic=frozenset("m")),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_against_float64(case: Case) -> None:
    kernel = verify(case, "bias", target=HOPPER)
    assert "tile.load_box" in kernel.program.text
    assert "wgmma" in kernel.ptx and "mma.sync" not in kernel.ptx


def window(sizes: tuple[int, ...], kernel: tuple[int, ...], **options: Any) -> Window:
    """A convolution of 64 channels to 64 in channels-last."""
    rank = len(sizes)
    plain = {"strides": (1,) * rank, "dilations": (1,) * rank, "pads": (0,) * 2 * rank, "images": 2}
    return Window(sizes, kernel, **{**plain, "channels": 64, "outputs": 64, "channels_last": True, **options})


CONVOLUTIONS = {
    "3x3 with padding": window((9, 10), (3, 3), pads=(1, 1, 1, 1)),
    "3x3, stride 2, padding at the end only": window((12, 15), (3, 3), strides=(2, 2), pads=(0, 0, 1, 1)),
    "dilated": window((13, 9), (3, 2), dilations=(2, 3), pads=(2, 1, 0, 3)),
    "1x1, stride 2": window((11, 12), (1, 1), strides=(2, 2), channels=128),
    "fewer pixels than a wgmma has rows": window((6, 7), (3, 3), pads=(1, 1, 1, 1), images=1),
    "1x1 is a matrix product": window((6, 7), (1, 1)),
    "one dimension": window((70,), (5,), pads=(2, 2)),
    "three dimensions": window((5, 4, 6), (2, 3, 2), strides=(1, 2, 1), pads=(0, 1, 1, 1, 0, 0)),
    "channels that do not fill a line": window((9, 10), (3, 3), pads=(1, 1, 1, 1), channels=40, outputs=72),
    "sixteen channels: four taps a step, and steps past the last": window(
        (9, 10), (3, 3), pads=(1, 1, 1, 1), channels=16, outputs=72
    ),
    "thirty-two channels, stride 2": window((9, 10), (3, 3), strides=(2, 2), pads=(1, 1, 1, 1), channels=32),
    "channels past a line, one tap": window((11, 12), (1, 1), strides=(2, 2), channels=104),
    "sizes known at run time": window((9, 10), (3, 3), pads=(1, 1, 1, 1), strides=(2, 1), dynamic=True),
}


@pytest.mark.parametrize("case", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_convolutions(case: Window) -> None:
    kernel = verify_convolution(case, "f16", target=HOPPER)
    assert kernel is not None and "tile.load_box" in kernel.program.text
    assert ("im2col" in kernel.ptx) == (case.kernel != (1, 1) or case.strides != (1, 1))


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
    # A box of 128 rows, and half of the 256 columns for both blocks of the cluster: 128 lines, or 2 panels of 64.
    assert len(re.findall(r"UTMALDG\.2D ", sass)) == 1
    assert len(re.findall(r"UTMALDG\.2D\.MULTICAST", sass)) == (1 if right_turned else 2)
    assert sass.count("USETMAXREG") == 2
    start, end = sass.split("HGMMA", 1)
    assert start.count("UCGABAR_ARV") == start.count("UCGABAR_WAIT") == 1
    assert "MEMBAR.ALL.GPU" not in start  # only barriers have been made there
    assert end.count("MEMBAR.ALL.GPU") == end.count("UCGABAR_WAIT") == 1  # where the blocks meet at the end: not in the loop
    assert str(kernel.program.grid[0]) == "132"


def test_the_epilogue_of_a_group_in_turn_spills_nothing() -> None:
    """2048 x 2048 x 2048 with a bias and a GELU: tiles of 128 x 128 for each group are two blocks of 64 rows."""

    def make(left: ir.Value, right: ir.Value, bias: ir.Value) -> ir.Value:
        product = graph.matmul(left, right, False, True, element="f32")
        return graph.map([product, bias], lambda x, b: ((x + b) * 0.5 * (1.0 + (x + b).tanh())).cast("f16"))

    shape = [2048, 2048]
    kernel = compile_kernel([(shape, "f16"), (shape, "f16"), ([2048], "f32")], make, target=HOPPER)
    assert "turns = 2" in kernel.program.text
    assembly = assemble(kernel.ptx, find_target(HOPPER), keep_cubin=True)
    assert (assembly.spills, assembly.warnings) == (0, ())
    assert len(re.findall(r"HGMMA\.64x128x16", disassemble(assembly.cubin))) == 8


@pytest.mark.parametrize(
    "element,precision,instruction",
    [
        ("f32", "tf32", r"HGMMA\.64x256x8\.F32\.TF32"),
        ("i8", "", r"IGMMA\.64x256x32\.S8\.S8"),
        ("f8E4M3FN", "", r"QGMMA\.64x256x32\.F32\.E4M3\.E4M3"),
    ],
)
def test_other_types_have_the_same_loop(element: str, precision: str, instruction: str) -> None:
    def make(left: ir.Value, right: ir.Value) -> ir.Value:
        product = graph.matmul(left, right, False, True, element="i32" if element == "i8" else "f32")
        if precision:
            product.owner.attributes["precision"] = ir.StringAttr.get(precision)
        return product

    kernel = compile_kernel([([4096, 4096], element), ([4096, 4096], element)], make, target=HOPPER)
    assembly = assemble(kernel.ptx, find_target(HOPPER), keep_cubin=True)
    assert (assembly.spills, assembly.warnings) == (0, ())
    assert len(re.findall(instruction, disassemble(assembly.cubin))) == 4


def test_padding_past_the_farthest_corner_goes_another_way() -> None:
    """A box of pixels may begin 128 in front of an image, and end as far behind it."""
    kernel = verify_convolution(window((9, 10), (3, 3), pads=(1, 1, 140, 1), images=1), "f16", target=HOPPER)
    assert kernel is not None and "im2col" not in kernel.ptx


def test_what_boxes_cannot_take_goes_another_way() -> None:
    """Rows of 300 halves do not begin at multiples of 16 bytes: mma.sync on padded tiles."""
    kernel = verify(Case("f16", sizes={"m": 300, "n": 100, "k": 70}), target=HOPPER)
    assert "tile.load_box" not in kernel.program.text
    assert "mma.sync" in kernel.ptx


def test_small_problems_go_another_way() -> None:
    kernel = verify(Case("f16", sizes={"m": 8, "n": 256, "k": 48}), target=HOPPER)
    assert "tile.load_box" not in kernel.program.text

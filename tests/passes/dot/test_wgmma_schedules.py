"""Schedules of warp-specialised programs give the right answer, and the cost model prefers what it should."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from onnx import parser
from tests.passes.dot.test_matmul import Case, verify

import tilewright
from tilewright.passes.target import find_target
from tilewright.passes.tile.schedule import Problem, Schedule
from tilewright.passes.tile.schedule_wgmma import MOST_STAGES, TILES, Candidate, wgmma_candidates
from tilewright.runtime.device import open_device
from tilewright.runtime.emulator.observer import Order
from tilewright.runtime.emulator.sanitizer import Sanitizer
from tilewright.runtime.program import Fill
from tilewright.runtime.session import Session
from tilewright.runtime.symbolic import Expression, expression

HOPPER = "sm_90a"
EDGES = Case("f16", sizes={"m": 136, "n": 136, "k": 1024})
LINES = replace(EDGES, transposes=(False, True))  # what tiles of less than 16 columns need
CHAIN = """<ir_version: 9, opset_import: ["" : 19]>
    chain (float16[136,384] x, float16[384,384] w) => (float16[136,384] y) { h = MatMul(x, w) y = MatMul(h, w) }"""


def candidates(rows: int, columns: int, depth: int, ragged: bool = False) -> list[Candidate]:
    problem = Problem(*map(expression, (1, rows, columns, depth)), 2)
    return wgmma_candidates(problem, "f16", find_target(HOPPER), ragged)


def describe(schedule: Schedule) -> str:
    rows, columns, _ = schedule.block
    turns = ", in turn" if schedule.turns > 1 else ""
    runs = ", in runs" if schedule.run else ""
    return f"{rows}x{columns}, {schedule.cluster} share columns, {schedule.split} share k{turns}{runs}"


ALL = {describe(found.schedule): found.schedule for found in candidates(136, 136, 1024)}
TRIED = {
    name: schedule
    for name, schedule in ALL.items()
    if schedule.cluster == schedule.turns == 1 and not schedule.run and schedule.split == (4 if schedule.block[1] != 192 else 1)
}
FEW_ROWS = {
    "six": Case("bf16", sizes={"m": 6, "n": 200, "k": 512}),
    "forty, weights along k": Case("f16", sizes={"m": 40, "n": 264, "k": 128}, transposes=(False, True)),
    "few columns": Case("f16", sizes={"m": 200, "n": 20, "k": 256}, transposes=(False, True)),
}


def force(monkeypatch: pytest.MonkeyPatch, schedule: Schedule) -> None:
    monkeypatch.setattr("tilewright.passes.tile.warp_plan.wgmma_candidates", lambda *_: [Candidate(schedule, 0.0)])


def test_every_tile_is_a_candidate() -> None:
    assert {schedule.block[:2] for schedule in ALL.values()} == {tile for tile, _ in TILES}
    assert {schedule.split for schedule in ALL.values()} == {1, 2, 4, 8}


@pytest.mark.parametrize("schedule", TRIED.values(), ids=TRIED)
def test_against_float64(schedule: Schedule, monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch, schedule)
    kernel = verify(EDGES if schedule.block[1] >= 16 else LINES, "bias", target=HOPPER)
    assert ("tile.combine_blocks" in kernel.program.text) == (schedule.split > 1)


@pytest.mark.parametrize("case", FEW_ROWS.values(), ids=FEW_ROWS)
def test_few_rows_are_columns_of_wgmma(case: Case) -> None:
    kernel = verify(case, "bias", target=HOPPER)
    assert "tile.load_box" in kernel.program.text


@pytest.mark.parametrize("rows,split", [(16, 1), (30, 1), (8, 2), (40, 4)])
def test_sums_of_few_rows_turn_back_before_they_are_stored(
    rows: int, split: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines of the result are columns of the tile; a thread has neighbours of them, 16 bytes where it has as many."""
    turned = {describe(found.schedule): found.schedule for found in candidates(200, rows, 512)}
    columns = 8 if rows == 8 else 16 if rows == 16 else 32
    force(monkeypatch, turned[f"64x{columns}, 1 share columns, {split} share k"])
    sanitizer = Sanitizer(Order("random", 3))
    case = Case("f16", sizes={"m": rows, "n": 200, "k": 512}, transposes=(False, True))
    kernel = verify(case, "bias", HOPPER, sanitizer)
    assert not sanitizer.findings
    assert "turned" in kernel.program.text and "st.global.b32" not in kernel.ptx
    assert ("st.global.v4" in kernel.ptx) == (columns * 64 // split // 128 >= 4)


def test_k_that_does_not_divide_is_shared_with_zeros_past_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine steps for four blocks: three each, and none is left for the last one."""
    ragged = {describe(found.schedule): found.schedule for found in candidates(72, 72, 568, ragged=True)}
    force(monkeypatch, ragged["64x64, 1 share columns, 4 share k"])
    verify(Case("f16", sizes={"m": 72, "n": 72, "k": 568}), "bias", HOPPER)


@pytest.mark.parametrize("depth", [64, 448])
def test_groups_take_turns(depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several tiles for each group of a block; 448 are seven steps of a ring of five stages."""
    force(monkeypatch, replace(ALL["128x128, 2 share columns, 1 share k, in turn"], resident=2))
    kernel = verify(Case("f16", sizes={"m": 600, "n": 264, "k": depth}), "bias", HOPPER)
    assert "apart" in kernel.program.text and str(kernel.program.grid[0]) == "2"


def test_the_sanitizer_finds_nothing_where_groups_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch, replace(ALL["64x64, 1 share columns, 1 share k, in turn"], resident=2))
    sanitizer = Sanitizer(Order("random", 3))
    verify(Case("f16", sizes={"m": 136, "n": 136, "k": 192}), "bias", HOPPER, sanitizer)
    assert not sanitizer.findings


def test_the_sanitizer_finds_nothing_where_k_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch, ALL["64x64, 1 share columns, 4 share k"])
    sanitizer = Sanitizer(Order("random", 3))
    verify(Case("f16", sizes={"m": 72, "n": 136, "k": 512}), "bias", HOPPER, sanitizer)
    assert not sanitizer.findings


def test_descriptors_hold_no_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses of a block in a cluster name its rank, above what a descriptor takes; an operand along columns, of
    several panels, has the offset between them right there.
    """
    force(monkeypatch, ALL["128x128, 2 share columns, 1 share k"])
    sanitizer = Sanitizer(Order("random", 3))
    verify(Case("f16", sizes={"m": 256, "n": 128, "k": 64}), "bias", HOPPER, sanitizer)
    assert not sanitizer.findings


RUNS = {
    "a wave, and shared tiles": (5, 4),  # nine tiles of five steps: one for each block, four in runs of four
    "parts of a tile by several blocks": (64, 2),
}


@pytest.mark.parametrize("blocks,run", RUNS.values(), ids=RUNS)
def test_tiles_that_fill_no_wave_are_shared(blocks: int, run: int, monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch, replace(ALL["64x64, 1 share columns, 1 share k"], resident=blocks, run=run))
    sanitizer = Sanitizer(Order("random", 3))
    kernel = verify(Case("f16", sizes={"m": 136, "n": 136, "k": 320}), "bias", HOPPER, sanitizer)
    assert not sanitizer.findings
    assert "tile.collect" in kernel.program.text


def test_shared_tiles_of_integers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six tiles of three steps for four blocks."""
    schedule = replace(ALL["64x64, 1 share columns, 1 share k"], resident=4, run=2)
    force(monkeypatch, replace(schedule, block=(64, 64, 128), instruction="m64n64k32.s8"))
    case = Case("i8", sizes={"m": 130, "n": 72, "k": 272}, transposes=(False, True))
    assert "tile.collect" in verify(case, "bias", HOPPER).program.text


def test_shared_tiles_of_a_model_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The flags are zero when a run begins, and every kernel leaves them so: here two, one after the other."""
    force(monkeypatch, replace(ALL["64x64, 1 share columns, 1 share k"], resident=5, run=4))
    engine = tilewright.compile(parser.parse_model(CHAIN), target=HOPPER, precision="f16", cache=False)
    assert all("ld.acquire" in engine.ptx(name) for name in engine.kernels)
    assert sum(isinstance(own, Fill) for own in engine.program.instructions) == 1
    generator = np.random.default_rng(0)
    arrays = {"x": generator.integers(-3, 4, (136, 384)), "w": generator.integers(-3, 4, (384, 384))}
    with Session(engine, open_device("emulator"), checked=True) as session:
        halves = {name: array.astype(np.float16) for name, array in arrays.items()}
        first, again = (session.run(halves)["y"] for _ in range(2))
    expected = arrays["x"] @ arrays["w"] @ arrays["w"]
    # Sums of integers are exact; halves keep 2**-11 of those of the first product, and of the result.
    np.testing.assert_allclose(first.astype(np.float64), expected, rtol=0, atol=2**-9 * np.abs(expected).max())
    np.testing.assert_array_equal(first, again)


def test_uneven_tiles_with_a_long_k_are_shared() -> None:
    """81 tiles of 128 x 128 for 132 blocks, with 128 steps each; with four steps the handing over would cost more."""
    assert candidates(1152, 1152, 8192)[0].schedule.run == 79
    assert candidates(1152, 1152, 256)[0].schedule.run == 0


def test_rings_are_no_longer_than_a_block_has_steps() -> None:
    """128 tiles of four steps; sixteen times as many; and a number that is not known."""
    stages = [candidates(rows, 1024, 256)[0].schedule.stages for rows in (196, 16 * 196)]
    assert stages == [4, MOST_STAGES]
    problem = Problem(expression(1), Expression.symbol("n"), expression(1024), expression(256), 2)
    assert wgmma_candidates(problem, "f16", find_target(HOPPER))[0].schedule.stages == MOST_STAGES


# (rows, columns, k) -> blocks that share k. Work for whole waves is not split; a long k of few tiles is.
SPLITS = {
    (8192, 8192, 8192): 1,
    (1024, 1024, 1024): 1,
    (2048, 128, 8192): 8,
    (196, 256, 2304): 4,  # a 3x3 convolution of one image, 14 x 14
    (49, 512, 4608): 8,
}


def test_turns_hide_the_epilogue_of_a_short_k() -> None:
    """With a long k one large tile reads less; with a short one the epilogue counts, and another tile hides it."""
    turns = [candidates(4096, 4096, depth)[0].schedule.turns for depth in (512, 16384)]
    assert turns == [2, 1]


@pytest.mark.parametrize("sizes", SPLITS)
def test_small_results_share_k_among_blocks(sizes: tuple[int, int, int]) -> None:
    best, *others = candidates(*sizes)
    assert best.schedule.split == SPLITS[sizes]
    assert all(best.cycles <= other.cycles for other in others)

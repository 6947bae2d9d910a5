"""Cooperative patterns that nvcc compiled from CUDA's own headers, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from tests.emulator.harness import Runner


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(11)


@pytest.mark.parametrize("size", [8, 32])
def test_groups_of_a_warp(random: np.random.Generator, size: int) -> None:
    x = random.integers(-99, 99, 64).astype("i4")
    out = Runner.of("cooperative")(f"tiles{size}", x, np.zeros((64, 3), "i4"), block=(64,))[1]
    rows = x.reshape(-1, size)
    assert (out[:, 0].reshape(-1, size) == rows.sum(axis=1)[:, None]).all()
    assert (out[:, 1].reshape(-1, size) == np.maximum.accumulate(rows, axis=1)).all()
    assert (out[:, 2].reshape(-1, size) == rows[:, ::-1] + 1000 * np.arange(len(rows))[:, None]).all()


def test_halves_of_a_warp_that_diverge(random: np.random.Generator) -> None:
    x = random.integers(-9, 9, 96).astype("f4")
    out = Runner.of("cooperative")("halves", x, np.zeros_like(x), block=(96,))[1].reshape(-1, 32)
    rows = x.reshape(-1, 32)
    assert (out[:, :16] == rows[:, :16].sum(axis=1)[:, None]).all()
    assert (out[:, 16:] == np.cumsum(rows[:, 16:], axis=1)).all()


def test_warps_take_slots_with_one_atomic(random: np.random.Generator) -> None:
    x = random.integers(0, 1000, 700).astype("i4")
    wanted = x[x % 3 == 0]
    _, count, out = Runner.of("cooperative")(
        "filter", x, 650, np.zeros(1, "i4"), np.zeros(700, "i4"), grid=(6,), block=(128,)
    )
    wanted = x[:650][x[:650] % 3 == 0]
    assert count[0] == len(wanted) and (np.sort(out[: len(wanted)]) == np.sort(wanted)).all()


def test_groups_of_equal_keys(random: np.random.Generator) -> None:
    key, x = random.integers(0, 4, 64).astype("i4"), random.integers(0, 9, 64).astype("i4")
    out = Runner.of("cooperative")("labels", key, x, np.zeros(64, "i4"), block=(64,))[2]
    for lane in range(64):
        same = slice(lane // 32 * 32, lane // 32 * 32 + 32)
        group = key[same] == key[lane]
        assert out[lane] == x[same][group].sum() * 100 + group.sum()


def test_scan_by_look_back(random: np.random.Generator) -> None:
    """Blocks wait for flags that other blocks of the launch set."""
    x = random.integers(-9, 9, 12 * 256).astype("i4")
    flags = [np.zeros(12, "i4"), np.zeros(12, "i4"), np.zeros(1, "i4")]
    y = Runner.of("cooperative")("scan", x, np.zeros_like(x), *flags, grid=(12,), block=(256,))[1]
    assert (y == np.cumsum(x)).all()


def test_pairs_of_halves(random: np.random.Generator) -> None:
    a, b = random.standard_normal((2, 64)).astype("f2")
    out = Runner.of("cooperative")("half_pairs", a, b, np.zeros_like(a))[2]
    product = (a.astype("f8") * b.astype("f8") - a.astype("f8")).astype("f2")
    highest = np.maximum(product, np.float16(0.5) * b)
    assert (out == np.clip(highest.astype("f8") + np.abs(a), 0, 1).astype("f2")).all()

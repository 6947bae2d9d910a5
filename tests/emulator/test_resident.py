"""Blocks that wait for each other in loops: kernels that nvcc compiled, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from tests.emulator.harness import Runner

from tilewright.runtime.errors import DeviceError


@pytest.mark.parametrize("blocks", [1, 6, 150])
def test_a_barrier_of_the_whole_grid(blocks: int, engine: str) -> None:
    if engine == "numpy" and blocks > 100:
        pytest.skip("more threads than advance together")
    a = np.random.default_rng(0).integers(0, 9, blocks * 64).astype("i4")
    rounds, expected = 5, a.copy()
    for _ in range(rounds):
        expected = np.roll(expected, -1) + np.roll(expected, 1)
    runner = Runner.of("resident")
    _, b, _ = runner("neighbours", a, np.zeros_like(a), rounds, np.zeros(1, "i4"), grid=(blocks,), block=(64,))
    assert (b == expected).all()


def test_each_block_waits_for_the_one_behind_it() -> None:
    """Lanes that wait for lane 0 must not go on without it, however long it waits."""
    blocks = 40
    value = np.zeros(blocks + 1, "i4")
    value[-1] = 7
    _, out = Runner.of("resident")("chain", value, np.zeros(blocks * 32, "i4"), grid=(blocks,), block=(32,))
    assert (out.reshape(blocks, 32) == 7 + np.arange(blocks)[::-1, None] + np.arange(32)).all()


def test_what_nobody_writes_is_told() -> None:
    with pytest.raises(DeviceError) as caught:
        Runner.of("resident")("forgotten", np.zeros(3, "i4"), grid=(3,), block=(64,))
    for part in ("threads spin for ever on memory that nobody changes", "thread (5, 0, 0)", "ld.volatile.global"):
        assert part in str(caught.value)

"""Atomics: every operation with colliding threads, with and without its result."""

from __future__ import annotations

import functools

import numpy as np
from tests.emulator.harness import Runner


def test_histogram_in_shared_then_global_memory() -> None:
    x = np.random.default_rng(0).integers(0, 1000, 5000).astype("i4")
    bins = Runner.of("atomics")("histogram", x, np.zeros(16, "i4"), 5000, grid=(3,), block=(256,))[1]
    assert (bins == np.bincount(x & 15, minlength=16)).all()


def test_every_thread_draws_its_own_ticket() -> None:
    counter, out = Runner.of("atomics")(
        "tickets", np.zeros(1, "i4"), np.zeros(600, "i4"), grid=(3,), block=(96,)
    )
    assert counter[0] == 576 and (out[:576:2] == 1).all() and not out[1::2].any()


def test_every_operation() -> None:
    x = np.random.default_rng(1).integers(-1000, 1000, 256).astype("i4")
    out = np.zeros(10, "i4")
    out[3] = -1
    _, out, total, wide = Runner.of("atomics")(
        "extremes", x, out, np.zeros(1, "f4"), np.zeros(1, "u8"), grid=(4,), block=(64,)
    )
    fold = functools.partial(functools.reduce)
    assert out[0] == min(0, x.min()) and out[1] == max(0, x.max())
    assert (
        out[2] == fold(np.bitwise_xor, x)
        and out[3] == fold(np.bitwise_and, x)
        and out[4] == fold(np.bitwise_or, x)
    )
    assert total[0] == 0.5 * x.sum()  # halves of small integers: exact
    assert wide.view("i8")[0] == x.sum()
    count, down = 0, 0
    for _ in range(256):
        count = 0 if count >= 6 else count + 1
        down = 4 if down == 0 or down > 4 else down - 1
    assert out[5] == count and out[6] == down
    assert out[7] == out[8] + 1 and out[9] == 77


def test_compare_and_swap_loop() -> None:
    x = np.random.default_rng(2).random(128).astype("f4")
    assert (
        Runner.of("atomics")("float_max", x, np.zeros(1, "i4"), grid=(2,), block=(64,))[1].view("f4")[0]
        == x.max()
    )


def test_packed_halves() -> None:
    x = np.random.default_rng(3).integers(-8, 8, (64, 2)).astype("f2")
    target = Runner.of("atomics")("half_add", np.zeros((2, 2), "f2"), x, block=(64,))[0]
    assert (target == x.reshape(32, 2, 2).sum(axis=0)).all()  # small integers: exact in any order


def test_the_last_block_finishes_the_sum() -> None:
    x = np.random.default_rng(4).integers(0, 9, 40 * 256).astype("f4")
    out = Runner.of("atomics")(
        "last_block", x, np.zeros(40, "f4"), np.zeros(1, "i4"), np.zeros(1, "f4"), grid=(40,), block=(256,)
    )
    assert out[3][0] == x.sum()

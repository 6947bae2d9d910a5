"""mbarriers, spins and named barriers: kernels that nvcc compiled, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from tests.emulator.harness import Runner

from tilewright.runtime.errors import DeviceError


def _run(name: str, *arguments: np.ndarray | int, grid: int = 1, block: int = 32) -> list[np.ndarray]:
    return Runner.of("mbarrier")(name, *arguments, grid=(grid,), block=(block,))


@pytest.mark.parametrize("steps", [1, 4, 11])
def test_ring_of_producer_and_consumers(steps: int) -> None:
    x = np.random.default_rng(0).standard_normal((3, steps, 96)).astype("f4")
    y = _run("ring", x, np.zeros_like(x), steps, grid=3, block=128)[1]
    assert (y == x[:, :, ::-1] * 2 + 1).all()


def test_lanes_of_a_warp_wait_for_the_one_that_waits() -> None:
    assert (_run("one_lane_waits", np.zeros(32, "i4"), block=64)[0] == 131 - np.arange(32)).all()


def test_spins_on_flags_tokens_and_locks() -> None:
    lock, total = _run("spins", np.zeros(1, "i4"), np.zeros(1, "i4"), grid=4, block=64)
    assert lock[0] == 0 and total[0] == 10


def test_diverged_lanes_take_a_lock_in_turn() -> None:
    assert _run("lanes_lock", np.zeros(1, "i4"), np.zeros(1, "i4"), grid=2, block=64)[1][0] == 128


def test_every_form_of_arrival() -> None:
    """Tokens count what a phase lacked; 100 expected bytes hold the phase; the dropped arrival is gone in the next."""
    assert _run("forms", np.zeros(7, "i4"), block=1)[0].tolist() == [5, 3, 0, 1, 0, 4, 1]


def test_cp_async_arrives() -> None:
    x = np.arange(256, dtype="i4").reshape(64, 4)
    assert (_run("copies_arrive", x, np.zeros_like(x), block=64)[1] == x[::-1]).all()


def test_named_barriers_chosen_at_run_time() -> None:
    t = np.arange(128)
    expected = t // 64 * 64 + 63 - t % 64 + np.where(t >= 64, (t - 64) * 1000, 0)
    assert (_run("named", np.zeros(128, "i4"), block=128)[0] == expected).all()


@pytest.mark.parametrize(
    ("kernel", "block", "parts"),
    [
        ("never", 64, ["64 threads wait for the phase of parity 0", "1 of 2 arrivals and 512 bytes", "try_wait"]),
        ("uninitialised", 32, ["no mbarrier was initialised at shared address 0x0"]),
        ("too_many", 32, ["1 arrivals", "lacks 0 of 1"]),
        ("no_flag", 32, ["threads spin for ever", "ld.volatile.global"]),
    ],
)
def test_misuse_is_reported(kernel: str, block: int, parts: list[str]) -> None:
    with pytest.raises(DeviceError) as caught:
        _run(kernel, np.zeros(2, "i4"), block=block)
    for part in (*parts, f"kernel {kernel}", "PTX line"):
        assert part in str(caught.value)

"""Clusters: kernels that nvcc compiled, against what their blocks should see."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from tests.emulator.harness import Runner

from tilewright.runtime.errors import DeviceError


def _run(name: str, *arguments: np.ndarray | int, grid: tuple[int, ...], block: int = 32) -> list[np.ndarray]:
    return Runner.of("cluster")(name, *arguments, grid=grid, block=(block,))


def test_ranks_and_coordinates() -> None:
    (out,) = _run("identity", np.zeros((4, 6, 12), "i4"), grid=(6, 4))
    for y, x in itertools.product(range(4), range(6)):
        rank = x % 2 + y % 2 * 2
        expected = [x // 2, y // 2, 3, x % 2, y % 2, 2, rank, 4, 1, rank ^ 3, rank, y]
        assert out[y, x].tolist() == expected


def test_histogram_in_distributed_shared_memory() -> None:
    x = np.random.default_rng(0).integers(0, 64, 1000).astype("i4")
    bins = _run("histogram", x, np.zeros(64, "i4"), 1000, grid=(4,), block=64)[1]
    assert (bins == np.bincount(x, minlength=64)).all()


def test_exchange_by_address() -> None:
    out = _run("exchange", np.zeros((8, 64, 3), "i4"), grid=(8,), block=64)[0]
    t = np.arange(64)
    for block in range(8):
        before = (block - 1) % 4
        assert (out[block, :, 0] == 100 * before + t).all()
        assert (out[block, :, 1] == 100 * ((block + 1) % 4) + 63 - t).all()
        arrived = 1 + 3 * 64 if block % 4 == 0 else 0
        assert out[block, :, 2].tolist() == [arrived, *(t * t)[1:]]


def test_stores_that_complete_on_a_remote_barrier() -> None:
    out = _run("send", np.zeros(32, "i4"), grid=(2,))[0]
    assert out.tolist() == [7 * i for i in range(16)] + [1, 2, 1005] + [1000] * 13


@pytest.mark.parametrize("rounds", [1, 5])
def test_multicast_and_remote_arrivals(rounds: int) -> None:
    x = np.random.default_rng(1).integers(0, 99, (rounds, 64)).astype("i4")
    y = _run("multicast", x, np.zeros((rounds, 4, 64), "i4"), rounds, grid=(4,), block=64)[1]
    for rank in range(4):
        assert (y[:, rank] == (x + rank if rank % 2 else 0)).all()


def test_faults() -> None:
    with pytest.raises(DeviceError, match="block rank 2 in a cluster of 2 blocks"):
        _run("beyond", np.zeros(1, "i4"), grid=(2,))
    with pytest.raises(DeviceError, match=r"mbarrier at shared address .* lacks 1 of 1 arrivals"):
        _run("stuck", np.zeros(1, "i4"), grid=(2,))
    with pytest.raises(DeviceError, match="is not a multiple of the cluster"):
        _run("send", np.zeros(1, "i4"), grid=(3,))


def test_a_barrier_that_only_the_second_block_waits_for() -> None:
    ptx = """.version 8.0
.target sm_90
.address_size 64
.visible .entry k(.param .u64 p) .explicitcluster .reqnctapercluster 2, 1, 1 .reqntid 64, 1, 1 {
.reg .pred %p, %q; .reg .b32 %rank, %t;
mov.u32 %rank, %cluster_ctarank;
mov.u32 %t, %tid.x;
setp.eq.u32 %p, %rank, 1;
setp.lt.u32 %q, %t, 32;
and.pred %p, %p, %q;
@!%p bra end;
bar.sync 0, 64;
end: ret;
}"""
    text = "deadlock at barrier 0: 32 of 64 threads wait here, 32 have already exited"
    with pytest.raises(DeviceError, match=text) as told:
        Runner(ptx)("k", np.zeros(1, "i4"), grid=(2,), block=(64,))
    assert "block (1, 0, 0)" in str(told.value)

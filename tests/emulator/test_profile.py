"""The profile's counts against numbers worked out by hand, and its table of GPUs."""

from __future__ import annotations

import numpy as np
import pytest
from tests.emulator.harness import Runner
from tests.support.mutant_products import HopperCase

from tilewright.runtime.emulator.device import EmulatorDevice
from tilewright.runtime.emulator.profile import Counts, Profile
from tilewright.runtime.emulator.profile_counts import sectors, wavefronts
from tilewright.runtime.errors import ModelError
from tilewright.runtime.gpus import GPUS, MULTIPROCESSORS, find_gpu, gpu_of_target, occupancy

_LANES = np.arange(32)


@pytest.mark.parametrize(
    ("name", "addresses", "nbytes", "count"),
    [
        ("neighbours", 4 * _LANES, 4, 4),
        ("neighbours of 16 bytes", 16 * _LANES, 16, 16),
        ("one word for all", 0 * _LANES, 4, 1),
        ("every other word", 8 * _LANES, 4, 8),
        ("a column of 128-byte rows", 128 * _LANES, 4, 32),
        ("neighbours, shifted by half a sector", 16 + 4 * _LANES, 4, 5),
        ("bytes", _LANES, 1, 1),
    ],
)
def test_sectors(name: str, addresses: np.ndarray, nbytes: int, count: int) -> None:
    found = sectors(_LANES, addresses, nbytes)
    assert len(found) == count
    # A second warp at the same addresses asks again.
    twice = sectors(np.arange(64), np.tile(addresses, 2), nbytes)
    assert len(twice) == 2 * count


@pytest.mark.parametrize(
    ("name", "addresses", "nbytes", "needed", "ideal"),
    [
        ("neighbours", 4 * _LANES, 4, 1, 1),
        ("one word for all", 0 * _LANES, 4, 1, 1),
        ("two-way", 8 * _LANES, 4, 2, 1),
        ("a column of 32 words", 128 * _LANES, 4, 32, 1),
        ("a column of 33 words", 132 * _LANES, 4, 1, 1),
        ("neighbours of 8 bytes", 8 * _LANES, 8, 2, 2),
        ("neighbours of 16 bytes", 16 * _LANES, 16, 4, 4),
        ("rows of 128 bytes, 16 bytes of each", 128 * _LANES, 16, 32, 4),
        ("the same, swizzled", 128 * _LANES + 16 * (_LANES % 8), 16, 4, 4),
        ("halves", 2 * _LANES, 2, 1, 1),
    ],
)
def test_wavefronts(name: str, addresses: np.ndarray, nbytes: int, needed: int, ideal: int) -> None:
    assert wavefronts(_LANES, addresses, nbytes) == (needed, ideal)


def test_inactive_lanes_cost_nothing() -> None:
    assert wavefronts(np.array([3, 40]), np.array([0, 128]), 4) == (2, 2)
    assert len(sectors(np.array([3, 40]), np.array([0, 0]), 4)) == 2


_KERNEL = """.version 8.0
.target sm_80
.address_size 64
.visible .entry k(.param .u64 x) {
 .reg .b32 %r<9>; .reg .b64 %rd<9>; .reg .f32 %f<9>; .reg .pred %p;
 .shared .align 16 .b8 tile[4096];
 ld.param.u64 %rd1, [x]; mov.u32 %r1, %tid.x; mov.u32 %r2, %ctaid.x;
 mad.lo.u32 %r3, %r2, 64, %r1; mul.wide.u32 %rd2, %r3, 4; add.u64 %rd3, %rd1, %rd2;
 ld.global.f32 %f1, [%rd3];
 shl.b32 %r4, %r1, 6; mov.u32 %r5, tile; add.u32 %r5, %r5, %r4;
 st.shared.f32 [%r5], %f1;
 bar.sync 0;
 setp.lt.u32 %p, %r1, 32;
 @!%p bra done;
 fma.rn.f32 %f2, %f1, %f1, %f1;
 st.global.f32 [%rd3], %f2;
done:
 ret; }
"""


def _counts() -> Counts:
    instrument = Profile()
    runner = Runner(_KERNEL)
    runner.device = EmulatorDevice(instrument=instrument)
    runner("k", np.ones(192, np.float32), grid=(3,), block=(64,))
    return instrument.counts["k"]


def test_a_kernel_is_counted() -> None:
    counts = _counts()
    assert (counts.launches, counts.blocks, counts.block) == (1, 3, (64, 1, 1))
    assert counts.requested == {"read": 768, "write": 384}
    assert counts.sectors == {"read": 24, "write": 12}
    # The written sectors are half of those that were read.
    assert counts.distinct == {"read": 768, "write": 384}
    # A stride of 16 words: two banks for 32 lanes
    assert (counts.wavefronts, counts.ideal) == (6 * 16, 6)
    assert list(counts.conflicts.values()) == [6 * 15]
    # One fma in one warp of each block
    assert counts.operations == {"f32": 2 * 32 * 3}
    assert counts.instructions["f32"] == 3 and counts.instructions["load global"] == 6
    assert counts.instructions["synchronise"] == 6


def test_tensor_operations_are_counted() -> None:
    instrument = Profile()
    runner = Runner.of("hgemm")
    runner.device = EmulatorDevice(instrument=instrument)
    shapes = (np.zeros((64, 96), "f2"), np.zeros((96, 128), "f2"), np.zeros((64, 128), "f4"))
    runner("hgemm", *shapes, 64, 128, 96, grid=(2, 1), block=(128,))
    counts = instrument.counts["hgemm"]
    assert counts.tensor == {"f16": 2 * 64 * 128 * 96}
    # A is read by both blocks, each of which computes half of the columns.
    assert counts.distinct["read"] == 2 * (64 * 96 + 96 * 128)
    assert counts.requested["read"] == 2 * (2 * 64 * 96 + 96 * 128)


def test_bulk_copies_and_wgmma_are_counted() -> None:
    instrument = Profile()
    case = HopperCase(((128, 128, 64),))
    case.run(case.ptx, instrument)
    counts = instrument.counts["wsgemm"]
    assert counts.tensor == {"bf16": 2 * 128 * 128 * 64}
    assert counts.requested == {"read": 2 * 128 * 64 * 2, "write": 128 * 128 * 2}
    assert counts.distinct == counts.requested and counts.sectors["read"] == 2 * 128 * 64 * 2 // 32


@pytest.mark.parametrize(
    ("gpu", "threads", "registers", "shared", "blocks", "limit"),
    [
        ("h100", 256, 32, 0, 8, "threads"),
        ("h100", 256, 64, 0, 4, "registers"),
        ("h100", 32, 16, 0, 32, "blocks"),
        ("h100", 128, 128, 100 * 1024, 2, "shared memory"),
        ("l4", 256, 32, 0, 6, "threads"),
        ("a100", 384, 168, 0, 1, "registers"),
    ],
)
def test_occupancy(gpu: str, threads: int, registers: int, shared: int, blocks: int, limit: str) -> None:
    found = occupancy(GPUS[gpu], threads, registers, shared)
    assert (found.blocks, found.limit) == (blocks, limit)
    assert found.fraction == blocks * threads / GPUS[gpu].multiprocessor.threads


def test_the_table_of_gpus() -> None:
    for name, gpu in GPUS.items():
        assert gpu.name == name and gpu.capability in MULTIPROCESSORS
        # 128 (64 on sm_80) multiply-adds a clock and multiprocessor
        lanes = 64 if gpu.capability == (8, 0) else 128
        rate = gpu.multiprocessors * gpu.clock * 2 * lanes / 1000
        assert abs(rate / gpu.f32 - 1) < 0.01, name  # the tables give three digits
        # half the bytes, twice the rate; GeForce cards add up f16, and f8, in f32 at half their rate
        halved = 2 if "GeForce" in gpu.title else 1
        rates = {"f16": 1, "bf16": 1, "tf32": 0.5, "f8": 2, "int8": 2 * halved}
        for kind, factor in rates.items():
            expected = factor * gpu.tensor["f16"]
            assert abs(gpu.tensor.get(kind, expected) / expected - 1) < 0.015, kind
        assert gpu.source
    assert gpu_of_target("sm_90a").name == "h100" and gpu_of_target("sm_120").name == "rtx5090"
    with pytest.raises(ModelError, match="known: a100"):
        find_gpu("abacus")

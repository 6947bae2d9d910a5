"""Order that comes from flags and fences, and registers of wgmma: what the sanitizer follows without a barrier."""

from __future__ import annotations

import numpy as np
import pytest
from tests.emulator.harness import Runner

from tilewright.runtime.emulator.control_flow import build
from tilewright.runtime.emulator.device import EmulatorDevice
from tilewright.runtime.emulator.parser import parse
from tilewright.runtime.emulator.sanitizer import Sanitizer
from tilewright.runtime.emulator.sanitizer_flags import joined
from tilewright.runtime.emulator.sanitizer_grid import GridOrder
from tilewright.runtime.emulator.sanitizer_grid import joined as joined_stamps
from tilewright.runtime.emulator.sanitizer_registers import IN_FLIGHT, UNFENCED, register_faults

_FLAG = """.version 8.0
.target sm_90
.address_size 64
.visible .entry k(.param .u64 y) {
 .reg .b32 %r<9>; .reg .b64 %rd<9>; .reg .pred %p<3>;
 .shared .align 4 .b8 data[128]; .shared .align 4 .b8 flag[4];
 ld.param.u64 %rd1, [y]; mov.u32 %r1, %tid.x; shl.b32 %r2, %r1, 2; and.b32 %r2, %r2, 124;
 mov.u32 %r3, data; add.u32 %r3, %r3, %r2;
 setp.eq.u32 %p1, %r1, 0;
 @%p1 st.shared.b32 [flag], 0;
 bar.sync 0;
 setp.ge.u32 %p1, %r1, 32;
 @%p1 bra reader;
 st.shared.b32 [%r3], %r1;
 bar.warp.sync -1;
 membar.cta;
 st.volatile.shared.b32 [flag], 1;
 bra done;
reader:
 ld.volatile.shared.b32 %r4, [flag];
 setp.eq.u32 %p2, %r4, 0;
 @%p2 bra reader;
 membar.cta;
 ld.shared.b32 %r5, [%r3];
done:
 ret; }
"""


@pytest.mark.parametrize(
    ("old", "new", "races"),
    [
        ("", "", 0),
        ("membar.cta;\n st.vol", "st.vol", 1),
        ("membar.cta;\n ld.sh", "ld.sh", 1),
        ("membar.cta;\n st.volatile", "st.release.cta", 0),
        ("ld.volatile.shared.b32 %r4", "ld.acquire.cta.shared.b32 %r4", 0),
    ],
)
def test_a_flag_orders_with_fences_on_both_sides(old: str, new: str, races: int) -> None:
    sanitizer = Sanitizer()
    runner = Runner(_FLAG.replace(old, new) if old else _FLAG)
    runner.device = EmulatorDevice(instrument=sanitizer)
    runner("k", np.zeros(1, "u4"), block=(64,))
    assert len(sanitizer.findings) == races, [str(finding) for finding in sanitizer.findings.list()]


_TOLD = """.version 8.0
.target sm_90
.address_size 64
.visible .entry k(.param .u64 data, .param .u64 flag) {
 .reg .b32 %r<9>; .reg .b64 %rd<9>; .reg .pred %first, %again, %second;
 ld.param.u64 %rd1, [data]; ld.param.u64 %rd2, [flag];
 mov.u32 %r1, %tid.x; setp.eq.u32 %first, %r1, 0;
 mad.wide.u32 %rd3, %r1, 4, %rd1;
 mov.u32 %r2, %ctaid.x; setp.eq.u32 %second, %r2, 1;
 @%second bra reader;
 st.global.b32 [%rd3], %r1;
 bar.sync 0;
 @%first st.release.gpu.global.b32 [%rd2], 1;
 bra done;
reader:
 @!%first bra together;
look:
 ld.acquire.gpu.global.b32 %r4, [%rd2];
 setp.eq.u32 %again, %r4, 0;
 @%again bra look;
together:
 bar.sync 0;
 ld.global.b32 %r5, [%rd3];
done:
 ret; }
"""
_RELEASE, _ACQUIRE = "@%first st.release.gpu.global.b32 [%rd2], 1;", "ld.acquire.gpu.global.b32"
_RELAXED = _RELEASE.replace("release", "relaxed")


@pytest.mark.parametrize(
    ("changes", "threads", "races"),
    [
        ({}, 64, 0),
        ({"bar.sync 0;\n @%first": "@%first"}, 64, 1),
        ({"together:\n bar.sync 0;": "together:"}, 64, 1),
        ({_RELEASE: _RELAXED}, 64, 1),
        ({_RELEASE: f"fence.acq_rel.gpu;\n {_RELAXED}"}, 64, 0),
        ({"bar.sync 0;\n @": "fence.acq_rel.gpu;\n bar.sync 0;\n @", _RELEASE: _RELAXED}, 64, 1),
        ({_ACQUIRE: "ld.relaxed.gpu.global.b32"}, 64, 1),
        ({_ACQUIRE: "ld.relaxed.gpu.global.b32", "together:\n": "fence.acq_rel.gpu;\ntogether:\n"}, 64, 0),
        # One warp: its lanes have to meet; what the telling lane did itself needs no meeting.
        ({"bar.sync 0;\n @": "bar.warp.sync -1;\n @"}, 32, 0),
        ({"bar.sync 0;\n @": "@"}, 32, 1),
        ({"bar.sync 0;\n @": "@", " st.global.b32 [%rd3]": " @%first st.global.b32 [%rd1]",
          "ld.global.b32 %r5, [%rd3]": "ld.global.b32 %r5, [%rd1]"}, 32, 0),
    ],
)  # fmt: skip
def test_a_flag_speaks_for_other_threads_after_a_barrier(changes: dict[str, str], threads: int, races: int) -> None:
    text = _TOLD
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    sanitizer = Sanitizer()
    runner = Runner(text)
    runner.device = EmulatorDevice(instrument=sanitizer)
    runner("k", np.zeros(64, "u4"), np.zeros(1, "u4"), grid=(2,), block=(threads,))
    assert len(sanitizer.findings) == races, [str(finding) for finding in sanitizer.findings.list()]


def test_grids_that_are_too_large_count_as_ordered() -> None:
    order = GridOrder(4096, 8)
    threads = np.zeros(1, "i8"), np.zeros(1, "i8")
    assert not order.is_known and not order.unordered(threads, threads, np.ones(1, "u4")).any()


def test_newer_clocks_and_lanes_of_the_same_one_are_joined() -> None:
    one, other = (np.array(values, "u8") for values in ([3 << 32 | 5, 4 << 32 | 1], [3 << 32 | 2, 2 << 32 | 9]))
    np.testing.assert_array_equal(joined_stamps(one, other), [3 << 32 | 7, 4 << 32 | 1])
    np.testing.assert_array_equal(joined(np.array([1, 5]), np.array([3])), [3, 5])


# wgmma
_PRODUCT = """.version 8.0
.target sm_90a
.address_size 64
.visible .entry k(.param .u64 y) {{
 .reg .f32 %f<9>; .reg .b64 %rd<9>; .reg .b32 %r<9>; .reg .pred %p;
 {}
 ret; }}
"""
_MMA = (
    "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f1, %f2, %f3, %f4}, %rd1, %rd2, 1, 1, 1, 0, 0;\n"
    " wgmma.commit_group.sync.aligned;"
)
_FENCE, _WAIT = "wgmma.fence.sync.aligned;", "wgmma.wait_group.sync.aligned 0;"


def _faults(*lines: str) -> list[str]:
    module = parse(_PRODUCT.format("\n ".join(lines)))
    return [fault.kind for fault in register_faults(build(module, "k"))]


@pytest.mark.parametrize(
    ("lines", "kinds"),
    [
        ((_FENCE, _MMA, _WAIT, "add.f32 %f5, %f1, %f2;"), []),
        ((_FENCE, _MMA, "add.f32 %f5, %f1, %f2;", _WAIT), [IN_FLIGHT]),
        ((_FENCE, _MMA, "wgmma.wait_group.sync.aligned 1;", "add.f32 %f5, %f1, %f2;"), [IN_FLIGHT]),
        ((_FENCE, _MMA, _MMA, _WAIT), []),
        ((_FENCE, _MMA, "mov.f32 %f5, %f1;", "add.f32 %f6, %f5, %f5;", _WAIT), [IN_FLIGHT]),
        ((_MMA, _WAIT), [UNFENCED]),
        ((_FENCE, "add.f32 %f1, %f5, %f6;", _MMA, _WAIT), [UNFENCED]),
        (("mov.f32 %f1, 0f00000000;", _FENCE, _MMA, _WAIT), []),
        (
            ("setp.eq.u32 %p, %r1, 0;", _FENCE, _MMA, "@%p bra skip;", _WAIT, "skip:", "add.f32 %f5, %f1, %f2;"),
            [IN_FLIGHT],
        ),
    ],
)  # fmt: skip
def test_registers_of_wgmma(lines: tuple[str, ...], kinds: list[str]) -> None:
    assert _faults(*lines) == kinds

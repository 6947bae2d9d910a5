"""Order that comes from flags and fences, and registers of wgmma: what the sanitizer follows without a barrier."""

from __future__ import annotations

import numpy as np
import pytest
from tests.emulator.harness import CUDA, Runner

from tilewright.runtime.emulator.control_flow import build
from tilewright.runtime.emulator.device import EmulatorDevice
from tilewright.runtime.emulator.parser import parse
from tilewright.runtime.emulator.sanitizer import Sanitizer
from tilewright.runtime.emulator.sanitizer_flags import BlockOrder, joined
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


def test_blocks_know_of_each_other_only_what_flags_told() -> None:
    order = BlockOrder(3)
    zero, one = np.array([0]), np.array([1])
    flag = np.array([64])
    written = order.clocks(zero)
    assert order.unordered(one, zero, written).all()
    order.fence(zero)
    order.touch(zero, flag, writes=True, reads=False, release=False, acquire=False)
    order.touch(one, flag, writes=False, reads=True, release=False, acquire=False)
    assert order.unordered(one, zero, written).all(), "not before the reader's fence"
    order.fence(one)
    assert not order.unordered(one, zero, written).any()
    assert order.unordered(one, zero, order.clocks(zero)).all(), "what came after the fence is not ordered"
    assert not BlockOrder(BlockOrder.MOST_BLOCKS + 1).is_known
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


# Clusters
def _exchange(early: bool) -> list[str]:
    """Kinds of findings of the exchange through a cluster's shared memory; `early`: blocks arrive before they write."""
    ptx = (CUDA / "cluster.ptx").read_text()
    begin = ptx.index(".entry exchange(")
    head, body = ptx[:begin], ptx[begin:]
    write, arrive = "st.shared::cluster.u32 [%r5], %r9;", "barrier.cluster.arrive.release.aligned;"
    if early:
        assert write in body and arrive in body
        body = body.replace(write, "", 1).replace(arrive, f"{arrive} {write}", 1)
    sanitizer = Sanitizer()
    runner = Runner(head + body)
    runner.device = EmulatorDevice(instrument=sanitizer)
    runner("exchange", np.zeros(4 * 64 * 3, "i4"), grid=(4,), block=(64,))
    return [finding.kind for finding in sanitizer.findings.list()]


def test_a_cluster_barrier_orders_what_came_before_the_arrival() -> None:
    assert not _exchange(early=False)
    assert "race" in _exchange(early=True)

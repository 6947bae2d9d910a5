"""What barriers of a cluster hand over, relaxed or not, and how new mbarriers become known: right and wrong kernels."""

from __future__ import annotations

import numpy as np
import pytest
from tests.emulator.harness import CUDA, Runner

from tilewright.runtime.emulator.device import EmulatorDevice
from tilewright.runtime.emulator.sanitizer import Sanitizer


def _findings(text: str, kernel: str, *arguments: np.ndarray, blocks: int, threads: int) -> list[str]:
    sanitizer = Sanitizer()
    runner = Runner(text)
    runner.device = EmulatorDevice(instrument=sanitizer)
    runner(kernel, *arguments, grid=(blocks,), block=(threads,))
    return [str(finding) for finding in sanitizer.findings.list()]


def _changed(text: str, changes: dict[str, str]) -> str:
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


# Two blocks make an mbarrier each, arrive at each other's, and wait for their own.
_SIGNAL = """.version 8.0
.target sm_90
.address_size 64
.visible .entry k(.param .u64 y) .explicitcluster .reqnctapercluster 2, 1, 1 .reqntid 64, 1, 1 {
 .reg .b32 %r<9>; .reg .pred %first, %second, %done;
 .shared .align 8 .b64 full;
 mov.u32 %r1, %tid.x; setp.eq.u32 %first, %r1, 0; setp.eq.u32 %second, %r1, 1;
 mov.u32 %r2, full; mov.u32 %r3, %cluster_ctarank; xor.b32 %r3, %r3, 1;
 mapa.shared::cluster.u32 %r4, %r2, %r3;
 @%first mbarrier.init.shared.b64 [full], 1;
 @%first fence.mbarrier_init.release.cluster;
 barrier.cluster.arrive.relaxed.aligned;
 barrier.cluster.wait.acquire.aligned;
 @%first mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r4];
look:
 mbarrier.try_wait.parity.shared.b64 %done, [full], 0;
 @!%done bra look;
 barrier.cluster.arrive.release.aligned;
 barrier.cluster.wait.acquire.aligned;
 ret; }
"""
_FENCE = "@%first fence.mbarrier_init.release.cluster;"
_RELAXED = "barrier.cluster.arrive.relaxed.aligned;"
_RELEASED = "barrier.cluster.arrive.aligned;"


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({}, []),
        # The other block arrives, and the other warp of its own block waits.
        ({_FENCE: ""}, ["arrive.release", "try_wait"]),
        ({_FENCE: _FENCE.replace("first", "second")}, ["arrive.release", "try_wait"]),
        ({_FENCE: "", _RELAXED: f"{_RELAXED} {_FENCE}"}, ["arrive.release", "try_wait"]),
        # Of a barrier that is not relaxed, or with a fence of all accesses, no fence of its own is asked.
        ({_FENCE: "", _RELAXED: _RELEASED}, []),
        ({_FENCE: "", _RELAXED: f"fence.acq_rel.cluster; {_RELAXED}"}, []),
        # Behind bar.sync the own block knows it, the other one does not.
        ({_FENCE: "bar.sync 0;"}, ["arrive.release"]),
    ],
)  # fmt: skip
def test_new_mbarriers_cross_a_relaxed_barrier_with_their_fence(changes: dict[str, str], lines: list[str]) -> None:
    found = _findings(_changed(_SIGNAL, changes), "k", np.zeros(1, "u4"), blocks=4, threads=64)
    assert len(found) == len(lines), found
    for text, line in zip(found, lines, strict=True):
        assert "race on the mbarrier at shared address 0x0: nothing orders mbarrier.init and the use" in text
        assert line in text


# Each thread writes a word of its block's memory, and of global memory, and reads some other thread's.
_DATA = """.version 8.0
.target sm_90
.address_size 64
.visible .entry k(.param .u64 y) .explicitcluster .reqnctapercluster 2, 1, 1 .reqntid 64, 1, 1 {
 .reg .b32 %r<12>; .reg .b64 %rd<9>;
 .shared .align 4 .b8 data[256];
 ld.param.u64 %rd1, [y]; mov.u32 %r1, %tid.x; shl.b32 %r2, %r1, 2; xor.b32 %r3, %r2, 128;
 mov.u32 %r4, data; mov.u32 %r5, %cluster_ctarank; xor.b32 %r5, %r5, 1; mov.u32 %r6, %ctaid.x;
 shl.b32 %r6, %r6, 8; add.u32 %r7, %r6, %r2; xor.b32 %r8, %r7, 256;
 cvt.u64.u32 %rd2, %r7; add.u64 %rd2, %rd1, %rd2; cvt.u64.u32 %rd3, %r8; add.u64 %rd3, %rd1, %rd3;
 add.u32 %r9, %r4, %r2; add.u32 %r3, %r4, %r3;
 mapa.shared::cluster.u32 %r10, %r9, %r5;
 WRITE
 ARRIVE
 barrier.cluster.wait.acquire.aligned;
 READ
 barrier.cluster.arrive.release.aligned;
 barrier.cluster.wait.acquire.aligned;
 ret; }
"""
_EXCHANGES = {
    "the other block's": ("st.shared.b32 [%r9], %r1;", "ld.shared::cluster.b32 %r11, [%r10];"),
    "distributed": ("st.shared::cluster.b32 [%r10], %r1;", "ld.shared.b32 %r11, [%r9];"),
    "another warp's": ("st.shared.b32 [%r9], %r1;", "ld.shared.b32 %r11, [%r3];"),
    "global": ("st.global.b32 [%rd2], %r1;", "ld.global.b32 %r11, [%rd3];"),
}


@pytest.mark.parametrize("exchange", _EXCHANGES)
@pytest.mark.parametrize(
    ("arrive", "races"),
    [
        (_RELEASED, 0),
        (_RELAXED, 1),
        (f"fence.acq_rel.cluster; {_RELAXED}", 0),
        (f"membar.gl; {_RELAXED}", 0),
        (f"fence.acq_rel.cta; {_RELAXED}", 1),
        (f"{_RELAXED} fence.acq_rel.cluster;", 1),
        (f"fence.mbarrier_init.release.cluster; {_RELAXED}", 1),
    ],
)
def test_data_crosses_a_barrier_that_releases(exchange: str, arrive: str, races: int) -> None:
    write, read = _EXCHANGES[exchange]
    text = _changed(_DATA, {"WRITE": write, "ARRIVE": arrive, "READ": read})
    found = _findings(text, "k", np.zeros(4 * 64, "u4"), blocks=4, threads=64)
    assert len(found) == races and all(own.startswith("race") for own in found), found


def test_a_fence_does_not_speak_for_what_follows_it() -> None:
    write, read = _EXCHANGES["the other block's"]
    arrive = f"fence.acq_rel.cluster; {write} {_RELAXED}"
    text = _changed(_DATA, {"WRITE": "", "ARRIVE": arrive, "READ": read})
    assert len(_findings(text, "k", np.zeros(4 * 64, "u4"), blocks=4, threads=64)) == 1


# One thread makes an mbarrier and another copies a line to shared memory, which completes there.
_COPY = """.version 8.0
.target sm_90
.address_size 64
.visible .entry k(.param .u64 y) .reqntid 64, 1, 1 {
 .reg .b32 %r<9>; .reg .b64 %rd<9>; .reg .pred %first, %other, %done;
 .shared .align 16 .b8 line[128]; .shared .align 8 .b64 full;
 ld.param.u64 %rd1, [y]; mov.u32 %r1, %tid.x; setp.eq.u32 %first, %r1, 0; setp.eq.u32 %other, %r1, 32;
 @%first mbarrier.init.shared.b64 [full], 1;
 FENCE
 bar.sync 0;
 AGAIN
 @%other mbarrier.arrive.expect_tx.shared.b64 _, [full], 128;
 @%other cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [line], [%rd1], 128, [full];
look:
 mbarrier.try_wait.parity.shared.b64 %done, [full], 0;
 @!%done bra look;
 ret; }
"""


@pytest.mark.parametrize(
    ("fence", "again", "races"),
    [
        ("@%first fence.mbarrier_init.release.cluster;", "", 0),
        ("@%first fence.proxy.async.shared::cta;", "", 0),
        ("", "fence.proxy.async.shared::cta;", 0),
        ("", "", 1),
        ("@%first fence.acq_rel.cluster;", "", 1),
    ],
)
def test_copies_see_an_mbarrier_behind_a_fence(fence: str, again: str, races: int) -> None:
    text = _changed(_COPY, {"FENCE": fence, "AGAIN": again})
    found = _findings(text, "k", np.zeros(32, "u4"), blocks=1, threads=64)
    assert len(found) == races, found
    assert all("no fence.mbarrier_init or fence.proxy.async" in own for own in found)


@pytest.mark.parametrize(("meeting", "races"), [("bar.sync 0;", 0), ("", 1)])
def test_an_mbarrier_that_is_made_again_has_to_be_told_again(meeting: str, races: int) -> None:
    again = f"""@!%done bra look;
 bar.sync 0;
 setp.ne.u32 %other, %r1, 0;
 @%other bra past;
 mbarrier.inval.shared.b64 [full];
 mbarrier.init.shared.b64 [full], 1;
past:
 {meeting}
 setp.eq.u32 %other, %r1, 32;
 @%other mbarrier.arrive.shared.b64 _, [full];
"""
    fence = "@%first fence.mbarrier_init.release.cluster;"
    text = _changed(_COPY, {"FENCE": fence, "AGAIN": "", "@!%done bra look;\n": again})
    assert len(_findings(text, "k", np.zeros(32, "u4"), blocks=1, threads=64)) == races


_LAST = "barrier.cluster.arrive.release.aligned;\n barrier.cluster.wait.acquire.aligned;\n ret;"
_FENCED_LAST = _LAST.replace("barrier.cluster.arrive.release", "fence.acq_rel.gpu;\n barrier.cluster.arrive.relaxed")
_RELAXED_LAST = _LAST.replace("release", "relaxed")


@pytest.mark.parametrize("exchange", ["the other block's", "distributed", "another warp's"])
@pytest.mark.parametrize(("last", "findings"), [(_LAST, 0), (_FENCED_LAST, 0), (_RELAXED_LAST, 1), ("ret;", 1)])
def test_a_block_ends_when_others_have_left_its_memory(exchange: str, last: str, findings: int) -> None:
    write, read = _EXCHANGES[exchange]
    text = _changed(_DATA, {"WRITE": write, "ARRIVE": _RELEASED, "READ": read, _LAST: last})
    found = _findings(text, "k", np.zeros(4 * 64, "u4"), blocks=4, threads=64)
    # What is written before the first barrier is over then; what is read behind it in another block is not.
    assert len(found) == (findings if exchange == "the other block's" else 0), found
    assert all("and its block end while another may still be at its shared memory" in own for own in found)


@pytest.mark.parametrize(("last", "findings"), [(_LAST, 0), ("ret;", 0)])
def test_an_arrival_that_is_waited_for_needs_no_other_meeting(last: str, findings: int) -> None:
    assert len(_findings(_changed(_SIGNAL, {_LAST: last}), "k", np.zeros(1, "u4"), blocks=4, threads=64)) == findings


def test_a_block_ends_when_its_bulk_copies_have_come() -> None:
    wait = "look:\n mbarrier.try_wait.parity.shared.b64 %done, [full], 0;\n @!%done bra look;\n"
    fence = {"FENCE": "@%first fence.mbarrier_init.release.cluster;", "AGAIN": ""}
    (found,) = _findings(_changed(_COPY, {**fence, wait: ""}), "k", np.zeros(32, "u4"), blocks=1, threads=64)
    assert "and its block end while a bulk copy may still write to its shared memory" in found


@pytest.mark.parametrize("early", [False, True])
def test_a_cluster_barrier_orders_what_came_before_the_arrival(early: bool) -> None:
    """The exchange through a cluster's shared memory; `early`: blocks arrive before they write."""
    ptx = (CUDA / "cluster.ptx").read_text()
    begin = ptx.index(".entry exchange(")
    head, body = ptx[:begin], ptx[begin:]
    write, arrive = "st.shared::cluster.u32 [%r5], %r9;", "barrier.cluster.arrive.release.aligned;"
    if early:
        assert write in body and arrive in body
        body = body.replace(write, "", 1).replace(arrive, f"{arrive} {write}", 1)
    found = _findings(head + body, "exchange", np.zeros(4 * 64 * 3, "i4"), blocks=4, threads=64)
    assert any(own.startswith("race") for own in found) == early, found

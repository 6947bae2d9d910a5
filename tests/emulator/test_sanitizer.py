"""Kernels that are wrong in ways a GPU hides: each is found, and the right kernel beside it is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.emulator.harness import CUDA, Runner

from tilewright.runtime.emulator.device import EmulatorDevice
from tilewright.runtime.emulator.observer import Order
from tilewright.runtime.emulator.sanitizer import Sanitizer
from tilewright.runtime.emulator.sanitizer_findings import Finding
from tilewright.runtime.errors import DeviceError

_KERNEL = """.version 8.0
.target sm_90a
.address_size 64
.visible .entry k(.param .u64 x, .param .u64 y) .maxntid 128, 1, 1 {
 .reg .b32 %r<20>; .reg .b64 %rd<20>; .reg .b64 %state; .reg .pred %p<5>;
 .shared .align 128 .b8 tile[1024];
 .shared .align 8 .b8 full[8];
 ld.param.u64 %rd1, [x]; ld.param.u64 %rd2, [y];
 mov.u32 %r1, %tid.x; mov.u32 %r2, %ctaid.x; mad.lo.u32 %r3, %r2, 64, %r1;
 mul.wide.u32 %rd3, %r3, 4; add.u64 %rd4, %rd1, %rd3; add.u64 %rd5, %rd2, %rd3;
 mov.u32 %r4, tile; mov.u32 %r9, full;
 shl.b32 %r5, %r1, 2; add.u32 %r6, %r4, %r5;
 xor.b32 %r7, %r5, 252; add.u32 %r8, %r4, %r7;
 // BODY
 ret;
}
"""
"""%rd4 and %rd5 are the thread's elements of x and y, %r6 its word of the tile, %r8 that of the thread 63 - tid."""

_STORE = "ld.global.b32 %r10, [%rd4];\n st.shared.b32 [%r6], %r10;"
_LOAD = "ld.shared.b32 %r11, [%r8];\n st.global.b32 [%rd5], %r11;"


def _run(
    body: str, order: str = "lockstep", blocks: int = 2, threads: int = 64, ptx: str = _KERNEL
) -> tuple[Any, list[Finding]]:
    """(y, findings) of the kernel with `body`; x is 0, 1, 2, ..."""
    sanitizer = Sanitizer(Order(order, seed=5))
    runner = Runner(ptx.replace("// BODY", body))
    runner.device = EmulatorDevice(instrument=sanitizer)
    x = np.arange(64 * blocks, dtype=np.uint32)
    try:
        y = runner("k", x, np.zeros_like(x), grid=(blocks,), block=(threads,))[1]
    except DeviceError:
        y = None
    return y, sanitizer.findings.list()


_REVERSED = np.arange(128, dtype=np.uint32) ^ 63


@pytest.mark.parametrize("order", ["lockstep", "reversed", "random"])
def test_a_barrier_orders(order: str) -> None:
    y, findings = _run(f"{_STORE}\n bar.sync 0;\n {_LOAD}", order)
    assert not findings
    np.testing.assert_array_equal(y, _REVERSED)


@pytest.mark.parametrize("order", ["lockstep", "reversed", "random"])
def test_without_the_barrier_it_is_a_race(order: str) -> None:
    _, findings = _run(f"{_STORE}\n {_LOAD}", order)
    races = [finding for finding in findings if finding.kind == "race"]
    assert races
    text = str(races[0])
    assert "race on shared memory" in text and "nothing orders the two accesses" in text
    # Both sides, whichever came first, with their lines.
    assert "st.shared.b32 [%r6], %r10;" in text and "ld.shared.b32 %r11, [%r8];" in text
    assert ", 0, 0), thread (" in text and "kernel k" in text


def test_reversed_order_shows_what_lockstep_hides() -> None:
    body = f"{_STORE}\n {_LOAD}"
    np.testing.assert_array_equal(_run(body)[0], _REVERSED)
    y, _ = _run(body, "reversed")
    assert (y != _REVERSED).any()


def test_writing_again_before_all_have_read() -> None:
    good = f"{_STORE}\n bar.sync 0;\n ld.shared.b32 %r11, [%r8];\n bar.sync 0;\n st.shared.b32 [%r6], %r11;"
    assert not _run(good)[1]
    (finding,) = _run(good.replace("bar.sync 0;\n st.shared", "st.shared"))[1]
    assert finding.kind == "race" and finding.access and finding.access.verb == "writes"
    assert finding.earlier and finding.earlier.verb == "read"


@pytest.mark.parametrize(("synchronise", "found"), [("bar.warp.sync -1;", 0), ("", 1)])
def test_lanes_of_one_warp(synchronise: str, found: int) -> None:
    # The thread 31 - tid of the same warp
    body = f"xor.b32 %r7, %r5, 124; add.u32 %r8, %r4, %r7;\n {_STORE}\n {synchronise}\n {_LOAD}"
    _, findings = _run(body)
    assert len(findings) == found
    assert all("two lanes of one warp" in finding.what for finding in findings)


@pytest.mark.parametrize(
    "instruction",
    ["bar.warp.sync -1;", "shfl.sync.bfly.b32 %r11, %r1, 1, 31, 0xffffffff;", "vote.sync.any.pred %p2, %p1, -1;"],
)
@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ("@%p1 bra OVER;", "bar.sync 0;", True),
        ("@%p1 ret;", "", False),  # who has ended is not waited for
        ("@%p1 bra OVER;", "", False),  # nor who is about to
        ("setp.lt.u32 %p1, %r1, 32; @%p1 bra OVER;", "", False),  # nor another warp
        ("@%p1 bra COLD;\nJOIN:", "bra END;\nCOLD: add.u32 %r12, %r12, 1;\n bra JOIN;\nEND:", False),  # who comes late
    ],
)
def test_named_lanes_that_do_not_come(instruction: str, before: str, after: str, found: bool) -> None:
    body = f"and.b32 %r12, %r1, 31; setp.eq.u32 %p1, %r12, 9; {before}\n {instruction}\nOVER: {after}"
    _, findings = _run(body)
    assert [finding.kind for finding in findings] == ["fault"] * found
    assert all("lane 9 does not come" in finding.what for finding in findings)


COPIED = """setp.eq.u32 %p1, %r1, 0; setp.ne.u32 %p2, %r1, 0;
 @%p1 mbarrier.init.shared.b64 [full], 1;
 @%p1 fence.mbarrier_init.release.cluster;
 bar.sync 0;
 @%p2 bra JOIN;
 mbarrier.arrive.expect_tx.shared.b64 %state, [full], 256;
 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [tile], [%rd1], 256, [full];
 WAIT
JOIN:
"""
LOOK = "LOOK: mbarrier.try_wait.parity.shared.b64 %p3, [full], 0;\n @!%p3 bra LOOK;"


def test_an_mbarrier_made_again_under_a_copy_in_flight_does_not_end_it() -> None:
    again = """bar.sync 0;
 @%p1 mbarrier.inval.shared.b64 [full]; @%p1 mbarrier.init.shared.b64 [full], 1;
 bar.sync 0;
 ld.shared.b32 %r11, [%r6];"""
    findings = _run(COPIED.replace("WAIT", "") + again)[1]
    assert "race" in {finding.kind for finding in findings}
    assert not _run(COPIED.replace("WAIT", LOOK))[1]


def test_a_warp_waits_for_the_lane_that_waits_for_its_copy() -> None:
    """As producers of one lane do: the others of its warp are at an instruction that names it."""
    assert not _run(COPIED.replace("WAIT", LOOK) + " bar.warp.sync -1;\n bar.sync 0;\n ld.shared.b32 %r11, [%r6];")[1]


def test_two_warps_writing_one_word_in_the_same_instruction() -> None:
    body = "and.b32 %r5, %r5, 127; add.u32 %r6, %r4, %r5;\n st.shared.b32 [%r6], %r1;"
    (finding,) = _run(body)[1]
    assert finding.kind == "race" and finding.access and finding.earlier
    assert finding.access.line == finding.earlier.line


def test_atomics_do_not_race_with_each_other() -> None:
    body = """st.shared.b32 [%r6], 0;
 bar.sync 0;
 red.shared.add.u32 [%r4], 1;
 bar.sync 0;
 ld.shared.b32 %r11, [%r4];"""
    assert not _run(body)[1]
    (finding,) = _run(body.replace("1;\n bar.sync 0;", "1;"))[1]
    assert finding.kind == "race"


def test_shared_memory_that_nobody_wrote() -> None:
    (finding,) = _run(f"bar.sync 0;\n {_LOAD}")[1]
    assert finding.kind == "uninitialised" and "shared memory at 0xfc is read and was never written" in finding.what
    assert finding.count == 128


def test_named_barriers_order_producers_and_consumers() -> None:
    # The first warp writes and only arrives; the second waits and reads.
    body = """setp.lt.u32 %p1, %r1, 32;
 @!%p1 bra consumer;
 st.shared.b32 [%r6], %r1;
 bar.arrive 1, 64;
 bra done;
consumer:
 bar.sync 1, 64;
 ld.shared.b32 %r11, [%r8];
done:"""
    assert not _run(body)[1]
    write, arrive = " st.shared.b32 [%r6], %r1;", " bar.arrive 1, 64;"
    early = body.replace(f"{write}\n{arrive}", f"{arrive}\n{write}")
    assert {finding.kind for finding in _run(early)[1]} == {"race"}


_COPY = "cp.async.ca.shared.global [%r6], [%rd4], 4;"


@pytest.mark.parametrize(
    ("body", "kinds"),
    [
        (f"{_COPY}\n cp.async.commit_group;\n cp.async.wait_group 0;\n bar.sync 0;\n {_LOAD}", set()),
        (f"{_COPY}\n cp.async.wait_all;\n bar.sync 0;\n {_LOAD}", set()),
        (f"{_COPY}\n cp.async.commit_group;\n cp.async.wait_group 1;\n bar.sync 0;\n {_LOAD}", {"race"}),
        (f"{_COPY}\n cp.async.wait_group 0;\n bar.sync 0;\n {_LOAD}", {"race"}),
        (f"{_COPY}\n cp.async.commit_group;\n bar.sync 0;\n cp.async.wait_group 0;\n {_LOAD}", {"race"}),
        (f"{_COPY}\n st.shared.b32 [%r6], %r1;", {"race"}),
        (f"{_COPY}\n {_COPY}", {"race"}),
        (f"{_COPY}\n cp.async.commit_group;\n cp.async.wait_group 0;\n {_COPY}", set()),
    ],
)  # fmt: skip
def test_asynchronous_copies(body: str, kinds: set[str]) -> None:
    y, findings = _run(body)
    assert {finding.kind for finding in findings} == kinds
    assert all("may be in flight" in finding.what for finding in findings)
    if not kinds and "ld.shared" in body:
        np.testing.assert_array_equal(y, _REVERSED)


def test_a_copy_that_nobody_waits_for_arrives_too_late() -> None:
    y, _ = _run(f"{_COPY}\n cp.async.commit_group;\n bar.sync 0;\n {_LOAD}")
    assert not y.any()


def test_zero_filled_and_partial_copies() -> None:
    # 8 bytes from the 4 that thread 0 still has of x: the rest must be neither read nor missed.
    body = """setp.eq.u32 %p1, %r1, 0;
 selp.u32 %r12, 4, 0, %p1;
 add.u32 %r6, %r6, %r5;
 and.b64 %rd6, %rd4, -8;
 cp.async.ca.shared.global [%r6], [%rd6], 8, %r12;
 cp.async.wait_all;
 ld.shared.b64 %rd7, [%r6];"""
    assert not _run(body, blocks=1)[1]


_MBARRIER = """setp.eq.u32 %p1, %r1, 0;
 @%p1 mbarrier.init.shared.b64 [%r9], 32;
 bar.sync 0;
 setp.lt.u32 %p2, %r1, 32;
 @!%p2 bra consumer;
 st.shared.b32 [%r6], %r1;
 mbarrier.arrive.shared.b64 %state, [%r9];
 bra done;
consumer:
wait:
 mbarrier.try_wait.parity.shared.b64 %p3, [%r9], 0;
 @!%p3 bra wait;
 ld.shared.b32 %r11, [%r8];
done:"""


@pytest.mark.parametrize("order", ["lockstep", "reversed", "random"])
def test_mbarriers_order(order: str) -> None:
    assert not _run(_MBARRIER, order)[1]


def test_a_wait_for_the_wrong_phase_orders_nothing() -> None:
    _, findings = _run(_MBARRIER.replace("[%r9], 0;\n @!%p3", "[%r9], 1;\n @!%p3"), "reversed")
    assert {finding.kind for finding in findings} <= {"race", "uninitialised"} and findings


def test_a_missing_arrival_is_a_deadlock() -> None:
    _, findings = _run(_MBARRIER.replace("b64 [%r9], 32;", "b64 [%r9], 33;"))
    assert [finding.kind for finding in findings] == ["fault"]
    assert "deadlock" in findings[0].what


# Global memory.
def test_blocks_that_write_the_same_word() -> None:
    (finding,) = _run("st.global.b32 [%rd2], %r2;")[1]
    assert finding.kind == "race" and "between blocks" in finding.what
    assert finding.access and finding.earlier and finding.access.position != finding.earlier.position


def test_blocks_that_read_what_another_writes() -> None:
    body = "ld.global.b32 %r11, [%rd1];\n setp.eq.u32 %p1, %r3, 64;\n @%p1 st.global.b32 [%rd1], %r1;"
    (finding,) = _run(body, blocks=3)[1]
    assert finding.kind == "race" and finding.earlier and finding.earlier.verb == "read"
    assert not _run("ld.global.b32 %r11, [%rd1];\n st.global.b32 [%rd5], %r11;")[1]


def test_atomics_of_blocks_do_not_race() -> None:
    assert not _run("red.global.add.u32 [%rd2], 1;")[1]


def test_noncoherent_loads_of_what_the_launch_writes() -> None:
    body = "st.global.b32 [%rd5], %r1;\n ld.global.nc.b32 %r11, [%rd5];"
    (finding,) = _run(body)[1]
    assert finding.kind == "race" and "ld.global.nc" in finding.what
    assert not _run(body.replace(".nc", ""))[1]


def test_memory_that_nobody_wrote() -> None:
    sanitizer = Sanitizer()
    device = EmulatorDevice(instrument=sanitizer)
    kernel = device.load("k", _KERNEL.replace("// BODY", f"{_STORE}\n bar.sync 0;\n {_LOAD}"))
    x, y = device.allocate(256), device.allocate(256)
    device.upload(x, np.arange(60, dtype=np.uint32))
    device.launch(kernel, (1, 1, 1), (64, 1, 1), 0, [("pointer", x), ("pointer", y)])
    (finding,) = sanitizer.findings.list()
    assert finding.kind == "uninitialised" and finding.count == 4
    assert "global memory" in finding.what and "240 bytes into allocation 1" in finding.what
    # What a kernel wrote is initialised, also after a copy; new memory is not.
    z = device.allocate(260)
    device.copy(z, y, 256)
    device.download(z, np.empty(64, np.uint32))
    assert len(sanitizer.findings) == 1
    device.download(z, np.empty(65, np.uint32))
    assert sanitizer.findings.list()[1].kind == "unwritten"
    device.discard(z, 260)
    device.download(z, np.empty(1, np.uint32))
    assert len(sanitizer.findings) == 3


# PTX of nvcc.
def _gemm(change: tuple[str, str, int] | None, order: str = "lockstep") -> tuple[Any, list[Finding]]:
    """(largest error, findings) of the f16 matrix product of cuda/hgemm.ptx, in which the n-th `old` is replaced."""
    ptx = (CUDA / "hgemm.ptx").read_text()
    if change is not None:
        old, new, number = change
        parts = ptx.split(old)
        ptx = old.join(parts[:number]) + new + old.join(parts[number:])
    sanitizer = Sanitizer(Order(order))
    runner = Runner(ptx)
    runner.device = EmulatorDevice(instrument=sanitizer)
    generator = np.random.default_rng(1)
    a = generator.standard_normal((64, 96)).astype("f2")
    b = generator.standard_normal((96, 128)).astype("f2")
    zeros = np.zeros((64, 128), "f4")
    c = runner("hgemm", a, b, zeros, 64, 128, 96, grid=(2, 1), block=(128,))[2]
    return float(np.abs(c - a.astype("f8") @ b.astype("f8")).max()), sanitizer.findings.list()


@pytest.mark.parametrize("order", ["lockstep", "reversed", "random"])
def test_a_right_pipeline_has_no_findings(order: str) -> None:
    error, findings = _gemm(None, order)
    # Products of halves are exact in f32; 96 additions round sums of size about 10.
    assert error < 3e-5 and not findings


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (("bar.sync \t0;", "", 1), "race"),
        (("bar.sync \t0;", "", 2), "race"),
        (("cp.async.wait_group 1;", "", 1), "race"),
        (("cp.async.wait_group 0;", "cp.async.wait_group 1;", 1), "race"),
        (("cp.async.commit_group;", "", 1), "race"),
        (("cp.async.cg.shared.global [%r18], [%rd22], 16;", "", 1), "uninitialised"),
    ],
)
def test_a_broken_pipeline_has(change: tuple[str, str, int], kind: str) -> None:
    _, findings = _gemm(change)
    assert kind in {finding.kind for finding in findings}


@pytest.mark.parametrize("dropped", [False, True])
def test_fragments_of_wmma_in_shared_memory(dropped: bool) -> None:
    sanitizer = Sanitizer()
    ptx = (CUDA / "wmma.ptx").read_text()
    runner = Runner(ptx.replace("bar.sync \t0;", "") if dropped else ptx)
    runner.device = EmulatorDevice(instrument=sanitizer)
    a, b = np.ones((64, 32), "f2"), np.ones((32, 64), "f2")
    runner("product", a, b, np.zeros((64, 64), "f4"), 64, 32, block=(128,))
    assert {finding.kind for finding in sanitizer.findings.list()} == ({"race"} if dropped else set())


@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize(
    ("kernel", "given", "result"),
    [("load_b8_twice", (32, 16), (4, 32)), ("load_b4", (16, 16), (2, 32)), ("store_b8", (64, 4), (16, 4))],
)
def test_matrices_of_bytes_in_shared_memory(
    kernel: str, given: tuple[int, int], result: tuple[int, int], dropped: bool
) -> None:
    """Their rows belong to other lanes than those that wrote, or read, them: a warp has to meet between."""
    sanitizer = Sanitizer()
    ptx = (CUDA / "blackwell.ptx").read_text()
    runner = Runner(ptx.replace("bar.warp.sync \t-1;", "") if dropped else ptx)
    runner.device = EmulatorDevice(instrument=sanitizer)
    runner(kernel, np.zeros(given, "u1" if given[1] == 16 else "u4"), np.zeros(result, "u4"))
    assert {finding.kind for finding in sanitizer.findings.list()} == ({"race"} if dropped else set())

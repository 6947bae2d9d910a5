"""Kernels that are wrong on purpose: each finding names kernel, line, thread, address and the nearest allocation."""

from __future__ import annotations

import numpy as np
import pytest
from tests.emulator.harness import Runner

from tilewright.runtime.emulator.device import EmulatorDevice
from tilewright.runtime.errors import DeviceError


def _message(*call: object, **shape: object) -> str:
    with pytest.raises(DeviceError) as caught:
        Runner.of("faults")(*call, **shape)  # type: ignore[arg-type]
    text = str(caught.value)
    assert f"kernel {call[0]}" in text and "PTX line" in text
    return text


@pytest.mark.parametrize("shift", [1, 100, 5000])
def test_store_past_the_end(shift: int) -> None:
    text = _message("overrun", np.zeros(128, "f4"), shift, grid=(2,), block=(64,))
    assert (
        "global store of 4 bytes at 0x" in text
        and "out of bounds" in text
        and "bytes past the end of allocation 1" in text
    )
    assert "st.global" in text
    first = max(0, 128 - shift)
    assert f"block ({first // 64}, 0, 0), thread ({first % 64}, 0, 0)" in text


def test_read_before_the_start() -> None:
    text = _message("read_overrun", np.zeros(32, "f4"), np.zeros(32, "f4"), -2)
    assert "8 bytes before allocation 1" in text and "thread (0, 0, 0)" in text


def test_misaligned() -> None:
    text = _message("misaligned", np.zeros(200, "u1"), np.zeros(32, "f4"))
    assert "misaligned global load of 4 bytes" in text and "thread (5, 0, 0)" in text


def test_null() -> None:
    assert "global load of 4 bytes at 0x0 out of bounds" in _message("null_read", np.zeros(32, "f4"))


def test_shared_memory_overrun() -> None:
    text = _message("shared_overrun", np.zeros(64, "f4"), 3, block=(64,))
    assert "shared store of 4 bytes at 0x100 out of bounds: the block has 256 bytes" in text
    assert "thread (61, 0, 0)" in text


def test_barrier_that_some_threads_skip() -> None:
    text = _message("partial_barrier", np.zeros(128, "f4"), 96, block=(128,))
    assert "deadlock at barrier 0: 96 of 128 threads wait here, 32 have already exited" in text


def test_exit_before_a_barrier() -> None:
    text = _message("exits_before_barrier", np.zeros(128, "f4"), 96, block=(128,))
    assert "deadlock at barrier 0: 96 of 128 threads wait here, 32 have already exited" in text


def test_waiting_at_different_barriers() -> None:
    text = _message("two_barriers", np.zeros(2, "f4"), block=(64,))
    assert "deadlock at barrier" in text and "32 at barrier" in text


def test_trap() -> None:
    x = np.zeros(32, "i4")
    x[9] = 3
    text = _message("trapped", x)
    assert "trap instruction executed" in text and "thread (9, 0, 0)" in text


def test_use_after_free_is_found() -> None:
    runner = Runner.of("pointwise")
    kernel = runner.device.load("add_one", runner.ptx)
    address = runner.device.allocate(128)
    runner.device.free(address)
    with pytest.raises(DeviceError, match="out of bounds"):
        runner.device.launch(kernel, (1, 1, 1), (32, 1, 1), 0, [("pointer", address), ("i32", 32)])


@pytest.mark.parametrize(
    ("grid", "block", "shared", "arguments", "match"),
    [
        ((0, 1, 1), (32, 1, 1), 0, None, "grid"),
        ((1, 1, 1), (2048, 1, 1), 0, None, "block"),
        ((1, 1, 1), (32, 1, 1), 1 << 20, None, "shared memory"),
        ((1, 1, 1), (32, 1, 1), 0, [("i32", 3)], "takes 2 arguments, 1 were given"),
        ((1, 1, 1), (32, 1, 1), 0, [("i32", 3), ("i32", 3)], "has 8 bytes, the argument is a i32"),
    ],
)
def test_wrong_launches(grid: object, block: object, shared: int, arguments: object, match: str) -> None:
    runner = Runner.of("pointwise")
    kernel = runner.device.load("add_one", runner.ptx)
    given = arguments if arguments is not None else [("pointer", 0), ("i32", 0)]
    with pytest.raises(DeviceError, match=match):
        runner.device.launch(kernel, grid, block, shared, given)  # type: ignore[arg-type]


def test_required_block_shape() -> None:
    runner = Runner.of("sgemm")
    kernel = runner.device.load("sgemm", runner.ptx)
    with pytest.raises(DeviceError, match=r"more threads than \.maxntid"):
        runner.device.launch(kernel, (1, 1, 1), (512, 1, 1), 0, [("pointer", 0)] * 3 + [("i32", 0)] * 3)


def test_host_transfers_are_checked() -> None:
    device = EmulatorDevice()
    address = device.allocate(16)
    with pytest.raises(DeviceError, match="host access of 32 bytes"):
        device.upload(address, np.zeros(32, "u1"))
    with pytest.raises(DeviceError, match="not an allocation"):
        device.free(address + 8)
    with pytest.raises(DeviceError, match="out of memory"):
        device.allocate(1 << 50)


_UNSUPPORTED = """.version 8.0
.target sm_90a
.address_size 64
.visible .entry k() {{ .reg .b32 %r<9>; .reg .b64 %rd<9>; .reg .pred %p<3>; .reg .f32 %f<99>;
{}
ret; }}
"""


@pytest.mark.parametrize(
    "instruction",
    [
        "mma.sp.sync.aligned.m16n8k16.row.col.f32.e4m3.e4m3.f32 {%f1,%f2,%f3,%f4},{%r1,%r2},{%r3,%r4},"
        " {%f1,%f2,%f3,%f4}, %r5, 0x0;",
        "mma.sp.sync.aligned.m16n8k32.row.col.f32.f16.f16.f32 {%f1,%f2,%f3,%f4},{%r1,%r2,%r3,%r4},{%r5,%r6,%r7,%r8},"
        " {%f1,%f2,%f3,%f4}, %r5, 2;",
        "mma.sync.aligned.m16n8k32.row.col.f32.e2m1.e2m1.f32 {%f1,%f2,%f3,%f4},{%r1,%r2,%r3,%r4},{%r5,%r6},"
        " {%f1,%f2,%f3,%f4};",
        "mma.sync.aligned.m16n8k64.row.col.kind::mxf4.block_scale.scale_vec::4X.f32.e2m1.e2m1.f32.ue8m0"
        " {%f1,%f2,%f3,%f4},{%r1,%r2,%r3,%r4},{%r5,%r6},{%f1,%f2,%f3,%f4},%r7,{0,0},%r8,{0,0};",
        "ldmatrix.sync.aligned.m16n16.x1.shared.b8 {%r1, %r2}, [%r3];",
        "stmatrix.sync.aligned.m16n8.x1.shared.b8 [%r3], {%r1};",
        "multimem.ld_reduce.relaxed.sys.global.add.f32 %f1, [%rd1];",
        "tensormap.replace.tile.interleave_layout.global.b1024.b32 [%rd1], 1;",
        "cp.async.bulk.tensor.2d.shared::cta.global.tile::gather4.mbarrier::complete_tx::bytes"
        " [%r1], [%rd1, {%r1}], [%r2];",
        "st.bulk.weak.shared::cta [%r1], 64, 0;",
        "wgmma.mma_async.sp.sync.aligned.m64n8k32.f32.f16.f16 {%f1,%f2}, %rd1, %rd2, %r1, 0, 1, 1, 1, 0, 0;",
        "setmaxnreg.inc.sync.aligned.u32 100;",
        "frobnicate.b32 %r1, %r2;",
    ],
)
def test_unsupported_instructions_are_named(instruction: str) -> None:
    with pytest.raises(DeviceError) as caught:
        EmulatorDevice().load("k", _UNSUPPORTED.format(instruction))
    text = str(caught.value)
    assert instruction.split()[0].rstrip(";") in text and "kernel k" in text and "PTX line 5" in text


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("garbage", "unknown directive 'garbage'"),
        (".visible .entry k() { ret;", "truncated"),
        (".visible .entry k() { mov.u32 %r1, 5; ret; }", "undeclared register '%r1'"),
        (".visible .entry k() { bra nowhere; }", "unknown label 'nowhere'"),
        (".visible .entry other() { ret; }", "no entry 'k'; it has: other"),
        (".visible .entry k() { .reg .b32 %r<2>; mov.u32 %r1, \x01; ret; }", "unexpected character"),
    ],
)
def test_broken_ptx(text: str, match: str) -> None:
    with pytest.raises(DeviceError, match=match):
        EmulatorDevice().load("k", text)

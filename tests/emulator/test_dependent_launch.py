"""Kernels that may begin while those in front still run: what they do before griddepcontrol.wait is looked at."""

from __future__ import annotations

import numpy as np
import pytest

from tilewright.runtime.emulator.device import EmulatorDevice
from tilewright.runtime.emulator.sanitizer import Sanitizer

_KERNEL = """.version 8.0
.target sm_90
.address_size 64
.visible .entry k(.param .u64 x, .param .u64 y) .maxntid 64, 1, 1 {
 .reg .b32 %r<20>; .reg .b64 %rd<20>; .reg .pred %p<5>;
 .shared .align 16 .b8 tile[1024];
 griddepcontrol.launch_dependents;
 ld.param.u64 %rd1, [x]; ld.param.u64 %rd2, [y];
 mov.u32 %r1, %tid.x; mul.wide.u32 %rd3, %r1, 16; add.u64 %rd4, %rd1, %rd3; add.u64 %rd5, %rd2, %rd3;
 mov.u32 %r2, tile; mad.lo.u32 %r3, %r1, 16, %r2; setp.lt.u32 %p1, %r1, 32;
 // BODY
 ret;
}
"""
_COPY = "ld.global.v4.b32 {%r4, %r5, %r6, %r7}, [%rd4];"
_STORE = "st.global.v4.b32 [%rd5], {%r4, %r5, %r6, %r7};"
_WAIT = "griddepcontrol.wait;"
_ASYNC = "cp.async.cg.shared.global [%r3], [%rd4], 16; cp.async.wait_all; ld.shared.v4.b32 {%r4, %r5, %r6, %r7}, [%r3];"


def _findings(body: str) -> list[str]:
    """Of two launches, with how many of them the first one had: y becomes a copy of x, which the host wrote, then x one
    of y.
    """
    sanitizer = Sanitizer()
    device = EmulatorDevice(instrument=sanitizer)
    kernel = device.load("k", _KERNEL.replace("// BODY", body))
    x, y = device.allocate(1024), device.allocate(1024)
    values = np.arange(256, dtype="i4")
    device.upload(x, values)
    found = []
    for source, target in ((x, y), (y, x)):
        device.launch(kernel, (1, 1, 1), (64, 1, 1), 0, [("pointer", source), ("pointer", target)])
        found.append(len(sanitizer.findings.list()))
    answer = np.zeros_like(values)
    device.download(x, answer)
    assert (answer == values).all()  # every order is right where nothing overlaps
    return [f"{found[0]}: {finding}" for finding in sanitizer.findings.list()]


@pytest.mark.parametrize(
    "body",
    [
        _WAIT + _COPY + _STORE,
        # One warp waits for all: the barrier hands on what it knows.
        f"@%p1 bra FIRST; bra BOTH; FIRST: {_WAIT} BOTH: bar.sync 0; {_COPY} {_STORE}",
        _COPY + _STORE,  # never launched early
    ],
)
def test_accesses_behind_the_wait(body: str) -> None:
    assert _findings(body) == []


@pytest.mark.parametrize(
    "body",
    [
        f"{_COPY}\n {_WAIT} {_STORE}",
        f"{_ASYNC}\n {_WAIT} {_STORE}",
        f"@%p1 bra FIRST; bra BOTH; FIRST: {_WAIT} BOTH: {_COPY}\n bar.sync 0; {_STORE}",
    ],
)
def test_reads_of_what_a_kernel_wrote_before_the_wait(body: str) -> None:
    """What the host wrote, as weights are, may be read at any time: the first launch is right."""
    (finding,) = _findings(body)
    assert finding.startswith("0: race: ") and " reads: " in finding
    assert "no griddepcontrol.wait before the access" in finding


def test_writes_before_the_wait() -> None:
    """The kernel in front may still read what is overwritten."""
    writes, reads = _findings(f"{_COPY}\n {_STORE}\n {_WAIT}")
    assert writes.startswith("1: race: ") and " writes: " in writes and " reads: " in reads

"""Some blocks of a launch: which they are, where they end; what the others would have written is no finding."""

from __future__ import annotations

import numpy as np
import pytest

from tilewright.runtime.emulator.device import EmulatorDevice
from tilewright.runtime.emulator.observer import Order
from tilewright.runtime.emulator.sanitizer_sample import SampledSanitizer

_KERNEL = """.version 8.0
.target sm_90a
.address_size 64
.visible .entry k(.param .u64 x, .param .u64 y) .reqntid 64, 1, 1 {
 .reg .b32 %r<20>; .reg .b64 %rd<20>; .reg .pred %p<5>;
 .shared .align 128 .b8 tile[256];
 ld.param.u64 %rd1, [x]; ld.param.u64 %rd2, [y];
 mov.u32 %r1, %tid.x; mov.u32 %r2, %ctaid.x; mad.lo.u32 %r3, %r2, 64, %r1;
 mul.wide.u32 %rd3, %r3, 4; add.u64 %rd4, %rd1, %rd3; add.u64 %rd5, %rd2, %rd3;
 mov.u32 %r4, tile; shl.b32 %r5, %r1, 2; add.u32 %r6, %r4, %r5; xor.b32 %r7, %r5, 252; add.u32 %r8, %r4, %r7;
 mov.u32 %r12, 0;
 // BODY
 ret;
}
"""
_COPY = "ld.global.b32 %r10, [%rd4]; st.global.b32 [%rd5], %r10;"
_RACE = """setp.ne.u32 %p1, %r2, NUMBER; @%p1 bra DONE;
 st.shared.b32 [%r6], %r1; ld.shared.b32 %r11, [%r8]; st.global.b32 [%rd5], %r11;
 DONE:"""
_LOOP = "LOOP: add.u32 %r12, %r12, 1; setp.lt.u32 %p2, %r12, 100; @%p2 bra LOOP;"
_WAIT = """setp.eq.u32 %p1, %r2, 0; @%p1 bra GO;
 LOOK: ld.acquire.gpu.global.b32 %r10, [%rd2]; setp.eq.u32 %p2, %r10, 0; @%p2 bra LOOK;
 GO: mov.u32 %r13, 1; st.release.gpu.global.b32 [%rd5], %r13;"""
BLOCKS = 1000  # chunks of 128


def _watch(
    body: str, launches: int = 1, order: str = "lockstep", most: int = 200, blocks: int = BLOCKS
) -> SampledSanitizer:
    """What was seen of launches from x to y, y to x, and so on; y is zero at first where the kernel looks at it."""
    sanitizer = SampledSanitizer(Order(order), enough=1000, most=most)
    device = EmulatorDevice(instrument=sanitizer)
    kernel = device.load("k", _KERNEL.replace("// BODY", body))
    x, y = (device.allocate(256 * blocks) for _ in range(2))
    device.upload(x, np.zeros(64 * blocks, np.uint32))
    if "acquire" in body:
        device.upload(y, np.zeros(64 * blocks, np.uint32))
    for _ in range(launches):
        device.launch(kernel, (blocks, 1, 1), (64, 1, 1), 0, [("pointer", x), ("pointer", y)])
        x, y = y, x
    return sanitizer


@pytest.mark.parametrize("order", ["lockstep", "reversed", "random"])
@pytest.mark.parametrize("number", [0, BLOCKS - 1])
def test_the_first_and_the_last_are_among_them(number: int, order: str) -> None:
    sanitizer = _watch(_LOOP + _RACE.replace("NUMBER", str(number)), order=order, most=9000)
    (watched,) = sanitizer.watched
    assert watched.blocks < watched.of == BLOCKS and watched.cut == 0
    assert "race" in {finding.kind for finding in sanitizer.findings.list()}


def test_what_other_blocks_would_have_written_may_be_read() -> None:
    sanitizer = _watch(_LOOP + _COPY, launches=3)
    assert not sanitizer.findings.list() and len(sanitizer.watched) == 3


def test_short_launches_are_watched_whole() -> None:
    (watched,) = _watch(_COPY).watched
    assert watched.blocks == BLOCKS and watched.cut == 0


def test_a_long_chunk_is_cut() -> None:
    (watched,) = _watch(_LOOP, most=200).watched
    assert 0 < watched.cut == watched.blocks < BLOCKS and watched.instructions < 2000


def test_blocks_that_wait_go_in_order_up_to_the_first_that_is_cut() -> None:
    sanitizer = _watch(_WAIT, most=9000, blocks=8)
    (watched,) = sanitizer.watched
    assert not sanitizer.findings.list() and watched.blocks > 0 and not watched.cut
    sanitizer = _watch(_LOOP + _WAIT, blocks=8)
    (watched,) = sanitizer.watched
    assert not sanitizer.findings.list() and 0 < watched.blocks == watched.cut

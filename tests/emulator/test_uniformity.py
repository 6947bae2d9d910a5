"""What the fast engine may know about the lanes of a register, on small programs."""

from __future__ import annotations

from tilewright.runtime.emulator.affine import Affine
from tilewright.runtime.emulator.control_flow import build
from tilewright.runtime.emulator.numpy_layout import Layout
from tilewright.runtime.emulator.parser import parse
from tilewright.runtime.emulator.uniformity import Uniformity, analyse

HEAD = """.version 8.3
.target sm_80
.address_size 64
.visible .entry k(.param .u64 k_param_0)
{
    .reg .b32 %r<9>;
    .reg .b64 %rd<3>;
    ld.param.b64 %rd1, [k_param_0];
    mov.u32 %r1, %tid.x;
    shl.b32 %r2, %r1, 1;
"""


def analysed(body: str) -> tuple[Uniformity, dict[str, int]]:
    """The analysis of HEAD with `body` for blocks of 64 threads, and the numbers of registers."""
    program = build(parse(f"{HEAD}{body}\n    ret;\n}}\n"), "k")
    shape = (64, 1, 1)
    return analyse(program, Affine(shape, Layout(program, {}).offsets)), program.register_numbers


def test_patterns_of_the_thread_index() -> None:
    found, numbers = analysed("add.s32 %r3, %r2, 5;")
    assert found.patterns[numbers["%r3"]] == tuple(range(0, 64, 2))


def test_bits_of_what_all_lanes_load_are_unknown() -> None:
    """xor with it moves every lane in its own way: it is no addition."""
    combined = "xor.b32 %r4, %r2, %r3; or.b32 %r5, %r2, %r3; add.s32 %r6, %r2, %r3;"
    found, numbers = analysed(f"ld.global.b32 %r3, [%rd1]; {combined}")
    assert found.is_scalar(numbers["%r3"])
    assert numbers["%r4"] not in found.patterns and numbers["%r5"] not in found.patterns
    assert found.patterns[numbers["%r6"]] == tuple(range(0, 64, 2))


def test_bits_of_an_immediate_are_known() -> None:
    found, numbers = analysed("or.b32 %r3, %r2, 1; xor.b32 %r4, %r2, 128;")
    assert found.patterns[numbers["%r3"]] == found.patterns[numbers["%r4"]] == tuple(range(0, 64, 2))


def test_lane_0_is_told_to_all() -> None:
    told = "shfl.sync.idx.b32 %r3, %r1, 0, 31, -1; shfl.sync.idx.b32 %r4, %r1, 1, 31, -1;"
    found, numbers = analysed(f"{told} shfl.sync.idx.b32 %r5, %r1, 0, 7199, -1;")
    assert [found.is_scalar(numbers[f"%r{i}"]) for i in (3, 4, 5)] == [True, False, False]


def test_whole_warps_compare_alike() -> None:
    """A bound at a multiple of a warp's threads parts no warp; any other may."""
    alike = "setp.lt.u32 %p1, %r1, 32; setp.gt.u32 %p2, %r1, 31;"
    apart = "setp.lt.u32 %p3, %r1, 33; setp.gt.s32 %p4, %r1, 32; setp.eq.u32 %p5, %r1, 32;"
    found, numbers = analysed(f".reg .pred %p<6>; {alike} {apart}")
    assert [found.is_scalar(numbers[f"%p{i}"]) for i in range(1, 6)] == [True, True, False, False, False]

"""What the fast engine proves about registers: shared, patterned, varying; and which blocks lanes may skip."""

from __future__ import annotations

from tilewright.runtime.emulator.affine import Affine
from tilewright.runtime.emulator.control_flow import Program, build
from tilewright.runtime.emulator.llvm_shuffles import plan
from tilewright.runtime.emulator.parser import parse
from tilewright.runtime.emulator.uniformity import Uniformity, analyse

HEAD = """.version 8.0
.target sm_80
.address_size 64
.visible .entry k(.param .u64 p, .param .u32 n) .reqntid 128 {
.reg .b32 %r<20>; .reg .b64 %rd<20>; .reg .pred %p<9>;
mov.u32 %r1, %tid.x; mov.u32 %r2, %ctaid.x; ld.param.u64 %rd1, [p]; ld.param.u32 %r3, [n];
"""


def _analysed(body: str) -> tuple[Program, Uniformity]:
    program = build(parse(HEAD + body + "\nret; }"), "k")
    return program, analyse(program, Affine((128, 1, 1), {}))


def _pattern(body: str, register: str) -> object:
    """`varying`, `uniform`, or the distances of lanes 1 and 31 from lane 0."""
    program, found = _analysed(body)
    number = program.register_numbers[register]
    if not found.is_scalar(number):
        return "varying"
    pattern = found.patterns.get(number)
    return "uniform" if pattern is None else (pattern[1], pattern[31])


def test_thread_numbers_and_what_is_made_of_them() -> None:
    assert _pattern("", "%r1") == (1, 31)
    assert _pattern("", "%r2") == "uniform"
    assert _pattern("shl.b32 %r4, %r1, 4;", "%r4") == (16, 496)
    assert _pattern("shr.u32 %r4, %r1, 4;", "%r4") == (0, 1)
    assert _pattern("and.b32 %r4, %r1, 15;", "%r4") == (1, 15)
    assert _pattern("mul.wide.u32 %rd4, %r1, 12; add.s64 %rd5, %rd1, %rd4;", "%rd5") == (12, 372)
    assert _pattern("shl.b32 %r4, %r2, 7; or.b32 %r5, %r4, %r1; mul.wide.u32 %rd4, %r5, 4;", "%rd4") == (4, 124)


def test_what_may_wrap_around_is_not_extended() -> None:
    # n - 1 + tid may pass 2^32 inside a warp, and then its zero-extension does not follow the pattern.
    body = "add.s32 %r4, %r3, -1; add.s32 %r5, %r4, %r1; cvt.u64.u32 %rd4, %r5;"
    assert _pattern(body, "%r5") == (1, 31)
    assert _pattern(body, "%rd4") == "varying"


def test_bits_that_may_overlap() -> None:
    # The sum may have any bits below 16: shifting it does not keep the pattern.
    assert _pattern("mad.lo.s32 %r4, %r1, 3, %r3; shr.u32 %r5, %r4, 1;", "%r5") == "varying"
    assert _pattern("and.b32 %r4, %r1, %r3;", "%r4") == "varying"


def test_loaded_values_vary_with_their_address() -> None:
    assert _pattern("ld.global.u32 %r4, [%rd1];", "%r4") == "uniform"
    assert _pattern("mad.wide.u32 %rd4, %r1, 4, %rd1; ld.global.u32 %r4, [%rd4];", "%r4") == "varying"
    assert _pattern("atom.global.add.u32 %r4, [%rd1], 1;", "%r4") == "varying"


EARLY_EXIT = """
setp.ge.u32 %p1, %r1, %r3; @%p1 bra end;
mov.b32 %r5, 0;
loop: add.s32 %r5, %r5, 1; setp.lt.u32 %p2, %r5, 10; @%p2 bra loop;
end:"""


def test_a_loop_behind_an_early_exit_counts_in_a_scalar() -> None:
    program, found = _analysed(EARLY_EXIT)
    assert found.is_scalar(program.register_numbers["%r5"])
    assert found.is_partial(2) and not found.is_partial(0)


def test_a_counter_that_outlives_a_divergent_loop_varies() -> None:
    body = """
    mov.b32 %r5, 0;
    loop: add.s32 %r5, %r5, 1; add.s32 %r6, %r5, 7; setp.lt.u32 %p2, %r5, %r1; @%p2 bra loop;
    st.global.u32 [%rd1], %r5;"""
    program, found = _analysed(body)
    assert not found.is_scalar(program.register_numbers["%r5"])


def test_a_counter_inside_a_divergent_loop_stays_shared() -> None:
    body = """
    mov.b32 %r5, 0;
    loop: add.s32 %r5, %r5, 1; setp.lt.u32 %p2, %r5, %r1; @%p2 bra loop;"""
    program, found = _analysed(body)
    assert found.is_scalar(program.register_numbers["%r5"])


def test_a_value_from_two_sides_varies() -> None:
    body = """
    setp.lt.u32 %p1, %r1, 5; @%p1 bra other;
    mov.b32 %r5, 1; bra.uni join;
    other: mov.b32 %r5, 2;
    join: st.global.u32 [%rd1], %r5;"""
    program, found = _analysed(body)
    assert not found.is_scalar(program.register_numbers["%r5"])
    assert found.is_partial(1) and found.is_partial(2) and not found.is_partial(3)


def test_plans_of_moves() -> None:
    run = plan(tuple(16 * lane for lane in range(32)), 4)
    assert run is not None and run.runs == ((0, 128),) and run.places[1][:3] == (1, 5, 9)
    halves = plan(tuple(16 * (lane % 16) for lane in range(32)), 4)
    assert halves is not None and halves.runs == ((0, 64),) and halves.places[0][16] == 0
    rows = plan(tuple(272 * (lane // 16) for lane in range(32)), 4)
    assert rows is not None and rows.runs == ((0, 4), (272, 4)) and rows.span == 288
    assert plan(tuple(2 * lane for lane in range(32)), 1) is None

"""Instructions across the lanes of a warp, and the tensor-core ones, against their definitions."""

from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest
from tests.emulator.harness import Runner, apply_instruction

HEAD = ".version 8.0\n.target sm_90a\n.address_size 64\n"


def _shuffled(mode: str, lane: int, b: int, c: int) -> tuple[int, bool]:
    """The pseudo-code of the PTX manual."""
    b, bound, segment = b & 31, c & 31, c >> 8 & 31
    highest = (lane & segment) | (bound & ~segment & 31)
    lowest = lane & segment
    j, valid = {
        "up": (lane - b, lane - b >= highest),
        "down": (lane + b, lane + b <= highest),
        "bfly": (lane ^ b, lane ^ b <= highest),
        "idx": (lowest | (b & ~segment & 31), (lowest | (b & ~segment & 31)) <= highest),
    }[mode]
    return (j if valid else lane), valid


@pytest.mark.parametrize("mode", ["up", "down", "bfly", "idx"])
def test_shuffles(mode: str) -> None:
    x = np.random.default_rng(0).integers(0, 2**32, 64, dtype="u4")
    for b, c in itertools.product((0, 1, 5, 16, 31), (0, 31, 0x181F, 0x1C1F, 0x1807)):
        expected = [_shuffled(mode, lane % 32, b, c) for lane in range(64)]
        got = apply_instruction(f"shfl.sync.{mode}.b32 %d, %a, {b}, {c}, -1;", ["b32"], "b32", [x], "u4")
        assert got.tolist() == [x[lane // 32 * 32 + source] for lane, (source, _) in enumerate(expected)]
        flags = apply_instruction(f"shfl.sync.{mode}.b32 _|%d, %a, {b}, {c}, -1;", ["b32"], "pred", [x], "u4")
        assert flags.tolist() == [valid for _, valid in expected]


def test_shuffle_by_a_varying_lane() -> None:
    x = np.random.default_rng(1).integers(0, 2**32, 96, dtype="u4")
    lanes = np.random.default_rng(2).integers(0, 32, 96, dtype="u4")
    got = apply_instruction("shfl.sync.idx.b32 %d, %a, %b, 31, -1;", ["b32", "b32"], "b32", [x, lanes], "u4")
    assert (got == x[np.arange(96) // 32 * 32 + lanes]).all()


def test_votes() -> None:
    x = np.random.default_rng(3).integers(0, 4, 128, dtype="u4")
    x[:32], x[32:64] = 1, 0
    rows = x.reshape(4, 32) == 1
    ballot = apply_instruction("setp.eq.u32 %p, %a, 1; vote.sync.ballot.b32 %d, %p, -1;", ["b32"], "b32", [x], "u4")
    assert (ballot.reshape(4, 32) == (rows * (1 << np.arange(32, dtype="u8"))).sum(1)[:, None]).all()
    for mode, expected in (("all", rows.all(1)), ("any", rows.any(1)), ("uni", rows.all(1) | ~rows.any(1))):
        got = apply_instruction(f"setp.eq.u32 %p, %a, 1; vote.sync.{mode}.pred %d, %p, -1;", ["b32"], "pred", [x], "u4")
        assert (got.reshape(4, 32) == expected[:, None]).all()
    negated = apply_instruction("setp.eq.u32 %p, %a, 1; vote.sync.all.pred %d, !%p, -1;", ["b32"], "pred", [x], "u4")
    assert (negated.reshape(4, 32) == (~rows).all(1)[:, None]).all()


def test_match_all_and_elect_and_activemask() -> None:
    x = np.repeat(np.array([7, 8], "u4"), 32)
    x[40] = 9
    got = apply_instruction("match.all.sync.b32 %d|%p, %a, -1;", ["b32"], "b32", [x], "u4")
    assert (got[:32] == 0xFFFFFFFF).all() and (got[32:] == 0).all()
    assert apply_instruction("elect.sync _|%d, -1;", ["b32"], "pred", [x], "u4").tolist() == ([True] + [False] * 31) * 2
    assert (apply_instruction("activemask.b32 %d;", ["b32"], "b32", [x], "u4") == 0xFFFFFFFF).all()
    body = "mov.b32 %d, 0; setp.ge.u32 %p, %lane, 12; @%p bra SKIP; activemask.b32 %d; SKIP:"
    assert apply_instruction(body, ["b32"], "b32", [x], "u4")[:32].tolist() == [0xFFF] * 12 + [0] * 20


@pytest.mark.parametrize("mode", ["add", "min", "max", "and", "or", "xor"])
def test_redux(mode: str) -> None:
    x = np.random.default_rng(4).integers(-1000, 1000, 64).astype("i4")
    type = "b32" if mode in ("and", "or", "xor") else "s32"
    ufunc = {
        "add": np.add,
        "min": np.minimum,
        "max": np.maximum,
        "and": np.bitwise_and,
        "or": np.bitwise_or,
        "xor": np.bitwise_xor,
    }
    got = apply_instruction(f"redux.sync.{mode}.{type} %d, %a, -1;", ["b32"], "b32", [x.view("u4")], "u4").view("i4")
    assert (got.reshape(2, 32) == ufunc[mode].reduce(x.reshape(2, 32), axis=1)[:, None]).all()


def test_special_registers() -> None:
    text = (
        HEAD
        + """.visible .entry k(.param .u64 p) { .reg .b32 %r<20>; .reg .b64 %rd<4>;
    mov.u32 %r0, %tid.x; mov.u32 %r1, %tid.y; mov.u32 %r2, %tid.z; mov.u32 %r3, %ctaid.x; mov.u32 %r4, %ctaid.y;
    mov.u32 %r5, %ntid.x; mov.u32 %r6, %nctaid.y; mov.u32 %r7, %laneid; mov.u32 %r8, %warpid; mov.u32 %r9, %lanemask_lt;
    mad.lo.u32 %r10, %r2, 4, %r1; mad.lo.u32 %r10, %r10, 6, %r0; mad.lo.u32 %r11, %r4, 3, %r3;
    mad.lo.u32 %r12, %r11, 48, %r10;
    mul.lo.u32 %r13, %r12, 40; ld.param.u64 %rd0, [p]; cvt.u64.u32 %rd1, %r13; add.u64 %rd2, %rd0, %rd1;
    st.global.v2.b32 [%rd2], {%r0, %r1}; st.global.v2.b32 [%rd2+8], {%r2, %r3}; st.global.v2.b32 [%rd2+16], {%r4, %r5};
    st.global.v2.b32 [%rd2+24], {%r6, %r7}; st.global.v2.b32 [%rd2+32], {%r8, %r9}; ret; }"""
    )
    (out,) = Runner(text)("k", np.zeros((6, 48, 10), "u4"), grid=(3, 2), block=(6, 4, 2))
    for block, thread in itertools.product(range(6), range(48)):
        lane = thread % 32
        position = [thread % 6, thread // 6 % 4, thread // 24, block % 3, block // 3]
        assert out[block, thread].tolist() == [*position, 6, 2, lane, thread // 32, (1 << lane) - 1]


def test_asynchronous_copies_fill_with_zeros() -> None:
    for width, cache in ((16, "cg"), (8, "ca"), (4, "ca")):
        text = (
            HEAD
            + f""".visible .entry k(.param .u64 x, .param .u64 sizes, .param .u64 y) {{
        .reg .b32 %r<9>; .reg .b64 %rd<9>; .shared .align 16 .b8 s[{32 * width}]; .reg .b8 %b;
        mov.u32 %r0, %tid.x; ld.param.u64 %rd0, [x]; ld.param.u64 %rd1, [sizes]; ld.param.u64 %rd2, [y];
        mad.wide.u32 %rd3, %r0, {width}, %rd0; mad.wide.u32 %rd4, %r0, 4, %rd1; mad.wide.u32 %rd5, %r0, {width}, %rd2;
        ld.global.u32 %r1, [%rd4]; mov.u32 %r2, s; mad.lo.u32 %r3, %r0, {width}, %r2;
        cp.async.{cache}.shared.global.L2::128B [%r3], [%rd3], {width}, %r1; cp.async.commit_group;
        cp.async.wait_group 0;
        cp.async.wait_all; bar.sync 0; xor.b32 %r4, %r0, 1; mad.lo.u32 %r3, %r4, {width}, %r2;
        """
            + "".join(
                f"ld.shared.b32 %r5, [%r3+{4 * i}]; st.global.b32 [%rd5+{4 * i}], %r5;" for i in range(width // 4)
            )
            + "ret; }"
        )
        random = np.random.default_rng(width)
        x = random.integers(1, 256, (32, width)).astype("u1")
        sizes = random.integers(0, width + 1, 32).astype("u4")
        sizes[:3] = 0, width, width
        y = Runner(text)("k", x, sizes, np.zeros_like(x))[2]
        expected = np.where(np.arange(width) < sizes[:, None], x, 0)
        assert (y == expected[np.arange(32) ^ 1]).all()


def test_zero_size_copies_read_nothing() -> None:
    """The address of a copy of no bytes may point anywhere: boundary tiles rely on it."""
    text = (
        HEAD
        + """.visible .entry k(.param .u64 x, .param .u64 y) { .reg .b32 %r<4>; .reg .b64 %rd<4>;
        .shared .align 16 .b8 s[16];
    ld.param.u64 %rd0, [x]; ld.param.u64 %rd1, [y]; mov.u32 %r0, s; mov.u32 %r2, 0;
    cp.async.cg.shared.global [%r0], [%rd0+1048576], 16, %r2; cp.async.wait_all;
    ld.shared.b32 %r1, [%r0]; st.global.b32 [%rd1], %r1; ret; }"""
    )
    assert Runner(text)("k", np.ones(4, "u4"), np.ones(1, "u4"))[1][0] == 0


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("transposed", [False, True])
def test_ldmatrix_and_stmatrix(count: int, transposed: bool) -> None:
    registers = ", ".join(f"%m{i}" for i in range(count))
    suffix = f"x{count}{'.trans' if transposed else ''}.shared.b16"
    stores = " ".join(f"st.global.b32 [%rd3+{128 * i}], %m{i};" for i in range(count))
    text = (
        HEAD
        + f""".visible .entry k(.param .u64 x, .param .u64 y, .param .u64 z) {{ .reg .b32 %r<9>, %m<4>;
        .reg .b64 %rd<9>;
    .shared .align 16 .b8 s[512]; .shared .align 16 .b8 t[512];
    mov.u32 %r0, %tid.x; ld.param.u64 %rd0, [x]; ld.param.u64 %rd1, [y]; ld.param.u64 %rd4, [z]; mov.u32 %r1, s;
    .reg .b32 %w<4>; mad.wide.u32 %rd2, %r0, 16, %rd0; ld.global.v4.b32 {{%w0, %w1, %w2, %w3}}, [%rd2];
    mad.lo.u32 %r2, %r0, 16, %r1; st.shared.v4.b32 [%r2], {{%w0, %w1, %w2, %w3}}; bar.sync 0;
    ldmatrix.sync.aligned.m8n8.{suffix} {{{registers}}}, [%r2];
    mad.wide.u32 %rd3, %r0, 4, %rd1; {stores}
    mov.u32 %r3, t; mad.lo.u32 %r4, %r0, 16, %r3; stmatrix.sync.aligned.m8n8.{suffix} [%r4], {{{registers}}};
    bar.sync 0; ld.shared.v4.b32 {{%w0, %w1, %w2, %w3}}, [%r4]; mad.wide.u32 %rd5, %r0, 16, %rd4;
    st.global.v4.b32 [%rd5], {{%w0, %w1, %w2, %w3}}; ret; }}"""
    )
    x = np.random.default_rng(5).integers(0, 65536, (4, 8, 8)).astype("u2")
    _, y, z = Runner(text)("k", x, np.zeros((4, 32, 2), "u2"), np.zeros_like(x))
    for matrix in range(count):
        source = x[matrix].T if transposed else x[matrix]
        assert (y[matrix] == source.reshape(32, 2)).all()
    assert (z[:count] == x[:count]).all()


def _mma_kernel(name: str, counts: tuple[int, int, int]) -> str:
    c = counts[2]
    names = [[f"%{letter}{i}" for i in range(count)] for letter, count in zip("abc", counts, strict=True)]
    lists = ["{" + ", ".join(part) + "}" for part in names]
    loads = ""
    for index, part in enumerate(names):
        loads += f"ld.param.u64 %rd0, [p{index}]; mad.wide.u32 %rd1, %r0, {4 * len(part)}, %rd0;"
        loads += "".join(f"ld.global.b32 {register}, [%rd1+{4 * i}];" for i, register in enumerate(part))
    stores = "".join(f"st.global.b32 [%rd1+{4 * i}], %c{i};" for i in range(c))
    return (
        HEAD
        + f""".visible .entry k(.param .u64 p0, .param .u64 p1, .param .u64 p2) {{
    .reg .b32 %r0, %a<4>, %b<2>, %c<4>; .reg .b64 %rd<3>; mov.u32 %r0, %tid.x; {loads}
    {name} {lists[2]}, {lists[0]}, {lists[1]}, {lists[2]}; {stores} ret; }}"""
    )


FORMS = [
    ("m16n8k16", "f16", "f32"), ("m16n8k16", "bf16", "f32"), ("m16n8k8", "f16", "f32"), ("m16n8k8", "bf16", "f32"),
    ("m16n8k16", "f16", "f16"), ("m16n8k8", "f16", "f16"), ("m16n8k8", "tf32", "f32"), ("m16n8k4", "tf32", "f32"),
    ("m16n8k32", "s8", "s32"), ("m16n8k32", "u8", "s32"), ("m16n8k16", "s8", "s32"),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "type", "accumulator"), FORMS)
def test_mma(shape: str, type: str, accumulator: str) -> None:
    """Fragments as the PTX manual lays them out, element by element."""
    k = int(shape.split("k")[1])
    per_word = {"f16": 2, "bf16": 2, "tf32": 1, "s8": 4, "u8": 4}[type]
    dtype = {
        "f16": np.float16,
        "bf16": ml_dtypes.bfloat16,
        "tf32": np.float32,
        "s8": np.int8,
        "u8": np.uint8,
    }[type]
    random = np.random.default_rng(6)
    low = 0 if type == "u8" else -8
    a, b = (
        random.integers(low, 9, (64, 16, k)).astype(dtype),
        random.integers(low, 9, (64, k, 8)).astype(dtype),
    )
    c = random.integers(-9, 9, (64, 16, 8)).astype({"f32": "f4", "f16": "f2", "s32": "i4"}[accumulator])
    words_a, words_b = 16 * k // 32 // per_word, 8 * k // 32 // per_word
    fragment_a = np.zeros((64, 32, words_a, per_word), dtype)
    fragment_b = np.zeros((64, 32, words_b, per_word), dtype)
    for lane, word, element in itertools.product(range(32), range(words_a), range(per_word)):
        group, thread = lane // 4, lane % 4
        row, column = group + 8 * (word % 2), thread * per_word + element + 4 * per_word * (word // 2)
        fragment_a[:, lane, word, element] = a[:, row, column]
    for lane, word, element in itertools.product(range(32), range(words_b), range(per_word)):
        fragment_b[:, lane, word, element] = b[:, lane % 4 * per_word + element + 4 * per_word * word, lane // 4]
    size = 4 if accumulator != "f16" else 2
    index = [(lane // 4 + 8 * (i // 2), lane % 4 * 2 + i % 2) for lane in range(32) for i in range(4)]
    rows, columns = (np.array(part) for part in zip(*index, strict=True))
    fragment_c = np.ascontiguousarray(c[:, rows, columns])
    name = f"mma.sync.aligned.{shape}.row.col.{accumulator}.{type}.{type}.{accumulator};".rstrip(";")
    counts = (words_a, words_b, size)
    runner = Runner(_mma_kernel(name, counts))
    expected = a.astype("f8") @ b.astype("f8") + c
    for block in range(0, 64, 32):
        part = slice(block, block + 32)
        got = runner("k", fragment_a[part], fragment_b[part], fragment_c[part], block=(1024,))[2]
        # Small integers: every format holds all sums exactly.
        assert (got.reshape(32, -1).astype("f8") == expected[part][:, rows, columns]).all()


def test_branch_tables() -> None:
    body = """mov.b32 %d, 0; min.u32 %t, %a, 2; ts: .branchtargets L0, L1, L2; brx.idx %t, ts;
    L0: mov.b32 %d, 5; bra DONE; L1: add.u32 %d, %a, 40; bra DONE; L2: mul.lo.u32 %d, %a, 3; DONE:"""
    # %t also holds the output index of the harness, so it is restored.
    body = ".reg .b32 %keep; mov.b32 %keep, %t; " + body + " mov.b32 %t, %keep;"
    x = np.random.default_rng(8).integers(0, 6, 100, dtype="u4")
    got = apply_instruction(body, ["b32"], "b32", [x], "u4")
    assert got.tolist() == [5 if v == 0 else 41 if v == 1 else 3 * v for v in x.tolist()]


def test_scopes_of_inline_assembly() -> None:
    """Two instances of one asm block declare the same registers and labels."""
    block = """{ .reg .pred q; .reg .b32 x; setp.lt.u32 q, %d, 10; @q bra DONE;
    mov.u32 x, 3; sub.u32 %d, %d, x; DONE: add.u32 %d, %d, 1; }"""
    got = apply_instruction("mov.b32 %d, %a; " + block + block, ["b32"], "b32", [np.arange(64, dtype="u4")], "u4")

    def step(v: int) -> int:
        return (v if v < 10 else v - 3) + 1

    assert got.tolist() == [step(step(v)) for v in range(64)]


def test_generic_addresses_of_three_spaces() -> None:
    body = """.shared .align 4 .b32 s[32]; .local .align 4 .b32 l[1]; .reg .b64 %g<4>, %x; .reg .b32 %v;
    mov.u64 %g0, s; cvta.shared.u64 %g0, %g0; mad.wide.u32 %g0, %lane, 4, %g0; mov.u64 %g1, l; cvta.local.u64 %g1, %g1;
    st.u32 [%g0], %a; add.u32 %v, %a, 100; st.u32 [%g1], %v; setp.lt.u32 %p, %lane, 9; selp.b64 %x, %g0, %g1, %p;
    isspacep.shared %q, %x; ld.u32 %d, [%x]; @%q add.u32 %d, %d, 1000; cvta.to.local.u64 %g2, %g1;
    ld.local.u32 %v, [%g2];
    sub.u32 %v, %v, %a; add.u32 %d, %d, %v;"""
    x = np.arange(32, dtype="u4")
    got = apply_instruction(body, ["b32"], "b32", [x], "u4")
    assert got.tolist() == [v + 1100 if v < 9 else v + 200 for v in range(32)]


def test_addresses_of_parameters() -> None:
    x = np.arange(5, 37, dtype="u4")
    body = ".reg .b64 %y, %z; mov.b64 %y, p0; ld.param.b64 %z, [%y]; ld.global.b32 %d, [%z+4];"
    assert apply_instruction(body, ["b32"], "b32", [x], "u4").tolist() == [6] * 32
    body = ".reg .b64 %y; mov.b64 %y, p0; cvta.param.u64 %y, %y; ld.b64 %y, [%y]; ld.b32 %d, [%y+8];"
    assert apply_instruction(body, ["b32"], "b32", [x], "u4").tolist() == [7] * 32


def test_sub_word_loads_and_stores() -> None:
    body = """.shared .align 4 .b8 s[128]; .reg .b32 %m, %n; .reg .b16 %h; mov.u32 %m, s; mad.lo.u32 %m, %lane, 4, %m;
    st.shared.b32 [%m], %a; ld.shared.s8 %d, [%m+1]; ld.shared.u8 %n, [%m+3]; add.s32 %d, %d, %n;
    ld.shared.s16 %n, [%m+2]; add.s32 %d, %d, %n; cvt.u16.u32 %h, %d; st.shared.b8 [%m], %h; ld.shared.b32 %d, [%m];"""
    x = np.random.default_rng(9).integers(0, 2**32, 64, dtype="u4")
    expected = []
    for value in x.tolist():
        data = value.to_bytes(4, "little")
        total = (
            int.from_bytes(data[1:2], "little", signed=True) + data[3] + int.from_bytes(data[2:], "little", signed=True)
        )
        expected.append((value & 0xFFFFFF00) | (total & 0xFF))
    assert apply_instruction(body, ["b32"], "b32", [x], "u4").tolist() == expected


def test_named_barriers_hand_over_between_warps() -> None:
    """A producer warp arrives without waiting, a consumer warp waits; then the other way round."""
    text = (
        HEAD
        + """.visible .entry k(.param .u64 y) { .reg .b32 %r<9>; .reg .b64 %rd<4>; .reg .pred %p;
        .shared .align 4 .b32 s[32];
    mov.u32 %r0, %tid.x; ld.param.u64 %rd0, [y]; mov.u32 %r1, s; and.b32 %r2, %r0, 31; mad.lo.u32 %r3, %r2, 4, %r1;
    setp.ge.u32 %p, %r0, 32; mov.u32 %r7, 0; @%p bra CONSUMER;
    PRODUCER: mad.lo.u32 %r4, %r7, 100, %r2; st.shared.b32 [%r3], %r4; bar.arrive 1, 64; bar.sync 2, 64;
    add.u32 %r7, %r7, 1; setp.lt.u32 %p, %r7, 3; @%p bra PRODUCER; ret;
    CONSUMER: bar.sync 1, 64; ld.shared.b32 %r5, [%r3]; bar.arrive 2, 64; mad.lo.u32 %r6, %r7, 32, %r2;
    mad.wide.u32 %rd1, %r6, 4, %rd0; st.global.b32 [%rd1], %r5; add.u32 %r7, %r7, 1; setp.lt.u32 %p, %r7, 3;
    @%p bra CONSUMER; ret; }"""
    )
    (y,) = Runner(text)("k", np.zeros((3, 32), "u4"), block=(64,))
    assert (y == np.arange(3)[:, None] * 100 + np.arange(32)).all()

"""128-bit values, vector atomics, and rarer forms of arithmetic, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from tests.emulator.harness import Runner, apply_instruction

HEAD = ".version 9.0\n.target sm_90a\n.address_size 64\n"


def test_128_bit_values_move_whole() -> None:
    """Loads, stores, packing and selection of .b128, with patterns that are NaNs of every kind."""
    text = (
        HEAD
        + """.visible .entry k(.param .u64 p, .param .u64 r) { .reg .b128 %q<3>; .reg .b64 %rd<9>; .reg .b32 %r<3>;
    .reg .pred %p; mov.u32 %r0, %tid.x; ld.param.u64 %rd0, [p]; ld.param.u64 %rd1, [r];
    mad.wide.u32 %rd2, %r0, 16, %rd0; mad.wide.u32 %rd3, %r0, 32, %rd1; ld.global.b128 %q0, [%rd2];
    setp.lt.u32 %p, %r0, 7; mov.b128 {%rd4, %rd5}, %q0; mov.b128 %q1, {%rd5, %rd4};
    st.global.b128 [%rd3], %q0; @%p mov.b128 %q0, %q1; st.global.b128 [%rd3+16], %q0; ret; }"""
    )
    x = np.random.default_rng(0).integers(0, 2**64, (32, 2), dtype="u8")
    x[:, 0] |= np.uint64(0x7FF0000000000001)
    y = Runner(text)("k", x, np.zeros((32, 2, 2), "u8"))[1]
    assert (y[:, 0] == x).all()
    assert (y[:7, 1] == x[:7, ::-1]).all() and (y[7:, 1] == x[7:]).all()


def test_128_bit_atomics() -> None:
    """Each lane swaps if it finds what lane 0 expects, or exchanges."""
    text = (
        HEAD
        + """.visible .entry k(.param .u64 p, .param .u64 r) { .reg .b128 %q<4>; .reg .b64 %rd<9>; .reg .b32 %r<3>;
    mov.u32 %r0, %tid.x; ld.param.u64 %rd0, [p]; ld.param.u64 %rd1, [r]; mad.wide.u32 %rd2, %r0, 16, %rd1;
    mov.u64 %rd3, -1; mov.b128 %q0, {%rd3, %rd3}; cvt.u64.u32 %rd4, %r0; mov.b128 %q1, {%rd4, %rd3};
    atom.global.cas.b128 %q2, [%rd0], %q0, %q1; st.global.b128 [%rd2], %q2;
    atom.global.exch.b128 %q2, [%rd0+16], %q1; ret; }"""
    )
    minus = np.uint64(2**64 - 1)
    p, r = Runner(text)("k", np.full((2, 2), minus, "u8"), np.zeros((32, 2), "u8"))
    assert p.tolist() == [[0, minus], [31, minus]]
    assert r[0].tolist() == [minus, minus] and (r[1:] == [0, minus]).all()


@pytest.mark.parametrize(("kind", "dtype", "count"), [("v4.f32", "f4", 4), ("v2.f32", "f4", 2), ("v2.f16x2", "f2", 4)])
def test_vector_atomics(kind: str, dtype: str, count: int) -> None:
    words = int(kind[1])
    registers = [f"{{{', '.join(f'%{letter}{i}' for i in range(words))}}}" for letter in "ab"]
    noftz = ".noftz" if "f16" in kind else ""
    text = (
        HEAD
        + f""".visible .entry k(.param .u64 x, .param .u64 y, .param .u64 z) {{ .reg .b64 %rd<9>; .reg .b32 %r<3>;
    .reg .b32 %a<4>, %b<4>; mov.u32 %r0, %tid.x; ld.param.u64 %rd0, [x]; ld.param.u64 %rd1, [y]; ld.param.u64 %rd2, [z];
    mad.wide.u32 %rd3, %r0, {4 * words}, %rd0; and.b32 %r1, %r0, 1; mad.wide.u32 %rd4, %r1, {4 * words}, %rd1;
    mad.wide.u32 %rd5, %r0, {4 * words}, %rd2; ld.global.v{words}.b32 {registers[0]}, [%rd3];
    atom.global.add{noftz}.{kind} {registers[1]}, [%rd4], {registers[0]}; st.global.v{words}.b32 [%rd5], {registers[1]};
    red.global.add{noftz}.{kind} [%rd4], {registers[0]}; ret; }}"""
    )
    x = np.random.default_rng(1).integers(-4, 5, (32, count)).astype(dtype)
    y, z = Runner(text)("k", x, np.zeros((2, count), dtype), np.zeros_like(x))[1:]
    # Small whole numbers: sums are exact.
    for parity in (0, 1):
        mine = x[parity::2].astype("f8")
        assert (y[parity] == 2 * mine.sum(axis=0)).all()
        assert (z[parity::2] == np.cumsum(mine, axis=0) - mine).all()


def test_minimum_with_the_sign_of_the_product() -> None:
    a, b = np.random.default_rng(2).standard_normal((2, 100)).astype("f4")
    got = apply_instruction("min.xorsign.abs.f32 %d, %a, %b;", ["f32", "f32"], "f32", [a, b], "f4")
    assert (got == np.copysign(np.minimum(abs(a), abs(b)), a * b)).all()
    h, g = a.astype("f2"), b.astype("f2")
    got = apply_instruction("max.NaN.xorsign.abs.f16 %d, %a, %b;", ["f16", "f16"], "f16", [h, g], "f2")
    assert (got == np.copysign(np.maximum(abs(h), abs(g)), a * b)).all()


def test_integer_minimum_with_relu() -> None:
    a, b = np.random.default_rng(3).integers(-9, 9, (2, 100)).astype("i4")
    got = apply_instruction("min.relu.s32 %d, %a, %b;", ["s32", "s32"], "s32", [a, b], "i4")
    assert (got == np.maximum(np.minimum(a, b), 0)).all()
    x, y = (part.astype("i2").view("u4") for part in (a, b))
    got = apply_instruction("max.s16x2.relu %d, %a, %b;", ["b32", "b32"], "b32", [x, y], "u4").view("i2")
    assert (got == np.maximum(np.maximum(a, b), 0)).all()


def test_logic_with_a_predicate() -> None:
    a, b = np.random.default_rng(4).integers(0, 4, (2, 100)).astype("u4")
    body = "setp.eq.u32 %q, %a, 2; lop3.or.b32 _|%d, %a, %b, %b, 0xc0, %q;"
    got = apply_instruction(body, ["b32", "b32"], "pred", [a, b], "u4")
    assert (got == ((a & b != 0) | (a == 2))).all()


@pytest.mark.parametrize("type", ["f16x2", "bf16x2"])
@pytest.mark.parametrize("function", ["ex2", "tanh"])
def test_functions_of_halves(function: str, type: str) -> None:
    import ml_dtypes

    dtype = np.dtype("f2") if type == "f16x2" else np.dtype(ml_dtypes.bfloat16)
    x = np.linspace(-4, 4, 400).astype(dtype)
    flush = ".ftz" if (function, type) == ("ex2", "bf16x2") else ""
    body = f"{function}.approx{flush}.{type} %d, %a;"
    got = apply_instruction(body, ["b32"], "b32", [x.view("u4")], "u4").view(dtype).astype("f8")
    expected = {"ex2": np.exp2, "tanh": np.tanh}[function](x.astype("f8"))
    np.testing.assert_allclose(got, expected, rtol=2**-11 if type == "f16x2" else 2**-8)  # one rounding


def test_reductions_of_floats_across_the_warp() -> None:
    x = np.random.default_rng(5).standard_normal(64).astype("f4")
    x[40] = np.nan
    for mode, expected in (
        ("min", np.fmin),
        ("max.abs", np.fmax),
        ("max.NaN", np.maximum),
        ("min.abs.NaN", np.minimum),
    ):
        got = apply_instruction(f"redux.sync.{mode}.f32 %d, %a, -1;", ["f32"], "f32", [x], "f4")
        rows = np.abs(x).reshape(2, 32) if "abs" in mode else x.reshape(2, 32)
        np.testing.assert_array_equal(got.reshape(2, 32), expected.reduce(rows, axis=1)[:, None].repeat(32, 1))

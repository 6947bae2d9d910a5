"""Floats of 4 to 8 bits, integers of 1 to 8 bits: conversions against ml_dtypes, products against whole numbers."""

from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest
from tests.emulator.harness import Runner, apply_instruction

DTYPES = {
    "e4m3": ml_dtypes.float8_e4m3fn, "e5m2": ml_dtypes.float8_e5m2, "e2m1": ml_dtypes.float4_e2m1fn,
    "e2m3": ml_dtypes.float6_e2m3fn, "e3m2": ml_dtypes.float6_e3m2fn,
}  # fmt: skip


def _numbers(name: str) -> np.ndarray:
    """Every value, every midpoint and its neighbours, beyond the largest, infinities and NaN."""
    values = np.arange(256, dtype="u1").view(DTYPES[name]).astype("f4")
    finite = np.unique(values[np.isfinite(values)])
    middle = (finite[1:] + finite[:-1]) / 2
    random = np.random.default_rng(0).standard_normal(200).astype("f4") * finite.max()
    around = [np.nextafter(middle, np.float32(side)) for side in (-np.inf, np.inf)]
    return np.concatenate([finite, middle, *around, random, [np.inf, -np.inf, np.nan]]).astype("f4")


def _expected(name: str, values: np.ndarray) -> np.ndarray:
    """Rounded by ml_dtypes after the saturation that it does not do."""
    largest = float(ml_dtypes.finfo(DTYPES[name]).max)
    nan = np.isnan(values)
    patterns = np.clip(np.where(nan, 0, values), -largest, largest).astype(DTYPES[name]).view("u1")
    return np.where(nan, {"e4m3": 0x7F, "e5m2": 0x7F, "e2m1": 7, "e2m3": 0x1F, "e3m2": 0x1F}[name], patterns)


@pytest.mark.parametrize("name", ["e4m3", "e5m2", "e2m3", "e3m2"])
def test_from_f32(name: str) -> None:
    low = _numbers(name)
    high = np.roll(low, 1)
    body = f".reg .b16 %h; cvt.rn.satfinite.{name}x2.f32 %h, %a, %b; cvt.u32.u16 %d, %h;"
    got = apply_instruction(body, ["f32", "f32"], "u32", [high, low], "u4")
    assert (got == (_expected(name, low) | _expected(name, high).astype("u4") << 8)).all()


def test_from_f32_to_four_bits() -> None:
    low = _numbers("e2m1")
    high = np.roll(low, 1)
    body = "{ .reg .b8 %h; cvt.rn.satfinite.e2m1x2.f32 %h, %a, %b; cvt.u32.u8 %d, %h; }"
    got = apply_instruction(body, ["f32", "f32"], "u32", [high, low], "u4")
    assert (got == (_expected("e2m1", low) | _expected("e2m1", high) << 4)).all()


@pytest.mark.parametrize("name", ["e4m3", "e5m2"])
def test_from_and_to_halves(name: str) -> None:
    with np.errstate(over="ignore"):
        values = _numbers(name).astype("f2") + np.float16(0)  # which sign max(-0, 0) has is left open
    pairs = np.stack((values, np.roll(values, 1)), axis=1).copy().view("u4")[:, 0]
    body = f".reg .b16 %h; cvt.rn.satfinite.relu.{name}x2.f16x2 %h, %a; cvt.u32.u16 %d, %h;"
    got = apply_instruction(body, ["b32"], "u32", [pairs], "u4")
    positive = np.where(values < 0, 0, values.astype("f4"))
    assert (got == (_expected(name, positive) | _expected(name, np.roll(positive, 1)).astype("u4") << 8)).all()
    patterns = np.arange(65536, dtype="u4")
    body = f".reg .b16 %h; cvt.u16.u32 %h, %a; cvt.rn.f16x2.{name}x2 %d, %h;"
    got = apply_instruction(body, ["b32"], "u32", [patterns], "u4").view("f2").reshape(-1, 2)
    wide = patterns.astype("u2").view("u1").view(DTYPES[name]).astype("f2").reshape(-1, 2)
    np.testing.assert_array_equal(got, wide)


@pytest.mark.parametrize("name", ["e2m1", "e2m3", "e3m2"])
def test_to_halves_from_four_and_six_bits(name: str) -> None:
    bits = 4 if name == "e2m1" else 8
    count = 1 << (4 if name == "e2m1" else 6)
    low, high = (part.reshape(-1) for part in np.meshgrid(np.arange(count), np.arange(count)))
    width, type = (8, "u8") if name == "e2m1" else (16, "u16")
    body = f"{{ .reg .b{width} %h; cvt.{type}.u32 %h, %a; cvt.rn.f16x2.{name}x2 %d, %h; }}"
    got = apply_instruction(body, ["b32"], "u32", [(low | high << bits).astype("u4")], "u4").view("f2").reshape(-1, 2)
    expected = np.stack((low, high), axis=1).astype("u1").view(DTYPES[name]).astype("f2")
    assert (got == expected).all()


def _fragments(matrix: np.ndarray, per_word: int, rows: bool) -> np.ndarray:
    """Elements [lane, word, element] of A (rows) or B, as the PTX manual lays them out."""
    depth = matrix.shape[1 if rows else 0]
    words = depth // (4 * per_word) * (2 if rows else 1)
    result = np.zeros((32, words, per_word), matrix.dtype)
    for lane, word, element in itertools.product(range(32), range(words), range(per_word)):
        group, thread = divmod(lane, 4)
        part = word // 2 if rows else word
        k = thread * per_word + element + 4 * per_word * part
        result[lane, word, element] = matrix[group + 8 * (word % 2), k] if rows else matrix[k, group]
    return result


def _packed(fragments: np.ndarray, bits: int) -> np.ndarray:
    """Whole numbers of `bits` bits as 32-bit words, the first lowest."""
    shifts = np.arange(0, 32, bits, dtype="u8")
    return ((fragments.astype("i8").astype("u8") & ((1 << bits) - 1)) << shifts).sum(axis=2, dtype="u8").astype("u4")


def _multiply(name: str, a: np.ndarray, b: np.ndarray, c: np.ndarray, *more: str) -> np.ndarray:
    """The product `name`, and then those of `more` of the same words, added up."""
    registers = [
        "{" + ", ".join(f"%{letter}{i}" for i in range(part.shape[1])) + "}"
        for letter, part in zip("abc", (a, b, c), strict=True)
    ]
    loads = stores = ""
    for index, (letter, part) in enumerate(zip("abc", (a, b, c), strict=True)):
        count = part.shape[1]
        loads += f"ld.param.u64 %rd0, [p{index}]; mad.wide.u32 %rd1, %r0, {4 * count}, %rd0;"
        loads += "".join(f"ld.global.b32 %{letter}{i}, [%rd1+{4 * i}];" for i in range(count))
        stores = "".join(f"st.global.b32 [%rd1+{4 * i}], %c{i};" for i in range(count))
    operands = f"{registers[2]}, {registers[0]}, {registers[1]}, {registers[2]}"
    products = "".join(f"{product} {operands};" for product in (name, *more))
    text = f""".version 9.0\n.target sm_90a\n.address_size 64
    .visible .entry k(.param .u64 p0, .param .u64 p1, .param .u64 p2) {{
    .reg .b32 %r0, %a<4>, %b<2>, %c<4>; .reg .b64 %rd<3>; mov.u32 %r0, %tid.x; {loads}
    {products} {stores} ret; }}"""
    return Runner(text)("k", a, b, c)[2]


def _accumulators(c: np.ndarray) -> np.ndarray:
    lane, i = np.arange(32)[:, None], np.arange(4)
    return np.ascontiguousarray(c[lane // 4 + 8 * (i // 2), lane % 4 * 2 + i % 2])


@pytest.mark.parametrize("accumulator", ["f32", "f16"])
@pytest.mark.parametrize("shape", ["m16n8k32", "m16n8k16"])
@pytest.mark.parametrize(("left", "right"), [("e4m3", "e4m3"), ("e4m3", "e5m2"), ("e5m2", "e4m3")])
def test_products_of_bytes_that_are_floats(shape: str, left: str, right: str, accumulator: str) -> None:
    depth = int(shape.split("k")[1])
    random = np.random.default_rng(1)
    a = random.integers(-4, 5, (16, depth)).astype(DTYPES[left])
    b = random.integers(-4, 5, (depth, 8)).astype(DTYPES[right])
    c = random.integers(-9, 9, (16, 8)).astype({"f32": "f4", "f16": "f2"}[accumulator])
    words = [np.ascontiguousarray(_fragments(x, 4, rows)).view("u4")[..., 0] for x, rows in ((a, True), (b, False))]
    name = f"mma.sync.aligned.{shape}.row.col.{accumulator}.{left}.{right}.{accumulator}"
    got = _multiply(name, *words, _accumulators(c).view("u4")).view(c.dtype)
    # Small whole numbers: every format holds all sums exactly.
    assert (got == _accumulators(a.astype("f8") @ b.astype("f8") + c)).all()


@pytest.mark.parametrize(
    ("shape", "left", "right"),
    [("m16n8k64", "s4", "u4"), ("m16n8k32", "u4", "s4"), ("m16n8k32", "s8", "u8"), ("m16n8k16", "u8", "s8")],
)
@pytest.mark.parametrize("saturating", [False, True])
def test_products_of_integers_saturate(shape: str, left: str, right: str, saturating: bool) -> None:
    depth, bits = int(shape.split("k")[1]), int(left[1])
    random = np.random.default_rng(2)
    ranges = [(0, 1 << bits) if type[0] == "u" else (-(1 << bits - 1), 1 << bits - 1) for type in (left, right)]
    a, b = random.integers(*ranges[0], (16, depth)), random.integers(*ranges[1], (depth, 8))
    c = random.integers((1 << 31) - 500, 1 << 31, (16, 8))
    words = [_packed(_fragments(x, 32 // bits, rows), bits) for x, rows in ((a, True), (b, False))]
    flag = ".satfinite" if saturating else ""
    name = f"mma.sync.aligned.{shape}.row.col{flag}.s32.{left}.{right}.s32"
    got = _multiply(name, *words, _accumulators(c).astype("i4").view("u4")).view("i4")
    exact = a @ b + c
    assert (exact >= 1 << 31).any()
    expected = np.clip(exact, -(1 << 31), (1 << 31) - 1) if saturating else exact
    assert (got == _accumulators(expected).astype("i4")).all()


@pytest.mark.parametrize("operation", ["and", "xor"])
@pytest.mark.parametrize("shape", ["m16n8k256", "m16n8k128"])
def test_products_of_bits(shape: str, operation: str) -> None:
    depth = int(shape.split("k")[1])
    random = np.random.default_rng(3)
    a, b = random.integers(0, 2, (16, depth)), random.integers(0, 2, (depth, 8))
    words = [_packed(_fragments(x, 32, rows), 1) for x, rows in ((a, True), (b, False))]
    name = f"mma.sync.aligned.{shape}.row.col.s32.b1.b1.s32.{operation}.popc"
    got = _multiply(name, *words, np.zeros((32, 4), "u4")).view("i4")
    combine = {"and": np.bitwise_and, "xor": np.bitwise_xor}[operation]
    assert (got == _accumulators(combine(a[:, :, None], b[None]).sum(axis=1))).all()


def test_products_of_several_kinds_add_to_the_same_sums() -> None:
    """Bytes, then nibbles of the same words, then bytes: of which the fast engine adds up some before others."""
    a, b, c = (np.random.default_rng(5).integers(0, 1 << 30, (32, words)).astype("u4") for words in (4, 2, 4))
    mma = "mma.sync.aligned.m16n8k{}.row.col.s32.{}.{}.s32".format
    wide, narrow = mma(32, "s8", "u8"), mma(64, "s4", "u4")
    expected = c
    for name in (wide, wide, narrow, wide):
        expected = _multiply(name, a, b, expected)
    assert (_multiply(wide, a, b, c, wide, narrow, wide) == expected).all()

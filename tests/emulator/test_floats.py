"""Floating-point arithmetic, comparisons and conversions against exact rationals, float64 and ml_dtypes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.emulator.harness import apply_instruction

STORAGE: dict[str, Any] = {
    "f16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "f32": np.float32,
    "f64": np.float64,
}
BITS = {"f16": "u2", "bf16": "u2", "f32": "u4", "f64": "u8"}


def samples(type: str, count: int, seed: int) -> np.ndarray:
    """Edges (zeros, infinities, NaN, subnormals, the largest) and values of many magnitudes."""
    random = np.random.default_rng(seed)
    dtype = STORAGE[type]
    spread = 4 if type == "f16" else 20
    values = random.standard_normal(count) * 2.0 ** random.integers(-spread, spread, count)
    edges = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 0.5, 1.5, 2.5, -2.5, 3.25])
    info = ml_dtypes.finfo(dtype)
    extremes = np.array([info.max, info.tiny, info.smallest_subnormal, -float(info.tiny) / 2], dtype="f8")
    return np.concatenate((edges, extremes, values)).astype(dtype)


def pairs(type: str) -> list[np.ndarray]:
    left = samples(type, 60, 1)
    grid = np.array(list(itertools.product(left[:16], left[:16])), dtype=left.dtype)
    return [np.concatenate((grid[:, 0], left)), np.concatenate((grid[:, 1], samples(type, 60, 2)))]


def run(body: str, types: list[str], output: str, arrays: list[np.ndarray]) -> np.ndarray:
    """Bit patterns in, result as its NumPy type out."""
    given_bits = [
        np.ascontiguousarray(array).view(BITS[type]) for array, type in zip(arrays, types, strict=True)
    ]
    registers = [{"f16": "b16", "bf16": "b16", "f32": "b32", "f64": "b64"}[type] for type in types]
    if output == "pred":
        return apply_instruction(body, registers, "pred", given_bits, "u4")
    size = np.dtype(STORAGE[output]).itemsize
    return apply_instruction(body, registers, f"b{8 * size}", given_bits, f"u{size}").view(STORAGE[output])


def same(got: np.ndarray, expected: np.ndarray, signs: bool = True) -> None:
    """Equal values, NaN equals NaN, and zeros of the same sign."""
    a, b = got.astype("f8"), np.asarray(expected).astype("f8")
    equal = (a == b) | (np.isnan(a) & np.isnan(b))
    if signs:
        equal &= (np.signbit(a) == np.signbit(b)) | np.isnan(a)
    assert equal.all(), [(float(x), float(y)) for x, y in zip(a[~equal][:5], b[~equal][:5], strict=True)]


OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b,
}  # fmt: skip


@pytest.mark.parametrize("type", ["f16", "bf16", "f32", "f64"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_arithmetic_rounds_once(name: str, type: str) -> None:
    a, b = pairs(type)
    with np.errstate(all="ignore"):
        # f64 holds the exact result of one operation on halves, and rounds f32 harmlessly (53 >= 2 * 24 + 2).
        expected = OPERATIONS[name](a.astype("f8"), b.astype("f8")).astype(STORAGE[type])
    modifier = "" if type in ("f16", "bf16") else ".rn"
    same(run(f"{name}{modifier}.{type} %d, %a, %b;", [type, type], type, [a, b]), expected)


def test_division_and_roots() -> None:
    a, b = pairs("f32")
    wide_a, wide_b = a.astype("f8"), b.astype("f8")
    with np.errstate(all="ignore"):
        same(run("div.rn.f32 %d, %a, %b;", ["f32"] * 2, "f32", [a, b]), (wide_a / wide_b).astype("f4"))
        same(run("div.rn.f64 %d, %a, %b;", ["f64"] * 2, "f64", [wide_a, wide_b]), wide_a / wide_b)
        same(run("sqrt.rn.f32 %d, %a;", ["f32"], "f32", [a]), np.sqrt(wide_a).astype("f4"))
        same(run("rcp.rn.f32 %d, %a;", ["f32"], "f32", [a]), (1 / wide_a).astype("f4"))
        same(run("rsqrt.approx.f32 %d, %a;", ["f32"], "f32", [a]), (1 / np.sqrt(wide_a)).astype("f4"))
        same(run("rsqrt.approx.f64 %d, %a;", ["f64"], "f64", [wide_a]), 1 / np.sqrt(wide_a))


@pytest.mark.parametrize("name", ["ex2", "lg2", "sin", "cos", "tanh"])
def test_approximations_are_right_within_two_ulp(name: str) -> None:
    a = samples("f32", 200, 3)
    a = a[np.abs(a) < 100] if name != "lg2" else np.abs(a)
    reference = {"ex2": np.exp2, "lg2": np.log2, "sin": np.sin, "cos": np.cos, "tanh": np.tanh}[name]
    with np.errstate(all="ignore"):
        expected = reference(a.astype("f8"))
    got = run(f"{name}.approx.f32 %d, %a;", ["f32"], "f32", [a])
    # NumPy's float32 functions promise 4 ulp; the hardware's promise is 2^-22 and looser.
    np.testing.assert_allclose(got, expected, rtol=4.8e-7, atol=1e-37)


@pytest.mark.parametrize("type", ["f32", "f64"])
def test_fused_multiply_add(type: str) -> None:
    a, b = pairs(type)
    c = np.resize(samples(type, 60, 4), a.shape)
    with np.errstate(all="ignore"):
        finite = (
            np.isfinite(a)
            & np.isfinite(b)
            & np.isfinite(c)
            & (np.abs(a.astype("f8")) < 1e30)
            & (np.abs(b.astype("f8")) < 1e30)
        )
    finite &= np.abs(c.astype("f8")) < 1e30
    finite &= (np.abs(a) > 1e-30) & (np.abs(b) > 1e-30) & (c != 0)
    a, b, c = a[finite], b[finite], c[finite]
    exact = [
        Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z)) for x, y, z in zip(a, b, c, strict=True)
    ]
    got = run(f"fma.rn.{type} %d, %a, %b, %c;", [type] * 3, type, [a, b, c])
    for value, answer in zip(exact, got, strict=True):
        # Within half an ulp (and the rare double rounding: a hair more).
        ulp = Fraction(float(np.spacing(np.abs(answer))))
        assert abs(Fraction(float(answer)) - value) <= ulp * Fraction(50001, 100000)


def test_cancelling_fused_multiply_add_is_exact() -> None:
    a = np.float32(1 + 2.0**-12) * np.ones(32, "f4")
    body = ".reg .f32 %m; mul.rn.f32 %m, %a, %a; neg.f32 %m, %m; fma.rn.f32 %d, %a, %a, %m;"
    assert (run(body, ["f32"], "f32", [a]) == np.float32(2.0**-24)).all()


@pytest.mark.parametrize("type", ["f16", "bf16"])
def test_half_fused_multiply_add(type: str) -> None:
    a, b = (np.resize(samples(type, 300, seed)[16:], 300) for seed in (1, 2))
    c = samples(type, 300, 3)[16:316]
    with np.errstate(all="ignore"):
        expected = (a.astype("f8") * b.astype("f8") + c.astype("f8")).astype(STORAGE[type])
    same(run(f"fma.rn.{type} %d, %a, %b, %c;", [type] * 3, type, [a, b, c]), expected)


@pytest.mark.parametrize("type", ["f16", "bf16"])
@pytest.mark.parametrize("name", ["add", "mul", "max", "min.NaN"])
def test_packed_halves(type: str, name: str) -> None:
    a, b = (array[: len(array) // 2 * 2] for array in pairs(type))
    packed = [array.view("u4") for array in (a, b)]
    got = apply_instruction(f"{name}.{type}x2 %d, %a, %b;", ["b32", "b32"], "b32", packed, "u4").view(
        STORAGE[type]
    )
    wide = a.astype("f8"), b.astype("f8")
    with np.errstate(all="ignore"):
        expected = {
            "add": lambda: wide[0] + wide[1], "mul": lambda: wide[0] * wide[1],
            "max": lambda: np.fmax(*wide), "min.NaN": lambda: np.minimum(*wide),
        }[name]().astype(STORAGE[type])  # fmt: skip
    same(got, expected, signs=name in ("add", "mul"))


@pytest.mark.parametrize("type", ["f16", "bf16", "f32", "f64"])
def test_minimum_and_maximum(type: str) -> None:
    a, b = pairs(type)
    wide = a.astype("f8"), b.astype("f8")
    for name, plain, strict in (("min", np.fmin, np.minimum), ("max", np.fmax, np.maximum)):
        same(run(f"{name}.{type} %d, %a, %b;", [type, type], type, [a, b]), plain(*wide), signs=False)
        if type != "f64":
            same(
                run(f"{name}.NaN.{type} %d, %a, %b;", [type, type], type, [a, b]), strict(*wide), signs=False
            )


def test_directed_rounding_brackets_the_exact_value() -> None:
    a, b = (np.abs(samples("f32", 200, seed)[16:]) for seed in (1, 2))
    a[::2] *= -1
    for name, exact in (("add", a.astype("f8") + b), ("mul", a.astype("f8") * b)):
        down, up, zero = (
            run(f"{name}.{mode}.f32 %d, %a, %b;", ["f32"] * 2, "f32", [a, b]).astype("f8")
            for mode in ("rm", "rp", "rz")
        )
        assert (down <= exact).all() and (up >= exact).all()
        assert (np.nextafter(down.astype("f4"), np.float32(np.inf)).astype("f8") >= exact).all()
        assert (zero == np.where(exact > 0, down, up)).all()


def test_flush_and_saturation() -> None:
    a = samples("f32", 50, 1)
    tiny = np.float32(2.0**-126)
    flushed = np.where(np.abs(a) < tiny, np.copysign(np.float32(0), a), a)
    same(run("add.ftz.f32 %d, %a, 0f80000000;", ["f32"], "f32", [a]), np.where(flushed == 0, flushed, a))
    clipped = np.where(np.isnan(a), 0, np.clip(a, 0, 1))
    same(run("cvt.sat.f32.f32 %d, %a;", ["f32"], "f32", [a]), clipped, signs=False)
    same(run("fma.rn.sat.f32 %d, %a, 0f3F800000, 0f00000000;", ["f32"], "f32", [a]), clipped, signs=False)


@pytest.mark.parametrize("type", ["f16", "bf16", "f32", "f64"])
def test_sign_operations(type: str) -> None:
    a = samples(type, 50, 1)
    same(run(f"neg.{type} %d, %a;", [type], type, [a]), -a.astype("f8"))
    same(run(f"abs.{type} %d, %a;", [type], type, [a]), np.abs(a.astype("f8")))
    if type in ("f32", "f64"):
        b = samples(type, 50, 2)
        same(run(f"copysign.{type} %d, %a, %b;", [type, type], type, [a, b]), np.copysign(b, a))


@pytest.mark.parametrize("type", ["f32", "f64"])
def test_properties(type: str) -> None:
    a = samples(type, 50, 1)
    tiny = np.finfo(a.dtype).tiny
    with np.errstate(all="ignore"):
        subnormal = (a != 0) & (np.abs(a) < tiny)
    expected = {
        "finite": np.isfinite(a), "infinite": np.isinf(a), "number": ~np.isnan(a), "notanumber": np.isnan(a),
        "subnormal": subnormal, "normal": np.isfinite(a) & (np.abs(a) >= tiny),
    }  # fmt: skip
    for name, answer in expected.items():
        assert (run(f"testp.{name}.{type} %d, %a;", [type], "pred", [a]) == answer).all()


@pytest.mark.parametrize("type", ["f16", "bf16", "f32", "f64"])
def test_comparisons(type: str) -> None:
    a, b = pairs(type)
    x, y = a.astype("f8"), b.astype("f8")
    nan = np.isnan(x) | np.isnan(y)
    ordered = {"eq": x == y, "ne": (x != y) & ~nan, "lt": x < y, "le": x <= y, "gt": x > y, "ge": x >= y}
    for name, answer in ordered.items():
        assert (run(f"setp.{name}.{type} %d, %a, %b;", [type, type], "pred", [a, b]) == answer).all()
        assert (run(f"setp.{name}u.{type} %d, %a, %b;", [type, type], "pred", [a, b]) == (answer | nan)).all()
    assert (run(f"setp.nan.{type} %d, %a, %b;", [type, type], "pred", [a, b]) == nan).all()
    assert (run(f"setp.num.{type} %d, %a, %b;", [type, type], "pred", [a, b]) == ~nan).all()


@pytest.mark.parametrize(("source", "target"), list(itertools.permutations(["f16", "bf16", "f32", "f64"], 2)))
def test_conversions_between_floats(source: str, target: str) -> None:
    a = samples(source, 300, 5)
    wider = np.dtype(STORAGE[target]).itemsize > np.dtype(STORAGE[source]).itemsize
    with np.errstate(all="ignore"):
        expected = a.astype("f8").astype(STORAGE[target])
    same(run(f"cvt{'' if wider else '.rn'}.{target}.{source} %d, %a;", [source], target, [a]), expected)


@given(st.lists(st.integers(0, 2**32 - 1), min_size=32, max_size=32))
@settings(max_examples=30, deadline=None)
def test_narrowing_of_any_pattern(patterns: list[int]) -> None:
    a = np.array(patterns, "u4").view("f4")
    with np.errstate(all="ignore"):
        same(run("cvt.rn.f16.f32 %d, %a;", ["f32"], "f16", [a]), a.astype("f2"))
        same(run("cvt.rn.bf16.f32 %d, %a;", ["f32"], "bf16", [a]), a.astype(ml_dtypes.bfloat16))
        same(
            run("cvt.f32.bf16 %d, %a;", ["bf16"], "f32", [a.view(ml_dtypes.bfloat16)]),
            a.view(ml_dtypes.bfloat16),
        )


@pytest.mark.parametrize("type", ["f16", "bf16"])
def test_halves_written_as_bits(type: str) -> None:
    values = samples(type, 8, 9)
    for pattern in values.view("u2"):
        body = f".reg .b16 %h; .reg .f32 %c; mov.b16 %h, {pattern}; cvt.f32.{type} %c, %h; add.f32 %d, %a, %c;"
        (result,) = apply_instruction(body, ["f32"], "f32", [np.zeros(1, "f4")], "f4")
        np.testing.assert_equal(result, np.array(pattern).view(STORAGE[type]).astype("f4"))


def test_directed_narrowing() -> None:
    a = samples("f32", 300, 6)
    finite = a[np.isfinite(a) & (np.abs(a) < 60000)]
    for target in ("f16", "bf16"):
        zero = run(f"cvt.rz.{target}.f32 %d, %a;", ["f32"], target, [finite]).astype("f8")
        nearest = finite.astype(STORAGE[target]).astype("f8")
        assert (np.abs(zero) <= np.abs(finite)).all()
        assert ((zero == nearest) | (np.abs(nearest) > np.abs(finite))).all()


def test_packed_conversions_put_the_first_operand_on_top() -> None:
    a, b = pairs("f32")
    for target in ("f16", "bf16"):
        bits = [array.view("u4") for array in (a, b)]
        got = (
            apply_instruction(f"cvt.rn.{target}x2.f32 %d, %a, %b;", ["b32", "b32"], "b32", bits, "u4")
            .view("u2")
            .reshape(-1, 2)
        )
        with np.errstate(all="ignore"):
            same(np.ascontiguousarray(got[:, 1]).view(STORAGE[target]), a.astype(STORAGE[target]))
            same(np.ascontiguousarray(got[:, 0]).view(STORAGE[target]), b.astype(STORAGE[target]))
        relu = apply_instruction(f"cvt.rn.relu.{target}x2.f32 %d, %a, %b;", ["b32", "b32"], "b32", bits, "u4")
        low = np.ascontiguousarray(relu.view("u2").reshape(-1, 2)[:, 0]).view(STORAGE[target])
        with np.errstate(all="ignore"):
            same(low, np.maximum(b, 0).astype(STORAGE[target]), signs=False)


def test_tf32_rounds_to_nearest_ties_away() -> None:
    a = samples("f32", 400, 7)
    got = run("cvt.rna.tf32.f32 %d, %a;", ["f32"], "f32", [a])
    for value, answer in zip(a, got, strict=True):
        if not math.isfinite(value):
            assert math.isnan(answer) == math.isnan(value) and (math.isnan(value) or answer == value)
            continue
        _, exponent = math.frexp(float(value))
        step = Fraction(2) ** (max(exponent, -125) - 11)
        whole = int(abs(Fraction(float(value))) / step + Fraction(1, 2)) * step
        if whole >= 2**128:
            assert math.isinf(answer)
        else:
            assert abs(Fraction(float(answer))) == whole


ROUND: dict[str, Callable[[float], int]] = {
    "rni": round,
    "rzi": math.trunc,
    "rmi": math.floor,
    "rpi": math.ceil,
}


@pytest.mark.parametrize("source", ["f16", "f32", "f64"])
@pytest.mark.parametrize("target", ["s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64"])
def test_float_to_integer(source: str, target: str) -> None:
    a = np.concatenate(
        (samples(source, 60, 8), np.array([126.5, 127.5, 255.5, -128.5, 32767.5]).astype(STORAGE[source]))
    )
    if source != "f16":
        a = np.concatenate(
            (
                a,
                np.array([2.0**31, -(2.0**31), 2.0**32, 2.0**63, -(2.0**63), 2.0**64, 1e18]).astype(
                    STORAGE[source]
                ),
            )
        )
    bits = int(target[1:])
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if target[0] == "s" else (0, (1 << bits) - 1)
    register = f"b{max(16, bits)}"
    for mode, function in ROUND.items():
        body = f"cvt.{mode}.{target}.{source} %d, %a;"
        got = apply_instruction(
            body, [f"b{8 * a.dtype.itemsize}"], register, [a.view(BITS[source])], f"u{max(16, bits) // 8}"
        )
        for value, answer in zip(a.astype("f8"), got, strict=True):
            if math.isnan(value):
                expected = 1 << bits - 1 if source == "f64" or bits == 64 else 0
                expected = expected - (1 << bits) if target[0] == "s" and expected else expected
            elif math.isinf(value):
                expected = high if value > 0 else low
            else:
                expected = max(low, min(high, function(float(value))))
            assert int(answer) == expected % (1 << max(16, bits)), (body, value, int(answer), expected)


@pytest.mark.parametrize("source", ["s16", "u16", "s32", "u32", "s64", "u64"])
def test_integer_to_float(source: str) -> None:
    bits = int(source[1:])
    random = np.random.default_rng(9)
    values = random.integers(0, 1 << 63, 100, dtype="u8") >> random.integers(0, 60, 100).astype("u8")
    a = np.concatenate(
        (values, np.array([0, 1, (1 << bits) - 1, 1 << bits - 1, (1 << bits - 1) - 1], "u8"))
    ).astype(f"u{bits // 8}")
    typed = a.view(f"{'i' if source[0] == 's' else 'u'}{bits // 8}")
    with np.errstate(all="ignore"):
        for target, type in (("f32", "f4"), ("f64", "f8"), ("f16", "f2")):
            got = apply_instruction(
                f"cvt.rn.{target}.{source} %d, %a;", [f"b{bits}"], f"b{8 * int(type[1])}", [a], f"u{type[1]}"
            )
            exact = [
                float(np.dtype(type).type(int(value)))
                if abs(int(value)) < 2**53 or target != "f16"
                else math.inf
                for value in typed
            ]
            expected = np.array(
                [
                    np.inf if e == math.inf and v > 0 else -np.inf if e == math.inf else e
                    for e, v in zip(exact, typed, strict=True)
                ]
            )
            same(got.view(type), expected)


@pytest.mark.parametrize(
    ("mode", "function"), [("rni", np.rint), ("rzi", np.trunc), ("rmi", np.floor), ("rpi", np.ceil)]
)
def test_rounding_to_integral_floats(mode: str, function: Callable[[Any], Any]) -> None:
    a = samples("f32", 100, 10)
    same(run(f"cvt.{mode}.f32.f32 %d, %a;", ["f32"], "f32", [a]), function(a))

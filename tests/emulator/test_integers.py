"""Integer, logic, shift and bit-field instructions against Python's unbounded integers."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.emulator.harness import apply_instruction

BITS = {"u16": 16, "s16": 16, "u32": 32, "s32": 32, "u64": 64, "s64": 64, "b16": 16, "b32": 32, "b64": 64}


def samples(type: str, count: int, seed: int) -> np.ndarray:
    """Edge values and random ones of all magnitudes, as Python integers."""
    bits = BITS[type]
    random = np.random.default_rng(seed)
    edges = [
        0,
        1,
        2,
        3,
        31,
        32,
        33,
        (1 << bits - 1) - 1,
        1 << bits - 1,
        (1 << bits) - 1,
        (1 << bits) - 2,
        0x1234,
    ]
    values = [
        int(random.integers(0, 1 << 63)) >> int(random.integers(0, 62)) for _ in range(count - len(edges))
    ]
    return np.array([value & ((1 << bits) - 1) for value in (*edges, *values)], dtype=f"u{bits // 8}")


def signed(value: int, type: str) -> int:
    bits = BITS[type]
    value &= (1 << bits) - 1
    return value - (1 << bits) if type[0] == "s" and value >> (bits - 1) else value


def check(body: str, inputs: list[str], output: str, reference: Callable[..., int]) -> None:
    """Compare on all pairs of edges and on random operands."""
    columns = [samples(type, 60, index) for index, type in enumerate(inputs)]
    if len(columns) > 1:
        grid = list(itertools.product(*(column[:12] for column in columns[:2])))
        extra = [np.resize(column, len(grid)) for column in columns[2:]]
        grids = [np.array([row[i] for row in grid], dtype=columns[i].dtype) for i in range(2)] + extra
        columns = [np.concatenate(pair) for pair in zip(grids, columns, strict=True)]
    got = apply_instruction(
        body, inputs, output, columns, f"u{BITS.get(output, 32) // 8}" if output != "pred" else "u4"
    )
    for row, answer in zip(zip(*columns, strict=True), got, strict=True):
        operands = [signed(int(value), type) for value, type in zip(row, inputs, strict=True)]
        expected = reference(*operands)
        if expected is None:
            continue
        if output != "pred":
            expected &= (1 << BITS[output]) - 1
        assert int(answer) == expected, (body, operands, int(answer), expected)


def _truncated(a: int, b: int) -> int | None:
    if b == 0:
        return None
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


BINARY: dict[str, Callable[[int, int], int | None]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul.lo": lambda a, b: a * b,
    "min": min,
    "max": max,
    "div": _truncated,
    "rem": lambda a, b: None if b == 0 else a - b * (_truncated(a, b) or 0),
}


@pytest.mark.parametrize("type", ["u16", "s16", "u32", "s32", "u64", "s64"])
@pytest.mark.parametrize("name", [*BINARY, "mul.hi"])
def test_binary(name: str, type: str) -> None:
    reference = BINARY.get(name) or (lambda a, b: (a * b) >> BITS[type])
    check(f"{name}.{type} %d, %a, %b;", [type, type], type, reference)


@pytest.mark.parametrize("type", ["u16", "s16", "u32", "s32"])
def test_wide_products(type: str) -> None:
    wide = type[0] + str(2 * BITS[type])
    check(f"mul.wide.{type} %d, %a, %b;", [type, type], wide, lambda a, b: a * b)
    check(f"mad.wide.{type} %d, %a, %b, %c;", [type, type, wide], wide, lambda a, b, c: a * b + c)


@pytest.mark.parametrize("type", ["u32", "s32", "u64", "s64"])
def test_three_operands(type: str) -> None:
    check(f"mad.lo.{type} %d, %a, %b, %c;", [type] * 3, type, lambda a, b, c: a * b + c)
    check(f"mad.hi.{type} %d, %a, %b, %c;", [type] * 3, type, lambda a, b, c: ((a * b) >> BITS[type]) + c)
    check(f"sad.{type} %d, %a, %b, %c;", [type] * 3, type, lambda a, b, c: abs(a - b) + c)


@pytest.mark.parametrize("type", ["s16", "s32", "s64"])
def test_sign(type: str) -> None:
    check(f"abs.{type} %d, %a;", [type], type, abs)
    check(f"neg.{type} %d, %a;", [type], type, lambda a: -a)


def test_saturating_addition() -> None:
    def clamp(value: int) -> int:
        return max(-(1 << 31), min((1 << 31) - 1, value))

    check("add.sat.s32 %d, %a, %b;", ["s32", "s32"], "s32", lambda a, b: clamp(a + b))
    check("sub.sat.s32 %d, %a, %b;", ["s32", "s32"], "s32", lambda a, b: clamp(a - b))


def test_24_bit_products() -> None:
    def low(value: int) -> int:
        return value & 0xFFFFFF

    check("mul24.lo.u32 %d, %a, %b;", ["u32", "u32"], "u32", lambda a, b: low(a) * low(b))
    check("mul24.hi.u32 %d, %a, %b;", ["u32", "u32"], "u32", lambda a, b: low(a) * low(b) >> 16)
    check("mad24.lo.u32 %d, %a, %b, %c;", ["u32"] * 3, "u32", lambda a, b, c: low(a) * low(b) + c)


def test_carry_chains() -> None:
    body = """.reg .b32 %r<9>; mov.b64 {%r0, %r1}, %a; mov.b64 {%r2, %r3}, %b;
    OP.cc.u32 %r4, %r0, %r2; OPc.u32 %r5, %r1, %r3; mov.b64 %d, {%r4, %r5};"""
    check(body.replace("OP", "add"), ["u64", "u64"], "u64", lambda a, b: a + b)
    check(body.replace("OP", "sub"), ["u64", "u64"], "u64", lambda a, b: a - b)
    body = """.reg .b32 %r<9>; mad.lo.cc.u32 %r0, %a, %b, 7; madc.hi.u32 %r1, %a, %b, 0; mov.b64 %d, {%r0, %r1};"""
    check(body, ["u32", "u32"], "u64", lambda a, b: a * b + 7)


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_logic(bits: int) -> None:
    type = f"b{bits}"
    check(f"and.{type} %d, %a, %b;", [type, type], type, lambda a, b: a & b)
    check(f"or.{type} %d, %a, %b;", [type, type], type, lambda a, b: a | b)
    check(f"xor.{type} %d, %a, %b;", [type, type], type, lambda a, b: a ^ b)
    check(f"not.{type} %d, %a;", [type], type, lambda a: ~a)
    check(f"cnot.{type} %d, %a;", [type], type, lambda a: a == 0)


@pytest.mark.parametrize("type", ["u16", "s16", "u32", "s32", "u64", "s64"])
def test_shifts(type: str) -> None:
    bits = BITS[type]
    check(f"shl.b{bits} %d, %a, %b;", [type, "u32"], type, lambda a, b: a << min(b, bits))
    check(f"shr.{type} %d, %a, %b;", [type, "u32"], type, lambda a, b: a >> min(b, bits))


def test_funnel_shifts() -> None:
    def left(a: int, b: int, n: int) -> int:
        return ((b << 32 | a) << n) >> 32

    def right(a: int, b: int, n: int) -> int:
        return (b << 32 | a) >> n

    for way, function in (("l", left), ("r", right)):
        check(
            f"shf.{way}.wrap.b32 %d, %a, %b, %c;",
            ["u32"] * 3,
            "u32",
            lambda a, b, c, f=function: f(a, b, c & 31),
        )
        check(
            f"shf.{way}.clamp.b32 %d, %a, %b, %c;",
            ["u32"] * 3,
            "u32",
            lambda a, b, c, f=function: f(a, b, min(c, 32)),
        )


@pytest.mark.parametrize("bits", [32, 64])
def test_bit_counts(bits: int) -> None:
    type = f"u{bits}"
    check(f"popc.b{bits} %d, %a;", [type], "u32", lambda a: bin(a).count("1"))
    check(f"clz.b{bits} %d, %a;", [type], "u32", lambda a: bits - a.bit_length())
    check(f"brev.b{bits} %d, %a;", [type], type, lambda a: int(f"{a:0{bits}b}"[::-1], 2))
    check(f"bfind.{type} %d, %a;", [type], "u32", lambda a: a.bit_length() - 1)
    check(f"bfind.shiftamt.{type} %d, %a;", [type], "u32", lambda a: bits - a.bit_length() if a else -1)
    check(f"bfind.s{bits} %d, %a;", [f"s{bits}"], "u32", lambda a: (a if a >= 0 else ~a).bit_length() - 1)


@pytest.mark.parametrize("type", ["u32", "s32", "u64", "s64"])
def test_bit_field_extract(type: str) -> None:
    """The pseudo-code of the PTX manual, bit by bit."""
    bits = BITS[type]

    def reference(a: int, start: int, length: int) -> int:
        start, length = start & 255, length & 255
        a &= (1 << bits) - 1
        top = min(start + length - 1, bits - 1)
        sign = 0 if type[0] == "u" or length == 0 else a >> top & 1
        result = 0
        for i in range(bits):
            result |= (a >> (start + i) & 1 if i < length and start + i < bits else sign) << i
        return result

    check(f"bfe.{type} %d, %a, %b, %c;", [type, "u32", "u32"], type, reference)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 70), st.integers(0, 70))
@settings(max_examples=40, deadline=None)
def test_bit_field_insert(field: int, base: int, start: int, length: int) -> None:
    expected = base
    for i in range(length):
        if start + i < 32:
            expected = expected & ~(1 << (start + i)) | (field >> i & 1 if i < 32 else 0) << (start + i)
    body = ".reg .b32 %s, %l; shr.u32 %s, %c, 8; and.b32 %l, %c, 255; bfi.b32 %d, %a, %b, %s, %l;"
    arrays = [np.array([value], "u4") for value in (field, base, start << 8 | length)]
    assert apply_instruction(body, ["u32"] * 3, "u32", arrays, "u4")[0] == expected


def _permuted(a: int, b: int, selector: int) -> int:
    data = (b << 32 | a).to_bytes(8, "little")
    result = 0
    for i in range(4):
        nibble = selector >> 4 * i & 15
        byte = data[nibble & 7]
        result |= (0xFF * (byte >> 7) if nibble & 8 else byte) << 8 * i
    return result


def test_byte_permutation() -> None:
    check("prmt.b32 %d, %a, %b, %c;", ["u32"] * 3, "u32", _permuted)
    check("prmt.b32 %d, %a, %b, 0x7773U;", ["u32"] * 2, "u32", lambda a, b: _permuted(a, b, 0x7773))
    check("prmt.b32 %d, %a, %b, 0xBA98;", ["u32"] * 2, "u32", lambda a, b: _permuted(a, b, 0xBA98))
    rows = {
        "f4e": (0x3210, 0x4321, 0x5432, 0x6543),
        "rc8": (0, 0x1111, 0x2222, 0x3333),
        "rc16": (0x1010, 0x3232) * 2,
    }
    for mode, row in rows.items():
        check(
            f"prmt.b32.{mode} %d, %a, %b, %c;",
            ["u32"] * 3,
            "u32",
            lambda a, b, c, r=row: _permuted(a, b, r[c & 3]),
        )


@pytest.mark.parametrize("table", [0, 0x80, 0xE8, 0x96, 0xCA, 0xFF, 0x1D])
def test_three_input_logic(table: int) -> None:
    def reference(a: int, b: int, c: int) -> int:
        return sum(
            (table >> ((a >> i & 1) * 4 + (b >> i & 1) * 2 + (c >> i & 1)) & 1) << i for i in range(32)
        )

    check(f"lop3.b32 %d, %a, %b, %c, {table};", ["u32"] * 3, "u32", reference)


def test_packed_dot_products() -> None:
    def parts(value: int, width: int, type: str) -> list[int]:
        sign = 1 << (width - 1)
        raw = [value >> width * i & ((1 << width) - 1) for i in range(32 // width)]
        return [(part ^ sign) - sign for part in raw] if type[0] == "s" else raw

    for left, right in itertools.product(("s32", "u32"), repeat=2):
        check(
            f"dp4a.{left}.{right} %d, %a, %b, %c;", ["u32"] * 3, "u32",
            lambda a, b, c, x=left, y=right: c
            + sum(p * q for p, q in zip(parts(a, 8, x), parts(b, 8, y), strict=True)),
        )  # fmt: skip
    check(
        "dp2a.hi.s32.u32 %d, %a, %b, %c;", ["u32"] * 3, "u32",
        lambda a, b, c: c + sum(p * q for p, q in zip(parts(a, 16, "s32"), parts(b, 8, "u32")[2:], strict=True)),
    )  # fmt: skip


@pytest.mark.parametrize("type", ["u16", "s16", "u32", "s32", "u64", "s64"])
def test_comparisons(type: str) -> None:
    names = {"eq": "__eq__", "ne": "__ne__", "lt": "__lt__", "le": "__le__", "gt": "__gt__", "ge": "__ge__"}
    for name, method in names.items():
        check(
            f"setp.{name}.{type} %d, %a, %b;", [type, type], "pred", lambda a, b, m=method: getattr(a, m)(b)
        )
    unsigned = "u" + type[1:]
    check(f"setp.hi.{unsigned} %d, %a, %b;", [unsigned, unsigned], "pred", lambda a, b: a > b)


def test_compound_comparisons_and_selections() -> None:
    body = "setp.lt.s32 %q, %a, 5; setp.gt.and.s32 %d|%p, %b, 3, %q;"
    check(body, ["s32", "s32"], "pred", lambda a, b: b > 3 and a < 5)
    check(body + "mov.pred %d, %p;", ["s32", "s32"], "pred", lambda a, b: not b > 3 and a < 5)
    check(
        "setp.lt.s32 %q, %a, %b; setp.ne.xor.s32 %d, %a, 1, !%q;",
        ["s32", "s32"],
        "pred",
        lambda a, b: (a != 1) ^ (a >= b),
    )
    check("setp.lt.s32 %p, %a, %b; selp.b32 %d, %a, %b, %p;", ["s32", "s32"], "s32", min)
    check("slct.s32.s32 %d, %a, %b, %c;", ["s32"] * 3, "s32", lambda a, b, c: a if c >= 0 else b)
    check("set.lt.u32.s32 %d, %a, %b;", ["s32", "s32"], "u32", lambda a, b: -(a < b))
    body = "setp.lt.s32 %p, %a, 0; setp.lt.s32 %q, %b, 0; xor.pred %d, %p, %q; not.pred %d, %d;"
    check(body, ["s32", "s32"], "pred", lambda a, b: (a < 0) == (b < 0))


def test_guards() -> None:
    body = "setp.lt.s32 %p, %a, %b; mov.b32 %d, 1; @%p add.s32 %d, %a, 7; @!%p sub.s32 %d, %d, %b;"
    check(body, ["s32", "s32"], "s32", lambda a, b: a + 7 if a < b else 1 - b)
    body = "setp.lt.s32 %p, %a, %b; mov.b32 %d, 1; @%p ld.param.b32 %d, [p0+4]; @!%p bra OUT; and.b32 %d, %d, 0; OUT:"
    check(body, ["s32", "s32"], "s32", lambda a, b: 0 if a < b else 1)


def test_moves_between_widths() -> None:
    check(
        ".reg .b16 %x<2>; mov.b32 {%x0, %x1}, %a; mov.b32 %d, {%x1, %x0};",
        ["u32"],
        "u32",
        lambda a: a >> 16 | a << 16,
    )
    check(
        ".reg .b32 %x<2>; mov.b64 {_, %x1}, %a; mov.b64 %d, {%x1, %x1};",
        ["u64"],
        "u64",
        lambda a: (a >> 32) * (2**32 + 1),
    )
    body = ".reg .b16 %x<4>; mov.b64 {%x0, %x1, %x2, %x3}, %a; mov.b64 %d, {%x3, %x2, %x1, %x0};"
    check(
        body,
        ["u64"],
        "u64",
        lambda a: int.from_bytes(
            b"".join(a.to_bytes(8, "little")[i : i + 2] for i in (6, 4, 2, 0)), "little"
        ),
    )


WIDTHS = ["u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64"]


@pytest.mark.parametrize("source", WIDTHS[2:])
def test_integer_conversions(source: str) -> None:
    for target in WIDTHS:
        bits = int(target[1:])
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if target[0] == "s" else (0, (1 << bits) - 1)
        register = target if bits > 8 else target[0] + "16"

        def wrapped(a: int, bits: int = bits, target: str = target) -> int:
            a &= (1 << bits) - 1
            return a - (1 << bits) if target[0] == "s" and a >> bits - 1 else a

        check(f"cvt.{target}.{source} %d, %a;", [source], register, wrapped)
        check(
            f"cvt.sat.{target}.{source} %d, %a;",
            [source],
            register,
            lambda a, lo=low, hi=high: max(lo, min(hi, a)),
        )


def test_saturating_packs() -> None:
    def byte(value: int) -> int:
        return max(-128, min(127, value)) & 255

    check("cvt.pack.sat.s8.s32.b32 %d, %a, %b, %c;", ["s32", "s32", "u32"], "u32",
          lambda a, b, c: c << 16 | byte(a) << 8 | byte(b))  # fmt: skip


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
@settings(max_examples=60, deadline=None)
def test_high_products_of_64_bits(a: int, b: int) -> None:
    arrays = [np.array([a], "u8"), np.array([b], "u8")]
    assert apply_instruction("mul.hi.u64 %d, %a, %b;", ["u64", "u64"], "u64", arrays, "u8")[0] == a * b >> 64
    p, q = signed(a, "s64"), signed(b, "s64")
    assert (
        apply_instruction("mul.hi.s64 %d, %a, %b;", ["s64", "s64"], "s64", arrays, "u8")[0]
        == (p * q >> 64) % 2**64
    )


@pytest.mark.parametrize("type", ["s16x2", "u16x2"])
@pytest.mark.parametrize("operation", ["add", "min", "max"])
def test_packed_halves(operation: str, type: str) -> None:
    """Each half for itself: nothing carries over."""
    halves = np.random.default_rng(0).integers(-(2**15), 2**15, (2, 64)).astype("i2" if type[0] == "s" else "u2")
    a, b = halves
    numpy_operation = {"add": np.add, "min": np.minimum, "max": np.maximum}[operation]
    body = f"{operation}.{type} %d, %a, %b;"
    got = apply_instruction(body, ["u32", "u32"], "u32", [a.view("u4"), b.view("u4")], "u4")
    np.testing.assert_array_equal(np.ascontiguousarray(got).view(a.dtype), numpy_operation(a, b))

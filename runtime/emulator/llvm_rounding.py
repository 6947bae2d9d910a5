"""Roundings of the fast engine: directed modes, narrowing to halves and tf32, float to integer.

In: a `Code`, a PTX type, a value. Out: a value. Why: the rules about NaN, infinity, saturation and ties are the same
as in `numpy_rounding.py`, bit for bit.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from .llvm_avx512 import directed as at_once_directed
from .llvm_values import BITS, ELEMENTS, Code, Value

_INTEGRAL = {"rni": "rint", "rzi": "trunc", "rmi": "floor", "rpi": "ceil"}


def _step(code: Code, bits: Value, up: Value, down: Value) -> Value:
    """The neighbour of a sign-magnitude pattern where `up` or `down` (never both) holds."""
    element = bits.element
    one, zero = code.integer(element, 1), code.integer(element, 0)
    top = code.integer(element, 1 << (BITS[element] - 1))
    negative = code.compare("icmp slt", bits, zero)
    magnitude = code.binary("and", bits, code.binary("xor", top, code.integer(element, -1)))
    is_zero = code.compare("icmp eq", magnitude, zero)
    grown, shrunk = code.binary("add", bits, one), code.binary("sub", bits, one)
    upwards = code.select(is_zero, one, code.select(negative, shrunk, grown))
    downwards = code.select(is_zero, code.binary("or", top, one), code.select(negative, grown, shrunk))
    return code.select(up, upwards, code.select(down, downwards, bits))


def _corrected(code: Code, mode: str, bits: Value, wide: Value, exact: Value) -> Value:
    """`bits` is the pattern nearest to `exact`, `wide` its value; move it where it lies on the wrong side."""
    zero = code.real(wide.element, 0.0)
    above, below = code.compare("fcmp ogt", wide, exact), code.compare("fcmp olt", wide, exact)
    if mode == "rm":
        return _step(code, bits, code.compare("fcmp ogt", zero, zero), above)
    if mode == "rp":
        return _step(code, bits, below, code.compare("fcmp ogt", zero, zero))
    positive = code.compare("fcmp ogt", exact, zero)
    negative = code.compare("fcmp olt", exact, zero)
    return _step(code, bits, code.binary("and", below, negative), code.binary("and", above, positive))


def f64_to_f32_directed(mode: str, code: Code, type: str, value: Value) -> Value:
    """f64 to f32 towards zero (rz), down (rm) or up (rp)."""
    narrow = code.cast("fptrunc", value, "float")
    wide = code.cast("fpext", narrow, "double")
    return code.cast("bitcast", _corrected(code, mode, code.bits(narrow), wide, value), "float")


def directed(operation: str, mode: str, code: Code, type: str, *values: Value) -> Value:
    """Arithmetic of f32 values in a directed mode: in one instruction, or in f64 and then rounded."""
    at_once = at_once_directed(code, operation, mode, values)
    if at_once is not None:
        return at_once
    wide = [code.cast("fpext", value, "double") for value in values]
    if operation in ("add", "sub", "fma"):
        if operation == "sub":
            wide[1] = code.emit(f"fneg {wide[1].typed}", "double", wide[1].wide)
        first = code.binary("fmul", wide[0], wide[1]) if operation == "fma" else wide[0]
        return _directed_sum(mode, code, first, wide[-1])
    if operation == "sqrt":
        exact = code.intrinsic(operation, "double", *wide)
    else:
        left = code.real("double", 1.0) if operation == "rcp" else wide[0]
        opcode = "fdiv" if operation == "rcp" else "f" + operation
        exact = code.binary(opcode, left, wide[-1])
    return f64_to_f32_directed(mode, code, "f64", exact)


def _directed_sum(mode: str, code: Code, x: Value, y: Value) -> Value:
    """x + y of f64 to f32 in a directed mode, rounded once: the sum in f64 is rounded to odd, so that it is on the same
    side of every f32 as what it stands for."""
    total = code.binary("fadd", x, y)
    moved = code.binary("fsub", total, x)
    lacking = code.binary("fsub", x, code.binary("fsub", total, moved))
    error = code.binary("fadd", lacking, code.binary("fsub", y, moved))  # exact (Knuth)
    zero, bits = code.real("double", 0.0), code.bits(total)
    even = code.compare("icmp eq", code.binary("and", bits, code.integer("i64", 1)), code.integer("i64", 0))
    inexact = code.binary("and", even, code.compare("fcmp one", error, zero))
    outwards = code.compare("icmp eq", code.compare("fcmp ogt", error, zero), code.compare("fcmp ogt", total, zero))
    step = code.select(outwards, code.integer("i64", 1), code.integer("i64", -1))
    odd = code.select(inexact, code.binary("add", bits, step), bits)
    result = f64_to_f32_directed(mode, code, "f64", code.cast("bitcast", odd, "double"))
    if mode != "rm":
        return result
    signs = code.compare("icmp slt", code.binary("xor", code.bits(x), code.bits(y)), code.integer("i64", 0))
    cancelled = code.binary("and", code.compare("fcmp oeq", total, zero), signs)
    return code.select(cancelled, code.real("float", -0.0), result)


def _round_to_odd(code: Code, value: Value) -> Value:
    """f64 to f32 such that a second, narrower rounding is as good as one."""
    narrow = code.cast("fptrunc", value, "float")
    wide = code.cast("fpext", narrow, "double")
    infinity = code.real("float", float("inf"))
    finite = code.compare("fcmp olt", code.intrinsic("fabs", "float", narrow), infinity)
    inexact = code.binary("and", code.compare("fcmp une", wide, value), finite)
    truncated = _corrected(code, "rz", code.bits(narrow), wide, value)
    odd = code.cast("bitcast", code.binary("or", truncated, code.integer("i32", 1)), "float")
    return code.select(inexact, odd, narrow)


def _canonical_nan(code: Code, bits: Value, source: Value) -> Value:
    """PTX's canonical NaN of a half, 0x7fff, where `source` is NaN."""
    missing = code.compare("fcmp uno", source, source)
    return code.select(missing, code.integer("i16", 0x7FFF), bits)


def to_f16(code: Code, type: str, value: Value) -> Value:
    """f32 or f64 to nearest even, as a b16 pattern."""
    narrow = _round_to_odd(code, value) if value.element == "double" else value
    half = code.cast("fptrunc", narrow, "half")
    return _canonical_nan(code, code.cast("bitcast", half, "i16"), value)


def to_f16_directed(mode: str, code: Code, type: str, value: Value) -> Value:
    """f32 or f64 to a b16 pattern in a directed mode."""
    narrow = _round_to_odd(code, value) if value.element == "double" else value
    half = code.cast("fptrunc", narrow, "half")
    wide = code.cast("fpext", code.cast("fpext", half, "float"), "double")
    exact = code.cast("fpext", value, "double")
    bits = _corrected(code, mode, code.cast("bitcast", half, "i16"), wide, exact)
    return _canonical_nan(code, bits, value)


def to_bf16(code: Code, type: str, value: Value) -> Value:
    """f32 or f64 to nearest even, as a b16 pattern."""
    narrow = _round_to_odd(code, value) if value.element == "double" else value
    bits = code.bits(narrow)
    sixteen = code.integer("i32", 16)
    odd = code.binary("and", code.binary("lshr", bits, sixteen), code.integer("i32", 1))
    biased = code.binary("add", code.binary("add", bits, odd), code.integer("i32", 0x7FFF))
    rounded = code.resize(code.binary("lshr", biased, sixteen), "i16")
    return _canonical_nan(code, rounded, value)


def to_bf16_directed(mode: str, code: Code, type: str, value: Value) -> Value:
    """Truncate the pattern, then step outwards where the mode asks for it."""
    exact = code.cast("fpext", value, "double")
    truncated = code.bits(f64_to_f32_directed("rz", code, "f64", exact))
    sixteen = code.integer("i32", 16)
    kept = code.binary("lshr", truncated, sixteen)
    back = code.cast("fpext", code.cast("bitcast", code.binary("shl", kept, sixteen), "float"), "double")
    result = code.resize(kept, "i16")
    if mode != "rz":
        wrong = code.compare(f"fcmp {'olt' if mode == 'rp' else 'ogt'}", back, exact)
        result = code.binary("add", result, code.resize(wrong, "i16"))
    return _canonical_nan(code, result, value)


def to_tf32(away: bool, code: Code, type: str, value: Value) -> Value:
    """cvt.rna.tf32 (ties away from zero) or cvt.rn.tf32 (to even); infinity and NaN pass."""
    bits = code.bits(value)
    bias = code.integer("i32", 0x1000)
    if not away:
        odd = code.binary("and", code.binary("lshr", bits, code.integer("i32", 13)), code.integer("i32", 1))
        bias = code.binary("add", odd, code.integer("i32", 0xFFF))
    rounded = code.binary("and", code.binary("add", bits, bias), code.integer("i32", 0xFFFFE000))
    infinity = code.real("float", float("inf"))
    finite = code.compare("fcmp olt", code.intrinsic("fabs", "float", value), infinity)
    return code.cast("bitcast", code.select(finite, rounded, bits), "float")


def round_to_integral(mode: str, code: Code, type: str, value: Value) -> Value:
    """To a whole number in the same float type."""
    return code.intrinsic(_INTEGRAL[mode], value.element, value)


def float_to_integer(target: str, mode: str, code: Code, type: str, value: Value) -> Value:
    """Round and clamp to the range of `target`. NaN gives 0, or the top bit where f64 or a 64-bit integer is
    involved."""
    element = ELEMENTS[target]
    width = BITS[element]
    whole = round_to_integral(mode, code, type, value)
    name = "fptosi.sat" if target[0] == "s" else "fptoui.sat"
    result = code.intrinsic(name, element, whole, suffix="." + "{wide}" + element)
    if value.element == "double" or width == 64:
        missing = code.compare("fcmp uno", value, value)
        result = code.select(missing, code.integer(element, 1 << (width - 1)), result)
    return result


def integer_saturating(source: str, target: str, code: Code, type: str, value: Value) -> Value:
    """Integer to a narrower or differently signed integer, clamped."""
    have, want = BITS[value.element], BITS[ELEMENTS[target]]
    from_signed, to_signed = source[0] == "s", target[0] == "s"
    low = -(1 << (want - 1)) if to_signed else 0
    high = (1 << (want - to_signed)) - 1
    if from_signed and low > -(1 << (have - 1)):
        value = code.intrinsic("smax", value.element, value, code.integer(value.element, low))
    if high < (1 << (have - from_signed)) - 1:
        name = "smin" if from_signed else "umin"
        value = code.intrinsic(name, value.element, value, code.integer(value.element, high))
    return code.resize(value, ELEMENTS[target], from_signed)


ROUNDING_OPERATIONS: dict[str, Callable[..., Value]] = {
    "f32_to_f16": to_f16, "f64_to_f16": to_f16, "f32_to_bf16": to_bf16, "f64_to_bf16": to_bf16,
    "f32_to_tf32_rna": partial(to_tf32, True), "f32_to_tf32_rn": partial(to_tf32, False),
    **{f"round_{mode}": partial(round_to_integral, mode) for mode in _INTEGRAL},
    **{f"f64_to_f32_{mode}": partial(f64_to_f32_directed, mode) for mode in ("rz", "rm", "rp")},
    **{f"{name}_{mode}:f32": partial(directed, name, mode) for mode in ("rz", "rm", "rp")
       for name in ("add", "sub", "mul", "div", "fma", "rcp", "sqrt")},
    **{f"{source}_to_f16_{mode}": partial(to_f16_directed, mode)
       for mode in ("rz", "rm", "rp") for source in ("f32", "f64")},
    **{f"{source}_to_bf16_{mode}": partial(to_bf16_directed, mode)
       for mode in ("rz", "rm", "rp") for source in ("f32", "f64")},
}  # fmt: skip
"""By emitter name."""

ROUNDING_PATTERNS: list[tuple[re.Pattern[str], Callable[..., Callable[..., Value]]]] = [
    (re.compile(r"(?:f32|f64)_to_([us]\d+)_(r[nzmp]i)"), partial(partial, float_to_integer)),
    (re.compile(r"([us]\d+)_to_([us]\d+)_saturating"), partial(partial, integer_saturating)),
]

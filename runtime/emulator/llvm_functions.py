"""Elementary functions of the fast engine: ex2, lg2, sin, cos, tanh.

In: a `Code` and a value. Out: a value. Why: the host has no vector instructions for them and calls of a C library per
lane would be slow. ex2 and lg2 are within 1.5 ulp in f32; the others compute in f64 and round once (sin and cos for
arguments below 2^30).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from .llvm_avx512 import remainder, scaled
from .llvm_values import Code, Value

# Least-squares polynomial of 2^x at Chebyshev points of [-1/2, 1/2]; relative error 2e-8.
_EX2_F32 = (
    1.0, 0.6931471824645996, 0.24022650718688965, 0.05550327152013779, 0.00961802527308464, 0.0013400432653725147,
    0.00015469732170458883,
)  # fmt: skip
_LN2 = math.log(2)
# Taylor series: the next term is below 2^-56 of the result on [-1/2, 1/2].
_EX2_F64 = tuple(_LN2**power / math.factorial(power) for power in range(14))
_SINE = tuple((-1) ** power / math.factorial(2 * power + 1) for power in range(8))
_COSINE = tuple((-1) ** power / math.factorial(2 * power) for power in range(8))
_HALF_PI_HIGH, _HALF_PI_LOW = 1.5707963267948966, 6.123233995736766e-17


def _fma(code: Code, a: Value, b: Value, c: Value) -> Value:
    return code.intrinsic("fma", a.element, a, b, c)


def _polynomial(code: Code, x: Value, coefficients: Sequence[float]) -> Value:
    """Horner's rule, lowest coefficient first."""
    result = code.real(x.element, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        result = _fma(code, result, x, code.real(x.element, coefficient))
    return result


def _power_of_two(code: Code, exponent: Value, bias: int, mantissa: int, element: str) -> Value:
    biased = code.binary("add", exponent, code.integer(exponent.element, bias))
    shifted = code.binary("shl", biased, code.integer(exponent.element, mantissa))
    return code.cast("bitcast", shifted, element)


def _clamped(code: Code, value: Value, low: float, high: float) -> Value:
    """NaN becomes `high`."""
    bound = code.real(value.element, high)
    value = code.select(code.compare("fcmp olt", value, bound), value, bound)
    bound = code.real(value.element, low)
    return code.select(code.compare("fcmp ogt", value, bound), value, bound)


def exponential(code: Code, type: str, value: Value) -> Value:
    """2^value. The power of two is applied in two steps, so that subnormal results are right."""
    double = value.element == "double"
    integer = "i64" if double else "i32"
    bias, mantissa = (1023, 52) if double else (127, 23)
    if not double and code.avx512:
        fraction = remainder(code, value)
        return scaled(code, _polynomial(code, fraction, _EX2_F32), code.binary("fsub", value, fraction))
    x = _clamped(code, value, -1100.0 if double else -151.0, 1025.0 if double else 129.0)
    whole = code.intrinsic("rint", value.element, x)
    fraction = code.binary("fsub", x, whole)
    result = _polynomial(code, fraction, _EX2_F64 if double else _EX2_F32)
    exponent = code.cast("fptosi", whole, integer)
    first = code.binary("ashr", exponent, code.integer(integer, 1))
    second = code.binary("sub", exponent, first)
    for part in (first, second):
        result = code.binary("fmul", result, _power_of_two(code, part, bias, mantissa, value.element))
    return code.select(code.compare("fcmp uno", value, value), value, result)


_SQRT_HALF = 0x3F3504F3
_LOGARITHM = tuple(2 / _LN2 / odd for odd in (1, 3, 5, 7, 9))


def logarithm(code: Code, type: str, value: Value) -> Value:
    """log2 of an f32 (an f64 goes through it too): the exponent, plus 2/ln 2 * artanh((m - 1) / (m + 1))."""
    if value.element == "double":
        return _logarithm_f64(code, value)
    real, integer = code.real, code.integer
    tiny = code.compare("fcmp olt", value, real("float", 2.0**-126))
    scaled = code.select(tiny, code.binary("fmul", value, real("float", 2.0**23)), value)
    bits = code.cast("bitcast", scaled, "i32")
    offset = code.binary("sub", bits, integer("i32", _SQRT_HALF))
    exponent = code.binary("ashr", offset, integer("i32", 23))
    mantissa = code.cast("bitcast", code.binary("sub", bits, code.binary("shl", exponent, integer("i32", 23))), "float")
    correction = code.select(tiny, integer("i32", -23), integer("i32", 0))
    whole = code.cast("sitofp", code.binary("add", exponent, correction), "float")
    one = real("float", 1.0)
    # In f64 from here: near 1 the quotient's rounding would be the largest error.
    m = code.cast("fpext", mantissa, "double")
    wide_one = real("double", 1.0)
    ratio = code.binary("fdiv", code.binary("fsub", m, wide_one), code.binary("fadd", m, wide_one))
    series = _polynomial(code, code.binary("fmul", ratio, ratio), _LOGARITHM)
    total = _fma(code, series, ratio, code.cast("fpext", whole, "double"))
    result = code.cast("fptrunc", total, "float")
    infinity = real("float", math.inf)
    result = code.select(code.compare("fcmp oeq", value, infinity), infinity, result)
    result = code.select(code.compare("fcmp oeq", value, real("float", 0.0)), real("float", -math.inf), result)
    del one
    return code.select(code.compare("fcmp ult", value, real("float", 0.0)), real("float", math.nan), result)


def _logarithm_f64(code: Code, value: Value) -> Value:
    narrow = logarithm(code, "f32", code.cast("fptrunc", value, "float"))
    return code.cast("fpext", narrow, "double")


def _in_double(function: Callable[[Code, Value], Value]) -> Callable[[Code, str, Value], Value]:
    def compute(code: Code, type: str, value: Value) -> Value:
        result = function(code, code.cast("fpext", value, "double"))
        return code.cast("fptrunc", result, value.element)

    return compute


def _circular(shift: int) -> Callable[[Code, Value], Value]:
    """sin (shift 0) or cos (shift 1): reduced by multiples of pi/2, then one of two series."""

    def compute(code: Code, x: Value) -> Value:
        real, integer = code.real, code.integer
        turns = code.intrinsic("rint", "double", code.binary("fmul", x, real("double", 2 / math.pi)))
        reduced = _fma(code, turns, real("double", -_HALF_PI_HIGH), x)
        reduced = _fma(code, turns, real("double", -_HALF_PI_LOW), reduced)
        square = code.binary("fmul", reduced, reduced)
        sine = code.binary("fmul", reduced, _polynomial(code, square, _SINE))
        cosine = _polynomial(code, square, _COSINE)
        quadrant = code.emit(f"freeze {code.cast('fptosi', turns, 'i64').typed}", "i64", turns.wide)
        quadrant = code.binary("add", quadrant, integer("i64", shift))
        odd = code.compare("icmp ne", code.binary("and", quadrant, integer("i64", 1)), integer("i64", 0))
        negative = code.compare("icmp ne", code.binary("and", quadrant, integer("i64", 2)), integer("i64", 0))
        picked = code.select(odd, cosine, sine)
        return code.select(negative, code.emit(f"fneg {picked.typed}", "double", picked.wide), picked)

    return compute


def _hyperbolic_tangent(code: Code, x: Value) -> Value:
    """(t - 1) / (t + 1) with t = e^2x; near zero, where that cancels, x - x^3/3."""
    one = code.real("double", 1.0)
    limited = _clamped(code, x, -24.0, 24.0)
    t = exponential(code, "f64", code.binary("fmul", limited, code.real("double", 2 / _LN2)))
    large = code.binary("fdiv", code.binary("fsub", t, one), code.binary("fadd", t, one))
    square = code.binary("fmul", x, x)
    small = _fma(code, code.binary("fmul", square, x), code.real("double", -1 / 3), x)
    near = code.compare("fcmp olt", square, code.real("double", 2.0**-24))
    result = code.select(near, small, large)
    return code.select(code.compare("fcmp uno", x, x), x, result)


FUNCTIONS: dict[str, Callable[[Code, str, Value], Value]] = {
    "ex2": exponential, "lg2": logarithm, "sin": _in_double(_circular(0)), "cos": _in_double(_circular(1)),
    "tanh": _in_double(_hyperbolic_tangent),
}  # fmt: skip
"""By emitter name."""

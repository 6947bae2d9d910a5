"""Pure per-lane operations of the fast engine, by their emitter names.

In: a `Code`, a PTX type, values. Out: values. Why: the emitter API speaks of operations; this table says what each is
in LLVM IR, with PTX's rules where they differ (shift counts, division by zero, NaN).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from .llvm_functions import FUNCTIONS
from .llvm_integers import INTEGER_OPERATIONS, INTEGER_PATTERNS
from .llvm_rounding import ROUNDING_OPERATIONS, ROUNDING_PATTERNS
from .llvm_small_floats import SMALL_FLOAT_PATTERNS
from .llvm_values import BITS, ELEMENTS, Code, Value
from .memory import LOCAL_WINDOW, PARAMETER_WINDOW, RANK_SHIFT, SHARED_WINDOW, WINDOW_BYTES

Operation = Callable[..., Value]
"""(code, PTX type, *values) -> value."""

_FLOATS = ("f32", "f64", "tf32")


def is_signed(type: str) -> bool:
    """Whether a PTX type is a signed integer."""
    return type[0] == "s"


def apply(code: Code, operation: str, type: str, values: tuple[Value, ...]) -> Value:
    """The result of one operation. Raises KeyError when the engine lacks it."""
    for key in (f"{operation}:{type}", operation):
        found = _TABLE.get(key)
        if found is not None:
            return found(code, type, *values)
    for pattern, build in _PATTERNS:
        match = pattern.fullmatch(operation)
        if match:
            return build(*match.groups())(code, type, *values)
    raise KeyError(f"{operation} on {type}")


def convert(code: Code, source: str, target: str, value: Value) -> Value:
    """Numeric conversion: integers wrap or extend, floats round to nearest even."""
    have, want = ELEMENTS[source], ELEMENTS[target]
    if have == want:
        return value
    source_float, target_float = source in _FLOATS, target in _FLOATS
    if source_float and target_float:
        return code.cast("fpext" if BITS[want] > BITS[have] else "fptrunc", value, want)
    if target_float:
        return code.cast("sitofp" if is_signed(source) else "uitofp", value, want)
    return code.resize(value, want, is_signed(source))


def _arithmetic(integer: str, real: str) -> Operation:
    def compute(code: Code, type: str, a: Value, b: Value) -> Value:
        return code.binary(real if type in _FLOATS else integer, a, b)

    return compute


def _comparison(name: str) -> Operation:
    def compute(code: Code, type: str, a: Value, b: Value) -> Value:
        if type in _FLOATS:
            return code.compare(f"fcmp {'une' if name == 'ne' else 'o' + name}", a, b)
        if name in ("eq", "ne"):
            return code.compare(f"icmp {name}", a, b)
        return code.compare(f"icmp {'s' if is_signed(type) else 'u'}{name}", a, b)

    return compute


def _float_comparison(predicate: str) -> Operation:
    return lambda code, type, a, b: code.compare(f"fcmp {predicate}", a, b)


def _logical_not(code: Code, type: str, value: Value) -> Value:
    return code.binary("xor", value, code.integer(value.element, -1))


def _select(code: Code, type: str, predicate: Value, yes: Value, no: Value) -> Value:
    return code.select(predicate, yes, no)


def _extreme(name: str) -> Operation:
    """min and max; of floats a number wins over NaN."""

    def compute(code: Code, type: str, a: Value, b: Value) -> Value:
        if type in _FLOATS:
            return code.intrinsic(f"{name}num", a.element, *code.unify(a, b))
        return code.intrinsic(("s" if is_signed(type) else "u") + name, a.element, a, b)

    return compute


def _extreme_nan(predicate: str) -> Operation:
    """min and max where NaN wins."""

    def compute(code: Code, type: str, a: Value, b: Value) -> Value:
        if b.is_literal:
            # One instruction of the host: a comparison with NaN is false and gives a.
            return code.select(code.compare(f"fcmp {predicate}", b, a), b, a)
        picked = code.select(code.compare(f"fcmp {predicate}", a, b), a, b)
        return code.select(code.compare("fcmp uno", a, a), a, picked)

    return compute


def _negate(code: Code, type: str, value: Value) -> Value:
    if type in _FLOATS:
        return code.emit(f"fneg {value.typed}", value.element, value.wide)
    return code.binary("sub", code.integer(value.element, 0), value)


def _absolute(code: Code, type: str, value: Value) -> Value:
    if type in _FLOATS:
        return code.intrinsic("fabs", value.element, value)
    return code.intrinsic("abs", value.element, value, flags="i1 false")


def _fused(code: Code, type: str, a: Value, b: Value, c: Value) -> Value:
    return code.intrinsic("fma", a.element, a, b, c)


def _unary(name: str) -> Operation:
    return lambda code, type, value: code.intrinsic(name, value.element, value)


def _copy_sign(code: Code, type: str, magnitude: Value, sign: Value) -> Value:
    return code.intrinsic("copysign", magnitude.element, magnitude, sign)


def _classify(predicate: str, limit: str) -> Operation:
    """|value| compared with infinity (`inf`) or the smallest normal number (`tiny`)."""

    def compute(code: Code, type: str, value: Value) -> Value:
        number = {"inf": float("inf"), "tiny": 2.0**-126 if type == "f32" else 2.0**-1022}[limit]
        magnitude = code.intrinsic("fabs", value.element, value)
        return code.compare(f"fcmp {predicate}", magnitude, code.real(value.element, number))

    return compute


def _both(first: Operation, second: Operation) -> Operation:
    return lambda code, type, value: code.binary("and", first(code, type, value), second(code, type, value))


def _nonzero(code: Code, type: str, value: Value) -> Value:
    return code.compare("fcmp une", value, code.real(value.element, 0.0))


def _ordered_self(predicate: str) -> Operation:
    return lambda code, type, value: code.compare(f"fcmp {predicate}", value, value)


def _flush(code: Code, type: str, value: Value) -> Value:
    """Subnormal f32 to zero of the same sign."""
    small = code.compare("fcmp olt", code.intrinsic("fabs", "float", value), code.real("float", 2.0**-126))
    sign = code.binary("and", code.bits(value), code.integer("i32", 0x80000000))
    return code.select(small, code.cast("bitcast", sign, "float"), value)


def _saturate(code: Code, type: str, value: Value) -> Value:
    """To [0, 1]; NaN to 0."""
    zero, one = code.real(value.element, 0.0), code.real(value.element, 1.0)
    value = code.select(code.compare("fcmp ogt", value, zero), value, zero)
    return code.select(code.compare("fcmp olt", value, one), value, one)


def _half_to_f32(code: Code, type: str, value: Value) -> Value:
    return code.cast("fpext", code.cast("bitcast", value, "half"), "float")


def _bf16_to_f32(code: Code, type: str, value: Value) -> Value:
    wide = code.binary("shl", code.resize(value, "i32"), code.integer("i32", 16))
    return code.cast("bitcast", wide, "float")


def _low_half(code: Code, type: str, value: Value) -> Value:
    return code.resize(value, "i16")


def _high_half(code: Code, type: str, value: Value) -> Value:
    return code.resize(code.binary("lshr", value, code.integer("i32", 16)), "i16")


def _pack_halves(code: Code, type: str, low: Value, high: Value) -> Value:
    upper = code.binary("shl", code.resize(high, "i32"), code.integer("i32", 16))
    return code.binary("or", code.resize(low, "i32"), upper)


def _window(opcode: str, window: int) -> Operation:
    return lambda code, type, value: code.binary(opcode, value, code.integer("i64", window))


def _is_in_window(window: int, size: int) -> Operation:
    def compute(code: Code, type: str, value: Value) -> Value:
        offset = code.binary("sub", value, code.integer("i64", window))
        return code.compare("icmp ult", offset, code.integer("i64", size))

    return compute


def _reinterpret(target: str) -> Operation:
    return lambda code, type, value: code.cast("bitcast", value, ELEMENTS[target])


def _reciprocal(code: Code, type: str, value: Value) -> Value:
    return code.binary("fdiv", code.real(value.element, 1.0), value)


def _reciprocal_square_root(code: Code, type: str, value: Value) -> Value:
    """Computed in f64 for f32."""
    wide = convert(code, type, "f64", value)
    root = code.intrinsic("sqrt", "double", wide)
    result = code.binary("fdiv", code.real("double", 1.0), root)
    return convert(code, "f64", type, result)


def _map_shared_address(code: Code, type: str, address: Value, rank: Value) -> Value:
    """mapa: the same place in the block of `rank` of the cluster."""
    plain = code.binary("and", address, code.integer(address.element, ~(0xFF << RANK_SHIFT)))
    wide = code.resize(rank, address.element)
    named = code.binary("add", wide, code.integer(wide.element, 1))
    return code.binary("or", plain, code.binary("shl", named, code.integer(wide.element, RANK_SHIFT)))


_TABLE: dict[str, Operation] = {
    "add": _arithmetic("add", "fadd"), "sub": _arithmetic("sub", "fsub"), "mul": _arithmetic("mul", "fmul"),
    "div:f32": _arithmetic("", "fdiv"), "div:f64": _arithmetic("", "fdiv"),
    **{name: _arithmetic(name, "") for name in ("and", "or", "xor")}, "not": _logical_not,
    **{name: _comparison(name) for name in ("eq", "ne", "lt", "le", "gt", "ge")},
    **{f"{name}_unordered": _float_comparison(f"u{name}") for name in ("eq", "lt", "le", "gt", "ge")},
    "ne_ordered": _float_comparison("one"), "ordered": _float_comparison("ord"),
    "unordered": _float_comparison("uno"),
    "select": _select, "neg": _negate, "abs": _absolute,
    "minimum": _extreme("min"), "maximum": _extreme("max"),
    "minimum_nan": _extreme_nan("olt"), "maximum_nan": _extreme_nan("ogt"),
    "fma": _fused, "sqrt": _unary("sqrt"), "copysign": _copy_sign,
    "is_finite": _classify("olt", "inf"), "is_infinite": _classify("oeq", "inf"),
    "is_number": _ordered_self("ord"), "is_notanumber": _ordered_self("uno"),
    "is_normal": _both(_classify("olt", "inf"), _classify("oge", "tiny")),
    "is_subnormal": _both(_nonzero, _classify("olt", "tiny")),
    "flush": _flush, "saturate": _saturate, "f16_to_f32": _half_to_f32, "bf16_to_f32": _bf16_to_f32,
    "low_half": _low_half, "high_half": _high_half, "pack_halves": _pack_halves,
    **{f"enter_{name}_window": _window("add", start) for name, start in
       (("shared", SHARED_WINDOW), ("local", LOCAL_WINDOW), ("param", PARAMETER_WINDOW))},
    **{f"leave_{name}_window": _window("sub", start) for name, start in
       (("shared", SHARED_WINDOW), ("local", LOCAL_WINDOW), ("param", PARAMETER_WINDOW))},
    "is_global_address": _is_in_window(0, SHARED_WINDOW),
    **{f"is_{name}_address": _is_in_window(start, WINDOW_BYTES) for name, start in
       (("shared", SHARED_WINDOW), ("local", LOCAL_WINDOW), ("param", PARAMETER_WINDOW))},
    "map_shared_address": _map_shared_address, "rcp": _reciprocal, "rsqrt": _reciprocal_square_root,
    **FUNCTIONS, **INTEGER_OPERATIONS, **ROUNDING_OPERATIONS,
}  # fmt: skip

_PATTERNS: list[tuple[re.Pattern[str], Callable[..., Operation]]] = [
    (re.compile(r"reinterpret_(\w+)"), partial(_reinterpret)),
    *INTEGER_PATTERNS,
    *ROUNDING_PATTERNS,
    *SMALL_FLOAT_PATTERNS,
]

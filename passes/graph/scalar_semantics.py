"""What `arith` and `math` operations mean, on numpy arrays: one table, vectorised over all positions of a map.

In: an operation name, its attributes and operand arrays (signless integers are numpy's signed ones, i1 is
bool). Out: the result array. It exists so that the graph interpreter and constant folding share one
definition of scalar arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from mlir import ir

from ...runtime.dtypes import dtype

Array = np.ndarray[Any, Any]

_ERF: Callable[[Array], Array] = np.frompyfunc(math.erf, 1, 1)
_ERFC: Callable[[Array], Array] = np.frompyfunc(math.erfc, 1, 1)


def scalar_dtype(kind: ir.Type | str) -> np.dtype[Any]:
    """The numpy dtype that stands for a scalar type in a body; `index` is a 64-bit integer."""
    name = str(kind)
    return np.dtype(np.int64) if name == "index" else dtype(name).numpy


def constant_value(operation: ir.Operation) -> Array:
    """The value of an `arith.constant` as a 0-d array."""
    result = operation.results[0].type
    attribute = operation.attributes["value"]
    if isinstance(attribute, ir.FloatAttr):
        return np.asarray(attribute.value).astype(scalar_dtype(result))
    if isinstance(attribute, ir.BoolAttr):
        return np.asarray(bool(attribute.value))
    return _wrap(int(ir.IntegerAttr(attribute).value), scalar_dtype(result))


def _wrap(value: int, kind: np.dtype[Any]) -> Array:
    if kind == np.bool_:
        return np.asarray(bool(value))
    bits = kind.itemsize * 8
    value &= (1 << bits) - 1
    return np.asarray(value - (1 << bits) if value >> (bits - 1) else value, dtype=kind)


def _unsigned(array: Array) -> Array:
    return array if array.dtype == np.bool_ else array.view(array.dtype.str.replace("i", "u"))


def _signed(array: Array, kind: np.dtype[Any]) -> Array:
    return array if array.dtype == kind else array.view(kind)


def _on_unsigned(function: Callable[..., Any]) -> Callable[..., Array]:
    def apply(*arrays: Array) -> Array:
        return _signed(np.asarray(function(*map(_unsigned, arrays))), arrays[0].dtype)

    return apply


def _wide(function: Callable[..., Any]) -> Callable[..., Array]:
    """Narrow floats are computed in f32 and rounded once."""

    def apply(*arrays: Array) -> Array:
        kind = arrays[0].dtype
        if kind.itemsize >= 4:
            return np.asarray(function(*arrays), dtype=kind)
        return np.asarray(function(*(array.astype(np.float32) for array in arrays))).astype(kind)

    return apply


def _divide_signed(left: Array, right: Array) -> Array:
    quotient = left // right
    return np.asarray(quotient + ((left % right != 0) & ((left < 0) != (right < 0))), dtype=left.dtype)


def _integer(function: Callable[[Array, Array], Any], boolean: Callable[[Array, Array], Any]) -> Callable[..., Array]:
    """One-bit integers wrap modulo two: addition is exclusive or, multiplication is and."""

    def apply(left: Array, right: Array) -> Array:
        return np.asarray((boolean if left.dtype == np.bool_ else function)(left, right))

    return apply


def _power_integer(base: Array, exponent: Array) -> Array:
    """Negative exponents give the truncated quotient: 1 for 1, alternating for -1, otherwise 0."""
    positive = np.power(base, np.maximum(exponent, 0))
    odd = np.where(exponent % 2 == 0, 1, -1).astype(base.dtype)
    negative = np.where(base == 1, 1, np.where(base == -1, odd, 0)).astype(base.dtype)
    return np.asarray(np.where(exponent >= 0, positive, negative))


def fuse_multiply_add(a: Array, b: Array, c: Array) -> Array:
    """a * b + c, rounded once (f32: but for sums that lie halfway once they have 53 bits)."""
    wide = np.float64 if a.dtype.itemsize <= 4 else np.longdouble
    return np.asarray(a.astype(wide) * b + c).astype(a.dtype)


_ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "arith.addf": np.add, "arith.subf": np.subtract, "arith.mulf": np.multiply, "arith.divf": np.divide,
    "arith.remf": np.fmod, "arith.negf": np.negative,
    "arith.maximumf": np.maximum, "arith.minimumf": np.minimum,
    "arith.maxnumf": np.fmax, "arith.minnumf": np.fmin,
    "arith.addi": _integer(np.add, np.logical_xor), "arith.subi": _integer(np.subtract, np.logical_xor),
    "arith.muli": _integer(np.multiply, np.logical_and),
    "arith.divsi": _divide_signed, "arith.remsi": np.fmod,
    "arith.divui": _on_unsigned(np.floor_divide), "arith.remui": _on_unsigned(np.remainder),
    "arith.floordivsi": np.floor_divide, "arith.ceildivsi": lambda a, b: -((-a) // b),
    "arith.maxsi": np.maximum, "arith.minsi": np.minimum,
    "arith.maxui": _on_unsigned(np.maximum), "arith.minui": _on_unsigned(np.minimum),
    "arith.andi": np.bitwise_and, "arith.ori": np.bitwise_or, "arith.xori": np.bitwise_xor,
    "arith.shli": np.left_shift, "arith.shrsi": np.right_shift, "arith.shrui": _on_unsigned(np.right_shift),
    "arith.select": np.where,
    "math.exp": _wide(np.exp), "math.exp2": _wide(np.exp2), "math.expm1": _wide(np.expm1),
    "math.log": _wide(np.log), "math.log2": _wide(np.log2), "math.log10": _wide(np.log10),
    "math.log1p": _wide(np.log1p), "math.sqrt": _wide(np.sqrt), "math.rsqrt": _wide(lambda x: 1 / np.sqrt(x)),
    "math.cbrt": _wide(np.cbrt), "math.tanh": _wide(np.tanh), "math.sin": _wide(np.sin),
    "math.cos": _wide(np.cos), "math.tan": _wide(np.tan), "math.asin": _wide(np.arcsin),
    "math.acos": _wide(np.arccos), "math.atan": _wide(np.arctan), "math.sinh": _wide(np.sinh),
    "math.cosh": _wide(np.cosh), "math.asinh": _wide(np.arcsinh), "math.acosh": _wide(np.arccosh),
    "math.atanh": _wide(np.arctanh), "math.atan2": _wide(np.arctan2),
    "math.erf": _wide(lambda x: np.asarray(_ERF(x), np.float64)),
    "math.erfc": _wide(lambda x: np.asarray(_ERFC(x), np.float64)),
    "math.floor": _wide(np.floor), "math.ceil": _wide(np.ceil), "math.roundeven": _wide(np.rint),
    "math.round": _wide(lambda x: np.copysign(np.floor(np.abs(x) + 0.5), x)), "math.trunc": _wide(np.trunc),
    "math.absf": np.abs, "math.absi": np.abs, "math.copysign": np.copysign,
    "math.powf": _wide(np.power), "math.ipowi": _power_integer, "math.fma": fuse_multiply_add,
    "math.isnan": np.isnan, "math.isinf": np.isinf, "math.isfinite": np.isfinite,
}  # fmt: skip

# Predicate numbers are those of MLIR's CmpFPredicate: 1-6 ordered, 8-13 unordered.
_COMPARISONS: tuple[Callable[..., Any], ...] = (
    np.equal, np.greater, np.greater_equal, np.less, np.less_equal, np.not_equal,
)  # fmt: skip
_INTEGER_COMPARISONS: tuple[Callable[..., Any], ...] = (
    np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal,
    np.less, np.less_equal, np.greater, np.greater_equal,
)  # fmt: skip
_FIRST_UNSIGNED_PREDICATE = 6


def _compare_floats(predicate: int, left: Array, right: Array) -> Array:
    unordered = np.isnan(left) | np.isnan(right)
    if predicate in (0, 15):
        return np.full_like(unordered, predicate == 15)
    if predicate in (7, 14):
        return np.asarray(unordered if predicate == 14 else ~unordered)
    result = _COMPARISONS[(predicate - 1) % 7](left, right)
    return np.asarray(result & ~unordered if predicate < 7 else result | unordered)


def _compare_integers(predicate: int, left: Array, right: Array) -> Array:
    if predicate >= _FIRST_UNSIGNED_PREDICATE:
        left, right = _unsigned(left), _unsigned(right)
    elif left.dtype == np.bool_ and predicate > 1:
        left, right = -left.astype(np.int8), -right.astype(np.int8)  # a signed bit is 0 or -1
    return np.asarray(_INTEGER_COMPARISONS[predicate](left, right))


def _convert(name: str, array: Array, target: np.dtype[Any]) -> Array:
    if name in ("arith.extui", "arith.uitofp", "arith.index_castui"):
        return _unsigned(array).astype(target)
    if name in ("arith.extsi", "arith.sitofp") and array.dtype == np.bool_:
        return (-array.astype(np.int8)).astype(target)
    if name == "arith.trunci" and target == np.bool_:
        return (array & 1).astype(np.bool_)
    if name == "arith.fptoui":
        return array.astype(target.str.replace("i", "u")).view(target)
    if name == "arith.bitcast":
        return array.view(target)
    return array.astype(target)


_CONVERSIONS = frozenset(
    {
        "arith.extui",
        "arith.extsi",
        "arith.trunci",
        "arith.extf",
        "arith.truncf",
        "arith.sitofp",
        "arith.uitofp",
        "arith.fptosi",
        "arith.fptoui",
        "arith.bitcast",
        "arith.index_cast",
        "arith.index_castui",
    }
)


def understands(name: str) -> bool:
    """True when `apply_scalar` knows the operation."""
    return name in _ELEMENTWISE or name in _CONVERSIONS or name in ("arith.cmpf", "arith.cmpi", "arith.constant")


def apply_scalar(operation: ir.Operation, operands: list[Array]) -> Array:
    """The result of an `arith`/`math` operation on broadcastable arrays. Raises KeyError for an unknown operation."""
    name = operation.name
    if name == "arith.constant":
        return constant_value(operation)
    if name in _CONVERSIONS:
        return _convert(name, operands[0], scalar_dtype(operation.results[0].type))
    if name == "arith.cmpf":
        return _compare_floats(ir.IntegerAttr(operation.attributes["predicate"]).value, *operands)
    if name == "arith.cmpi":
        return _compare_integers(ir.IntegerAttr(operation.attributes["predicate"]).value, *operands)
    return np.asarray(_ELEMENTWISE[name](*operands))

"""Scalar arithmetic in the bodies of maps, written as ordinary Python expressions.

In: MLIR scalars with their dtype names (`"f32"`, `"ui8"`, `"i1"`). Out: operations of `arith` and `math` at
the current insertion point. It knows what `arith` leaves to its user: signedness, narrow floats computed in
f32, and how ONNX converts between types.
"""

from __future__ import annotations

import math as python_math
from typing import Any, Union

import numpy as np
from mlir import ir
from mlir.dialects import arith, math

from ..runtime.dtypes import DTYPES
from .narrow import decode, encode, is_narrow, is_narrow_float, pattern, representable
from .tensors import scalar_type

ScalarLike = Union["Scalar", int, float, bool]

_BITS = {"i1": 1, "i8": 8, "i16": 16, "i32": 32, "i64": 64, "ui8": 8, "ui16": 16, "ui32": 32, "ui64": 64}
_FLOAT_BITS = {"f16": 16, "bf16": 16, "f32": 32, "f64": 64}
_PREDICATES = {  # name -> (ordered float or unordered for ne, signed integer, unsigned integer)
    "eq": (arith.CmpFPredicate.OEQ, arith.CmpIPredicate.eq, arith.CmpIPredicate.eq),
    "ne": (arith.CmpFPredicate.UNE, arith.CmpIPredicate.ne, arith.CmpIPredicate.ne),
    "lt": (arith.CmpFPredicate.OLT, arith.CmpIPredicate.slt, arith.CmpIPredicate.ult),
    "le": (arith.CmpFPredicate.OLE, arith.CmpIPredicate.sle, arith.CmpIPredicate.ule),
    "gt": (arith.CmpFPredicate.OGT, arith.CmpIPredicate.sgt, arith.CmpIPredicate.ugt),
    "ge": (arith.CmpFPredicate.OGE, arith.CmpIPredicate.sge, arith.CmpIPredicate.uge),
}
_BINARY = {  # name -> (float, signed integer, unsigned integer)
    "add": (arith.AddFOp, arith.AddIOp, arith.AddIOp),
    "sub": (arith.SubFOp, arith.SubIOp, arith.SubIOp),
    "mul": (arith.MulFOp, arith.MulIOp, arith.MulIOp),
    "div": (arith.DivFOp, arith.DivSIOp, arith.DivUIOp),
    "rem": (arith.RemFOp, arith.RemSIOp, arith.RemUIOp),
    "max": (arith.MaximumFOp, arith.MaxSIOp, arith.MaxUIOp),
    "min": (arith.MinimumFOp, arith.MinSIOp, arith.MinUIOp),
}
_BITWISE = {"and": arith.AndIOp, "or": arith.OrIOp, "xor": arith.XOrIOp, "shl": arith.ShLIOp}
_FUNCTIONS = {
    "exp": math.ExpOp, "log": math.LogOp, "sqrt": math.SqrtOp, "rsqrt": math.RsqrtOp, "erf": math.ErfOp,
    "tanh": math.TanhOp, "sin": math.SinOp, "cos": math.CosOp, "tan": math.TanOp, "asin": math.AsinOp,
    "acos": math.AcosOp, "atan": math.AtanOp, "sinh": math.SinhOp, "cosh": math.CoshOp, "asinh": math.AsinhOp,
    "acosh": math.AcoshOp, "atanh": math.AtanhOp, "log1p": math.Log1pOp, "expm1": math.ExpM1Op,
    "exp2": math.Exp2Op, "log2": math.Log2Op, "floor": math.FloorOp, "ceil": math.CeilOp,
    "round": math.RoundEvenOp, "trunc": math.TruncOp,
}  # fmt: skip


def is_float(dtype: str) -> bool:
    """True for floating-point dtype names."""
    return dtype in _FLOAT_BITS


def is_unsigned(dtype: str) -> bool:
    """True for unsigned integers; bool counts as unsigned."""
    return dtype.startswith("ui") or dtype == "i1"


class Scalar:
    """One scalar of a known dtype: an MLIR value, or a literal that becomes `arith.constant` where it is
    used.

    Operators take scalars of the same dtype and Python numbers. Raises TypeError when dtypes differ:
    conversions are explicit.
    """

    __slots__ = ("_value", "dtype", "literal")

    def __init__(self, value: ir.Value | None, dtype: str, literal: int | float | None = None) -> None:
        self._value = value
        self.dtype = dtype
        self.literal = literal

    @staticmethod
    def constant(value: int | float | bool, dtype: str) -> Scalar:
        """A literal of that dtype; integers wrap to its width."""
        if is_narrow(dtype):
            return Scalar(None, dtype, representable(float(value), dtype))
        if is_float(dtype):
            with np.errstate(over="ignore"):
                return Scalar(None, dtype, float(DTYPES[dtype].numpy.type(value)))
        bits = _BITS[dtype]
        wrapped = (int(value) != 0) if dtype == "i1" else int(value) & ((1 << bits) - 1)
        if not is_unsigned(dtype) and wrapped >> (bits - 1):
            wrapped -= 1 << bits
        return Scalar(None, dtype, int(wrapped))

    @property
    def value(self) -> ir.Value:
        """The MLIR value; a literal is emitted at the current insertion point."""
        if self._value is not None:
            return self._value
        assert self.literal is not None
        kind = scalar_type(self.dtype)
        if is_narrow(self.dtype):
            return arith.ConstantOp(kind, ir.IntegerAttr.get(kind, pattern(self.literal, self.dtype))).result
        if is_float(self.dtype):
            return arith.ConstantOp(kind, ir.FloatAttr.get(kind, float(self.literal))).result
        literal = int(self.literal)
        if self.dtype == "ui64" and literal >> 63:
            literal -= 1 << 64
        return arith.ConstantOp(kind, ir.IntegerAttr.get(kind, literal)).result

    @property
    def integer(self) -> int | None:
        """The value of an integer literal, else None."""
        is_integer = not (is_float(self.dtype) or is_narrow(self.dtype))
        return int(self.literal) if self.literal is not None and is_integer else None

    def _coerce(self, other: ScalarLike) -> Scalar:
        if not isinstance(other, Scalar):
            return Scalar.constant(other, self.dtype)
        if other.dtype != self.dtype:
            raise TypeError(f"scalars of different dtypes: {self.dtype} and {other.dtype}")
        return other

    def _wide(self) -> Scalar:
        """Narrow floats are computed in f32: + - * / and sqrt still round as the narrow type would."""
        if is_narrow(self.dtype):
            return self.cast("f32" if is_narrow_float(self.dtype) else "i32")
        return self.cast("f32") if is_float(self.dtype) and _FLOAT_BITS[self.dtype] < 32 else self

    def _binary(self, name: str, other: ScalarLike) -> Scalar:
        right = self._coerce(other)
        if is_narrow(self.dtype):
            return self._wide()._binary(name, right._wide()).cast(self.dtype)
        folded = _fold(name, self, right)
        if folded is not None:
            return folded
        floating, signed, unsigned = _BINARY[name]
        if is_float(self.dtype):
            first, second = self._wide(), right._wide()
            return Scalar(floating(first.value, second.value).result, first.dtype).cast(self.dtype)
        operation = unsigned if is_unsigned(self.dtype) else signed
        return Scalar(operation(self.value, right.value).result, self.dtype)

    def _compare(self, name: str, other: ScalarLike) -> Scalar:
        first, second = self._wide(), self._coerce(other)._wide()
        if first.integer is not None and second.integer is not None:
            return Scalar.constant(bool(getattr(first.integer, f"__{name}__")(second.integer)), "i1")
        floating, signed, unsigned = _PREDICATES[name]
        if is_float(first.dtype):
            return Scalar(arith.CmpFOp(floating, first.value, second.value).result, "i1")
        predicate = unsigned if is_unsigned(first.dtype) else signed
        return Scalar(arith.CmpIOp(predicate, first.value, second.value).result, "i1")

    # Arithmetic ---------------------------------------------------------------------------------------------
    def __add__(self, other: ScalarLike) -> Scalar:
        return self._binary("add", other)

    def __radd__(self, other: ScalarLike) -> Scalar:
        return self._coerce(other) + self

    def __sub__(self, other: ScalarLike) -> Scalar:
        return self._binary("sub", other)

    def __rsub__(self, other: ScalarLike) -> Scalar:
        return self._coerce(other) - self

    def __mul__(self, other: ScalarLike) -> Scalar:
        return self._binary("mul", other)

    def __rmul__(self, other: ScalarLike) -> Scalar:
        return self._coerce(other) * self

    def __truediv__(self, other: ScalarLike) -> Scalar:
        """Floats divide; integers truncate towards zero."""
        return self._binary("div", other)

    def __rtruediv__(self, other: ScalarLike) -> Scalar:
        return self._coerce(other) / self

    def __neg__(self) -> Scalar:
        if self.integer is not None:
            return Scalar.constant(-self.integer, self.dtype)
        if not is_float(self.dtype):
            return Scalar.constant(0, self.dtype) - self
        wide = self._wide()
        return Scalar(arith.NegFOp(wide.value).result, wide.dtype).cast(self.dtype)

    def remainder(self, other: ScalarLike) -> Scalar:
        """C's remainder (fmod): the sign of the dividend."""
        return self._binary("rem", other)

    def __mod__(self, other: ScalarLike) -> Scalar:
        """Python's remainder: the sign of the divisor."""
        right = self._coerce(other)
        if self.integer is not None and right.integer:
            return Scalar.constant(self.integer % right.integer, self.dtype)
        rest = self.remainder(right)
        if is_unsigned(self.dtype):
            return rest
        wrong_sign = rest.ne(0) & (rest.lt(0) ^ right.lt(0))
        return wrong_sign.select(rest + right, rest)

    def __floordiv__(self, other: ScalarLike) -> Scalar:
        """Division rounded towards minus infinity."""
        right = self._coerce(other)
        if is_float(self.dtype):
            return (self / right).floor()
        if self.integer is not None and right.integer:
            return Scalar.constant(self.integer // right.integer, self.dtype)
        if is_unsigned(self.dtype) or right.integer == 1:
            return self / right
        return (self - self % right) / right

    # Comparison and selection -------------------------------------------------------------------------------
    def eq(self, other: ScalarLike) -> Scalar:
        return self._compare("eq", other)

    def ne(self, other: ScalarLike) -> Scalar:
        return self._compare("ne", other)

    def lt(self, other: ScalarLike) -> Scalar:
        return self._compare("lt", other)

    def le(self, other: ScalarLike) -> Scalar:
        return self._compare("le", other)

    def gt(self, other: ScalarLike) -> Scalar:
        return self._compare("gt", other)

    def ge(self, other: ScalarLike) -> Scalar:
        return self._compare("ge", other)

    __lt__, __le__, __gt__, __ge__ = lt, le, gt, ge

    def select(self, if_true: ScalarLike, if_false: ScalarLike) -> Scalar:
        """``if_true if self else if_false`` for a bool `self`; at least one alternative is a Scalar."""
        if isinstance(if_true, Scalar):
            first, second = if_true, if_true._coerce(if_false)
        elif isinstance(if_false, Scalar):
            first, second = if_false._coerce(if_true), if_false
        else:
            raise TypeError("select needs a Scalar to know the dtype")
        if self.integer is not None:
            return first if self.integer else second
        return Scalar(arith.SelectOp(self.value, first.value, second.value).result, first.dtype)

    def maximum(self, other: ScalarLike) -> Scalar:
        """The larger one; NaN when either is NaN."""
        return self._binary("max", other)

    def maximum_number(self, other: ScalarLike) -> Scalar:
        """The larger one of two floats; where one is NaN the other."""
        right = self._coerce(other)
        return Scalar(arith.MaxNumFOp(self.value, right.value).result, self.dtype)

    def minimum(self, other: ScalarLike) -> Scalar:
        """The smaller one; NaN when either is NaN."""
        return self._binary("min", other)

    def clip(self, low: ScalarLike, high: ScalarLike) -> Scalar:
        """At least `low`, then at most `high`."""
        return self.maximum(low).minimum(high)

    # Bits and booleans --------------------------------------------------------------------------------------
    def _bitwise(self, name: str, other: ScalarLike) -> Scalar:
        right = self._coerce(other)
        if self.integer is not None and right.integer is not None and name != "shl":
            function = {"and": int.__and__, "or": int.__or__, "xor": int.__xor__}[name]
            return Scalar.constant(function(self.integer, right.integer), self.dtype)
        if self.dtype == "i1":
            for one, two in ((self, right), (right, self)):
                if one.integer is not None and name in ("and", "or"):
                    return two if one.integer == (name == "and") else one
                if one.integer == 0 and name == "xor":
                    return two
        return Scalar(_BITWISE[name](self.value, right.value).result, self.dtype)

    def __and__(self, other: ScalarLike) -> Scalar:
        return self._bitwise("and", other)

    def __or__(self, other: ScalarLike) -> Scalar:
        return self._bitwise("or", other)

    def __xor__(self, other: ScalarLike) -> Scalar:
        return self._bitwise("xor", other)

    def __invert__(self) -> Scalar:
        return self ^ (1 if self.dtype == "i1" else -1)

    def shift_left(self, other: ScalarLike) -> Scalar:
        """Shift by fewer bits than the width."""
        return self._bitwise("shl", other)

    def shift_right(self, other: ScalarLike) -> Scalar:
        """Shift by fewer bits than the width; signed integers keep their sign."""
        operation = arith.ShRUIOp if is_unsigned(self.dtype) else arith.ShRSIOp
        return Scalar(operation(self.value, self._coerce(other).value).result, self.dtype)

    # Functions of floats ------------------------------------------------------------------------------------
    def function(self, name: str) -> Scalar:
        """A function of the `math` dialect by name, e.g. ``"exp"``; narrow floats are computed in f32."""
        if not is_float(self.dtype):
            raise TypeError(f"{name} of {self.dtype}")
        wide = self._wide()
        return Scalar(_FUNCTIONS[name](wide.value).result, wide.dtype).cast(self.dtype)

    def exp(self) -> Scalar:
        return self.function("exp")

    def log(self) -> Scalar:
        return self.function("log")

    def sqrt(self) -> Scalar:
        return self.function("sqrt")

    def rsqrt(self) -> Scalar:
        return self.function("rsqrt")

    def erf(self) -> Scalar:
        return self.function("erf")

    def tanh(self) -> Scalar:
        return self.function("tanh")

    def floor(self) -> Scalar:
        return self.function("floor") if is_float(self.dtype) else self

    def ceil(self) -> Scalar:
        return self.function("ceil") if is_float(self.dtype) else self

    def round(self) -> Scalar:
        """To the nearest integer, halves to even."""
        return self.function("round") if is_float(self.dtype) else self

    def reciprocal(self) -> Scalar:
        return 1.0 / self

    def sigmoid(self) -> Scalar:
        """1 / (1 + exp(-x)): for very negative x exp overflows to infinity and the quotient is exactly 0."""
        wide = self._wide()
        return (1.0 / (1.0 + (-wide).exp())).cast(self.dtype)

    def softplus(self) -> Scalar:
        """log(1 + exp(x)) as max(x, 0) + log1p(exp(-|x|)), which cannot overflow."""
        wide = self._wide()
        return (wide.maximum(0.0) + (-wide.abs()).exp().function("log1p")).cast(self.dtype)

    def abs(self) -> Scalar:
        if is_unsigned(self.dtype):
            return self
        wide = self._wide()
        operation = math.AbsFOp if is_float(self.dtype) else math.AbsIOp
        return Scalar(operation(wide.value).result, wide.dtype).cast(self.dtype)

    def sign(self) -> Scalar:
        """-1, 0 or 1; zero for NaN."""
        zero, one = Scalar.constant(0, self.dtype), Scalar.constant(1, self.dtype)
        positive = self.gt(0).select(one, zero)
        return positive if is_unsigned(self.dtype) else self.lt(0).select(-one, positive)

    def is_nan(self) -> Scalar:
        wide = self._wide().value
        return Scalar(arith.CmpFOp(arith.CmpFPredicate.UNO, wide, wide).result, "i1")

    def is_infinite(self) -> Scalar:
        return self._wide().abs().eq(python_math.inf)

    def power(self, exponent: ScalarLike) -> Scalar:
        """self ** exponent in self's dtype. Literal exponents -1, 0.5, 1, 2 and 3 need no general power."""
        other = exponent if isinstance(exponent, Scalar) else Scalar.constant(exponent, "f64")
        special = self._literal_power(other.literal) if other.literal is not None else None
        if special is not None:
            return special
        if is_float(self.dtype):
            wide = self._wide()
            result = math.PowFOp(wide.value, other.cast(wide.dtype).value).result
            return Scalar(result, wide.dtype).cast(self.dtype)
        if is_float(other.dtype):
            return self.cast("f64").power(other.cast("f64")).cast(self.dtype)
        return _integer_power(self.cast("i64"), other).cast(self.dtype)

    def _literal_power(self, exponent: int | float) -> Scalar | None:
        if exponent == 1:
            return self
        if exponent == 2:
            return self * self
        if exponent == 3:
            return self * self * self
        if is_float(self.dtype) and exponent == 0.5:
            return self.sqrt()
        if is_float(self.dtype) and exponent == -1:
            return self.reciprocal()
        return None

    # Conversion ---------------------------------------------------------------------------------------------
    def cast(self, dtype: str) -> Scalar:
        """ONNX Cast: floats to integers truncate, anything to bool compares with zero, integers wrap.

        A float outside the integer's range gives an unspecified integer, as ONNX allows.
        """
        if dtype == self.dtype:
            return self
        if is_narrow(self.dtype) or is_narrow(dtype):
            return self._cast_narrow(dtype)
        if self.literal is not None and not (is_float(self.dtype) and not python_math.isfinite(self.literal)):
            if dtype == "i1" or is_float(dtype) >= is_float(self.dtype):
                return Scalar.constant(self.literal != 0 if dtype == "i1" else self.literal, dtype)
            return Scalar.constant(int(self.literal), dtype)
        if dtype == "i1":
            return self.ne(0)
        source_float, target_float = is_float(self.dtype), is_float(dtype)
        if source_float and target_float:
            return self._float_to_float(dtype)
        if source_float:
            return self._float_to_integer(dtype)
        if target_float:
            operation = arith.UIToFPOp if is_unsigned(self.dtype) else arith.SIToFPOp
            return Scalar(operation(scalar_type(dtype), self.value).result, dtype)
        return self._integer_to_integer(dtype)

    def _cast_narrow(self, dtype: str) -> Scalar:
        if self.literal is not None and python_math.isfinite(self.literal):
            return Scalar.constant(self.literal, dtype)
        if is_narrow(dtype):
            return encode(self._wide(), dtype)
        return decode(self).cast(dtype)

    def retyped(self, dtype: str) -> Scalar:
        """The same bits as another dtype of the same MLIR type: signedness and narrow formats are only names."""
        if self.literal is not None and not is_narrow(self.dtype) and not is_narrow(dtype):
            return Scalar.constant(self.literal, dtype)
        return Scalar(self.value, dtype)

    def bitcast(self, dtype: str) -> Scalar:
        """The same bits as another dtype of the same width."""
        kind = scalar_type(dtype)
        same = kind == self.value.type
        return Scalar(self.value if same else arith.BitcastOp(kind, self.value).result, dtype)

    def _float_to_float(self, dtype: str) -> Scalar:
        source, target = _FLOAT_BITS[self.dtype], _FLOAT_BITS[dtype]
        if source == target:  # f16 to bf16 and back
            return self.cast("f32").cast(dtype)
        operation = arith.ExtFOp if target > source else arith.TruncFOp
        return Scalar(operation(scalar_type(dtype), self.value).result, dtype)

    def _float_to_integer(self, dtype: str) -> Scalar:
        wide = self._wide()
        if dtype == "ui64":
            return Scalar(arith.FPToUIOp(scalar_type(dtype), wide.value).result, dtype)
        # Narrow and unsigned integers take the low bits of a wider signed one, as numpy's conversion does.
        via = "i32" if dtype in ("i8", "i16", "i32", "ui8", "ui16") else "i64"
        return Scalar(arith.FPToSIOp(scalar_type(via), wide.value).result, via).cast(dtype)

    def _integer_to_integer(self, dtype: str) -> Scalar:
        source, target = _BITS[self.dtype], _BITS[dtype]
        if source == target:
            return Scalar(self.value, dtype)
        if target < source:
            return Scalar(arith.TruncIOp(scalar_type(dtype), self.value).result, dtype)
        operation = arith.ExtUIOp if is_unsigned(self.dtype) else arith.ExtSIOp
        return Scalar(operation(scalar_type(dtype), self.value).result, dtype)


def _integer_power(base: Scalar, exponent: Scalar) -> Scalar:
    """By squaring, modulo 2^64. A negative exponent gives the quotient truncated: 0, but for a base of 1 or -1.

    Exponents take 32 bits, more than any power but those of -1, 0 and 1 can have without overflow.
    """
    zero, one = Scalar.constant(0, "i64"), Scalar.constant(1, "i64")
    rest = exponent.cast("i64")
    negative = rest.lt(0)
    odd = (rest & 1).ne(0)
    result, square = one, base
    for _ in range(min(_BITS[exponent.dtype], 32)):
        result = (rest & 1).ne(0).select(result * square, result)
        square, rest = square * square, rest.shift_right(1)
    sign = base.eq(-1).select(odd.select(-one, one), zero)
    return negative.select(base.eq(1).select(one, sign), result)


def _fold(name: str, left: Scalar, right: Scalar) -> Scalar | None:
    """Integer arithmetic on literals, and the neutral elements, so that index arithmetic stays readable."""
    first, second = left.integer, right.integer
    if first is not None and second is not None:
        results: dict[str, Any] = {
            "add": lambda: first + second,
            "sub": lambda: first - second,
            "mul": lambda: first * second,
            "max": lambda: max(first, second),
            "min": lambda: min(first, second),
        }
        return Scalar.constant(results[name](), left.dtype) if name in results else None
    if (name in ("add", "sub") and second == 0) or (name in ("mul", "div") and second == 1):
        return left
    if (name == "add" and first == 0) or (name == "mul" and first == 1):
        return right
    if name == "mul" and 0 in (first, second):
        return Scalar.constant(0, left.dtype)
    return None

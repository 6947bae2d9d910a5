"""What hosts with 512-bit vectors do in one instruction: arithmetic in a rounding mode of its own, scaling by 2^n.

In: a `Code`, values in f32. Out: a value, or None where the host lacks the instruction. Why: rounding down or scaling
by a power of two takes a dozen instructions without them, and every exponential needs both.
"""

from __future__ import annotations

from .llvm_shuffles import HALF, halves, joined
from .llvm_values import Code, Value

_NEAREST = 4
"""The rounding of MXCSR, which is to nearest."""
_EXACTLY = 8
"""vreduceps: to whole numbers, nearest even, without exceptions."""
_MODES = {"rm": 9, "rp": 10, "rz": 11}
"""Embedded rounding (down, up, towards zero) with exceptions suppressed."""
_OPCODES = {"fma": "vfmadd", "add": "add", "sub": "sub", "mul": "mul", "div": "div"}
_VECTOR = f"<{HALF} x float>"


def directed(code: Code, operation: str, mode: str, values: tuple[Value, ...]) -> Value | None:
    """fma, add, sub, mul or div of f32 rounded once, in a directed mode."""
    if not code.avx512 or operation not in _OPCODES or any(value.element != "float" for value in values):
        return None
    name = f"llvm.x86.avx512.{_OPCODES[operation]}.ps.512"
    return _called(code, name, values, f", i32 {_MODES[mode]}", ", i32")


def scaled(code: Code, value: Value, exponent: Value) -> Value:
    """value * 2^exponent for a whole `exponent`, both f32; rounded once, also where the result is subnormal."""
    rest = f", {_VECTOR} zeroinitializer, i16 -1, i32 {_NEAREST}"
    return _called(code, "llvm.x86.avx512.mask.scalef.ps.512", (value, exponent), rest, f", {_VECTOR}, i16, i32")


def remainder(code: Code, value: Value) -> Value:
    """An f32 less the nearest whole number; 0 for infinity."""
    rest = f", i32 {_EXACTLY}, {_VECTOR} zeroinitializer, i16 -1, i32 {_NEAREST}"
    return _called(code, "llvm.x86.avx512.mask.reduce.ps.512", (value,), rest, f", i32, {_VECTOR}, i16, i32")


def _called(code: Code, name: str, values: tuple[Value, ...], rest: str, types: str) -> Value:
    """An intrinsic over 16 lanes, applied to both halves of a warp; of values that all lanes share, to one."""
    values = code.unify(*values)
    parameters = ", ".join([_VECTOR] * len(values))
    code.declare(name, f"declare {_VECTOR} @{name}({parameters}{types})")

    def call(parts: list[Value]) -> Value:
        arguments = ", ".join(f"{_VECTOR} {part.text}" for part in parts)
        result = code.name()
        code.line(f"{result} = call {_VECTOR} @{name}({arguments}{rest})")
        return Value(result, "float")

    if not values[0].wide:
        found = call([halves(code, code.widen(value))[0] for value in values])
        return code.emit(f"extractelement {_VECTOR} {found.text}, i32 0", "float", False)
    pairs = [halves(code, value) for value in values]
    return joined(code, *(call([pair[side] for pair in pairs]) for side in (0, 1)))

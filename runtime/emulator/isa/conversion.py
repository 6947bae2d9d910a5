"""cvt and cvta: between number types, and between address windows.

In: `cvt...`, `cvta...`, `isspacep`. Out: emitter calls. Why: rounding, saturation and NaN rules of
conversions in one place.
"""

from __future__ import annotations

from ..ptx import TYPE_BITS, Instruction
from . import operation
from .arithmetic import HALVES, read_float, split_packed
from .emitter import Emitter, Value

_PACKED = {"f16x2": "f16", "bf16x2": "bf16"}
_SMALL = frozenset({"e4m3x2", "e5m2x2", "e2m1x2", "e2m3x2", "e3m2x2"})


@operation("cvt")
def convert(instruction: Instruction, emit: Emitter) -> None:
    if instruction.has("pack"):
        _pack(instruction, emit)
        return
    target, source = instruction.types[:2]
    if target in _SMALL or source in _SMALL:
        _small(instruction, emit, target, source)
        return
    if target in _PACKED and source == "f32":
        # `cvt.rn.f16x2.f32 d, a, b` puts a in the upper half.
        high, low = (emit.read(operand, "f32") for operand in instruction.operands[1:3])
        halves = [_to_float(instruction, emit, "f32", _PACKED[target], value) for value in (low, high)]
        emit.write(instruction.operands[0], "b32", emit.apply("pack_halves", "b16", *halves))
        return
    supported = {
        "f16",
        "bf16",
        "f32",
        "f64",
        "tf32",
        *(f"{sign}{bits}" for sign in "us" for bits in (8, 16, 32, 64)),
    }
    if target not in supported or source not in supported:
        emit.unsupported(f"conversion from {source} to {target}")
    floats = {"f16", "bf16", "f32", "f64", "tf32"}
    operand = instruction.operands[1]
    if source in floats:
        value = read_float(emit, operand, source)
        computed = "f32" if source in HALVES else source
        if instruction.has("ftz") and source == "f32":
            value = emit.apply("flush", "f32", value)
        if target in floats:
            result = _to_float(instruction, emit, computed, target, value)
        else:
            mode = instruction.first_of("rni", "rzi", "rmi", "rpi") or "rzi"
            result = emit.apply(f"{computed}_to_{target}_{mode}", computed, value)
        emit.write(instruction.operands[0], _storage(target), result)
        return
    value = emit.read(operand, source)
    if target in floats:
        result = _from_integer(instruction, emit, source, target, value)
    elif instruction.has("sat"):
        result = emit.apply(f"{source}_to_{target}_saturating", source, value)
    else:
        result = emit.convert(source, target, value)
    emit.write(instruction.operands[0], _storage(target), result)


def _small(instruction: Instruction, emit: Emitter, target: str, source: str) -> None:
    """Pairs of floats of 4 to 8 bits, from two f32 or a pair of halves (with .satfinite), or to a pair of halves."""
    operands = instruction.operands
    if target in _SMALL:
        if source == "f32":
            high, low = (emit.read(operand, "f32") for operand in operands[1:3])
            pair = [low, high]
        else:
            pair = split_packed(emit, operands[1], _PACKED[source])
        if instruction.has("relu"):
            pair = [emit.apply("maximum_nan", "f32", value, emit.constant("f32", 0.0)) for value in pair]
        small = [emit.bind(emit.apply(f"f32_to_{target[:-2]}", "f32", value)) for value in pair]
        if target == "e2m1x2":
            high = emit.apply("shift_left", "u8", small[1], emit.constant("u8", 4))
            emit.write(operands[0], "b8", emit.apply("or", "u8", small[0], high))
        else:
            emit.write(operands[0], "b16", emit.apply("concatenate_2", "u8", *small))
        return
    if target not in _PACKED:
        emit.unsupported(f"conversion from {source} to {target}")
    packed = emit.bind(emit.read(operands[1], "u8" if source == "e2m1x2" else "u16"))
    if source == "e2m1x2":
        patterns = [packed, emit.apply("shift_right", "u8", packed, emit.constant("u8", 4))]
    else:
        patterns = [emit.apply(f"part_{index}_of_2", "u16", packed) for index in (0, 1)]
    wide = [emit.apply(f"{source[:-2]}_to_f32", "b8", pattern) for pattern in patterns]
    halves = [_to_float(instruction, emit, "f32", _PACKED[target], value) for value in wide]
    emit.write(operands[0], "b32", emit.apply("pack_halves", "b16", *halves))


def _storage(type: str) -> str:
    return "b16" if type in HALVES else "f32" if type == "tf32" else type


def _to_float(instruction: Instruction, emit: Emitter, computed: str, target: str, value: Value) -> Value:
    """Float to float: optional rounding to an integral value, rounding, saturation, relu, ftz."""
    integral = instruction.first_of("rni", "rzi", "rmi", "rpi")
    if integral:
        value = emit.apply(f"round_{integral}", computed, value)
    if instruction.has("relu"):
        value = emit.apply("maximum_nan", computed, value, emit.constant(computed, 0.0))
    if instruction.has("sat"):
        value = emit.apply("saturate", computed, value)
    if target == "tf32":
        return emit.apply("f32_to_tf32_rna" if instruction.has("rna") else "f32_to_tf32_rn", "f32", value)
    mode = instruction.first_of("rz", "rm", "rp")
    if target in HALVES:
        return emit.apply(f"{computed}_to_{target}" + (f"_{mode}" if mode else ""), computed, value)
    if (computed, target) == ("f64", "f32"):
        value = emit.apply(f"f64_to_f32_{mode}", "f64", value) if mode else emit.convert("f64", "f32", value)
    elif computed != target:
        value = emit.convert(computed, target, value)
    return emit.apply("flush", "f32", value) if instruction.has("ftz") and target == "f32" else value


def _from_integer(instruction: Instruction, emit: Emitter, source: str, target: str, value: Value) -> Value:
    """Integer to float. Through f64 where that is exact, so that each result is rounded once."""
    mode = instruction.first_of("rz", "rm", "rp")
    if target == "f64":
        return emit.convert(source, "f64", value)
    if target == "f32" and not mode:
        return emit.convert(source, "f32", value)
    wide = emit.convert(source, "f64", value)
    name = target if target == "f32" or target in HALVES else "f32"
    return emit.apply(f"f64_to_{name}" + (f"_{mode}" if mode else ""), "f64", wide)


def _pack(instruction: Instruction, emit: Emitter) -> None:
    """`cvt.pack.sat.u8.s32.b32 d, a, b, c`: saturate a and b, and push them below c."""
    narrow, source = instruction.types[:2]
    width = TYPE_BITS[narrow]
    parts = []
    for operand in instruction.operands[1:3]:
        saturated = emit.apply(f"{source}_to_{narrow}_saturating", source, emit.read(operand, source))
        parts.append(emit.convert(f"u{width}", "u32", emit.apply(f"reinterpret_u{width}", narrow, saturated)))
    value = emit.apply("or", "u32", emit.apply("shift_left", "u32", parts[0], emit.constant("u32", width)), parts[1])
    if len(instruction.operands) == 4 and 2 * width < 32:
        above = emit.read(instruction.operands[3], "u32")
        above = emit.apply("shift_left", "u32", above, emit.constant("u32", 2 * width))
        value = emit.apply("or", "u32", value, above)
    emit.write(instruction.operands[0], "u32", value)


@operation("cvta")
def convert_address(instruction: Instruction, emit: Emitter) -> None:
    """Shared, local and parameter space appear at fixed windows of the generic space; global and const are
    the identity.
    """
    type = instruction.type
    value = emit.read(instruction.operands[1], type)
    space = instruction.first_of("global", "const", "shared", "shared::cta", "shared::cluster", "local", "param")
    window = {"shared": "shared", "shared::cta": "shared", "local": "local", "param": "param"}.get(space)
    if window is not None:
        if type != "u64":
            emit.unsupported("32-bit generic addresses")
        value = emit.apply(f"{'leave' if instruction.has('to') else 'enter'}_{window}_window", "u64", value)
    emit.write(instruction.operands[0], type, value)


@operation("isspacep")
def is_in_space(instruction: Instruction, emit: Emitter) -> None:
    space = instruction.first_of("global", "const", "shared", "shared::cta", "shared::cluster", "local", "param")
    value = emit.read(instruction.operands[1], "u64")
    name = "shared" if space.startswith("shared") else "global" if space == "const" else space
    emit.write(instruction.operands[0], "pred", emit.apply(f"is_{name}_address", "u64", value))

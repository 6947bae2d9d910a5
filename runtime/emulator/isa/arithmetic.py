"""Integer and floating-point arithmetic: add, mul, fma, div, min, max, the approximations and their kin.

In: instructions of those opcodes. Out: emitter calls. Why: integer and float forms share opcodes, so they
share this file; half precision computes in f32 (fma in f64) and rounds once at the end, which is exact for
add, sub, mul, div and sqrt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..ptx import TYPE_BITS, Instruction, Operand
from . import operation
from .emitter import Emitter, Value

FLOATS = frozenset({"f16", "bf16", "f32", "f64", "f16x2", "bf16x2"})
PACKED = {"f16x2": "f16", "bf16x2": "bf16"}
PACKED_INTEGERS = {"u16x2": "u16", "s16x2": "s16"}
HALVES = frozenset({"f16", "bf16"})
Compute = Callable[[str, list[Value]], Value]


def read_float(emit: Emitter, operand: Operand, type: str) -> Value:
    """A float operand in its computing type: f32 for halves."""
    if type in HALVES:
        return emit.apply(f"{type}_to_f32", "b16", emit.read(operand, "b16"))
    return emit.read(operand, type)


def split_packed(emit: Emitter, operand: Operand, element: str) -> list[Value]:
    """The two halves of a packed register, low first, widened to f32."""
    packed = emit.bind(emit.read(operand, "b32"))
    return [
        emit.apply(f"{element}_to_f32", "b16", emit.apply(f"{part}_half", "b32", packed)) for part in ("low", "high")
    ]


def packed_integers(instruction: Instruction, emit: Emitter, name: str) -> None:
    """`name` on each of the two 16-bit halves of the operands, and .relu."""
    element = PACKED_INTEGERS[instruction.type]
    packed = [emit.bind(emit.read(operand, "b32")) for operand in instruction.operands[1:]]
    halves = []
    for part in ("low", "high"):
        values = [
            emit.apply(f"reinterpret_{element}", "b16", emit.apply(f"{part}_half", "b32", value)) for value in packed
        ]
        value = emit.apply(name, element, *values)
        if instruction.has("relu"):
            value = emit.apply("maximum", element, value, emit.constant(element, 0))
        halves.append(emit.apply("reinterpret_u16", element, value))
    emit.write(instruction.operands[0], "b32", emit.apply("pack_halves", "b16", *halves))


def finish(emit: Emitter, instruction: Instruction, type: str, value: Value, computed: str) -> Value:
    """Saturate and flush as modifiers say, then bring a `computed` value (f32 or f64) to storage `type`."""
    if instruction.has("sat"):
        value = emit.apply("saturate", computed, value)
    if instruction.has("relu"):
        value = emit.apply("maximum_nan", computed, value, emit.constant(computed, 0.0))
    if type in HALVES:
        return emit.apply(f"{computed}_to_{type}", computed, value)
    return emit.apply("flush", type, value) if instruction.has("ftz") and type == "f32" else value


def elementwise(emit: Emitter, instruction: Instruction, operands: Sequence[Operand], compute: Compute) -> None:
    """Write operand 0 with `compute(computing type, values of the others)`, per half for packed types."""
    type = instruction.type
    if type in PACKED:
        element = PACKED[type]
        columns = [split_packed(emit, operand, element) for operand in operands[1:]]
        halves = [
            finish(emit, instruction, element, *_computed(compute, "f32", [column[lane] for column in columns]))
            for lane in (0, 1)
        ]
        emit.write(operands[0], "b32", emit.apply("pack_halves", "b16", *halves))
        return
    values = [read_float(emit, operand, type) for operand in operands[1:]]
    if instruction.has("ftz") and type == "f32" and instruction.opcode != "ex2":  # 2^x is 1 for every subnormal x
        values = [emit.apply("flush", "f32", value) for value in values]
    computing = "f32" if type in HALVES else type
    result = finish(emit, instruction, type, *_computed(compute, computing, values))
    emit.write(operands[0], "b16" if type in HALVES else type, result)


def _computed(compute: Compute, type: str, values: list[Value]) -> tuple[Value, str]:
    result = compute(type, values)
    return result if isinstance(result, tuple) else (result, type)


def _rounded(emit: Emitter, instruction: Instruction, exact: str, type: str, values: list[Value]) -> Value:
    """`exact` in the rounding mode of the instruction."""
    mode = instruction.first_of("rz", "rm", "rp")
    return emit.apply(f"{exact}_{mode}" if mode else exact, type, *values)


@operation("add", "sub")
def add_or_subtract(instruction: Instruction, emit: Emitter) -> None:
    target, left, right = instruction.operands
    if instruction.type in FLOATS:
        elementwise(emit, instruction, instruction.operands,
                    lambda type, values: _rounded(emit, instruction, instruction.opcode, type, values))  # fmt: skip
        return
    type = instruction.type
    if type in PACKED_INTEGERS:
        packed_integers(instruction, emit, instruction.opcode)
        return
    a, b = emit.bind(emit.read(left, type)), emit.bind(emit.read(right, type))
    if instruction.has("cc"):
        emit.call(
            "set_carry",
            [],
            [emit.apply("carry_" + instruction.opcode, unsigned(type), *as_unsigned(emit, type, a, b))],
        )
    if instruction.has("sat"):
        emit.write(target, type, emit.apply(instruction.opcode + "_saturating", type, a, b))
        return
    emit.write(target, type, emit.apply(instruction.opcode, type, a, b))


def unsigned(type: str) -> str:
    """The unsigned integer type of the same width."""
    return f"u{TYPE_BITS[type]}"


def as_unsigned(emit: Emitter, type: str, *values: Value) -> list[Value]:
    """Reinterpret integers as unsigned."""
    return [emit.apply("reinterpret_" + unsigned(type), type, value) for value in values]


@operation("addc", "subc")
def add_with_carry(instruction: Instruction, emit: Emitter) -> None:
    type = unsigned(instruction.type)
    a, b = (emit.bind(emit.read(operand, type)) for operand in instruction.operands[1:])
    (carry,) = emit.call("get_carry", ["pred"], [])
    base = instruction.opcode[:-1]
    value = emit.bind(emit.apply(f"{base}_carry", type, a, b, carry))
    if instruction.has("cc"):
        emit.call("set_carry", [], [emit.apply(f"carry_{base}c", type, a, b, carry)])
    emit.write(instruction.operands[0], type, value)


@operation("mul", "mad", "madc", "mul24", "mad24")
def multiply(instruction: Instruction, emit: Emitter) -> None:
    type = instruction.type
    if type in FLOATS:
        name = "mul" if instruction.opcode == "mul" else "fma"
        elementwise(emit, instruction, instruction.operands,
                    lambda kind, values: _rounded(emit, instruction, name, kind, values))  # fmt: skip
        return
    a, b = (emit.read(operand, type) for operand in instruction.operands[1:3])
    if instruction.opcode.endswith("24"):
        a, b = (emit.apply("low_24", type, value) for value in (a, b))
        product = emit.apply("mul" if instruction.has("lo") else "mul24_high", type, a, b)
        result = type
    elif instruction.has("wide"):
        result = type[0] + str(2 * TYPE_BITS[type])
        product = emit.apply("mul", result, emit.convert(type, result, a), emit.convert(type, result, b))
    else:
        result = type
        product = emit.apply("mul_high" if instruction.has("hi") else "mul", type, a, b)
    if instruction.opcode != "mul" and instruction.opcode != "mul24":
        addend = emit.bind(emit.read(instruction.operands[3], result))
        product = emit.bind(product)
        if instruction.opcode == "madc" or instruction.has("cc"):
            _multiply_carry(instruction, emit, result, product, addend)
            return
        product = emit.apply("add", result, product, addend)
    emit.write(instruction.operands[0], result, product)


def _multiply_carry(instruction: Instruction, emit: Emitter, type: str, product: Value, addend: Value) -> None:
    """mad.cc, madc and madc.cc: the addition at the end takes and leaves the carry."""
    kind = unsigned(type)
    a, b = (emit.bind(value) for value in as_unsigned(emit, type, product, addend))
    carry = emit.constant("pred", 0)
    if instruction.opcode == "madc":
        (carry,) = emit.call("get_carry", ["pred"], [])
    value = emit.bind(emit.apply("add_carry", kind, a, b, carry))
    if instruction.has("cc"):
        emit.call("set_carry", [], [emit.apply("carry_addc", kind, a, b, carry)])
    emit.write(instruction.operands[0], kind, value)


@operation("fma")
def fused_multiply_add(instruction: Instruction, emit: Emitter) -> None:
    """f32 rounds a f64 sum, so about one result in 2^29 is rounded twice; halves compute in f64 and convert
    once.
    """

    def compute(type: str, values: list[Value]) -> Value:
        if instruction.type in HALVES or instruction.type in PACKED:
            wide = [emit.convert("f32", "f64", value) for value in values]
            return emit.apply("add", "f64", emit.apply("mul", "f64", wide[0], wide[1]), wide[2]), "f64"
        return _rounded(emit, instruction, "fma", type, values)

    elementwise(emit, instruction, instruction.operands, compute)


@operation("div")
def divide(instruction: Instruction, emit: Emitter) -> None:
    if instruction.type in FLOATS:
        elementwise(emit, instruction, instruction.operands,
                    lambda type, values: _rounded(emit, instruction, "div", type, values))  # fmt: skip
        return
    _integer(instruction, emit, "div")


@operation("rem")
def remainder(instruction: Instruction, emit: Emitter) -> None:
    _integer(instruction, emit, "rem")


def _integer(instruction: Instruction, emit: Emitter, name: str) -> None:
    type = instruction.type
    values = [emit.read(operand, type) for operand in instruction.operands[1:]]
    result = emit.apply(name, type, *values)
    if instruction.has("relu"):
        result = emit.apply("maximum", type, result, emit.constant(type, 0))
    emit.write(instruction.operands[0], type, result)


@operation("min", "max")
def minimum_or_maximum(instruction: Instruction, emit: Emitter) -> None:
    """With .xorsign the result of the magnitudes gets the sign of the product."""
    name = {"min": "minimum", "max": "maximum"}[instruction.opcode]
    if instruction.type not in FLOATS:
        if instruction.type in PACKED_INTEGERS:
            packed_integers(instruction, emit, name)
        else:
            _integer(instruction, emit, name)
        return
    if instruction.has("NaN"):
        name += "_nan"

    def compute(type: str, values: list[Value]) -> Value:
        if instruction.has("xorsign"):
            one = emit.constant(type, 1.0)
            signs = [emit.apply("copysign", type, one, value) for value in values[:2]]
            result = emit.apply(name, type, *(emit.apply("abs", type, value) for value in values[:2]))
            return emit.apply("copysign", type, result, emit.apply("mul", type, *signs))
        result = emit.apply(name, type, values[0], values[1])
        return emit.apply(name, type, result, values[2]) if len(values) == 3 else result

    elementwise(emit, instruction, instruction.operands, compute)


@operation("abs", "neg")
def absolute_or_negate(instruction: Instruction, emit: Emitter) -> None:
    """On halves these are bit operations, so that NaN payloads survive."""
    type, (target, source) = instruction.type, instruction.operands
    if type in FLOATS and type not in ("f32", "f64"):
        bits = f"b{TYPE_BITS[type]}"
        sign = 0x8000 if bits == "b16" else 0x80008000
        value = emit.read(source, bits)
        if instruction.opcode == "neg":
            emit.write(target, bits, emit.apply("xor", bits, value, emit.constant(bits, sign)))
        else:
            mask = sign ^ (0xFFFF if bits == "b16" else 0xFFFFFFFF)
            emit.write(target, bits, emit.apply("and", bits, value, emit.constant(bits, mask)))
        return
    value = emit.apply(instruction.opcode, type, emit.read(source, type))
    if instruction.has("ftz") and type == "f32":
        value = emit.apply("flush", "f32", value)
    emit.write(target, type, value)


@operation("rcp", "sqrt", "rsqrt", "ex2", "lg2", "sin", "cos", "tanh")
def unary_function(instruction: Instruction, emit: Emitter) -> None:
    """The .approx forms answer with the correctly rounded value, so hardware differs from them by its few
    ulp.
    """
    elementwise(emit, instruction, instruction.operands,
                lambda type, values: _rounded(emit, instruction, instruction.opcode, type, values))  # fmt: skip


@operation("copysign")
def copy_sign(instruction: Instruction, emit: Emitter) -> None:
    """`copysign d, a, b` gives b with the sign of a."""
    type, (target, sign, magnitude) = instruction.type, instruction.operands
    emit.write(target, type, emit.apply("copysign", type, emit.read(magnitude, type), emit.read(sign, type)))


@operation("testp")
def test_property(instruction: Instruction, emit: Emitter) -> None:
    kind = instruction.first_of("finite", "infinite", "number", "notanumber", "normal", "subnormal")
    value = emit.read(instruction.operands[1], instruction.type)
    emit.write(instruction.operands[0], "pred", emit.apply("is_" + kind, instruction.type, value))


@operation("sad")
def sum_of_absolute_differences(instruction: Instruction, emit: Emitter) -> None:
    type = instruction.type
    a, b, c = (emit.bind(emit.read(operand, type)) for operand in instruction.operands[1:])
    low, high = emit.apply("minimum", type, a, b), emit.apply("maximum", type, a, b)
    emit.write(instruction.operands[0], type, emit.apply("add", type, c, emit.apply("sub", type, high, low)))


@operation("dp4a", "dp2a")
def dot_product_of_bytes(instruction: Instruction, emit: Emitter) -> None:
    left, right = instruction.types
    a, b = (emit.read(operand, "b32") for operand in instruction.operands[1:3])
    c = emit.read(instruction.operands[3], "b32")
    part = instruction.first_of("lo", "hi") or "all"
    name = f"{instruction.opcode}_{left[0]}{right[0]}_{part}"
    emit.write(instruction.operands[0], "b32", emit.apply(name, "b32", a, b, c))

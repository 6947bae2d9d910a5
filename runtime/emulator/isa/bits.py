"""Logic, shifts, bit fields, moves, comparisons and selections.

In: instructions of those opcodes. Out: emitter calls. Why: everything that works on bit patterns and
predicates stands together.
"""

from __future__ import annotations

from ..ptx import TYPE_BITS, Discard, Immediate, Instruction, Pair, Vector
from . import operation
from .arithmetic import FLOATS, HALVES, PACKED, read_float, split_packed
from .emitter import Emitter, Value


@operation("and", "or", "xor")
def logic(instruction: Instruction, emit: Emitter) -> None:
    type = instruction.type
    a, b = (emit.read(operand, type) for operand in instruction.operands[1:])
    emit.write(instruction.operands[0], type, emit.apply(instruction.opcode, type, a, b))


@operation("not", "cnot")
def logical_not(instruction: Instruction, emit: Emitter) -> None:
    type = instruction.type
    value = emit.read(instruction.operands[1], type)
    if instruction.opcode == "cnot":
        equal = emit.apply("eq", type, value, emit.constant(type, 0))
        emit.write(
            instruction.operands[0],
            type,
            emit.apply("select", type, equal, emit.constant(type, 1), emit.constant(type, 0)),
        )
        return
    emit.write(instruction.operands[0], type, emit.apply("not", type, value))


@operation("shl", "shr")
def shift(instruction: Instruction, emit: Emitter) -> None:
    """Counts beyond the width give 0, or copies of the sign."""
    type = instruction.type
    if instruction.opcode == "shl" or type[0] == "b":
        type = "u" + type[1:]
    count = emit.read(instruction.operands[2], "u32")
    if type.endswith("16"):
        count = emit.apply("minimum", "u32", count, emit.constant("u32", 31))
    count = emit.convert("u32", type, count)
    name = "shift_left" if instruction.opcode == "shl" else "shift_right"
    emit.write(instruction.operands[0], type, emit.apply(name, type, emit.read(instruction.operands[1], type), count))


@operation("shf")
def funnel_shift(instruction: Instruction, emit: Emitter) -> None:
    low, high, count = (emit.read(operand, "u32") for operand in instruction.operands[1:])
    name = f"funnel_{instruction.first_of('l', 'r')}_{instruction.first_of('wrap', 'clamp')}"
    emit.write(instruction.operands[0], "u32", emit.apply(name, "u32", low, high, count))


@operation("popc", "clz", "brev")
def count_bits(instruction: Instruction, emit: Emitter) -> None:
    type = "u" + instruction.type[1:]
    name = {"popc": "population_count", "clz": "leading_zeros", "brev": "reverse_bits"}[instruction.opcode]
    value = emit.apply(name, type, emit.read(instruction.operands[1], type))
    emit.write(instruction.operands[0], type if instruction.opcode == "brev" else "u32", value)


@operation("bfind")
def find_leading_bit(instruction: Instruction, emit: Emitter) -> None:
    type = instruction.type
    name = "find_bit_shift_amount" if instruction.has("shiftamt") else "find_bit"
    emit.write(instruction.operands[0], "u32", emit.apply(name, type, emit.read(instruction.operands[1], type)))


@operation("bfe")
def extract_bit_field(instruction: Instruction, emit: Emitter) -> None:
    type, (target, source, start, length) = instruction.type, instruction.operands
    values = emit.read(source, type), emit.read(start, "u32"), emit.read(length, "u32")
    emit.write(target, type, emit.apply("extract_bits", type, *values))


@operation("bfi")
def insert_bit_field(instruction: Instruction, emit: Emitter) -> None:
    type, (target, field, base, start, length) = "u" + instruction.type[1:], instruction.operands
    values = emit.read(field, type), emit.read(base, type), emit.read(start, "u32"), emit.read(length, "u32")
    emit.write(target, type, emit.apply("insert_bits", type, *values))


@operation("prmt")
def permute_bytes(instruction: Instruction, emit: Emitter) -> None:
    a, b, selector = (emit.read(operand, "u32") for operand in instruction.operands[1:])
    mode = instruction.first_of("f4e", "b4e", "rc8", "ecl", "ecr", "rc16")
    emit.write(
        instruction.operands[0],
        "u32",
        emit.apply("permute_bytes" + ("_" + mode if mode else ""), "u32", a, b, selector),
    )


@operation("lop3")
def three_input_logic(instruction: Instruction, emit: Emitter) -> None:
    """`d{|p}, a, b, c, table{, q}`: the table's bit at the number that the three bits make; p is whether d is not zero,
    combined with q.
    """
    *values, table = instruction.operands[1:5]
    assert isinstance(table, Immediate)
    a, b, c = (emit.bind(emit.read(operand, "u32")) for operand in values)
    target = instruction.operands[0]
    result = emit.apply(f"logic3_{table.bits:02x}", "u32", a, b, c)
    if not isinstance(target, Pair):
        emit.write(target, "u32", result)
        return
    result = emit.bind(result)
    other = emit.read(instruction.operands[5], "pred")
    nonzero = emit.apply("ne", "u32", result, emit.constant("u32", 0))
    boolean = emit.bind(emit.apply(instruction.first_of("or", "and"), "pred", nonzero, other))
    emit.write(target.first, "u32", result)
    emit.write(target.second, "pred", boolean)


@operation("mov")
def move(instruction: Instruction, emit: Emitter) -> None:
    """Plain, packing (`d, {a, b}`) and unpacking (`{a, b}, d`) forms."""
    target, source = instruction.operands
    type = instruction.type
    if isinstance(source, Vector):
        width = TYPE_BITS[type] // len(source.elements)
        parts = [emit.read(element, f"u{width}") for element in source.elements]
        emit.write(target, f"u{width * len(parts)}", emit.apply(f"concatenate_{len(parts)}", f"u{width}", *parts))
    elif isinstance(target, Vector):
        width = TYPE_BITS[type] // len(target.elements)
        value = emit.bind(emit.read(source, "u" + type[1:]))
        for index, element in enumerate(target.elements):
            if not isinstance(element, Discard):
                emit.write(
                    element,
                    f"u{width}",
                    emit.apply(f"part_{index}_of_{len(target.elements)}", "u" + type[1:], value),
                )
    else:
        emit.write(target, type, emit.read(source, type))


_UNORDERED = {"equ": "eq", "neu": "ne", "ltu": "lt", "leu": "le", "gtu": "gt", "geu": "ge"}
_UNSIGNED = {"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}
_COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge", *_UNORDERED, *_UNSIGNED, "num", "nan")


def compare(emit: Emitter, name: str, type: str, a: Value, b: Value) -> Value:
    """One comparison; `type` is the computing type."""
    if name in _UNSIGNED:
        return emit.apply(_UNSIGNED[name], type, a, b)
    if name in ("num", "nan"):
        return emit.apply("ordered" if name == "num" else "unordered", type, a, b)
    if type not in ("f32", "f64"):
        return emit.apply(name, type, a, b)
    if name == "neu":
        return emit.apply("ne", type, a, b)
    if name == "ne":
        return emit.apply("ne_ordered", type, a, b)
    if name in _UNORDERED:
        return emit.apply(_UNORDERED[name] + "_unordered", type, a, b)
    return emit.apply(name, type, a, b)


def _comparison_type(instruction: Instruction, type: str) -> str:
    unsigned = instruction.has(*_UNSIGNED)
    return "u" + type[1:] if unsigned or (type[0] == "b" and type not in FLOATS) else type


def _compared(instruction: Instruction, emit: Emitter, type: str) -> list[Value]:
    """The comparison's result, or two of them for packed types."""
    name = instruction.first_of(*_COMPARISONS)
    left, right = instruction.operands[1:3]
    if type in PACKED:
        halves = [split_packed(emit, operand, PACKED[type]) for operand in (left, right)]
        return [compare(emit, name, "f32", halves[0][lane], halves[1][lane]) for lane in (0, 1)]
    kind = _comparison_type(instruction, type)
    if kind in FLOATS:
        a, b = read_float(emit, left, kind), read_float(emit, right, kind)
        if instruction.has("ftz") and kind == "f32":
            a, b = emit.apply("flush", "f32", a), emit.apply("flush", "f32", b)
        return [compare(emit, name, "f32" if kind in HALVES else kind, a, b)]
    return [compare(emit, name, kind, emit.read(left, kind), emit.read(right, kind))]


@operation("setp")
def set_predicate(instruction: Instruction, emit: Emitter) -> None:
    """`setp.cmp{.bool}.type p{|q}, a, b{, c}`; q is the complement, or for packed types the upper half's
    result.
    """
    target = instruction.operands[0]
    results = [emit.bind(value) for value in _compared(instruction, emit, instruction.type)]
    first, second = (target.first, target.second) if isinstance(target, Pair) else (target, Discard())
    if len(results) == 1:
        results.append(emit.apply("not", "pred", results[0]))
    boolean = instruction.first_of("and", "or", "xor")
    if boolean:
        extra = emit.bind(emit.read(instruction.operands[3], "pred"))
        results = [emit.apply(boolean, "pred", value, extra) for value in results]
    # Both values must be taken before either is written: p may also be the third operand.
    results = [emit.bind(value) for value in results] if isinstance(target, Pair) else results
    emit.write(first, "pred", results[0])
    if not isinstance(second, Discard):
        emit.write(second, "pred", results[1])


@operation("set")
def set_value(instruction: Instruction, emit: Emitter) -> None:
    """Like setp, but the answer is all ones (or 1.0) and zero."""
    target_type, source_type = instruction.types[0], instruction.types[-1]
    results = _compared(instruction, emit, source_type)
    boolean = instruction.first_of("and", "or", "xor")
    if boolean:
        extra = emit.bind(emit.read(instruction.operands[3], "pred"))
        results = [emit.apply(boolean, "pred", value, extra) for value in results]
    truth = {"f32": 0x3F800000, "f16": 0x3C00, "bf16": 0x3F80, "f16x2": 0x3C00, "bf16x2": 0x3F80}
    width = TYPE_BITS[target_type] // len(results)
    bits = f"u{width}"
    ones = emit.constant(bits, truth.get(target_type, (1 << width) - 1))
    values = [emit.apply("select", bits, value, ones, emit.constant(bits, 0)) for value in results]
    if len(values) == 2:
        emit.write(instruction.operands[0], "u32", emit.apply("concatenate_2", "u16", *values))
    else:
        emit.write(instruction.operands[0], bits, values[0])


@operation("selp")
def select(instruction: Instruction, emit: Emitter) -> None:
    type, (target, yes, no, predicate) = instruction.type, instruction.operands
    values = emit.read(predicate, "pred"), emit.read(yes, type), emit.read(no, type)
    emit.write(target, type, emit.apply("select", type, *values))


@operation("slct")
def select_by_sign(instruction: Instruction, emit: Emitter) -> None:
    type, test = instruction.types
    target, yes, no, sign = instruction.operands
    positive = emit.apply("ge", test, emit.read(sign, test), emit.constant(test, 0))
    emit.write(target, type, emit.apply("select", type, positive, emit.read(yes, type), emit.read(no, type)))

"""Atomic read-modify-write of the fast engine: one lane after the other.

In: a module, a space, a type, an operation. Out: the name of a helper. Why: lanes that hit one address must act in
order, lower lanes first, as in the NumPy engine.
"""

from __future__ import annotations

from collections.abc import Callable

from .llvm_checks import ADDRESSES, check
from .llvm_module import Module, begin_lanes, call, load_field
from .llvm_operations import apply
from .llvm_values import ELEMENTS, LANES, Code, Value
from .ptx import TYPE_BITS

_BASES = {"global": "arena", "shared": "shared"}
_LOGIC = ("and", "or", "xor")
_PACKED = {"f16x2": "f16", "bf16x2": "bf16"}


def _combined(code: Code, type: str, operation: str, old: Value, operands: list[Value]) -> Value | None:
    """The value to store, as bits; None for an operation that there is not."""
    integer = old.element
    if operation == "exch":
        return operands[0]
    if operation == "cas":
        return code.select(code.compare("icmp eq", old, operands[0]), operands[1], old)
    if operation in _LOGIC:
        return code.binary(operation, old, operands[0])
    one, zero = code.integer(integer, 1), code.integer(integer, 0)
    if operation == "inc":
        return code.select(code.compare("icmp uge", old, operands[0]), zero, code.binary("add", old, one))
    if operation == "dec":
        out = code.binary("or", code.compare("icmp eq", old, zero), code.compare("icmp ugt", old, operands[0]))
        return code.select(out, operands[0], code.binary("sub", old, one))
    if operation == "add" and type in ("f16", "bf16"):
        return _add_halves(code, type, old, operands[0])
    if operation == "add" and type in _PACKED:
        halves = [
            _add_halves(code, _PACKED[type], *(apply(code, part, "b32", (value,)) for value in (old, operands[0])))
            for part in ("low_half", "high_half")
        ]
        return apply(code, "pack_halves", "b16", (halves[0], halves[1]))
    name = {"add": "add", "min": "minimum", "max": "maximum"}.get(operation)
    if name is None or type not in ELEMENTS or type in ("f16", "bf16", *_PACKED):
        return None
    values = tuple(code.cast("bitcast", value, ELEMENTS[type]) for value in (old, operands[0]))
    return code.bits(apply(code, name, type, values))


def _add_halves(code: Code, type: str, a: Value, b: Value) -> Value:
    wide = tuple(apply(code, f"{type}_to_f32", "b16", (value,)) for value in (a, b))
    return apply(code, f"f32_to_{type}", "f32", (apply(code, "add", "f32", wide),))


def atomic_helper(module: Module, space: str, type: str, operation: str, operands: int) -> str | None:
    """`(context, site, addresses, mask, operands...)` -> the values before; None when there is no such atomic."""
    element = f"i{TYPE_BITS[type]}"
    vector = f"<{LANES} x {element}>"
    probe = Code({})
    literals = [Value("%x", element)] * operands
    if _combined(probe, type, operation, Value("%x", element), literals) is None:
        return None

    def build(code: Code) -> None:
        stores = [f"%operands{index}" for index in range(operands)]
        for name, kind in (("%places", ADDRESSES), ("%olds", vector), *((name, vector) for name in stores)):
            code.line(f"{name} = alloca {kind}")
        nbytes = TYPE_BITS[type] // 8
        arguments = f"ptr %context, i32 %site, {ADDRESSES} %address, i32 %mask, i64 {nbytes}"
        good = call(code, "i32", check(module, space), arguments)
        code.line(f"store {ADDRESSES} %address, ptr %places")
        code.line(f"store {vector} zeroinitializer, ptr %olds")
        for index, name in enumerate(stores):
            code.line(f"store {vector} %operand{index}, ptr {name}")
        base = load_field(code, _BASES[space], "ptr")
        code.line("br label %lanes")
        each_lane(code, good, lambda: _one(code, base, element, stores, type, operation))
        code.line(f"%result = load {vector}, ptr %olds")
        code.line(f"ret {vector} %result")

    given = "".join(f", {vector} %operand{index}" for index in range(operands))
    header = f"{vector} @(ptr %context, i32 %site, {ADDRESSES} %address, i32 %mask{given})"
    return module.helper(f"atomic_{space}_{operation}_{type}", header, build)


def _one(code: Code, base: Value, element: str, stores: list[str], type: str, operation: str) -> None:
    """The update of lane %lane."""
    code.line("%address_at = getelementptr i64, ptr %places, i32 %lane")
    code.line("%where = load i64, ptr %address_at")
    code.line(f"%place = getelementptr i8, ptr {base.text}, i64 %where")
    old = code.emit(f"load {element}, ptr %place", element, False)
    values = []
    for name in stores:
        at = code.name()
        code.line(f"{at} = getelementptr {element}, ptr {name}, i32 %lane")
        values.append(code.emit(f"load {element}, ptr {at}", element, False))
    new = _combined(code, type, operation, old, values)
    assert new is not None
    code.line(f"store {new.typed}, ptr %place")
    code.line(f"%old_at = getelementptr {element}, ptr %olds, i32 %lane")
    code.line(f"store {old.typed}, ptr %old_at")


def each_lane(code: Code, lanes: str, body: Callable[[], None], entry: str = "entry") -> None:
    """A loop `lanes`, entered from block `entry`, that runs `body` with %lane for every set bit; ends in `end`."""
    begin_lanes(code, lanes, entry, "next")
    body()
    code.line("br label %next")
    code.label("next")
    code.line("br label %lanes")
    code.label("end")

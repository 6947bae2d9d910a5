"""How the addresses of neighbouring lanes are expected to differ.

In: a program and the block shape. Out: for registers that hold addresses or indices, each lane's distance from lane 0.
Why: a load that knows its pattern beforehand is a few wide moves. The answer is a guess: the integer instructions are
evaluated once for the first warp, with 0 for whatever is unknown; code that uses a guess tests it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .control_flow import Program
from .llvm_values import LANES, Pattern
from .numpy_layout import Layout
from .ptx import TYPE_BITS, Immediate, Instruction, Operand, Register, Special, Symbol

_Lanes = np.ndarray[Any, np.dtype[np.int64]]
_ZERO = np.zeros(LANES, np.int64)
_LARGEST = 1 << 40
"""Distances beyond this are not those of one buffer."""


def expected_addresses(program: Program, layout: Layout, shape: tuple[int, int, int]) -> dict[int, Pattern]:
    """Patterns by register number, for registers whose lanes differ."""
    guess = _Guess(program, layout, shape)
    with np.errstate(all="ignore"):
        for block in program.blocks:
            for instruction in block.instructions:
                guess.evaluate(instruction)
    patterns = {}
    for number, value in guess.values.items():
        distance = value - value[0]
        if distance.any() and np.abs(distance).max() < _LARGEST:
            patterns[number] = tuple(distance.tolist())
    return patterns


def _wrapped(value: _Lanes, type: str) -> _Lanes:
    bits = TYPE_BITS[type]
    if bits >= 64:
        return value
    value = value & ((1 << bits) - 1)
    if type[0] == "s":
        value = value - ((value >> (bits - 1)) << bits)
    return value


class _Guess:
    def __init__(self, program: Program, layout: Layout, shape: tuple[int, int, int]) -> None:
        self.numbers = program.register_numbers
        self.offsets = layout.offsets
        x, y, z = shape
        linear = np.minimum(np.arange(LANES), x * y * z - 1)
        self.specials = {
            "%tid.x": linear % x, "%tid.y": linear // x % y, "%tid.z": linear // (x * y), "%laneid": np.arange(LANES),
        }  # fmt: skip
        self.values: dict[int, _Lanes] = {}

    def read(self, operand: Operand, type: str) -> _Lanes | None:
        """The lanes' values; None when nothing is known."""
        if isinstance(operand, Register):
            found = self.values.get(self.numbers[operand.name])
            return None if found is None else _wrapped(found, type)
        if isinstance(operand, Immediate):
            return None if operand.width else _ZERO + operand.bits
        if isinstance(operand, Symbol):
            return _ZERO + self.offsets.get(operand.name, 0)
        if isinstance(operand, Special):
            name = operand.name + ("." + operand.component if operand.component else "")
            return self.specials.get(name, _ZERO)
        return None

    def evaluate(self, instruction: Instruction) -> None:
        """Note what an instruction writes; the first one to write a register decides."""
        if not instruction.operands or not isinstance(instruction.operands[0], Register):
            return
        number = self.numbers[instruction.operands[0].name]
        if number in self.values:
            return
        if instruction.opcode in ("ld", "ldu"):
            # Loaded values are unknown; parameters are the same in every lane.
            if instruction.has("param"):
                self.values[number] = _ZERO
            return
        rule = _RULES.get(instruction.opcode)
        value = rule(self, instruction) if rule is not None else None
        if value is not None:
            self.values[number] = value


def _binary(function: Callable[[Any, Any], Any]) -> Callable[[_Guess, Instruction], _Lanes | None]:
    def rule(guess: _Guess, instruction: Instruction) -> _Lanes | None:
        type = instruction.type
        if type[0] not in "usb":
            return None
        a, b = (guess.read(operand, type) for operand in instruction.operands[1:3])
        return None if a is None or b is None else _wrapped(function(a, b), type)

    return rule


def _product(guess: _Guess, instruction: Instruction) -> _Lanes | None:
    type = instruction.type
    if type[0] not in "us" or instruction.has("hi"):
        return None
    wide = type[0] + str(2 * TYPE_BITS[type]) if instruction.has("wide") else type
    a, b = (guess.read(operand, type) for operand in instruction.operands[1:3])
    if a is None or b is None:
        return None
    total = a * b
    if instruction.opcode == "mad":
        c = guess.read(instruction.operands[3], wide)
        if c is None:
            return None
        total = total + c
    return _wrapped(total, wide)


def _converted(guess: _Guess, instruction: Instruction) -> _Lanes | None:
    types = instruction.types
    if len(types) < 2 or types[0][0] not in "us" or types[1][0] not in "us":
        return None
    value = guess.read(instruction.operands[1], types[1])
    return None if value is None else _wrapped(value, types[0])


def _moved(guess: _Guess, instruction: Instruction) -> _Lanes | None:
    return guess.read(instruction.operands[1], instruction.type) if instruction.type[0] in "usb" else None


def _address_moved(guess: _Guess, instruction: Instruction) -> _Lanes | None:
    return guess.read(instruction.operands[1], "b64")


def _field(guess: _Guess, instruction: Instruction) -> _Lanes | None:
    value, start, length = (guess.read(operand, "u32") for operand in instruction.operands[1:4])
    if value is None or start is None or length is None:
        return None
    return (value >> start) & ((1 << length) - 1)


_COMPARISONS = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal,
}  # fmt: skip


def _compared(guess: _Guess, instruction: Instruction) -> _Lanes | None:
    compare = _COMPARISONS.get(instruction.modifiers[0])
    if compare is None or instruction.type[0] not in "usb" or len(instruction.operands) != 3:
        return None
    a, b = (guess.read(operand, instruction.type) for operand in instruction.operands[1:])
    return None if a is None or b is None else compare(a, b).astype(np.int64)


def _selected(guess: _Guess, instruction: Instruction) -> _Lanes | None:
    """The first value where nothing is known of the predicate."""
    if instruction.type[0] not in "usb":
        return None
    yes, no = (guess.read(operand, instruction.type) for operand in instruction.operands[1:3])
    chosen = guess.read(instruction.operands[3], "b32")
    return yes if yes is None or no is None or chosen is None else np.where(chosen, yes, no)


def _divide(a: _Lanes, b: _Lanes) -> _Lanes:
    return np.asarray(a // np.where(b == 0, 1, b))


def _remainder(a: _Lanes, b: _Lanes) -> _Lanes:
    return np.asarray(a % np.where(b == 0, 1, b))


_RULES: dict[str, Callable[[_Guess, Instruction], _Lanes | None]] = {
    "add": _binary(np.add), "sub": _binary(np.subtract), "mul": _product, "mad": _product,
    "shl": _binary(np.left_shift), "shr": _binary(np.right_shift), "and": _binary(np.bitwise_and),
    "or": _binary(np.bitwise_or), "xor": _binary(np.bitwise_xor), "min": _binary(np.minimum),
    "max": _binary(np.maximum), "div": _binary(_divide), "rem": _binary(_remainder), "mov": _moved,
    "cvta": _address_moved, "cvt": _converted, "bfe": _field, "setp": _compared,
    "selp": _selected,
}  # fmt: skip

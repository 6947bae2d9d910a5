"""The vector-operation API between instruction semantics and an engine.

In: nothing. Out: the `Emitter` protocol and the names of the operations every engine provides. Why: semantics
written against this API run on the NumPy engine and on any later code generator unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn, Protocol

from ..ptx import Address, Instruction, Operand, Variable

Value = Any
"""An engine's handle of one value per thread (an expression, an SSA value). Its type is the type it was made
with.
"""


class Emitter(Protocol):
    """What an engine offers while one instruction is translated.

    Types are PTX types (`u32`, `f32`, `b16`, `pred`). There is no f16 or bf16 arithmetic: halves are `b16` patterns
    that `apply("f16_to_f32", ...)` and its inverses convert.
    """

    instruction: Instruction

    def read(self, operand: Operand, type: str) -> Value:
        """The value of `operand` as `type`; registers of another type of that width are reinterpreted."""

    def write(self, operand: Operand, type: str, value: Value) -> None:
        """Set register `operand`; narrower types extend by their sign. `_` discards."""

    def constant(self, type: str, number: float) -> Value:
        """A literal."""

    def bind(self, value: Value) -> Value:
        """A handle of `value` that may be used several times without evaluating it again."""

    def apply(self, operation: str, type: str, *values: Value) -> Value:
        """A pure operation on operands of `type`: add sub mul mul_high and or xor not shift_left shift_right minimum
        maximum ... ; comparisons give `pred`; `select` takes (pred, a, b)."""

    def convert(self, source: str, target: str, value: Value) -> Value:
        """Numeric conversion: integers wrap or extend, floats round to nearest even."""

    def call(self, routine: str, results: Sequence[str], values: Sequence[Value], **static: Any) -> list[Value]:
        """A routine that touches memory, other lanes or the tensor cores; gives one value per entry of
        `results`.
        """

    def update(
        self, routine: str, operands: Sequence[Operand], type: str, values: Sequence[Value], **static: Any
    ) -> None:
        """A routine that replaces the registers `operands` (32 bits, read as `type`): it gets their values, then
        `values`, and gives as many results as there are operands.
        """

    def is_predicate(self, operand: Operand) -> bool:
        """Whether `operand` is a predicate register."""

    def address(self, operand: Address) -> Value:
        """The address `base + offset`, as u64 (u32 where the base register is 32 bits wide)."""

    def variable(self, operand: Operand) -> Variable | None:
        """The variable that a symbol operand names."""

    def parameter_offset(self, name: str) -> int | None:
        """Byte offset of a kernel parameter, or None when `name` is not one."""

    def unsupported(self, reason: str) -> NoReturn:
        """Raise the DeviceError that names kernel, line and instruction."""

"""What is known about registers while the code of one block is generated.

In: uses and definitions of registers in program order. Out: names of Python variables, and lines that make them. Why:
conversions are remembered until their register changes, and results of one call stay rows of one array until somebody
wants one of them; both are book-keeping that the emitter itself need not see.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from .ptx import Operand, Register


class BlockRegisters(ABC):
    """Registers of one block: `loaded` from and `written` to the register list, remembered conversions, stacks."""

    def __init__(self, numbers: dict[str, int], dtypes: list[str]) -> None:
        self.numbers = numbers
        self.dtypes = dtypes
        self.lines: list[str] = []
        self.indent = " "
        self.guarded = False
        self.remembered: dict[tuple[str, ...], str] = {}
        self.dependents: dict[str, set[tuple[str, ...]]] = {}
        self.loaded: set[int] = set()
        self.written: set[int] = set()
        self.remembered_count = 0
        # Registers that exist only as a row of a stack so far, and how many of them each stack has.
        self.rows: dict[int, tuple[str, str]] = {}
        self.stack_rows: dict[str, int] = {}

    def line(self, text: str) -> None:
        self.lines.append(self.indent + text)

    def _use(self, number: int) -> str:
        if number not in self.written:
            self.loaded.add(number)
        row = self.rows.get(number)
        if row is not None:
            self.line(f"r{number} = {row[1]}")
            self._drop_row(number)
        return f"r{number}"

    def _drop_row(self, number: int) -> None:
        """Register `number` is a variable of its own now, or not wanted any more."""
        row = self.rows.pop(number, None)
        if row is not None:
            self.stack_rows[row[0]] -= 1
            if not self.stack_rows[row[0]] and row[0] not in self.remembered.values():
                self.line(f"{row[0]} = None")

    def _register(self, register: Register) -> str:
        return self._use(self.numbers[register.name])

    def _as_dtype(self, expression: str, have: str, want: str) -> str:
        if have == want:
            return expression
        if have[1:] != want[1:] or "?" in (have, want):
            # A narrower reading takes the low bits; a wider one of unsigned bits extends by zeros.
            return (
                f"{expression}.view(u{have[1:]}).astype({want})" if have[0] == "f" else f"{expression}.astype({want})"
            )
        if not expression[1:].isdigit():
            return f"{expression}.view({want})"
        return self.remember(("view", expression, want), f"{expression}.view({want})", (expression,))

    def remember(self, key: tuple[str, ...], expression: str, registers: Sequence[str]) -> str:
        """Evaluate a conversion of registers once, until one of them changes."""
        found = self.remembered.get(key)
        if found is None:
            self.remembered_count += 1
            found = self.remembered[key] = f"v{self.remembered_count}"
            self.line(f"{found} = {expression}")
            for register in registers:
                self.dependents.setdefault(register, set()).add(key)
        return found

    def _forget(self, register: str) -> None:
        for key in self.dependents.pop(register, ()):
            name = self.remembered.pop(key, None)
            if name is not None and not self.guarded and not self.stack_rows.get(name):
                self.line(f"{name} = None")

    def _sources(self, value: str) -> list[str]:
        """The registers that a register or remembered name stands for."""
        if value[0] == "r":
            return [value]
        return [
            register
            for register, keys in self.dependents.items()
            if any(self.remembered.get(key) == value for key in keys)
        ]

    @abstractmethod
    def read(self, operand: Operand, type: str) -> str:
        """The value of an operand."""

    @abstractmethod
    def bind(self, value: str) -> str:
        """A name for `value`."""

    # Stacks: arrays whose rows are registers.
    def _stack(self, dtype: str, operands: Sequence[Operand]) -> str:
        """An array whose rows are f32 operands, as f4 or f8; the very one they are rows of, if there is one."""
        if all(isinstance(operand, Register) for operand in operands):
            names = [f"r{self.numbers[operand.name]}" for operand in operands if isinstance(operand, Register)]
            found = self.remembered.get(("stack", dtype, *names))
            if found is not None:
                return found
            values = [self.read(operand, "f32") for operand in operands]
            return self.remember(("stack", dtype, *names), f"stack(T, {dtype}, ({', '.join(values)},))", names)
        values = [self.read(operand, "f32") for operand in operands]
        return self.bind(f"stack(T, {dtype}, ({', '.join(values)},))")

    def _new_stack(self, expression: str) -> str:
        """A name for the rows that `expression` gives."""
        self.remembered_count += 1
        result = f"v{self.remembered_count}"
        self.line(f"{result} = {expression}")
        return result

    def _assign_rows(self, result: str, targets: Sequence[Register], kind: tuple[str, ...]) -> None:
        """Registers `targets` are the rows of `result` from here on; it is remembered as `kind` of them."""
        names = []
        for target in targets:
            number = self.numbers[target.name]
            names.append(f"r{number}")
            self._drop_row(number)
            self._forget(names[-1])
            if number in self.loaded or number in self.written:
                self.line(f"{names[-1]} = None")
            self.written.add(number)
        key = (*kind, *names)
        self.remembered[key] = result
        self.stack_rows[result] = len(names)
        for index, name in enumerate(names):
            dtype = self.dtypes[int(name[1:])]
            self.dependents.setdefault(name, set()).add(key)
            self.rows[int(name[1:])] = (
                result,
                f"{result}[{index}]" + ("" if dtype == "f4" else f".view({dtype})"),
            )

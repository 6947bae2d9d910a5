"""Which engine runs a kernel, and why.

In: the wish of the user (`TILEWRIGHT_EMULATOR`), what is installed, a kernel and how large its launches are. Out: an
engine and the reason in words. Why: the NumPy engine starts at once and is exact about everything; the fast one needs
a tenth of a second to compile a kernel and then runs it some twenty times faster.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from ..errors import ModelError
from .control_flow import Program
from .llvm_library import Library, Unavailable, library

VARIABLE = "TILEWRIGHT_EMULATOR"
MODES = ("auto", "numpy", "llvm")

_NUMPY_RATE = 2e8
"""Instructions of threads that the NumPy engine executes in a second, roughly."""
_COMPILE_SECONDS = 0.08
_COMPILE_SECONDS_PER_INSTRUCTION = 4e-4
_LOOP_TURNS = 8
"""How often a loop is assumed to turn."""


@dataclass(slots=True)
class Choice:
    """An engine (`numpy` or `llvm`) and why it was taken."""

    engine: str
    reason: str


class Policy:
    """The choices of one device. `library` is None where the fast engine cannot run, `reason` then says why."""

    def __init__(self, mode: str | None = None, observed: bool = False) -> None:
        """`mode` overrides the environment. Raises ModelError when it is none of `MODES`."""
        self.mode = mode or os.environ.get(VARIABLE, "auto") or "auto"
        if self.mode not in MODES:
            raise ModelError(f"{VARIABLE} is {self.mode!r}\n  supported: {', '.join(MODES)}")
        self.library: Library | None = None
        self.reason = ""
        if observed:
            self.reason = "every access is observed"
        elif self.mode == "numpy":
            self.reason = f"{VARIABLE} asks for it"
        else:
            try:
                self.library = library()
            except Unavailable as error:
                self.reason = str(error)

    def describe(self) -> str:
        """One line for people."""
        if self.library is None:
            return f"NumPy engine: {self.reason}"
        if self.mode == "llvm":
            return f"LLVM engine for {self.library.host.cpu}, as {VARIABLE} asks"
        return f"NumPy engine for small kernels, LLVM engine for {self.library.host.cpu} for large ones"

    def choose(self, program: Program, threads: int, seconds: float) -> Choice:
        """The engine for the next launch of a kernel that is not compiled yet: `threads` is its size, `seconds` the
        time that its launches took in the NumPy engine so far."""
        if self.library is None:
            return Choice("numpy", self.reason)
        if self.mode == "llvm":
            return Choice("llvm", f"{VARIABLE} asks for it")
        compiling = _COMPILE_SECONDS + _COMPILE_SECONDS_PER_INSTRUCTION * _size(program)
        running = threads * _work(program) / _NUMPY_RATE
        if running > compiling:
            return Choice("llvm", f"a launch would take the NumPy engine about {running:.1f} s")
        if seconds > compiling:
            return Choice("llvm", f"its launches took the NumPy engine {seconds:.1f} s already")
        return Choice("numpy", "its launches are small")


def _size(program: Program) -> int:
    return sum(len(block.instructions) for block in program.blocks)


def _work(program: Program) -> int:
    """Instructions that a thread executes, with every loop taken to turn `_LOOP_TURNS` times."""
    turns = [1] * len(program.blocks)
    for block in program.blocks:
        for target in block.exit.targets:
            if target <= block.number:
                for number in range(target, block.number + 1):
                    turns[number] *= _LOOP_TURNS
    return sum(len(block.instructions) * min(turns[block.number], _LOOP_TURNS**3) for block in program.blocks)

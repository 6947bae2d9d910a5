"""The instruction table: what every PTX opcode means, over a small vector-operation API.

In: a parsed instruction and an engine's `Emitter`. Out: calls of that emitter. Why: one description of the
semantics serves every engine. An opcode is added by decorating a function with `@operation` in a module of
this folder.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from ..ptx import Instruction
from .emitter import Emitter

CONTROL = frozenset({"bra", "brx", "ret", "exit", "trap"})
"""Opcodes that end a block; the control-flow graph, not this table, gives them meaning (with `bar` and
`barrier`).
"""

Semantics = Callable[[Instruction, Emitter], None]


Destinations = int | Callable[[Instruction], int]


@dataclass(frozen=True, slots=True)
class Operation:
    """Semantics of an opcode, how many leading operands it writes (a number, or a function of the instruction), and
    whether it also reads them.
    """

    semantics: Semantics
    destinations: Destinations
    updates: bool = False


_TABLE: dict[str, Operation] = {}


def operation(*opcodes: str, destinations: Destinations = 1, updates: bool = False) -> Callable[[Semantics], Semantics]:
    """Register the decorated function as the semantics of `opcodes`."""

    def register(semantics: Semantics) -> Semantics:
        for opcode in opcodes:
            _TABLE[opcode] = Operation(semantics, destinations, updates)
        return semantics

    return register


def table() -> dict[str, Operation]:
    """The whole table; the modules of this folder are found and imported on first use."""
    _load()
    return _TABLE


@cache
def _load() -> None:
    """A second thread does the same meanwhile, and waits for what the first is importing."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")


def destination_count(instruction: Instruction) -> int:
    """How many leading operands `instruction` writes."""
    if instruction.opcode in CONTROL:
        return 0
    if instruction.opcode in ("bar", "barrier"):
        return 1 if instruction.has("red") else 0
    if instruction.opcode == "call":
        return 0
    found = table().get(instruction.opcode)
    if found is None:
        return 1
    return found.destinations if isinstance(found.destinations, int) else found.destinations(instruction)


def updates_destinations(instruction: Instruction) -> bool:
    """Whether `instruction` reads what it writes, as wgmma.mma_async does its accumulators."""
    found = table().get(instruction.opcode)
    return found is not None and found.updates

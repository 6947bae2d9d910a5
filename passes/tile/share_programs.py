"""Tile programs that differ in sizes only become one, which takes those sizes as arguments.

In: the programs of kernel functions that look alike. Out: the same with one text for all that are equal but for index
constants. The parts of a concatenation lie at offsets of their own and the layers behind it read more channels each
time: without this DenseNet's layers share no kernel, and each is compiled for itself.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from mlir import ir

from ...dialects.given_kernel import is_given
from ...dialects.tensors import element_of, shape_of
from ..graph.rewriting import body_of, operations_of, string
from ..unit import KernelProgram

_CONSTANT = re.compile(r"\s*(%\S+) = arith\.constant (\S+)(?: : (\S+))?")
_VALUE = re.compile(r"%[\w$.-]+")
_LOOP = re.compile(r"\s*(?:%\S+ = )?scf\.for %\S+ = (%\S+) to (%\S+) step (%\S+) ")
_SIGNATURE = re.compile(r"(func\.func @)[^(]*(\([^)]*)(\))")
# Dividing by what is not known takes some twenty instructions instead of two. The distance of neighbouring rows is a
# part of the instructions that load them where it is known: main loops had up to a fifth more instructions without it.
_DIVISIONS = ("arith.divui", "arith.divsi", "arith.remui", "arith.remsi", "arith.ceildiv", "arith.floordiv")
_MULTIPLICATION = "arith.muli"
LARGEST = 2**31 - 1  # of an argument
FEW_STEPS = 3  # of a loop: ptxas was seen to unroll it, and then to need fewer registers


def groups_alike(kernels: Sequence[ir.Operation]) -> Iterator[list[ir.Operation]]:
    """All kernel functions, those together whose programs may turn out equal but for sizes: with the same operations
    and the same results, from tensors that differ in sizes that no result has. Quick, so that the others need not wait.
    """
    groups: dict[Hashable, list[ir.Operation]] = defaultdict(list)
    for function in kernels:
        groups[string(function, "sym_name") if is_given(function) else _likeness(function)].append(function)
    yield from groups.values()


def share(programs: Sequence[KernelProgram]) -> list[KernelProgram]:
    """The programs in their order, with the name and the text of the first where they differ from it in sizes only.

    before::

        func.func @dot_1(%arg0, %arg1, %arg2) { scf.for %k = %c0 to %c128 step %c64 { ... } }
        func.func @dot_2(%arg0, %arg1, %arg2) { scf.for %k = %c0 to %c192 step %c64 { ... } }

    after::

        func.func @dot_1(%arg0, %arg1, %arg2, %size0: index) { scf.for %k = %c0 to %size0 step %c64 { ... } }

    with the arguments 128 and 192 more. Schedules, layouts and widths of accesses were chosen with the sizes known and
    stand in the operations, which are equal. Divisors, factors inside loops and bounds of loops of few steps stay.
    """
    alike: dict[str, list[tuple[int, _Form]]] = defaultdict(list)
    for number, program in enumerate(programs):
        if not program.given and not program.alternatives:
            form = _Form(program.text)
            alike[form.key].append((number, form))
    result = list(programs)
    for members in alike.values():
        if len(members) > 1:
            forms = [form for _, form in members]
            server = programs[members[0][0]]
            given, text = _merged(forms, server)
            for (number, _), sizes in zip(members, given, strict=True):
                result[number] = _served(programs[number], server.name, text, sizes)
    return result


def _likeness(function: ir.Operation) -> Hashable:
    body = body_of(function)
    *operations, end = operations_of(body)
    results = [(element_of(value), shape_of(value)) for value in end.operands]
    kept = {size for _, shape in results for size in shape}
    arguments = [
        (element_of(own), tuple(size if size in kept else None for size in shape_of(own))) for own in body.arguments
    ]
    names = tuple(own.name for own in operations)
    return string(function, "graph.kernel"), names, tuple(results), tuple(arguments)


@dataclass(frozen=True)
class _Hole:
    """Where a program uses an index constant that may become an argument."""

    line: int
    start: int
    end: int
    value: int


@dataclass
class _Form:
    """The text of a program taken apart: `key` is equal for programs that differ in the values of their holes only.

    Other constants stand in the key by their values or in the order of their definition; names of results and arguments
    count up in MLIR's text, so that equal programs have equal ones.
    """

    text: str
    key: str = ""
    holes: list[_Hole] = field(default_factory=list)
    _indices: dict[str, int] = field(default_factory=dict)
    _others: dict[str, str] = field(default_factory=dict)
    _loops: list[str] = field(default_factory=list)  # around the line: how they are closed

    def __post_init__(self) -> None:
        lines: list[str] = []
        for number, line in enumerate(self.text.splitlines()):
            constant = _CONSTANT.match(line)
            if constant and constant[3] == "index":
                self._indices[constant[1]] = int(constant[2])
                continue
            if self._loops and line.startswith(self._loops[-1]):
                self._loops.pop()
            if constant:
                self._others[constant[1]] = f"%constant{len(lines)}"
            lines.append(self._without_constants(number, line))
        self.key = _SIGNATURE.sub(r"\1\2\3", "\n".join(lines), count=1)

    def _without_constants(self, number: int, line: str) -> str:
        """The line for the key; its holes are noted."""
        fixed = self._fixed(line)
        parts, end = [], 0
        for found in _VALUE.finditer(line):
            name = found[0]
            value = self._indices.get(name)
            if value is None:
                shown = self._others.get(name, name)
            elif name in fixed or abs(value) > LARGEST:
                shown = f"%{value}"
            else:
                shown = "%?"
                self.holes.append(_Hole(number, found.start(), found.end(), value))
            parts += [line[end : found.start()], shown]
            end = found.end()
        return "".join([*parts, line[end:]])

    def _fixed(self, line: str) -> set[str]:
        """Constants of the line that are better known: they stay."""
        loop = _LOOP.match(line)
        if loop:
            self._loops.append(" " * (len(line) - len(line.lstrip())) + "}")
            return set(loop.groups()) if self._has_few_steps(*loop.groups()) else {loop[1], loop[3]}
        costly = (*_DIVISIONS, *([_MULTIPLICATION] if self._loops else []))
        return set(_VALUE.findall(line)) if any(name in line for name in costly) else set()

    def _has_few_steps(self, low: str, high: str, step: str) -> bool:
        if not {low, high, step} <= self._indices.keys():
            return False
        return self._indices[high] - self._indices[low] <= FEW_STEPS * self._indices[step]


def _merged(forms: Sequence[_Form], server: KernelProgram) -> tuple[list[tuple[int, ...]], str]:
    """(what each member gives for the new arguments, the text that takes them)."""
    columns: dict[tuple[int, ...], int] = {}
    lines = server.text.splitlines()
    for same in reversed(list(zip(*(form.holes for form in forms), strict=True))):  # back to front: places stay right
        values = tuple(hole.value for hole in same)
        if any(value != values[0] for value in values):
            number, hole = columns.setdefault(values, len(columns)), same[0]
            line = lines[hole.line]
            lines[hole.line] = f"{line[: hole.start]}%size{number}{line[hole.end :]}"
    added = "".join(f", %size{number}: index" for number in range(len(columns)))
    text = _SIGNATURE.sub(rf"\g<1>{server.name}\g<2>{added}\g<3>", "\n".join(lines), count=1)
    sizes = [tuple(column[member] for column in columns) for member in range(len(forms))]
    return sizes, _without_unused_constants(text)


def _without_unused_constants(text: str) -> str:
    """The text without constants that nothing uses any more."""
    lines = text.splitlines()
    used = {name for line in lines if not _CONSTANT.match(line) for name in _VALUE.findall(line)}
    kept = [line for line in lines if not (found := _CONSTANT.match(line)) or found[1] in used]
    return "\n".join(kept) + "\n"


def _served(program: KernelProgram, name: str, text: str, sizes: tuple[int, ...]) -> KernelProgram:
    """The program with another's name and text, and with these sizes for its last arguments."""
    return replace(
        program, name=name, text=text, arguments=[*program.arguments, *(("symbol", str(size)) for size in sizes)]
    )

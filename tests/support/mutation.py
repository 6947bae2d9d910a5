"""Bugs as data, and what notices one: kinds of bugs, mutants of a kernel's PTX, and the case that judges them.

In: a kernel that a subclass of `Case` can run. Out: its mutants, and for each a verdict. Why: which kernels are broken
(mutants.py, mutant_products.py) is another matter than how.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from types import FrameType

import numpy as np

from tilewright.runtime.emulator.observer import Instrument, Order
from tilewright.runtime.emulator.sanitizer import Sanitizer
from tilewright.runtime.emulator.sanitizer_findings import Finding
from tilewright.runtime.errors import DeviceError

Arrays = dict[str, np.ndarray]
SITES = 2
"""Places of one kind that are mutated in a kernel, spread evenly."""


@dataclass(frozen=True)
class Operator:
    """A kind of bug: lines that match `pattern` become what `change` makes of the match, or disappear."""

    name: str
    pattern: str
    change: Callable[[re.Match[str]], str] | None = None

    def sites(self, lines: list[str]) -> list[tuple[int, str]]:
        """(line index, its mutated text) of every place."""
        found = []
        for number, line in enumerate(lines):
            match = re.search(self.pattern, line)
            if match is None:
                continue
            text = ""
            if self.change is not None:
                text = line[: match.start()] + self.change(match) + line[match.end() :]
            if text != line:
                found.append((number, text))
        return found


def plus(group: int, more: int) -> Callable[[re.Match[str]], str]:
    """Add `more` to the integer in `group`."""

    def change(match: re.Match[str]) -> str:
        begin, end = match.start(group) - match.start(), match.end(group) - match.start()
        return match[0][:begin] + str(int(match[group]) + more) + match[0][end:]

    return change


def _bound(match: re.Match[str]) -> str:
    return {"lt": "setp.le", "ge": "setp.gt", "gt": "setp.ge", "le": "setp.lt"}[match[1]] + match[0][7:]


def _without_lowest_bit(match: re.Match[str]) -> str:
    value = int(match[2])
    return f"{match[1]}{value & (value - 1)};"


def _next_row(match: re.Match[str]) -> str:
    base, offset = match[1], int(match[2] or 0)
    return match[0][: match.start(1) - match.start() - 1] + f"[{base}+{offset + 16}]"


def _other_phase(match: re.Match[str]) -> str:
    turned = f"{{ .reg .b32 Q1; xor.b32 Q1, {match[3]}, 1; .reg .pred"
    return f"{turned}{match[1]}{match[2]}Q1;"


OPERATORS = (
    Operator("dropped barrier", r"^\s*bar\.sync\b.*"),
    Operator("dropped wait_group", r"^\s*cp\.async\.(bulk\.)?wait_group.*"),
    Operator("wait_group for one group less", r"cp\.async\.wait_group\s+(\d+)", plus(1, 1)),
    Operator("dropped commit_group", r"^\s*cp\.async\.(bulk\.)?commit_group.*"),
    Operator("dropped copy", r"^\s*cp\.async\.(c[ag]|bulk\.tensor).*"),
    Operator("dropped zero-fill", r"(cp\.async\.c\S+\s+\[[^]]*\], \[[^]]*\], \d+), (%r\d+|0);", lambda m: f"{m[1]};"),
    Operator("off-by-one bound", r"setp\.(lt|ge|gt|le)\.[su]32.*", _bound),
    Operator("wrong stride", r"mad\.lo\.s32.*, (\d+), %r\d+;", plus(1, 16)),
    Operator("wrong shift", r"shl\.b32.*, (\d+);", plus(1, 1)),
    Operator("wrong swizzle or mask", r"((?:xor|and)\.b32\s+%r\d+, %r\d+, )(\d{2,});", _without_lowest_bit),
    Operator(
        "swapped operands", r"(sub\.(?:rn\.f32|s32)|div\.\S+)\s+(%r\d+), (%r\d+), (%r\d+);",
        lambda m: f"{m[1]} {m[2]}, {m[4]}, {m[3]};",
    ),
    Operator(
        "swapped fragments", r"^\t\t\{(%r\d+), (%r\d+), (%r\d+), (%r\d+)\},$",
        lambda m: f"\t\t{{{m[2]}, {m[1]}, {m[3]}, {m[4]}}},",
    ),
    Operator("dropped store", r"^\s*(@!?%p\d+ )?st\.(global|shared)\..*"),
    Operator("store at the wrong address", r"st\.shared\.\S+\s+\[(%\w+)(\+\d+)?\]", _next_row),
    Operator("wrong lane", r"(shfl\.sync\.bfly\.b32.*, )(\d+), 31", lambda m: f"{m[1]}{int(m[2]) // 2}, 31"),
    Operator("dropped proxy fence", r"^\s*fence\.proxy\.async.*"),
    Operator("wrong phase", r"\{ \.reg \.pred( P1;.*try_wait\.parity.*)(P1, \[%r\d+\], )(%r\d+);", _other_phase),
    Operator("dropped wait for an mbarrier", r"^.*mbarrier\.try_wait.*"),
    Operator("dropped arrival", r"^\s*mbarrier\.arrive\.release.*"),
    Operator("too few bytes expected", r"(arrive\.expect_tx\S+ _, \[%r\d+\], )%r\d+;", lambda m: f"{m[1]}64;"),
    Operator("dropped wgmma.wait_group", r"^\s*wgmma\.wait_group.*"),
    Operator("dropped wgmma.fence", r"^\s*wgmma\.fence.*"),
    Operator(
        "swapped coordinates", r"(cp\.async\.bulk\.tensor.*\{)(%r\d+), (%r\d+)\}",
        lambda m: f"{m[1]}{m[3]}, {m[2]}}}",
    ),
    Operator("wrong count of arrivals", r"(mbarrier\.init\.\S+ \[%r\d+\], )(%r\d+|1);", lambda m: f"{m[1]}3;"),
)  # fmt: skip


_NUMBER_OF_REGISTER = re.compile(r"(%[a-z]+)\d+")


@dataclass(frozen=True)
class Mutant:
    """One bug in one kernel: what replaces line `line` (from 1), whose text was `before`; `place` counts the mutants of
    its kind in the kernel."""

    case: str
    operator: str
    place: int
    line: int
    before: str
    after: str

    @property
    def name(self) -> str:
        """The same when lines move and registers are numbered anew, another one when the instruction changes."""
        text = " ".join(_NUMBER_OF_REGISTER.sub(r"\1", self.before).split())
        return f"{self.case}: {self.operator} {self.place}: {text}"


@dataclass(frozen=True)
class Verdict:
    """What noticed a mutant: kinds of findings, `comparison`, or nothing."""

    mutant: Mutant
    caught_by: tuple[str, ...]


class Case:
    """A kernel under test. Subclasses run a PTX text of it."""

    name = ""
    tolerance = 0.0
    """Of the largest output: how far an answer may be from the right one."""
    ptx = ""
    entry = ""
    operators = OPERATORS

    def run(self, ptx: str, instrument: Instrument) -> Arrays:
        """The outputs with this PTX. Raises DeviceError."""
        raise AssertionError("a subclass runs")

    @cached_property
    def right(self) -> Arrays:
        """The answer of the kernel as it is."""
        sanitizer = Sanitizer()
        outputs = self.run(self.ptx, sanitizer)
        assert not len(sanitizer.findings), [str(finding) for finding in sanitizer.findings.list()]
        return outputs

    def mutants(self) -> Iterator[Mutant]:
        """Up to `SITES` of each kind of bug."""
        lines = self.ptx.split("\n")
        first = next(number for number, line in enumerate(lines) if f".entry {self.entry}(" in line)
        last = next((n for n in range(first + 1, len(lines)) if ".entry" in lines[n]), len(lines))
        for operator in self.operators:
            sites = [site for site in operator.sites(lines) if first < site[0] < last]
            chosen = sorted({len(sites) * (2 * part + 1) // (2 * SITES) for part in range(SITES)})
            taken = [sites[place] for place in chosen if place < len(sites)]
            for place, (number, text) in enumerate(taken, 1):
                before, after = lines[number].strip(), text.strip()
                yield Mutant(self.name, operator.name, place, number + 1, before, after)

    def judge(self, mutant: Mutant, limit: float = 60) -> Verdict:
        """Run a mutant under the sanitizer, for at most `limit` seconds."""
        lines = self.ptx.split("\n")
        indent = lines[mutant.line - 1][: len(lines[mutant.line - 1]) - len(lines[mutant.line - 1].lstrip())]
        lines[mutant.line - 1] = indent + mutant.after
        sanitizer = Sanitizer(Order("reversed"))
        noticed: list[str] = []
        try:
            with _time_limit(limit):
                outputs = self.run("\n".join(lines), sanitizer)
            if not self.agrees(outputs):
                noticed.append("comparison")
        except DeviceError as error:
            if not len(sanitizer.findings):
                noticed.append(f"error: {str(error).splitlines()[0]}")
        except TimeoutError:
            noticed.append("time limit")
        kinds = [_kind(finding) for finding in sanitizer.findings.list()]
        return Verdict(mutant, tuple(dict.fromkeys([*kinds, *noticed])))

    def agrees(self, outputs: Arrays) -> bool:
        """Whether outputs are those of the right kernel, within the tolerance."""
        for name, right in self.right.items():
            want, got = right.astype("f8"), outputs[name].astype("f8")
            if not np.allclose(got, want, rtol=0, atol=self.tolerance * float(np.abs(want).max())):
                return False
        return True


def _kind(finding: Finding) -> str:
    if finding.kind != "fault":
        return {"unwritten": "uninitialised"}.get(finding.kind, finding.kind)
    for word, kind in (("out of bounds", "bounds"), ("misaligned", "bounds"), ("deadlock", "deadlock")):
        if word in finding.what:
            return kind
    return "fault"


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in the body: a mutant may loop for ever."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

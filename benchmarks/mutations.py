"""Which injected bugs are caught, and by what? Writes the table docs/mutations.md.

    python -m benchmarks.mutations [--only CASE] [--write]

In: the kernels of tests/support/mutants.py. Out: a row for each mutant; the exit code is 1 when one survives
without a reason.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

from tests.support.mutants import CASES, REASONS
from tests.support.mutation import Verdict

TABLE = Path(__file__).resolve().parent.parent / "docs" / "mutations.md"
LONGEST = 76  # characters of a PTX line in the table
HEAD = """# Injected bugs, and what catches them

`python -m benchmarks.mutations --write` makes this page: it breaks one PTX line of a kernel at a time and runs the
result under the emulator's [sanitizer](sanitizer.md), with reversed warps and asynchronous copies at their latest
moment. The kernels are our own of small models for sm_80, the warp-specialised product of tests/emulator/cuda
(tensor copies, mbarriers, wgmma), our own one as it stores its results (`boxes`), as a residual arrives in them
(`residual`), as its blocks share tiles by way of flags (`shared tiles`), an operand (`cluster`) or k (`shared k`) in a
cluster, and a softmax whose lines the blocks of a cluster share (`long lines`). `comparison` means that the answer
differs from the right kernel's; `time limit` that the mutant loops for ever; `fault` that the emulator stopped it, for
an mbarrier that was never initialised and the like.
"""


def is_unexplained(verdict: Verdict) -> bool:
    """Whether a mutant survives, and nobody knows why."""
    return not verdict.caught_by and verdict.mutant.name not in REASONS


def rows(verdicts: list[Verdict]) -> list[str]:
    """The lines of the table."""
    lines = ["| kernel | bug | PTX line | text | caught by |", "|---|---|---|---|---|"]
    for verdict in verdicts:
        mutant = verdict.mutant
        text = mutant.before.replace("\t", " ").replace("|", "\\|")
        text = text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
        outcome = ", ".join(verdict.caught_by) or f"survives: {REASONS.get(mutant.name, 'NO REASON KNOWN')}"
        lines.append(f"| {mutant.case} | {mutant.operator} | {mutant.line} | `{text}` | {outcome} |")
    return lines


def summary(verdicts: list[Verdict]) -> list[str]:
    """How many were caught, and how many by each check alone or with others."""
    caught = [verdict for verdict in verdicts if verdict.caught_by]
    alone = Counter(verdict.caught_by[0] for verdict in caught if len(verdict.caught_by) == 1)
    any_of = Counter(check for verdict in caught for check in verdict.caught_by)
    unexplained = len([verdict for verdict in verdicts if is_unexplained(verdict)])
    reasons = f"{unexplained} of them for no known reason" if unexplained else "each for a reason"
    lines = [
        f"{len(verdicts)} mutants, {len(caught)} caught, {len(verdicts) - len(caught)} survive, {reasons}.",
        "",
        "| check | mutants it notices | that nothing else notices |",
        "|---|---|---|",
    ]
    return [*lines, *(f"| {check} | {count} | {alone[check]} |" for check, count in any_of.most_common())]


def main() -> None:
    """Judge every mutant and print or write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", help="only kernels whose name contains this")
    parser.add_argument("--write", action="store_true", help=f"write {TABLE.name}")
    chosen = parser.parse_args()
    verdicts: list[Verdict] = []
    for name, make in CASES.items():
        if chosen.only not in name:
            continue
        case = make()
        for mutant in case.mutants():
            verdicts.append(case.judge(mutant))
            print(rows(verdicts[-1:])[-1], flush=True)
    page = "\n".join([HEAD, *summary(verdicts), "", *rows(verdicts), ""])
    if chosen.write:
        TABLE.write_text(page)
    print("\n".join(summary(verdicts)))
    sys.exit(any(map(is_unexplained, verdicts)))


if __name__ == "__main__":
    main()

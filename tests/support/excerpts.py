"""Excerpts of real dumps in the documentation: a page and a folder of dumps go in, the page with fresh excerpts out.

    <!-- excerpt tile.tile.dot_0.mlir: tile.copy ... tile.barrier -->

stands before a code block and says: of the dump whose name ends so, the lines from the first that has `tile.copy`
to the next that has `tile.barrier`. So the documentation shows what the compiler does today, or a test fails.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

COLUMNS = 118
MARKER = re.compile(r"<!-- excerpt (\S+): (.+?) \.\.\. (.+?) -->\n```(\w*)\n.*?```", re.DOTALL)


def refresh(page: str, folder: Path) -> str:
    """The page with every marked code block cut anew from the dumps in `folder`.

    Raises LookupError when a dump or the lines of an excerpt are no longer there.
    """

    def cut_anew(found: re.Match[str]) -> str:
        name, first, last, language = found.groups()
        body = cut(dump(folder, name), first, last)
        return f"<!-- excerpt {name}: {first} ... {last} -->\n```{language}\n{body}```"

    return MARKER.sub(cut_anew, page)


def dump(folder: Path, name: str) -> str:
    """The text of the dump whose name is `name` after its number."""
    paths = sorted(folder.glob(f"*-{name}"))
    if not paths:
        there = ", ".join(sorted(path.name for path in folder.iterdir()))
        raise LookupError(f"there is no dump {name}; there are {there}")
    return paths[0].read_text()


def cut(text: str, first: str, last: str) -> str:
    """The lines from the first that contains `first` to the next that contains `last`, shortened and dedented."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    begin = next((index for index, line in enumerate(lines) if first in line), None)
    if begin is None:
        raise LookupError(f"no line has {first!r}")
    rest = range(begin if first == last else begin + 1, len(lines))
    end = next((index for index in rest if last in lines[index]), None)
    if end is None:
        raise LookupError(f"no line after {first!r} has {last!r}")
    chosen = textwrap.dedent("\n".join(lines[begin : end + 1])).splitlines()
    return "".join(f"{line if len(line) <= COLUMNS else line[: COLUMNS - 1] + '…'}\n" for line in chosen)

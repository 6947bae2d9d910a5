"""Which operation of the tile program each PTX instruction comes from, as comments in the PTX.

In: PTX with LLVM's `.loc` directives, whose lines are those of a tile program, and that program. Out: PTX without debug
directives, with a comment `// in 27: tile.copy` where another operation begins. Why: the sanitizer names the operation
of a finding, and people read PTX; a comment needs no place in the engine file, and ptxas does not see it.
"""

from __future__ import annotations

import re

_LOCATION = re.compile(r"\t\.loc\s+\d+\s+(\d+)\s")
_DEBUG = re.compile(r"\t?\.file\s|\$L__(?:func_begin|func_end|tmp)\d+:|\t\.section\s+\.debug")
_OPERATION = re.compile(r'"?\b([a-z_]\w*\.[\w.]+)"?[\s(]')


def mark_origins(ptx: str, program: str) -> str:
    """`ptx` with a comment for each change of operation; see the module's docstring."""
    lines = program.splitlines()
    result = []
    mark = told = ""
    for line in ptx.splitlines():
        location = _LOCATION.match(line)
        if location:
            mark = _mark(lines, int(location[1])) or mark
        elif not _DEBUG.match(line):
            if mark != told and line.startswith("\t"):
                result.append(mark)
                told = mark
            result.append(line)
    return "\n".join([*result, ""])


def _mark(lines: list[str], number: int) -> str:
    text = lines[number - 1].strip() if 0 < number <= len(lines) else ""
    found = _OPERATION.search(text)
    return f"\t// in {number}: {found[1]}" if found else ""

"""Which stages of the pipeline changed the IR of a model, and some that work inside others.

In: a dump folder. Out: names. Why: a random model says nothing about a pass that found nothing in it.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

_FUNCTION = re.compile(r"func\.func .*?^  }", re.MULTILINE | re.DOTALL)
_LOOP = 'graph.kernel = "loop"'


def fired_stages(folder: Path) -> tuple[str, ...]:
    """Names of stages that changed the IR; `cache-loops` and `share-programs` among them where they did something.

    Empty where the compilation did not come so far as to dump anything.
    """
    index = folder / "index.tsv"
    if not index.exists():
        return ()
    with index.open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    found = [row["pass"] for row in rows if row["changed"] in ("yes", "True", "1")]
    fused = "".join(path.read_text() for path in folder.glob("*-graph.fuse.mlir"))
    kernels = [text for text in _FUNCTION.findall(fused) if _LOOP in text]
    if any(text.count('"graph.concatenate"') > 1 and re.search(r"return %\S+, %", text) for text in kernels):
        found.append("cache-loops")
    if any("%size0: index" in path.read_text() for path in folder.glob("*-tile.tile.*.mlir")):
        found.append("share-programs")
    return tuple(found)

"""What fusing passes look for, as exporters write it and at its borders: a file a family, a motif an entry.

In: nothing. Out: `motifs(opset)`, functions that add some nodes to a `GraphBuilder`, with weights. Random operators of
random shapes almost never make a normalised product of 64 lines, a gate or a cache; these do, and nearly do.
"""

from __future__ import annotations

import importlib
import pkgutil

from .registry import Motif, registered


def motifs(opset: int) -> list[Motif]:
    """All motifs that exist at an opset, in a fixed order."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return [entry for entry in registered() if entry.since <= opset]

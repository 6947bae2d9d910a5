"""The operators that random graphs are made of: a file a family, an entry an operator, found by folder.

In: nothing. Out: `entries(opset)`, functions that add one operator to a `GraphBuilder`, with weights. Each solves
types, shapes and attributes for itself, or raises Unfit.
"""

from __future__ import annotations

import importlib
import pkgutil

from .registry import Entry, registered


def entries(opset: int) -> list[Entry]:
    """All entries that exist at an opset, in a fixed order."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return [entry for entry in registered() if entry.since <= opset <= entry.until]

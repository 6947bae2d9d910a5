"""Which slices of a tensor differ.

In: a downloaded tensor. Out: the different slices; the symbol is how many there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import HostCall, host_function


@host_function("unique")
def unique(call: HostCall) -> Sequence[Any]:
    """Values, first positions, inverse and counts, sorted or in the order of first occurrence."""
    (values,) = call.inputs
    axis = call.attributes["axis"]
    kind = values.dtype
    wide = values.astype(np.float32) if kind.kind == "V" else values  # bfloat16 has no sort of its own
    kept, first, inverse, counts = np.unique(wide, True, True, True, axis=axis)
    inverse = inverse.reshape(-1)
    if not call.attributes["sorted"]:
        order = np.argsort(first, kind="stable")
        ranks = np.empty_like(order)
        ranks[order] = np.arange(len(order))
        kept = np.take(kept, order, axis=axis or 0)
        first, counts, inverse = first[order], counts[order], ranks[inverse]
    call.symbols = [len(first)]
    integers = [np.asarray(item, dtype=np.int64) for item in (first, inverse, counts)]
    return [np.ascontiguousarray(kept.astype(kind)), *integers]


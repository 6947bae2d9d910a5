"""The memory that a compiled kernel and its host share: where each field of the context lies.

In: nothing. Out: byte offsets, and the record types of NumPy over them. Why: generated code and Python must agree on
one layout, written once.

A context belongs to one host thread. It is followed by nothing; pointers lead to the arena, the parameters, the shared
memory (of the block that runs, and of the first of its cluster) and its barriers, the state of each warp, the
allocation table (sorted pairs of start and end), and for every memory instruction the allocation (start, bytes) that
it touched last.
"""

from __future__ import annotations

import numpy as np

from .llvm_values import LANES

CONTEXT = np.dtype(
    [
        ("arena", "u8"), ("parameters", "u8"), ("shared", "u8"), ("shared_limit", "u8"), ("local", "u8"),
        ("warps", "u8"), ("table", "u8"), ("table_count", "u8"), ("recent", "u8"), ("stop", "u8"),
        ("scratch", "u8"), ("local_base", "u8"), ("barriers", "u8"), ("shared_base", "u8"), ("host", "u8"),
        ("grid", "u4", 3), ("block", "u4", 3), ("dynamic_bytes", "u4"), ("fault_space", "u4"),
        ("fault_kind", "u4"), ("fault_site", "u4"), ("fault_lanes", "u4"), ("fault_warp", "u4"),
        ("warp", "u4"), ("block_number", "u4"), ("rank", "u4"), ("hurry", "u4"),
        ("cluster_arrived", "u4"), ("cluster_expected", "u4"), ("cluster_generation", "u4"), ("turn", "u4"),
        ("fault_address", "u8", LANES),
    ]
)  # fmt: skip

NEW, AGAIN, HURRIED = range(3)
"""Values of `turn`, of the first block to run: from its beginning; from where its threads spun; and there without lanes
that wait for others of their warp."""

ENDED, BLOCKED, WAITS, PAUSES = range(4)
"""What the function of a warp returns: all lanes ended; still waiting as before; got further, and waits now; some lanes
spin."""

BARRIERS = 16
BARRIER_BYTES = 32
BARRIER_FIELDS = {"arrived": 0, "expected": 4, "generation": 8, "votes": 12, "result": 16}

(
    FAULT_ACCESS, FAULT_TRAP, FAULT_CALL, FAULT_DEADLOCK, FAULT_PARTIAL_WARP, FAULT_SWITCH, FAULT_BARRIER, FAULT_HOST,
    FAULT_DESCRIPTOR,
) = range(1, 10)  # fmt: skip
"""Values of `fault_kind`; of FAULT_HOST the host has kept the error."""


SPACES = ("global", "shared", "local", "parameter")
"""By value of `fault_space`."""


def offset(field: str) -> int:
    """Byte offset of a field of the context."""
    fields = CONTEXT.fields
    assert fields is not None
    return int(fields[field][1])

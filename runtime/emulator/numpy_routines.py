"""Every routine that generated code of the NumPy engine may call, by its name in the emitter API.

In: nothing. Out: `ROUTINES`. Why: one list says what `Emitter.call` offers; a kernel's namespace starts from it.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from . import (
    numpy_bulk,
    numpy_byte_matrix,
    numpy_cluster,
    numpy_matrix,
    numpy_mbarrier,
    numpy_memory,
    numpy_structured,
    numpy_tensor,
    numpy_warp,
    numpy_warpgroup,
)

_NAMES: dict[ModuleType, tuple[str, ...]] = {
    numpy_warp: ("shuffle", "vote", "match", "redux", "active_mask", "elect"),
    numpy_memory: ("load_parameter", "load", "store", "atomic", "copy_async"),
    numpy_matrix: (
        "load_matrix", "store_matrix", "transpose_matrix", "fragment_a", "fragment_b", "multiply_fragments",
    ),
    numpy_byte_matrix: ("load_byte_matrix", "store_byte_matrix"),
    numpy_structured: ("structured_mma",),
    numpy_mbarrier: (
        "barrier_init", "barrier_invalidate", "barrier_arrive", "barrier_expect_bytes", "barrier_complete_bytes",
        "barrier_test", "barrier_pending_count",
    ),
    numpy_bulk: ("bulk_copy", "bulk_commit", "bulk_wait", "store_async", "copies_arrive"),
    numpy_tensor: ("tensor_copy",),
    numpy_warpgroup: ("warpgroup_multiply", "warpgroup_fence", "warpgroup_commit", "warpgroup_wait"),
    numpy_cluster: ("cluster_arrive", "rank_of_address"),
}  # fmt: skip

ROUTINES: dict[str, Callable[..., Any]] = {
    name: getattr(module, name) for module, names in _NAMES.items() for name in names
}

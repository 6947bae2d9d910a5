"""What a launch must know of a kernel, whichever engine runs it.

In: a program and its layout. Out: `KernelFacts`, which can be kept on disk. Why: a kernel whose compiled code is found
in the cache is launched without parsing its PTX.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .control_flow import Program
from .numpy_layout import Layout

Extents = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class KernelFacts:
    """`parameters` are (name, offset, bytes) in order; sizes in bytes; see `ptx.Function` for the shapes."""

    name: str
    parameters: tuple[tuple[str, int, int], ...]
    parameter_bytes: int
    static_shared: int
    local_bytes: int
    block_shape: Extents | None
    block_required: bool
    cluster_shape: Extents | None

    @classmethod
    def from_dictionary(cls, values: dict[str, Any]) -> KernelFacts:
        """From what JSON makes of it. Raises TypeError or KeyError for anything else."""
        for name in ("block_shape", "cluster_shape"):
            values[name] = tuple(values[name]) if values[name] is not None else None
        values["parameters"] = tuple((name, offset, nbytes) for name, offset, nbytes in values["parameters"])
        return cls(**values)


def kernel_facts(program: Program, layout: Layout) -> KernelFacts:
    """The facts of `program`."""
    parameters = tuple(
        (variable.name, layout.parameter_offsets[variable.name], variable.nbytes) for variable in program.parameters
    )
    return KernelFacts(
        program.name, parameters, layout.parameter_bytes, layout.static_shared, layout.local_bytes,
        program.block_shape, program.block_required, program.cluster_shape,
    )  # fmt: skip

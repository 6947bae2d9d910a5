"""What a launch must know of a kernel, whichever engine runs it.

In: a program and its layout. Out: `KernelFacts`, which can be kept on disk. Why: a kernel whose compiled code is found
in the cache is launched without parsing its PTX.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
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
    cluster_required: bool

    @classmethod
    def from_dictionary(cls, values: dict[str, Any]) -> KernelFacts:
        """From what JSON makes of it. Raises TypeError or KeyError for anything else."""
        for name in ("block_shape", "cluster_shape"):
            values[name] = tuple(values[name]) if values[name] is not None else None
        values["parameters"] = tuple((name, offset, nbytes) for name, offset, nbytes in values["parameters"])
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Packing:
    """How arguments of these `kinds` (pointer, i32, i64) become the bytes of a kernel's parameters."""

    kinds: list[str]
    layout: struct.Struct
    masks: list[int]

    def bytes_of(self, arguments: Sequence[tuple[str, Any]]) -> bytes:
        """Arguments of the same kinds as bytes; numbers wrap to their width."""
        return self.layout.pack(*[int(value) & mask for (_, value), mask in zip(arguments, self.masks, strict=True)])


def packing(facts: KernelFacts, kinds: list[str]) -> Packing:
    """The packing of arguments whose widths are already known to be right."""
    text, position = "=", 0
    for kind, (_, offset, nbytes) in zip(kinds, facts.parameters, strict=True):
        text += f"{offset - position}x{'I' if kind == 'i32' else 'Q'}"
        position = offset + nbytes
    text += f"{facts.parameter_bytes - position}x"
    return Packing(kinds, struct.Struct(text), [(1 << 8 * nbytes) - 1 for _, _, nbytes in facts.parameters])


def kernel_facts(program: Program, layout: Layout) -> KernelFacts:
    """The facts of `program`."""
    parameters = tuple(
        (variable.name, layout.parameter_offsets[variable.name], variable.nbytes) for variable in program.parameters
    )
    return KernelFacts(
        program.name, parameters, layout.parameter_bytes, layout.static_shared, layout.local_bytes,
        program.block_shape, program.block_required, program.cluster_shape, program.cluster_required,
    )  # fmt: skip

"""What a pass gets: one model on its way through the compiler.

In: the module of the current level, the weights beside it, and the options. Out: the same object, changed in place by
each pass. Passes register themselves with `register_pass`; the order in which they run is the table in
compiler/pipeline.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from mlir import ir

from ..dialects.given_kernel import GivenKernel
from ..runtime.symbolic import ZERO, Expression
from ..runtime.tuning import Tuning

PRECISIONS = ("model", "strict", "tf32", "f16", "bf16")


class WeightStore:
    """Constant arrays by handle. An entry may be a memory map or a function that makes the array when it is needed."""

    def __init__(self) -> None:
        self._entries: dict[str, np.ndarray[Any, Any] | Callable[[], np.ndarray[Any, Any]]] = {}

    def add(self, hint: str, array: np.ndarray[Any, Any] | Callable[[], np.ndarray[Any, Any]]) -> str:
        """Keep `array` under a fresh handle made from `hint`; returns the handle."""
        handle, number = hint or "weight", 1
        while handle in self._entries:
            handle, number = f"{hint or 'weight'}.{number}", number + 1
        self._entries[handle] = array
        return handle

    def get(self, handle: str) -> np.ndarray[Any, Any]:
        """The array of a handle, C-contiguous. Raises KeyError."""
        array = self.view(handle)
        return array if array.flags.c_contiguous else array.copy(order="C")

    def view(self, handle: str) -> np.ndarray[Any, Any]:
        """The array of a handle in whatever order it is made, for one that is made from it. Raises KeyError."""
        entry = self._entries[handle]
        return entry() if callable(entry) else entry

    def prepare(self, handles: Iterable[str], limit: int = 256 << 20) -> None:
        """Make arrays now that would be made when asked for, and keep them, up to `limit` bytes in all.

        For a moment when this process has nothing else to do; what is past the limit is made when it is written.
        """
        for handle in handles:
            if callable(self._entries[handle]) and limit > 0:
                array = self.get(handle)
                limit -= array.nbytes
                if limit >= 0:
                    self._entries[handle] = array

    def discard(self, handle: str) -> None:
        self._entries.pop(handle, None)

    def __contains__(self, handle: str) -> bool:
        return handle in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)


@dataclass(frozen=True)
class SymbolSource:
    """A symbol is the size of `axis` of the model input `input`."""

    input: str
    axis: int


@dataclass(frozen=True)
class Im2colBox:
    """The im2col mode of a tensor map, as in runtime/tensor_map.py."""

    lower_corner: tuple[int, ...]
    upper_corner: tuple[Expression, ...]
    channels: int
    pixels: int


@dataclass(frozen=True)
class BoxedTensor:
    """A kernel's input or output seen through a tensor map: copies take boxes of it, or with `im2col` pixels.

    Innermost dimension first; `shape` and `box` in elements, `strides` in bytes and without the innermost; names of
    types and swizzles as in runtime/tensor_map.py. What copies see begins `offset` bytes into the tensor.
    """

    source: tuple[str, int]  # ("input", i) or ("output", i)
    data_type: str
    shape: tuple[Expression, ...]
    strides: tuple[Expression, ...]
    swizzle: str
    box: tuple[int, ...] = ()
    element_strides: tuple[int, ...] = ()  # empty: all one
    im2col: Im2colBox | None = None
    offset: Expression = ZERO


LaunchItem: TypeAlias = tuple[str, "int | str | BoxedTensor"]


@dataclass
class KernelProgram:
    """One kernel as a tile program, ready to be lowered anywhere.

    `arguments` gives the launch's arguments in order: ``("input", i)`` / ``("output", i)`` of the kernel function,
    ``("workspace", i)`` of `workspaces`, ``("semaphores", n)`` for n 32-bit integers that are zero and stay so,
    ``("symbol", text)`` for a 32-bit integer, or ``("tensor_map", boxed)``.
    """

    name: str
    text: str  # the MLIR module, a `func.func @name` in the tile dialect; PTX of a kernel that was given
    kind: str
    grid: tuple[Expression, Expression, Expression]
    block: int  # threads
    arguments: list[LaunchItem]
    workspaces: list[tuple[str, tuple[Expression, ...]]] = field(default_factory=list)  # (dtype, shape)
    nodes: list[str] = field(default_factory=list)  # ONNX nodes it computes
    prepared: list[tuple[int, str, int]] = field(default_factory=list)  # (output, copy or fill, input or byte)
    # Kernels of the same function for other sizes, launched as well: of the grids all but one are empty.
    alternatives: list[KernelProgram] = field(default_factory=list)
    given: GivenKernel | None = None  # somebody wrote it: `text` is PTX

    @property
    def level(self) -> str:
        """What `text` is: `tile`, or `ptx`."""
        return "ptx" if self.given else "tile"

    @property
    def file_name(self) -> str:
        """The name of its dump without the stage."""
        return f"{self.name}.{'ptx' if self.given else 'mlir'}"


@dataclass
class Unit:
    """One compilation. `module` holds `@main` and, after fusion, one private function per kernel."""

    module: ir.Module
    weights: WeightStore
    target: str = "sm_90a"
    precision: str = "model"
    tuning: Tuning = field(default_factory=Tuning)
    model_name: str = "model"
    symbols: dict[str, SymbolSource] = field(default_factory=dict)
    hints: dict[str, int] = field(default_factory=dict)  # typical sizes of symbols, which steer schedules
    kernels: dict[str, KernelProgram] = field(default_factory=dict)  # by kernel function name, after `tile`
    host: ir.Module | None = None  # the host program, after `plan-host`
    on_kernel: Callable[[KernelProgram], None] | None = None  # told of each tile program when it is made
    notes: list[str] = field(default_factory=list)  # what whoever compiles this should know, a line each


@dataclass(frozen=True)
class Pass:
    """A named transformation: `requires` and `ensures` are levels (`graph`, `kernels`, `tile`, `host`)."""

    name: str
    run: Callable[[Unit], None]
    requires: str
    ensures: str
    summary: str


PASSES: dict[str, Pass] = {}


def register_pass(name: str, requires: str, ensures: str) -> Callable[[Callable[[Unit], None]], Callable[[Unit], None]]:
    """Decorator: make `run(unit)` the pass `name`; its docstring's first line is the summary."""

    def register(run: Callable[[Unit], None]) -> Callable[[Unit], None]:
        summary = (run.__doc__ or "").strip().splitlines()[0] if run.__doc__ else ""
        PASSES[name] = Pass(name, run, requires, ensures, summary)
        return run

    return register

"""The registry of tile programs: one per kind of kernel.

In: a kernel function of the graph level with its kind. Out: a `KernelProgram`. A program is a function registered
under the kind's name in a module of this folder; the `tile` pass finds it there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from mlir import ir

from ...runtime.symbolic import Expression
from ...runtime.tuning import Tuning
from ..target import Target
from ..unit import KernelProgram
from .builder import TileBuilder
from .launch_order import order_launches

T = TypeVar("T")


@dataclass(frozen=True)
class Request:
    """What a program gets: the kernel function, the name to give, the target, the precision of the compilation,
    schedules that were measured, and which arguments are weights, which no kernel writes.
    """

    function: ir.Operation
    name: str
    target: Target
    precision: str = "strict"
    tuning: Tuning = field(default_factory=Tuning)
    constants: frozenset[int] = frozenset()

    def choose(self, kind: str, problem: str, candidates: Sequence[T]) -> T:
        """One of the schedules for a problem, best prediction first; `kind` is that of the program."""
        return self.tuning.choose(self.name, f"{kind}: {problem}", candidates)

    @property
    def returned(self) -> list[ir.Value]:
        """The values that the kernel returns."""
        block = self.function.regions[0].blocks[0]
        return list(block.operations[len(block.operations) - 1].operation.operands)

    @property
    def operations(self) -> list[ir.Operation]:
        """The operations of the kernel's body without its return."""
        return [view.operation for view in self.function.regions[0].blocks[0].operations][:-1]


Program: TypeAlias = Callable[[Request], KernelProgram]
PROGRAMS: dict[str, Program] = {}


def tile_program(kind: str) -> Callable[[Program], Program]:
    """Decorator: the program that serves kernels of `kind`."""

    def register(program: Program) -> Program:
        PROGRAMS[kind] = program
        return program

    return register


def finished(
    request: Request,
    builder: TileBuilder,
    module: ir.Module,
    kind: str,
    grid: tuple[Expression, Expression, Expression],
    threads: int,
) -> KernelProgram:
    """The record of a built program; verifies the module."""
    if request.target.dependent_launch and builder.tile_function is not None:
        order_launches(builder.tile_function)
    module.operation.verify()
    return KernelProgram(
        name=request.name,
        text=module.operation.get_asm(enable_debug_info=False),
        kind=kind,
        grid=grid,
        block=threads,
        arguments=builder.arguments(),
        workspaces=[(workspace.element, workspace.shape) for workspace in builder.workspaces],
        nodes=nodes_of(request.function),
    )


def nodes_of(function: ir.Operation) -> list[str]:
    """The ONNX nodes that a kernel function computes."""
    if "graph.nodes" not in function.attributes:
        return []
    return [ir.StringAttr(item).value for item in ir.ArrayAttr(function.attributes["graph.nodes"])]

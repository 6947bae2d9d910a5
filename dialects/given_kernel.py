"""A kernel that somebody wrote in PTX, as the graph level sees it: a private function without a body.

In: PTX, launch geometry and the order of arguments. Out: `func.func private @name(...)` with the attribute
`graph.given`, called like the kernels that fusion makes, and the record back from such a function. It exists so
that such kernels are opaque to every pass, and yet stand in the IR and in its dumps in full.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from mlir import ir

from ..runtime.symbolic import Expression, parse

KIND = "custom"
ATTRIBUTE = "graph.given"


@dataclass(frozen=True)
class GivenKernel:
    """`ptx` holds the one entry `entry`. Operands of the function are tensors, in any order.

    `arguments` are the launch's: ``input 0``, ``output 1`` for a tensor's address, else a symbolic integer.
    `parameters` are their kinds in the manifest. `prepared` says what the host does to an output before the launch:
    ``1 copy 0`` (output 1 starts as operand 0) or ``1 fill 255`` (every byte of it).
    """

    entry: str
    ptx: str
    grid: tuple[Expression, Expression, Expression]
    block: tuple[int, int, int]
    shared_bytes: int
    arguments: tuple[str, ...]
    parameters: tuple[str, ...]
    prepared: tuple[str, ...] = ()

    @property
    def preparations(self) -> list[tuple[int, str, int]]:
        """`prepared` as (output, copy or fill, operand or byte)."""
        words = [item.split() for item in self.prepared]
        return [(int(output), verb, int(value)) for output, verb, value in words]

    @property
    def sizes(self) -> list[Expression]:
        """Every symbolic integer that a launch evaluates."""
        return [*self.grid, *(parse(item) for item in self.arguments if not is_tensor(item))]


def is_tensor(argument: str) -> bool:
    """True for an argument that is an address."""
    return argument.startswith(("input ", "output "))


def declare(module: ir.Module, name: str, kernel: GivenKernel, function_type: ir.FunctionType) -> ir.Operation:
    """The function without a body, at the end of the module."""
    given = {field.name: _attribute(getattr(kernel, field.name)) for field in fields(kernel)}
    return ir.Operation.create(
        "func.func",
        attributes={
            "sym_name": ir.StringAttr.get(name),
            "sym_visibility": ir.StringAttr.get("private"),
            "function_type": ir.TypeAttr.get(function_type),
            "graph.kernel": ir.StringAttr.get(KIND),
            ATTRIBUTE: ir.DictAttr.get(given),
        },
        regions=1,
        ip=ir.InsertionPoint(module.body),
    )


def call(function: ir.Operation, operands: Sequence[ir.Value]) -> list[ir.Value]:
    """The results of a call, at the current insertion point; `sizes` says on which symbols the launch depends."""
    kernel = read(function)
    function_type = ir.FunctionType(ir.TypeAttr(function.attributes["function_type"]).value)
    operation = ir.Operation.create(
        "func.call",
        results=list(function_type.results),
        operands=list(operands),
        attributes={
            "callee": ir.FlatSymbolRefAttr.get(ir.StringAttr(function.attributes["sym_name"]).value),
            "sizes": _attribute(tuple(dict.fromkeys(kernel.sizes))),
        },
    )
    return list(operation.results)


def is_given(function: ir.Operation) -> bool:
    """True for such a function."""
    return ATTRIBUTE in function.attributes


def read(function: ir.Operation) -> GivenKernel:
    """The record of a function that `is_given`."""
    given = ir.DictAttr(function.attributes[ATTRIBUTE])

    def texts(name: str) -> tuple[str, ...]:
        return tuple(ir.StringAttr(item).value for item in ir.ArrayAttr(given[name]))

    grid, block = [parse(item) for item in texts("grid")], [int(item) for item in texts("block")]
    return GivenKernel(
        entry=ir.StringAttr(given["entry"]).value,
        ptx=ir.StringAttr(given["ptx"]).value,
        grid=(grid[0], grid[1], grid[2]),
        block=(block[0], block[1], block[2]),
        shared_bytes=ir.IntegerAttr(given["shared_bytes"]).value,
        arguments=texts("arguments"),
        parameters=texts("parameters"),
        prepared=texts("prepared"),
    )


def _attribute(value: object) -> ir.Attribute:
    if isinstance(value, str):
        return ir.StringAttr.get(value)
    if isinstance(value, tuple):
        return ir.ArrayAttr.get([ir.StringAttr.get(str(item)) for item in value])
    return ir.IntegerAttr.get(ir.IntegerType.get_signless(64), value)

"""What an operation of ours looks like, as data, and how that becomes IRDL.

In: `OperationDefinition` records. Out: IRDL text that MLIR loads, and the checks that IRDL cannot express. Every
operand and result slot gets an IRDL variable of its own, because one variable in two slots would force the two types
to be equal; this also makes a variadic group homogeneous, which is why operations with mixed operands capture them in
a region (docs/decisions.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

Check = Callable[[Any], str | None]  # takes the ir.Operation, returns what is wrong or None

ATTRIBUTE_KINDS = {
    "string": 'irdl.base "#builtin.string"',
    "integer": 'irdl.base "#builtin.integer"',
    "integers": 'irdl.base "#builtin.dense_array"',
    "expressions": 'irdl.base "#builtin.array"',  # array of strings, symbolic integers
    "any": "irdl.any",
}


@dataclass(frozen=True)
class OperationDefinition:
    """One operation: `operands` and `results` are slot names; a name ending in ``*`` is variadic, in ``?`` optional.

    `attributes` maps a required attribute's name to its kind (a key of `ATTRIBUTE_KINDS`); others may be attached
    freely.
    """

    name: str
    summary: str
    operands: Sequence[str] = ()
    results: Sequence[str] = ()
    attributes: dict[str, str] = field(default_factory=dict)
    optional_attributes: dict[str, str] = field(default_factory=dict)
    regions: int = 0
    check: Check | None = None


def irdl_text(dialect: str, operations: Sequence[OperationDefinition], types: dict[str, Sequence[str]]) -> str:
    """The IRDL module of a dialect. `types` maps a type's name to its parameter names."""
    lines = [f"irdl.dialect @{dialect} {{"]
    for name, parameters in types.items():
        if not parameters:
            lines.append(f"  irdl.type @{name}")
            continue
        lines.append(f"  irdl.type @{name} {{")
        lines += [f"    %{index} = irdl.any" for index in range(len(parameters))]
        slots = ", ".join(f"{parameter}: %{index}" for index, parameter in enumerate(parameters))
        lines += [f"    irdl.parameters({slots})", "  }"]
    for operation in operations:
        lines += _operation_lines(operation)
    lines.append("}")
    return "\n".join(lines)


def _operation_lines(operation: OperationDefinition) -> list[str]:
    lines = [f"  irdl.operation @{operation.name.split('.', 1)[1]} {{"]
    counter = 0

    def slots(names: Sequence[str]) -> str:
        nonlocal counter
        rendered = []
        for name in names:
            lines.append(f"    %{counter} = irdl.any")
            prefix = {"*": "variadic ", "?": "optional "}.get(name[-1], "")
            rendered.append(f"{name.rstrip('*?')}: {prefix}%{counter}")
            counter += 1
        return ", ".join(rendered)

    if operation.operands:
        lines.append(f"    irdl.operands({slots(operation.operands)})")
    if operation.results:
        lines.append(f"    irdl.results({slots(operation.results)})")
    if operation.attributes:
        rendered = []
        for name, kind in operation.attributes.items():
            lines.append(f"    %{counter} = {ATTRIBUTE_KINDS[kind]}")
            rendered.append(f'"{name}" = %{counter}')
            counter += 1
        lines.append(f"    irdl.attributes {{{', '.join(rendered)}}}")
    for index in range(operation.regions):
        lines.append(f"    %r{index} = irdl.region")
    if operation.regions:
        lines.append(f"    irdl.regions({', '.join(f'region{i}: %r{i}' for i in range(operation.regions))})")
    lines.append("  }")
    return lines

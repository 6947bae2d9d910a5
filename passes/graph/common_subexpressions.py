"""Duplicates: operations that compute the same value as an earlier one, found by a structural key that covers
regions.

In: a function at the graph level. Out: the same with duplicates replaced. IRDL operations have no traits, so
upstream CSE leaves ours.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass

from mlir import ir

from .rewriting import operations_of, replace

CONTROL = frozenset({"scf.if", "scf.while", "scf.condition", "func.return", "scf.yield", "gpu.yield", "func.call"})


@dataclass
class _Candidate:
    """An operation that later ones are compared with; its structural key is made when one resembles it."""

    operation: ir.Operation
    key: Hashable = None

    def matches(self, key: Hashable) -> bool:
        if self.key is None:
            self.key = structural_key(self.operation, {})
        return self.key == key


def merge_duplicates(block: ir.Block, visible: Mapping[Hashable, list[_Candidate]] | None = None) -> int:
    """Replace duplicates in the block and in what its `scf.if` and `scf.while` hold; returns how many."""
    known = {likeness: list(candidates) for likeness, candidates in (visible or {}).items()}
    merged = 0
    for operation in operations_of(block):
        if operation.name in ("scf.if", "scf.while"):
            for region in operation.regions:
                if len(region.blocks):
                    merged += merge_duplicates(region.blocks[0], known)
            continue
        if operation.name in CONTROL:
            continue
        candidates = known.setdefault(_likeness(operation), [])
        key = structural_key(operation, {}) if candidates else None
        first = next((candidate.operation for candidate in candidates if candidate.matches(key)), None)
        if first is None:
            candidates.append(_Candidate(operation, key))
        else:
            replace(operation, list(first.results))
            merged += 1
    return merged


def _likeness(operation: ir.Operation) -> Hashable:
    """Equal for duplicates, quick to make, and different for most others: maps begin with a tensor that they read."""
    operands, types = tuple(operation.operands), tuple([value.type for value in operation.results])
    if not len(operation.regions) or not len(operation.regions[0].blocks):
        return operation.name, operands, types
    inner = next((view.operation for view in operation.regions[0].blocks[0].operations), None)
    tensor = inner.operands[0] if inner is not None and inner.name == "graph.element" else None
    return operation.name, operands, types, tensor


def structural_key(
    operation: ir.Operation, numbering: dict[ir.Value, int], masked: Callable[[ir.Operation], bool] | None = None
) -> Hashable:
    """Equal for operations that compute the same from the same values; values in `numbering` are compared by number.

    Of operations that are `masked`, also inside, the attributes are not compared.
    """
    operands = tuple(numbering.get(operand, operand) for operand in operation.operands)
    is_masked = masked is not None and masked(operation)
    attributes = () if is_masked else tuple((item.name, item.attr) for item in _named(operation))
    regions = tuple(
        tuple(_block_key(block, numbering, masked) for block in region.blocks) for region in operation.regions
    )
    return (operation.name, operands, tuple(value.type for value in operation.results), attributes, regions)


def _named(operation: ir.Operation) -> list[ir.NamedAttribute]:
    attributes = operation.attributes
    return [attributes[index] for index in range(len(attributes))]


def _block_key(
    block: ir.Block, numbering: dict[ir.Value, int], masked: Callable[[ir.Operation], bool] | None
) -> Hashable:
    keys = []
    for argument in block.arguments:
        numbering[argument] = len(numbering)
    for operation in operations_of(block):
        keys.append(structural_key(operation, numbering, masked))
        for result in operation.results:
            numbering[result] = len(numbering)
    return tuple(keys)

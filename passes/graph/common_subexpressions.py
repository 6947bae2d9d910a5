"""Duplicates: operations that compute the same value as an earlier one, found by a structural key that covers
regions.

In: a function at the graph level. Out: the same with duplicates replaced. IRDL operations have no traits, so
upstream CSE leaves ours.
"""

from __future__ import annotations

from collections.abc import Hashable

from mlir import ir

from .rewriting import operations_of, replace

CONTROL = frozenset({"scf.if", "scf.while", "scf.condition", "func.return", "scf.yield", "gpu.yield", "func.call"})


def merge_duplicates(block: ir.Block, visible: dict[Hashable, ir.Operation] | None = None) -> int:
    """Replace duplicates in the block and in what its `scf.if` and `scf.while` hold; returns how many."""
    known = dict(visible or {})
    merged = 0
    for operation in operations_of(block):
        if operation.name in ("scf.if", "scf.while"):
            for region in operation.regions:
                if len(region.blocks):
                    merged += merge_duplicates(region.blocks[0], known)
            continue
        if operation.name in CONTROL:
            continue
        key = structural_key(operation, {})
        first = known.setdefault(key, operation)
        if first != operation:
            replace(operation, list(first.results))
            merged += 1
    return merged


def structural_key(operation: ir.Operation, numbering: dict[ir.Value, int]) -> Hashable:
    """Equal for operations that compute the same from the same values; values in `numbering` are compared by number."""
    operands = tuple(numbering.get(operand, operand) for operand in operation.operands)
    attributes = tuple((item.name, item.attr) for item in _named(operation))
    regions = tuple(tuple(_block_key(block, numbering) for block in region.blocks) for region in operation.regions)
    return (operation.name, operands, tuple(value.type for value in operation.results), attributes, regions)


def _named(operation: ir.Operation) -> list[ir.NamedAttribute]:
    attributes = operation.attributes
    return [attributes[index] for index in range(len(attributes))]


def _block_key(block: ir.Block, numbering: dict[ir.Value, int]) -> Hashable:
    keys = []
    for argument in block.arguments:
        numbering[argument] = len(numbering)
    for operation in operations_of(block):
        keys.append(structural_key(operation, numbering))
        for result in operation.results:
            numbering[result] = len(numbering)
    return tuple(keys)

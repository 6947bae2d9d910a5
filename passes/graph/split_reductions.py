"""Pass `split-reductions`: a long reduction to few values is done in two steps, the first by the whole card.

In: reductions whose kernels would have a few blocks only: a sum of all elements, column sums of a tall matrix. Out: one
over parts of a reduced dimension, and one over the parts' results, both in the type that sums have inside a kernel. A
block alone reads a small fraction of what the memory can give; a second launch costs little.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mlir import ir

from ...dialects import graph_builder
from ...dialects.tensors import element_of, rank_of, shape_of
from ...runtime.dtypes import dtype
from ..target import find_target
from ..unit import Unit, register_pass
from .cut_values import Cut, asks_where, cut_value
from .rewriting import (
    blocks_within,
    building_before,
    captures,
    erase_dead,
    functions,
    has_uses,
    integers,
    operations_of,
    producer,
    replace,
    string,
    users,
)
from .split_normalisations import split_normalisation

# Bytes a microsecond, and microseconds: estimates, of what one block reads alone and of a launch.
_BLOCK_RATE = 50e3
_CARD_RATE = 20e3  # times the number of multiprocessors
_LAUNCH = 3.0
_BLOCK_LINE = 512  # bytes of neighbouring results that one block of a column sum has
_LEAST_PART = 8  # elements that a part keeps of the dimension that is cut
_NARROW = ("f16", "bf16")


@register_pass("split-reductions", requires="graph", ensures="graph")
def split_reductions(unit: Unit) -> None:
    """Cut a dimension of long reductions into parts.

    before::

        %0 = "graph.reduce"(%x) {axes = [0], kind = "sum"} : (tensor<65536x64xf32>) -> tensor<1x64xf32>

    after::

        %1 = "graph.reshape"(%x) : tensor<512x128x64xf32>
        %2 = "graph.reduce"(%1) {axes = [1], kind = "sum"} : (tensor<512x128x64xf32>) -> tensor<512x1x64xf32>
        %3 = "graph.reshape"(%2) : tensor<512x64xf32>
        %0 = "graph.reduce"(%3) {axes = [0], kind = "sum"} : (tensor<512x64xf32>) -> tensor<1x64xf32>
    """
    target = find_target(unit.target)
    with unit.module.context, ir.Location.unknown():
        main = functions(unit.module)["main"]
        for block in blocks_within(main):
            for operation in operations_of(block):
                is_read = operation.name == "graph.reduce" and has_uses(operation.results[0])
                if not is_read or split_normalisation(operation, target):
                    continue
                cut = _cut(operation, target.multiprocessors) if _stands_alone(operation) else None
                if cut is not None and _can_follow(operation.operands[0], operation):
                    _split(operation, *cut)
        erase_dead(main)


# Decisions ------------------------------------------------------------------------------------------------------
def _stands_alone(operation: ir.Operation) -> bool:
    """Nothing reads both what is reduced, or what that is made of, and the result: softmax and its kin stay whole."""
    pending, shape = [operation.operands[0]], shape_of(operation.operands[0])
    sources: dict[ir.Value, None] = {}
    while pending:
        value = pending.pop()
        owner = producer(value)
        if value in sources or shape_of(value) != shape:
            continue
        sources[value] = None
        if owner is not None and owner.name == "graph.map":
            pending += [inner.operands[0] for inner in captures(owner)]
    readers = {user for value in sources for user in users(value)} - {operation}
    seen, following = set[ir.Operation](), list(users(operation.results[0]))
    while following:
        user = following.pop()
        if user in readers:
            return False
        if user not in seen and user.name == "graph.map":
            seen.add(user)
            following += users(user.results[0])
    return True


def _cut(operation: ir.Operation, multiprocessors: int) -> tuple[int, int] | None:
    """(dimension, number of parts), where two steps are predicted to be faster."""
    shape, axes = shape_of(operation.operands[0]), integers(operation, "axes")
    sizes = [size.as_constant() for size in shape]
    if any(size is None or size == 0 for size in sizes):
        return None
    known = [size or 1 for size in sizes]
    element = _bytes_read(operation.operands[0])
    kept = _count(known, [axis for axis in range(len(known)) if axis not in axes])
    real = [axis for axis in range(len(known)) if known[axis] != 1]
    blocks = kept
    if real and real[-1] not in axes:
        blocks = -(-kept * element // _BLOCK_LINE)
    nbytes = _count(known, range(len(known))) * element
    alone, together = nbytes / (min(blocks, multiprocessors) * _BLOCK_RATE), nbytes / (multiprocessors * _CARD_RATE)
    if alone < together + _LAUNCH:
        return None
    wanted = -(-2 * multiprocessors // blocks)
    return min(_parts(known, axes, wanted), key=lambda cut: abs(cut[1] - wanted), default=None)


def _bytes_read(value: ir.Value) -> int:
    """Bytes of an element as it lies in memory, in front of a map that is computed along with the reduction."""
    owner = producer(value)
    is_map = owner is not None and owner.name == "graph.map"
    sources = [inner.operands[0] for inner in captures(owner)] if is_map else []
    sizes = [dtype(element_of(source)).bytes for source in sources if shape_of(source) == shape_of(value)]
    return max(sizes, default=dtype(element_of(value)).bytes)


def _count(sizes: Sequence[int], axes: Sequence[int]) -> int:
    total = 1
    for axis in axes:
        total *= sizes[axis]
    return total


def _parts(sizes: Sequence[int], axes: Sequence[int], wanted: int) -> Iterator[tuple[int, int]]:
    """Ways to cut a reduced dimension into equal parts, not many more than are wanted, the outer dimensions first."""
    for axis in axes:
        for parts in range(2, min(sizes[axis] // _LEAST_PART, 8 * wanted) + 1):
            if sizes[axis] % parts == 0:
                yield axis, parts


def _can_follow(value: ir.Value, reader: ir.Operation) -> bool:
    """Maps in front, which only the reduction needs, are computed in its kernel: they must not ask where they are."""
    owner = producer(value)
    if owner is None or owner.name != "graph.map" or users(value) != [reader]:
        return True
    if asks_where(owner):
        return False
    return all(_can_follow(inner.operands[0], owner) for inner in captures(owner))


# Rewriting ------------------------------------------------------------------------------------------------------
def _split(operation: ir.Operation, axis: int, parts: int) -> None:
    source, result = operation.operands[0], operation.results[0]
    axes, kind = integers(operation, "axes"), string(operation, "kind")
    own = element_of(result)
    wide = "f32" if own in _NARROW else own
    with building_before(operation):
        cut = cut_value(source, Cut(rank_of(source) - axis, parts, operation), operation)
        cut = graph_builder.cast(cut, wide)
        inner = [other + (other >= axis) for other in axes]  # the cut dimension is the one after its parts
        first = graph_builder.remove_dimensions(graph_builder.reduce(cut, kind, inner), [axis + 1])
        whole = graph_builder.cast(graph_builder.reduce(first, kind, [axis]), own)
    replace(operation, [whole])

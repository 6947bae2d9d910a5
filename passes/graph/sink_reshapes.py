"""Reshapes that only add or drop dimensions of size 1 move behind the maps that read them.

In: a map over reshaped reductions or maps, as exporters write means without kept dimensions. Out: the same
map in the shape of what was reshaped, and the reshape behind it, where it meets and cancels another one. A
normalisation is then one row of one shape.
"""

from __future__ import annotations

from mlir import ir

from ...dialects import graph_builder
from ...dialects.tensors import Shape, element_of, rank_of, shape_of, tensor_type
from ...runtime.symbolic import ONE
from .rewriting import building_before, captures, integer, is_constant, producer

FOLLOWED = ("graph.reduce", "graph.map")
MATRIX = 2  # dimensions of a product whose readers follow it: one of heads belongs to an attention as it is


def sink_reshapes(operation: ir.Operation) -> bool:
    """Compute the map in the shape of a reshaped input when that spares reshapes; True when it was done."""
    shape = shape_of(operation.results[0])
    tensors = [inner.operands[0] for inner in captures(operation)]
    candidates = [source for source in map(_reshaped, tensors) if source is not None]
    for source in candidates:
        wanted = shape_of(source)
        if wanted == shape or longer(wanted) != longer(shape) or not _indices_follow(operation, shape):
            continue
        before = sum(_reshaped(tensor) is not None for tensor in tensors)
        after = sum(_needs_reshape(tensor, shape, wanted) for tensor in tensors)
        if after < before:
            _rewrite(operation, shape, wanted)
            return True
    return False


def is_matrix_product(value: ir.Value) -> bool:
    """Whether a matmul of two matrices, without a batch, makes the value."""
    owner = producer(value)
    return owner is not None and owner.name == "graph.matmul" and rank_of(value) == MATRIX


def longer(shape: Shape) -> list[object]:
    """The sizes that are not 1, in order."""
    return [size for size in shape if size != ONE]


def _reshaped(tensor: ir.Value) -> ir.Value | None:
    """What was reshaped, when it is the result of a map, a reduction or a product of two matrices and only dimensions
    of size 1 changed.
    """
    reshape = producer(tensor)
    if reshape is None or reshape.name != "graph.reshape":
        return None
    source = reshape.operands[0]
    owner = producer(source)
    if owner is None or (owner.name not in FOLLOWED and not is_matrix_product(source)):
        return None
    return source if longer(shape_of(source)) == longer(shape_of(tensor)) else None


def _needs_reshape(tensor: ir.Value, shape: Shape, wanted: Shape) -> bool:
    """True when the tensor has to be reshaped to be read in the other shape."""
    if is_constant(tensor):
        return False
    source = _reshaped(tensor)
    own = shape_of(source if source is not None else tensor)
    return _without_leading_ones(own) != _without_leading_ones(_converted(tensor, shape, wanted))


def _without_leading_ones(shape: Shape) -> Shape:
    first = next((axis for axis, size in enumerate(shape) if size != ONE), len(shape))
    return shape[first:]


def _converted(tensor: ir.Value, shape: Shape, wanted: Shape) -> Shape:
    """The tensor's shape beside `wanted`, when it broadcasts against `shape` now."""
    own = shape_of(tensor)
    padded = (ONE,) * (len(shape) - len(own)) + own
    sizes = iter([mine for mine, full in zip(padded, shape, strict=True) if full != ONE])
    return tuple(next(sizes) if size != ONE else ONE for size in wanted)


def _indices_follow(operation: ir.Operation, shape: Shape) -> bool:
    """Positions along dimensions of size 1 have no counterpart in the other shape."""
    return all(shape[integer(inner, "axis")] != ONE for inner in captures(operation, "graph.index"))


def _rewrite(operation: ir.Operation, shape: Shape, wanted: Shape) -> None:
    axes = dict(
        zip(
            [axis for axis, size in enumerate(shape) if size != ONE],
            [axis for axis, size in enumerate(wanted) if size != ONE],
            strict=True,
        )
    )
    for inner in captures(operation, "graph.index"):
        inner.attributes["axis"] = graph_builder.attribute(axes[integer(inner, "axis")])
    for inner in captures(operation):
        tensor = inner.operands[0]
        own = _converted(tensor, shape, wanted)
        source = _reshaped(tensor)
        base = tensor if source is None else source
        if rank_of(base) <= len(wanted) and _without_leading_ones(shape_of(base)) == _without_leading_ones(own):
            inner.operands[0] = base
            continue
        with building_before(operation):
            inner.operands[0] = graph_builder.reshape(base, own)
    result = operation.results[0]
    kind = result.type
    result.set_type(tensor_type(wanted, element_of(result)))
    with ir.InsertionPoint.after(operation), operation.location:
        restored = graph_builder.build("reshape", shape, element_of(result), [result])
    result.replace_all_uses_except(restored, [restored.owner.operation])
    assert restored.type == kind

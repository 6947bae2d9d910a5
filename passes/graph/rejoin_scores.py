"""Maps over a matrix product in a finer shape are computed in the product's own.

In: scores of an attention that a model splits to [.., height, width, height, width] (relative positions) or to [images,
windows, ..] (shifted windows), changes there, and joins again. Out: the same without the two reshapes; what is added is
joined instead. A softmax behind it then belongs to an attention (attention_rules.py).
"""

from __future__ import annotations

from mlir import ir

from ...dialects import graph_builder
from ...dialects.tensors import Shape, element_of, shape_of, tensor_type
from ...runtime.symbolic import ONE, product
from .rewriting import building_before, captures, producer, users
from .unfold_reshapes import Pieces, is_product, refine


def rejoin_scores(operation: ir.Operation) -> bool:
    """Compute the map in the shape of a product that it reads split and that is joined again; True when it was done."""
    result = operation.results[0]
    fine = shape_of(result)
    for inner in captures(operation):
        reshape = producer(inner.operands[0])
        if reshape is None or reshape.name != "graph.reshape" or shape_of(inner.operands[0]) != fine:
            continue
        joined = shape_of(reshape.operands[0])
        refined = refine(fine, joined)
        if refined is None or refined[0] != fine or len(joined) >= len(fine):
            continue
        if is_product(reshape.operands[0]) and _is_joined(result, joined) and _ignores_places(operation):
            _rewrite(operation, joined, refined[2])
            return True
    return False


def _is_joined(value: ir.Value, joined: Shape) -> bool:
    """Whether everything that reads the value joins it to that shape, after further maps or at once."""
    readers = users(value)
    return bool(readers) and all(
        shape_of(reader.results[0]) == joined
        if reader.name == "graph.reshape"
        else reader.name == "graph.map"
        and shape_of(reader.results[0]) == shape_of(value)
        and _is_joined(reader.results[0], joined)
        for reader in readers
    )


def _ignores_places(operation: ir.Operation) -> bool:
    return not captures(operation, "graph.index") and not captures(operation, "graph.element_at")


def _rewrite(operation: ir.Operation, joined: Shape, pieces: Pieces) -> None:
    result = operation.results[0]
    fine = shape_of(result)
    for inner in captures(operation):
        with building_before(operation):
            inner.operands[0] = _joined(inner.operands[0], fine, pieces)
    result.set_type(tensor_type(joined, element_of(result)))
    with ir.InsertionPoint.after(operation), operation.location:
        split = graph_builder.build("reshape", fine, element_of(result), [result])
    result.replace_all_uses_except(split, [split.owner.operation])


def _joined(tensor: ir.Value, fine: Shape, pieces: Pieces) -> ir.Value:
    """A tensor that broadcasts against the finer shape, as one that broadcasts against the joined one."""
    own = (ONE,) * (len(fine) - len(shape_of(tensor))) + shape_of(tensor)
    stretched = list(own)
    for piece in pieces:
        if any(own[item] != ONE for item in piece):
            for item in piece:
                stretched[item] = fine[item]
    whole = graph_builder.broadcast(graph_builder.reshape(tensor, own), stretched)
    return graph_builder.reshape(whole, [product([stretched[item] for item in piece]) for piece in pieces])

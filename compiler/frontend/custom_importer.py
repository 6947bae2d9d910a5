"""The importer of an operator that a user registered: calls their function, and answers for what it does.

In: a node. Out: an importer like our own. It exists so that a mistake in somebody's function is told as theirs, with
the line of their file, and never as a bug of ours.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlir import ir

from ...runtime.errors import Error, ModelError
from ..custom_operators import CustomOperator, describe_failure, find_custom
from .errors import Unsupported
from .node import Node
from .registry import OperatorFunction
from .tensor import Tensor

Outputs = Sequence[Tensor | ir.Value]


def custom_importer(node: Node) -> OperatorFunction | None:
    """The importer of a user's operator, or None when nobody registered it."""
    custom = find_custom(node.domain, node.operator, node.version)
    return None if custom is None else lambda given: _import(custom, given)


def _import(custom: CustomOperator, node: Node) -> Outputs:
    name = f"{node.domain}.{node.operator}"
    try:
        made = custom.function(node)
    except (Error, Unsupported):
        raise
    except Exception as error:
        raise ModelError(f"custom operator {name} failed: {describe_failure(error, custom.origin)}") from error
    outputs = list(made) if isinstance(made, (tuple, list)) else [made]
    wanted = max((position + 1 for position in range(len(node.outputs)) if node.wants(position)), default=0)
    for position, item in enumerate(outputs):
        if not isinstance(item, (Tensor, ir.Value)):
            raise ModelError(f"custom operator {name} returns {type(item).__name__} as output {position}, no tensor")
    if len(outputs) < wanted:
        raise ModelError(f"custom operator {name} returns {len(outputs)} outputs, the node has {wanted}")
    return outputs

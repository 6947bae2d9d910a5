"""All unsupported nodes of a model, in one message.

In: `Unsupported` findings with their nodes. Out: one `UnsupportedError` that says for each what is not
supported, which nodes ask for it (name, operator, opset, input types) and what is supported instead.
"""

from __future__ import annotations

from ...runtime.errors import UnsupportedError
from .errors import Unsupported
from .node import Node
from .tensor import Tensor


class Report:
    """Findings in the order of the graph, equal ones together."""

    def __init__(self) -> None:
        self.problems: dict[tuple[str, str], list[str]] = {}
        self.sources: set[str] = set()  # model inputs whose values the nodes need

    def add(self, error: Unsupported, node: Node) -> None:
        """A node that cannot be imported."""
        self.problems.setdefault((error.what, error.supported), []).append(self.describe(node))
        self.sources |= error.sources

    def add_text(self, error: Unsupported, where: str) -> None:
        """Something else than a node that cannot be imported."""
        self.problems.setdefault((error.what, error.supported), []).append(f"  {where}")

    def describe(self, node: Node) -> str:
        """One line: name, operator, opset and input types."""
        inputs = ", ".join("none" if tensor is None else describe_type(tensor) for tensor in node.inputs)
        domain = f"{node.domain}." if node.domain else ""
        line = f"  node '{node.name}' ({domain}{node.operator}, opset {node.version})"
        return f"{line}, input {inputs}" if inputs else line

    def raise_if_any(self) -> None:
        """Raises UnsupportedError when there are findings."""
        if not self.problems:
            return
        blocks = []
        for (what, supported), nodes in self.problems.items():
            lines = [f"unsupported: {what}", *nodes]
            if supported:
                lines.append(f"  supported: {supported}")
            blocks.append("\n".join(lines))
        raise UnsupportedError("\n".join(blocks), sorted(self.sources))


def describe_type(tensor: Tensor) -> str:
    """``f32[n,3]``"""
    return f"{tensor.dtype}[{','.join(str(size) for size in tensor.shape)}]"

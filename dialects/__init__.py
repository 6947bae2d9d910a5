"""The three dialects of tilewright: `graph`, `tile` and `host`.

In: an MLIR context. Out: the same context knowing our operations and types. They are defined as data (one
`OperationDefinition` each), rendered to IRDL and loaded, so that upstream MLIR parses, prints and verifies them.
"""

from .context import create_context, verify

__all__ = ["create_context", "verify"]

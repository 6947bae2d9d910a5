"""MLIR contexts that know our dialects, and verification with messages that name the operation.

In: nothing, or a module. Out: a context, or `InternalError` with the diagnostic. One place creates contexts, because
loading an IRDL dialect twice in one context aborts the process.
"""

from __future__ import annotations

import sys
from types import ModuleType

from mlir import ir
from mlir.dialects import irdl

from ..runtime.errors import InternalError
from . import graph, host, tile
from .definition import OperationDefinition, irdl_text

DIALECTS = (graph, tile, host)


def create_context() -> ir.Context:
    """A fresh context with `graph`, `tile` and `host` loaded. Single-threaded: parallelism is by worker processes."""
    for dialect in DIALECTS:
        # MLIR's bindings look for `mlir.dialects.<name>` whenever they wrap an operation; an empty module ends a
        # search that would otherwise fail, and cost 20 microseconds, at every single access.
        sys.modules.setdefault(f"mlir.dialects.{dialect.NAME}", ModuleType(f"mlir.dialects.{dialect.NAME}"))
    context = ir.Context()
    context.enable_multithreading(False)
    with context, ir.Location.unknown():
        for dialect in DIALECTS:
            irdl.load_dialects(ir.Module.parse(irdl_text(dialect.NAME, dialect.OPERATIONS, dialect.TYPES)))
    return context


def definitions() -> dict[str, OperationDefinition]:
    """Every operation of ours by full name."""
    return {operation.name: operation for dialect in DIALECTS for operation in dialect.OPERATIONS}


def verify(module: ir.Module) -> None:
    """MLIR's verifier and then our own checks. Raises InternalError with every finding."""
    try:
        module.operation.verify()
    except ir.MLIRError as error:
        raise InternalError(f"the IR is not valid:\n{error}") from None
    checks = {name: definition.check for name, definition in definitions().items() if definition.check}
    problems: list[str] = []

    def visit(operation: ir.Operation) -> ir.WalkResult:
        check = checks.get(operation.name)
        message = check(operation) if check else None
        if message:
            problems.append(f"{operation.location}: '{operation.name}' {message}")
        return ir.WalkResult.ADVANCE

    module.operation.walk(visit)
    if problems:
        raise InternalError("the IR is not valid:\n" + "\n".join(problems))

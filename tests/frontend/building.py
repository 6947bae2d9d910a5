"""Small ONNX models for the tests of the frontend.

In: nodes in onnx's text syntax. Out: checked `ModelProto`s, and what a module contains.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnx.parser
from mlir import ir

from tilewright.dialects import verify
from tilewright.passes.graph.interpret import interpret
from tilewright.passes.unit import Unit


def model(text: str, opset: int = 18, **initializers: np.ndarray[Any, Any]) -> onnx.ModelProto:
    """A model from ``name (inputs) => (outputs) { nodes }`` with initializers by name."""
    header = f'<ir_version: 8, opset_import: ["" : {opset}]>'
    parsed = onnx.parser.parse_model(header + text)
    for name, array in initializers.items():
        parsed.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return parsed


def operations(unit: Unit) -> Counter[str]:
    """How many operations of each name the module holds."""
    counted: Counter[str] = Counter()

    def visit(operation: ir.Operation) -> ir.WalkResult:
        counted[operation.name] += 1
        return ir.WalkResult.ADVANCE

    unit.module.operation.walk(visit)
    return counted


def signature(unit: Unit) -> str:
    """The type of @main."""
    return str(unit.module.body.operations[0].type)


def run(unit: Unit, **inputs: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """Verify and interpret."""
    with unit.module.context:
        verify(unit.module)
    return interpret(unit, inputs)

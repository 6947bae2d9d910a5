"""The ONNX frontend: from a model file to the graph level.

In: an ONNX file, bytes or `ModelProto`. Out: a `Unit` whose module is whole-tensor IR with symbolic shapes,
weights beside it.
"""

from .importer import import_model
from .registry import onnx_operator, registered_operators

__all__ = ["import_model", "onnx_operator", "registered_operators"]

"""Operators that ONNX defines by a function over simpler operators.

In: a node that has no importer of ours. Out: its body as a `FunctionProto`, or None. Bodies come from onnx's
operator schemas; some depend on the node's attributes and input types.
"""

from __future__ import annotations

from typing import Any

import onnx
import onnx.defs

from .node import Node
from .tensors_of_file import ELEMENT_TYPES

_KINDS = {name: kind for kind, name in ELEMENT_TYPES.items()}


def function_body(node: Node) -> onnx.FunctionProto | None:
    """The body for this node, with the defaults of its attributes, or None when ONNX defines none."""
    try:
        schema: Any = onnx.defs.get_schema(node.operator, node.version, node.domain)
    except onnx.defs.SchemaError:
        return None
    data = _plain_body(schema, node) or _context_body(schema, node)
    if data is None:
        return None
    body: onnx.FunctionProto = onnx.FunctionProto.FromString(data)
    declared = {item.name for item in body.attribute_proto}
    for name, attribute in schema.attributes.items():
        if name not in declared and attribute.default_value.type:
            body.attribute_proto.append(attribute.default_value)
    if not body.opset_import:
        body.opset_import.append(onnx.helper.make_opsetid(node.domain, node.version))
    if not {"", "ai.onnx"} & {item.domain for item in body.opset_import}:  # bodies of preview operators are new
        body.opset_import.append(onnx.helper.make_opsetid("", onnx.defs.onnx_opset_version()))
    return body


def _newest(versions: list[int], limit: int) -> int | None:
    usable = [version for version in versions if version <= limit]
    return max(usable) if usable else None


def _plain_body(schema: Any, node: Node) -> bytes | None:
    version = _newest(list(schema.function_opset_versions), node.version)
    return schema.get_function_with_opset_version(version) if version is not None else None


def _context_body(schema: Any, node: Node) -> bytes | None:
    version = _newest(list(schema.context_dependent_function_opset_versions), node.version)
    if version is None:
        return None
    types = []
    for tensor in node.inputs:
        kind = onnx.TypeProto()
        if tensor is not None:
            kind.tensor_type.elem_type = _KINDS[tensor.dtype]
            kind.tensor_type.shape.SetInParent()
            for size in tensor.shape:
                dimension = kind.tensor_type.shape.dim.add()
                constant = size.as_constant()
                if constant is not None:
                    dimension.dim_value = constant
        types.append(kind.SerializeToString())
    body: bytes = schema.get_context_dependent_function_with_opset_version(
        version, node.proto.SerializeToString(), types
    )
    return body or None

"""Complex values that go into the bodies of If, Loop, Scan and SequenceMap, and that come out of them.

In: such a node with complex inputs, or whose bodies declare complex outputs. Out: one in which each of them is two, and
bodies that begin with putting them together and end with taking them apart; what stands between stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import TypeVar

import onnx

from ...runtime.dtypes import COMPLEX_PARTS
from ...runtime.errors import ModelError
from .complex_tensor import ComplexTensor
from .node import Node
from .tensor import Tensor
from .tensors_of_file import COMPLEX_TYPES, ELEMENT_TYPES

PARTS = "tilewright.parts"  # the domain of the two operators that no model has
JOIN, SPLIT = "Join", "Split parts"
CARRIERS = frozenset(("If", "Loop", "Scan", "SequenceMap"))
_BODIES = ("body", "then_branch", "else_branch")
_KINDS = {name: kind for kind, name in ELEMENT_TYPES.items()}
# Attributes of Scan with an entry for each scanned input, or each scanned output.
_OF_INPUTS = ("scan_input_axes", "scan_input_directions", "directions")
_OF_OUTPUTS = ("scan_output_axes", "scan_output_directions")
Types = list[str | None]  # of each value the complex type, None for other values
Item = TypeVar("Item")


@dataclass(frozen=True)
class Layout:
    """What a node with bodies has: complex types of its inputs and outputs, and which of them are its bodies'."""

    inputs: Types
    outputs: Types
    before_inputs: int  # inputs of the node that its bodies do not get
    before_outputs: int  # outputs of its bodies that the node does not give

    @staticmethod
    def of(node: Node) -> Layout:
        inputs = [tensor.dtype if isinstance(tensor, ComplexTensor) else None for tensor in node.inputs]
        before_inputs = 1 if node.operator == "Scan" and node.version < 9 else 0
        before_outputs = 1 if node.operator == "Loop" else 0
        declared = [declared_outputs(body)[before_outputs:] for body in bodies(node)]
        if len({len(types) for types in declared}) > 1:
            raise ModelError("the branches have different numbers of outputs")
        outputs = [next((name for name in names if name), None) for names in zip(*declared, strict=True)]
        first = 2 if node.operator == "Loop" else before_inputs
        carried = inputs[first : len(inputs) - int(node.get("num_scan_inputs") or 0)]
        if node.operator in ("Loop", "Scan"):
            outputs[: len(carried)] = carried[: len(outputs)]
        return Layout(inputs, outputs, before_inputs, before_outputs)


def bodies(node: Node) -> list[onnx.GraphProto]:
    """The graphs of a node."""
    return [node.get(name) for name in _BODIES if isinstance(node.get(name), onnx.GraphProto)]


def declared_outputs(body: onnx.GraphProto) -> Types:
    """The complex types that a body says its outputs have."""
    return [COMPLEX_TYPES.get(_innermost(value.type).elem_type) for value in body.output]


def _innermost(declared: onnx.TypeProto) -> onnx.TypeProto.Tensor:
    """The tensors of a type, which may be sequences or optionals of them."""
    while declared.WhichOneof("value") in ("sequence_type", "optional_type"):
        declared = getattr(declared, declared.WhichOneof("value")).elem_type
    return declared.tensor_type


def split_node(node: Node) -> tuple[Node, Types]:
    """The node with each complex value as two, and the complex types of its outputs before."""
    layout = Layout.of(node)
    flat = copy(node)
    flat.inputs = [part for tensor in node.inputs for part in _parts(tensor)]
    flat.outputs = _doubled(node.outputs, layout.outputs)
    flat.attributes = dict(node.attributes)
    for name in _BODIES:
        if isinstance(node.get(name), onnx.GraphProto):
            flat.attributes[name] = _body(node.get(name), layout)
    count = int(node.get("num_scan_inputs") or 0)
    if count:
        scanned, states = layout.inputs[-count:], len(layout.inputs) - layout.before_inputs - count
        flat.attributes["num_scan_inputs"] = len(_doubled(scanned, scanned))
        for names, types in ((_OF_INPUTS, scanned), (_OF_OUTPUTS, layout.outputs[states:])):
            for name in names:
                if node.get(name):
                    flat.attributes[name] = _doubled(node.get(name), types)
    return flat, layout.outputs


def _parts(tensor: Tensor | None) -> Sequence[Tensor | None]:
    return tensor.parts if isinstance(tensor, ComplexTensor) else [tensor]


def _doubled(items: Sequence[Item], types: Types) -> list[Item]:
    """The items, those of complex values twice."""
    return [item for item, name in zip(items, types, strict=False) for _ in range(2 if name else 1)]


def _body(body: onnx.GraphProto, layout: Layout) -> onnx.GraphProto:
    """The body between nodes that put its complex inputs together, and nodes that take its complex outputs apart."""
    result = onnx.GraphProto()
    result.CopyFrom(body)
    del result.input[:], result.output[:], result.node[:]
    first: list[onnx.NodeProto] = []
    last: list[onnx.NodeProto] = []
    inputs = [*layout.inputs[layout.before_inputs :], *[None] * len(body.input)]
    for value, name in zip(body.input, inputs, strict=False):
        names = _add(result.input, value, name)
        if name:
            first.append(onnx.helper.make_node(JOIN, names, [value.name], domain=PARTS, dtype=name))
    outputs: Types = [*[None] * layout.before_outputs, *layout.outputs]
    for value, name in zip(body.output, outputs, strict=True):
        names = _add(result.output, value, name)
        if name:
            last.append(onnx.helper.make_node(SPLIT, [value.name], names, domain=PARTS))
    result.node.extend([*first, *body.node, *last])
    return result


def _add(values: list[onnx.ValueInfoProto], value: onnx.ValueInfoProto, name: str | None) -> list[str]:
    """Declare an input or output of a body, as two of floats when it is complex. Returns their names."""
    names = [f"{value.name} {part}" for part in ("real", "imaginary")] if name else [value.name]
    for item in names:
        copied = onnx.ValueInfoProto()
        copied.CopyFrom(value)
        copied.name = item
        if name and copied.type.WhichOneof("value"):
            _innermost(copied.type).elem_type = _KINDS[COMPLEX_PARTS[name]]
        values.append(copied)
    return names


def grouped(results: Sequence[Tensor | None], types: Types, node: Node) -> list[Tensor | None]:
    """The outputs of a node of `split_node` as they were before."""
    left = list(results)
    found: list[Tensor | None] = []
    for name in types[: len(node.outputs)]:
        taken = [left.pop(0) if left else None for _ in range(2 if name else 1)]
        real, imaginary = taken[0], taken[-1]
        if name and real is not None and imaginary is not None:
            found.append(ComplexTensor(node.importer.materialiser, (real, imaginary), name))
        else:
            found.append(real)
    return found

"""The walk over an ONNX graph that builds the graph level.

In: a checked model. Out: a `Unit` with `@main`. Every node is tried in this order: constant folding, shape
arithmetic, our importer of the operator, the function body that ONNX defines for it. Unsupported nodes are
collected and reported together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from mlir import ir
from mlir.dialects import func

from ...dialects import create_context
from ...dialects import graph_builder as build
from ...dialects.tensors import Shape, tensor_type
from ...passes.unit import Unit, WeightStore
from ...runtime.dtypes import COMPLEX, COMPLEX_PARTS, HOST_TYPES
from ...runtime.errors import InternalError, ModelError, UnsupportedError
from ...runtime.symbolic import expression
from ..custom_operators import hint
from . import complex_numbers
from .blame import fault_of_model
from .complex_tensor import ComplexTensor
from .custom_importer import custom_importer
from .dimensions import Constraints, Dimensions, Shapes
from .errors import Unsupported
from .evaluation import fold
from .functions import function_body
from .held import HeldValue, declared_content
from .loading import ModelSource, Source, load
from .node import Node
from .registry import find_operator, takes_host_values
from .report import Report
from .shape_arithmetic import propagate
from .tensor import Array, Materialiser, Tensor, is_complete
from .tensors_of_file import COMPLEX_TYPES, element_name, loader_of
from .type_rules import check_types

RESHAPING = {"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"}  # our importers keep constants constant
MAXIMUM_DEPTH = 40  # functions and subgraphs inside each other


class Scope:
    """Names visible in a graph: its own, then those of the graph around it. A value of None was left out or
    failed.
    """

    def __init__(self, outer: Scope | None, opsets: dict[str, int]) -> None:
        self.outer = outer
        self.opsets = opsets
        self.attributes: dict[str, onnx.AttributeProto] = {}  # of the function being inlined
        self.depth: int = outer.depth + 1 if outer is not None else 0
        self._values: dict[str, Tensor | None] = {}
        if self.depth > MAXIMUM_DEPTH:
            raise ModelError(f"the model nests functions or subgraphs more than {MAXIMUM_DEPTH} deep")

    def __setitem__(self, name: str, tensor: Tensor | None) -> None:
        self._values[name] = tensor

    def find(self, name: str) -> Tensor | None:
        """The tensor of that name; None when its node failed. Raises ModelError when there is no such
        name.
        """
        scope: Scope | None = self
        while scope is not None:
            if name in scope._values:
                return scope._values[name]
            scope = scope.outer
        raise ModelError(f"nothing computes the value '{name}'")


class Importer:
    """State of one import."""

    def __init__(self, unit: Unit, anchor: ir.Operation, source: Source) -> None:
        self.unit = unit
        self.materialiser = Materialiser(anchor, unit.weights)
        self.constraints = Constraints()
        self.report = Report()
        self._source = source
        self._count = 0
        self._symbols = 0

    # What evaluators need -----------------------------------------------------------------------------------
    def element_name(self, kind: int) -> str:
        """The dtype name of an ONNX element type. Raises Unsupported."""
        return element_name(kind)

    def constant_of(self, proto: onnx.TensorProto, name: str, raw: Array | None = None) -> Tensor:
        """A constant tensor of the file; `raw` are its bytes when they were left in the file."""
        if proto.data_type == onnx.TensorProto.STRING:
            try:
                texts = [item.decode() for item in proto.string_data]
                strings = np.array(texts, dtype=object).reshape(tuple(proto.dims))
            except ValueError as error:
                raise ModelError(f"tensor '{name}' of strings is damaged: {error}") from None
            return Tensor.of_array(self.materialiser, strings, "string", name)
        loader, dtype, shape = loader_of(proto, self._source.folder, raw)
        if dtype in COMPLEX:
            return ComplexTensor.of_array(self.materialiser, loader(), dtype, name)
        sizes = tuple(expression(size) for size in shape)
        return Tensor(self.materialiser, dtype, sizes, name=name, loader=loader)

    def fresh_symbols(self, hint: str, count: int) -> list[str]:
        """Names for sizes that the host finds during a run."""
        base = re.sub(r"\W", "_", hint.lower(), flags=re.ASCII)
        found: list[str] = []
        while len(found) < count:
            name = f"{base}_{self._symbols}"
            self._symbols += 1
            if name not in self.unit.symbols:
                found.append(name)
        self.constraints.found.update(found)
        return found

    def trial(self) -> Callable[[], None]:
        """To import something that may not fit: what is returned makes sizes and constraints as they are now. The
        operations have to be in a block that is dropped.
        """
        constraints, materialiser = self.constraints, self.materialiser
        pairs, found, binders = list(constraints.pairs), set(constraints.found), dict(materialiser.binders)

        def undo() -> None:
            constraints.pairs[:] = pairs
            constraints.found.intersection_update(found)
            materialiser.binders.clear()
            materialiser.binders.update(binders)

        return undo

    # Graphs -------------------------------------------------------------------------------------------------
    def run_graph(self, graph: onnx.GraphProto, scope: Scope) -> list[Tensor | None]:
        """Import every node; returns the graph's outputs."""
        mapped = self._source.mapped if scope.outer is None else {}
        for tensor in graph.initializer:
            try:
                scope[tensor.name] = self.constant_of(tensor, tensor.name, mapped.get(tensor.name))
            except Unsupported as error:
                self.report.add_text(error, f"initializer '{tensor.name}'")
                scope[tensor.name] = None
        for sparse in graph.sparse_initializer:
            scope[sparse.values.name] = self.sparse_constant(sparse)
        for node in graph.node:
            self.run_node(node, scope)
        return [scope.find(value.name) for value in graph.output]

    def run_subgraph(self, graph: onnx.GraphProto, scope: Scope, inputs: Sequence[Tensor] = ()) -> list[Tensor | None]:
        """Import a graph that sees the names around it: a branch, or the body of a loop with its `inputs`."""
        if len(inputs) != len(graph.input):
            raise ModelError(f"subgraph '{graph.name}' has {len(graph.input)} inputs, {len(inputs)} are given")
        inner = Scope(scope, scope.opsets)
        inner.attributes = scope.attributes
        for value, tensor in zip(graph.input, inputs, strict=True):
            inner[value.name] = tensor
        return self.run_graph(graph, inner)

    def sparse_constant(self, sparse: onnx.SparseTensorProto) -> Tensor:
        """A constant tensor that the file describes by the places of its elements that are not 0."""
        values = self.constant_of(sparse.values, sparse.values.name)
        indices = self.constant_of(sparse.indices, "indices").array()

        def dense(part: Tensor) -> Tensor:
            array = np.zeros(tuple(sparse.dims), part.array().dtype)
            position = indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), array.shape)
            array.reshape(-1)[position] = part.array()
            return Tensor.of_array(self.materialiser, array, part.dtype, sparse.values.name)

        try:
            if isinstance(values, ComplexTensor):
                real, imaginary = map(dense, values.parts)
                return ComplexTensor(self.materialiser, (real, imaginary), values.dtype)
            return dense(values)
        except (IndexError, ValueError) as error:
            raise ModelError(f"sparse initializer '{sparse.values.name}' is damaged: {error}") from None

    def run_node(self, proto: onnx.NodeProto, scope: Scope) -> None:
        """Import one node; its outputs are None when it is unsupported or depends on one that is."""
        self._count += 1
        name = proto.name or (proto.output[0] if proto.output and proto.output[0] else f"{proto.op_type}_{self._count}")
        inputs = [scope.find(item) if item else None for item in proto.input]
        failed = any(item and tensor is None for item, tensor in zip(proto.input, inputs, strict=True))
        results: Sequence[Tensor | None] = [None] * len(proto.output)
        if not (failed and self.report.problems):
            node = self._node(proto, name, inputs, scope)
            try:
                with ir.Location.name(name):
                    results = self.outputs(node)
                for tensor in results:
                    if tensor is not None:
                        tensor.sources |= node.sources
            except Unsupported as error:
                self.report.add(error, node)
            except (ModelError, UnsupportedError, InternalError) as error:
                raise type(error)(
                    f"{error}\n{self.report.describe(node)}" if "\n  node " not in str(error) else str(error)
                ) from None
            except Exception as error:
                raise InternalError(
                    f"import failed: {type(error).__name__}: {error}\n{self.report.describe(node)}"
                ) from error
        for position, output in enumerate(proto.output):
            if output:
                scope[output] = results[position] if position < len(results) else None

    def apply(
        self, proto: onnx.NodeProto, inputs: list[Tensor | None], node: Node, version: int
    ) -> list[Tensor | None]:
        """The outputs of a node that is not in the model, for an operator that is made of others."""
        scope = Scope(node.scope, {proto.domain: version})
        return self.outputs(self._node(proto, node.name, inputs, scope))

    def _node(self, proto: onnx.NodeProto, name: str, inputs: list[Tensor | None], scope: Scope) -> Node:
        if any(attribute.ref_attr_name for attribute in proto.attribute):
            proto = _resolved(proto, scope.attributes)
        try:
            attributes = {attribute.name: _attribute_value(attribute) for attribute in proto.attribute}
        except ModelError as error:
            raise ModelError(f"{error}\n  node '{name}' ({proto.op_type})") from None
        domain = "" if proto.domain == "ai.onnx" else proto.domain
        version = scope.opsets.get(domain, 1)
        node = Node(self, name, proto.op_type, domain, version, inputs, attributes, list(proto.output))
        node.proto, node.scope = proto, scope
        return node

    def outputs(self, node: Node) -> list[Tensor | None]:
        """The outputs of a node. Raises Unsupported and ModelError."""
        if complex_numbers.concerns(node):
            return list(complex_numbers.import_complex(node))
        check_types(node)
        if node.operator in RESHAPING and not node.domain and all(item and item.is_constant for item in node.inputs):
            return self._imported(node)
        folded = fold(node)
        if folded is not None:
            return [node.literal(array, dtype) for array, dtype in folded]
        known = propagate(node) or []
        if known and all(is_complete(array) for array, _ in known):
            return [node.symbolic(array, dtype) for array, dtype in known]
        results = self._imported(node)
        for result, (array, _) in zip(results, known, strict=False):
            if result is not None:
                result.learn(array)
        return results

    def _imported(self, node: Node) -> list[Tensor | None]:
        """What the importer of the operator gives, or the body of a function."""
        function = find_operator(node.domain, node.operator, node.version) or custom_importer(node)
        if function is None:
            body = function_body(node)
            if body is None:
                where = f"domain '{node.domain}'" if node.domain else "ai.onnx"
                raise Unsupported(f"operator {node.operator} of {where}", hint(node.domain, node.operator))
            return self.run_function(body, node)
        if not takes_host_values(node.domain, node.operator):
            for tensor in node.inputs:
                if tensor is not None and tensor.is_on_host:
                    raise Unsupported(f"{node.operator} of a {tensor.dtype}", "tensors of numbers", tensor.sources)
        results = function(node)
        listed = list(results) if isinstance(results, (tuple, list)) else [results]
        return [None if item is None else node.tensor(item) for item in listed]

    def run_function(self, body: onnx.FunctionProto, node: Node) -> list[Tensor | None]:
        """Import the nodes of a function body in place of `node`."""
        opsets = {item.domain if item.domain != "ai.onnx" else "": item.version for item in body.opset_import}
        inner = Scope(node.scope, opsets)
        inner.attributes = {item.name: item for item in body.attribute_proto}
        inner.attributes.update({item.name: item for item in node.proto.attribute})
        padded = [*node.inputs, *[None] * len(body.input)]
        for name, tensor in zip(body.input, padded, strict=False):
            inner[name] = tensor
        for item in body.node:
            self.run_node(item, inner)
        # Bodies of operators leave out what computes an optional output that nobody wants.
        wanted = [node.wants(position) or position == 0 for position in range(len(body.output))]
        return [inner.find(name) if want else None for name, want in zip(body.output, wanted, strict=True)]


def _resolved(proto: onnx.NodeProto, given: dict[str, onnx.AttributeProto]) -> onnx.NodeProto:
    """A node of a function body whose attributes that name the function's are replaced by their values."""
    copy = onnx.NodeProto()
    copy.CopyFrom(proto)
    del copy.attribute[:]
    for attribute in proto.attribute:
        source = given.get(attribute.ref_attr_name) if attribute.ref_attr_name else attribute
        if source is not None:
            copy.attribute.add().CopyFrom(source)
            copy.attribute[-1].name = attribute.name
    return copy


def _attribute_value(attribute: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    try:
        if attribute.type == onnx.AttributeProto.STRING:
            return value.decode()
        if attribute.type == onnx.AttributeProto.STRINGS:
            return [item.decode() for item in value]
    except UnicodeDecodeError:
        raise ModelError(f"attribute '{attribute.name}' is not UTF-8 text") from None
    return list(value) if attribute.type in (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS) else value


def import_model(
    source: ModelSource, shapes: Shapes | None = None, precision: str = "model", target: str = "sm_90a"
) -> Unit:
    """The graph level of a model. `shapes` fixes or names dimensions of inputs: ``{"x": (8, 3, "h", "w")}``.

    Raises ModelError for damaged or invalid models, UnsupportedError naming every node that cannot be
    compiled.
    """
    loaded = load(source)
    context = create_context()
    with context, ir.Location.unknown():
        module = ir.Module.create()
        unit = Unit(module, WeightStore(), target=target, precision=precision, model_name=loaded.name)
        try:
            _import_main(unit, loaded, shapes)
        except Unsupported as error:
            raise UnsupportedError(f"unsupported: {error.what}\n  supported: {error.supported}") from None
        except (ModelError, UnsupportedError):
            raise
        except Exception as error:
            fault = fault_of_model(loaded.model, error)
            if fault:
                raise ModelError(f"model '{loaded.name}' is not valid: {fault}") from None
            raise
    return unit


def _import_main(unit: Unit, loaded: Source, shapes: Shapes | None) -> None:
    graph = loaded.model.graph
    initialised = {tensor.name for tensor in graph.initializer} | {
        item.values.name for item in graph.sparse_initializer
    }
    inputs = [value for value in graph.input if value.name not in initialised]
    dtypes = [_input_dtype(value) for value in inputs]
    dimensions = Dimensions()
    symbolic = dimensions.shapes(inputs, shapes)
    unit.symbols = dimensions.sources
    types = [_argument_type(shape, dtype) for shape, dtype in zip(symbolic, dtypes, strict=True)]
    with ir.InsertionPoint(unit.module.body):
        main = func.FuncOp("main", ir.FunctionType.get(types, []))
    block = main.add_entry_block()
    with ir.InsertionPoint(block):
        anchor = build.constant(0, "i64").owner
        importer = Importer(unit, anchor, loaded)
        scope = Scope(
            None,
            {"" if item.domain == "ai.onnx" else item.domain: item.version for item in loaded.model.opset_import},
        )
        for value, argument, dtype, shape in zip(inputs, block.arguments, dtypes, symbolic, strict=True):
            tensor = _argument(importer.materialiser, value, argument, dtype, shape)
            scope[value.name] = tensor
            for part in (tensor, *(tensor.parts if isinstance(tensor, ComplexTensor) else ())):
                part.sources = frozenset({value.name})
        outputs = importer.run_graph(graph, scope)
        importer.report.raise_if_any()
        results = [_output(value, tensor) for value, tensor in zip(graph.output, outputs, strict=True)]
        func.ReturnOp(results)
    anchor.erase()
    given = [scope.find(value.name) for value in inputs]
    signature = Signature(types, results, [_named(*pair) for pair in zip(inputs, given, strict=True)], [
        _named(*pair) for pair in zip(graph.output, outputs, strict=True)
    ])
    _sign(main, signature, dimensions, importer.constraints)


def _argument_type(shape: Shape, dtype: str) -> ir.Type:
    """Of an input of the model; complex numbers have their parts beside each other."""
    if dtype in COMPLEX:
        return tensor_type((*shape, expression(2)), COMPLEX_PARTS[dtype])
    return build.object_type() if dtype in HOST_TYPES else tensor_type(shape, dtype)


def _argument(
    materialiser: Materialiser, value: onnx.ValueInfoProto, argument: ir.Value, dtype: str, shape: Shape
) -> Tensor:
    """An input of the model."""
    content = declared_content(value.type) if dtype in ("sequence", "optional") else None
    if content is not None and content.dtype in COMPLEX:
        return ComplexTensor.of_held(materialiser, argument, dtype, content)
    if content is not None:
        return HeldValue(materialiser, dtype, argument, content)
    if dtype in COMPLEX:
        return ComplexTensor.of_value(materialiser, argument, value.name)
    return Tensor(materialiser, dtype, shape, name=value.name, value=argument)


def _output(value: onnx.ValueInfoProto, tensor: Tensor | None) -> ir.Value:
    if tensor is None:
        raise ModelError(f"the model's output '{value.name}' is not computed")
    try:
        if isinstance(tensor, ComplexTensor):
            return tensor.joined()
        return build.fetch(tensor.value) if isinstance(tensor, HeldValue) else tensor.value
    except Unsupported as error:
        raise Unsupported(f"output '{value.name}': {error.what}", error.supported) from None


def _input_dtype(value: onnx.ValueInfoProto) -> str:
    kind = value.type.WhichOneof("value")
    if kind in ("sequence_type", "optional_type"):
        return str(kind).removesuffix("_type")
    if kind == "tensor_type" and value.type.tensor_type.elem_type == onnx.TensorProto.STRING:
        return "string"
    if kind != "tensor_type":
        raise Unsupported(f"input '{value.name}' of kind {kind or 'none'}", "tensors")
    element = value.type.tensor_type.elem_type
    try:
        return COMPLEX_TYPES.get(element) or element_name(element)
    except Unsupported as error:
        raise Unsupported(f"input '{value.name}' of {error.what}", error.supported) from None


@dataclass(frozen=True)
class Signature:
    """Of `@main`: types, results, and what is written about each argument and result."""

    types: list[ir.Type]
    results: list[ir.Value]
    arguments: list[ir.Attribute]
    outputs: list[ir.Attribute]


def _named(value: onnx.ValueInfoProto, tensor: Tensor | None) -> ir.Attribute:
    """The ONNX name and, for host values, the kind and shape."""
    entry: dict[str, ir.Attribute] = {"graph.name": ir.StringAttr.get(value.name)}
    if tensor is not None and tensor.is_on_host:
        kind = tensor.kind if isinstance(tensor, ComplexTensor) else tensor.dtype
        entry["graph.type"] = ir.StringAttr.get(kind)
        entry["graph.shape"] = build.attribute(tuple(tensor.shape))
    elif isinstance(tensor, ComplexTensor):
        entry["graph.complex"] = ir.StringAttr.get(tensor.dtype)
    return ir.DictAttr.get(entry)


def _sign(main: func.FuncOp, signature: Signature, dimensions: Dimensions, constraints: Constraints) -> None:
    """Give @main its result types, the ONNX names of arguments and results, symbols and constraints."""
    attributes = main.operation.attributes
    attributes["function_type"] = ir.TypeAttr.get(
        ir.FunctionType.get(signature.types, [value.type for value in signature.results])
    )
    attributes["arg_attrs"] = ir.ArrayAttr.get(signature.arguments)
    attributes["res_attrs"] = ir.ArrayAttr.get(signature.outputs)
    attributes["graph.symbols"] = build.attribute(tuple(expression(symbol) for symbol in dimensions.sources))
    if constraints.pairs:
        pairs = [build.attribute(pair) for pair in constraints.pairs]
        attributes["graph.constraints"] = ir.ArrayAttr.get(pairs)


__all__ = ["Importer", "Scope", "Shape", "import_model"]

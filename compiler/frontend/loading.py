"""From a file, bytes or a `ModelProto` to a checked model.

In: whatever the user gave. Out: `Source`: the model, valid by onnx's checker, its functions inlined, with
the folder where external data may lie. Files are untrusted: anything wrong is a ModelError, and nothing
outside the model's folder is read.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx.checker
import onnx.defs
import onnx.helper
import onnx.inliner
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from ...runtime.errors import ModelError, UnsupportedError
from .mapped_file import map_model
from .node_order import with_sorted_nodes
from .tensor import Array

MAXIMUM_PROTOBUF_BYTES = (1 << 31) - 1  # protobuf's own limit

# onnxruntime has them in the standard domain at any version; ONNX has the first never, the others since later opsets.
_FOREIGN_OPERATORS = ("SimplifiedLayerNormalization", "LayerNormalization", "RMSNormalization", "RotaryEmbedding")
_FOREIGN = "tilewright.foreign"

ModelSource = str | os.PathLike[str] | bytes | onnx.ModelProto


@dataclass(frozen=True)
class Source:
    """A checked model. `folder` is None for models that did not come from a file; `name` is for people.

    `mapped` has the bytes of the large initializers that were left in the file.
    """

    model: onnx.ModelProto
    folder: Path | None
    name: str
    mapped: dict[str, Array]


def load(source: ModelSource) -> Source:
    """Read and check a model. Raises ModelError, or UnsupportedError for opsets newer than the onnx
    package.
    """
    mapped: dict[str, Array] = {}
    folder: Path | None
    if isinstance(source, onnx.ModelProto):
        model, folder, name = source, None, source.graph.name or "model"
    elif isinstance(source, bytes):
        model, folder, name = _parse(source, "the given bytes"), None, "model"
    else:
        path = Path(source)
        model, mapped = _read(path)
        folder = path.resolve().parent
        name = path.stem.encode(errors="replace").decode()  # file names need not be text
    try:
        if not all(isinstance(text, str) for text in _texts(model.graph)):  # protobuf gives bytes, or raises
            raise ModelError(f"model '{name}' has text that is not UTF-8")
        _check_opsets(model, name)
        model = with_sorted_nodes(model)
        _check(model, name)
    except UnicodeDecodeError:
        raise ModelError(f"model '{name}' has text that is not UTF-8") from None
    if model.functions:
        try:
            model = onnx.inliner.inline_local_functions(model)
        except (onnx.checker.ValidationError, RuntimeError) as error:
            raise ModelError(f"the functions of model '{name}' cannot be inlined: {error}") from None
    return Source(model, folder, name, mapped)


def _texts(graph: onnx.GraphProto) -> Iterator[str]:
    """Names of everything in a graph and the graphs inside it."""
    for value in (*graph.input, *graph.output, *graph.initializer):
        yield value.name
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        for attribute in node.attribute:
            yield attribute.name
            if attribute.HasField("g"):
                yield from _texts(attribute.g)


def _read(path: Path) -> tuple[onnx.ModelProto, dict[str, Array]]:
    try:
        size = path.stat().st_size
        if size > MAXIMUM_PROTOBUF_BYTES:
            raise ModelError(f"{path} has {size} bytes, more than a protobuf file can have\n  supported: external data")
        found = map_model(path)
        if found is not None:
            return _parse(found.skeleton, str(path)), found.data
        return _parse(path.read_bytes(), str(path)), {}
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from None


def _parse(data: bytes, where: str) -> onnx.ModelProto:
    if data.startswith(b"PK\x03\x04"):
        raise ModelError(f"{where} is not an ONNX model but a zip file, such as an engine or a checkpoint of PyTorch")
    try:
        model: onnx.ModelProto = onnx.ModelProto.FromString(data)
    except DecodeError:
        raise ModelError(f"{where} is not an ONNX model: truncated, damaged or of another format") from None
    if not model.HasField("graph"):
        raise ModelError(f"{where} is not an ONNX model: it has no graph")
    return model


def _check_opsets(model: onnx.ModelProto, name: str) -> None:
    newest = onnx.defs.onnx_opset_version()
    for opset in model.opset_import:
        if opset.domain in ("", "ai.onnx") and opset.version > newest:
            raise UnsupportedError(f"unsupported: opset {opset.version}\n  model '{name}'\n  supported: 1 to {newest}")


def _check(model: onnx.ModelProto, name: str) -> None:
    """onnx's checker, on a copy in which large initializers are inputs: their bytes are looked at when they
    are used.
    """
    skeleton = onnx.ModelProto()
    skeleton.ir_version = max(model.ir_version, 4)
    skeleton.opset_import.extend(model.opset_import)
    skeleton.functions.extend(model.functions)
    _copy_graph(model.graph, skeleton.graph)
    if _move_foreign(skeleton.graph, next((item.version for item in model.opset_import if not item.domain), 1)):
        skeleton.opset_import.append(onnx.helper.make_opsetid(_FOREIGN, 1))
    try:
        onnx.checker.check_model(skeleton)
    except onnx.checker.ValidationError as error:
        first = str(error).strip().split("\n\n")[0]
        raise ModelError(f"model '{name}' is not valid: {first}{_place(skeleton)}") from None
    except (ValueError, RuntimeError) as error:  # malformed strings and the like
        raise ModelError(f"model '{name}' is not valid: {error}") from None


def _place(model: onnx.ModelProto) -> str:
    """A line with the first node that is not valid by itself, as the checker does not name those without a name; empty
    where none is.
    """
    context = onnx.checker.C.CheckerContext()
    context.ir_version = model.ir_version
    # The checker keeps a version in 32 bits; a larger one is no version either.
    context.opset_imports = {item.domain: min(max(item.version, 0), 2**31 - 1) for item in model.opset_import}
    for node in model.graph.node:
        try:
            onnx.checker.check_node(node, context)
        except (onnx.checker.ValidationError, ValueError, RuntimeError):
            name = node.name or next(iter(node.output), "")
            version = context.opset_imports.get(node.domain, 1)
            return f"\n  node '{name}' ({f'{node.domain}.' if node.domain else ''}{node.op_type}, opset {version})"
    return ""


def _move_foreign(graph: onnx.GraphProto, version: int) -> bool:
    """Give operators that onnxruntime's optimiser writes in the standard domain, where that version of it has no such
    operator, a domain of their own: the checker knows nothing of them. Returns whether there are any.
    """
    found = False
    for node in graph.node:
        if node.op_type in _FOREIGN_OPERATORS and not node.domain and not onnx.defs.has(node.op_type, version, ""):
            node.domain, found = _FOREIGN, True
        for attribute in node.attribute:
            if attribute.HasField("g"):
                found = _move_foreign(attribute.g, version) or found
    return found


def _copy_graph(source: onnx.GraphProto, target: onnx.GraphProto) -> None:
    target.name = source.name or "graph"
    declared = {value.name for value in source.input}
    target.input.extend(source.input)
    twice = [name for name, count in Counter(value.name for value in source.output).items() if count > 1]
    if twice:
        raise ModelError(f"the model has an output twice: {', '.join(twice)}")
    for value in source.output:  # types of outputs are ours to compute: their absence is no fault of the file
        output = target.output.add()
        output.CopyFrom(value)
        if value.type.WhichOneof("value") in (None, "tensor_type"):
            output.type.tensor_type.elem_type = value.type.tensor_type.elem_type or onnx.TensorProto.FLOAT
            output.type.tensor_type.shape.SetInParent()
    target.node.extend(source.node)
    target.sparse_initializer.extend(source.sparse_initializer)
    seen: set[str] = set()
    for tensor in source.initializer:
        if tensor.name in seen:
            raise ModelError(f"the model defines initializer '{tensor.name}' twice")
        seen.add(tensor.name)
        if tensor.name not in declared:
            target.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type or 1, list(tensor.dims))
            )

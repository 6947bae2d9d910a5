"""Is a model wrong, or are we? Asked only when an import failed in a way that no check of ours foresaw.

In: the model and what was raised. Out: what onnx's own type and shape inference says against the model, or nothing
where the failure is a bug of ours. So importers rely on types that the standard promises, and need not check each.
"""

from __future__ import annotations

import onnx
import onnx.shape_inference

LARGEST_INITIALIZER = 1 << 16  # bytes; larger ones are not copied: no shape depends on them


def fault_of_model(model: onnx.ModelProto, error: BaseException) -> str:
    """Why the model is not valid, in one line; empty when onnx finds nothing wrong."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UnicodeDecodeError):
            return "it has text that is not UTF-8"
        cause = cause.__cause__
    try:
        onnx.shape_inference.infer_shapes(_without_weights(model), check_type=True, strict_mode=True)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as found:
        return " ".join(str(found).split())
    except (ValueError, RuntimeError, MemoryError):  # too large for onnx, or a failure of its own
        return ""
    return ""


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.ir_version = model.ir_version
    copy.opset_import.extend(model.opset_import)
    copy.functions.extend(model.functions)
    graph = copy.graph
    graph.name = model.graph.name or "graph"
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(onnx.ValueInfoProto(name=value.name) for value in model.graph.output)
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) <= LARGEST_INITIALIZER:
            graph.initializer.append(tensor)
        else:
            declared = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            graph.input.append(declared)
    return copy

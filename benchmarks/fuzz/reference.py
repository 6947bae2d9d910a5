"""What a model means: onnxruntime without its optimiser, or onnx's evaluator for what onnxruntime does not have.

In: a model and arrays. Out: outputs, and outputs of the model with noise at every operation that rounds: how far two
right implementations may be from each other.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]

# Operations that choose or move elements, or give exact answers: equal inputs have equal outputs everywhere.
EXACT = frozenset(
    (
        *("Abs", "And", "ArgMax", "ArgMin", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Ceil"),
        *("Clip", "Compress", "Concat", "ConstantOfShape", "Constant", "DepthToSpace", "Equal", "Expand", "EyeLike"),
        *("Flatten", "Floor", "Gather", "GatherElements", "GatherND", "GlobalMaxPool", "Greater", "GreaterOrEqual"),
        *("Hardmax", "Identity", "IsInf", "IsNaN", "Less", "LessOrEqual", "Max", "MaxPool", "Min", "Neg", "NonZero"),
        *("Not", "OneHot", "Or", "Pad", "Range", "ReduceMax", "ReduceMin", "Relu", "Reshape", "ReverseSequence"),
        *("Round", "Shape", "Sign", "Size", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "TopK", "Transpose"),
        *("Trilu", "Unique", "Unsqueeze", "Where", "Xor"),
    )
)
NOISE = {"float16": 2.0**-9, "float32": 2.0**-20, "float64": 2.0**-49, "bfloat16": 2.0**-6}
"""The relative noise at an operation: two units in the last place of float16, eight of wider types. What GPUs compute
by approximate instructions (exponentials, roots, quotients) is good to four units in single precision."""

FIXED = {"Resize": (1, 2)}
"""Float inputs that are parameters rather than data: noise would make other sizes of them."""

CONTRACTIONS = frozenset({"MatMul", "Gemm", "Conv", "ConvTranspose", "Einsum", "Attention", "RNN", "GRU", "LSTM"})
PRECISIONS = {"model": 0.0, "strict": 0.0, "tf32": 2.0**-10, "f16": 2.0**-10, "bf16": 2.0**-8}
"""The relative noise at float32 inputs of contractions, which are rounded to it: a unit of its last place."""
KEPT = {"f16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}
"""Precisions in which values between kernels are rounded too, and to what."""


LEAST = {"f16": 2.0**-24}
"""Differences that a precision does not know: the smallest number of f16. Functions may be good to as much there."""

SMALL_FLOATS = (onnx.TensorProto.FLOAT8E4M3FN, onnx.TensorProto.FLOAT8E5M2)
ROUNDS = "rounds__flag"  # an input of the noisy model: whether values are rounded to what they are kept in


class Rejected(Exception):
    """No reference can run the model."""


class Reference:
    """A model ready to run. `name` says which implementation runs it."""

    def __init__(self, model: onnx.ModelProto, evaluator: bool = False) -> None:
        """With `evaluator` it is onnx's. Raises Rejected when none takes the model."""
        self.model = model
        self.outputs = [value.name for value in model.graph.output]
        self._session = None if evaluator else _session(model)
        self.name = "onnxruntime" if self._session is not None else "onnx reference evaluator"
        if self._session is None:
            from onnx.reference import ReferenceEvaluator

            try:
                self._evaluator: Any = ReferenceEvaluator(model)
            except Exception as error:  # exceptions of every kind
                raise Rejected(f"{type(error).__name__}: {error}") from None

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        """Outputs by name. Raises Rejected."""
        runner = self._session if self._session is not None else self._evaluator
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                values = runner.run(None, dict(inputs))
        except Exception as error:  # exceptions of every kind
            raise Rejected(f"{type(error).__name__}: {error}") from None
        return dict(zip(self.outputs, map(np.asarray, values), strict=True))


def _session(model: onnx.ModelProto) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:  # no kernel for a type, or an opset that it does not know
        return None


def inner_values(model: onnx.ModelProto, inputs: Mapping[str, Array]) -> Arrays:
    """Every value of the graph, inputs and constants among them, but 8-bit floats, which onnxruntime does not give.
    Raises Rejected.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    known = {value.name for value in copy.graph.output} | _small_floats(model)
    extra = [name for node in model.graph.node for name in node.output if name and name not in known]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in extra)
    kept = [tensor for tensor in model.graph.initializer if tensor.data_type not in SMALL_FLOATS]
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in kept}
    return {**constants, **inputs, **Reference(copy).run(inputs)}


def _small_floats(model: onnx.ModelProto) -> set[str]:
    """Names of values that a QuantizeLinear makes with a zero point of an 8-bit float type."""
    points = {tensor.name for tensor in model.graph.initializer if tensor.data_type in SMALL_FLOATS}
    made = [node for node in model.graph.node if node.op_type == "QuantizeLinear" and points & set(node.input)]
    return {name for node in made for name in node.output}


def undecided(model: onnx.ModelProto, keeps: bool) -> set[str]:
    """Values behind a Unique of rounded floats: which of them are equal is an accident of implementations, and
    no small noise makes two numbers equal. With `keeps` every float counts as rounded. And values behind the places of
    maxima where windows may lie in the padding: onnxruntime then tells one outside of the tensor.
    """
    rounded, found = set[str](), set[str]()
    for node in model.graph.node:
        taken = set(node.input)
        if keeps or node.op_type not in EXACT or taken & rounded:
            rounded |= set(node.output)
        accident = node.op_type == "Unique" and (keeps or taken & rounded)
        if taken & found or accident or _tells_places_of_padding(node):
            found |= set(node.output)
    return found


def _tells_places_of_padding(node: onnx.NodeProto) -> bool:
    given = {attribute.name: max(attribute.ints, default=0) for attribute in node.attribute}
    apart = given.get("dilations", 1) > 1 and given.get("pads", 0) > 0
    return apart and node.op_type == "MaxPool" and len(node.output) > 1


def contradicted(model: onnx.ModelProto, outputs: Arrays) -> set[str]:
    """Empty outputs whose shape the model contradicts: onnxruntime does not reduce tensors without elements."""
    found = set()
    for value in model.graph.output:
        array = outputs.get(value.name)
        sizes = [item.dim_value for item in value.type.tensor_type.shape.dim]  # 0 for those that are not static
        if array is not None and not array.size and array.ndim == len(sizes):
            wrong = any(size and size != own for size, own in zip(sizes, array.shape, strict=True))
            found |= {value.name} if wrong else set()
    return found


def without_outputs(model: onnx.ModelProto, names: set[str]) -> onnx.ModelProto:
    """The model without these outputs and the nodes that only they need."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    outputs = [value for value in model.graph.output if value.name not in names]
    kept = [node for node in model.graph.node if not names & set(node.output)]
    del copy.graph.output[:], copy.graph.node[:]
    copy.graph.output.extend(outputs)
    copy.graph.node.extend(kept)
    return copy


class NoisyReference:
    """The model with a factor near one at every float that enters or leaves an operation that rounds."""

    def __init__(
        self, model: onnx.ModelProto, inputs: Mapping[str, Array], evaluator: bool = False, precision: str = "strict"
    ) -> None:
        """Raises Rejected."""
        self._least, self._keeps, self._kept = PRECISIONS[precision], precision in KEPT, KEPT.get(precision)
        self._coarse: set[str] = set()  # factors of inputs that are rounded to the precision
        self._values = inner_values(model, inputs)
        self._inputs = dict(inputs)
        self._noise: dict[str, str] = {}  # the value each factor is for, by the factor's name
        noisy = onnx.ModelProto()
        noisy.CopyFrom(model)
        del noisy.graph.node[:]
        if self._keeps:
            noisy.graph.input.append(helper.make_tensor_value_info(ROUNDS, onnx.TensorProto.BOOL, []))
        for node in model.graph.node:
            self._add(noisy.graph, node)
        self._reference = Reference(noisy, evaluator)

    def _add(self, graph: onnx.GraphProto, node: onnx.NodeProto) -> None:
        """The node with noise at its edges."""
        copy = graph.node.add()
        copy.CopyFrom(node)
        if node.op_type in EXACT and not node.domain and not self._keeps:
            return
        del graph.node[-1]
        for place, name in enumerate(node.input):
            if self._wavers(name) and place not in FIXED.get(node.op_type, ()):
                copy.input[place] = self._scaled(graph, name, f"{name}__into_{node.output[0]}_{place}")
                if node.op_type in CONTRACTIONS:
                    self._coarse.add(f"{copy.input[place]}__factor")
        graph.node.append(copy)
        placed = graph.node[-1]
        for place, name in enumerate(node.output):
            if self._wavers(name):
                placed.output[place] = f"{name}__exact"
                self._scaled(graph, f"{name}__exact", name, like=name)

    def _wavers(self, name: str) -> bool:
        return name in self._values and self._values[name].dtype.name in NOISE

    def _scaled(self, graph: onnx.GraphProto, source: str, target: str, like: str = "") -> str:
        factor = f"{target}__factor"
        array = self._values[like or source]
        self._noise[factor] = like or source
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        graph.input.append(helper.make_tensor_value_info(factor, kind, list(array.shape)))
        if not self._keeps or array.dtype != np.float32:
            graph.node.append(helper.make_node("Mul", [source, factor], [target]))
            return target
        # In some draws it is rounded as well, which alone makes numbers equal.
        steps = [f"{target}__{step}" for step in ("scaled", "narrow", "wide")]
        graph.node.append(helper.make_node("Mul", [source, factor], steps[:1]))
        graph.node.append(helper.make_node("Cast", steps[:1], steps[1:2], to=self._kept))
        graph.node.append(helper.make_node("Cast", steps[1:2], steps[2:], to=onnx.TensorProto.FLOAT))
        graph.node.append(helper.make_node("Where", [ROUNDS, steps[2], steps[0]], [target]))
        return target

    def run(self, generator: np.random.Generator) -> Arrays:
        """Outputs under one draw of the noise. Raises Rejected."""
        factors: Arrays = {ROUNDS: np.array(generator.random() < 0.5)} if self._keeps else {}
        for factor, name in self._noise.items():
            array = self._values[name]
            is_rounded = array.dtype == np.float32 and (self._keeps or factor in self._coarse)
            amplitude = max(NOISE[array.dtype.name], self._least if is_rounded else 0.0)
            drawn = generator.uniform(-1, 1, array.shape) * amplitude
            factors[factor] = np.asarray(1 + drawn, array.dtype)
        return self._reference.run({**self._inputs, **factors})

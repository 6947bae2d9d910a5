"""What operators do with complex tensors.

In: a node with complex inputs. Out: its outputs. ONNX lets complex numbers be moved, and added with real weights; so
nearly every operator is done twice, once with each part. The tables say which, and what the others do instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy

import onnx
import onnx.defs

from ...dialects import graph_builder as build
from ...dialects.scalar import Scalar
from ...runtime.dtypes import COMPLEX_PARTS
from ...runtime.errors import ModelError
from .complex_bodies import CARRIERS, JOIN, PARTS, SPLIT, bodies, declared_outputs, grouped, split_node
from .complex_tensor import ComplexTensor
from .errors import Unsupported
from .node import Node
from .tensor import Tensor
from .tensors_of_file import COMPLEX_TYPES, element_name

# Operators that move elements, or add them up with real weights: both parts go the same way.
TWICE = frozenset((
    *("CenterCropPad", "Col2Im", "Compress", "Concat", "DepthToSpace", "Expand", "Flatten", "GridSample", "Identity"),
    *("Gather", "GatherElements", "GatherND", "OneHot", "Pad", "Reshape", "ReverseSequence", "Slice", "SpaceToDepth"),
    *("Split", "Squeeze", "TensorScatter", "Tile", "Transpose", "Trilu", "Unsqueeze", "Upsample", "Where"),
    *("ConcatFromSequence", "SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert"),
    *("SplitToSequence", "Optional", "OptionalGetElement"),
))
# Operators that look at sizes only: the real parts tell.
ONCE = frozenset(("OptionalHasElement", "SequenceLength", "Shape", "Size"))

Rule = Callable[[Node], Sequence[Tensor | None]]
_RULES: dict[str, Rule] = {}


def _rule(*operators: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        _RULES.update(dict.fromkeys(operators, rule))
        return rule

    return register


def supported_operators() -> frozenset[str]:
    """The operators of ONNX that take or give complex tensors."""
    return TWICE | ONCE | CARRIERS | (_RULES.keys() - {JOIN, SPLIT}) | {"Constant"}


def concerns(node: Node) -> bool:
    """Whether complex numbers go in, or come out of a node that says so in its attributes."""
    if node.domain == PARTS or any(isinstance(tensor, ComplexTensor) for tensor in node.inputs):
        return True
    if node.operator in CARRIERS:
        return any(any(declared_outputs(body)) for body in bodies(node))
    return _declared(node) is not None


def _declared(node: Node) -> str | None:
    """The complex type that attributes name: of an empty sequence, an empty optional, what bits are taken for."""
    kind = node.get({"SequenceEmpty": "dtype", "BitCast": "to", "Optional": "type"}.get(node.operator, ""))
    if isinstance(kind, onnx.TypeProto):
        while kind.WhichOneof("value") in ("sequence_type", "optional_type"):
            kind = getattr(kind, kind.WhichOneof("value")).elem_type
        kind = kind.tensor_type.elem_type
    return COMPLEX_TYPES.get(kind) if isinstance(kind, int) else None


def import_complex(node: Node) -> Sequence[Tensor | None]:
    """The outputs. Raises Unsupported for an operator that ONNX lets have no complex numbers."""
    _check_types(node)
    if node.domain in ("", PARTS):
        if node.operator in _RULES:
            return _RULES[node.operator](node)
        if node.operator in CARRIERS:
            flat, types = split_node(node)
            return grouped(node.importer.outputs(flat), types, node)
        if node.operator in ONCE:
            return _part(node, 0)
        if node.operator in TWICE:
            return _paired(node, _part(node, 0), _part(node, 1))
    raise Unsupported(f"{node.operator} of {_dtype(node)}", "operators that move complex numbers, as ONNX has it")


def _dtype(node: Node) -> str:
    """Of the complex inputs, or of what is declared."""
    found = [tensor.dtype for tensor in node.inputs if isinstance(tensor, ComplexTensor)]
    return found[0] if found else _declared(node) or ""


def _check_types(node: Node) -> None:
    """Raises ModelError where inputs of one type are complex and others are not, or of two sizes."""
    if not onnx.defs.has(node.operator, node.version, node.domain):
        return
    formals = onnx.defs.get_schema(node.operator, node.version, node.domain).inputs
    seen: dict[str, str] = {}
    for place, tensor in enumerate(node.inputs):
        formal = formals[min(place, len(formals) - 1)]
        if tensor is None or not formal.is_homogeneous or tensor.is_on_host:
            continue
        first = seen.setdefault(formal.type_str, tensor.dtype)
        if first != tensor.dtype:
            raise ModelError(f"inputs are {first} and {tensor.dtype}\n  {node.operator} takes both of one type")


def _part(node: Node, number: int, **attributes: object) -> list[Tensor | None]:
    """The outputs of the node with the real (0) or the imaginary (1) parts of its complex inputs."""
    part = copy(node)
    part.inputs = [tensor.parts[number] if isinstance(tensor, ComplexTensor) else tensor for tensor in node.inputs]
    part.attributes = {**node.attributes, **attributes}
    declared = _declared(node)
    if node.operator == "SequenceEmpty" and declared:
        part.attributes["dtype"] = onnx.TensorProto.FLOAT  # of what will be in it nothing else is said
    results = node.importer.outputs(part)
    for result in results:
        if result is not None:
            result.sources |= part.sources
    return results


def _paired(node: Node, real: list[Tensor | None], imaginary: list[Tensor | None]) -> list[Tensor | None]:
    """Complex outputs. Sizes that a run found for each part are the same."""
    return [_joined(node, one, two) for one, two in zip(real, imaginary, strict=True)]


def _joined(node: Node, real: Tensor | None, imaginary: Tensor | None) -> Tensor | None:
    if real is None or imaginary is None:
        return None
    if real.shape != imaginary.shape:
        shape = [node.unify(one, two) for one, two in zip(real.shape, imaginary.shape, strict=True)]
        real, imaginary = node.reshaped(real, shape), node.reshaped(imaginary, shape)
    return ComplexTensor(node.importer.materialiser, (real, imaginary), _dtype(node))


def _given(node: Node, position: int = 0) -> ComplexTensor:
    tensor = node.input(position)
    if not isinstance(tensor, ComplexTensor):
        raise ModelError(f"input {position} is {tensor.dtype}, where complex numbers are wanted")
    return tensor


# Operators with rules of their own -------------------------------------------------------------------------
@_rule(JOIN)
def _join(node: Node) -> Sequence[Tensor | None]:
    """What goes into a body."""
    return [ComplexTensor(node.importer.materialiser, (node.input(0), node.input(1)), node.get("dtype"))]


@_rule(SPLIT)
def _split(node: Node) -> Sequence[Tensor | None]:
    """What comes out of a body."""
    return _given(node).parts


@_rule("NonZero")
def _non_zero(node: Node) -> Sequence[Tensor | None]:
    """Where either part is."""
    truth = node.map(_given(node).parts, lambda real, imaginary: real.ne(0.0) | imaginary.ne(0.0))
    return node.apply("NonZero", [truth], version=node.version)


@_rule("Unique")
def _unique(node: Node) -> Sequence[Tensor | None]:
    """In the order of the real, then of the imaginary parts, which is that of pairs of floats."""
    x = _given(node)
    axis = node.get("axis")
    pairs = node.tensor(x.joined())
    if axis is None:
        pairs = node.reshaped(pairs, [build.product(x.shape), 2])
    place = 0 if axis is None else node.axis(axis, x.rank)
    found = node.apply("Unique", [pairs], 4, version=node.version, axis=place, sorted=node.get("sorted", 1))
    return [ComplexTensor.of_value(node.importer.materialiser, found[0].value, node.name), *found[1:]]


@_rule("Resize")
def _resize(node: Node) -> Sequence[Tensor | None]:
    """Outside of the image a real number is given."""
    return _paired(node, _part(node, 0), _part(node, 1, extrapolation_value=0.0))


@_rule("Scatter", "ScatterElements", "ScatterND")
def _scatter(node: Node) -> Sequence[Tensor | None]:
    reduction = node.get("reduction", "none")
    if reduction not in ("none", "add"):
        raise Unsupported(f"{node.operator} with reduction '{reduction}' of {_dtype(node)}", "none, add")
    return _paired(node, _part(node, 0), _part(node, 1))


@_rule("RandomNormalLike", "RandomUniformLike")
def _random(node: Node) -> Sequence[Tensor | None]:
    """Real numbers of the same shape."""
    if node.get("dtype") is None:
        raise Unsupported(f"{node.operator} that draws {_dtype(node)}", "an attribute dtype that names floats")
    return _part(node, 0)


@_rule("BitCast")
def _bit_cast(node: Node) -> Sequence[Tensor | None]:
    """Between complex64 and numbers of 64 bits; the real part is in the low ones."""
    x, target = node.input(0), _declared(node)
    if x.dtype == target:
        return [x]
    if "complex128" in (x.dtype, target):
        raise ModelError(f"BitCast from {x.dtype} to {target or element_name(node.get('to'))}, which has another size")
    if isinstance(x, ComplexTensor):
        to = element_name(node.get("to"))
        return [node.tensor(node.map(x.parts, lambda real, imaginary: _word(real, imaginary).bitcast(to)))]
    parts = [node.tensor(node.map([x], lambda v, low=shift: _half(v, low))) for shift in (0, 32)]
    return [ComplexTensor(node.importer.materialiser, (parts[0], parts[1]), "complex64")]


def _word(real: Scalar, imaginary: Scalar) -> Scalar:
    low, high = (part.bitcast("ui32").cast("ui64") for part in (real, imaginary))
    return low | high.shift_left(32)


def _half(value: Scalar, shift: int) -> Scalar:
    bits = value.bitcast("ui64")
    return bits.shift_right(shift).cast("ui32").bitcast(COMPLEX_PARTS["complex64"])

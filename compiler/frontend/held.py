"""Values of the graph that the host holds during a run because only a run knows their sizes: sequences, optionals,
and what a loop or a branch gives in a size of its own.

In: tensors, and which of their sizes stay. Out: host values whose elements stay on the device
(docs/host-operations.md), and tensors made of them again with sizes that the run finds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx
from mlir import ir

from ...dialects import graph_builder as build
from ...runtime.symbolic import Expression
from .errors import Unsupported
from .tensor import EmptyOptional, Materialiser, Tensor, TensorSequence
from .tensors_of_file import COMPLEX_TYPES, element_name

if TYPE_CHECKING:
    from .node import Node

Sizes = tuple["Expression | None", ...]
OPTIONAL_OF = ({"optional", "tensor"}, {"optional", "string"})  # what is there at times


@dataclass(frozen=True)
class Content:
    """What is known of a tensor, or of all tensors of a sequence: `shape` has None for a size that a run finds, and is
    None where ranks differ or are not known.
    """

    dtype: str
    shape: Sizes | None

    def joined(self, other: Content, node: Node) -> Content:
        """What holds for both. Raises Unsupported where the dtypes differ."""
        if NOTHING in (self, other):
            return other if self == NOTHING else self
        if self.dtype != other.dtype:
            what = f"{node.operator} whose tensors change their dtype while it runs, from {self.dtype} to {other.dtype}"
            raise Unsupported(what, "one dtype", node.sources)
        if self.shape is None or other.shape is None or len(self.shape) != len(other.shape):
            return Content(self.dtype, None)
        pairs = zip(self.shape, other.shape, strict=True)
        return Content(self.dtype, tuple(a if _are_equal(a, b, node) else None for a, b in pairs))


NOTHING = Content("", None)  # of a sequence before its first tensor


@dataclass(frozen=True)
class State:
    """A value as it goes from turn to turn of a loop, or out of a branch. `kind` is string, sequence, optional, element
    (a tensor that the host holds) or tensor, which stays one of the graph where all its sizes are known.
    """

    kind: str
    content: Content

    @staticmethod
    def of(tensor: Tensor) -> State:
        """The state that has just this value. Raises Unsupported for an optional of a sequence."""
        if isinstance(tensor, HeldValue):
            return State(tensor.dtype, tensor.content)
        if isinstance(tensor, TensorSequence):
            return State("sequence", NOTHING)  # `joined` adds the tensors
        if isinstance(tensor, EmptyOptional):
            return State("optional", NOTHING)
        if tensor.dtype in ("sequence", "optional"):
            raise Unsupported(f"{tensor.dtype} of sequences that is an input", "those of tensors", tensor.sources)
        kind = "string" if tensor.dtype == "string" else "tensor"
        return State(kind, Content(tensor.dtype, tuple(tensor.shape)))

    def joined(self, tensor: Tensor, node: Node) -> State:
        """The state that may have this value, too. Raises Unsupported where there is none."""
        other = State.of(tensor)
        kinds = {self.kind, other.kind}
        if len(kinds) > 1 and kinds not in OPTIONAL_OF:
            what = f"{node.operator} whose value is a {self.kind} and then a {other.kind}"
            raise Unsupported(what, "values of one kind", node.sources)
        content = self.content.joined(other.content, node)
        if content.shape is None and content != NOTHING and kinds & {"tensor", "string"}:
            what = f"{node.operator} whose value changes its rank while it runs"
            raise Unsupported(what, "values of one rank", node.sources)
        for element in tensor.elements if isinstance(tensor, TensorSequence) else ():
            content = content.joined(content_of(element, node), node)
        return State("optional" if "optional" in kinds else self.kind, content)

    def without(self, found: set[str]) -> State:
        """The state in which sizes that mention these symbols are left to a run."""
        shape = self.content.shape
        if shape is None:
            return self
        kept = tuple(None if size is not None and size.symbols & found else size for size in shape)
        return State(self.kind, Content(self.content.dtype, kept))

    @property
    def is_held(self) -> bool:
        """Whether the host holds it."""
        return self.kind != "tensor" or self.content.shape is None or None in self.content.shape

    def given(self, tensor: Tensor, node: Node) -> ir.Value:
        """The IR value of a tensor that has this state."""
        if self.is_held or self.content.shape is None:
            return held(tensor)
        shape = [size for size in self.content.shape if size is not None]
        for one, two in zip(tensor.shape, shape, strict=True):
            node.unify(one, two)
        return build.reshape(tensor.value, shape)


class HeldValue(Tensor):
    """A sequence or an optional that only a run knows; `content` is what all its tensors have."""

    def __init__(self, materialiser: Materialiser, dtype: str, value: ir.Value, content: Content) -> None:
        super().__init__(materialiser, dtype, (), value=value)
        self.content = content


def content_of(tensor: Tensor, node: Node) -> Content:
    """What is known of a tensor that is put into a sequence: sizes that a run finds may be others for the next."""
    found = node.importer.constraints.found
    return Content(tensor.dtype, tuple(None if size.symbols & found else size for size in tensor.shape))


def declared_content(kind: onnx.TypeProto) -> Content | None:
    """What a model says of the tensors of a sequence or optional; None for what holds no tensors. Writers of models say
    [] when they do not know the shape, too.
    """
    inner = kind.sequence_type.elem_type if kind.HasField("sequence_type") else kind.optional_type.elem_type
    if not inner.HasField("tensor_type"):
        return None
    element = inner.tensor_type.elem_type
    dtype = "string" if element == onnx.TensorProto.STRING else COMPLEX_TYPES.get(element) or element_name(element)
    given = [size.dim_value if size.HasField("dim_value") else None for size in inner.tensor_type.shape.dim]
    shape = tuple(None if size is None else Expression.constant(size) for size in given)
    return Content(dtype, shape or None)


def held(tensor: Tensor) -> ir.Value:
    """The value on the host; elements of tensors stay on the device."""
    if isinstance(tensor, TensorSequence):
        return build.host("sequence", [held(element) for element in tensor.elements], 1).results[0]
    return tensor.value if tensor.is_on_host else build.keep(tensor.value)


def opened(node: Node, states: Sequence[State], values: Sequence[ir.Value]) -> list[Tensor]:
    """The tensors of values of these states. One call on the host finds all sizes that are not known."""
    axes = [_open_axes(state) for state in states]
    asked = [number for number, places in enumerate(axes) if places]
    options = {"axes": [axes[number] for number in asked], "operator": node.operator}
    objects = [node.on_host(values[number], "object") for number in asked]
    sizes = iter(node.found("tensor_sizes", objects, sum(len(axes[number]) for number in asked), options=options))
    return [_opened(node, state, value, sizes) for state, value in zip(states, values, strict=True)]


def _opened(node: Node, state: State, value: ir.Value, sizes: Iterator[Expression]) -> Tensor:
    if state.kind in ("sequence", "optional"):
        return HeldValue(node.importer.materialiser, state.kind, value, state.content)
    assert state.content.shape is not None
    shape = [next(sizes) if size is None else size for size in state.content.shape]
    if state.kind == "string":
        return node.on_host(value, "string", shape)
    return node.tensor(build.upload(value, shape, state.content.dtype) if state.is_held else value)


def _open_axes(state: State) -> list[int]:
    if state.kind in ("sequence", "optional"):
        return []
    return [axis for axis, size in enumerate(state.content.shape or ()) if size is None]


def _are_equal(one: Expression | None, two: Expression | None, node: Node) -> bool:
    """Whether both are one size in every run: the same expression, or two that must be equal for another reason."""
    pairs = node.importer.constraints.pairs
    return one is not None and two is not None and (one == two or (one, two) in pairs or (two, one) in pairs)

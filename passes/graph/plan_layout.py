"""Pass `plan-layout`: convolutions and pools work channels-last, and so does whatever lies between them.

In: a module whose windows are channels-first, as in ONNX. Out: windows in channels-last layout, weights
permuted at compile time, and transposes only where a value must be in the model's own order: at inputs,
outputs and operations that cannot follow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlir import ir

from ...dialects import graph_builder
from ...dialects.tensors import Shape, element_of, rank_of, shape_of, tensor_type
from ...runtime.symbolic import ONE, Expression, product
from ..unit import Unit, register_pass
from .fold_constants import fold_constants
from .reassociation import reassociate
from .rewriting import (
    body_of,
    building_before,
    captures,
    erase_dead,
    expressions,
    functions,
    inner_operations,
    inputs_of,
    integer,
    integers,
    is_constant,
    operations_of,
    string,
    yielded,
)

Permutation = tuple[int, ...]
WINDOWS = ("graph.convolution", "graph.convolution_transpose", "graph.pool")


@register_pass("plan-layout", requires="graph", ensures="graph")
def plan_layout(unit: Unit) -> None:
    """Rewrite windows to channels-last and let maps, reductions and movements between them follow.

    before::

        %0 = "graph.convolution"(%x, %w) {layout = "channels_first"} : (tensor<1x3x8x8xf32>, tensor<4x3x3x3xf32>) ...
        %1 = "graph.map"() ({ maximumf %0, 0 }) : () -> tensor<1x4x8x8xf32>
        %2 = "graph.convolution"(%1, %v) {layout = "channels_first"} ...

    after::

        %t = "graph.transpose"(%x) {permutation = array<i64: 0, 2, 3, 1>} : ...
        %0 = "graph.convolution"(%t, %w.1) {layout = "channels_last"} : (tensor<1x8x8x3xf32>, tensor<3x3x3x4xf32>) ...
        %1 = "graph.map"() ({ maximumf %0, 0 }) : () -> tensor<1x8x8x4xf32>
        %2 = "graph.convolution"(%1, %v.1) {layout = "channels_last"} ...
    """
    with unit.module.context, ir.Location.unknown():
        main = functions(unit.module)["main"]
        if not any(operation.name in WINDOWS for operation in inner_operations(main)):
            return
        _Planner().run(body_of(main))
        erase_dead(main)
    fold_constants(unit)


@dataclass(frozen=True)
class View:
    """A logical value is the transpose of `value`: its dimension d is dimension permutation[d] of `value`."""

    value: ir.Value
    permutation: Permutation


def inverse(permutation: Sequence[int]) -> Permutation:
    """The permutation that undoes it."""
    result = [0] * len(permutation)
    for position, axis in enumerate(permutation):
        result[axis] = position
    return tuple(result)


def compose(outer: Sequence[int], inner: Sequence[int]) -> Permutation:
    """The permutation of transposing by `outer` first and by `inner` then."""
    return tuple(outer[axis] for axis in inner)


def is_identity(permutation: Sequence[int]) -> bool:
    """True for the permutation that moves nothing."""
    return tuple(permutation) == tuple(range(len(permutation)))


def permuted(items: Sequence[Expression], permutation: Sequence[int]) -> Shape:
    """The items in the order of a transpose."""
    return tuple(items[axis] for axis in permutation)


class _Planner:
    """One walk over a block. Operations are changed in place; `views` says how later ones must read their results.

    A key of `views` stands for the logical value even where the same IR value now holds it in another order, so an
    operand is looked up exactly once: when its reader is rewritten.
    """

    def __init__(self) -> None:
        self.views: dict[ir.Value, View] = {}
        self.made: dict[tuple[ir.Value, Permutation], ir.Value] = {}

    def run(self, block: ir.Block) -> None:
        for operation in operations_of(block):
            rule = _RULES.get(operation.name)
            if operation.name in WINDOWS:
                self._window(operation)
            elif rule is None or not self._has_views(operation) or not rule(self, operation):
                self._settle(operation)
            if operation.name in ("scf.if", "scf.while"):
                for region in operation.regions:
                    if len(region.blocks):
                        _Planner().run(region.blocks[0])

    # Reading ----------------------------------------------------------------------------------------------------
    def _has_views(self, operation: ir.Operation) -> bool:
        return any(value in self.views for value in inputs_of(operation))

    def view(self, value: ir.Value) -> View:
        """How the logical value is stored."""
        return self.views.get(value) or View(value, tuple(range(rank_of(value))))

    def read(self, value: ir.Value, order: Sequence[int], before: ir.Operation) -> ir.Value:
        """The logical value transposed by `order`, made in front of `before` when it does not exist yet."""
        view = self.view(value)
        needed = compose(view.permutation, order)
        if is_identity(needed):
            return view.value
        key = (view.value, needed)
        if key not in self.made:
            with building_before(before):
                self.made[key] = graph_builder.transpose(view.value, needed)
        return self.made[key]

    def _settle(self, operation: ir.Operation) -> None:
        """Give the operation its inputs in logical order."""
        for inner in (operation, *inner_operations(operation)):
            for index, operand in enumerate(inner.operands):
                if operand in self.views:
                    inner.operands[index] = self._read_logical(operand, operation)

    def _read_logical(self, value: ir.Value, before: ir.Operation) -> ir.Value:
        """The value in the model's own order."""
        view = self.views.get(value)
        return value if view is None else self.read(value, range(len(view.permutation)), before)

    def _store(self, result: ir.Value, shape: Shape, permutation: Permutation) -> None:
        """Declare that the result is now stored so that its logical order is `permutation` of it."""
        result.set_type(tensor_type(permuted(shape, inverse(permutation)), element_of(result)))
        self.views[result] = View(result, permutation)

    # Windows ----------------------------------------------------------------------------------------------------
    def _window(self, operation: ir.Operation) -> None:
        if string(operation, "layout") == "channels_last":
            self._settle(operation)
            return
        rank = rank_of(operation.results[0])
        to_last = (0, *range(2, rank), 1)
        operation.operands[0] = self.read(operation.operands[0], to_last, operation)
        if operation.name != "graph.pool":
            spatial = tuple(range(2, rank))
            order = (*spatial, 1, 0) if operation.name == "graph.convolution" else (*spatial, 0, 1)
            operation.operands[1] = self.read(operation.operands[1], order, operation)
        operation.attributes["layout"] = ir.StringAttr.get("channels_last")
        result = operation.results[0]
        self._store(result, shape_of(result), inverse(to_last))

    # Pointwise --------------------------------------------------------------------------------------------------
    def map(self, operation: ir.Operation) -> bool:
        result = operation.results[0]
        shape = shape_of(result)
        order = self._preferred([inner.operands[0] for inner in captures(operation)], shape)
        gathered = captures(operation, "graph.element_at")
        if order is None:
            order = self._preferred_of_gathers(gathered, len(shape))
        for inner in gathered:
            self._permute_indices(inner)
        if order is None:
            for inner in captures(operation):  # the gathers read stored tensors already
                inner.operands[0] = self._read_logical(inner.operands[0], operation)
            return True
        for inner in captures(operation):
            inner.operands[0] = self._read_broadcast(inner.operands[0], inverse(order), operation)
        for inner in captures(operation, "graph.index"):
            inner.attributes["axis"] = graph_builder.attribute(order[integer(inner, "axis")])
        self._store(result, shape, order)
        return True

    def _preferred(self, values: Sequence[ir.Value], shape: Shape) -> Permutation | None:
        """The storage order in which most of the values of that shape are; None for the logical order."""
        votes: dict[Permutation, int] = {}
        for value in values:
            if shape_of_logical(self, value) == shape and not is_constant(value):
                votes[self.view(value).permutation] = votes.get(self.view(value).permutation, 0) + 1
        if not votes:
            return self._preferred_by_size(values, shape)
        best = max(votes, key=lambda order: (votes[order], not is_identity(order)))
        return None if is_identity(best) else best

    def _preferred_by_size(self, values: Sequence[ir.Value], shape: Shape) -> Permutation | None:
        """The order of the largest value that has as many dimensions, where none has the full shape."""
        candidates = [
            self.views[value]
            for value in values
            if value in self.views and len(self.views[value].permutation) == len(shape)
        ]
        return candidates[0].permutation if candidates else None

    def _preferred_of_gathers(self, gathered: Sequence[ir.Operation], rank: int) -> Permutation | None:
        for inner in gathered:
            view = self.views.get(inner.operands[0])
            if view is not None and len(view.permutation) == rank:
                return view.permutation
        return None

    def _permute_indices(self, inner: ir.Operation) -> None:
        """Read the stored tensor: the indices change places instead of the data."""
        view = self.views.get(inner.operands[0])
        if view is None:
            return
        indices = list(inner.operands)[1:]
        for position, axis in enumerate(inverse(view.permutation)):
            inner.operands[1 + position] = indices[axis]
        inner.operands[0] = view.value

    def _read_broadcast(self, value: ir.Value, order: Permutation, before: ir.Operation) -> ir.Value:
        """The value transposed by `order` after it got leading dimensions of size 1 up to that rank."""
        shape = shape_of_logical(self, value)
        if all(size == ONE for size in shape):
            return self.read(value, range(len(shape)), before)
        missing = len(order) - len(shape)
        if not missing:
            return self.read(value, order, before)
        plain = self.read(value, range(len(shape)), before)
        full = [ONE] * missing + list(shape)
        wanted = [full[axis] for axis in order]
        key = (plain, (-1, *order))
        if key not in self.made:
            with building_before(before):
                moved = [axis for axis in order if full[axis] != ONE]
                if moved == sorted(moved):
                    self.made[key] = graph_builder.reshape(plain, wanted)
                else:
                    self.made[key] = graph_builder.transpose(graph_builder.reshape(plain, full), order)
        return self.made[key]

    # Reductions -------------------------------------------------------------------------------------------------
    def reduce(self, operation: ir.Operation) -> bool:
        view = self.views[operation.operands[0]]
        axes = sorted(view.permutation[axis] for axis in integers(operation, "axes"))
        operation.attributes["axes"] = graph_builder.attribute(axes)
        return self._follow(operation, view)

    def along_axis(self, operation: ir.Operation) -> bool:
        view = self.views[operation.operands[0]]
        axis = view.permutation[integer(operation, "axis")]
        operation.attributes["axis"] = graph_builder.attribute(axis)
        return self._follow(operation, view)

    def _follow(self, operation: ir.Operation, view: View) -> bool:
        result = operation.results[0]
        shape = shape_of(result)
        operation.operands[0] = view.value
        self._store(result, shape, view.permutation)
        return True

    # Movement ---------------------------------------------------------------------------------------------------
    def transpose(self, operation: ir.Operation) -> bool:
        view = self.views[operation.operands[0]]
        order = compose(view.permutation, integers(operation, "permutation"))
        self.views[operation.results[0]] = View(view.value, order)
        return True

    def slice(self, operation: ir.Operation) -> bool:
        view = self.views[operation.operands[0]]
        order = inverse(view.permutation)
        starts, steps = expressions(operation, "starts"), integers(operation, "steps")
        operation.attributes["starts"] = graph_builder.attribute(permuted(starts, order))
        operation.attributes["steps"] = graph_builder.attribute([steps[axis] for axis in order])
        return self._follow(operation, view)

    def pad(self, operation: ir.Operation) -> bool:
        view = self.views.get(operation.operands[0])
        if view is None:
            return False
        low = permuted(expressions(operation, "low"), inverse(view.permutation))
        operation.attributes["low"] = graph_builder.attribute(low)
        return self._follow(operation, view)

    def broadcast(self, operation: ir.Operation) -> bool:
        view = self.views[operation.operands[0]]
        if len(view.permutation) != rank_of(operation.results[0]):
            return False
        return self._follow(operation, view)

    def concatenate(self, operation: ir.Operation) -> bool:
        result = operation.results[0]
        order = self._heaviest(yielded(operation))
        if order is None:
            return False
        terminator = operations_of(body_of(operation))[-1]
        for index, value in enumerate(yielded(operation)):
            terminator.operands[index] = self.read(value, inverse(order), operation)
        axis = order[integer(operation, "axis")]
        operation.attributes["axis"] = graph_builder.attribute(axis)
        self._store(result, shape_of(result), order)
        return True

    def _heaviest(self, values: Sequence[ir.Value]) -> Permutation | None:
        """The storage order of most parts."""
        votes: dict[Permutation, int] = {}
        for value in values:
            order = self.view(value).permutation
            votes[order] = votes.get(order, 0) + 1
        best = max(votes, key=lambda order: (votes[order], not is_identity(order)))
        return None if is_identity(best) else best

    def reshape(self, operation: ir.Operation) -> bool:
        """Follow the storage order where every piece that is split or joined stays together."""
        view = self.views[operation.operands[0]]
        result = operation.results[0]
        shape, logical = shape_of(result), shape_of_logical(self, operation.operands[0])
        groups = reassociate(logical, shape)
        if groups is None:
            return False
        # Pieces are ordered by where their first dimension is stored; dimensions within a piece keep their order.
        sizes = [(product([logical[axis] for axis in source]), source, target) for source, target in groups]
        ordered = sorted(sizes, key=lambda piece: _position(view.permutation, logical, piece[1]))
        stored = [view.permutation[axis] for _, source, _ in ordered for axis in source]
        gathered = [axis for axis in stored if shape_of(view.value)[axis] != ONE]
        with building_before(operation):
            value = view.value
            if gathered != sorted(gathered):
                value = graph_builder.transpose(value, stored)
            target_order = [axis for _, _, target in ordered for axis in target]
            value = graph_builder.reshape(value, [shape[axis] for axis in target_order])
        self.views[result] = View(value, inverse(target_order))
        return True


def _position(permutation: Permutation, shape: Shape, axes: Sequence[int]) -> int:
    """Where a piece is stored: the place of its first dimension longer than one, else of its first, else the end."""
    for axis in axes:
        if shape[axis] != ONE:
            return permutation[axis]
    return permutation[axes[0]] if axes else len(permutation)


def shape_of_logical(planner: _Planner, value: ir.Value) -> Shape:
    """The shape of the value as the model means it."""
    view = planner.view(value)
    return permuted(shape_of(view.value), view.permutation)


_RULES: dict[str, Callable[[_Planner, ir.Operation], bool]] = {
    "graph.map": _Planner.map,
    "graph.reduce": _Planner.reduce,
    "graph.scan": _Planner.along_axis,
    "graph.transpose": _Planner.transpose,
    "graph.slice": _Planner.slice,
    "graph.pad": _Planner.pad,
    "graph.broadcast": _Planner.broadcast,
    "graph.concatenate": _Planner.concatenate,
    "graph.reshape": _Planner.reshape,
}

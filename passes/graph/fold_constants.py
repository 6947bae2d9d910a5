"""Pass `fold-constants`: compute at compile time what depends on weights and constants only.

In: a module at the graph level. Out: the same with such operations replaced by constants or new weights, when
the result is not larger than what it was made from or is small, and with scalar constants moved into the
bodies of maps.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from mlir import ir
from mlir.dialects import arith

from ...dialects import graph_builder
from ...dialects.narrow import PACKED
from ...dialects.scalar import Scalar
from ...dialects.tensors import element_of, scalar_type, shape_of
from ...runtime.dtypes import NARROW, dtype
from ...runtime.symbolic import expression
from ..unit import Unit, WeightStore, register_pass
from .interpret import RULES, Interpreter
from .rewriting import (
    blocks_within,
    body_of,
    building_before,
    captures,
    constant_array,
    erase_dead,
    functions,
    has_uses,
    inner_operations,
    inputs_of,
    integers,
    node_names,
    operations_of,
    producer,
    replace,
    string,
)

Array = np.ndarray[Any, Any]

SMALL_BYTES = 1 << 20  # a result of fewer bytes is always worth keeping
EXPANDED_BYTES = 1 << 14  # but for repeated numbers, and for weights of a few bits as wider ones
INLINE_ELEMENTS = 16  # as many as a graph.constant may have


@register_pass("fold-constants", requires="graph", ensures="graph")
def fold_constants(unit: Unit) -> None:
    """Evaluate operations over weights and constants.

    before::

        %w = "graph.weight"() {handle = "w"} : () -> tensor<8x4xf32>
        %0 = "graph.transpose"(%w) {permutation = array<i64: 1, 0>} : ...
        %1 = "graph.map"() ({ %a = graph.element(%x); %b = graph.element(%one); addf %a, %b })

    after::

        %0 = "graph.weight"() {handle = "w.1"} : () -> tensor<4x8xf32>
        %1 = "graph.map"() ({ %a = graph.element(%x); %b = arith.constant 1.0; addf %a, %b })
    """
    with unit.module.context, ir.Location.unknown(), np.errstate(all="ignore"):
        main = functions(unit.module)["main"]
        folder = _Folder(unit.weights)
        for block in blocks_within(main):
            for operation in operations_of(block):
                if operation.name == "graph.map":
                    _fold_captures(folder, operation)
                folder.fold(operation)
        erase_dead(main)


class _Folder:
    """Evaluates operations on demand and remembers small results."""

    def __init__(self, weights: WeightStore) -> None:
        self.weights = weights
        self.known: dict[ir.Value, bool] = {}

    def is_known(self, value: ir.Value) -> bool:
        """True when the value depends on weights and constants only and its shape is static."""
        found = self.known.get(value)
        if found is None:
            found = self.known[value] = self._is_known(value)
        return found

    def _is_known(self, value: ir.Value) -> bool:
        operation = producer(value)
        if operation is None or operation.name not in RULES or not _is_static(value):
            return False
        if operation.name == "graph.map" and _depends_on_symbols(operation):
            return False
        return all(self.is_known(source) for source in inputs_of(operation))

    def fold(self, operation: ir.Operation) -> None:
        """Replace the operation by its value where that is possible and worth it."""
        if operation.name not in RULES or operation.name in ("graph.weight", "graph.constant"):
            return
        inputs = inputs_of(operation)
        result = operation.results[0]
        if not inputs or not self.is_known(result) or not has_uses(result):
            return
        size = _nbytes(result)
        small = EXPANDED_BYTES if _is_expansion(operation) else SMALL_BYTES
        if size > max(small, sum(_nbytes(value) for value in inputs if _is_stored(value))):
            return
        if operation.name in ("graph.transpose", "graph.reshape") and _is_stored(inputs[0]):
            self._rearrange_later(operation, inputs[0])
        else:
            self._store(operation, self.evaluate(result))

    def evaluate(self, value: ir.Value) -> Array:
        """The array of a known value."""
        operation = producer(value)
        assert operation is not None, "a known value has a producer"
        interpreter = Interpreter(self.weights)
        for source in inputs_of(operation):
            interpreter.values[source] = self.evaluate(source)
        return interpreter.run(operation)[0]

    def _store(self, operation: ir.Operation, array: Array) -> None:
        element = element_of(operation.results[0])
        with building_before(operation):
            if _is_repeated(operation.results[0], array):
                value = graph_builder.map([], partial(Scalar.constant, array.flat[0].item(), element), array.shape)
            else:
                value = store_constant(self.weights, array, element, operation.location)
        self.known[value] = True
        replace(operation, [value])

    def _rearrange_later(self, operation: ir.Operation, source: ir.Value) -> None:
        owner = producer(source)
        assert owner is not None and owner.name == "graph.weight"
        if operation.name == "graph.reshape":
            value = reshaped_weight(self.weights, owner, operation)
        else:
            value = transposed_weight(self.weights, owner, integers(operation, "permutation"), operation)
        self.known[value] = True
        replace(operation, [value])


def _is_repeated(value: ir.Value, array: Array) -> bool:
    """Whether one number stands for all of them in the maps that read the value, such as a mask that hides nothing."""
    if array.size < 2 or element_of(value) in NARROW or not np.all(array == array.flat[0]):
        return False
    return all(use.owner.operation.name == "graph.element" for use in value.uses)


def store_constant(weights: WeightStore, array: Array, element: str, location: ir.Location) -> ir.Value:
    """A constant or, when it has many elements, a new weight, at the current insertion point."""
    if array.size <= INLINE_ELEMENTS and element not in NARROW:
        return graph_builder.constant(array, element)
    names = node_names(location)
    return graph_builder.weight(weights.add(names[0] if names else "folded", array), array.shape, element)


def reshaped_weight(weights: WeightStore, weight: ir.Operation, reshape: ir.Operation) -> ir.Value:
    """A new weight of the shape that `reshape` has, which must be static; the array is made when it is asked for."""
    handle = string(weight, "handle")
    shape = tuple(ir.RankedTensorType(reshape.results[0].type).shape)
    fresh = weights.add(handle, lambda: weights.get(handle).reshape(shape))
    with building_before(reshape):
        return graph_builder.weight(fresh, shape, element_of(weight.results[0]))


def transposed_weight(
    weights: WeightStore, weight: ir.Operation, permutation: tuple[int, ...], before: ir.Operation
) -> ir.Value:
    """A new weight with the dimensions permuted; the array is made only when somebody asks for it."""
    handle = string(weight, "handle")
    shape = shape_of(weight.results[0])
    fresh = weights.add(handle, lambda: weights.get(handle).transpose(permutation))
    with building_before(before):
        return graph_builder.weight(fresh, [shape[axis] for axis in permutation], element_of(weight.results[0]))


def _is_static(value: ir.Value) -> bool:
    return isinstance(value.type, ir.RankedTensorType) and value.type.has_static_shape


def _depends_on_symbols(operation: ir.Operation) -> bool:
    return any(
        inner.name == "graph.dimension" and expression(string(inner, "expression")).as_constant() is None
        for inner in inner_operations(operation)
    )


def _is_stored(value: ir.Value) -> bool:
    owner = producer(value)
    return owner is not None and owner.name == "graph.weight"


def _is_expansion(operation: ir.Operation) -> bool:
    """What a kernel reads with less traffic as it is: a tensor that repeats another, weights of 2 and 4 bits."""
    inputs = inputs_of(operation)
    if operation.name == "graph.map":
        shape = shape_of(operation.results[0])
        return any(element_of(value) in PACKED and shape_of(value) == shape for value in inputs)
    if operation.name in ("graph.reshape", "graph.slice", "graph.transpose"):
        source = producer(inputs[0])
        return source is not None and _is_expansion(source)
    return str(operation.name) == "graph.broadcast"


def _nbytes(value: ir.Value) -> int:
    total = dtype(element_of(value)).bytes
    for size in ir.RankedTensorType(value.type).shape:
        total *= size
    return total


# Scalars --------------------------------------------------------------------------------------------------------
def _fold_captures(folder: _Folder, operation: ir.Operation) -> None:
    """Scalar constants and splats that a map captures become `arith.constant` in its body."""
    for inner in captures(operation):
        source = producer(inner.operands[0])
        if source is None:
            continue
        if source.name in ("graph.constant", "graph.weight"):
            number = _one_number(folder, source)
            if number is not None:
                _replace_by_scalar(inner, number)
        elif source.name == "graph.map":
            _inline_splat(inner, source)


def _one_number(folder: _Folder, constant: ir.Operation) -> Any:
    """The number that is all of a constant: its only element, or that of a mask that hides everything or nothing."""
    value = constant.results[0]
    count = math.prod(ir.RankedTensorType(value.type).shape)
    if count == 0 or (count > 1 and (element_of(value) != "i1" or count > SMALL_BYTES)):
        return None
    if constant.name == "graph.constant":
        array = constant_array(constant)
    elif count == 1 or string(constant, "handle") in folder.weights:
        array = folder.weights.get(string(constant, "handle"))
    else:
        return None  # a module that comes without its weights
    flat = np.asarray(array).reshape(-1)
    return flat[0] if np.all(flat == flat[0]) or count == 1 else None


def _replace_by_scalar(inner: ir.Operation, value: Any) -> None:
    element = element_of(inner.operands[0])
    kind = scalar_type(element)
    if element in NARROW:
        value = np.asarray(value).view(np.int8)
    with ir.InsertionPoint(inner), inner.location:
        if isinstance(kind, ir.FloatType):
            constant = arith.ConstantOp(kind, ir.FloatAttr.get(kind, float(value)))
        else:
            number = int(value)
            bits = dtype(element).bytes * 8
            number -= (1 << bits) if element != "i1" and number >> (bits - 1) > 0 else 0
            constant = arith.ConstantOp(kind, ir.IntegerAttr.get(kind, number))
    replace(inner, [constant.result])


def _inline_splat(inner: ir.Operation, source: ir.Operation) -> None:
    """`graph.element` of a map whose body is one constant becomes that constant."""
    operations = operations_of(body_of(source))
    if [operation.name for operation in operations] != ["arith.constant", "gpu.yield"]:
        return
    copy = operations[0].clone(ir.InsertionPoint(inner))
    replace(inner, list(copy.operation.results))

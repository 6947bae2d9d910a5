"""Run the graph level on numpy arrays: `interpret(unit, inputs) -> outputs`.

In: a unit whose module is at the graph level, before or after fusion, and an array for every input. Out: an
array for every output. It is the reference for every graph pass, for constant folding and for `tilewright
verify`; clarity first, but whole models run in seconds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from mlir import ir

from ...dialects.given_kernel import is_given
from ...dialects.tensors import element_of, shape_of
from ...runtime.dtypes import NARROW, dtype, from_numpy
from ...runtime.errors import InternalError, ModelError
from ...runtime.host_functions import HostCall, run_host_function
from ...runtime.symbolic import expression
from ..unit import Unit, WeightStore
from . import numpy_operations
from .given_kernels import run_given
from .numpy_operations import Window
from .rewriting import (
    body_of,
    constant_array,
    expressions,
    functions,
    integer,
    integers,
    is_object,
    operations_of,
    string,
)
from .scalar_semantics import apply_scalar, scalar_dtype, understands

Array = np.ndarray[Any, Any]
Trace = Callable[[ir.Operation, list[Array]], None]
Rule = Callable[["Interpreter", ir.Operation, list[Array]], Array]

RULES: dict[str, Rule] = {}
# Operations with several results: the function and the attributes that it takes as flags.
RECURRENCES: dict[str, tuple[Callable[..., list[Array]], tuple[str, ...]]] = {
    "graph.lstm": (numpy_operations.lstm, ("reverse",)),
    "graph.gru": (numpy_operations.gru, ("reverse", "linear_before_reset")),
}


def rule(name: str) -> Callable[[Rule], Rule]:
    """Decorator: how one operation with one result is computed from its operands' arrays."""

    def register(function: Rule) -> Rule:
        RULES[name] = function
        return function

    return register


class Interpreter:
    """Values of one run: arrays by IR value, integers by symbol."""

    def __init__(
        self,
        weights: WeightStore,
        symbols: Mapping[str, int] | None = None,
        callees: Mapping[str, ir.Operation] | None = None,
        trace: Trace | None = None,
    ) -> None:
        self.weights = weights
        self.symbols = dict(symbols or {})
        self.callees = dict(callees or {})
        self.trace = trace
        self.values: dict[ir.Value, Array] = {}

    def shape(self, value: ir.Value) -> tuple[int, ...]:
        """The shape of a tensor value in this run."""
        return tuple(dimension.evaluate(self.symbols) for dimension in shape_of(value))

    def integers(self, operation: ir.Operation, name: str) -> tuple[int, ...]:
        """The values of an array of symbolic integers in this run."""
        return tuple(item.evaluate(self.symbols) for item in expressions(operation, name))

    def run_function(self, function: ir.Operation, arguments: list[Array]) -> list[Array]:
        """Results of a function on these arguments."""
        block = body_of(function)
        self.values.update(zip(block.arguments, arguments, strict=True))
        return self.run_block(block)

    def run_block(self, block: ir.Block) -> list[Array]:
        """Run a block; the operands of its terminator."""
        for operation in operations_of(block):
            if operation.name in ("func.return", "scf.yield", "scf.condition", "gpu.yield"):
                return [self.values[operand] for operand in operation.operands]
            self.run(operation)
        return []

    def run(self, operation: ir.Operation) -> list[Array]:
        """Compute the results of one operation whose inputs are known."""
        results = self._results(operation)
        for value, array in zip(operation.results, results, strict=True):
            self.values[value] = array
            if isinstance(value.type, ir.RankedTensorType):
                _check_result(operation, array, self.shape(value))
        if self.trace:
            self.trace(operation, results)
        return results

    def _results(self, operation: ir.Operation) -> list[Array]:
        operands = [self.values[operand] for operand in operation.operands]
        name = operation.name
        if name in RULES:
            return [RULES[name](self, operation, operands)]
        if name == "func.call":
            callee = self.callees[ir.FlatSymbolRefAttr(operation.attributes["callee"]).value]
            if is_given(callee):
                return run_given(callee, self.symbols, operands, [self.shape(value) for value in operation.results])
            return self.run_function(callee, operands)
        if name == "scf.if":
            region = operation.regions[0 if operands[0] else 1]
            return self.run_block(region.blocks[0]) if len(region.blocks) else []
        if name == "scf.while":
            return self._loop(operation, operands)
        if name in ("graph.download", "graph.keep", "graph.fetch"):
            return [operands[0]]
        if name == "graph.upload":
            return [self._uploaded(operation, operands[0])]
        if name == "graph.host":
            return self._call_host(operation, operands)
        if name == "tensor.extract":
            return [np.asarray(operands[0][tuple(int(index) for index in operands[1:])])]
        if name in RECURRENCES:
            flags = {key: bool(integer(operation, key)) for key in RECURRENCES[name][1]}
            return RECURRENCES[name][0](*operands, **flags)
        if understands(name):
            return [apply_scalar(operation, operands)]
        raise InternalError(f"the interpreter has no rule for '{name}' at {operation.location}")

    def _loop(self, operation: ir.Operation, values: list[Array]) -> list[Array]:
        before, after = (region.blocks[0] for region in operation.regions)
        while True:
            self.values.update(zip(before.arguments, values, strict=True))
            condition, *values = self.run_block(before)
            if not condition:
                return values
            self.values.update(zip(after.arguments, values, strict=True))
            values = self.run_block(after)

    def _uploaded(self, operation: ir.Operation, value: Any) -> Array:
        if not isinstance(value, list):
            return np.asarray(value)
        result = operation.results[0]
        parts = [np.zeros(0, dtype(element_of(result)).numpy), *(np.ravel(item) for item in value)]
        return np.concatenate(parts).reshape(self.shape(result))

    def _call_host(self, operation: ir.Operation, operands: list[Any]) -> list[Any]:
        symbols = [str(symbol) for symbol in expressions(operation, "symbols")]
        call = HostCall(operands, json.loads(string(operation, "options")), self.integers(operation, "sizes"))
        function = string(operation, "function")
        results, bound = run_host_function(function, call, len(operation.results), len(symbols))
        self.symbols.update(zip(symbols, bound, strict=True))
        return results


def _check_result(operation: ir.Operation, array: Array, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise InternalError(f"{operation.location}: '{operation.name}' gave shape {array.shape}, its type says {shape}")


def interpret(unit: Unit, inputs: Mapping[str, Array], trace: Trace | None = None) -> dict[str, Array]:
    """Outputs of the unit's `@main` by name. `trace(operation, results)` is called after every operation.

    Raises ModelError for a missing input, a wrong dtype or shape, and InternalError for IR of another level.
    """
    with unit.module.context, ir.Location.unknown(), np.errstate(all="ignore"):
        callees = functions(unit.module)
        main = callees["main"]
        block = body_of(main)
        names = argument_names(main)
        arguments = [_argument(name, value, inputs) for name, value in zip(names, block.arguments, strict=True)]
        symbols = bind_symbols(unit, dict(zip(names, arguments, strict=True)), block)
        interpreter = Interpreter(unit.weights, symbols, callees, trace)
        for name, value, array in zip(names, block.arguments, arguments, strict=True):
            if is_object(value):
                continue
            if interpreter.shape(value) != array.shape:
                raise ModelError(f"input '{name}' has shape {array.shape}, expected {interpreter.shape(value)}")
        results = interpreter.run_function(main, arguments)
        return dict(zip(result_names(main), results, strict=True))


def argument_names(main: ir.Operation) -> list[str]:
    """The model's input names, in order."""
    return _graph_names(main, "arg_attrs", "argument", len(body_of(main).arguments))


def result_names(main: ir.Operation) -> list[str]:
    """The model's output names, in order."""
    return _graph_names(main, "res_attrs", "result", len(operations_of(body_of(main))[-1].operands))


def _graph_names(main: ir.Operation, attribute: str, fallback: str, count: int) -> list[str]:
    if attribute not in main.attributes:
        return [f"{fallback}{index}" for index in range(count)]
    names = []
    for index, item in enumerate(ir.ArrayAttr(main.attributes[attribute])):
        entry = ir.DictAttr(item)
        names.append(ir.StringAttr(entry["graph.name"]).value if "graph.name" in entry else f"{fallback}{index}")
    return names


def _argument(name: str, value: ir.Value, inputs: Mapping[str, Array]) -> Array:
    if name not in inputs:
        raise ModelError(f"input '{name}' is missing; given: {', '.join(inputs) or 'none'}")
    if is_object(value):
        return inputs[name]
    array = np.asarray(inputs[name])
    wanted = dtype(element_of(value)).numpy
    if array.dtype != wanted:
        raise ModelError(f"input '{name}' has dtype {array.dtype}, expected {wanted}")
    return array


def bind_symbols(unit: Unit, inputs: Mapping[str, Array], block: ir.Block) -> dict[str, int]:
    """Values of all symbols, from the unit's table and from argument types whose dimension is exactly one symbol."""
    symbols = {
        name: inputs[source.input].shape[source.axis] for name, source in unit.symbols.items() if source.input in inputs
    }
    for argument, array in zip(block.arguments, inputs.values(), strict=True):
        if is_object(argument):
            continue
        for size, actual in zip(shape_of(argument), array.shape, strict=False):
            symbol = size.as_symbol()
            if symbol:
                symbols.setdefault(symbol, actual)
    return symbols


# Constants ----------------------------------------------------------------------------------------------------------
@rule("graph.weight")
def _weight(run: Interpreter, operation: ir.Operation, operands: list[Array]) -> Array:
    return run.weights.get(string(operation, "handle")).reshape(run.shape(operation.results[0]))


@rule("graph.constant")
def _constant(run: Interpreter, operation: ir.Operation, operands: list[Array]) -> Array:
    return np.asarray(constant_array(operation))


# Pointwise ----------------------------------------------------------------------------------------------------------
def _signless(array: Array) -> Array:
    """Elements as a body takes them: unsigned integers as signed ones, narrow types as their patterns."""
    if from_numpy(array.dtype).name in NARROW:
        return array.view(np.int8)
    return array.view(array.dtype.str.replace("u", "i")) if array.dtype.kind == "u" else array


@rule("graph.map")
def _map(run: Interpreter, operation: ir.Operation, operands: list[Array]) -> Array:
    result = operation.results[0]
    shape = run.shape(result)
    (value,) = _run_body(run, body_of(operation), shape)
    wanted = dtype(element_of(result)).numpy
    if value.dtype != wanted:
        value = value.view(wanted)  # unsigned results are signless in the body
    return np.asarray(np.broadcast_to(value, shape), order="C")


def _run_body(run: Interpreter, block: ir.Block, shape: tuple[int, ...]) -> list[Array]:
    for operation in operations_of(block):
        operands = [run.values[operand] for operand in operation.operands]
        name = operation.name
        if name == "gpu.yield":
            return operands
        if name == "graph.element":
            value = _signless(operands[0])
        elif name == "graph.element_at":
            value = _signless(_gather(operands[0], operands[1:]))
        elif name == "graph.index":
            axis = integer(operation, "axis")
            value = np.arange(shape[axis]).reshape([-1 if i == axis else 1 for i in range(len(shape))])
        elif name == "graph.dimension":
            value = np.asarray(expression(string(operation, "expression")).evaluate(run.symbols), np.int64)
        else:
            value = apply_scalar(operation, operands)
        run.values[operation.results[0]] = value
    return []


def _gather(tensor: Array, indices: list[Array]) -> Array:
    if not tensor.size:  # a position that does not exist is only ever read where a select ignores it
        return np.zeros(np.broadcast_shapes(*(index.shape for index in indices)), tensor.dtype)
    bounded = [np.clip(index, 0, size - 1) for index, size in zip(indices, tensor.shape, strict=True)]
    return np.asarray(tensor[tuple(bounded)] if bounded else tensor)


# Data movement ------------------------------------------------------------------------------------------------------
@rule("graph.reshape")
def _reshape(run: Interpreter, operation: ir.Operation, operands: list[Array]) -> Array:
    return operands[0].reshape(run.shape(operation.results[0]))


@rule("graph.transpose")
def _transpose(run: Interpreter, operation: ir.Operation, operands: list[Array]) -> Array:
    return np.ascontiguousarray(operands[0].transpose(integers(operation, "permutation")))


@rule("graph.broadcast")
def _broadcast(run: Interpreter, operation: ir.Operation, operands: list[Array]) -> Array:
    return np.asarray(np.broadcast_to(operands[0], run.shape(operation.results[0])), order="C")


@rule("graph.slice")
def _slice(run: Interpreter, operation: ir.Operation, operands: list[Array]) -> Array:
    sizes = run.shape(operation.results[0])
    starts, steps = run.integers(operation, "starts"), integers(operation, "steps")
    indices = [start + step * np.arange(size) for start, step, size in zip(starts, steps, sizes, strict=True)]
    return np.ascontiguousarray(operands[0][np.ix_(*indices)]) if indices else operands[0]


@rule("graph.join")
@rule("graph.concatenate")
def _concatenate(run: Interpreter, operation: ir.Operation, operands: list[Array]) -> Array:
    return np.concatenate(run.run_block(body_of(operation)), axis=integer(operation, "axis"))


@rule("graph.pad")
def _pad(run: Interpreter, operation: ir.Operation, operands: list[Array]) -> Array:
    shape = run.shape(operation.results[0])
    result = np.full(shape, operands[1], operands[0].dtype)
    source, target = [], []
    for low, size, wanted in zip(run.integers(operation, "low"), operands[0].shape, shape, strict=True):
        begin, end = max(low, 0), min(low + size, wanted)
        target.append(slice(begin, max(end, begin)))
        source.append(slice(begin - low, max(end, begin) - low))
    result[tuple(target)] = operands[0][tuple(source)]
    return result


# Reductions ---------------------------------------------------------------------------------------------------------
@rule("graph.reduce")
def _reduce(run: Interpreter, operation: ir.Operation, operands: list[Array]) -> Array:
    wanted = dtype(element_of(operation.results[0])).numpy
    return numpy_operations.reduce(operands[0], string(operation, "kind"), integers(operation, "axes"), wanted)


@rule("graph.scan")
def _scan(run: Interpreter, operation: ir.Operation, operands: list[Array]) -> Array:
    exclusive, reverse = bool(integer(operation, "exclusive")), bool(integer(operation, "reverse"))
    kind, axis = string(operation, "kind"), integer(operation, "axis")
    return numpy_operations.scan(operands[0], kind, axis, exclusive, reverse)


@rule("graph.sort")
def _sort(run: Interpreter, operation: ir.Operation, operands: list[Array]) -> Array:
    return numpy_operations.sort(operands[0], integer(operation, "run"))


@rule("graph.scatter")
def _scatter(run: Interpreter, operation: ir.Operation, operands: list[Array]) -> Array:
    places, updates, *initial = operands
    start = initial[0] if initial else np.zeros(run.shape(operation.results[0]), updates.dtype)
    return numpy_operations.scatter(places, updates, start, string(operation, "kind"))


# Windows and contractions -------------------------------------------------------------------------------------------
def _window(run: Interpreter, operation: ir.Operation) -> Window:
    pads = run.integers(operation, "pads")
    return Window(integers(operation, "strides"), pads, integers(operation, "dilations"))


def _is_last(operation: ir.Operation) -> bool:
    return string(operation, "layout") == "channels_last"


def _spatial(run: Interpreter, operation: ir.Operation) -> tuple[int, ...]:
    shape = run.shape(operation.results[0])
    return shape[1:-1] if _is_last(operation) else shape[2:]


def _result(operation: ir.Operation, array: Array) -> Array:
    return np.ascontiguousarray(np.moveaxis(array, 1, -1)) if _is_last(operation) else array


@rule("graph.pool")
def _pool(run: Interpreter, operation: ir.Operation, operands: list[Array]) -> Array:
    array = np.moveaxis(operands[0], -1, 1) if _is_last(operation) else operands[0]
    kernel, padding = integers(operation, "kernel"), bool(integer(operation, "include_padding"))
    window, output = _window(run, operation), _spatial(run, operation)
    pooled = numpy_operations.pool(array, string(operation, "kind"), kernel, window, padding, output)
    return _result(operation, pooled)


@rule("graph.matmul")
def _matmul(run: Interpreter, operation: ir.Operation, operands: list[Array]) -> Array:
    flags = bool(integer(operation, "transpose_left")), bool(integer(operation, "transpose_right"))
    wanted = scalar_dtype(element_of(operation.results[0]))
    return numpy_operations.matmul(operands[0], operands[1], *flags, wanted)


@rule("graph.convolution")
def _convolution(run: Interpreter, operation: ir.Operation, operands: list[Array]) -> Array:
    array, weight = operands
    if _is_last(operation):
        array, weight = np.moveaxis(array, -1, 1), np.moveaxis(weight, (-1, -2), (0, 1))
    groups, wanted = integer(operation, "groups"), scalar_dtype(element_of(operation.results[0]))
    window, output = _window(run, operation), _spatial(run, operation)
    return _result(operation, numpy_operations.convolution(array, weight, groups, window, output, wanted))


@rule("graph.convolution_transpose")
def _convolution_transpose(run: Interpreter, operation: ir.Operation, operands: list[Array]) -> Array:
    array, weight = operands
    if _is_last(operation):
        array, weight = np.moveaxis(array, -1, 1), np.moveaxis(weight, (-2, -1), (0, 1))
    groups, wanted = integer(operation, "groups"), scalar_dtype(element_of(operation.results[0]))
    window, output = _window(run, operation), _spatial(run, operation)
    return _result(operation, numpy_operations.convolution_transpose(array, weight, groups, window, output, wanted))

"""Pass `join-statistics`: the product that makes a tensor also adds up what normalising it needs.

In: fused kernels, in which a row kernel reads a tensor to make a few numbers of each line, and products read those in
their epilogue. Out: the product that makes the tensor returns sums of parts of its lines as well, each as wide as its
tiles; whoever wants the numbers computes them from those. A product of few rows, each block of which reads them whole,
computes the numbers itself. The tensor is not read for them, and the row kernel is gone. It stands here, not in
passes/graph, because tiles decide: how wide the parts are, and whether it pays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlir import ir

from ...dialects import graph_builder
from ...dialects.tensors import Shape, element_of, shape_of, tensor_type
from ..graph.line_statistics import Statistics, find_statistics
from ..graph.rewriting import (
    body_of,
    clone_into,
    create_kernel,
    functions,
    inner_operations,
    operations_of,
    producer,
    replace,
    string,
    users,
)
from ..target import Target, find_target
from ..unit import Unit, register_pass
from .dot import few_rows_program, study
from .elements import load_rules
from .programs import Request
from .schedule import size_guess, typical_sizes
from .warp_plan import Fitting

MOST_PARTS = 32  # of a line: each is read for every tile of those who read the statistics
# Cycles, estimates: of a launch that depends on the one before, and bytes a cycle of the second-level cache.
_LAUNCH = 2500.0
_SECOND_LEVEL = 56.0
_READER_ROWS = 128


@register_pass("join-statistics", requires="kernels", ensures="kernels")
def join_statistics(unit: Unit) -> None:
    """Let products make the sums that a normalisation of their result needs.

    before::

        %x = call @dot_0(...) : tensor<256x768xf16>
        %s:2 = call @row_0(%x) : (tensor<256x1xf32>, tensor<256x1xf32>)      // mean, scale
        %y = call @dot_1(%x, %w, %s#0, %s#1)

    after, with tiles of 128 columns::

        %x:3 = call @dot_0(...) : (tensor<256x768xf16>, tensor<256x6xf32>, tensor<256x6xf32>)
        %y = call @dot_1(%x#0, %w, %x#1, %x#2)                               // computes mean and scale

    Every kernel still has one call: equal ones become one later. Products of few rows have the body of `@row_0`, on
    every target.
    """
    target = find_target(unit.target)
    if unit.precision == "strict":  # what is added up has not been rounded to what is stored
        return
    load_rules()
    with unit.module.context, ir.Location.unknown(), typical_sizes(unit.hints):
        everything = functions(unit.module)
        calls = [own for own in inner_operations(everything["main"]) if own.name == "func.call"]
        for call in [own for own in calls if string(everything[_callee(own)], "graph.kernel") == "row"]:
            found = find_statistics(everything[_callee(call)])
            if found is None or _compute_in_few_rows(unit, target, everything, call):
                continue
            made = producer(call.operands[0])
            if not target.wgmma or made is None or made.name != "func.call" or made.block != call.block:
                continue
            width = _width(unit, target, everything[_callee(made)], found)
            if width:
                _Join(unit, target, everything, made, call, found, width).apply()
        _erase_unused(unit.module)


# Decisions ------------------------------------------------------------------------------------------------------------
def _width(unit: Unit, target: Target, function: ir.Operation, statistics: Statistics) -> int:
    """Elements of a part of a line, as wide as the tiles that the product then has; 0 where it cannot make the sums, or
    narrower tiles would cost more than a kernel that reads the tensor.
    """
    fitting = _fitting(unit, target, function)
    if fitting is None or not _makes_lines(function, fitting, statistics):
        return 0
    length = statistics.length
    costs = {
        own.schedule.block[1]: own.cycles + _reading(length // own.schedule.block[1])
        for own in reversed(fitting.candidates)  # of each width the best one
        if own.schedule.run == 0 and length % own.schedule.block[1] == 0
    }
    costs = {width: cycles for width, cycles in costs.items() if length // width <= MOST_PARTS}
    if not costs:
        return 0
    best = min(costs, key=lambda width: costs[width])
    tensor = size_guess(fitting.view.rows) * length * fitting.problem.element_bytes
    alone = _LAUNCH + tensor / (_SECOND_LEVEL * target.multiprocessors)
    return best if costs[best] < fitting.candidates[0].cycles + alone else 0


def _reading(parts: int) -> float:
    """Cycles of a tile for the sums of its lines' parts, for two tiles one after the other."""
    return 2 * parts * 2 * 4 * _READER_ROWS / _SECOND_LEVEL


def _fitting(unit: Unit, target: Target, function: ir.Operation) -> Fitting | None:
    if string(function, "graph.kernel") != "dot":
        return None
    return study(Request(function, string(function, "sym_name"), target, unit.precision))


def _makes_lines(function: ir.Operation, fitting: Fitting, statistics: Statistics) -> bool:
    """Whether the kernel returns one tensor, computed place by place from the sums of one matrix product."""
    returned = operations_of(body_of(function))[-1].operands
    result = fitting.view.operation.results[0]
    view = fitting.view
    if len(returned) != 1 or view.operation.name != "graph.matmul" or view.batch != 1 or view.pairs is not None:
        return False
    same = shape_of(returned[0]) == shape_of(result) == statistics.shape
    return same and _ends_wide(returned[0]) and _comes_from(returned[0], result)


def _comes_from(value: ir.Value, source: ir.Value) -> bool:
    """Whether maps compute the value from the source, place by place."""
    maker = producer(value)
    if value == source or maker is None or maker.name != "graph.map":
        return bool(value == source)
    read = [inner.operands[0] for inner in operations_of(body_of(maker)) if inner.name == "graph.element"]
    return any(shape_of(own) == shape_of(source) and _comes_from(own, source) for own in read)


# Few rows -------------------------------------------------------------------------------------------------------------
def _compute_in_few_rows(unit: Unit, target: Target, functions: dict[str, ir.Operation], call: ir.Operation) -> bool:
    """Let products of few rows that read the tensor compute the statistics of its lines: each block has read the lines
    anyway, and a launch costs more than their sums. Returns whether nothing else reads the statistics.
    """
    tensor = call.operands[0]
    for reader in list(dict.fromkeys(user for own in call.results for user in users(own))):
        if reader.name != "func.call" or tensor not in list(reader.operands):
            continue
        function = functions[_callee(reader)]
        if string(function, "graph.kernel") != "dot" or not _has_few_rows(unit, target, function, shape_of(tensor)):
            continue
        block = body_of(function)
        point = ir.InsertionPoint(operations_of(block)[0])
        *body, end = operations_of(body_of(functions[_callee(call)]))
        values = {body_of(functions[_callee(call)]).arguments[0]: block.arguments[list(reader.operands).index(tensor)]}
        for operation in body:
            clone_into(operation, values, point)
        made = [values[operand] for operand in end.operands]
        _put_in_place(function, reader, dict(zip(call.results, made, strict=True)), [])
    if any(users(own) for own in call.results):
        return False
    call.erase()
    return True


def _has_few_rows(unit: Unit, target: Target, function: ir.Operation, shape: Shape) -> bool:
    """Whether the product's program is that of few rows, as many as there are lines of the tensor's shape."""
    found = few_rows_program(Request(function, string(function, "sym_name"), target, unit.precision))
    return found is not None and shape_of(found.view.operation.results[0])[:-1] == shape[:-1]


# The change -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Join:
    """The calls of a product and of the statistics of what it makes, by parts of `width` elements."""

    unit: Unit
    target: Target
    functions: dict[str, ir.Operation]
    product: ir.Operation
    call: ir.Operation
    statistics: Statistics
    width: int

    def apply(self) -> None:
        """Give the sums of parts to all who read the statistics; to those that are no products by a kernel."""
        parts = self._parts()
        for reader in list(dict.fromkeys(user for own in self.call.results for user in users(own))):
            if reader.name == "func.call" and _fitting(self.unit, self.target, self.functions[_callee(reader)]):
                self._inline(reader, parts)
        if any(users(own) for own in self.call.results):
            replace(self.call, self._combined(parts))
        else:
            self.call.erase()

    def _parts(self) -> list[ir.Value]:
        """Let the product return the sums of parts; returns them."""
        function = self.functions[_callee(self.product)]
        end = operations_of(body_of(function))[-1]
        with ir.InsertionPoint(end), end.location:
            sums = self.statistics.of_parts(_wide_result(end), self.width)
        results = [end.operands[0], *sums]
        ir.Operation.create("func.return", operands=results, loc=end.location, ip=ir.InsertionPoint(end))
        end.erase()
        _set_type(function)
        call = _call(self.product, list(self.product.operands), [value.type for value in results])
        replace(self.product, [call.results[0]])
        return list(call.results)[1:]

    def _inline(self, reader: ir.Operation, parts: list[ir.Value]) -> None:
        """Let a product compute the statistics for the lines of its tiles."""
        function = self.functions[_callee(reader)]
        block = body_of(function)
        own = [block.add_argument(value.type, function.location) for value in parts]
        first = operations_of(block)[0]
        with first.location:
            made = self.statistics.from_parts(own, self.width, ir.InsertionPoint(first))
        _put_in_place(function, reader, dict(zip(self.call.results, made, strict=True)), parts)

    def _combined(self, parts: list[ir.Value]) -> Sequence[ir.Value]:
        """A kernel that makes the statistics from the sums of parts."""
        name = f"{string(self.statistics.function, 'sym_name')}_of_parts"
        types = [value.type for value in parts], [value.type for value in self.call.results]
        location = self.call.location
        function = create_kernel(self.unit.module, name, ir.FunctionType.get(*types), "row", location)
        block = function.regions[0].blocks.append(*types[0], arg_locs=[location] * len(parts))
        with location:
            end = ir.Operation.create("func.return", ip=ir.InsertionPoint(block))
            made = self.statistics.from_parts(list(block.arguments), self.width, ir.InsertionPoint(end))
            ir.Operation.create("func.return", operands=made, ip=ir.InsertionPoint(end))
        end.erase()
        self.functions[name] = function
        call = _call(self.call, parts, types[1])
        call.attributes["callee"] = ir.FlatSymbolRefAttr.get(name)
        return list(call.results)


def _put_in_place(
    function: ir.Operation, reader: ir.Operation, known: dict[ir.Value, ir.Value], more: list[ir.Value]
) -> None:
    """What a call passes of `known` is from now on the value in the kernel that stands there; it passes `more` too."""
    block = body_of(function)
    operands = list(reader.operands)
    for number in reversed(range(len(operands))):
        if operands[number] in known:
            block.arguments[number].replace_all_uses_with(known[operands[number]])
            block.erase_argument(number)
            del operands[number]
    _set_type(function)
    call = _call(reader, [*operands, *more], [value.type for value in reader.results])
    replace(reader, list(call.results))


def _wide_result(end: ir.Operation) -> ir.Value:
    """What a kernel returns in f32, from which its result is rounded."""
    value = end.operands[0]
    maker = producer(value)
    if element_of(value) == "f32" or maker is None:
        return value
    rounding = operations_of(body_of(maker))[-2]
    read = producer(rounding.operands[0])
    if read is not None and read.name == "graph.element":
        return read.operands[0]
    wide = clone_into(maker, {}, ir.InsertionPoint(end))
    *_, rounding, yielded = operations_of(body_of(wide))
    yielded.operands[0] = rounding.operands[0]
    rounding.erase()
    wide.results[0].set_type(tensor_type(shape_of(value), "f32"))
    with ir.InsertionPoint(end):
        end.operands[0] = graph_builder.cast(wide.results[0], element_of(value))
    maker.erase()
    return wide.results[0]


def _ends_wide(value: ir.Value) -> bool:
    """Whether a value is f32, or what a map rounds to its type in the end."""
    maker = producer(value)
    if element_of(value) == "f32" or maker is None or maker.name != "graph.map":
        return element_of(value) == "f32"
    *_, last, yielded = operations_of(body_of(maker))
    rounds = last.name == "arith.truncf" and yielded.operands[0] == last.results[0]
    return rounds and str(last.operands[0].type) == "f32" and len(list(value.uses)) == 1


def _set_type(function: ir.Operation) -> None:
    """Make the function's type that of its body."""
    block = body_of(function)
    inputs = [argument.type for argument in block.arguments]
    results = [value.type for value in operations_of(block)[-1].operands]
    function.attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get(inputs, results))


def _call(like: ir.Operation, operands: list[ir.Value], results: Sequence[ir.Type]) -> ir.Operation:
    """A call of the same function in the place of another call."""
    attributes = {"callee": like.attributes["callee"]}
    return ir.Operation.create(
        "func.call", list(results), operands, attributes, loc=like.location, ip=ir.InsertionPoint(like)
    )


def _callee(call: ir.Operation) -> str:
    return str(ir.FlatSymbolRefAttr(call.attributes["callee"]).value)


def _erase_unused(module: ir.Module) -> None:
    """Erase kernels that nothing calls any more."""
    everything = functions(module)
    called = {_callee(own) for own in inner_operations(everything["main"]) if own.name == "func.call"}
    for name, function in everything.items():
        if "graph.kernel" in function.attributes and name not in called:
            function.erase()

"""From the graph of kernel calls to the host program.

In: `@main` holding only calls of kernels, weights, reshapes and ifs, and a tile program for every kernel.
Out: `unit.host`, a module of the `host` dialect: buffers with their lifetimes, and launches. Memory is not
placed here: sizes are symbolic until a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlir import ir

from ...dialects.tensors import element_of, shape_of
from ...runtime.errors import InternalError
from ...runtime.symbolic import Expression, parse
from ..graph.rewriting import blocks_within, constant_array, expressions, is_object, node_names, operations_of
from ..unit import BoxedTensor, KernelProgram, Unit, register_pass
from .constraints import Substitution, solve
from .lifetimes import annotate_lifetimes
from .main_function import complex_type, host_types, joined, origin, symbols_of, value_names

TRANSFERS = ("graph.download", "graph.upload", "graph.keep", "graph.fetch")


@register_pass("plan-host", requires="tile", ensures="host")
def plan_host(unit: Unit) -> None:
    """Turn kernel calls into launches over buffers; a reshape is an alias, an output is written in place
    where it can be.

    before:
        %1 = func.call @softmax_0(%x) : (tensor<?x10xf32, ["n", "10"]>) -> tensor<?x10xf32, ["n", "10"]>
        return %1
    after:
        %x = host.declare {name = "x", kind = "input", element = "f32", shape = ["n", "10"], binding = "x"}
        %y = host.declare {name = "y", kind = "output", element = "f32", shape = ["n", "10"], binding = "y"}
        host.launch(%x, %y) {kernel = "softmax_0", grid = ["n", "1", "1"], arguments = [0, 1, "n"]}
    """
    with unit.module.context, ir.Location.unknown():
        unit.host = _Planner(unit).plan()
        annotate_lifetimes(unit.host)


class _Planner:
    """Walks `@main` once. `buffers` maps every tensor value to the buffer that holds it."""

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self.functions = {_symbol(operation): operation for operation in unit.module.body.operations}
        if "main" not in self.functions:
            raise InternalError("the module has no @main")
        self.main: Any = self.functions["main"]
        self.unsolved: list[tuple[Expression, Expression]] = []  # equalities that every run checks
        self.substitution = self._constraints()
        self.buffers: dict[ir.Value, ir.Value] = {}
        self.wholes: dict[ir.Value, ir.Value] = {}  # of what lies in a joined tensor: that tensor
        self.weights: dict[str, ir.Value] = {}
        self.names: set[str] = set()
        self.module = ir.Module.create()
        self.last_declaration: ir.Operation | None = None
        self.counter = 0
        self.found = {symbol for operation in self._calls() for symbol in expressions(operation, "symbols")}
        self.host_types: dict[str, tuple[str, Sequence[Expression]]] = {}  # of inputs and outputs that stay on the host

    def plan(self) -> ir.Module:
        """The host module. Declarations and instructions stand in one block, declarations first."""
        attributes = self.main.attributes
        self.module.operation.attributes["host.symbols"] = self._symbols()
        pairs = [
            ir.ArrayAttr.get([_text(str(self._resolve(side))) for side in pair]) for pair in self.unsolved
        ]
        self.module.operation.attributes["host.equalities"] = ir.ArrayAttr.get(pairs)
        self.host_types = {**host_types(attributes, "arg_attrs"), **host_types(attributes, "res_attrs")}
        block = self.main.regions[0].blocks[0]
        inputs = value_names(attributes, "arg_attrs", len(block.arguments))
        for argument, name in zip(block.arguments, inputs, strict=True):
            numbers = complex_type(attributes, name)
            self.buffers[argument] = self._declare(name, "input", argument, binding=name, **numbers)
        returned = list(_terminator(block).operands)
        names = value_names(attributes, "res_attrs", len(returned))
        targets = [
            self._declare(name, "output", value, binding=name, **complex_type(attributes, name))
            for value, name in zip(returned, names, strict=True)
        ]
        point = ir.InsertionPoint(self.module.body)
        self.semaphores = self._plan_semaphores(point)
        self._plan_block(block, targets, point)
        return self.module

    def _plan_semaphores(self, point: ir.InsertionPoint) -> ir.Value | None:
        """The integers by which blocks of a kernel wait for each other: zero at the start of a run, and every kernel
        leaves them so; kernels follow each other, so one buffer does for all.
        """
        items = [item for program in self.unit.kernels.values() for item in program.arguments]
        most = max((int(str(count)) for kind, count in items if kind == "semaphores"), default=0)
        if not most:
            return None
        buffer = self._declare_as("semaphores", "temporary", "i32", (Expression.constant(most),))
        zero = {"byte": _integer(0)}
        ir.Operation.create("host.fill", operands=[buffer], attributes=zero, ip=point, loc=ir.Location.unknown())
        return buffer

    def _calls(self) -> list[ir.Operation]:
        """Every call of a host function, also in branches."""
        blocks = blocks_within(self.main.operation)
        return [operation for block in blocks for operation in operations_of(block) if operation.name == "graph.host"]

    # Blocks -------------------------------------------------------------------------------------------------
    def _plan_block(self, block: ir.Block, targets: Sequence[ir.Value], point: ir.InsertionPoint) -> None:
        """Plan a block whose terminator's operands must end up in `targets`."""
        operations = list(block.operations)
        self.wholes.update(joined([operation for operation in operations if _name(operation) == "graph.join"]))
        returned = [origin(value) for value in operations[-1].operands]
        written: dict[ir.Value, ir.Value] = {}
        copies: list[tuple[ir.Value, ir.Value]] = []
        produced = {
            value for operation in operations if _makes_buffers(operation) for value in operation.results
        }
        for given, value, target in zip(operations[-1].operands, returned, targets, strict=True):
            # An output whose own shape is found later than what it is a reshape of cannot be written in place.
            late = symbols_of(given) - symbols_of(value)
            if value in produced and value not in written and not late & self.found:
                written[value] = target
            else:
                copies.append((value, target))
        for operation in operations[:-1]:
            self._plan_operation(operation, written, point)
        for value, target in copies:
            ir.Operation.create(
                "host.copy", operands=[self._buffer(value), target], ip=point, loc=_location(value)
            )

    def _plan_operation(
        self, operation: Any, written: dict[ir.Value, ir.Value], point: ir.InsertionPoint
    ) -> None:
        name = operation.operation.name
        if name == "graph.reshape":
            self.buffers[operation.results[0]] = self._buffer(operation.operands[0])
        elif name == "graph.join":
            self._result(operation.results[0], written)
        elif name == "graph.weight":
            handle = ir.StringAttr(operation.attributes["handle"]).value
            self.buffers[operation.results[0]] = self._weight(handle, operation.results[0])
        elif name == "graph.constant":
            handle = self.unit.weights.add("constant", constant_array(operation))
            self.buffers[operation.results[0]] = self._weight(handle, operation.results[0])
        elif name == "func.call":
            self._plan_call(operation, written, point)
        elif name == "scf.if":
            self._plan_if(operation, written, point)
        elif name == "scf.while":
            self._plan_loop(operation, written, point)
        elif name in TRANSFERS:
            target = self._result(operation.results[0], written)
            source = operation.operands[0]
            shape = None if is_object(source) else [str(self._resolve(size)) for size in shape_of(source)]
            attributes = {} if shape is None else {"shape": _texts(shape)}
            self._create(f"host.{name[6:]}", [self._buffer(source), target], attributes, operation, point)
        elif name == "graph.host":
            self._plan_host_call(operation, written, point)
        elif name not in ("tensor.extract", "arith.constant"):
            raise InternalError(f"'{name}' is left in @main after fusion\n  at {operation.location}")

    def _plan_call(self, call: Any, written: dict[ir.Value, ir.Value], point: ir.InsertionPoint) -> None:
        function = ir.FlatSymbolRefAttr(call.attributes["callee"]).value
        program = self.unit.kernels[function]
        outputs = []
        for result in call.results:
            outputs.append(self._result(result, written))
        for own in (program, *program.alternatives):
            self._plan_launch(call, own, outputs, point)

    def _plan_launch(
        self, call: Any, program: KernelProgram, outputs: list[ir.Value], point: ir.InsertionPoint
    ) -> None:
        operands: list[ir.Value] = []
        arguments: list[ir.Attribute] = []
        for kind, item in program.arguments:
            if kind == "symbol":
                arguments.append(_text(str(self._resolve(str(item)))))
                continue
            if kind == "workspace":
                element, shape = program.workspaces[int(str(item))]
                buffer = self._declare_as("w", "temporary", element, shape)
            elif kind == "semaphores":
                assert self.semaphores is not None
                buffer = self.semaphores
            elif isinstance(item, BoxedTensor):
                buffer = self._argument(call, outputs, *item.source)
            else:
                buffer = self._argument(call, outputs, kind, int(item))
            number = _integer(len(operands))
            arguments.append(self._tensor_map(item, number) if isinstance(item, BoxedTensor) else number)
            operands.append(buffer)
        attributes = {
            "kernel": _text(program.name),
            "grid": _texts([str(self._resolve(extent)) for extent in program.grid]),
            "arguments": ir.ArrayAttr.get(arguments),
            "nodes": _texts(self._nodes(call, ir.FlatSymbolRefAttr(call.attributes["callee"]).value) or program.nodes),
        }
        for output, verb, value in program.prepared:
            self._prepare(call, outputs[output], verb, value, point)
        ir.Operation.create(
            "host.launch", operands=operands, attributes=attributes, ip=point, loc=call.location
        )

    def _prepare(self, call: Any, output: ir.Value, verb: str, value: int, point: ir.InsertionPoint) -> None:
        """What an output holds before a kernel that only changes parts of it."""
        if verb == "copy":
            self._create("host.copy", [self._buffer(call.operands[value]), output], {}, call, point)
        else:
            self._create("host.fill", [output], {"byte": _integer(value)}, call, point)

    def _plan_host_call(
        self, operation: Any, written: dict[ir.Value, ir.Value], point: ir.InsertionPoint
    ) -> None:
        attributes = operation.attributes
        inputs = [self._buffer(value) for value in operation.operands]
        outputs = [self._result(value, written) for value in operation.results]
        sizes = [str(self._resolve(size)) for size in expressions(operation, "sizes")]
        described = {
            "function": attributes["function"],
            "inputs": _integer(len(inputs)),
            "options": attributes["options"],
            "sizes": _texts(sizes),
            "symbols": attributes["symbols"],
            "nodes": _texts(node_names(operation.location)),
        }
        self._create("host.call", [*inputs, *outputs], described, operation, point)

    def _result(self, value: ir.Value, written: dict[ir.Value, ir.Value]) -> ir.Value:
        """The buffer for a result: that of the tensor in which it lies, the output that it is, or a new temporary."""
        whole = self.wholes.get(value, value)
        if whole not in self.buffers:
            self.buffers[whole] = written.get(whole) or self._temporary(whole)
        self.buffers[value] = self.buffers[whole]
        return self.buffers[value]

    def _create(
        self,
        name: str,
        operands: list[ir.Value],
        attributes: dict[str, ir.Attribute],
        source: Any,
        point: ir.InsertionPoint,
    ) -> None:
        ir.Operation.create(name, operands=operands, attributes=attributes, ip=point, loc=source.location)

    def _argument(self, call: Any, outputs: list[ir.Value], kind: str, number: int) -> ir.Value:
        return outputs[number] if kind == "output" else self._buffer(call.operands[number])

    def _tensor_map(self, boxed: BoxedTensor, operand: ir.Attribute) -> ir.Attribute:
        def texts(values: Sequence[Expression]) -> ir.Attribute:
            return _texts([str(self._resolve(value)) for value in values])

        attributes = {
            "buffer": operand,
            "data_type": _text(boxed.data_type),
            "shape": texts(boxed.shape),
            "strides": texts(boxed.strides),
            "box": ir.DenseI64ArrayAttr.get(list(boxed.box)),
            "swizzle": _text(boxed.swizzle),
            "element_strides": ir.DenseI64ArrayAttr.get(list(boxed.element_strides)),
        }
        if boxed.offset != 0:
            attributes["offset"] = _text(str(self._resolve(boxed.offset)))
        if boxed.im2col is not None:
            im2col = boxed.im2col
            attributes["lower_corner"] = ir.DenseI64ArrayAttr.get(list(im2col.lower_corner))
            attributes["upper_corner"] = texts(im2col.upper_corner)
            attributes["column"] = ir.DenseI64ArrayAttr.get([im2col.channels, im2col.pixels])
        return ir.DictAttr.get(attributes)

    def _plan_if(self, operation: Any, written: dict[ir.Value, ir.Value], point: ir.InsertionPoint) -> None:
        extract = operation.operands[0].owner
        if extract.name != "tensor.extract":
            raise InternalError(
                f"the condition of an if is not a tensor's element\n  at {operation.location}"
            )
        targets = [written.get(result) or self._temporary(result) for result in operation.results]
        self.buffers.update(zip(operation.results, targets, strict=True))
        branch = ir.Operation.create(
            "host.if",
            operands=[self._buffer(extract.operands[0])],
            regions=2,
            ip=point,
            loc=operation.location,
        )
        for source, region in zip(operation.regions, branch.regions, strict=True):
            block = ir.Block.create_at_start(region, [])
            if len(source.blocks):
                self._plan_block(source.blocks[0], targets, ir.InsertionPoint(block))
            ir.Operation.create("gpu.yield", ip=ir.InsertionPoint(block))  # ours cannot be terminators

    def _plan_loop(self, operation: Any, written: dict[ir.Value, ir.Value], point: ir.InsertionPoint) -> None:
        """A loop's values live in one buffer each: set before it, and after each turn from what the turn made."""
        before, after = (region.blocks[0] for region in operation.regions)
        states = [self._result(result, written) for result in operation.results]
        for given, state in zip(operation.operands, states, strict=True):
            ir.Operation.create("host.copy", operands=[self._buffer(given), state], ip=point, loc=operation.location)
        for block in (before, after):
            self.buffers.update(zip(block.arguments, states, strict=True))
        condition = list(before.operations)[-1].operands[0].owner.operands[0]
        loop = ir.Operation.create(
            "host.loop", operands=[self._buffer(condition)], regions=1, ip=point, loc=operation.location
        )
        block = ir.Block.create_at_start(loop.regions[0], [])
        fresh = [self._temporary(result) for result in operation.results]
        self._plan_block(after, fresh, ir.InsertionPoint(block))
        for new, state in zip(fresh, states, strict=True):
            ir.Operation.create("host.copy", operands=[new, state], ip=ir.InsertionPoint(block), loc=operation.location)
        ir.Operation.create("gpu.yield", ip=ir.InsertionPoint(block))

    def _nodes(self, call: Any, function: str) -> list[str]:
        """The ONNX nodes of a call: functions that deduplication made share a kernel keep their own in the
        call.
        """
        for operation in (call, self.functions.get(function)):
            if operation is not None and "graph.nodes" in operation.attributes:
                return [
                    ir.StringAttr(node).value for node in ir.ArrayAttr(operation.attributes["graph.nodes"])
                ]
        return []

    # Buffers ------------------------------------------------------------------------------------------------
    def _buffer(self, value: ir.Value) -> ir.Value:
        found = self.buffers.get(origin(value))
        if found is None:
            raise InternalError(f"a tensor of @main has no buffer: {value}")
        return found

    def _temporary(self, value: ir.Value) -> ir.Value:
        return self._declare(f"b{self.counter}", "temporary", value)

    def _weight(self, handle: str, value: ir.Value) -> ir.Value:
        if handle not in self.weights:
            self.weights[handle] = self._declare(handle, "weight", value, handle=handle)
        return self.weights[handle]

    def _declare(self, hint: str, kind: str, value: ir.Value, **extra: str) -> ir.Value:
        if is_object(value):
            element, shape = self.host_types.get(hint, ("object", ()))
            return self._declare_as(hint, kind, element, shape, **extra)
        return self._declare_as(hint, kind, element_of(value), shape_of(value), **extra)

    def _declare_as(
        self, hint: str, kind: str, element: str, shape: Sequence[Expression], **extra: str
    ) -> ir.Value:
        self.counter += kind == "temporary"
        name, number = hint, 1
        while name in self.names:
            name, number = f"{hint}.{number}", number + 1
        self.names.add(name)
        attributes = {
            "name": _text(name),
            "kind": _text(kind),
            "element": _text(element),
            "shape": _texts([str(extent.substitute(self.substitution)) for extent in shape]),
            **{key: _text(item) for key, item in extra.items()},
        }
        previous = self.last_declaration
        start = ir.InsertionPoint.at_block_begin(self.module.body)
        point = ir.InsertionPoint.after(previous) if previous is not None else start
        operation = ir.Operation.create(
            "host.declare", results=[_buffer_type()], attributes=attributes, ip=point
        )
        self.last_declaration = operation
        return operation.result

    # Symbols ------------------------------------------------------------------------------------------------
    def _resolve(self, value: str | Expression) -> Expression:
        return (parse(value) if isinstance(value, str) else value).substitute(self.substitution)

    def _constraints(self) -> Substitution:
        if "graph.constraints" not in self.main.attributes:
            return {}
        pairs = [
            (parse(ir.StringAttr(pair[0]).value), parse(ir.StringAttr(pair[1]).value))
            for pair in (
                ir.ArrayAttr(item) for item in ir.ArrayAttr(self.main.attributes["graph.constraints"])
            )
        ]
        substitution, self.unsolved = solve(self.unit.symbols, pairs)
        return substitution

    def _symbols(self) -> ir.Attribute:
        kept = {name: source for name, source in self.unit.symbols.items() if name not in self.substitution}
        return ir.DictAttr.get(
            {
                name: ir.ArrayAttr.get([_text(source.input), _integer(source.axis)])
                for name, source in kept.items()
            }
        )


def _symbol(operation: Any) -> str:
    return str(ir.StringAttr(operation.attributes["sym_name"]).value)


def _name(operation: Any) -> str:
    return str(operation.operation.name)


def _makes_buffers(operation: Any) -> bool:
    return _name(operation) in ("func.call", "graph.join", "scf.if", "scf.while", "graph.host", *TRANSFERS)


def _terminator(block: ir.Block) -> Any:
    return list(block.operations)[-1]


def _location(value: ir.Value) -> ir.Location:
    return (
        value.owner.location if isinstance(value.owner, ir.Operation | ir.OpView) else ir.Location.unknown()
    )


def _buffer_type() -> ir.Type:
    return ir.Type.parse("!host.buffer")


def _text(value: str) -> ir.Attribute:
    return ir.StringAttr.get(value)


def _texts(values: Sequence[str]) -> ir.Attribute:
    return ir.ArrayAttr.get([ir.StringAttr.get(value) for value in values])


def _integer(value: int) -> ir.Attribute:
    return ir.IntegerAttr.get(ir.IntegerType.get_signless(64), value)

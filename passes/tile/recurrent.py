"""The program of recurrent layers: all steps of an LSTM or GRU direction in one launch.

In: a kernel function of kind ``recurrent`` around one graph.lstm or graph.gru (the product with the input is a matmul
before it). Out: one block a batch entry, one thread a hidden unit, an scf.for over the steps. The hidden state lives
in the `y_h` result, between two barriers a step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mlir import ir
from mlir.dialects import arith, math, scf

from ...dialects.tensors import element_of, scalar_type, shape_of
from ...runtime.errors import InternalError
from ...runtime.symbolic import ONE, Expression
from ..unit import KernelProgram
from .builder import Argument, TileBuilder
from .elements import ElementEmitter, load_rules
from .programs import Request, finished, tile_program
from .scalars import accumulator, convert
from .tile_types import element, map_, program_id, store
from .windows import loop_nest

MAX_THREADS = 512


@dataclass
class _Layer:
    """One recurrent layer under construction; scalars are in the accumulator type `wide`."""

    builder: TileBuilder
    emitter: ElementEmitter
    operation: ir.Operation
    batch: Expression
    hidden: Expression
    threads: int
    storage: str
    wide: str
    outputs: dict[str, Argument | None]

    def operand(self, at: ElementEmitter, number: int, *indices: Expression) -> ir.Value:
        """An element of an operand, widened."""
        value = self.operation.operands[number]
        return at.track(convert(at.element(value, indices), element_of(value), self.wide))

    def state(self, at: ElementEmitter, name: str, unit: Expression) -> ir.Value:
        """An element of the running state, which lies in the result buffer `name`."""
        argument = self.outputs[name]
        assert argument is not None
        return convert(at.load(argument, (self.batch, unit)), self.storage, self.wide)

    def put(self, name: str, value: ir.Value, *indices: Expression) -> None:
        """Store into a result buffer."""
        argument = self.outputs[name]
        if argument is None:
            return
        offset = self.builder.linearize(indices, argument.shape)
        store(self.builder, convert(value, self.wide, self.storage), argument.memory, offset, argument.element)

    def units(self, body: Callable[[ElementEmitter, Expression], ir.Value | None], result: bool) -> ir.Value | None:
        """A tile.map over the hidden units of the block's batch entry."""
        builder = self.builder
        width = self.hidden.as_constant() or 0
        columns = -(-width // self.threads) * self.threads

        def emit(_: ir.Value, j: ir.Value) -> ir.Value | None:
            return body(self.emitter.fresh(), builder.variable(j, "unit", self.hidden))

        zero = builder.index(0)
        return map_(
            builder,
            (zero, zero),
            (builder.index(1), builder.index(self.hidden)),
            (1, columns),
            f"blocked<1x{self.threads}, vector=1>",
            emit,
            scalar_type(self.wide) if result else None,
            full_dimensions=["rows", *(["columns"] if columns == width else [])],
        )

    def product(
        self,
        at: ElementEmitter,
        unit: Expression,
        gates: list[int],
        source: Callable[[ElementEmitter, Expression], ir.Value],
    ) -> list[ir.Value]:
        """For each gate g: sum over k of recurrence[g*H + unit, k] * source(k)."""
        type_ = scalar_type(self.wide)
        contract = arith.FastMathFlags.contract

        def step(inner: ElementEmitter, taps: tuple[Expression, ...], carried: list[ir.Value]) -> list[ir.Value]:
            value = source(inner, taps[0])
            weights = [self.operand(inner, 1, self.hidden * gate + unit, taps[0]) for gate in gates]
            products = [arith.mulf(value, weight, fastmath=contract) for weight in weights]
            return [arith.addf(total, own, fastmath=contract) for total, own in zip(carried, products, strict=True)]

        return loop_nest(at, [self.hidden], [arith.constant(type_, 0.0)] * len(gates), step)


def sigmoid(value: ir.Value) -> ir.Value:
    """1 / (1 + exp(-x))."""
    one = arith.constant(value.type, 1.0)
    return arith.divf(one, arith.addf(one, math.exp(arith.negf(value))))


def _barrier() -> None:
    ir.Operation.create("tile.barrier")


@tile_program("recurrent")
def recurrent_program(request: Request) -> KernelProgram:
    """
    before: one graph.lstm or graph.gru with data movement on its operands
    after:  scf.for over steps of tile.map (new state) / tile.barrier / tile.map (store) / tile.barrier
    """
    load_rules()
    names = {"graph.lstm": ["y", "y_h", "y_c"], "graph.gru": ["y", "y_h"]}
    operation = next((op for op in request.operations if op.name in names), None)
    if operation is None:
        raise InternalError(f"kernel {request.name}: a recurrent kernel has an lstm or gru")
    builder = TileBuilder(request.function, request.name)
    steps, batches, hidden = shape_of(operation.results[0])
    size = hidden.as_constant()
    if size is None:
        raise InternalError(f"kernel {request.name}: the hidden size of a recurrent layer is a constant")
    storage = element_of(operation.results[0])
    named = dict(zip(names[operation.name], operation.results, strict=True))
    # Final states that nobody asked for still carry the recurrence: they get a workspace.
    hidden_states = [name for name, value in named.items() if name != "y" and value not in request.returned]
    scratch = [(storage, (batches, hidden)) for _ in hidden_states]
    if operation.name == "graph.gru" and not ir.IntegerAttr(operation.attributes["linear_before_reset"]).value:
        scratch.append((accumulator(storage), (batches, hidden)))
    module = builder.declare(scratch)
    outputs: dict[str, Argument | None] = dict(zip(hidden_states, builder.workspaces, strict=False))
    for name, value in named.items():
        if name not in outputs:
            outputs[name] = builder.outputs[request.returned.index(value)] if value in request.returned else None
    threads = min(MAX_THREADS, -(-size // 32) * 32)
    with ir.InsertionPoint(builder.block):
        batch = builder.variable(program_id(0), "batch", batches)
        layer = _Layer(
            builder, ElementEmitter(builder), operation, batch, hidden, threads, storage, accumulator(storage), outputs
        )
        initial = 2 if operation.name == "graph.lstm" else 3

        def start(at: ElementEmitter, unit: Expression) -> None:
            layer.put("y_h", layer.operand(at, initial, batch, unit), batch, unit)
            if "y_c" in outputs:
                layer.put("y_c", layer.operand(at, initial + 1, batch, unit), batch, unit)

        layer.units(start, result=False)
        _barrier()
        loop = scf.ForOp(builder.index(0), builder.index(steps), builder.index(1))
        with ir.InsertionPoint(loop.body), builder.region():
            count = builder.variable(loop.induction_variable, "step", steps)
            reverse = ir.IntegerAttr(operation.attributes["reverse"]).value != 0
            _STEPS[operation.name](layer, steps - 1 - count if reverse else count)
            scf.yield_([])
        builder.finish(threads)
    return finished(request, builder, module, "recurrent", (batches, ONE, ONE), threads)


def _finish_step(layer: _Layer, step: Expression, state: ir.Value) -> None:
    """Everyone has read the old state: write the new one."""
    type_ = scalar_type(layer.wide)
    _barrier()

    def write(at: ElementEmitter, unit: Expression) -> None:
        value = element(state, type_)
        layer.put("y_h", value, layer.batch, unit)
        layer.put("y", value, step, layer.batch, unit)

    layer.units(write, result=False)
    _barrier()


def _lstm_step(layer: _Layer, step: Expression) -> None:
    """ONNX LSTM with gates in the order i, o, f, c and peepholes i, o, f (activations sigmoid, tanh, tanh)."""

    def compute(at: ElementEmitter, unit: Expression) -> ir.Value:
        products = layer.product(at, unit, [0, 1, 2, 3], lambda inner, k: layer.state(inner, "y_h", k))
        gates = [
            arith.addf(total, layer.operand(at, 0, step, layer.batch, layer.hidden * gate + unit))
            for gate, total in enumerate(products)
        ]
        peepholes = [layer.operand(at, 4, layer.hidden * gate + unit) for gate in range(3)]
        cell = layer.state(at, "y_c", unit)
        enter = sigmoid(arith.addf(gates[0], arith.mulf(peepholes[0], cell)))
        forget = sigmoid(arith.addf(gates[2], arith.mulf(peepholes[2], cell)))
        cell = arith.addf(arith.mulf(forget, cell), arith.mulf(enter, math.tanh(gates[3])))
        layer.put("y_c", cell, layer.batch, unit)
        leave = sigmoid(arith.addf(gates[1], arith.mulf(peepholes[1], cell)))
        return arith.mulf(leave, math.tanh(cell))

    state = layer.units(compute, result=True)
    assert state is not None
    _finish_step(layer, step, state)


@dataclass(frozen=True)
class _Gru:
    """One step of an ONNX GRU with gates in the order z, r, h (activations sigmoid, tanh)."""

    layer: _Layer
    step: Expression

    def gate(self, at: ElementEmitter, unit: Expression, number: int) -> ir.Value:
        """The input's part of a gate."""
        layer = self.layer
        return layer.operand(at, 0, self.step, layer.batch, layer.hidden * number + unit)

    def bias(self, at: ElementEmitter, unit: Expression, number: int) -> ir.Value:
        """The recurrence bias of a gate."""
        return self.layer.operand(at, 2, self.layer.hidden * number + unit)

    def state(self, at: ElementEmitter, unit: Expression) -> ir.Value:
        """The old hidden state."""
        return self.layer.state(at, "y_h", unit)

    def mix(self, at: ElementEmitter, unit: Expression, update: ir.Value, candidate: ir.Value) -> ir.Value:
        """(1 - z) * candidate + z * state"""
        one = arith.constant(update.type, 1.0)
        kept = arith.mulf(update, self.state(at, unit))
        return arith.addf(arith.mulf(arith.subf(one, update), candidate), kept)

    def linear_before_reset(self, at: ElementEmitter, unit: Expression) -> ir.Value:
        """The new state where the reset gate scales the product."""
        products = self.layer.product(at, unit, [0, 1, 2], self.state)
        sums = [arith.addf(total, self.bias(at, unit, number)) for number, total in enumerate(products)]
        update = sigmoid(arith.addf(self.gate(at, unit, 0), sums[0]))
        reset = sigmoid(arith.addf(self.gate(at, unit, 1), sums[1]))
        candidate = math.tanh(arith.addf(self.gate(at, unit, 2), arith.mulf(reset, sums[2])))
        return self.mix(at, unit, update, candidate)

    def put_reset_state(self, at: ElementEmitter, unit: Expression) -> None:
        """r * state into the workspace: all of it must be there before any candidate is computed."""
        layer, scratch = self.layer, self.layer.builder.workspaces[-1]
        total = layer.product(at, unit, [1], self.state)[0]
        reset = sigmoid(arith.addf(self.gate(at, unit, 1), arith.addf(total, self.bias(at, unit, 1))))
        value = arith.mulf(reset, self.state(at, unit))
        store(layer.builder, value, scratch.memory, layer.batch * layer.hidden + unit, scratch.element)

    def reset_before_linear(self, at: ElementEmitter, unit: Expression) -> ir.Value:
        """The new state where the product is of the reset state."""
        layer, scratch = self.layer, self.layer.builder.workspaces[-1]
        update_sum = layer.product(at, unit, [0], self.state)[0]
        update = sigmoid(arith.addf(self.gate(at, unit, 0), arith.addf(update_sum, self.bias(at, unit, 0))))
        total = layer.product(at, unit, [2], lambda inner, k: inner.load(scratch, (layer.batch, k)))[0]
        candidate = math.tanh(arith.addf(self.gate(at, unit, 2), arith.addf(total, self.bias(at, unit, 2))))
        return self.mix(at, unit, update, candidate)


def _gru_step(layer: _Layer, step: Expression) -> None:
    gru = _Gru(layer, step)
    if ir.IntegerAttr(layer.operation.attributes["linear_before_reset"]).value:
        state = layer.units(gru.linear_before_reset, result=True)
    else:
        layer.units(gru.put_reset_state, result=False)
        _barrier()
        state = layer.units(gru.reset_before_linear, result=True)
    assert state is not None
    _finish_step(layer, step, state)


_STEPS: dict[str, Callable[[_Layer, Expression], None]] = {"graph.lstm": _lstm_step, "graph.gru": _gru_step}

"""Small programs at the graph level for tests of its passes: built in Python, interpreted before and after.

In: named symbolic shapes, a function over `graph_builder` and numpy weights. Out: a `Unit`, and an assertion that
passes keep its answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from mlir import ir
from mlir.dialects import func

from tilewright.dialects import create_context, graph_builder, verify
from tilewright.dialects.tensors import tensor_type
from tilewright.passes.graph.interpret import interpret
from tilewright.passes.graph.rewriting import functions, inner_operations, string
from tilewright.passes.unit import Unit, WeightStore
from tilewright.runtime.dtypes import from_numpy

Array = np.ndarray
Body = Callable[..., Sequence[ir.Value]]

# Passes reorder float32 sums of up to a few hundred terms: 2^-24 relative each.
TOLERANCE = 2e-5


def build(
    inputs: Mapping[str, Sequence[int | str]],
    body: Body,
    weights: Mapping[str, Array] | None = None,
    precision: str = "strict",
    elements: Mapping[str, str] | None = None,
) -> Unit:
    """`body(*inputs, weight)` returns the outputs y0, y1, ...; `weight(name)` is a constant tensor."""
    store = WeightStore()
    arrays = dict(weights or {})
    for name, array in arrays.items():
        store.add(name, array)
    with create_context(), ir.Location.unknown():
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):
            types = [tensor_type(shape, (elements or {}).get(name, "f32")) for name, shape in inputs.items()]
            function = func.FuncOp("main", (types, []))
            block = function.add_entry_block()
            with ir.InsertionPoint(block):

                def weight(name: str) -> ir.Value:
                    array = arrays[name]
                    return graph_builder.weight(name, array.shape, from_numpy(array.dtype).name)

                results = list(body(*block.arguments, weight))
                func.ReturnOp(results)
        operation = function.operation
        function_type = ir.FunctionType.get(types, [result.type for result in results])
        operation.attributes["function_type"] = ir.TypeAttr.get(function_type)
        operation.attributes["arg_attrs"] = _names(inputs)
        operation.attributes["res_attrs"] = _names([f"y{index}" for index in range(len(results))])
        verify(module)
    return Unit(module, store, precision=precision)


def _names(names: Sequence[str] | Mapping[str, object]) -> ir.Attribute:
    return ir.ArrayAttr.get([ir.DictAttr.get({"graph.name": ir.StringAttr.get(name)}) for name in names])


def check_passes(
    unit: Unit,
    inputs: Mapping[str, Array],
    passes: Sequence[Callable[[Unit], None]],
    tolerance: float = TOLERANCE,
) -> None:
    """Run the passes one by one; after each the IR is valid and the outputs are those of before."""
    expected = interpret(unit, inputs)
    for run in passes:
        run(unit)
        with unit.module.context, ir.Location.unknown():
            verify(unit.module)
        for name, array in interpret(unit, inputs).items():
            np.testing.assert_allclose(
                array.astype(np.float64),
                expected[name].astype(np.float64),
                rtol=tolerance,
                atol=tolerance * max(1.0, float(np.abs(expected[name]).max(initial=0))),
                err_msg=f"{name} after {run.__name__}",
            )


def count(unit: Unit, name: str) -> int:
    """How many operations of that name there are in @main, regions included."""
    with unit.module.context:
        main = functions(unit.module)["main"]
        return sum(operation.name == name for operation in inner_operations(main))


def kinds(unit: Unit) -> list[str]:
    """The kinds of the kernels that @main calls, in order."""
    with unit.module.context:
        everything = functions(unit.module)
        return [
            string(
                everything[ir.FlatSymbolRefAttr(operation.attributes["callee"]).value],
                "graph.kernel",
            )
            for operation in inner_operations(everything["main"])
            if operation.name == "func.call"
        ]


def softmax(tensor: ir.Value, axis: int) -> ir.Value:
    """As the importer decomposes it."""
    largest = graph_builder.reduce(tensor, "max", [axis])
    powers = graph_builder.map([tensor, largest], lambda x, top: (x - top).exp())
    total = graph_builder.reduce(powers, "sum", [axis])
    return graph_builder.map([powers, total], lambda x, sum_: x / sum_)


def layer_norm(tensor: ir.Value, axis: int, scale: ir.Value, offset: ir.Value) -> ir.Value:
    """As the importer decomposes it."""
    mean = graph_builder.mean(tensor, [axis])
    centred = graph_builder.map([tensor, mean], lambda x, m: x - m)
    variance = graph_builder.mean(graph_builder.map([centred], lambda x: x * x), [axis])
    return graph_builder.map([centred, variance, scale, offset], lambda x, v, s, b: x * (v + 1e-5).rsqrt() * s + b)


def noise(seed: int, *shape: int) -> Array:
    """Seeded normal float32 values."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)

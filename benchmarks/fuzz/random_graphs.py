"""From a seed to a valid random model and the data of its inputs, always the same.

In: a number. Out: a `RandomGraph`: the model, and input arrays for one or two sets of sizes. Why: a failure is a number
that anyone can repeat.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

from .graph_builder import LARGE_SIZES, GraphBuilder, Unfit, Value
from .operators import entries

GENERATOR = 2  # to be raised when seeds come to mean other graphs
OPSETS = (17, 18, 20, 21, 22, 23)
IR_VERSION = 10
ATTEMPTS = 60  # entries tried before a graph has to do with the nodes it got
MOST_OUTPUTS = 4
LARGE_SHARE = 0.12  # of the graphs have few nodes and tensors of several blocks and tiles
LARGE_ELEMENTS = 40_000

Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class RandomGraph:
    """A model and data: one dictionary of arrays for each set of sizes."""

    seed: int
    model: onnx.ModelProto
    data: tuple[Arrays, ...]
    operators: tuple[str, ...]


def random_graph(seed: int) -> RandomGraph:
    """The graph of a seed: 3 to 12 nodes; two sets of sizes where there are symbols."""
    rng = random.Random(seed)
    graph = GraphBuilder(rng, rng.choice(OPSETS), _bindings(rng))
    wanted = rng.randint(3, 12)
    if rng.random() < LARGE_SHARE:
        graph.most_elements, graph.numbers, wanted = LARGE_ELEMENTS, LARGE_SIZES, rng.randint(2, 5)
    table = entries(graph.opset)
    used: list[str] = []
    for entry in rng.choices(table, [entry.weight for entry in table], k=ATTEMPTS):
        if len(graph.nodes) >= wanted:
            break
        marks, finished = graph.mark(), len(graph.finished)
        try:
            entry.body(graph)
            used.append(entry.name)
        except Unfit:
            graph.take_back(marks)
            del graph.finished[finished:]
    model = finished_model(graph, seed)
    return RandomGraph(seed, model, drawn_data(graph, model, seed), tuple(used))


def _bindings(rng: random.Random) -> tuple[dict[str, int], ...]:
    """Sizes for no, one or two symbols: two sets of them."""
    names = ("n", "m")[: rng.choice((0, 0, 1, 1, 2))]
    if not names:
        return ({},)
    return tuple({name: rng.choice(sizes) for name in names} for sizes in ((2, 3, 5, 8), (1, 4, 7, 9, 16)))


def _outputs(graph: GraphBuilder) -> list[Value]:
    """What no node takes, and sometimes one more: values that others share are outputs too."""
    made = [value for value in graph.values if any(value.name in node.output for node in graph.nodes)]
    taken = {name for node in graph.nodes for name in node.input}
    leaves = [value for value in made if value.name not in taken]
    inner = [value for value in made if value.name in taken]
    chosen = leaves[-MOST_OUTPUTS:] + graph.rng.sample(inner, min(len(inner), graph.rng.choice((0, 0, 1))))
    listed = {value.name for value in chosen}
    return chosen + [value for value in graph.finished[-MOST_OUTPUTS:] if value.name not in listed]


def finished_model(graph: GraphBuilder, seed: int) -> onnx.ModelProto:
    """The model of what was built, without inputs and constants that nothing takes."""
    outputs = [_information(value, named=False) for value in _outputs(graph)]
    inputs = [_information(recipe.value, named=True) for recipe in graph.inputs]
    made = helper.make_graph(graph.nodes, f"seed_{seed}", inputs, outputs, graph.constants)
    opset = helper.make_opsetid("", graph.opset)
    model = helper.make_model(made, opset_imports=[opset], ir_version=IR_VERSION, producer_name="tilewright fuzz")
    used = {name for node in model.graph.node for name in _names(node)} | {value.name for value in model.graph.output}
    for kept in (model.graph.input, model.graph.initializer):
        unused = [item for item in kept if item.name not in used]
        for item in unused:
            kept.remove(item)
    return model


def _names(node: onnx.NodeProto) -> set[str]:
    """What a node takes, its bodies' captures among it."""
    found = set(node.input)
    for attribute in node.attribute:
        for inner in attribute.g.node:
            found |= _names(inner)
        found |= {value.name for value in attribute.g.output}
    return found


def _information(value: Value, named: bool) -> onnx.ValueInfoProto:
    """A declaration. Inputs name their symbolic sizes where ONNX can; of outputs only what is static is said."""
    sizes: list[int | str | None] = []
    for place, size in enumerate(value.shape):
        number = size.as_constant()
        symbol = size.as_symbol() or f"{value.name}_{place}"
        sizes.append(number if number is not None else symbol if named else None)
    return helper.make_tensor_value_info(value.name, helper.np_dtype_to_tensor_dtype(np.dtype(value.dtype)), sizes)


def drawn_data(graph: GraphBuilder, model: onnx.ModelProto, seed: int) -> tuple[Arrays, ...]:
    """Arrays for the model's inputs, for each set of sizes."""
    kept = {value.name for value in model.graph.input}
    sets = []
    for index, binding in enumerate(graph.bindings):
        generator = np.random.default_rng([seed, index])
        arrays = {}
        for recipe in graph.inputs:
            sizes = [size.evaluate(binding) for size in recipe.value.shape]
            drawn = recipe.draw(generator, sizes)
            if recipe.value.name in kept:
                arrays[recipe.value.name] = drawn
        sets.append(arrays)
    return tuple(sets)

"""From a failing graph to a small one that fails in the same way.

In: a model with data, and what failed. Out: a model of fewer nodes and smaller sizes. Nodes are cut away in front
(their values become inputs, with the data they had) and behind (an inner value becomes the only output); symbols
become numbers, and sizes shrink where the reference still runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from .cases import save_case
from .differential import trial_of
from .isolation import IsolatedWorker
from .reference import Arrays, Rejected, inner_values

MOST_TRIALS = 60
Check = Callable[[onnx.ModelProto, Arrays], bool]


def shrink_seed(kind: str, seed: int, verdict: dict[str, Any], worker: IsolatedWorker, folder: Path) -> Path:
    """Shrink the graph or motif of a seed by trials in a worker; the smallest failing case is written to `folder`."""
    made = trial_of(seed, kind)
    graph, options = made.graph, [made.target, made.precision, *["watched"] * made.is_watched]
    trial = folder.with_name(folder.name + "-trial")

    def fails(model: onnx.ModelProto, data: Arrays) -> bool:
        save_case(trial, model, [data], options)
        found = worker.run({"what": "case", "folder": str(trial)})
        return bool(found["kind"] == verdict["kind"] and _same(found["message"], verdict["message"], verdict["kind"]))

    model, data = graph.model, list(graph.data)
    for arrays in graph.data:
        if fails(graph.model, arrays):
            smallest, left = shrink(graph.model, arrays, fails)
            model, data = smallest, [left]
            break
    save_case(folder, model, data, options, f"seed {seed}: {verdict['kind']}: {verdict['message']}\n")
    return folder


def _same(left: str, right: str, kind: str) -> bool:
    """Whether two messages tell of one fault: by their first words, for they name other nodes. Differences differ."""
    if kind in ("difference", "crash", "hang"):
        return True
    return _words(left) == _words(right)


def _words(message: str) -> list[str]:
    return re.findall(r"[A-Za-z_]{3,}", message)[:6]


def shrink(model: onnx.ModelProto, data: Arrays, fails: Check) -> tuple[onnx.ModelProto, Arrays]:
    """The smallest that the trials found."""
    budget = [MOST_TRIALS]

    def attempt(candidate: tuple[onnx.ModelProto, Arrays] | None) -> bool:
        if candidate is None or budget[0] <= 0:
            return False
        budget[0] -= 1
        return fails(*candidate)

    changed = True
    while changed and budget[0] > 0:
        changed = False
        for candidates in (_single_outputs, _cut_in_front, _smaller):
            for candidate in candidates(model, data):
                if attempt(candidate):
                    model, data = candidate
                    changed = True
                    break
    return model, data


def _values(model: onnx.ModelProto, data: Arrays) -> Arrays:
    try:
        return inner_values(model, data)
    except Rejected:
        return {}


def _single_outputs(model: onnx.ModelProto, data: Arrays) -> list[tuple[onnx.ModelProto, Arrays]]:
    """One value as the only output, in the order of the nodes."""
    values = _values(model, data)
    names = [name for node in model.graph.node for name in node.output if name in values]
    if len(model.graph.output) == 1:
        names = [name for name in names if name != model.graph.output[0].name]
    return [_reduced(model, data, values, outputs=[name]) for name in names]


def _cut_in_front(model: onnx.ModelProto, data: Arrays) -> list[tuple[onnx.ModelProto, Arrays]]:
    """One node less: its outputs become inputs. Late nodes first, which cuts most."""
    values = _values(model, data)
    nodes = list(model.graph.node)
    if len(nodes) < 2:
        return []
    return [
        _reduced(model, data, values, without=place)
        for place in reversed(range(len(nodes)))
        if all(name in values for name in nodes[place].output if name)
        and not any(name == value.name for name in nodes[place].output for value in model.graph.output)
    ]


def _reduced(
    model: onnx.ModelProto, data: Arrays, values: Arrays, outputs: list[str] | None = None, without: int | None = None
) -> tuple[onnx.ModelProto, Arrays]:
    """The model of what its outputs need, with static shapes."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    nodes = [node for place, node in enumerate(graph.node) if place != without]
    wanted = outputs or [value.name for value in graph.output]
    needed, kept = set(wanted), []
    for node in reversed(nodes):
        if needed & set(node.output):
            kept.append(node)
            needed |= _taken(node)
    kept.reverse()
    produced = {name for node in kept for name in node.output}
    constants = [tensor for tensor in graph.initializer if tensor.name in needed]
    given = {tensor.name for tensor in constants} | produced
    open_names = sorted(name for name in needed - given if name in values)
    arrays = {name: values[name] for name in open_names}
    made = helper.make_graph(
        kept,
        graph.name,
        [_declared(name, arrays[name], static=True) for name in open_names],
        [_declared(name, values[name], static=False) for name in wanted if name in values],
        constants,
    )
    copy.graph.CopyFrom(made)
    return copy, arrays


def _declared(name: str, array: Any, static: bool) -> onnx.ValueInfoProto:
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    return helper.make_tensor_value_info(name, kind, list(array.shape) if static else [None] * array.ndim)


def _taken(node: onnx.NodeProto) -> set[str]:
    found = set(node.input)
    for attribute in node.attribute:
        for inner in attribute.g.node:
            found |= _taken(inner)
        found |= {value.name for value in attribute.g.output}
    return found


def _smaller(model: onnx.ModelProto, data: Arrays) -> list[tuple[onnx.ModelProto, Arrays]]:
    """Every size of one number halved or made 1, wherever inputs and constants have it."""
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    sizes = {size for array in (*data.values(), *constants.values()) for size in array.shape if size > 1}
    found = []
    for size in sorted(sizes, reverse=True):
        for less in sorted({1, 2, size // 2}):
            if less >= size:
                continue
            candidate = _resized(model, data, constants, size, less)
            values = _values(*candidate)
            if values and all(array.size for array in values.values()):  # empty tensors are another matter
                found.append(candidate)
    return found


def _resized(
    model: onnx.ModelProto, data: Arrays, constants: Arrays, size: int, less: int
) -> tuple[onnx.ModelProto, Arrays]:
    def cut(array: Any) -> Any:
        return np.ascontiguousarray(array[tuple(slice(less if extent == size else None) for extent in array.shape)])

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    arrays = {name: cut(array) for name, array in data.items()}
    del copy.graph.input[:]
    copy.graph.input.extend(_declared(name, array, static=True) for name, array in arrays.items())
    del copy.graph.initializer[:]
    for name, array in constants.items():
        copy.graph.initializer.append(
            onnx.numpy_helper.from_array(cut(array) if array.dtype.kind == "f" else array, name)
        )
    return copy, arrays

"""Scatter operators with indices that depend on data, on the emulator, against a loop over the updates in order.

What meets at one place is defined: the last update in index order, or all of them combined.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper

import tilewright

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(5)
COMBINE = {"none": lambda a, b: b, "add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}
SHAPES = {"ScatterElements": ["a", "b"], "ScatterND": ["a", "b", "c"]}


def scattered(operator: str, data: Array, indices: Array, updates: Array, reduction: str, axis: int = 0) -> Array:
    """The operator by definition: one update after the other."""
    result = data.astype(np.float64 if data.dtype.kind in "fV" else data.dtype)
    combine = COMBINE[reduction]
    if operator == "ScatterND":
        for place in np.ndindex(indices.shape[:-1]):
            target = tuple(indices[place])
            result[target] = combine(result[target], updates[place])
        return result
    for place in np.ndindex(indices.shape):
        target = (*place[:axis], int(indices[place]), *place[axis + 1 :])
        result[target] = combine(result[target], updates[place])
    return result


def run(operator: str, data: Array, indices: Array, updates: Array, **attributes: Any) -> Array:
    """One node, all of whose inputs are inputs of the model, with dynamic dimensions."""
    inputs = {"data": data, "indices": indices, "updates": updates}
    given = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(array.dtype), [f"{name}{axis}" for axis in range(array.ndim)]
        )
        for name, array in inputs.items()
    ]
    if operator == "ScatterND":
        given[1].type.tensor_type.shape.dim[indices.ndim - 1].dim_value = indices.shape[-1]
    wanted = [helper.make_tensor_value_info("y", helper.np_dtype_to_tensor_dtype(data.dtype), None)]
    node = helper.make_node(operator, list(inputs), ["y"], **attributes)
    graph = helper.make_graph([node], "scatter", given, wanted)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    with tilewright.compile(model).session("emulator", checked=True) as session:
        return session.run(inputs)["y"]


def values(kind: Any, *shape: int) -> Array:
    """Small numbers of both signs; products of a few of them are exact in every type but float16."""
    low = 0 if np.dtype(kind).kind == "u" else -2
    return np.where((found := RNG.integers(low, 3, shape)) == 0, 1, found).astype(kind)


KINDS = ["float32", "float64", "float16", "bfloat16", "int8", "uint8", "int32", "uint32", "int64", "uint64"]


def dtype_of(kind: str) -> Any:
    return ml_dtypes.bfloat16 if kind == "bfloat16" else np.dtype(kind)


@pytest.mark.parametrize("reduction", COMBINE)
@pytest.mark.parametrize("operator", SHAPES)
def test_many_updates_meet(operator: str, reduction: str) -> None:
    kind = KINDS[(list(COMBINE).index(reduction) * 3 + list(SHAPES).index(operator)) % len(KINDS)]
    for name in {"float32", kind}:
        data = values(dtype_of(name), 7, 5)
        if operator == "ScatterND":
            indices, updates = RNG.integers(-7, 7, (3, 4, 1)), values(data.dtype, 3, 4, 5)
        else:
            indices, updates = RNG.integers(-7, 7, (9, 4)), values(data.dtype, 9, 4)
        got = run(operator, data, indices, updates, reduction=reduction)
        # Numbers like these are exact in every type: sums of at most 12, products of powers of two.
        wanted = scattered(operator, data, indices, updates, reduction).astype(data.dtype)
        np.testing.assert_array_equal(got, wanted, err_msg=f"{operator} {reduction} {name}")


@pytest.mark.parametrize("axis", [0, 1])
def test_the_last_of_many_updates_wins(axis: int) -> None:
    """More updates than a block has threads, all to one place."""
    data = np.zeros((3, 3), np.float32)
    shape = (300, 2) if axis == 0 else (2, 300)
    updates = np.arange(600, dtype=np.float32).reshape(shape)
    got = run("ScatterElements", data, np.ones(shape, np.int64), updates, axis=axis)
    np.testing.assert_array_equal(got, scattered("ScatterElements", data, np.ones(shape, int), updates, "none", axis))


def test_deep_index_tuples() -> None:
    data, updates = values("f4", 3, 4, 5), values("f4", 6, 5)
    indices = np.stack([RNG.integers(0, 3, 6), RNG.integers(-4, 4, 6)], 1)
    got = run("ScatterND", data, indices, updates)
    np.testing.assert_array_equal(got, scattered("ScatterND", data, indices, updates, "none"))


@pytest.mark.parametrize("reduction", ["none", "add", "max"])
def test_indices_outside_the_data_are_left_out(reduction: str) -> None:
    """ONNX forbids them; whatever a model does, nothing else is overwritten."""
    data = values("f4", 4, 2)
    got = run("ScatterND", data, np.array([[4], [-5], [1 << 40]]), values("f4", 3, 2), reduction=reduction)
    np.testing.assert_array_equal(got, data)


def test_no_updates() -> None:
    data = values("f4", 4, 2)
    for reduction in ("none", "add", "min"):
        got = run("ScatterND", data, np.zeros((0, 1), int), np.zeros((0, 2), "f4"), reduction=reduction)
        np.testing.assert_array_equal(got, data)


def test_extremes_of_special_values() -> None:
    data = np.array([[1, -np.inf, 3, np.nan, -0.0, 2]], np.float32)
    updates = np.array([[-np.inf, np.inf, np.nan, 5, 0.0, -3e38]], np.float32)
    indices = np.zeros((1, 6), np.int64)
    for reduction in ("max", "min"):
        got = run("ScatterElements", data, indices, updates, reduction=reduction)
        np.testing.assert_array_equal(got, COMBINE[reduction](data, updates))


def test_one_element() -> None:
    """A constant of one element stands in no buffer of its own unless a scatter starts from it."""
    node = helper.make_node("ScatterElements", ["one", "i", "u"], ["y"], reduction="add")
    given = [helper.make_tensor_value_info("i", 7, ["n"]), helper.make_tensor_value_info("u", 1, ["n"])]
    one = onnx.numpy_helper.from_array(np.array([5], np.float32), "one")
    graph = helper.make_graph([node], "one", given, [helper.make_tensor_value_info("y", 1, [1])], [one])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    with tilewright.compile(model).session("emulator", checked=True) as session:
        got = session.run({"i": np.zeros(3, np.int64), "u": np.array([1, 2, 3], np.float32)})["y"]
    np.testing.assert_array_equal(got, [11])

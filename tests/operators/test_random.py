"""Random numbers: Philox's published answers, distributions, and the same numbers in every run."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tilewright.compiler.frontend import import_model
from tilewright.passes.graph.interpret import interpret

COUNT = 20000
FIRST_WORD = 0x6627E8D5  # of philox4x32-10 with counter and key zero: kat_vectors of Random123


def drawn(operator: str, inputs: list[Any] | None = None, **attributes: Any) -> Any:
    """What one node without a name gives."""
    arrays = {f"i{place}": np.asarray(array) for place, array in enumerate(inputs or [])}
    node = helper.make_node(operator, list(arrays), ["y"], **attributes)
    given = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in arrays.items()
    ]
    graph = helper.make_graph([node], "random", given, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    results = [interpret(import_model(model), arrays)["y"] for _ in range(2)]
    np.testing.assert_array_equal(*results)
    return results[0]


def test_the_published_answer() -> None:
    first = drawn("RandomUniform", shape=[4], seed=0.0)[0]
    assert first == np.float32((FIRST_WORD >> 8) * 2.0**-24)


def test_uniform_numbers() -> None:
    values = drawn("RandomUniform", shape=[COUNT], low=-1.0, high=3.0, seed=5.0)
    assert values.min() >= -1 and values.max() < 3
    # Five standard errors of the mean and of the shares of ten equal bins.
    assert abs(values.mean() - 1) < 5 * (4 / 12**0.5) / COUNT**0.5
    shares = np.histogram(values, 10, (-1, 3))[0] / COUNT
    assert np.abs(shares - 0.1).max() < 5 * (0.09 / COUNT) ** 0.5


def test_normal_numbers() -> None:
    values = drawn("RandomNormal", shape=[COUNT // 2, 2], mean=2.0, scale=3.0, seed=1.0)
    assert abs(values.mean() - 2) < 5 * 3 / COUNT**0.5
    assert abs(values.std() - 3) < 5 * 3 / (2 * COUNT) ** 0.5
    assert abs(np.corrcoef(values.T)[0, 1]) < 5 / (COUNT // 2) ** 0.5


def test_seeds_differ() -> None:
    one, two = (drawn("RandomUniform", shape=[100], seed=seed) for seed in (1.0, 2.0))
    assert not np.isin(one, two).any()


def test_bernoulli() -> None:
    probabilities = np.repeat(np.array([0.0, 0.2, 1.0], np.float32), COUNT)
    values = drawn("Bernoulli", [probabilities], seed=3.0).reshape(3, COUNT)
    assert not values[0].any() and values[2].all()
    assert abs(values[1].mean() - 0.2) < 5 * (0.16 / COUNT) ** 0.5


def test_multinomial() -> None:
    logits = np.log(np.array([[0.1, 0.6, 0.3]], np.float32))
    values = drawn("Multinomial", [logits], sample_size=COUNT, seed=2.0)
    assert values.dtype == np.int32
    shares = np.bincount(values[0], minlength=3) / COUNT
    np.testing.assert_allclose(shares, [0.1, 0.6, 0.3], atol=5 * (0.24 / COUNT) ** 0.5)


def test_dropout_in_training() -> None:
    x = np.full(COUNT, 2.0, np.float32)
    node = helper.make_node("Dropout", ["x", "ratio", "training"], ["y", "mask"], seed=9)
    constants = {"ratio": np.array(0.25, np.float32), "training": np.array(True)}
    initializers = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
    wanted = [
        helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
        helper.make_tensor_value_info("mask", TensorProto.BOOL, None),
    ]
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [COUNT])]
    graph = helper.make_graph([node], "dropout", given, wanted, initializers)
    results = interpret(import_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])), {"x": x})
    np.testing.assert_array_equal(results["y"], np.where(results["mask"], np.float32(2 / 0.75), 0))
    assert abs(results["mask"].mean() - 0.75) < 5 * (0.1875 / COUNT) ** 0.5

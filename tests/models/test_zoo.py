"""The models themselves: seeded weights are the same everywhere, and hollowing loses only values."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.checker
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.support.seeded_weights import fill, hollow
from tests.support.zoo import GRAPHS, LIGHT


def small_model() -> onnx.ModelProto:
    weight = numpy_helper.from_array(np.ones((8, 3, 3, 3), np.float32), "weight")
    node = helper.make_node("Conv", ["x", "weight"], ["y"])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, 6, 6])
    return helper.make_model(helper.make_graph([node], "g", [x], [y], [weight]))


def weights(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_hollow_then_fill_keeps_the_graph() -> None:
    model = small_model()
    emptied = hollow(model)
    assert emptied.ByteSize() < model.ByteSize()
    filled = fill(emptied)
    onnx.checker.check_model(filled)
    assert [node.op_type for node in filled.graph.node] == ["Conv"]
    assert weights(filled)["weight"].shape == (8, 3, 3, 3)
    assert weights(filled)["weight"].std() == pytest.approx(np.sqrt(2 / 27), rel=0.2)  # He: 216 samples


def test_values_depend_on_name_and_seed_only() -> None:
    emptied = hollow(small_model())
    first, again, other = weights(fill(emptied)), weights(fill(emptied)), weights(fill(emptied, seed=1))
    np.testing.assert_array_equal(first["weight"], again["weight"])
    assert np.abs(first["weight"] - other["weight"]).max() > 0.1


@pytest.mark.parametrize("path", sorted(GRAPHS.glob("*.onnx")), ids=lambda path: path.stem)
def test_committed_graphs_are_small_and_valid(path: object) -> None:
    model = onnx.load(str(path))
    assert model.ByteSize() < 100_000
    onnx.checker.check_model(fill(model), full_check=True)


def test_variances_are_never_near_zero() -> None:
    model = fill(onnx.load(LIGHT / "light_shufflenet.onnx"))
    values = weights(model)
    norms = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    assert norms
    assert min(values[node.input[4]].min() for node in norms) >= 0.5

"""If as exporters write it: branches of different ranks, and branches that fit other sizes than their neighbour.

In: models with free dimensions, compiled once. Out: what numpy says for the sizes that fit, an error for others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import tilewright
from tilewright.runtime.engine import Engine
from tilewright.runtime.errors import ModelError
from tilewright.runtime.program import If

Array = np.ndarray[Any, Any]


def constant(name: str, value: Any) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=onnx.numpy_helper.from_array(np.asarray(value), name))


def branch(name: str, *nodes: onnx.NodeProto) -> onnx.GraphProto:
    output = helper.make_empty_tensor_value_info(nodes[-1].output[0])
    return helper.make_graph(list(nodes), name, [], [output])


def compiled(nodes: list[onnx.NodeProto], shape: list[Any], output: str, **others: int) -> Engine:
    """An engine with the input `x` of that shape and 0-d inputs of other element types."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    inputs += [helper.make_tensor_value_info(name, kind, []) for name, kind in others.items()]
    graph = helper.make_graph(nodes, "branches", inputs, [helper.make_empty_tensor_value_info(output)])
    return tilewright.compile(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def squeezed(negated: bool) -> list[onnx.NodeProto]:
    """torch's x.squeeze(1): Squeeze where the dimension is 1, else nothing; then something of a known rank."""
    squeeze = branch("squeeze", helper.make_node("Squeeze", ["x", "axis"], ["short"]))
    keep = branch("keep", helper.make_node("Identity", ["x"], ["same"]))
    turn = [helper.make_node("Not", ["is_one"], ["condition"])] if negated else []
    first, second = (keep, squeeze) if negated else (squeeze, keep)
    return [
        constant("axis", [1]), constant("one", [1]),
        helper.make_node("Shape", ["x"], ["shape"]), helper.make_node("Gather", ["shape", "axis"], ["size"]),
        helper.make_node("Equal", ["size", "one"], ["is_one"]), *turn,
        helper.make_node("If", ["condition" if negated else "is_one"], ["y"], then_branch=first, else_branch=second),
        helper.make_node("Transpose", ["y"], ["z"], perm=[1, 0]),
    ]  # fmt: skip


@pytest.mark.parametrize("negated", [False, True])
def test_branches_of_different_ranks_assume_the_size(negated: bool) -> None:
    engine = compiled(squeezed(negated), ["n", "c", "w"], "z")
    assert not any(isinstance(instruction, If) for instruction in engine.program.instructions)
    with engine.session("emulator") as session:
        x = np.arange(6, dtype=np.float32).reshape(2, 1, 3)
        np.testing.assert_array_equal(session.run({"x": x})["z"], x[:, 0].T)
        with pytest.raises(ModelError, match="dimension 1 should be 1"):
            session.run({"x": x.reshape(2, 3, 1)})


def test_a_branch_needs_its_sizes_only_where_it_is_taken() -> None:
    fold = [
        branch(f"by{width}", constant(f"s{width}", [-1, width]), helper.make_node("Reshape", ["x", f"s{width}"], [out]),
               helper.make_node("ReduceMax", [out], [f"{out}_row"], axes=[0], keepdims=0),
               helper.make_node("ReduceSum", [f"{out}_row"], [f"{out}_sum"], keepdims=0))
        for width, out in ((4, "a"), (3, "b"))
    ]  # fmt: skip
    engine = compiled(
        [helper.make_node("If", ["c"], ["y"], then_branch=fold[0], else_branch=fold[1])], ["n"], "y", c=TensorProto.BOOL
    )
    x = np.random.default_rng(0).standard_normal(12).astype(np.float32)
    with engine.session("emulator") as session:
        for length, taken, width in ((8, True, 4), (9, False, 3), (12, True, 4), (12, False, 3)):
            y = session.run({"x": x[:length], "c": np.array(taken)})["y"]
            np.testing.assert_allclose(y, x[:length].reshape(-1, width).max(0).sum(), rtol=1e-6)  # at most 4 terms
        with pytest.raises(ModelError, match="the branch needs"):
            session.run({"x": x[:9], "c": np.array(True)})


def test_the_last_of_a_symbolic_number() -> None:
    """x[-s:] where s is a size, as relative positions of a decoder are cut."""
    nodes = [
        constant("axis", [0]), constant("far", [np.iinfo(np.int64).max]),
        helper.make_node("Concat", ["x", "x"], ["twice"], axis=0),
        helper.make_node("Shape", ["x"], ["size"]), helper.make_node("Neg", ["size"], ["start"]),
        helper.make_node("Slice", ["twice", "start", "far", "axis"], ["y"]),
    ]  # fmt: skip
    engine = compiled(nodes, ["s"], "y")
    assert str(engine.outputs[0].shape[0]) == "s"
    with engine.session("emulator") as session:
        x = np.arange(5, dtype=np.float32)
        np.testing.assert_array_equal(session.run({"x": x})["y"], x)
        with pytest.raises(ModelError, match="do not fit together"):
            session.run({"x": x[:0]})

"""Normalisations of few long lines in three kernels: what stands in front is the same in the parts."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tilewright.compiler.compilation import Compilation, Options
from tilewright.compiler.pipeline import run_pipeline
from tilewright.passes.graph.interpret import interpret


def test_a_map_that_asks_where_it_is_keeps_its_shape() -> None:
    """A triangle is cut out of rows of 16384, which the parts would count otherwise."""
    constants = {
        "k": np.array(0), "shape": np.array([1, 4, 64, 16384]), "axes": np.array([1, 2, 3]),
        "eps": np.array(1e-5, np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("Trilu", ["x", "k"], ["half"], upper=0),
        helper.make_node("Expand", ["half", "shape"], ["all"]),
        helper.make_node("Cast", ["all"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["wide", "axes"], ["mean"]),
        helper.make_node("Sub", ["wide", "mean"], ["d"]),
        helper.make_node("Mul", ["d", "d"], ["dd"]),
        helper.make_node("ReduceMean", ["dd", "axes"], ["v"]),
        helper.make_node("Add", ["v", "eps"], ["ve"]),
        helper.make_node("Sqrt", ["ve"], ["root"]),
        helper.make_node("Div", ["d", "root"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "triangle",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, [1, 1, 64, 16384])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 64, 16384])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    compilation = Compilation(Options(target="sm_90a"), model)
    run_pipeline(compilation, last="merge-maps")
    reduced = str(compilation.unit.module).count('"graph.reduce"')
    run_pipeline(compilation, first="split-reductions", last="split-reductions")
    assert str(compilation.unit.module).count('"graph.reduce"') > reduced  # it was split
    x = (np.random.default_rng(0).standard_normal((1, 1, 64, 16384)) + 1).astype(np.float16)
    wide = np.broadcast_to(np.tril(x.astype(np.float64)), (1, 4, 64, 16384))
    centred = wide - wide.mean()
    (found,) = interpret(compilation.unit, {"x": x}).values()
    # Answers reach some 60, of which f32 keeps 4e-6; the sums behind the scale cost a few units more. Wrong parts are
    # off by as much as the answers.
    np.testing.assert_allclose(found, centred / np.sqrt((centred**2).mean() + 1e-5), rtol=0, atol=1e-4)

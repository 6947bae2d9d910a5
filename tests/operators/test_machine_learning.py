"""Operators of ai.onnx.ml as exporters of scikit-learn write them, against onnxruntime: on the interpreter, one case of
each on the emulator.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

import tilewright
from tilewright.compiler.frontend import import_model
from tilewright.passes.graph.interpret import interpret

Array = np.ndarray[Any, Any]
KINDS = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int64): TensorProto.INT64}
KINDS[np.dtype(object)] = TensorProto.STRING
TRANSFORMS = ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO")


def check(nodes: list[onnx.NodeProto], inputs: dict[str, Array], outputs: list[str], emulated: bool) -> None:
    """Outputs are those of onnxruntime, for a number of rows that the model leaves open."""
    given = [
        helper.make_tensor_value_info(name, KINDS[x.dtype], ["rows", *x.shape[1:]]) for name, x in inputs.items()
    ]
    wanted = [helper.make_empty_tensor_value_info(name) for name in outputs]
    versions = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    graph = helper.make_graph(nodes, "learnt", given, wanted)
    model = helper.make_model(graph, opset_imports=versions, ir_version=8)
    reference = onnxruntime.InferenceSession(model.SerializeToString()).run(outputs, inputs)
    results = [interpret(import_model(model), inputs)]
    if emulated:
        with tilewright.compile(model).session("emulator", checked=True) as session:
            results.append(session.run(inputs))
    for result in results:
        for name, want in zip(outputs, reference, strict=True):
            compared(result[name], want)


def compared(got: Any, want: Any) -> None:
    if isinstance(want, list):  # of dictionaries
        assert [list(row) for row in got] == [list(row) for row in want]
        np.testing.assert_allclose([list(row.values()) for row in got], [list(row.values()) for row in want], rtol=1e-5)
    elif want.dtype.kind in "iOU":
        np.testing.assert_array_equal(got, want)
    else:
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-6)  # sums of f32 in another order, then exp


def learnt(operator: str, outputs: int = 1, **attributes: Any) -> onnx.NodeProto:
    names = ["label", "scores"][:outputs] if outputs > 1 else ["scores"]
    return helper.make_node(operator, ["x"], names, domain="ai.onnx.ml", **attributes)


def features(rows: int = 9, columns: int = 4) -> Array:
    return np.random.default_rng(1).normal(size=(rows, columns)).astype(np.float32)


def trees(side: str, targets: int, weights: tuple[float, float], ids: int | None = None) -> dict[str, Any]:
    """Tables of five random trees of depth three: every leaf has a weight for each target, or only for `ids`."""
    rng = np.random.default_rng(7)
    nodes: dict[str, list[Any]] = {name: [] for name in ("treeids", "nodeids", "featureids", "values", "modes",
                                                         "truenodeids", "falsenodeids")}  # fmt: skip
    leaves: dict[str, list[Any]] = {name: [] for name in ("treeids", "nodeids", "ids", "weights")}
    modes = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]
    for tree in range(5):
        for place in range(15):
            inner = place < 7
            row = (tree, place, int(rng.integers(4)), float(rng.normal()), modes[tree] if inner else "LEAF",
                   2 * place + 1 if inner else 0, 2 * place + 2 if inner else 0)  # fmt: skip
            for column, value in zip(nodes.values(), row, strict=True):
                column.append(value)
            for target in () if inner else range(targets) if ids is None else [ids]:
                leaf = (tree, place, target, float(rng.uniform(*weights)))
                for column, value in zip(leaves.values(), leaf, strict=True):
                    column.append(value)
    return {f"nodes_{name}": value for name, value in nodes.items()} | {
        f"{side}_{name}": value for name, value in leaves.items()
    }


@pytest.mark.parametrize("kind", ["SUM", "AVERAGE", "MIN", "MAX"])
def test_tree_regressors(kind: str) -> None:
    tables = trees("target", 2, (-1.0, 1.0))
    node = learnt("TreeEnsembleRegressor", n_targets=2, aggregate_function=kind, base_values=[0.5, -1.0], **tables)
    check([node], {"x": features()}, ["scores"], kind == "SUM")


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("labels", [{"classlabels_int64s": [3, 5, 9]}, {"classlabels_strings": ["a", "b", "ß"]}])
def test_tree_classifiers(labels: dict[str, Any], transform: str) -> None:
    tables = trees("class", 3, (0.0, 1.0))
    node = learnt("TreeEnsembleClassifier", 2, post_transform=transform, **labels, **tables)
    check([node], {"x": features()}, ["label", "scores"], transform == "LOGISTIC")


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("weights", [(0.0, 0.2), (-1.0, 1.0)], ids=str)
def test_trees_with_one_score_for_two_classes(weights: tuple[float, float], transform: str) -> None:
    """As boosting gives it: probabilities, which are compared with a half, or margins, which are compared with 0."""
    tables = trees("class", 2, weights, ids=0)
    labels = {"classlabels_int64s": [4, 8]}
    node = learnt("TreeEnsembleClassifier", 2, post_transform=transform, **labels, **tables)
    check([node], {"x": features()}, ["label", "scores"], False)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("classes", [1, 2, 3])
def test_linear_classifiers(classes: int, transform: str) -> None:
    rng = np.random.default_rng(3)
    node = learnt(
        "LinearClassifier", 2, coefficients=rng.normal(size=4 * classes).tolist(),
        intercepts=rng.normal(size=classes).tolist(), post_transform=transform,
        classlabels_ints=list(range(10, 10 + max(classes, 2))),
    )  # fmt: skip
    check([node], {"x": features()}, ["label", "scores"], classes == 3 and transform == "SOFTMAX")


def test_quantiles_of_scores() -> None:
    """Of probabilities: outside of (0, 1) there are none."""
    node = learnt("LinearRegressor", coefficients=[0.1, 0.2, 0.3, 0.2] * 2, targets=2, post_transform="PROBIT")
    check([node], {"x": np.random.default_rng(2).random((9, 4), np.float32)}, ["scores"], True)


def test_linear_regressors() -> None:
    weights = np.random.default_rng(3).normal(size=8).tolist()
    check([learnt("LinearRegressor", coefficients=weights, intercepts=[0.5, -2.0], targets=2)],
          {"x": features()}, ["scores"], True)  # fmt: skip


@pytest.mark.parametrize("kernel", ["LINEAR", "POLY", "RBF", "SIGMOID"])
def test_support_vector_regressors(kernel: str) -> None:
    rng = np.random.default_rng(3)
    node = learnt(
        "SVMRegressor", kernel_type=kernel, kernel_params=[0.3, 0.5, 3.0], n_supports=6, rho=[0.25],
        support_vectors=rng.normal(size=24).tolist(), coefficients=rng.normal(size=6).tolist(),
    )  # fmt: skip
    check([node], {"x": features()}, ["scores"], kernel == "RBF")


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("counts", [[3, 2], [2, 3, 4], [1, 2, 2, 3]], ids=len)
def test_support_vector_classifiers(counts: list[int], calibrated: bool, transform: str) -> None:
    rng = np.random.default_rng(3)
    classes, vectors = len(counts), sum(counts)
    pairs = classes * (classes - 1) // 2
    labels = {"classlabels_ints": [7, 5, 9, 2][:classes]} if classes != 3 else {"classlabels_strings": ["x", "y", "z"]}
    chances = {"prob_a": (-rng.random(pairs)).tolist(), "prob_b": rng.normal(size=pairs).tolist()} if calibrated else {}
    node = learnt(
        "SVMClassifier", 2, kernel_type="RBF", kernel_params=[0.3, 0.5, 3.0], vectors_per_class=counts,
        support_vectors=rng.normal(size=4 * vectors).tolist(), rho=(0.1 * rng.normal(size=pairs)).tolist(),
        coefficients=rng.normal(size=(classes - 1) * vectors).tolist(), post_transform=transform, **labels, **chances,
    )  # fmt: skip
    check([node], {"x": features()}, ["label", "scores"], classes == 3 and transform == "NONE")


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("classes", [2, 3])
def test_support_vector_classifiers_that_are_linear(classes: int, positive: bool) -> None:
    weights = np.random.default_rng(3).normal(size=4 * classes)
    node = learnt(
        "SVMClassifier", 2, coefficients=(np.abs(weights) if positive else weights).tolist(), rho=[-0.2],
        classlabels_ints=[7, 5, 9][:classes], post_transform="LOGISTIC", kernel_type="LINEAR", kernel_params=[0.0] * 3,
    )  # fmt: skip
    check([node], {"x": features()}, ["label", "scores"], False)


def test_features_side_by_side() -> None:
    node = helper.make_node("FeatureVectorizer", ["a", "b"], ["y"], domain="ai.onnx.ml", inputdimensions=[2, 3])
    check([node], {"a": features(5, 2), "b": features(5, 3)}, ["y"], True)


def test_categories() -> None:
    """Of numbers and of text, known and unknown."""
    texts = np.array([["b"], ["a"], ["?"], ["b"]], object)
    numbers = np.array([[2], [7], [3], [2]], np.int64)
    pairs = {"cats_strings": ["a", "b"], "cats_int64s": [3, 7]}
    nodes = [
        helper.make_node("OneHotEncoder", ["t"], ["hot_t"], domain="ai.onnx.ml", cats_strings=["a", "b"]),
        helper.make_node("OneHotEncoder", ["n"], ["hot_n"], domain="ai.onnx.ml", cats_int64s=[7, 2, 1]),
        helper.make_node("CategoryMapper", ["t"], ["number"], domain="ai.onnx.ml", default_int64=-5, **pairs),
        helper.make_node("CategoryMapper", ["n"], ["text"], domain="ai.onnx.ml", default_string="none", **pairs),
    ]
    check(nodes, {"t": texts, "n": numbers}, ["hot_t", "hot_n", "number", "text"], True)


def test_a_pipeline_that_ends_in_dictionaries() -> None:
    """Scaled features, a classifier, and ZipMap, as a scikit-learn pipeline is exported."""
    rng = np.random.default_rng(3)
    nodes = [
        helper.make_node("Scaler", ["x"], ["scaled"], domain="ai.onnx.ml", offset=[0.5] * 4, scale=[2.0] * 4),
        helper.make_node(
            "LinearClassifier", ["scaled"], ["label", "raw"], domain="ai.onnx.ml", post_transform="SOFTMAX",
            coefficients=rng.normal(size=12).tolist(), intercepts=[0.1, 0.2, 0.3], classlabels_strings=["x", "y", "z"],
        ),
        helper.make_node("Normalizer", ["raw"], ["scores"], domain="ai.onnx.ml", norm="L1"),
        helper.make_node("ZipMap", ["scores"], ["rows"], domain="ai.onnx.ml", classlabels_strings=["x", "y", "z"]),
    ]  # fmt: skip
    check(nodes, {"x": features()}, ["label", "rows"], True)


def test_a_transformation_that_is_refused() -> None:
    node = learnt("LinearRegressor", coefficients=[1.0] * 4, post_transform="CUBE")
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 4])
    graph = helper.make_graph([node], "learnt", [value], [helper.make_empty_tensor_value_info("scores")])
    versions = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    with pytest.raises(tilewright.UnsupportedError, match="LinearRegressor with post_transform CUBE"):
        import_model(helper.make_model(graph, opset_imports=versions, ir_version=8))

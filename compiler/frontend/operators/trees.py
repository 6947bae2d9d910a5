"""Tree ensembles of ai.onnx.ml: the operator that has them all, and the classifier and the regressor before it.

In: features [N, F] and tables of nodes. Out: what the leaves that a row reaches add up to. A row walks a tree by
looking its nodes up, one step a level; all rows and trees walk at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
from mlir import ir

from ....dialects import graph_builder as build
from ....dialects.scalar import Scalar
from ....runtime.errors import ModelError
from ..errors import Unsupported
from ..node import Node
from ..registry import onnx_operator
from ..tensor import Tensor
from .class_labels import labelled, labels_of, post_transformed, two_classes

DOMAIN = "ai.onnx.ml"
MODES = ("leq", "lt", "gte", "gt", "eq", "neq", "member")  # the numbers of the operator's modes
BRANCHES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")  # the same before them
MEMBER = MODES.index("member")
EQUAL = MODES.index("eq")
AGGREGATIONS = ("average", "sum", "min", "max")
DEEPEST = 64


@dataclass
class Forest:
    """Nodes of all trees as columns; a leaf leads to itself. `roots` are node numbers."""

    feature: list[int] = field(default_factory=list)
    split: list[float] = field(default_factory=list)
    mode: list[int] = field(default_factory=list)
    yes: list[int] = field(default_factory=list)
    no: list[int] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)  # 1: a NaN takes the yes branch
    leaf: list[int] = field(default_factory=list)  # its number among the leaves, -1: not a leaf
    weights: list[dict[int, float]] = field(default_factory=list)  # of every leaf, by target
    roots: list[int] = field(default_factory=list)

    def add(self, feature: int = 0, split: float = 0.0, mode: int = 0, missing: int = 0) -> int:
        """A new node, which leads to itself until its branches are set."""
        number = len(self.feature)
        for column, value in (
            (self.feature, feature), (self.mode, mode), (self.missing, missing), (self.yes, number),
            (self.no, number), (self.leaf, -1),
        ):  # fmt: skip
            column.append(value)
        self.split.append(split)
        return number

    def add_leaf(self, weights: dict[int, float]) -> int:
        """A node that ends a path, with what it adds to targets."""
        number = self.add()
        self.leaf[number] = len(self.weights)
        self.weights.append(weights)
        return number

    def depth(self) -> int:
        """Steps from a root to the farthest leaf. Raises Unsupported beyond `DEEPEST`, which also ends cycles."""
        level, steps = set(self.roots), 0
        while any(self.leaf[number] < 0 for number in level):
            level = {following for number in level for following in (self.yes[number], self.no[number])}
            steps += 1
            if steps > DEEPEST:
                raise Unsupported(f"a tree of more than {DEEPEST} levels", f"up to {DEEPEST}")
        return steps


def _array(node: Node, name: str) -> list[Any]:
    value = node.get(name)
    if value is None:
        return []
    return list(onnx.numpy_helper.to_array(value).ravel()) if isinstance(value, onnx.TensorProto) else list(value)


def _forest(node: Node) -> Forest:
    """The operator's node tables as a forest; a node that tests for several members becomes a chain of equalities."""
    forest = Forest()
    splits, modes, features = (
        _array(node, "nodes_splits"),
        _array(node, "nodes_modes"),
        _array(node, "nodes_featureids"),
    )
    missing = _array(node, "nodes_missing_value_tracks_true") or [0] * len(splits)
    members = iter(_array(node, "membership_values"))
    heads, tails = [], []
    for split, mode, feature, lost in zip(splits, modes, features, missing, strict=True):
        tested = [float(split)]
        if int(mode) == MEMBER:
            tested = []
            for value in members:
                if math.isnan(value):
                    break
                tested.append(float(value))
        kind = EQUAL if int(mode) == MEMBER else int(mode)
        chain = [forest.add(int(feature), value, kind, int(lost)) for value in tested]
        for first, second in pairwise(chain):
            forest.no[first] = second
        heads.append(chain)
        tails.append(chain[-1])
    leaves = [
        forest.add_leaf({int(target): float(weight)})
        for weight, target in zip(_array(node, "leaf_weights"), _array(node, "leaf_targetids"), strict=True)
    ]

    def numbered(name: str, leaf_name: str, place: int) -> int:
        number = int(_array(node, name)[place])
        return leaves[number] if int(_array(node, leaf_name)[place]) else heads[number][0]

    for place, chain in enumerate(heads):
        forest.no[tails[place]] = numbered("nodes_falsenodeids", "nodes_falseleafs", place)
        for number in chain:
            forest.yes[number] = numbered("nodes_truenodeids", "nodes_trueleafs", place)
    forest.roots = [heads[int(root)][0] for root in _array(node, "tree_roots")]
    return forest


@onnx_operator("TreeEnsemble", domain=DOMAIN)
def tree_ensemble(node: Node) -> ir.Value:
    """[N, features] -> [N, targets]: the leaves that a row reaches, combined over the trees."""
    if node.get("post_transform", 0):
        raise Unsupported(f"TreeEnsemble with post_transform {node.get('post_transform')}", "none")
    try:
        forest = _forest(node)
    except (IndexError, ValueError) as error:
        raise ModelError(f"node '{node.name}' (TreeEnsemble) has damaged tables: {error}") from None
    return _combined(node, forest, int(node.get("n_targets", 1)), AGGREGATIONS[int(node.get("aggregate_function", 1))])


@onnx_operator("TreeEnsembleRegressor", domain=DOMAIN)
def tree_ensemble_regressor(node: Node) -> ir.Value:
    """[N, features] -> [N, targets]."""
    targets = int(node.get("n_targets", 1))
    kind = node.get("aggregate_function", "SUM").lower()
    scores = _combined(node, _forest_of_names(node, "target"), targets, kind)
    return post_transformed(node, _with_base(node, scores, targets))


@onnx_operator("TreeEnsembleClassifier", domain=DOMAIN)
def tree_ensemble_classifier(node: Node) -> list[Tensor | ir.Value]:
    """[N, features] -> the label of every row, and scores [N, classes]. One score for two classes is compared with a
    half where all weights are at least 0, else with 0, as onnxruntime does.
    """
    forest = _forest_of_names(node, "class")
    classes = len(labels_of(node))
    targets = {target for weights in forest.weights for target in weights}
    if classes == 2 and targets == {0}:
        scores = _with_base(node, _combined(node, forest, 1, "sum"), 1)
        positive = all(weight >= 0 for weights in forest.weights for weight in weights.values())
        return two_classes(node, scores, 0.5 if positive else 0.0, mirrored=not positive)
    scores = _with_base(node, _combined(node, forest, classes, "sum"), classes)
    best = node.apply("ArgMax", [scores], axis=1, keepdims=0)[0]
    return [labelled(node, best), post_transformed(node, scores)]


def _with_base(node: Node, scores: ir.Value, targets: int) -> ir.Value:
    base = _array(node, "base_values")
    if len(base) not in (0, targets):
        raise Unsupported(f"{node.operator} with {len(base)} base values for {targets} scores", "one each, or none")
    if not base:
        return scores
    return node.map([scores, node.literal(np.array(base, np.float32), "f32")], lambda v, b: v + b.cast(v.dtype))


def _forest_of_names(node: Node, side: str) -> Forest:
    """The tables of a classifier (`side` class) or regressor (target), whose nodes have a number in their tree each.
    Raises ModelError for tables that do not fit together.
    """
    forest = Forest()
    names = list(zip(_array(node, "nodes_treeids"), _array(node, "nodes_nodeids"), strict=False))
    weights: dict[tuple[int, int], dict[int, float]] = {name: {} for name in names}
    try:
        leaves = [_array(node, f"{side}_{part}") for part in ("treeids", "nodeids", "ids")]
        for tree, place, target, weight in zip(*leaves, _weights(node, side), strict=True):
            leaf = weights[tree, place]
            leaf[int(target)] = leaf.get(int(target), 0.0) + float(weight)
        modes = _array(node, "nodes_modes")
        splits, features = _splits(node), _array(node, "nodes_featureids")
        missing = _array(node, "nodes_missing_value_tracks_true") or [0] * len(names)
        number = {
            name: forest.add_leaf(weights[name])
            if modes[row] == "LEAF"
            else forest.add(int(features[row]), splits[row], BRANCHES.index(modes[row]), int(missing[row]))
            for row, name in enumerate(names)
        }
        children = set()
        yes, no = _array(node, "nodes_truenodeids"), _array(node, "nodes_falsenodeids")
        for row, name in enumerate(names):
            if modes[row] != "LEAF":
                own = number[name]
                forest.yes[own], forest.no[own] = (number[name[0], side_ids[row]] for side_ids in (yes, no))
                children |= {forest.yes[own], forest.no[own]}
    except (KeyError, IndexError, ValueError) as error:
        raise ModelError(f"node '{node.name}' ({node.operator}) has damaged tables: {error}") from None
    forest.roots = [number[name] for name in names if number[name] not in children]
    return forest


def _splits(node: Node) -> list[float]:
    return [float(value) for value in _array(node, "nodes_values") or _array(node, "nodes_values_as_tensor")]


def _weights(node: Node, side: str) -> list[Any]:
    return _array(node, f"{side}_weights") or _array(node, f"{side}_weights_as_tensor")


def _combined(node: Node, forest: Forest, targets: int, kind: str) -> ir.Value:
    """[N, targets]: what the leaves that a row reaches add to each target, combined over the trees by `kind`."""
    dtype = "f64" if node.dtype() == "f64" else "f32"
    table = node.map([node.input(0)], lambda v: v.cast(dtype))
    steps, trees = forest.depth(), len(forest.roots)
    neutral = build.neutral("sum" if kind == "average" else kind, dtype)
    dense = np.full((len(forest.weights), targets), neutral, np.float64)
    for row, weights in enumerate(forest.weights):
        for target, weight in weights.items():
            if not 0 <= target < targets:
                raise ModelError(f"node '{node.name}' ({node.operator}): target {target} of {targets}")
            dense[row, target] = weight
    column = {
        name: node.literal(np.array(getattr(forest, name), np.int64), "i64").value
        for name in ("feature", "mode", "yes", "no", "missing", "leaf", "roots")
    }
    split, weight = (
        node.literal(np.array(values).astype(np.float64 if dtype == "f64" else np.float32), dtype).value
        for values in (forest.split, dense)
    )

    def walk() -> Scalar:
        row, tree = build.index(0), build.index(1)
        place = build.element_at(column["roots"], [tree])
        for _ in range(steps):
            value = build.element_at(table, [row, build.element_at(column["feature"], [place])])
            passed = _passes(value, build.element_at(split, [place]), build.element_at(column["mode"], [place]))
            passed = passed | (value.is_nan() & build.element_at(column["missing"], [place]).ne(0))
            yes, no = (build.element_at(column[name], [place]) for name in ("yes", "no"))
            place = passed.select(yes, no)
        return build.element_at(column["leaf"], [place])

    rows = node.shape()[0] if node.rank() > 1 else build.expressions([1])[0]
    reached = node.map([], walk, shape=build.expressions([rows, trees]))

    def share() -> Scalar:
        row, target, tree = (build.index(axis) for axis in range(3))
        return build.element_at(weight, [build.element_at(reached, [row, tree]), target])

    shares = node.map([], share, shape=build.expressions([rows, targets, trees]))
    result = build.remove_dimensions(build.reduce(shares, "sum" if kind == "average" else kind, [2]), [2])
    return node.map([result], lambda v: v / trees) if kind == "average" else result


def _passes(value: Scalar, split: Scalar, mode: Scalar) -> Scalar:
    """The comparison that a mode stands for."""
    results = [value.le(split), value.lt(split), value.ge(split), value.gt(split), value.eq(split), value.ne(split)]
    passed = results[0]
    for number, result in enumerate(results[1:], start=1):
        passed = mode.eq(number).select(result, passed)
    return passed

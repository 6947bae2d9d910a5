"""Operators of ai.onnx.ml on tensors of numbers.

In: features. Out: maps; a tree ensemble walks its trees by looking its nodes up in tables, one step a level.
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
from ....runtime.symbolic import Expression
from ..errors import Unsupported
from ..node import Node
from ..registry import onnx_operator

DOMAIN = "ai.onnx.ml"
MODES = ("leq", "lt", "gte", "gt", "eq", "neq", "member")  # the numbers of the operator's modes
MEMBER = MODES.index("member")
EQUAL = MODES.index("eq")
AGGREGATIONS = ("average", "sum", "min", "max")
DEEPEST = 64


@onnx_operator("ArrayFeatureExtractor", domain=DOMAIN)
def array_feature_extractor(node: Node) -> ir.Value:
    """Chosen elements of the last axis."""
    x, chosen = node.input(0), node.input(1)
    count = build.product(chosen.shape)
    shape = [*x.shape[:-1], count] if x.rank > 1 else [Expression.constant(1), count]
    rows, table = node.reshaped(chosen, [count]).value, x.value

    def body() -> Scalar:
        place = build.element_at(rows, [build.index(len(shape) - 1)]).cast("i64")
        leading = [build.index(axis) for axis in range(x.rank - 1)]
        return build.element_at(table, [*leading, place.clip(0, build.dimension(x.shape[-1]) - 1)])

    return node.map([], body, shape=shape)


@onnx_operator("Binarizer", domain=DOMAIN)
def binarizer(node: Node) -> ir.Value:
    threshold = node.get("threshold", 0.0)
    return node.map([node.input(0)], lambda x: x.gt(threshold).cast(x.dtype))


@onnx_operator("Scaler", domain=DOMAIN)
def scaler(node: Node) -> ir.Value:
    """(x - offset) * scale, one for all features or one each."""
    x = node.input(0)
    offset, scale = (
        node.literal(np.array(node.get(name, [default]), np.float32), "f32")
        for name, default in (("offset", 0.0), ("scale", 1.0))
    )
    return node.map([x, offset, scale], lambda v, o, s: (v.cast("f32") - o) * s)


@onnx_operator("Normalizer", domain=DOMAIN)
def normalizer(node: Node) -> ir.Value:
    """Rows divided by their largest magnitude, their sum of magnitudes or their length; zero rows stay."""
    x = node.map([node.input(0)], lambda v: v.cast("f32"))
    axis = node.rank(0) - 1
    kind = node.get("norm", "MAX")
    if kind == "MAX":
        size = build.reduce(x, "max", [axis])
    elif kind == "L1":
        size = build.reduce(node.map([x], Scalar.abs), "sum", [axis])
    else:
        size = node.map([build.reduce(node.map([x], lambda v: v * v), "sum", [axis])], Scalar.sqrt)
    return node.map([x, size], lambda v, s: s.eq(0.0).select(v, v / s))


@onnx_operator("Imputer", domain=DOMAIN)
def imputer(node: Node) -> ir.Value:
    """One value, which may be NaN, replaced by another, for all features or one each."""
    x = node.input(0)
    whole = "imputed_value_int64s" in node.attributes
    given = node.get("imputed_value_int64s" if whole else "imputed_value_floats")
    missing = node.get("replaced_value_int64", 0) if whole else node.get("replaced_value_float", 0.0)
    values = node.literal(np.array(given, np.int64 if whole else np.float32), "i64" if whole else "f32")

    def body(v: Scalar, new: Scalar) -> Scalar:
        lost = v.is_nan() if not whole and math.isnan(missing) else v.eq(missing)
        return lost.select(new.cast(v.dtype), v)

    return node.map([x, values], body)


@dataclass
class Forest:
    """Nodes of all trees as columns; a leaf leads to itself. `roots` are node numbers."""

    feature: list[int] = field(default_factory=list)
    split: list[float] = field(default_factory=list)
    mode: list[int] = field(default_factory=list)
    yes: list[int] = field(default_factory=list)
    no: list[int] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)  # 1: a NaN takes the yes branch
    weight: list[float] = field(default_factory=list)
    target: list[int] = field(default_factory=list)  # -1: not a leaf
    roots: list[int] = field(default_factory=list)

    def add(self, feature: int = 0, split: float = 0.0, mode: int = 0, missing: int = 0) -> int:
        """A new node, which leads to itself until its branches are set."""
        number = len(self.feature)
        for column, value in (
            (self.feature, feature), (self.mode, mode), (self.missing, missing), (self.yes, number),
            (self.no, number), (self.target, -1),
        ):  # fmt: skip
            column.append(value)
        self.split.append(split)
        self.weight.append(0.0)
        return number

    def add_leaf(self, weight: float, target: int) -> int:
        """A node that ends a path."""
        number = self.add()
        self.weight[number], self.target[number] = weight, target
        return number

    def depth(self) -> int:
        """Steps from a root to the farthest leaf. Raises Unsupported beyond `DEEPEST`, which also ends cycles."""
        level, steps = set(self.roots), 0
        while any(self.target[number] < 0 for number in level):
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
        forest.add_leaf(float(weight), int(target))
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
    x = node.input(0)
    if node.get("post_transform", 0):
        raise Unsupported(f"TreeEnsemble with post_transform {node.get('post_transform')}", "none")
    try:
        forest = _forest(node)
    except (IndexError, ValueError) as error:
        raise ModelError(f"node '{node.name}' (TreeEnsemble) has damaged tables: {error}") from None
    steps, trees, dtype = forest.depth(), len(forest.roots), x.dtype
    targets = int(node.get("n_targets", 1))
    kind = AGGREGATIONS[int(node.get("aggregate_function", 1))]
    column = {
        name: node.literal(np.array(getattr(forest, name), np.int64), "i64").value
        for name in ("feature", "mode", "yes", "no", "missing", "target", "roots")
    }
    split, weight = (
        node.literal(np.array(values).astype(np.float64 if dtype == "f64" else np.float32), dtype).value
        for values in (forest.split, forest.weight)
    )
    table = x.value
    neutral = build.neutral("sum" if kind == "average" else kind, dtype)

    def body() -> Scalar:
        row, target, tree = (build.index(axis) for axis in range(3))
        place = build.element_at(column["roots"], [tree])
        for _ in range(steps):
            value = build.element_at(table, [row, build.element_at(column["feature"], [place])])
            passed = _passes(value, build.element_at(split, [place]), build.element_at(column["mode"], [place]))
            passed = passed | (value.is_nan() & build.element_at(column["missing"], [place]).ne(0))
            yes, no = (build.element_at(column[name], [place]) for name in ("yes", "no"))
            place = passed.select(yes, no)
        mine = build.element_at(column["target"], [place]).eq(target)
        return mine.select(build.element_at(weight, [place]), neutral)

    shape = build.expressions([x.shape[0], targets, trees])
    reached = build.reduce(node.map([], body, shape=shape), "sum" if kind == "average" else kind, [2])
    result = build.remove_dimensions(reached, [2])
    return node.map([result], lambda v: v / trees) if kind == "average" else result


def _passes(value: Scalar, split: Scalar, mode: Scalar) -> Scalar:
    """The comparison that a mode stands for."""
    results = [value.le(split), value.lt(split), value.ge(split), value.gt(split), value.eq(split), value.ne(split)]
    passed = results[0]
    for number, result in enumerate(results[1:], start=1):
        passed = mode.eq(number).select(result, passed)
    return passed

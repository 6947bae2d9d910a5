"""Linear models and support vector regression of ai.onnx.ml.

In: features [N, F] and coefficients in attributes. Out: a matmul, and kernels of distances to support vectors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
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


def features_of(node: Node) -> ir.Value:
    """[N, F] in f32; a vector is one row."""
    x = node.input(0)
    rows = node.reshaped(x, [1, x.shape[0]]) if x.rank == 1 else x
    return node.map([rows], lambda v: v.cast("f32"))


def constant_of(node: Node, values: Any, shape: tuple[int, ...]) -> ir.Value:
    """An attribute as a tensor. Raises ModelError where it has another number of elements."""
    array = np.array(values if values is not None else [], np.float32)
    if array.size != int(np.prod(shape)):
        raise ModelError(f"node '{node.name}' ({node.operator}): {array.size} numbers where {list(shape)} are needed")
    return node.literal(array.reshape(shape), "f32").value


def _linear(node: Node, targets: int) -> ir.Value:
    """[N, targets]: features times coefficients, plus intercepts."""
    x = features_of(node)
    given = node.get("coefficients") or []
    weights = constant_of(node, given, (targets, len(given) // max(targets, 1)))
    scores = build.matmul(x, weights, transpose_right=True, unify=node.unify)
    if not node.get("intercepts"):
        return scores
    return node.map([scores, constant_of(node, node.get("intercepts"), (targets,))], lambda v, b: v + b)


@onnx_operator("LinearRegressor", domain=DOMAIN)
def linear_regressor(node: Node) -> ir.Value:
    return post_transformed(node, _linear(node, int(node.get("targets", 1))))


@onnx_operator("LinearClassifier", domain=DOMAIN)
def linear_classifier(node: Node) -> list[Tensor | ir.Value]:
    """The label of every row, and scores [N, classes]; one score for two classes is compared with 0."""
    classes = len(labels_of(node))
    targets = len(node.get("intercepts") or labels_of(node))
    scores = _linear(node, targets)
    if targets == 1 and classes == 2:
        return two_classes(node, scores, 0.0, mirrored=False)
    if targets != classes:
        raise ModelError(f"node '{node.name}' (LinearClassifier): {targets} scores for {classes} labels")
    best = node.apply("ArgMax", [scores], axis=1, keepdims=0)[0]
    return [labelled(node, best), post_transformed(node, scores)]


def kernel_of(node: Node, vectors: ir.Value) -> ir.Value:
    """[N, vectors]: the kernel of every row with every support vector."""
    gamma, coefficient, degree = (node.get("kernel_params") or [0.0, 0.0, 0.0])[:3]
    kind, x = node.get("kernel_type", "LINEAR"), features_of(node)
    products = build.matmul(x, vectors, transpose_right=True, unify=node.unify)
    if kind == "LINEAR":
        return products
    if kind == "POLY":
        return node.map([products], lambda v: (v * gamma + coefficient).power(degree))
    if kind == "SIGMOID":
        return node.map([products], lambda v: (v * gamma + coefficient).tanh())
    if kind != "RBF":
        raise Unsupported(f"{node.operator} with kernel_type {kind}", "LINEAR, POLY, RBF, SIGMOID")
    count, size = build.shape_of(vectors)
    shape = [build.shape_of(x)[0], count, size]

    def difference() -> Scalar:
        row, vector, place = (build.index(axis) for axis in range(3))
        gap = build.element_at(x, [row, place]) - build.element_at(vectors, [vector, place])
        return gap * gap

    distances = build.remove_dimensions(build.reduce(node.map([], difference, shape=shape), "sum", [2]), [2])
    return node.map([distances], lambda v: (v * -gamma).exp())


@onnx_operator("SVMRegressor", domain=DOMAIN)
def svm_regressor(node: Node) -> ir.Value:
    """[N, 1]: kernels with support vectors, weighted, or a linear model where there are none."""
    count, given = int(node.get("n_supports", 0)), node.get("support_vectors") or []
    if count:
        values = kernel_of(node, constant_of(node, given, (count, len(given) // count)))
        weights = constant_of(node, node.get("coefficients"), (1, count))
    else:
        values = features_of(node)
        weights = constant_of(node, node.get("coefficients"), (1, len(node.get("coefficients") or [])))
    bias = float((node.get("rho") or [0.0])[0])
    one = bool(node.get("one_class", 0))
    sums = build.matmul(values, weights, transpose_right=True, unify=node.unify)
    scores = node.map([sums], lambda v: (v + bias).gt(0.0).select(1.0, -1.0) if one else v + bias)
    return post_transformed(node, scores)

"""Support vector classifiers of ai.onnx.ml: a vote between every two classes, and calibrated probabilities.

In: features [N, F]; support vectors, coefficients and offsets in attributes. Out: labels [N] and scores: one for every
pair of classes, two for a single pair, or one for every class where the model is linear or has probabilities.
"""

from __future__ import annotations

import itertools

import numpy as np
from mlir import ir

from ....dialects import graph_builder as build
from ....dialects.scalar import Scalar
from ....runtime.errors import ModelError
from ..node import Node
from ..registry import onnx_operator
from ..tensor import Tensor
from .class_labels import labelled, labels_of, post_transformed, transform_of
from .linear_models import DOMAIN, constant_of, features_of, kernel_of


@onnx_operator("SVMClassifier", domain=DOMAIN)
def svm_classifier(node: Node) -> list[Tensor | ir.Value]:
    """Without support vectors the model is linear, and the best score wins."""
    classes = len(labels_of(node))
    counts = [int(count) for count in node.get("vectors_per_class") or []]
    if not sum(counts):
        return _linear(node, classes)
    if len(counts) != classes or classes < 2 or min(counts) < 0:
        raise ModelError(f"vectors_per_class {counts} for {classes} labels")
    pairs = list(itertools.combinations(range(classes), 2))
    scores = _scores(node, counts, pairs)
    label = labelled(node, _voted(node, scores, pairs, classes))
    if node.get("prob_a"):
        return [label, post_transformed(node, _coupled(node, scores, pairs, classes))]
    return [label, _two(node, scores) if classes == 2 else post_transformed(node, scores)]


def _linear(node: Node, classes: int) -> list[Tensor | ir.Value]:
    """One score a class, and the same offset for all. Of two classes onnxruntime takes the second as soon as any score
    is large enough, and so do we.
    """
    given = node.get("coefficients") or []
    weights = constant_of(node, given, (classes, len(given) // classes))
    offset = float((node.get("rho") or [0.0])[0])
    products = build.matmul(features_of(node), weights, transpose_right=True, unify=node.unify)
    scores = node.map([products], lambda v: v + offset)
    best = node.apply("ArgMax", [scores], axis=1, keepdims=0)[0]
    if classes == 2 and not node.get("prob_a"):
        positive = all(weight >= 0 for weight in given)
        largest = build.remove_dimensions(build.reduce(scores, "max", [1]), [1])

        def choose(own: Scalar, top: Scalar) -> Scalar:
            return (top.ge(0.5) if positive else top.gt(0.0)).select(Scalar.constant(1, "i64"), own)

        best = node.tensor(node.map([best, largest], choose))
    return [labelled(node, best), post_transformed(node, scores)]


def _scores(node: Node, counts: list[int], pairs: list[tuple[int, int]]) -> ir.Value:
    """[N, pairs]: above 0 where the first class of the pair wins. Each pair sums over the vectors of its two classes,
    with the coefficients [classes - 1, vectors] of each against the other.
    """
    vectors, given = node.get("support_vectors") or [], node.get("coefficients") or []
    total, owners = sum(counts), np.repeat(np.arange(len(counts)), counts)
    kernel = kernel_of(node, constant_of(node, vectors, (total, len(vectors) // total)))
    if len(given) != total * (len(counts) - 1):
        raise ModelError(f"{len(given)} coefficients for {total} vectors of {len(counts)} classes")
    table = np.array(given, np.float32).reshape(len(counts) - 1, total)
    columns = [np.where(owners == i, table[j - 1], 0) + np.where(owners == j, table[i], 0) for i, j in pairs]
    weights = constant_of(node, np.stack(columns), (len(pairs), total))
    offsets = constant_of(node, (node.get("rho") or [])[: len(pairs)], (len(pairs),))
    sums = build.matmul(kernel, weights, transpose_right=True, unify=node.unify)
    return node.map([sums, offsets], lambda v, offset: v + offset)


def _voted(node: Node, scores: ir.Value, pairs: list[tuple[int, int]], classes: int) -> Tensor:
    """[N]: the class that most pairs are for, the first of several."""
    first, second = (np.eye(classes, dtype=np.float32)[[pair[side] for pair in pairs]] for side in (0, 1))
    wins = node.map([scores], lambda v: v.gt(0.0).cast("f32"))
    votes = build.matmul(wins, constant_of(node, first - second, first.shape))  # sums of small integers are exact
    total = node.map([votes, constant_of(node, second.sum(0), (classes,))], lambda v, base: v + base)
    return node.apply("ArgMax", [total], axis=1, keepdims=0)[0]


def _two(node: Node, scores: ir.Value) -> ir.Value:
    """[N, 2] of the only pair's score: both signs of it, or what is left of 1 where a softmax is asked for, which
    onnxruntime does not take.
    """
    kind = transform_of(node)

    def body(own: Scalar) -> Scalar:
        other = -own if kind in ("NONE", "LOGISTIC") else 1.0 - own
        score = build.index(1).eq(0).select(other, own)
        return score.sigmoid() if kind == "LOGISTIC" else score

    return node.map([scores], body, shape=build.expressions([build.shape_of(scores)[0], 2]))


def _coupled(node: Node, scores: ir.Value, pairs: list[tuple[int, int]], classes: int) -> ir.Value:
    """[N, classes]: probabilities that agree best with those of the pairs, each a sigmoid of the pair's score. The host
    finds them.
    """
    slopes, offsets = (constant_of(node, node.get(name), (len(pairs),)) for name in ("prob_a", "prob_b"))
    chances = node.map([scores, slopes, offsets], lambda v, a, b: 1.0 - (v * a + b).sigmoid())
    values = node.host("coupled_probabilities", [node.tensor(chances)], 1, {"classes": classes})
    return build.upload(values[0], [build.shape_of(scores)[0], classes], "f32")

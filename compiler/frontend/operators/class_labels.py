"""What classifiers of ai.onnx.ml give: a label for every row, and scores after a transformation.

In: scores [N, classes], or [N, 1] for two classes. Out: labels, which may be text on the host, and transformed scores.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from mlir import ir

from ....dialects import graph_builder as build
from ....dialects.scalar import Scalar
from ....runtime.errors import ModelError
from ..errors import Unsupported
from ..node import Node
from ..tensor import Tensor

TRANSFORMS = ("NONE", "LOGISTIC", "PROBIT", "SOFTMAX", "SOFTMAX_ZERO")
WINITZKI = 0.147  # the constant of his approximation of the inverse error function, which onnxruntime has
SMALL = 1e-7  # scores nearer to 0 are 0 for SOFTMAX_ZERO, as onnxruntime has it


def labels_of(node: Node) -> list[Any]:
    """The labels of the classes: integers or text. Raises ModelError where there are none."""
    for name in ("classlabels_int64s", "classlabels_ints", "classlabels_strings"):
        given = node.get(name)
        if given:
            return [label if isinstance(label, str) else int(label) for label in given]
    raise ModelError(f"node '{node.name}' ({node.operator}) has no labels of classes")


def labelled(node: Node, place: Tensor | ir.Value) -> Tensor | ir.Value:
    """The labels of class numbers (i64)."""
    labels, numbers = labels_of(node), node.tensor(place)
    if isinstance(labels[0], str):
        options = {"keys": list(range(len(labels))), "values": labels, "default": "", "dtype": "string"}
        return node.on_host(node.host("label_encoder", [numbers], 1, options)[0], "string", numbers.shape)
    table = node.literal(np.array(labels, np.int64), "i64").value
    return node.map([numbers], lambda number: build.element_at(table, [number]))


def transform_of(node: Node) -> str:
    """How scores are transformed. Raises Unsupported."""
    kind = str(node.get("post_transform", "NONE"))
    if kind not in TRANSFORMS:
        raise Unsupported(f"{node.operator} with post_transform {kind}", ", ".join(TRANSFORMS))
    return kind


def post_transformed(node: Node, scores: ir.Value) -> ir.Value:
    """The scores [N, classes], transformed as the operator says."""
    kind = transform_of(node)
    if kind == "NONE":
        return scores
    if kind in ("LOGISTIC", "PROBIT"):
        return node.map([scores], Scalar.sigmoid if kind == "LOGISTIC" else probit)
    largest = build.reduce(scores, "max", [1])
    nothing = kind == "SOFTMAX_ZERO"

    def power(score: Scalar, top: Scalar) -> Scalar:
        result = (score - top).exp()
        return score.abs().gt(SMALL).select(result, score * (-top).exp()) if nothing else result

    powers = node.map([scores, largest], power)
    return node.map([powers, build.reduce(powers, "sum", [1])], lambda value, total: value / total)


def probit(score: Scalar) -> Scalar:
    """The quantile of the normal distribution: sqrt 2 times the inverse error function of 2 p - 1, approximately."""
    centred = score * 2.0 - 1.0
    logarithm = ((1.0 - centred) * (1.0 + centred)).log()
    middle = logarithm * 0.5 + 2.0 / (math.pi * WINITZKI)
    size = ((middle * middle - logarithm / WINITZKI).sqrt() - middle).sqrt() * math.sqrt(2.0)
    return centred.lt(0.0).select(-size, size)


def two_classes(node: Node, score: ir.Value, limit: float, mirrored: bool) -> list[Tensor | ir.Value]:
    """Label and scores of two classes of which the second has the score [N, 1]: it is chosen above `limit`. The other
    has what is left of 1, or the `mirrored` score; no softmax is taken, as in onnxruntime.
    """
    kind = transform_of(node)

    def body(own: Scalar) -> Scalar:
        if kind == "LOGISTIC":
            return build.index(1).eq(0).select(-own, own).sigmoid()
        if kind == "PROBIT":
            return build.index(1).eq(0).select(-probit(own), probit(own))
        return build.index(1).eq(0).select(-own if mirrored else 1 - own, own)

    shape = build.expressions([build.shape_of(score)[0], 2])
    chosen = node.map([build.remove_dimensions(score, [1])], lambda own: own.gt(limit).cast("i64"))
    return [labelled(node, chosen), node.map([score], body, shape=shape)]

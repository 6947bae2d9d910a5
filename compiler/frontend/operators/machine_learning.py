"""Operators of ai.onnx.ml that prepare features, and ZipMap, which names what comes out.

In: features. Out: maps over them; what is text, or a dictionary, is of the host.
"""

from __future__ import annotations

import math

import numpy as np
from mlir import ir

from ....dialects import graph_builder as build
from ....dialects.scalar import Scalar
from ....runtime.errors import ModelError
from ....runtime.symbolic import Expression
from ..errors import Unsupported
from ..node import Node
from ..registry import onnx_operator
from ..tensor import Tensor
from .class_labels import labels_of

DOMAIN = "ai.onnx.ml"


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


@onnx_operator("FeatureVectorizer", domain=DOMAIN)
def feature_vectorizer(node: Node) -> ir.Value:
    """The columns of all inputs side by side, each with as many as it is said to have: cut, or filled with zeros."""
    widths = [int(width) for width in node.get("inputdimensions") or []]
    parts = []
    for place in range(len(node.inputs)):
        x = node.input(place)
        flat = node.reshaped(x, [x.shape[0], build.product(x.shape[1:])] if x.rank > 1 else [1, x.shape[0]])
        columns = node.map([flat], lambda v: v.cast("f32"))
        width = widths[place] if place < len(widths) else None
        if width is not None and flat.shape[1] != width:
            zero = node.literal(np.array(0.0, np.float32), "f32").value
            columns = build.pad(columns, zero, [0, 0], [0, width - flat.shape[1]])
        parts.append(columns)
    return build.concatenate(parts, 1, node.unify)


@onnx_operator("OneHotEncoder", domain=DOMAIN, host=True)
def one_hot_encoder(node: Node) -> ir.Value:
    """1 at the place of each element's category along a new last dimension; an unknown one has zeros."""
    x = node.input(0)
    texts, numbers = node.get("cats_strings"), node.get("cats_int64s")
    if (texts is None) == (x.dtype == "string") or (texts is None and numbers is None):
        raise ModelError(f"node '{node.name}' (OneHotEncoder): categories of another type than {x.dtype}")
    if not node.get("zeros", 1):
        raise Unsupported("OneHotEncoder that refuses unknown categories", "zeros=1")
    categories = [int(number) for number in numbers] if texts is None else list(range(len(texts)))
    if texts is not None:
        options = {"keys": texts, "values": categories, "default": -1, "dtype": "int64"}
        x = node.tensor(build.upload(node.host("label_encoder", [x], 1, options)[0], x.shape, "i64"))
    table = node.literal(np.array(categories, np.int64), "i64").value
    values = x.value

    def body() -> Scalar:
        *own, category = (build.index(axis) for axis in range(x.rank + 1))
        return build.element_at(values, own).cast("i64").eq(build.element_at(table, [category])).cast("f32")

    return node.map([], body, shape=build.expressions([*x.shape, len(categories)]))


@onnx_operator("CategoryMapper", domain=DOMAIN, host=True)
def category_mapper(node: Node) -> Tensor | ir.Value:
    """Text to its number, or numbers to their text; unknown ones to a default."""
    x = node.input(0)
    texts, numbers = node.get("cats_strings") or [], [int(number) for number in node.get("cats_int64s") or []]
    if x.dtype == "string":
        options = {"keys": texts, "values": numbers, "default": int(node.get("default_int64", -1)), "dtype": "int64"}
        return build.upload(node.host("label_encoder", [x], 1, options)[0], x.shape, "i64")
    options = {"keys": numbers, "values": texts, "default": node.get("default_string", "_Unused"), "dtype": "string"}
    return node.on_host(node.host("label_encoder", [x], 1, options)[0], "string", x.shape)


@onnx_operator("ZipMap", domain=DOMAIN)
def zip_map(node: Node) -> Tensor:
    """[N, classes] -> N dictionaries from label to score, on the host: an output of the model."""
    options = {"labels": labels_of(node)}
    return node.on_host(node.host("zip_map", [node.input(0)], 1, options)[0], "sequence")

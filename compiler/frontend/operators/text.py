"""Strings, which stay on the host.

In: tensors of strings. Out: calls of runtime/host_functions/text.py; results that are numbers are uploaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
from mlir import ir

from ....dialects import graph_builder as build
from ....runtime.dtypes import DTYPES, from_numpy
from ....runtime.errors import ModelError
from ....runtime.symbolic import Expression
from ..errors import Unsupported
from ..node import Node
from ..registry import onnx_operator
from ..tensor import Tensor

OPTIONS = ("delimiter", "maxsplit", "pattern", "case_change_action", "is_case_sensitive", "stopwords")


def options_of(node: Node) -> dict[str, Any]:
    """The attributes that host functions of text take as they are."""
    return {name: node.attributes[name] for name in OPTIONS if name in node.attributes}


@onnx_operator("StringConcat", host=True)
def string_concat(node: Node) -> Tensor:
    shape = build.broadcast_shapes([node.shape(0), node.shape(1)], node.unify)
    return node.on_host(node.host("string_concat", [node.input(0), node.input(1)])[0], "string", shape)


def string_equal(node: Node) -> ir.Value:
    """`Equal` of strings."""
    shape = build.broadcast_shapes([node.shape(0), node.shape(1)], node.unify)
    return build.upload(node.host("string_equal", [node.input(0), node.input(1)])[0], shape, "i1")


@onnx_operator("StringSplit", host=True)
def string_split(node: Node) -> list[Tensor | ir.Value]:
    longest = node.importer.fresh_symbols(node.operator, 1)
    parts, counts = node.host("string_split", [node.input(0)], 2, options_of(node), symbols=longest)
    shape = node.shape(0)
    return [
        node.on_host(parts, "string", [*shape, Expression.symbol(longest[0])]),
        build.upload(counts, shape, "i64"),
    ]


@onnx_operator("RegexFullMatch", host=True)
def regex_full_match(node: Node) -> ir.Value:
    return build.upload(node.host("regex_full_match", [node.input(0)], 1, options_of(node))[0], node.shape(0), "i1")


@onnx_operator("StringNormalizer", host=True)
def string_normalizer(node: Node) -> Tensor:
    left = node.importer.fresh_symbols(node.operator, 1)
    value = node.host("string_normalizer", [node.input(0)], 1, options_of(node), symbols=left)[0]
    shape = [*node.shape(0)[:-1], Expression.symbol(left[0])]
    return node.on_host(value, "string", shape)


DEFAULTS: dict[str, Any] = {"string": "_Unused", "i64": -1, "f32": -0.0}


@onnx_operator("LabelEncoder", domain="ai.onnx.ml", host=True)
def label_encoder(node: Node) -> Tensor | ir.Value:
    """A table lookup; keys and values are three pairs of attributes, or tensors since version 4."""
    keys, _ = _table(node, "keys")
    values, dtype = _table(node, "values")
    given = node.get("default_tensor")
    suffix = {"string": "string", "i64": "int64", "f32": "float"}.get(dtype, "")
    default = node.get(f"default_{suffix}", DEFAULTS.get(dtype, 0))
    if given is not None:
        default = onnx.numpy_helper.to_array(given).reshape(-1).tolist()[0]
    name = "string" if dtype == "string" else str(DTYPES[dtype].numpy)
    options = {"keys": keys, "values": values, "default": default, "dtype": name}
    value = node.host("label_encoder", [node.input(0)], 1, options)[0]
    if dtype == "string":
        return node.on_host(value, "string", node.shape(0))
    return build.upload(value, node.shape(0), dtype)


def _table(node: Node, side: str) -> tuple[list[Any], str]:
    for suffix, dtype in (("strings", "string"), ("int64s", "i64"), ("floats", "f32")):
        found = node.get(f"{side}_{suffix}")
        if found is not None:
            return list(found), dtype
    tensor = node.get(f"{side}_tensor")
    if tensor is None:
        raise ModelError(f"node '{node.name}' (LabelEncoder) has no {side}")
    if tensor.data_type == onnx.TensorProto.STRING:
        return [item.decode() for item in tensor.string_data], "string"
    array = onnx.numpy_helper.to_array(tensor)
    return array.ravel().tolist(), from_numpy(array.dtype).name


@onnx_operator("TfIdfVectorizer", host=True)
def tfidf_vectorizer(node: Node) -> ir.Value:
    """Counts of the n-grams of a pool, in which those of one length stand together."""
    pool: list[Any] = list(node.get("pool_int64s") or node.get("pool_strings") or [])
    places = [int(place) for place in node.get("ngram_indexes")]
    weights = [float(weight) for weight in node.get("weights") or [1.0] * len(places)]
    grams = _pool_grams(pool, [int(count) for count in node.get("ngram_counts")])
    if len(grams) != len(places) or len(weights) != len(places):
        raise ModelError(f"node '{node.name}' (TfIdfVectorizer): {len(grams)} n-grams, {len(places)} indexes")
    size = max(places, default=-1) + 1
    options = {
        "grams": [[gram, number] for number, gram in enumerate(grams)],
        "weights": [list(pair) for pair in zip(places, weights, strict=True)],
        "size": size,
        "mode": node.get("mode"),
        "shortest": node.get("min_gram_length"),
        "longest": node.get("max_gram_length"),
        "skips": node.get("max_skip_count"),
    }
    if node.rank(0) > 2:
        raise Unsupported(f"TfIdfVectorizer of a tensor of rank {node.rank(0)}", "vectors and matrices")
    value = node.host("tfidf_vectorizer", [node.input(0)], 1, options)[0]
    return build.upload(value, [*node.shape(0)[:-1], size], "f32")


def _pool_grams(pool: Sequence[Any], starts: Sequence[int]) -> list[list[Any]]:
    grams = []
    for length, (start, end) in enumerate(zip(starts, [*starts[1:], len(pool)], strict=True), start=1):
        grams += [list(pool[place : place + length]) for place in range(start, end, length)]
    return grams

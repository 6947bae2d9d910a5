"""Strings: what ONNX computes with text.

In: arrays of Python strings and the operator's attributes. Out: arrays of strings, or numbers and truth values
that are uploaded afterwards.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ..errors import ModelError
from . import HostCall, host_function
from .values import string_array

CASES: dict[str, Callable[[str], str]] = {"LOWER": str.lower, "UPPER": str.upper, "NONE": str}


@host_function("string_equal")
def string_equal(call: HostCall) -> Sequence[Any]:
    """Element by element, broadcast."""
    left, right = call.inputs
    return [np.asarray(left == right, dtype=np.bool_)]


@host_function("string_concat")
def string_concat(call: HostCall) -> Sequence[Any]:
    """Element by element, broadcast."""
    left, right = call.inputs
    return [np.asarray(left + right, dtype=object)]


@host_function("string_split")
def string_split(call: HostCall) -> Sequence[Any]:
    """Parts of every string along a new last dimension, empty strings after the last part, and how many there are.

    Without a delimiter (or with an empty one) runs of white space separate. The symbol is the new dimension's size.
    """
    (texts,) = call.inputs
    delimiter, most = call.attributes.get("delimiter") or None, call.attributes.get("maxsplit")
    parts = [text.split(delimiter, -1 if most is None else most) for text in texts.ravel()]
    longest = max(map(len, parts), default=0)
    padded = [part + [""] * (longest - len(part)) for part in parts]
    result = string_array([item for part in padded for item in part]).reshape(*texts.shape, longest)
    call.symbols = [longest]
    return [result, np.array([len(part) for part in parts], np.int64).reshape(texts.shape)]


@host_function("regex_full_match")
def regex_full_match(call: HostCall) -> Sequence[Any]:
    """Whether the whole string matches the pattern."""
    try:
        pattern = re.compile(call.attributes["pattern"])
    except re.error as error:
        raise ModelError(f"RegexFullMatch with the pattern {call.attributes['pattern']!r}: {error}") from None
    (texts,) = call.inputs
    matches = [pattern.fullmatch(text) is not None for text in texts.ravel()]
    return [np.array(matches, np.bool_).reshape(texts.shape)]


@host_function("string_normalizer")
def string_normalizer(call: HostCall) -> Sequence[Any]:
    """Accents removed, case changed, stop words and then empty strings dropped; the symbol is how many are left.

    A vector, or a matrix of one row.
    """
    (texts,) = call.inputs
    change = CASES[call.attributes.get("case_change_action", "NONE")]
    sensitive = bool(call.attributes.get("is_case_sensitive", 0))
    stops = set(call.attributes.get("stopwords") or ())
    stops = stops if sensitive else {change(word) for word in stops}
    kept = [_normalised(text, change, sensitive, stops) for text in texts.ravel()]
    kept = [text for text in kept if text] or [""]
    call.symbols = [len(kept)]
    return [string_array(kept).reshape((1, -1) if texts.ndim == 2 else (-1,))]


def _normalised(text: str, change: Callable[[str], str], sensitive: bool, stops: set[str]) -> str:
    if not text.isascii():
        text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    text = _without(text, stops) if sensitive else text
    text = change(text)
    return text if sensitive else _without(text, stops)


def _without(text: str, stops: set[str]) -> str:
    return " ".join(word for word in text.split(" ") if word not in stops)


@host_function("label_encoder")
def label_encoder(call: HostCall) -> Sequence[Any]:
    """Every element looked up in a table; NaN is one key."""
    (values,) = call.inputs
    options = call.attributes
    table = {_key(key): value for key, value in zip(options["keys"], options["values"], strict=True)}
    found = [table.get(_key(item), options["default"]) for item in values.ravel().tolist()]
    if options["dtype"] == "string":
        return [string_array(found).reshape(values.shape)]
    return [np.array(found).astype(options["dtype"]).reshape(values.shape)]


def _key(item: Any) -> Any:
    return "NaN" if isinstance(item, float) and item != item else item


@host_function("tfidf_vectorizer")
def tfidf_vectorizer(call: HostCall) -> Sequence[Any]:
    """Counts of n-grams with gaps in every row, weighted; [C] -> [outputs], [N, C] -> [N, outputs]."""
    (values,) = call.inputs
    options = call.attributes
    grams = {tuple(gram): index for gram, index in options["grams"]}
    rows = values.reshape(1, -1) if values.ndim < 2 else values
    result = np.zeros((rows.shape[0], options["size"]), np.float32)
    weights = options["weights"]
    for number, row in enumerate(rows.tolist()):
        found = Counter(grams[gram] for gram in _grams(row, options) if gram in grams)
        for (place, weight), count in ((weights[index], count) for index, count in found.items()):
            result[number, place] = {"TF": count, "IDF": weight, "TFIDF": count * weight}[options["mode"]]
    return [result.reshape(result.shape[1:]) if values.ndim < 2 else result]


def _grams(row: list[Any], options: Any) -> Iterable[tuple[Any, ...]]:
    """Every n-gram of consecutive elements, then of every second one, and so on; single elements once."""
    for length in range(options["shortest"], options["longest"] + 1):
        for gap in range(1, (options["skips"] if length > 1 else 0) + 2):
            reach = (length - 1) * gap
            for start in range(len(row) - reach):
                yield tuple(row[start : start + reach + 1 : gap])

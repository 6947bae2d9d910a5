"""Host values themselves: string constants and sequences.

In: options of the program, or host values. Out: arrays of strings, lists of arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import HostCall, host_function


@host_function("strings")
def strings(call: HostCall) -> Sequence[Any]:
    """A constant array of strings."""
    return [string_array(call.attributes["values"]).reshape(tuple(call.attributes["shape"]))]


@host_function("sequence")
def sequence(call: HostCall) -> Sequence[Any]:
    """The inputs as one sequence."""
    return [list(call.inputs)]


@host_function("zip_map")
def zip_map(call: HostCall) -> Sequence[Any]:
    """A dictionary from label to score for every row."""
    (scores,), labels = call.inputs, call.attributes["labels"]
    rows = scores.reshape(-1, scores.shape[-1]).tolist()
    return [[dict(zip(labels, row, strict=True)) for row in rows]]


@host_function("nothing")
def nothing(call: HostCall) -> Sequence[Any]:
    """An empty optional."""
    return [None]


def string_array(values: Any) -> np.ndarray[Any, Any]:
    """A one-dimensional array of Python strings."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array

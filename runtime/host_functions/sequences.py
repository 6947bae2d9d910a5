"""Sequences and optionals of which only a run knows how many tensors they have, and how large each is.

In: lists of arrays, of the host or kept on the device, whose elements nobody here looks at. Out: other lists of the
same arrays, and sizes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ModelError
from ..kept import KeptArray
from . import HostCall, host_function


@host_function("tensor_sizes")
def tensor_sizes(call: HostCall) -> Sequence[Any]:
    """The sizes of every input along its `axes`."""
    for value in call.inputs:
        if value is None:
            raise ModelError(f"{call.attributes['operator']}: the optional is empty")
    asked = zip(call.inputs, call.attributes["axes"], strict=True)
    call.symbols = [value.shape[axis] for value, axes in asked for axis in axes]
    return ()


@host_function("sequence_length")
def sequence_length(call: HostCall) -> Sequence[Any]:
    """How many tensors there are."""
    call.symbols = [len(call.inputs[0])]
    return ()


@host_function("sequence_insert")
def sequence_insert(call: HostCall) -> Sequence[Any]:
    """The sequence with the second input in front of a position, or at its end."""
    tensors = list(call.inputs[0])
    at = _position(call, 2, len(tensors) + 1, len(tensors))
    return [[*tensors[:at], call.inputs[1], *tensors[at:]]]


@host_function("sequence_erase")
def sequence_erase(call: HostCall) -> Sequence[Any]:
    """The sequence without one tensor, the last unless a position is given."""
    tensors = list(call.inputs[0])
    at = _position(call, 1, len(tensors), len(tensors) - 1)
    return [[*tensors[:at], *tensors[at + 1 :]]]


@host_function("sequence_at")
def sequence_at(call: HostCall) -> Sequence[Any]:
    """One tensor."""
    tensors = call.inputs[0]
    return [tensors[_position(call, 1, len(tensors), 0)]]


@host_function("has_element")
def has_element(call: HostCall) -> Sequence[Any]:
    """Whether an optional holds something."""
    return [np.asarray(call.inputs[0] is not None)]


@host_function("joined_sizes")
def joined_sizes(call: HostCall) -> Sequence[Any]:
    """The `axes` of the shape that the tensors have along a new dimension in front (`stack`), or one after the other
    along `axis`; the first symbol is how many they are. Of no tensors, sizes are 0.
    """
    (tensors,), options = call.inputs, call.attributes
    shapes = [tuple(tensor.shape) for tensor in tensors]
    rank, axis, stack = options["rank"], options["axis"], options["stack"]
    fits = {(*shape[:axis], *shape[axis + (not stack) :]) for shape in shapes}
    if len(fits) > 1:
        raise ModelError(f"{options['operator']}: tensors of different shapes: {sorted(set(shapes))[:4]}")
    result = list(shapes[0]) if shapes else [0] * rank
    if not stack:
        result[axis] = sum(shape[axis] for shape in shapes)
    call.symbols = [len(shapes), *(result[place] for place in options["axes"])]
    return ()


@host_function("sizes_along")
def sizes_along(call: HostCall) -> Sequence[Any]:
    """The size of every tensor along `axis`."""
    axis = call.attributes["axis"]
    return [np.array([tensor.shape[axis] for tensor in call.inputs[0]], np.int64)]


@host_function("part_sizes")
def part_sizes(call: HostCall) -> Sequence[Any]:
    """Sizes that divide a dimension of `call.sizes[0]`: those given, or equal ones of which the last may be smaller."""
    (size,) = call.sizes
    given = np.asarray(call.inputs[0]) if call.inputs else np.array(call.attributes["size"])
    if given.ndim:
        parts = given.astype(np.int64)
    elif given > 0:
        parts = np.array([min(int(given), size - start) for start in range(0, size, int(given))], np.int64)
    else:
        raise ModelError(f"SplitToSequence into parts of {given}")
    if parts.sum() != size or (parts < 0).any():
        raise ModelError(f"SplitToSequence of {size} into {parts.tolist()}")
    call.symbols = [len(parts)]
    return [parts]


@host_function("parts")
def parts(call: HostCall) -> Sequence[Any]:
    """The first input, which holds parts of the sizes in the second one after the other, as a sequence. A part has
    `call.sizes`, and its own size along `axis`, if there is one.
    """
    whole, lengths = call.inputs
    axis, start, result = call.attributes["axis"], 0, []
    for length in lengths.tolist():
        shape = list(call.sizes)
        if axis is not None:
            shape[axis] = length
        result.append(_part(whole, start, tuple(shape)))
        start += math.prod(shape)
    return [result]


def _part(whole: Any, start: int, shape: tuple[int, ...]) -> Any:
    if isinstance(whole, KeptArray):
        return whole.part(start, shape)
    return np.ravel(whole)[start : start + math.prod(shape)].reshape(shape)


def _position(call: HostCall, place: int, limit: int, default: int) -> int:
    """A position below `limit`, from an input or an attribute; negative ones count from the end of the sequence."""
    count = len(call.inputs[0])
    given = call.attributes.get("position", default)
    position = int(np.ravel(call.inputs[place])[0]) if len(call.inputs) > place else given
    if not -count <= position < limit:
        raise ModelError(f"{call.attributes['operator']} at {position} of a sequence of {count}")
    return position + count if position < 0 else position

"""Windows, contractions and recurrences on numpy arrays: what the heavy operations of the graph level compute.

In: arrays, always channels-first, and plain integers. Out: arrays. Reference semantics for the graph
interpreter, written as loops over the few kernel taps with a matrix product inside, so that whole models run
in seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from ...runtime.dtypes import least_finite

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Window:
    """Strides, pads (begins, then ends) and dilations of a sliding window, one (pads: two) a spatial dimension."""

    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]

    def taps(self, kernel: Sequence[int], output: Sequence[int]) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
        """(tap, slices of the padded input that this tap sees for every output position)."""
        for tap in product(*map(range, kernel)):
            begins = [position * dilation for position, dilation in zip(tap, self.dilations, strict=True)]
            yield (
                tap,
                tuple(
                    slice(begin, begin + (size - 1) * stride + 1 if size else begin, stride)
                    for begin, size, stride in zip(begins, output, self.strides, strict=True)
                ),
            )

    def padded(self, array: Array, kernel: Sequence[int], output: Sequence[int], value: Any) -> Array:
        """The array with `value` around its spatial dimensions, as far as the windows reach."""
        widths = [(0, 0), (0, 0)]
        crop = [slice(None), slice(None)]
        for axis, size in enumerate(array.shape[2:]):
            low = self.pads[axis]
            reach = (output[axis] - 1) * self.strides[axis] + (kernel[axis] - 1) * self.dilations[axis] + 1
            widths.append((max(low, 0), max(reach - low - size, 0)))
            crop.append(slice(max(-low, 0), None))
        return np.pad(array[tuple(crop)], widths, constant_values=value)


def inner(last: tuple[Any, ...], before: int = 3) -> tuple[Any, ...]:
    """An index that takes everything along the first `before` dimensions and `last` along the others."""
    return (*(slice(None) for _ in range(before)), *last)


def working(array: Array) -> Array:
    """Floats narrower than f32 as f32, 8-bit integers as f64 (exact, and BLAS has it); others unchanged."""
    if array.dtype.kind in "iu" and array.dtype.itemsize <= 2:
        return array.astype(np.float64)
    return array.astype(np.float32) if array.dtype.itemsize < 4 else array


def matmul(left: Array, right: Array, transpose_left: bool, transpose_right: bool, result: np.dtype[Any]) -> Array:
    """[..., M, K] x [..., K, N]."""
    left = left.swapaxes(-1, -2) if transpose_left else left
    right = right.swapaxes(-1, -2) if transpose_right else right
    product: Array = np.matmul(working(left), working(right))
    return product.astype(result)


def convolution(
    array: Array, weight: Array, groups: int, window: Window, output: Sequence[int], result: np.dtype[Any]
) -> Array:
    """Input [N, C, spatial...], weight [O, C/groups, kernel...] -> [N, O, output...]."""
    kernel = weight.shape[2:]
    batch, channels, outputs = array.shape[0], array.shape[1], weight.shape[0]
    padded = window.padded(working(array), kernel, output, 0)
    padded = padded.reshape(batch, groups, channels // groups, *padded.shape[2:])
    grouped = working(weight).reshape(groups, outputs // groups, channels // groups, *kernel)
    depthwise = channels == groups == outputs
    total: Any = 0
    for tap, slices in window.taps(kernel, output):
        seen = padded[inner(slices)]
        factor = grouped[inner(tap)]
        if depthwise:
            total = total + seen * factor.reshape(1, groups, 1, *[1] * len(kernel))
        else:
            flat = seen.reshape(batch, groups, channels // groups, -1)
            total = total + np.matmul(np.ascontiguousarray(factor)[None], flat)
    return np.asarray(total).reshape(batch, outputs, *output).astype(result)


def convolution_transpose(
    array: Array, weight: Array, groups: int, window: Window, output: Sequence[int], result: np.dtype[Any]
) -> Array:
    """Input [N, C, spatial...], weight [C, O/groups, kernel...] -> [N, O, output...]."""
    batch, channels = array.shape[:2]
    kernel, sizes = weight.shape[2:], array.shape[2:]
    outputs = weight.shape[1] * groups
    source = working(array).reshape(batch, groups, channels // groups, -1)
    grouped = working(weight).reshape(groups, channels // groups, outputs // groups, *kernel)
    reach = [
        max((size - 1) * stride + (taps - 1) * dilation + 1, low + wanted, 0)
        for size, stride, taps, dilation, low, wanted in zip(
            sizes, window.strides, kernel, window.dilations, window.pads, output, strict=False
        )
    ]
    canvas = np.zeros((batch, groups, outputs // groups, *reach), source.dtype)
    for tap, slices in window.taps(kernel, sizes):
        factor = grouped[inner(tap)].swapaxes(1, 2)
        part = np.matmul(np.ascontiguousarray(factor)[None], source)
        canvas[inner(slices)] += part.reshape(*canvas.shape[:3], *sizes)
    crop = tuple(slice(low, low + size) for low, size in zip(window.pads, output, strict=False))
    cropped: Array = canvas[inner(crop)].reshape(batch, outputs, *output).astype(result)
    return cropped


def neutral(kind: str, element: np.dtype[Any]) -> Any:
    """The neutral element of a sum, product, max or min."""
    if kind in ("sum", "product", "average"):
        return element.type(1 if kind == "product" else 0)
    if element == np.bool_:
        return kind == "min"
    if element.kind in "iu":
        return np.iinfo(element).min if kind == "max" else np.iinfo(element).max
    return element.type(-np.inf if kind == "max" else np.inf)


def pool(
    array: Array, kind: str, kernel: Sequence[int], window: Window, include_padding: bool, output: Sequence[int]
) -> Array:
    """Max, average or sum over windows of [N, C, spatial...]; what lies outside the array does not count."""
    source = working(array) if kind != "max" else array
    outside = neutral(kind, source.dtype)
    if kind == "max" and source.dtype.kind not in "iub":
        outside = least_finite(source.dtype)
    padded = window.padded(source, kernel, output, outside)
    inside = window.padded(np.ones((1, 1, *array.shape[2:]), np.float32), kernel, output, 0)
    total: Any = None
    count: Any = 0
    for _, slices in window.taps(kernel, output):
        seen = padded[inner(slices, 2)]
        count = count + inside[inner(slices, 2)]
        total = seen.copy() if total is None else (np.maximum(total, seen) if kind == "max" else total + seen)
    if kind == "average":
        total = total / (np.float32(np.prod(kernel)) if include_padding else np.maximum(count, 1))
    return np.asarray(total).astype(array.dtype)


REDUCTIONS: dict[str, Callable[..., Any]] = {"sum": np.sum, "product": np.prod, "max": np.max, "min": np.min}
SCANS: dict[str, np.ufunc] = {"sum": np.add, "product": np.multiply, "max": np.maximum, "min": np.minimum}


def reduce(array: Array, kind: str, axes: tuple[int, ...], result: np.dtype[Any]) -> Array:
    """Reduce over axes that stay as size 1. Float sums and products accumulate in f64."""
    if kind in ("max", "min"):
        start = neutral(kind, array.dtype)
        return np.asarray(REDUCTIONS[kind](array, axis=axes, keepdims=True, initial=start)).astype(result)
    wide = array.dtype if array.dtype.kind in "iu" else np.dtype(np.float64)
    return np.asarray(REDUCTIONS[kind](array, axis=axes, keepdims=True, dtype=wide)).astype(result)


def scan(array: Array, kind: str, axis: int, exclusive: bool, reverse: bool) -> Array:
    """Running sums, products, maxima or minima. Floats are summed and multiplied in f64."""
    source = np.moveaxis(np.flip(array, axis) if reverse else array, axis, 0)
    wide = source if source.dtype.kind in "iu" or kind in ("max", "min") else source.astype(np.float64)
    total: Array = SCANS[kind].accumulate(wide, axis=0, dtype=wide.dtype)
    if exclusive:
        start = {"sum": 0, "product": 1}.get(kind, neutral(kind, array.dtype))
        total = np.concatenate([np.full_like(total[:1], start), total[:-1]])
    total = np.moveaxis(total, 0, axis)
    return np.asarray(np.flip(total, axis) if reverse else total).astype(array.dtype)


def sort(keys: Array, run: int) -> Array:
    """Positions in the order of the keys along the last axis, inside runs (0: one of all)."""
    length = keys.shape[-1]
    step = run or max(length, 1)
    result = np.zeros(keys.shape, np.int32)
    for start in range(0, length, step):
        part = slice(start, start + step)
        result[..., part] = start + np.argsort(keys[..., part], axis=-1, kind="stable")
    return result


def scatter(places: Array, updates: Array, initial: Array, kind: str) -> Array:
    """`initial` with every update combined at its flat place; negative places are nowhere."""
    result: Array = initial.copy(order="C")
    kept = places >= 0
    SCANS[kind].at(result.reshape(-1), places[kept], updates[kept])
    return result


def _sigmoid(array: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-array)))


def lstm(gates: Array, recurrence: Array, h: Array, c: Array, peepholes: Array, reverse: bool) -> list[Array]:
    """gates [T, N, 4*H] in the order i, o, f, c; recurrence [4*H, H] -> Y [T, N, H], Y_h, Y_c."""
    kind = gates.dtype
    gates, recurrence, h, c, peepholes = (working(array) for array in (gates, recurrence, h, c, peepholes))
    peephole_i, peephole_o, peephole_f = np.split(peepholes, 3)
    outputs = np.zeros((*gates.shape[:2], h.shape[-1]), gates.dtype)
    steps = range(gates.shape[0])
    for step in reversed(steps) if reverse else steps:
        i, o, f, g = np.split(gates[step] + h @ recurrence.T, 4, axis=-1)
        i, f = _sigmoid(i + peephole_i * c), _sigmoid(f + peephole_f * c)
        c = f * c + i * np.tanh(g)
        h = _sigmoid(o + peephole_o * c) * np.tanh(c)
        outputs[step] = h
    return [array.astype(kind) for array in (outputs, h, c)]


def gru(
    gates: Array, recurrence: Array, bias: Array, h: Array, reverse: bool, linear_before_reset: bool
) -> list[Array]:
    """gates [T, N, 3*H] in the order z, r, h; recurrence [3*H, H], its bias [3*H] -> Y [T, N, H], Y_h."""
    kind = gates.dtype
    gates, recurrence, bias, h = (working(array) for array in (gates, recurrence, bias, h))
    weight_z, weight_r, weight_h = np.split(recurrence, 3)
    bias_z, bias_r, bias_h = np.split(bias, 3)
    outputs = np.zeros((*gates.shape[:2], h.shape[-1]), gates.dtype)
    steps = range(gates.shape[0])
    for step in reversed(steps) if reverse else steps:
        gate_z, gate_r, gate_h = np.split(gates[step], 3, axis=-1)
        z = _sigmoid(gate_z + h @ weight_z.T + bias_z)
        r = _sigmoid(gate_r + h @ weight_r.T + bias_r)
        inner = r * (h @ weight_h.T + bias_h) if linear_before_reset else (r * h) @ weight_h.T + bias_h
        h = (1 - z) * np.tanh(gate_h + inner) + z * h
        outputs[step] = h
    return [outputs.astype(kind), h.astype(kind)]

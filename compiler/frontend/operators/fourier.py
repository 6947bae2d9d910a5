"""Discrete Fourier transforms as matrix products.

In: a real or complex signal (complex numbers are a last dimension of 2). Out: matmuls with constant cosines
and sines. Quadratic in the length, which must be static.
"""

from __future__ import annotations

import numpy as np
from mlir import ir

from ....dialects import graph_builder as build
from ....runtime.dtypes import DTYPES
from ....runtime.errors import ModelError
from ....runtime.symbolic import Expression
from ..errors import Unsupported
from ..node import Node
from ..registry import onnx_operator
from ..tensor import Array, Tensor

LONGEST = 8192  # a matrix of this size squared is a constant of the model


def twiddles(length: int, bins: int, padded: int, inverse: bool) -> tuple[Array, Array]:
    """cos and sin of 2 pi t f / length for `padded` samples t and `bins` frequencies f, in f64."""
    angles = 2.0 * np.pi * np.outer(np.arange(padded), np.arange(bins)) / length
    return np.cos(angles), (np.sin(angles) if inverse else -np.sin(angles))


@onnx_operator("DFT", since=17)
def discrete_fourier(node: Node) -> ir.Value:
    """Along one axis; the last dimension has 1 (real) or 2 (complex) elements."""
    x = node.input(0)
    if node.version >= 20:
        axis = node.axis(node.integers(2, "axis")[0] if node.has(2) else -2, x.rank)
    else:
        axis = node.axis(node.get("axis", 1), x.rank)
    inverse, one_sided = bool(node.get("inverse", 0)), bool(node.get("onesided", 0))
    given = x.shape[axis].as_constant()
    length = node.integers(1, "dft_length")[0] if node.has(1) else None
    if length is not None and length < 1:
        raise ModelError(f"DFT of length {length}")
    if given is None or (length or given) > LONGEST:
        raise Unsupported(f"DFT along {x.shape[axis]} elements", f"static lengths up to {LONGEST}")
    if inverse and one_sided:
        return _from_half(node, x, axis, given, length or 2 * (given - 1))
    length = length or given
    used = min(given, length)
    cosine, sine = twiddles(length, length // 2 + 1 if one_sided else length, used, inverse)
    scale = 1.0 / length if inverse else 1.0
    parts = 2 if x.shape[-1] == 2 else 1
    # Interleaved: row t*parts + p, column f*2 + q: [re, im] x [[cos, sin], [-sin, cos]].
    matrix = np.zeros((used, parts, cosine.shape[1], 2))
    matrix[:, 0, :, 0], matrix[:, 0, :, 1] = cosine, sine
    if parts == 2:
        matrix[:, 1, :, 0], matrix[:, 1, :, 1] = -sine, cosine
    return _transform(node, x, axis, matrix * scale)


def _from_half(node: Node, x: Tensor, axis: int, bins: int, length: int) -> ir.Value:
    """A real signal from the non-negative frequencies: all but the first and the middle one stand for two."""
    used = min(bins, length // 2 + 1)
    cosine, sine = twiddles(length, length, used, True)
    weight = np.full((used, 1), 2.0)
    weight[0] = 1.0
    if length % 2 == 0 and used == length // 2 + 1:
        weight[-1] = 1.0
    matrix = np.stack([cosine * weight, -sine * weight], axis=1)[..., None] / length
    return _transform(node, x, axis, matrix)


def _transform(node: Node, x: Tensor, axis: int, matrix: Array) -> ir.Value:
    """One matmul along `axis` and the last dimension: matrix [samples, parts, bins, parts]."""
    used, parts, bins, results = matrix.shape
    order = [place for place in range(x.rank - 1) if place != axis] + [axis, x.rank - 1]
    moved = build.transpose(x.value, order)
    shape = build.shape_of(moved)
    sizes = [*shape[:-2], Expression.constant(used), shape[-1]]
    moved = build.slice(moved, [0] * x.rank, sizes)
    kernel = matrix.reshape(used * parts, bins * results).astype(DTYPES[x.dtype].numpy)
    flat = build.reshape(moved, [*shape[:-2], used * parts] if x.rank > 2 else [1, used * parts])
    value = build.matmul(flat, node.literal(kernel, x.dtype).value)
    value = build.reshape(value, [*shape[:-2], bins, results])
    back = sorted(range(x.rank - 1), key=lambda place: order[place])
    return build.transpose(value, [*back, x.rank - 1])


@onnx_operator("STFT", since=17)
def short_time_fourier(node: Node) -> ir.Value:
    """Frames are gathered, windowed by the matrix itself, and transformed: [N, samples, 1] -> [N, frames,
    bins, 2].
    """
    x = node.input(0)
    step = node.integers(1, "frame_step")[0]
    window = node.constant(2)
    if node.has(2) and window is None:
        raise Unsupported("STFT with a computed window", "a constant window", node.input(2).sources)
    if node.has(3):
        length = node.integers(3, "frame_length")[0]
    elif window is not None:
        length = int(window.size)
    else:
        raise Unsupported("STFT without frame_length and window", "one of them")
    if step < 1 or length < 1 or (window is not None and window.size != length):
        raise ModelError(f"STFT with frame_step {step} and frame_length {length}")
    if length > LONGEST:
        raise Unsupported(f"STFT of {length} samples a frame", f"up to {LONGEST}")
    if x.rank == 3 and x.shape[2] == 2:
        raise Unsupported("STFT of a complex signal", "real signals")
    bins = length // 2 + 1 if node.get("onesided", 1) else length
    cosine, sine = twiddles(length, bins, length, False)
    factor = np.ones(length) if window is None else window.astype(np.float64)
    matrix = np.stack([cosine * factor[:, None], sine * factor[:, None]], axis=2).reshape(length, bins * 2)
    batch, samples = x.shape[0], x.shape[1]
    frames = (samples - length) // step + 1
    signal = node.reshaped(x, [batch, samples]).value
    cut = node.map(
        [],
        lambda: build.element_at(signal, [build.index(0), build.index(1) * step + build.index(2)]),
        shape=build.expressions([batch, frames, length]),
    )
    kernel = node.literal(matrix.astype(DTYPES[x.dtype].numpy), x.dtype)
    return build.reshape(build.matmul(cut, kernel.value), [batch, frames, bins, 2])


@onnx_operator("MelWeightMatrix", since=17)
def mel_weight_matrix(node: Node) -> Tensor:
    """[spectrum bins, mel bins]: triangles between frequencies that are equally spaced on the mel scale."""
    given = [node.constant(position) for position in range(5)]
    if any(item is None for item in given):
        raise Unsupported("MelWeightMatrix with computed inputs", "constants", node.sources)
    bands, length, rate, low, high = (np.asarray(item).reshape(()).item() for item in given)
    dtype = node.importer.element_name(node.get("output_datatype", 1))
    if not (0 < bands <= LONGEST and 0 < length <= LONGEST**2 // bands and rate > 0):
        raise Unsupported(f"MelWeightMatrix of {bands} bands and dft_length {length}", f"{LONGEST} squared elements")
    edges = 2595 * np.log10(1 + np.array([low, high], np.float64) / 700)
    mels = edges[0] + np.arange(bands + 2) * (edges[1] - edges[0]) / (bands + 2)
    bins = ((length + 1) * (700 * (10 ** (mels / 2595) - 1)) // rate).astype(np.int64)
    rows = np.arange(length // 2 + 1)[:, None]
    left, middle, right = bins[:-2], bins[1:-1], bins[2:]
    with np.errstate(divide="ignore", invalid="ignore"):
        rising = np.where(middle == left, rows == middle, (rows - left) / (middle - left))
        falling = (right - rows) / (right - middle)
    inside = np.where(rows <= middle, np.where(rows >= left, rising, 0), np.where(rows < right, falling, 0))
    return node.literal(np.nan_to_num(inside).astype(DTYPES[dtype].numpy), dtype)

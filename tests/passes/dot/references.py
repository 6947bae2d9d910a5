"""What contractions answer, in numpy and float64: independent of the compiler, slow and plain.

In: arrays. Out: float64 (or int64) arrays. Loops go over taps, so that nothing of the implicit-GEMM index
arithmetic is repeated here.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def convolution(
    tensor: Array,
    weight: Array,
    groups: int,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
) -> Array:
    """Channels-first cross-correlation of [N, C, ...] with [O, C/groups, ...]."""
    rank = tensor.ndim - 2
    padded = np.pad(tensor.astype(np.float64), [(0, 0), (0, 0), *((pads[i], pads[rank + i]) for i in range(rank))])
    kernel = weight.shape[2:]
    sizes = [(padded.shape[2 + i] - (kernel[i] - 1) * dilations[i] - 1) // strides[i] + 1 for i in range(rank)]
    images, outputs = tensor.shape[0], weight.shape[0]
    inner, outer = weight.shape[1], outputs // groups
    result = np.zeros((images, outputs, *sizes))
    for tap in itertools.product(*map(range, kernel)):
        window = tuple(
            slice(tap[i] * dilations[i], tap[i] * dilations[i] + (sizes[i] - 1) * strides[i] + 1, strides[i])
            for i in range(rank)
        )
        part = padded[(slice(None), slice(None), *window)]
        for group in range(groups):
            own = part[:, group * inner : (group + 1) * inner]
            taps = weight[(slice(group * outer, (group + 1) * outer), slice(None), *tap)].astype(np.float64)
            result[:, group * outer : (group + 1) * outer] += np.einsum("nc...,oc->no...", own, taps)
    return result


def convolution_transpose(
    tensor: Array,
    weight: Array,
    groups: int,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    output: Sequence[int],
) -> Array:
    """Channels-first: every input element spreads weight [C, O/groups, ...] over the result of spatial sizes
    `output`.
    """
    rank = tensor.ndim - 2
    images, channels, *sizes = tensor.shape
    kernel, outer, inner = weight.shape[2:], weight.shape[1], channels // groups
    full = [(sizes[i] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 for i in range(rank)]
    whole = np.zeros((images, outer * groups, *(max(full[i], pads[i] + output[i]) for i in range(rank))))
    for tap in itertools.product(*map(range, kernel)):
        window = tuple(
            slice(tap[i] * dilations[i], tap[i] * dilations[i] + (sizes[i] - 1) * strides[i] + 1, strides[i])
            for i in range(rank)
        )
        for group in range(groups):
            own = tensor[:, group * inner : (group + 1) * inner].astype(np.float64)
            taps = weight[(slice(group * inner, (group + 1) * inner), slice(None), *tap)].astype(np.float64)
            target = whole[(slice(None), slice(group * outer, (group + 1) * outer), *window)]
            target += np.einsum("nc...,co->no...", own, taps)
    return whole[(slice(None), slice(None), *(slice(pads[i], pads[i] + output[i]) for i in range(rank)))]

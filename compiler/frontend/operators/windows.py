"""Attributes that convolutions and poolings share.

In: kernel_shape, strides, pads, dilations, auto_pad of a node. Out: a `Window` with symbolic padding: SAME
padding depends on sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ....runtime.errors import ModelError
from ....runtime.symbolic import ZERO, Expression, maximum
from ..errors import Unsupported
from ..node import Node


@dataclass(frozen=True)
class Window:
    """One entry a spatial dimension; `pads` has the begins, then the ends."""

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    pads: list[Expression]

    @property
    def rank(self) -> int:
        return len(self.kernel)

    def extent(self, axis: int) -> int:
        """Elements from the first to the last that one window covers."""
        return (self.kernel[axis] - 1) * self.dilations[axis] + 1


def window_of(node: Node, kernel: Sequence[int], sizes: Sequence[Expression]) -> Window:
    """The window over spatial dimensions of `sizes`. Raises ModelError for attributes of wrong length or
    sign.
    """
    rank = len(sizes)
    strides = node.get("strides") or [1] * rank
    dilations = node.get("dilations") or [1] * rank
    pads = node.get("pads") or [0] * (2 * rank)
    for name, values, length in (
        ("kernel_shape", kernel, rank),
        ("strides", strides, rank),
        ("dilations", dilations, rank),
        ("pads", pads, 2 * rank),
    ):
        if len(values) != length or (name != "pads" and any(value < 1 for value in values)):
            raise ModelError(f"{name} {list(values)} does not fit {rank} spatial dimensions")
    mode = node.get("auto_pad", "NOTSET") or "NOTSET"
    window = Window(list(kernel), strides, dilations, [Expression.constant(int(value)) for value in pads])
    if mode == "NOTSET":
        return window
    if mode == "VALID":
        return Window(window.kernel, strides, dilations, [ZERO] * (2 * rank))
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        return Window(window.kernel, strides, dilations, _same(window, sizes, mode == "SAME_UPPER"))
    raise Unsupported(f"auto_pad '{mode}'", "NOTSET, VALID, SAME_UPPER, SAME_LOWER")


def _same(window: Window, sizes: Sequence[Expression], upper: bool) -> list[Expression]:
    """Padding that makes the output ceil(size / stride); the odd element goes to the end when `upper`."""
    begins, ends = [], []
    for axis, size in enumerate(sizes):
        stride, extent = window.strides[axis], window.extent(axis)
        needed = (size.ceil_divide(stride) - 1) * stride + extent - size
        total = needed if needed.is_nonnegative() else maximum(needed, 0)
        half = total // 2
        begins.append(half if upper else total - half)
        ends.append(total - half if upper else half)
    return [*begins, *ends]

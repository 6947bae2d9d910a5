"""Kernels as Python functions, for devices that are not there.

In: a function from an address, dtype and count to a numpy view, and the launch's arguments. Out: the memory
changed as a GPU kernel of that name would. It exists so that the runtime is tested without PTX.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

View = Callable[[int, type, int], np.ndarray]


def add(view: View, arguments: Sequence[int]) -> None:
    """z = x + y over n elements of f32."""
    x, y, z, count = arguments
    view(z, np.float32, count)[:] = view(x, np.float32, count) + view(y, np.float32, count)


def scale(view: View, arguments: Sequence[int]) -> None:
    """y[i, j] = x[i, j] * w[j] over n rows of 4, f32."""
    x, weight, y, rows = arguments
    product = view(x, np.float32, rows * 4).reshape(rows, 4) * view(weight, np.float32, 4)
    view(y, np.float32, rows * 4)[:] = product.ravel()


def is_positive(view: View, arguments: Sequence[int]) -> None:
    """c = sum(x) > 0, one byte."""
    x, condition, count = arguments
    view(condition, np.uint8, 1)[0] = view(x, np.float32, count).sum() > 0


def cast_bytes(view: View, arguments: Sequence[int]) -> None:
    """y = x for one element of f64, and b = not b0: a kernel over 0-d tensors."""
    x, flag, y, inverse = arguments
    view(y, np.float64, 1)[:] = view(x, np.float64, 1)
    view(inverse, np.uint8, 1)[:] = 1 - view(flag, np.uint8, 1)


KERNELS = {function.__name__: function for function in (add, scale, is_positive, cast_bytes)}

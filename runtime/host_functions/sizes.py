"""Sizes that depend on data: what a small integer tensor says becomes the values of symbols.

In: downloaded integers and the sizes of the tensor that they are about. Out: non-negative integers, with the
rules of the operator that asks (-1 and 0 of Reshape, negative bounds of Slice).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ModelError
from . import HostCall, host_function


@host_function("sizes")
def sizes(call: HostCall) -> Sequence[Any]:
    """The elements of all inputs as they are."""
    call.symbols = [int(item) for values in call.inputs for item in np.ravel(values)]
    if any(size < 0 for size in call.symbols):
        raise ModelError(f"{call.attributes.get('operator', 'a node')}: a negative size: {list(call.symbols)}")
    return ()


@host_function("reshape_sizes")
def reshape_sizes(call: HostCall) -> Sequence[Any]:
    """The target of a Reshape for an input of `call.sizes`: 0 copies a size unless `allowzero`, -1 is the rest."""
    wanted = [int(item) for item in np.ravel(call.inputs[0])]
    if not call.attributes.get("allowzero"):
        given = [*call.sizes, *[0] * len(wanted)]
        wanted = [given[axis] if size == 0 else size for axis, size in enumerate(wanted)]
    total, known = math.prod(call.sizes), math.prod(size for size in wanted if size != -1)
    if -1 in wanted and known:
        wanted[wanted.index(-1)] = total // known
    if any(size < 0 for size in wanted) or math.prod(wanted) != total:
        raise ModelError(f"Reshape of {list(call.sizes)} to {[int(item) for item in np.ravel(call.inputs[0])]}")
    call.symbols = wanted
    return ()


@host_function("expand_sizes")
def expand_sizes(call: HostCall) -> Sequence[Any]:
    """The broadcast of the sizes of a tensor and of a given shape."""
    try:
        call.symbols = np.broadcast_shapes(tuple(call.sizes), tuple(int(item) for item in np.ravel(call.inputs[0])))
    except ValueError:
        raise ModelError(f"Expand of {list(call.sizes)} to {list(map(int, np.ravel(call.inputs[0])))}") from None
    return ()


@host_function("range_size")
def range_size(call: HostCall) -> Sequence[Any]:
    """max(ceil((limit - start) / step), 0)"""
    start, limit, step = (np.asarray(item).reshape(()).item() for item in call.inputs)
    if not step:
        raise ModelError("Range with a step of 0")
    call.symbols = [max(math.ceil((limit - start) / step), 0)]
    return ()


@host_function("slice_bounds")
def slice_bounds(call: HostCall) -> Sequence[Any]:
    """For each axis, of which `call.sizes` has the size and the attribute `steps` the step: the first position and
    the number of elements, from starts and ends.
    """
    starts, ends = (np.ravel(item).tolist() for item in call.inputs)
    bound = []
    for start, end, step, size in zip(starts, ends, call.attributes["steps"], call.sizes, strict=True):
        positions = range(size)[slice(start, end, step)]
        bound += [positions.start if len(positions) else 0, len(positions)]
    call.symbols = bound
    return ()


@host_function("equal_sizes")
def equal_sizes(call: HostCall) -> Sequence[Any]:
    """Nothing, where the two sizes are equal: a branch that is taken needs that. The attribute `pair` spells them."""
    left, right = call.sizes
    if left != right:
        wanted = " == ".join(map(str, call.attributes["pair"]))
        raise ModelError(
            f"these input shapes do not fit together: the branch needs {wanted}, which are {left} and {right}"
        )
    return ()

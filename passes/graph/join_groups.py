"""Pass `join-groups`: grouped convolutions with narrow groups become ones with fewer and wider groups.

In: convolutions of several groups with constant weights, a few channels each, as in ResNeXt. Out: the same with groups
of a line of channels, whose weights have zeros where a result's group does not reach. wgmma then has whole lines to
read and columns to fill; the products with zeros cost less than tiles of which a quarter is used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from mlir import ir

from ...dialects import graph_builder as build
from ...dialects.tensors import element_of, shape_of
from ...runtime.symbolic import product
from ..target import find_target
from ..unit import Unit, WeightStore, register_pass
from .plan_precision import NARROW, narrow_type
from .rewriting import Array, blocks_within, erase_dead, functions, integer, operations_of, producer, string

ELEMENTS = ("f32", *NARROW, "i8")  # of weights; the zeros among bytes are exact
LEAST_PIXELS = 32  # of results, for wgmma
LINES = (64, 32, 16)  # channels that fill 128, 64 or 32 bytes of halves, best first; 64 and 32 bytes of integers


@register_pass("join-groups", requires="graph", ensures="graph")
def join_groups(unit: Unit) -> None:
    """Join narrow groups of convolutions for tensor cores.

    before::

        %0 = "graph.convolution"(%x, %w) {groups = 32, ...}
            : (tensor<?x128x56x56xf32>, tensor<128x4x3x3xf32>) -> tensor<?x128x56x56xf32>

    after::

        %0 = "graph.convolution"(%x, %joined) {groups = 2, ...}     // of 64 channels; 15 of 16 weights are zero
            : (tensor<?x128x56x56xf32>, tensor<128x64x3x3xf32>) -> tensor<?x128x56x56xf32>

    An infinite value then reaches the results of its neighbours in the line, as NaN: only in f16 and bf16.
    """
    if not find_target(unit.target).wgmma:
        return
    with unit.module.context, ir.Location.unknown():
        main = functions(unit.module)["main"]
        for block in blocks_within(main):
            for operation in operations_of(block):
                groups = _groups(unit, operation)
                if groups is not None and (joined := groups.joined) > 1:
                    _join(operation, groups, joined, unit.weights)
        erase_dead(main)


@dataclass(frozen=True)
class Groups:
    """Of a convolution: how many, and the input and output channels of each."""

    count: int
    channels: int
    outputs: int

    @property
    def joined(self) -> int:
        """How many become one; 1 where none do."""
        ways = [line // self.channels for line in LINES if line % self.channels == 0]
        if self.channels % LINES[0] == LINES[0] // 2:
            ways = [2]
        return next((way for way in ways if self.count % way == 0), 1)


def _groups(unit: Unit, operation: ir.Operation) -> Groups | None:
    """The groups of a convolution in channels-first with constant weights; None of a depthwise one."""
    if operation.name != "graph.convolution" or string(operation, "layout") != "channels_first":
        return None
    if narrow_type(unit, operation.operands[0]) is None:
        return None
    count, owner = integer(operation, "groups"), producer(operation.operands[1])
    if owner is None or owner.name != "graph.weight" or element_of(owner.results[0]) not in ELEMENTS:
        return None
    batch, _, *pixels = shape_of(operation.results[0])
    outputs, channels, *_ = (size.as_constant() or 0 for size in shape_of(operation.operands[1]))
    if (product([batch, *pixels]).as_constant() or LEAST_PIXELS) < LEAST_PIXELS:
        return None
    return Groups(count, channels, outputs // count) if count > 1 and channels > 1 else None


def _join(operation: ir.Operation, groups: Groups, joined: int, weights: WeightStore) -> None:
    old = operation.operands[1]
    owner = producer(old)
    assert owner is not None
    handle = string(owner, "handle")
    fresh = weights.add(f"{handle}.joined", lambda: joined_weight(weights.get(handle), groups, joined))
    outputs, channels, *kernel = shape_of(old)
    with ir.InsertionPoint(operation), operation.location:
        operation.operands[1] = build.weight(fresh, [outputs, channels * joined, *kernel], element_of(old))
    operation.attributes["groups"] = build.attribute(groups.count // joined)


def joined_weight(array: Array, groups: Groups, joined: int) -> Array:
    """The weights [O, C, kernel...] with `joined` times as many channels, zero but for those of a result's group."""
    kernel = array.shape[2:]
    own = array.reshape(-1, joined, groups.outputs, groups.channels, *kernel)
    whole = np.zeros((own.shape[0], joined, groups.outputs, joined, groups.channels, *kernel), array.dtype)
    for number in range(joined):
        whole[:, number, :, number] = own[:, number]
    return whole.reshape(array.shape[0], joined * groups.channels, *kernel)

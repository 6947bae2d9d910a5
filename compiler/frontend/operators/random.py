"""Random numbers: Philox4x32-10, which gives every element its number from its position and a seed.

In: shapes and distributions. Out: maps. The same engine draws the same numbers in every run; nodes without a
`seed` get one from their name. Source: Salmon and others, Parallel Random Numbers: As Easy as 1, 2, 3 (2011).
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence

from mlir import ir

from ....dialects import graph_builder as build
from ....dialects.scalar import Scalar
from ....runtime.symbolic import Expression
from ..node import Node
from ..registry import onnx_operator

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)  # added to the key after every round
UNIT = 2.0**-24  # the difference between neighbouring f32 numbers that are drawn


def seed_of(node: Node) -> tuple[int, int]:
    """Two 32-bit words: the bits of the `seed` attribute, or of the node's name."""
    seed = node.get("seed")
    if seed is None:
        return zlib.crc32(node.name.encode()), zlib.crc32(node.operator.encode())
    return struct.unpack("<I", struct.pack("<f", float(seed)))[0], 0


def philox(counter: Scalar, key: tuple[int, int]) -> list[Scalar]:
    """In a map: four random ui32 words for an i64 counter."""
    low, high = counter.cast("ui32"), counter.shift_right(32).cast("ui32")
    words = [low, high, Scalar.constant(0, "ui32"), Scalar.constant(0, "ui32")]
    for number in range(ROUNDS):
        first, second = (words[2 * half].cast("ui64") * MULTIPLIERS[half] for half in (0, 1))
        keys = [(key[half] + number * WEYL[half]) & 0xFFFFFFFF for half in (0, 1)]
        words = [
            second.shift_right(32).cast("ui32") ^ words[1] ^ keys[0],
            second.cast("ui32"),
            first.shift_right(32).cast("ui32") ^ words[3] ^ keys[1],
            first.cast("ui32"),
        ]
    return words


def flat_position(shape: Sequence[Expression]) -> Scalar:
    """In a map of that shape: the number of the current element."""
    result = Scalar.constant(0, "i64")
    for axis, size in enumerate(shape):
        result = result * build.dimension(size) + build.index(axis)
    return result


def uniform(shape: Sequence[Expression], key: tuple[int, int]) -> Scalar:
    """In a map: an f32 in [0, 1)."""
    return philox(flat_position(shape), key)[0].shift_right(8).cast("f32") * UNIT


def normal(shape: Sequence[Expression], key: tuple[int, int]) -> Scalar:
    """In a map: an f32 of the standard normal distribution, by Box and Muller."""
    words = philox(flat_position(shape), key)
    radius = (-2.0 * ((words[0].shift_right(8).cast("f32") + 1.0) * UNIT).log()).sqrt()
    return radius * (words[1].shift_right(8).cast("f32") * (2.0 * math.pi * UNIT)).function("cos")


@onnx_operator("RandomUniform", "RandomNormal", "RandomUniformLike", "RandomNormalLike")
def random(node: Node) -> ir.Value:
    like = node.operator.endswith("Like")
    shape = node.shape(0) if like else build.expressions(node.get("shape"))
    kind = node.get("dtype")
    dtype = node.importer.element_name(kind) if kind else node.dtype(0) if like else "f32"
    key = seed_of(node)

    def body() -> Scalar:
        if "Normal" in node.operator:
            scale, mean = float(node.get("scale", 1.0)), float(node.get("mean", 0.0))
            return (normal(shape, key) * scale + mean).cast(dtype)
        low, high = float(node.get("low", 0.0)), float(node.get("high", 1.0))
        return (uniform(shape, key) * (high - low) + low).cast(dtype)

    return node.map([], body, shape=shape)


@onnx_operator("Bernoulli")
def bernoulli(node: Node) -> ir.Value:
    """1 with the probability that the input gives."""
    kind = node.get("dtype")
    dtype = node.importer.element_name(kind) if kind else node.dtype(0)
    key, shape = seed_of(node), node.shape(0)
    return node.map([node.input(0)], lambda p: uniform(shape, key).lt(p.cast("f32")).cast(dtype))


@onnx_operator("Multinomial")
def multinomial(node: Node) -> ir.Value:
    """Class numbers drawn from unnormalised log-probabilities, [N, classes] -> [N, samples]."""
    x = node.input(0)
    kind = node.get("dtype")
    dtype = node.importer.element_name(kind) if kind else "i32"
    shape = build.expressions([x.shape[0], int(node.get("sample_size", 1))])
    key = seed_of(node)
    wide = node.map([x], lambda v: v.cast("f32"))
    shifted = node.map([wide, build.reduce(wide, "max", [1])], lambda v, largest: (v - largest).exp())
    running = build.scan(shifted, "sum", 1)
    total = build.reduce(shifted, "sum", [1])
    drawn = node.map([], lambda: uniform(shape, key), shape=shape)

    def passed() -> Scalar:
        """1 where the class at the last index lies wholly below the number drawn."""
        row, sample, label = (build.index(axis) for axis in range(3))
        limit = build.element_at(drawn, [row, sample]) * build.element_at(total, [row, 0])
        return build.element_at(running, [row, label]).le(limit).cast("i32")

    below = build.reduce(node.map([], passed, shape=[*shape, x.shape[1]]), "sum", [2])
    last = x.shape[1]
    return node.map(
        [build.remove_dimensions(below, [2])], lambda v: v.minimum(build.dimension(last).cast("i32") - 1), element=dtype
    )

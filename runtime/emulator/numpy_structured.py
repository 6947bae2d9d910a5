"""mma.sync with a sparse A, with scaled blocks, or with both, in the NumPy engine.

In: a chunk, a mask, fragments as arrays over threads, metadata, scales. Out: fragments of D. Why: a sparse A is written
out with its zeros, blocks are multiplied by their scales, and then it is a product as any other. Layouts: PTX ISA,
"Sparse matrix storage" and "Block scaling for mma.sync".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .numpy_chunk import Array, Chunk, Mask, Values
from .numpy_matrix import elements, multiply_fragments, require_whole_warps
from .numpy_small_floats import small_to_f32

_SIXTEEN_BITS = ("f16", "bf16", "tf32")
"""Elements whose zeros are told by units of 16 bits (tf32: two units); of others a unit is a byte (of 4 bits: two)."""
_ALLOWED = {"tf32": ((0, 1), (2, 3))}
"""Pairs of places in four units that metadata may name; elsewhere any two that differ, in order where it is ordered."""
_SCALE_BIAS, _SCALE_NAN = 127, 255


def structured_mma(
    chunk: Chunk, mask: Mask, line: int, *registers: Values, counts: tuple[int, int, int], a: str, b: str, c: str,
    count: int, selector: int | None = None, ordered: bool = False, scales: int = 0, factor: str = "",
    saturating: bool = False,
) -> tuple[Values, ...]:  # fmt: skip
    """`counts` registers of A, of B and of C; then, with a `selector`, the metadata of a sparse A; then, with `scales`
    of each row of A and column of B, their words of type `factor`, each followed by byte and thread selectors.
    """
    if mask is not None:
        require_whole_warps(chunk, mask, line, "mma.sync")
    behind_a, behind_b = counts[0], counts[0] + counts[1]
    behind_c = behind_b + counts[2]
    left = np.concatenate([_words(chunk, registers[first:behind_a:2]) for first in (0, 1)], axis=1)
    right = _words(chunk, registers[behind_a:behind_b])
    rest = [_words(chunk, (register,)) for register in registers[behind_c:]]
    if selector is not None:
        left = _with_zeros(chunk, mask, line, a, left, rest.pop(0), selector, ordered)
    rows = elements(a, left.reshape(-1)).reshape(*left.shape[:2], -1)
    columns = elements(b, right.reshape(-1)).reshape(*right.shape[:2], -1)
    if scales:
        _check_selectors(chunk, mask, line, rest, scales)
        rows = _scaled(rows, _scales_of_rows(rest[:3], scales, factor))
        columns = _scaled(columns, _scales_of_columns(rest[3:], scales, factor))
    return multiply_fragments(
        chunk, mask, line, rows, columns.transpose(0, 2, 1), *registers[behind_b:behind_c], c=c, saturating=saturating
    )  # fmt: skip


def _words(chunk: Chunk, registers: Sequence[Values]) -> Array:
    """Registers that hold one line per g, as [warps, 8, words] in the order of k: a register's words of all t follow
    each other."""
    words = np.empty((chunk.threads, len(registers)), np.uint32)
    for column, register in enumerate(registers):
        words[:, column] = register
    quads = words.reshape(-1, 8, 4, len(registers)).transpose(0, 1, 3, 2)
    return np.ascontiguousarray(quads).reshape(len(quads), 8, -1)


# Sparse.
def _with_zeros(
    chunk: Chunk, mask: Mask, line: int, type: str, packed: Array, metadata: Array, selector: int, ordered: bool
) -> Array:  # fmt: skip
    """A of [warps, 16, words] with its zeros: twice as many words."""
    units = packed.view("u2" if type in _SIXTEEN_BITS else "u1")
    places = _places(metadata, units.shape[2], units.itemsize == 2, selector)
    pairs = places.reshape(*places.shape[:2], -1, 2)
    allowed = (pairs[..., 0] < pairs[..., 1]) if ordered else (pairs[..., 0] != pairs[..., 1])
    if type in _ALLOWED:
        allowed = np.any([(pairs == pair).all(axis=-1) for pair in _ALLOWED[type]], axis=0)
    wrong = ~allowed.all(axis=2)
    if mask is not None:
        wrong &= mask.reshape(-1, 32)[:, :1]
    if wrong.any():
        warp, row = (int(index) for index in np.argwhere(wrong)[0])
        chunk.fault(line, f"mma.sp: the metadata of row {row} name places of elements that there cannot be", 32 * warp)
    whole = np.zeros((*units.shape[:2], 2 * units.shape[2]), units.dtype)
    fours = 4 * (np.arange(units.shape[2]) // 2)
    np.put_along_axis(whole, fours + places, units, axis=2)
    widened: Array = whole.view("u4")
    return widened


def _places(metadata: Array, count: int, wide: bool, selector: int) -> Array:
    """For each of `count` units of a row of A which of four it is: [warps, 16, count], from [warps, 8, 4] words.

    The lanes of a quad that have them hold rows g and g + 8: in halves of a word (`wide` units), or in a word each; one
    lane, a pair or all four of the quad hold K in rising order.
    """
    lanes = count * 4 // 32
    chosen = metadata[:, :, lanes * selector : lanes * (selector + 1)]
    shifts = np.arange(0, 32, 2, dtype=np.uint32)
    fields = (chosen[..., None] >> shifts & np.uint32(3)).astype(np.intp)  # [warps, g, lane, 16]
    rows = fields.reshape(*fields.shape[:2], -1, 2, 8 if wide else 16)  # ..., K, row, unit
    places: Array = rows.transpose(0, 3, 1, 2, 4).reshape(len(metadata), 16, count)
    return places


# Scaled.
def _scaled(lines: Array, scales: Array) -> Array:
    """Lines [warps, n, k] with each of `scales` [warps, n, blocks] on its part of k, in f64: f32 would overflow."""
    blocks = lines.astype("f8").reshape(*scales.shape, -1) * scales[..., None]
    return np.asarray(blocks.reshape(lines.shape))


def _check_selectors(chunk: Chunk, mask: Mask, line: int, operands: Sequence[Array], count: int) -> None:
    """Bytes are a multiple of the `count` that is taken; threads a pair of a quad for A, one of a quad for B."""
    values = [operand[:, 0, 0] for operand in (*operands[1:3], *operands[4:6])]
    limits, steps = (4, 2, 4, 4), (count, 1, count, 1)
    wrong = np.zeros(len(values[0]), bool)
    for value, limit, step in zip(values, limits, steps, strict=True):
        wrong |= (value >= limit) | (value % step != 0)
    if mask is not None:
        wrong &= mask.reshape(-1, 32)[:, 0]
    if wrong.any():
        warp = int(wrong.argmax())
        byte_a, thread_a, byte_b, thread_b = (int(value[warp]) for value in values)
        chunk.fault(line, f"block_scale: scale_vec::{count}X has no byte {byte_a} of thread {thread_a} for A, or no "
                          f"byte {byte_b} of thread {thread_b} for B", 32 * warp)  # fmt: skip


def _scales_of_rows(operands: Sequence[Array], count: int, factor: str) -> Array:
    """Of A: of a pair of lanes of each quad, the first has row g, the second row g + 8."""
    words, byte, thread = operands
    rows = [_of_lane(words, 2 * thread + half) for half in (0, 1)]
    return _factors(np.concatenate(rows, axis=1), byte, count, factor)


def _scales_of_columns(operands: Sequence[Array], count: int, factor: str) -> Array:
    """Of B: one lane of each quad has column g."""
    words, byte, thread = operands
    return _factors(_of_lane(words, thread), byte, count, factor)


def _of_lane(words: Array, lane: Array) -> Array:
    """Of [warps, 8, 4] words those of the lane that a warp names: [warps, 8]."""
    chosen: Array = words[np.arange(len(words)), :, lane[:, 0, 0] % 4]
    return chosen


def _factors(words: Array, byte: Array, count: int, factor: str) -> Array:
    """`count` bytes of each of [warps, lines] words, from the selected one on, as numbers in f64."""
    patterns = np.ascontiguousarray(words)[..., None].view("u1")
    places = (byte[:, :1, :1] + np.arange(count)) % 4
    chosen = np.take_along_axis(patterns, np.broadcast_to(places, (*words.shape, count)).astype(np.intp), axis=2)
    if factor == "ue4m3":
        return np.asarray(small_to_f32("e4m3", chosen & np.uint8(0x7F)).astype("f8"))
    values = np.ldexp(1.0, chosen.astype("i4") - _SCALE_BIAS)
    return np.asarray(np.where(chosen == _SCALE_NAN, np.nan, values))

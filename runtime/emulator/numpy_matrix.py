"""Tensor-core routines of the NumPy engine: ldmatrix, stmatrix, movmatrix and mma.sync.

In: a chunk, a mask, fragments as arrays over threads. Out: fragments. Why: with lane = 4g + t, every fragment
register is a row-major [warps, 8, 4] block as it stands, so a fragment becomes a matrix by one interleaving
copy, and k may be permuted alike in A and B. Layouts: PTX ISA, section on mma.m16n8k16 and its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .memory import SHARED_WINDOW, WINDOW_BYTES
from .numpy_chunk import Array, Chunk, Mask, Values
from .numpy_memory import indices
from .numpy_operations import bf16_to_f32, f16_to_f32
from .numpy_rounding import f32_to_f16
from .numpy_small_floats import small_to_f32

TF32_BITS = np.uint32(0xFFFFE000)


def fragment(chunk: Chunk, type: str, registers: Sequence[Values]) -> Array:
    """Registers that hold one matrix row per g, as f32 [warps, 8, columns]; columns in (t, register, element) order.

    f16 and bf16 come in twos, bytes in fours, nibbles in eights, bits in 32s, tf32 (truncated, as the hardware does)
    singly. f64 stays f64, and comes singly too.
    """
    words = np.empty((chunk.threads, len(registers)), np.float64 if type == "f64" else np.uint32)
    for column, register in enumerate(registers):
        words[:, column] = register
    values = words.reshape(-1) if type == "f64" else elements(type, words.reshape(-1))
    matrix: Array = values.reshape(chunk.threads // 32, 8, -1)
    return matrix


def elements(type: str, words: Array) -> Array:
    """The elements of 32-bit words, one word after the other, as f32: [words, elements of a word], flat.

    Floats of 4 and 6 bits have a byte each: e2m1 its middle bits, e2m3 and e3m2 its lower ones; e2m1x2 has two in one.
    """
    if type == "f16":
        values = f16_to_f32(words.view("u2"))
    elif type == "bf16":
        values = bf16_to_f32(words.view("u2"))
    elif type == "tf32":
        values = (words & TF32_BITS).view("f4")
    elif type == "b1":
        values = np.unpackbits(words.view("u1"), bitorder="little").astype("f4")
    elif type in ("s4", "u4"):
        both = _nibbles(words.view("u1")).astype("i1")
        values = np.where(both > 7, both - 16, both) if type == "s4" else both
    elif type in ("s8", "u8"):
        values = words.view("i1" if type == "s8" else "u1")
    elif type == "e2m1x2":
        values = small_to_f32("e2m1", _nibbles(words.view("u1")))
    else:
        patterns = words.view("u1")
        values = small_to_f32(type, patterns >> np.uint8(2) if type == "e2m1" else patterns)
    return np.asarray(values).astype("f4", copy=False).reshape(-1)


def _nibbles(packed: Array) -> Array:
    """4-bit patterns, low nibble first, along a last axis."""
    return np.stack((packed & np.uint8(15), packed >> np.uint8(4)), axis=-1)


def fragment_a(chunk: Chunk, type: str, registers: Sequence[Values]) -> Array:
    """A of mma.m16n8*: even registers are rows g, odd ones rows g + 8. Gives f32 [warps, 16, k]. One register alone is
    A of mma.m8n8*: [warps, 8, k].
    """
    if len(registers) == 1:
        return fragment(chunk, type, registers)
    upper = fragment(chunk, type, registers[0::2])
    lower = fragment(chunk, type, registers[1::2])
    return np.concatenate((upper, lower), axis=1)


def fragment_b(chunk: Chunk, type: str, registers: Sequence[Values]) -> Array:
    """B of mma.m16n8*, f32 [warps, k, 8], with k permuted as in `fragment_a`."""
    return np.asarray(fragment(chunk, type, registers).transpose(0, 2, 1))


def multiply_fragments(
    chunk: Chunk, mask: Mask, line: int, a: Array, b: Array, *accumulators: Values,
    c: str, saturating: bool = False, exclusive: bool = False,
) -> tuple[Values, ...]:  # fmt: skip
    """D = A B + C, with A B summed in f32 (products are exact) and C added last; hardware's order is not
    specified. `exclusive` products of bits are their xor.
    """
    if mask is not None:
        require_whole_warps(chunk, mask, line, "mma.sync")
    warps = chunk.threads // 32
    product = np.matmul(a, 1 - b) + np.matmul(1 - a, b) if exclusive else np.matmul(a, b)
    halves = [product[:, first : first + 8] for first in range(0, product.shape[1], 8)]
    if c == "f16":
        results = []
        for half, packed in zip(halves, accumulators, strict=True):
            words = np.ascontiguousarray(np.broadcast_to(packed, (chunk.threads,)))
            total = half.reshape(-1) + f16_to_f32(words.view("u2"))
            results.append(np.ascontiguousarray(f32_to_f16(total)).view("u4"))
        return tuple(results)
    parts = [half[:, :, column::2] for half in halves for column in (0, 1)]
    outputs = []
    for part, accumulator in zip(parts, accumulators, strict=True):
        shaped = accumulator if accumulator.ndim == 0 else accumulator.reshape(warps, 8, 4)
        if c == "s32":
            whole = part.astype("i8") + shaped
            total = (np.clip(whole, -(1 << 31), (1 << 31) - 1) if saturating else whole).astype("i4")
        else:
            total = (part + shaped).astype(shaped.dtype, copy=False)
        outputs.append(total.reshape(-1))
    return tuple(outputs)


def multiply(
    chunk: Chunk, mask: Mask, line: int, *registers: Values, counts: tuple[int, int, int], a: str, b: str, c: str,
    count: int, **options: bool,
) -> tuple[Values, ...]:  # fmt: skip
    """mma.sync at once: `counts` registers of A, of B and of C, whose elements are of types `a`, `b` and `c`."""
    behind_a, behind_b = counts[0], counts[0] + counts[1]
    left = fragment_a(chunk, a, registers[:behind_a])
    right = fragment_b(chunk, b, registers[behind_a:behind_b])
    return multiply_fragments(chunk, mask, line, left, right, *registers[behind_b:], c=c, **options)


def require_whole_warps(chunk: Chunk, mask: Array, line: int, name: str) -> None:
    """`.sync.aligned` instructions need all 32 lanes of a warp; a fault names the first lane that is missing."""
    rows = mask.reshape(-1, 32)
    partial = rows.any(axis=1) & ~rows.all(axis=1)
    if partial.any():
        warp = int(partial.argmax())
        lane = int((~rows[warp]).argmax())
        chunk.fault(line, f"{name} executed by a part of a warp (lane {lane} does not take part)", 32 * warp + lane)


def row_addresses(chunk: Chunk, mask: Mask, line: int, address: Values, count: int, verb: str) -> Array:
    """Shared-memory indices of 16-byte rows, [warps, 8 * count]: lane l gives row l % 8 of matrix l / 8."""
    providers: Mask = mask
    if count < 4:
        lanes = np.tile(np.arange(32) < 8 * count, chunk.threads // 32)
        providers = lanes if mask is None else lanes & mask
    if mask is not None:
        require_whole_warps(chunk, mask, line, verb)
    address = np.broadcast_to(address, (chunk.threads,))
    index = indices(chunk, providers, line, address, 16, "shared", verb)
    return index.reshape(-1, 32)[:, : 8 * count]


def load_matrix(
    chunk: Chunk, mask: Mask, line: int, address: Values, *, count: int, transposed: bool
) -> tuple[Values, ...]:
    """ldmatrix: lane 4g + t receives elements 2t, 2t + 1 of row g, or with .trans of column g."""
    address = leave_window(address)
    rows = chunk.view("shared", "c16").take(row_addresses(chunk, mask, line, address, count, "ldmatrix"))
    if not transposed:
        words = rows.view("u4").reshape(-1, count, 32)
        return tuple(words[:, matrix].reshape(-1) for matrix in range(count))
    elements = rows.view("u2").reshape(-1, count, 8, 8)
    return tuple(
        np.ascontiguousarray(elements[:, matrix].transpose(0, 2, 1)).view("u4").reshape(-1) for matrix in range(count)
    )


def leave_window(address: Values) -> Values:
    """ldmatrix without `.shared` takes generic addresses, which must be in the shared window."""
    if address.dtype == np.uint64:
        low = int(address.min())
        if SHARED_WINDOW <= low < SHARED_WINDOW + WINDOW_BYTES:
            return address - np.uint64(SHARED_WINDOW)
    return address


def store_matrix(
    chunk: Chunk, mask: Mask, line: int, address: Values, *registers: Values, count: int, transposed: bool
) -> tuple[()]:
    """stmatrix: the inverse of ldmatrix."""
    matrices = len(registers)
    index = row_addresses(chunk, mask, line, leave_window(address), matrices, "stmatrix")
    warps = chunk.threads // 32
    data = np.empty((warps, matrices, 8, 8), np.uint16)
    for matrix, register in enumerate(registers):
        words = np.ascontiguousarray(np.broadcast_to(register, (chunk.threads,))).view("u2").reshape(warps, 8, 8)
        data[:, matrix] = words.transpose(0, 2, 1) if transposed else words
    rows = data.reshape(warps, matrices * 8, 8).view("c16")[..., 0]
    target = chunk.view("shared", "c16")
    if mask is None:
        target[index] = rows
    else:
        whole = mask.reshape(-1, 32)[:, 0]
        target[index[whole]] = rows[whole]
    return ()


def transpose_matrix(chunk: Chunk, mask: Mask, line: int, value: Values, *, count: int) -> tuple[Values]:
    """movmatrix.sync.aligned.m8n8.trans.b16."""
    words = np.ascontiguousarray(np.broadcast_to(value, (chunk.threads,))).view("u2").reshape(-1, 8, 8)
    return (np.ascontiguousarray(words.transpose(0, 2, 1)).view("u4").reshape(-1),)

"""ldmatrix and stmatrix of bytes in the NumPy engine.

In: a chunk, a mask, addresses of rows of 16 bytes. Out: fragments, or shared memory changed. Why: Blackwell moves
matrices of 8-bit elements, transposed, and widens packed ones of 4 and 6 bits to bytes on the way. Layouts: PTX ISA,
sections on ldmatrix and stmatrix.
"""

from __future__ import annotations

import numpy as np

from .numpy_chunk import Array, Chunk, Mask, Values
from .numpy_matrix import leave_window, row_addresses

_ROW_BYTES = 16
_ELEMENTS = 16


def load_byte_matrix(
    chunk: Chunk, mask: Mask, line: int, address: Values, *, count: int, square: bool, bits: int
) -> tuple[Values, ...]:
    """Lane 4g + t receives elements 4t to 4t + 3 of row g of each matrix; of `square` ones, which have 16 rows, are
    transposed and come in two registers, of rows g and g + 8. Elements of fewer `bits` than 8 lie at the beginning of
    their row, one behind the other.
    """
    height = 16 if square else 8
    index = row_addresses(chunk, mask, line, leave_window(address), count * height // 8, "ldmatrix")
    rows = np.ascontiguousarray(chunk.view("shared", "c16").take(index)).view("u1")
    matrices = _widened(rows.reshape(-1, _ROW_BYTES), bits).reshape(-1, count, height, _ELEMENTS)
    if square:
        matrices = matrices.transpose(0, 1, 3, 2).reshape(-1, 2 * count, 8, _ELEMENTS)
    words = np.ascontiguousarray(matrices).view("u4")  # [warps, registers, row, 4]
    return tuple(words[:, register].reshape(-1) for register in range(words.shape[1]))


def _widened(rows: Array, bits: int) -> Array:
    """Sixteen elements of each row, a byte for each."""
    if bits == 8:
        return rows
    flags = np.unpackbits(rows[:, : _ELEMENTS * bits // 8], axis=1, bitorder="little")
    elements = np.zeros((len(rows), _ELEMENTS, 8), np.uint8)
    elements[:, :, :bits] = flags.reshape(len(rows), _ELEMENTS, bits)
    return np.packbits(elements, axis=2, bitorder="little")[:, :, 0]


def store_byte_matrix(
    chunk: Chunk, mask: Mask, line: int, address: Values, *registers: Values, count: int
) -> tuple[()]:
    """stmatrix m16n8, transposed: of each matrix lane 4g + t has, of row g and then of row g + 8, elements 2t and
    2t + 1; memory has its eight columns, 16 bytes each.
    """
    index = row_addresses(chunk, mask, line, leave_window(address), count, "stmatrix")
    warps = chunk.threads // 32
    data = np.empty((warps, count, 8, _ROW_BYTES), np.uint8)
    for matrix, register in enumerate(registers):
        fragment = np.ascontiguousarray(np.broadcast_to(register, (chunk.threads,))).view("u1")
        halves = fragment.reshape(warps, 8, 4, 2, 2)  # g, t, half, parity
        data[:, matrix] = halves.transpose(0, 2, 4, 3, 1).reshape(warps, 8, _ROW_BYTES)
    rows = data.reshape(warps, count * 8, _ROW_BYTES).view("c16")[..., 0]
    target = chunk.view("shared", "c16")
    whole = slice(None) if mask is None else mask.reshape(-1, 32)[:, 0]
    target[index[whole]] = rows[whole]
    return ()

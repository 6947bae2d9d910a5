"""wgmma of the NumPy engine: products of a warpgroup with operands in shared memory or registers.

In: accumulators as rows over threads, descriptors or registers of A, descriptors of B. Out: accumulators. Why: the
descriptors' canonical layouts (PTX ISA, "asynchronous warpgroup level matrix shared memory layout") become tables of
16-byte pieces, so that an operand is one gather.

A descriptor: bits 0-13 start address, 16-29 leading byte offset, 32-45 stride byte offset (each / 16), 49-51 base
offset, 62-63 swizzle (0 none, 1 128B, 2 64B, 3 32B).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from .numpy_chunk import Array, Chunk, Mask, Values
from .numpy_matrix import TF32_BITS, fragment_a
from .numpy_operations import bf16_to_f32, f16_to_f32
from .numpy_rounding import f32_to_f16
from .numpy_small_floats import small_to_f32
from .observer import READ, WGMMA

_LANES = 128
_ROWS = 64
_PIECE = 16
_MOST_JOINED = 8
"""Products that become one; sums of so many products of bytes are exact in f32."""
_MOST_MULTIPLICATIONS = 1 << 18
"""Of one call of BLAS: from more on it would start threads of its own."""
_DEPTH_BYTES = 32
"""Bytes of k that one instruction takes, whatever the type."""
_SPANS = {0: 16, 1: 128, 2: 64, 3: 32}
"""Bytes within which a swizzle moves pieces, by its code."""


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A decoded matrix descriptor; offsets in bytes."""

    start: int
    leading: int
    stride: int
    base: int
    swizzle: int


def decode_descriptor(bits: int) -> Descriptor:
    """The fields of 64 bits."""
    return Descriptor(
        (bits & 0x3FFF) << 4, (bits >> 16 & 0x3FFF) << 4, (bits >> 32 & 0x3FFF) << 4, bits >> 49 & 7, bits >> 62
    )


@functools.lru_cache(maxsize=512)
def piece_table(rows: int, depth_bytes: int, along_rows: bool, leading: int, stride: int, swizzle: int) -> Array:
    """Byte offsets, before the swizzle, of the 16-byte pieces of an operand of `rows` (M or N) from its start.

    K-major operands give [rows, pieces along k]; with `along_rows` (transposed, 16-bit types) [k, pieces along rows].
    """
    span = _SPANS[swizzle]
    if not along_rows:
        row, piece = np.arange(rows)[:, None], np.arange(depth_bytes // _PIECE)
        # Eight rows of one span each; the next eight lie `stride` on, and unswizzled the next piece `leading`.
        return np.asarray(row % 8 * span + row // 8 * stride + piece * (_PIECE if swizzle else leading))
    depth, piece = np.arange(depth_bytes // 2)[:, None], np.arange(rows * 2 // _PIECE)
    per_span = span // _PIECE
    across, down = (leading, stride) if swizzle else (stride, leading)
    return np.asarray(depth % 8 * span + depth // 8 * down + piece % per_span * _PIECE + piece // per_span * across)


@functools.lru_cache(maxsize=4096)
def pieces(rows: int, depth_bytes: int, along_rows: bool, bits: int) -> tuple[Array, int]:
    """Shared addresses of the pieces of the operand that a descriptor names, in the order of `piece_table`, and the
    highest of them.
    """
    descriptor = decode_descriptor(bits)
    table = piece_table(rows, depth_bytes, along_rows, descriptor.leading, descriptor.stride, descriptor.swizzle)
    address = descriptor.start + table
    phases = _SPANS[descriptor.swizzle] // _PIECE - 1
    swizzled = address ^ (((address >> 7) - descriptor.base & phases) << 4)
    return swizzled, int(swizzled.max())


def highest_piece(rows: int, along_rows: bool, bits: int) -> int:
    """Shared address of the last piece of an operand of `rows`."""
    return pieces(rows, _DEPTH_BYTES, along_rows, bits)[1]


def beyond_shared(bits: int, highest: int, shared_bytes: int) -> str:
    """What is wrong with a descriptor whose operand leaves shared memory."""
    return (
        f"wgmma: the descriptor {bits:#018x} reaches shared address {highest:#x}; the block has {shared_bytes} bytes "
        "of shared memory"
    )


def to_f32(type: str, raw: Array) -> Array:
    """Elements of an operand, from bytes, as f32, which holds every one of them exactly."""
    if type == "f16":
        return np.asarray(f16_to_f32(raw.view("u2")))
    if type == "bf16":
        return np.asarray(bf16_to_f32(raw.view("u2")))
    if type == "tf32":
        return np.asarray((raw.view("u4") & TF32_BITS).view("f4"))
    if type in ("e4m3", "e5m2"):
        return small_to_f32(type, raw.view("u1"))
    return np.asarray(raw.view("i1" if type == "s8" else "u1").astype("f4"))


@dataclass(slots=True)
class _Call:
    """One executed wgmma.mma_async."""

    chunk: Chunk
    line: int
    known: dict[tuple[int, int, int], Array] = field(default_factory=dict)
    """Operands read so far: warpgroups of a block mostly share B."""

    def shared_operand(self, threads: list[int], bits: int, rows: int, type: str, along_rows: bool) -> Array:
        """`operand`, read once for all warpgroups of a block."""
        key = (threads[0] // self.chunk.geometry.padded, bits, rows)
        if key not in self.known or self.chunk.observer is not None:
            self.known[key] = self.operand(threads, bits, rows, type, along_rows)
        return self.known[key]

    def operand(self, threads: list[int], bits: int, rows: int, type: str, along_rows: bool) -> Array:
        """[rows, k] in f32 of the operand that a descriptor names; `threads` are the first of each warp that reads it.

        The hardware reads once all warps of the group have come; here each may come alone, and is asked what it knows.
        """
        chunk, thread = self.chunk, threads[0]
        address, highest = pieces(rows, _DEPTH_BYTES, along_rows, bits)
        if highest + _PIECE > chunk.launch.shared_bytes:
            chunk.fault(self.line, beyond_shared(bits, highest, chunk.launch.shared_bytes), thread)
        block = thread // chunk.geometry.padded
        if chunk.observer is not None:
            listed = address.reshape(-1).astype("u8")
            chunk.observer.bulk_accessed(
                thread, self.line, READ, "shared", listed, _PIECE, block=block, group=WGMMA, others=threads[1:]
            )
        index = (address + block * chunk.shared_stride) >> 4
        raw = chunk.view("shared", "c16").take(index.reshape(-1))
        matrix = to_f32(type, raw).reshape(len(address), -1)
        return matrix.T if along_rows else matrix


def _registers_of_a(chunk: Chunk, type: str, registers: tuple[Values, ...]) -> Array:
    """A from registers, f32 [warps, 16, k], with k in order."""
    permuted = fragment_a(chunk, type, registers)
    warps, rows, depth = permuted.shape
    each = depth // 8  # elements of one register
    ordered = permuted.reshape(warps, rows, 4, 2, each).transpose(0, 1, 3, 2, 4).reshape(warps, rows, depth)
    return np.ascontiguousarray(ordered)


@dataclass(frozen=True, slots=True)
class _Group:
    """A warpgroup that takes part: its first thread, those of its warps that do, and whether it adds to D."""

    first: int
    warps: tuple[int, ...]
    adds: bool


class Products:
    """Accumulators as rows, computed when somebody wants one: products that add to the same D become one longer one.

    `base` are the rows before, `factors` of each group the operands [64, k] and [columns, k] of every product.
    """

    def __init__(
        self, base: Array, groups: list[_Group], factors: list[list[tuple[Array, Array]]], form: tuple[str, bool, bool]
    ) -> None:
        self._base = base
        self._groups = groups
        self._factors = factors
        self._form = form
        self._rows: Array | None = None

    def and_then(
        self, groups: list[_Group], factors: list[tuple[Array, Array]], form: tuple[str, bool, bool]
    ) -> Products:
        """The accumulators after one more product."""
        type, _, saturating = form
        same = form == self._form and [(group.first, group.warps) for group in groups] == [
            (group.first, group.warps) for group in self._groups
        ]
        joins = same and all(group.adds for group in groups) and type != "f16" and not saturating
        known, (_, b) = self._factors[0], factors[0]
        if not joins or len(known) == _MOST_JOINED or (len(known) + 1) * b.size * _ROWS // 4 > _MOST_MULTIPLICATIONS:
            return Products(self.rows(), groups, [[pair] for pair in factors], form)
        joined = [[*known, pair] for known, pair in zip(self._factors, factors, strict=True)]
        return Products(self._base, self._groups, joined, form)

    def rows(self) -> Array:
        """One row of threads for each accumulator."""
        if self._rows is None:
            self._rows = self._base.copy()
            for group, pairs in zip(self._groups, self._factors, strict=True):
                self._add(self._rows, group, pairs)
        return self._rows

    def _add(self, rows: Array, group: _Group, pairs: list[tuple[Array, Array]]) -> None:
        type, negated, saturating = self._form
        a, b = (np.concatenate(column, axis=1) if len(column) > 1 else column[0] for column in zip(*pairs, strict=True))
        # Warp by warp: small enough for BLAS to stay in this thread, since others keep the other cores busy.
        product = np.matmul(a.reshape(4, _ROWS // 4, -1), b.T).reshape(_ROWS, -1)
        part = slice(group.first, group.first + _LANES)
        before = self._base[:, part] if group.adds else None
        after = _accumulate(-product if negated else product, before, type, saturating)
        if len(group.warps) == _LANES // 32:
            rows[:, part] = after
            return
        for warp in group.warps:
            mine = slice(32 * warp, 32 * warp + 32)
            rows[:, part][:, mine] = after[:, mine]

    def __getitem__(self, row: int) -> Array:
        return np.asarray(self.rows()[row])


def warpgroup_multiply(
    chunk: Chunk, mask: Mask, line: int, accumulators: Array | Products, *values: Values, columns: int,
    types: tuple[str, ...], in_registers: bool, negated: bool, transposed: tuple[bool, bool], saturating: bool,
) -> Products:  # fmt: skip
    """wgmma.mma_async: D = A B + D, or A B where scale-d is false, for every active warp; gives the rows of D.

    Operands are read now. Products are exact and summed in f32 (integers exactly), D is added last; the hardware's
    order is not specified.
    """
    call = _Call(chunk, line)
    _, left_type, right_type = types
    *left, right, scale = values
    descriptors = np.broadcast_to(right, (chunk.threads,))
    scales = np.broadcast_to(scale, (chunk.threads,))
    register_a = _registers_of_a(chunk, left_type, tuple(left)) if in_registers else None
    left_descriptors = None if in_registers else np.broadcast_to(left[0], (chunk.threads,))
    asked = [scales, descriptors, *([] if left_descriptors is None else [left_descriptors])]
    groups, factors = [], []
    for first, warps in _alike(_active_warps(chunk, mask, line), asked):
        threads = [first + 32 * warp for warp in warps]
        lead = threads[0]
        b = call.shared_operand(threads, int(descriptors[lead]), columns, right_type, transposed[1])
        if register_a is not None:
            a = register_a[first // 32 : first // 32 + 4].reshape(_ROWS, -1)
        else:
            assert left_descriptors is not None
            a = call.operand(threads, int(left_descriptors[lead]), _ROWS, left_type, transposed[0])
        groups.append(_Group(first, tuple(warps), bool(scales[lead])))
        factors.append((a, b))
    form = (types[0], negated, saturating)
    if isinstance(accumulators, Products):
        return accumulators.and_then(groups, factors, form)
    return Products(accumulators, groups, [[pair] for pair in factors], form)


def _alike(active: list[tuple[int, list[int]]], asked: list[Array]) -> Iterator[tuple[int, list[int]]]:
    """The same, with the warps of a group apart that ask for different products: one may be a turn of a loop ahead."""
    for first, warps in active:
        by_product: dict[tuple[int, ...], list[int]] = {}
        for warp in warps:
            by_product.setdefault(tuple(int(values[first + 32 * warp]) for values in asked), []).append(warp)
        yield from ((first, alike) for alike in by_product.values())


def _active_warps(chunk: Chunk, mask: Mask, line: int) -> list[tuple[int, list[int]]]:
    """The first thread of each warpgroup that takes part, with its warps that do."""
    blocks, warps = chunk.geometry.blocks, chunk.geometry.padded // 32
    active = np.ones((chunk.threads // 32, 32), bool) if mask is None else mask.reshape(-1, 32)
    whole = np.asarray(active.all(axis=1)).reshape(blocks, warps)
    partial = active.any(axis=1) & ~active.all(axis=1)
    if partial.any():
        warp = int(partial.argmax())
        lane = int((~active[warp]).argmax())
        what = f"wgmma executed by a part of a warp (lane {lane} does not take part)"
        chunk.fault(line, what, 32 * warp + lane)
    grouped = warps // 4 * 4
    if whole[:, grouped:].any():
        block, warp = np.argwhere(whole[:, grouped:])[0].tolist()
        thread = block * chunk.geometry.padded + 32 * (grouped + warp)
        chunk.fault(line, "wgmma executed by a warp whose warpgroup lacks warps", thread)
    taking_part = whole[:, :grouped].reshape(blocks, -1, 4)
    return [
        (int(block) * chunk.geometry.padded + int(group) * _LANES, np.flatnonzero(taking_part[block, group]).tolist())
        for block, group in np.argwhere(taking_part.any(axis=2))
    ]


def _accumulate(product: Array, before: Array | None, type: str, saturating: bool) -> Array:
    """Rows of registers over the 128 threads: register 4i + 2h + e of lane 4g + t in warp w is row 16w + 8h + g, column
    8i + 2t + e. Halves are packed in twos (e).
    """
    columns = product.shape[1]
    ordered = product.reshape(4, 2, 8, columns // 8, 4, 2).transpose(3, 1, 0, 2, 4, 5)  # i h w g t e
    if type == "f16":
        flat = np.ascontiguousarray(ordered).reshape(columns // 4, _LANES, 2)
        if before is not None:
            packed = np.ascontiguousarray(before).view("u2").reshape(flat.shape)
            flat = flat + f16_to_f32(packed)
        halves: Array = f32_to_f16(flat.reshape(-1)).view("f4").reshape(columns // 4, _LANES)
        return halves
    rows = ordered.transpose(0, 1, 5, 2, 3, 4).reshape(columns // 2, _LANES)
    if type == "f32":
        return np.asarray(rows if before is None else rows + before)
    whole = rows.astype("i8")
    if before is not None:
        whole = whole + np.ascontiguousarray(before).view("i4")
    if saturating:
        whole = np.clip(whole, -(1 << 31), (1 << 31) - 1)
    return np.asarray(whole.astype("i4").view("f4"))


# Synchronisation, which products that are computed at once do not need.
def warpgroup_fence(chunk: Chunk, mask: Mask, line: int, *, count: int) -> tuple[()]:
    """wgmma.fence."""
    if chunk.observer is not None:
        chunk.observer.fenced(mask, line, WGMMA)
    return ()


def warpgroup_commit(chunk: Chunk, mask: Mask, line: int, *, count: int) -> tuple[()]:
    """wgmma.commit_group."""
    if chunk.observer is not None:
        chunk.observer.group_committed(mask, line, WGMMA)
    return ()


def warpgroup_wait(chunk: Chunk, mask: Mask, line: int, *, pending: int, count: int) -> tuple[()]:
    """wgmma.wait_group."""
    if chunk.observer is not None:
        chunk.observer.group_waited(mask, line, WGMMA, pending)
    return ()

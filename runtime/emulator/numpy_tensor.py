"""Tensor copies of the NumPy engine: cp.async.bulk.tensor loads, stores and reductions through a tensor map.

In: a chunk, a mask, addresses of tensor maps, coordinates, shared addresses, barriers. Out: boxes moved between
global and shared memory. Why: the part of a box inside its tensor is a strided view of global memory, so a copy is
one assignment.

In shared memory the rows of a box (innermost dimension) follow each other densely, or with a swizzle at its span. The
swizzle moves 16-byte pieces by address bits: 128B bits 4-6 ^= 7-9, 64B bits 4-5 ^= 7-8, 32B bit 4 ^= 7.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..tensor_map import SWIZZLE_BYTES, TensorMap
from .memory import PARAMETER_WINDOW
from .numpy_atomics import combination
from .numpy_bulk import Place, active_threads, barrier_place, check_run, destinations, queue, shared_places
from .numpy_chunk import Array, Chunk, Mask, Values
from .numpy_im2col import pixel_runs
from .numpy_mbarrier import complete_bytes
from .observer import BULK, READ, WRITE
from .tensor_map import TENSOR_MAP_ALIGNMENT, TENSOR_MAP_BYTES, decode

_TYPES = {
    "uint8": "u8", "uint16": "u16", "uint32": "u32", "int32": "s32", "uint64": "u64", "int64": "s64",
    "float16": "f16", "bfloat16": "bf16", "float32": "f32", "float64": "f64", "float32_ftz": "f32", "tfloat32": "f32",
    "tfloat32_ftz": "f32",
}  # fmt: skip
_DTYPES = {
    "u8": "u1", "u16": "u2", "u32": "u4", "s32": "i4", "u64": "u8", "s64": "i8", "f16": "u2", "bf16": "u2", "f32": "f4",
    "f64": "f8",
}  # fmt: skip
_NANS = {"f16": 0x7FFF, "bf16": 0x7FFF, "f32": np.nan, "f64": np.nan}
_SHARED_ALIGNMENT = 128


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a copy: a strided view of global memory, and where it lies in the dense box.

    `address` is that of its first element, `shape` and `strides` (bytes) outermost first; `box` are slices of the dense
    box, which has one dimension more or less only where those are indices.
    """

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    box: tuple[Any, ...]


def tile_parts(tensor_map: TensorMap, coordinates: tuple[int, ...]) -> list[Part]:
    """The part of the box at `coordinates` (innermost first) that lies inside the tensor; none when all is outside."""
    steps = (1, *tensor_map.element_strides[1:])
    pitches = (tensor_map.element_bytes, *tensor_map.strides)
    address, shape, strides, box = tensor_map.address, [], [], []
    for start, count, step, extent, pitch in zip(
        coordinates, tensor_map.counts, steps, tensor_map.shape, pitches, strict=True
    ):
        first = max(0, -(start // step))
        last = min(count, -(-(extent - start) // step))
        if last <= first:
            return []
        address += (start + first * step) * pitch
        shape.append(last - first)
        strides.append(step * pitch)
        box.append(slice(first, last))
    return [Part(address, tuple(shape[::-1]), tuple(strides[::-1]), tuple(box[::-1]))]


@functools.lru_cache(maxsize=256)
def piece_places(rows: int, row_bytes: int, swizzle: str, low_bits: int) -> tuple[Array, int]:
    """Where each 16-byte piece of a box lies, row by row, in pieces from a 1024-byte boundary at or before its start
    (`low_bits` is the start modulo 1024), and the byte where the last of them ends, from there too.
    """
    span = SWIZZLE_BYTES[swizzle]
    starts = low_bits + np.arange(rows, dtype=np.int64)[:, None] * (span or row_bytes)
    address = swizzled((starts + np.arange(0, row_bytes, 16, dtype=np.int64)).reshape(-1), swizzle)
    return address >> 4, int(address.max()) + 16


def swizzled(address: Array, swizzle: str) -> Array:
    """Shared addresses after the swizzle of that name."""
    pieces = SWIZZLE_BYTES[swizzle] // 16
    return np.asarray(address ^ ((address >> 7 & max(pieces - 1, 0)) << 4))


@dataclass(slots=True)
class Box:
    """One tensor copy between its `parts` of global memory and shared memory."""

    chunk: Chunk
    line: int
    thread: int
    verb: str
    tensor_map: TensorMap
    shape: tuple[int, ...]
    parts: list[Part]
    place: Place
    word: int | None = None
    operation: str = ""

    @property
    def type(self) -> str:
        """PTX type of the elements."""
        return _TYPES[self.tensor_map.data_type]

    @property
    def rows(self) -> int:
        """Innermost rows of the box."""
        return math.prod(self.shape[:-1])

    @property
    def nbytes(self) -> int:
        """Bytes of the box, which is what the mbarrier is told."""
        return self.rows * self.tensor_map.row_bytes

    def _places(self) -> tuple[Array, int, int]:
        """Of `piece_places` both results, and the start modulo 1024."""
        low = self.place.address % 1024
        return (*piece_places(self.rows, self.tensor_map.row_bytes, self.tensor_map.swizzle, low), low)

    def pieces(self) -> Array:
        """Indices of the box's 16-byte pieces in the chunk's shared memory, row by row."""
        places, _, low = self._places()
        return np.asarray(places + ((self.place.start(self.chunk) - low) >> 4))

    def check(self) -> None:
        """A fault when the box leaves shared memory, or a part of it an allocation."""
        _, end, low = self._places()
        check_run(self.chunk, self.line, self.thread, self.place, end - low, self.verb, _SHARED_ALIGNMENT)
        for part in self.parts:
            length = sum((count - 1) * stride for count, stride in zip(part.shape, part.strides, strict=True))
            memory, end = self.chunk.memory, part.address + length + self.tensor_map.element_bytes
            if not memory.contains(part.address, end):
                near = memory.describe(end - 1 if memory.contains(part.address, part.address + 1) else part.address)
                self.chunk.fault(
                    self.line, f"{self.verb}: the tensor map covers global memory from {part.address:#x} to {end:#x} "
                    f"that is out of bounds: {near}", self.thread,
                )  # fmt: skip

    def _view(self, part: Part) -> Array:
        memory = self.chunk.memory.bytes
        view: Array = np.ndarray(part.shape, _DTYPES[self.type], memory, part.address, part.strides)
        return view

    def load(self) -> None:
        """Global to shared memory; what is outside the tensor is zero, or NaN where the map says so."""
        if len(self.parts) == 1 and self.parts[0].shape == self.shape:
            box = np.ascontiguousarray(self._view(self.parts[0]))
        else:
            nan = self.tensor_map.fill == "nan"
            box = np.full(self.shape, _NANS[self.type] if nan else 0, _DTYPES[self.type])
            for part in self.parts:
                box[part.box] = self._view(part)
        chunk = self.chunk
        chunk.view("shared", "c16")[self.pieces()] = box.reshape(-1).view("c16")
        chunk.changes += 1
        if self.word is not None:
            complete_bytes(chunk, self.line, self.word, self.nbytes, self.thread)

    def store(self) -> None:
        """Shared to global memory, or combined with what is there; what is outside the tensor is dropped."""
        chunk = self.chunk
        box = chunk.view("shared", "c16").take(self.pieces()).view(_DTYPES[self.type]).reshape(self.shape)
        for part in self.parts:
            view = self._view(part)
            new = box[part.box]
            view[...] = combination(self.operation, self.type)(view, new) if self.operation else new
        chunk.changes += 1

    def observe(self, loading: bool, barrier: int | None) -> None:
        """Tell the observer which rows of global and which pieces of shared memory the copy touches."""
        observer = self.chunk.observer
        if observer is None:
            return
        group = BULK if barrier is None else None
        for part in self.parts:
            rows = np.array([part.address], np.uint64)
            for count, stride in zip(part.shape[:-1], part.strides[:-1], strict=True):
                rows = (rows[:, None] + np.arange(count, dtype=np.uint64) * np.uint64(stride)).reshape(-1)
            nbytes = part.shape[-1] * self.tensor_map.element_bytes
            kind = READ if loading else WRITE
            observer.bulk_accessed(self.thread, self.line, kind, "global", rows, nbytes, mbarrier=barrier, group=group)
        inside = (16 * self.pieces() - self.place.block * self.chunk.shared_stride).astype("u8")
        observer.bulk_accessed(
            self.thread, self.line, WRITE if loading else READ, "shared", inside, 16,
            block=self.place.block, mbarrier=barrier, group=group,
        )  # fmt: skip


def read_map(chunk: Chunk, line: int, thread: int, address: int, verb: str) -> TensorMap:
    """The tensor map that a generic address points to: a kernel parameter or global memory."""
    if address % TENSOR_MAP_ALIGNMENT:
        chunk.fault(
            line, f"{verb}: tensor map at {address:#x}, which is not a multiple of {TENSOR_MAP_ALIGNMENT}", thread
        )
    if address >= PARAMETER_WINDOW:
        start = address - PARAMETER_WINDOW
        data = chunk.launch.parameters[start : start + TENSOR_MAP_BYTES]
    elif chunk.memory.contains(address, address + TENSOR_MAP_BYTES):
        data = chunk.memory.bytes[address : address + TENSOR_MAP_BYTES].tobytes()
    else:
        data = b""
    found = decode(data)
    if found is None:
        chunk.fault(line, f"{verb}: there is no tensor map at {address:#x}", thread)
    return found


def _box(
    chunk: Chunk, line: int, thread: int, verb: str, tensor_map: TensorMap, coordinates: tuple[int, ...],
    offsets: tuple[int, ...], mode: str, place: Place,
) -> Box:  # fmt: skip
    rank = len(tensor_map.shape)
    if len(coordinates) != rank:
        chunk.fault(line, f"{verb}: {len(coordinates)} coordinates for a tensor map of rank {rank}", thread)
    if (tensor_map.im2col is not None) != mode.startswith("im2col"):
        chunk.fault(line, f"{verb}: the tensor map was {'' if tensor_map.im2col else 'not '}made for im2col", thread)
    if tensor_map.im2col is None:
        shape, parts = tensor_map.counts[::-1], tile_parts(tensor_map, coordinates)
    else:
        shape = (tensor_map.im2col.pixels_per_column, tensor_map.im2col.channels_per_pixel)
        parts = [Part(*run) for run in pixel_runs(tensor_map, coordinates, offsets)]
    box = Box(chunk, line, thread, verb, tensor_map, shape, parts, place)
    box.check()
    return box


def tensor_copy(
    chunk: Chunk, mask: Mask, line: int, map_address: Values, shared: Values, *rest: Values,
    rank: int, offsets: int, mode: str, loading: bool, multicast: bool, operation: str, count: int,
) -> tuple[()]:  # fmt: skip
    """cp.async.bulk.tensor and cp.reduce.async.bulk.tensor. `rest` is `rank` coordinates, `offsets` im2col offsets,
    for a load its mbarrier, and the multicast mask.
    """
    verb = f"cp{'.reduce' if operation else ''}.async.bulk.tensor"
    maps = np.broadcast_to(map_address, (chunk.threads,))
    places, blocks = shared_places(chunk, mask, line, shared, verb)
    columns = [np.broadcast_to(value, (chunk.threads,)) for value in rest]
    barriers = shared_places(chunk, mask, line, rest[rank + offsets], verb) if loading else None
    for thread in active_threads(chunk, mask):
        tensor_map = read_map(chunk, line, thread, int(maps[thread]), verb)
        numbers = [int(column[thread]) for column in columns]
        at, moved = tuple(numbers[:rank]), tuple(numbers[rank : rank + offsets])
        block = int(blocks[thread])
        for target in destinations(chunk, line, thread, block, numbers[-1] if multicast else None):
            place = Place(target, int(places[thread]))
            box = _box(chunk, line, thread, verb, tensor_map, at, moved, mode, place)
            offset = None
            if barriers is not None:
                offset = int(barriers[0][thread])
                owner = target if multicast else int(barriers[1][thread])
                box.word = barrier_place(chunk, line, thread, owner, offset)
            box.operation = operation
            box.observe(loading, offset)
            queue(chunk).issue(thread, not loading, box.load if loading else box.store)
    return ()

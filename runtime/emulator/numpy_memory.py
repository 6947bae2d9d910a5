"""Memory routines of the NumPy engine: load, store, atomic, cp.async, kernel parameters, each access checked.

In: a chunk, a mask, the PTX line, addresses and values. Out: loaded values. Why: bounds and alignment are
checked on every access, cheaply: over the whole array first, per thread only to name the culprit.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from .memory import LOCAL_WINDOW, PARAMETER_WINDOW, SHARED_WINDOW
from .numpy_atomics import atomic_on_array
from .numpy_chunk import Array, Chunk, Mask, Values
from .numpy_cluster import own_offsets, resolve
from .numpy_operations import DTYPES
from .ptx import TYPE_BITS

# The widest element one gather moves; 16 bytes travel as complex numbers, whose bits NumPy does not touch.
_WIDE = {1: "u1", 2: "u2", 4: "u4", 8: "u8", 16: "c16", 32: "V32"}
WINDOWS = {"shared": SHARED_WINDOW, "local": LOCAL_WINDOW, "parameter": PARAMETER_WINDOW}


def load_parameter(chunk: Chunk, mask: Mask, line: int, *, offset: int, type: str, count: int) -> tuple[Values]:
    """A kernel parameter by its place."""
    return (chunk.parameter(offset, DTYPES[type]),)


def load(
    chunk: Chunk, mask: Mask, line: int, address: Values, *, space: str, type: str, count: int
) -> tuple[Values, ...]:
    """`count` consecutive elements at each address; inactive threads get anything."""
    dtype = DTYPES[type]
    element = TYPE_BITS[type] // 8
    nbytes = element * count
    if space == "generic":
        return _load_generic(chunk, mask, line, address, type, count)
    if space == "parameter":
        raw = np.frombuffer(chunk.launch.parameters + bytes(32), "u1")
        rows = np.atleast_1d(address).astype("i8")[:, None] + np.arange(nbytes)
        parts = np.ascontiguousarray(raw[np.clip(rows, 0, len(raw) - 1)]).view(dtype)
        columns = (np.ascontiguousarray(parts[:, column]) for column in range(count))
        return tuple(column if address.ndim else column[0] for column in columns)
    if space == "global" and address.ndim == 0:
        start = _uniform_index(chunk, mask, line, int(address), nbytes, "load") * count
        values = chunk.memory.view(dtype)[start : start + count]
        return tuple(values[column] for column in range(count))
    if space == "global" and mask is None:
        run = _contiguous(chunk, address, nbytes)
        if run is not None:
            source = chunk.memory.view(dtype)[run // element : run // element + chunk.threads * count]
            if count == 1:
                return (source.copy(),)
            return tuple(source[column::count].copy() for column in range(count))
    index = indices(chunk, mask, line, address, nbytes, space, "load")
    if count == 1:
        return (chunk.view(space, dtype).take(index),)
    wide = chunk.view(space, _WIDE[nbytes]).take(index).view(dtype)
    return tuple(wide[column::count].copy() for column in range(count))


def store(
    chunk: Chunk, mask: Mask, line: int, address: Values, *values: Values, space: str, type: str, count: int
) -> tuple[()]:
    """Consecutive elements to each address; where threads collide, the highest one wins."""
    chunk.changes += 1
    dtype = DTYPES[type]
    element = TYPE_BITS[type] // 8
    width = len(values)
    nbytes = element * width
    if space == "generic":
        return _store_generic(chunk, mask, line, address, values, type)
    if space == "parameter":
        chunk.fault(line, "store to a kernel parameter", _first_active(mask))
    if space == "global" and mask is None and address.ndim:
        run = _contiguous(chunk, address, nbytes)
        if run is not None:
            target = chunk.memory.view(dtype)[run // element : run // element + chunk.threads * width]
            for column, value in enumerate(values):
                target[column::width] = value
            return ()
    if address.ndim == 0 and space == "global":
        start = _uniform_index(chunk, mask, line, int(address), nbytes, "store") * width
        last = _last_active(chunk, mask)
        for column, value in enumerate(values):
            chunk.memory.view(dtype)[start + column] = value if value.ndim == 0 else value[last]
        return ()
    index = indices(chunk, mask, line, address, nbytes, space, "store")
    if mask is not None:
        index = index[mask]
        values = tuple(value if value.ndim == 0 else value[mask] for value in values)
    if width == 1:
        chunk.view(space, dtype)[index] = values[0]
        return ()
    rows = np.empty((len(index), width), dtype)
    for column, value in enumerate(values):
        rows[:, column] = value
    chunk.view(space, _WIDE[nbytes])[index] = rows.view(_WIDE[nbytes])[:, 0]
    return ()


def atomic(
    chunk: Chunk, mask: Mask, line: int, address: Values, *values: Values,
    space: str, type: str, operation: str, wanted: bool, count: int,
) -> tuple[Values, ...]:  # fmt: skip
    """Read-modify-write in thread order; gives the values before, when they are wanted."""
    if space == "generic":
        space = _single_space(chunk, mask, line, address)
        if space != "global":
            address = address - np.uint64(WINDOWS[space])
            space = _of_cluster(chunk, space)
    nbytes = TYPE_BITS[type] // 8
    if address.ndim == 0:
        address = np.broadcast_to(address, (chunk.threads,))
    index = indices(chunk, mask, line, address, nbytes, space, "atomic")
    active = slice(None) if mask is None else mask
    operands = [value if value.ndim == 0 else value[active] for value in values]
    index = index[active]
    operands = [np.broadcast_to(value, index.shape) for value in operands]
    chunk.changes += 1
    old = atomic_on_array(chunk.view(space, DTYPES[type]), index, operands, type, operation, wanted)
    if not wanted:
        return ()
    if mask is None:
        return (old,)
    result = np.zeros(chunk.threads, old.dtype)
    result[mask] = old
    return (result,)


def copy_async(
    chunk: Chunk, mask: Mask, line: int, target: Values, source: Values, size: Values | None = None,
    *, nbytes: int, count: int,
) -> tuple[()]:  # fmt: skip
    """cp.async: `size` bytes (all without it) from global to shared memory, zeros behind them. Source bytes beyond
    `size` are neither read nor checked."""
    wide = _WIDE[nbytes]
    source = np.broadcast_to(source, (chunk.threads,))
    full: Mask = None
    if size is not None:
        if size.ndim == 0:
            full = None if int(size) >= nbytes else np.zeros(chunk.threads, bool)
        else:
            full = size >= np.uint32(nbytes)
            full = None if full.all() else full
    reading = mask if full is None else full if mask is None else full & mask
    data = np.zeros(chunk.threads, wide)
    if reading is None or reading.any():
        run = _contiguous(chunk, source, nbytes) if reading is None else None
        index = indices(chunk, reading, line, source, nbytes, "global", "cp.async read") if run is None else None
        if index is None:
            assert run is not None
            data = chunk.memory.view(wide)[run // nbytes : run // nbytes + chunk.threads]
        else:
            data = chunk.memory.view(wide).take(index)
        if reading is not None:
            data[~reading] = 0
    if size is not None and full is not None:
        partial = (size != 0) & (size < np.uint32(nbytes))
        if partial.any():
            _copy_partial(chunk, mask, line, source, np.broadcast_to(size, (chunk.threads,)), nbytes, data)
    index = indices(chunk, mask, line, target, nbytes, "shared", "cp.async write")
    if mask is None:
        chunk.view("shared", wide)[index] = data
    else:
        chunk.view("shared", wide)[index[mask]] = data[mask]
    return ()


def _copy_partial(chunk: Chunk, mask: Mask, line: int, source: Array, size: Array, nbytes: int, data: Array) -> None:
    """Fill `data` of threads that copy some of their bytes, 0 < size < nbytes."""
    rows = data.view("u1").reshape(chunk.threads, nbytes)
    for wanted in np.unique(size):
        if 0 < wanted < nbytes:
            chosen = size == wanted
            chosen = chosen if mask is None else chosen & mask
            if chosen.any():
                for offset in range(int(wanted)):
                    index = indices(chunk, chosen, line, source + np.uint64(offset), 1, "global", "cp.async read")
                    rows[chosen, offset] = chunk.memory.view("u1")[index[chosen]]


# Addresses to indices, with the checks.
def _first_active(mask: Mask) -> int:
    return 0 if mask is None else int(mask.argmax())


def _last_active(chunk: Chunk, mask: Mask) -> int:
    return chunk.threads - 1 if mask is None else chunk.threads - 1 - int(mask[::-1].argmax())


def _contiguous(chunk: Chunk, address: Array, nbytes: int) -> int | None:
    """The first address when the threads touch one aligned, allocated run of memory in order, else None."""
    first = int(address[0])
    total = chunk.threads * nbytes
    if int(address[-1]) - first != total - nbytes or first % nbytes or not chunk.memory.contains(first, first + total):
        return None
    if not (address == chunk.geometry.ramp(nbytes) + np.uint64(first)).all():
        return None
    return first


def _uniform_index(chunk: Chunk, mask: Mask, line: int, address: int, nbytes: int, verb: str) -> int:
    if address % nbytes:
        chunk.fault(line, f"misaligned {verb} of {nbytes} bytes at {address:#x}", _first_active(mask))
    if not chunk.memory.contains(address, address + nbytes):
        where = chunk.memory.describe(address)
        chunk.fault(
            line,
            f"global {verb} of {nbytes} bytes at {address:#x} out of bounds: {where}",
            _first_active(mask),
        )
    return address // nbytes


def indices(chunk: Chunk, mask: Mask, line: int, address: Values, nbytes: int, space: str, verb: str) -> Array:
    """Element indices (int64) into the memory of `space`; those of inactive threads are valid but
    meaningless.
    """
    if mask is not None and address.ndim:
        address = np.where(mask, address, address[mask.argmax()])
    if nbytes > 1:
        low_bits = int(address) if address.ndim == 0 else int(np.bitwise_or.reduce(address))
        if low_bits & (nbytes - 1):
            misaligned(chunk, mask, line, address, nbytes, space, verb)
    if space == "global":
        if address.dtype != np.uint64:
            address = address.astype("u8")
        low, high = int(address.min()), int(address.max())
        if not chunk.memory.contains(low, high + nbytes):
            outside = chunk.memory.outside(address, nbytes)
            if outside.any():
                out_of_bounds(chunk, line, np.broadcast_to(address, (chunk.threads,)), outside, nbytes, verb)
        return np.asarray(address >> np.uint64(nbytes.bit_length() - 1)).view("i8")
    if space == "cluster":
        address, blocks = resolve(chunk, mask, line, address, verb)
    elif space == "shared" and chunk.cluster_blocks > 1:
        address = own_offsets(chunk, mask, line, address, verb)
    limit = chunk.launch.local_bytes if space == "local" else chunk.launch.shared_bytes
    if int(address.max()) + nbytes > limit:
        address = np.broadcast_to(address, (chunk.threads,))
        beyond_limit(chunk, line, address, address.astype("u8") + np.uint64(nbytes) > limit, nbytes, space, verb)
    shift = address.dtype.type(nbytes.bit_length() - 1)
    if space == "cluster":
        return np.asarray((address >> shift) + blocks * (chunk.shared_stride // nbytes))
    return np.asarray((address >> shift).astype("i8") + chunk.bases(space, nbytes))


def misaligned(chunk: Chunk, mask: Mask, line: int, address: Values, nbytes: int, space: str, verb: str) -> NoReturn:
    """Raise the finding of the first thread whose address is not a multiple of the width."""
    address = np.broadcast_to(address, (chunk.threads,))
    wrong = (address & address.dtype.type(nbytes - 1)) != 0
    thread = int((wrong if mask is None else wrong & mask).argmax())
    near = f" ({chunk.memory.describe(int(address[thread]))})" if space == "global" else ""
    chunk.fault(line, f"misaligned {space} {verb} of {nbytes} bytes at {int(address[thread]):#x}{near}", thread)


def out_of_bounds(chunk: Chunk, line: int, address: Array, outside: Array, nbytes: int, verb: str) -> NoReturn:
    """Raise the finding of the first thread that leaves every allocation."""
    thread = int(np.broadcast_to(outside, (chunk.threads,)).argmax())
    where = int(address[thread])
    count = int(outside.sum())
    more = f" ({count} threads of {chunk.geometry.blocks} blocks do so)" if count > 1 else ""
    near = chunk.memory.describe(where)
    chunk.fault(line, f"global {verb} of {nbytes} bytes at {where:#x} out of bounds: {near}{more}", thread)


def beyond_limit(
    chunk: Chunk, line: int, address: Array, beyond: Array, nbytes: int, space: str, verb: str
) -> NoReturn:
    """Raise the finding of the first thread whose access leaves shared or local memory."""
    thread = int(beyond.argmax())
    limit = chunk.launch.local_bytes if space == "local" else chunk.launch.shared_bytes
    chunk.fault(
        line, f"{space} {verb} of {nbytes} bytes at {int(address[thread]):#x} out of bounds: "
        f"the {'thread' if space == 'local' else 'block'} has {limit} bytes of "
        f"{'local' if space == 'local' else 'shared'} memory", thread,
    )  # fmt: skip


# Generic addresses.
def _space_of_each(address: Array) -> dict[str, Array]:
    """Which addresses lie in which space."""
    shared, local, parameter = (np.uint64(window) for window in (SHARED_WINDOW, LOCAL_WINDOW, PARAMETER_WINDOW))
    return {
        "global": address < shared,
        "shared": (address >= shared) & (address < local),
        "local": (address >= local) & (address < parameter),
        "parameter": address >= parameter,
    }


def _of_cluster(chunk: Chunk, space: str) -> str:
    """Generic addresses of shared memory may name another block of the cluster."""
    return "cluster" if space == "shared" and chunk.cluster_blocks > 1 else space


def _single_space(chunk: Chunk, mask: Mask, line: int, address: Values) -> str:
    """The one space all active generic addresses lie in; several are a fault (none of our kernels does that)."""
    found = spaces_present(chunk, mask, address)
    if len(found) > 1:
        chunk.fault(line, "generic atomic on several address spaces at once", _first_active(mask))
    return next(iter(found))


def spaces_present(chunk: Chunk, mask: Mask, address: Values) -> dict[str, Any]:
    """The spaces that active generic addresses lie in, each with the mask of its threads."""
    if address.ndim == 0:
        return {space: mask for space, inside in _space_of_each(address).items() if inside}
    if mask is None and int(address.max()) < SHARED_WINDOW:
        return {"global": None}
    present = {}
    for space, inside in _space_of_each(address).items():
        chosen = inside if mask is None else inside & mask
        if chosen.any():
            present[space] = None if chosen.all() else chosen
    return present


def _load_generic(chunk: Chunk, mask: Mask, line: int, address: Values, type: str, count: int) -> tuple[Values, ...]:
    result: tuple[Values, ...] | None = None
    for space, chosen in spaces_present(chunk, mask, address).items():
        window = np.uint64(WINDOWS.get(space, 0))
        values = load(chunk, chosen, line, address - window, space=_of_cluster(chunk, space), type=type, count=count)
        if result is None:
            result = values
        else:
            result = tuple(np.where(chosen, new, old) for new, old in zip(values, result, strict=True))
    assert result is not None
    return result


def _store_generic(
    chunk: Chunk, mask: Mask, line: int, address: Values, values: tuple[Values, ...], type: str
) -> tuple[()]:
    for space, chosen in spaces_present(chunk, mask, address).items():
        window = np.uint64(WINDOWS.get(space, 0))
        store(chunk, chosen, line, address - window, *values, space=_of_cluster(chunk, space), type=type, count=0)
    return ()

"""The NumPy engine's memory routines and synchronising instructions, with word to the chunk's observer.

In: what the plain routines take. Out: what they give. Why: a kernel that is observed is compiled against these names,
any other against the plain ones, so that observing costs nothing where it is off.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import numpy_byte_matrix, numpy_matrix, numpy_memory
from .numpy_chunk import Array, Chunk, Mask, Values
from .observer import ATOMIC, COPY, READ, WRITE
from .ptx import TYPE_BITS, Immediate, Instruction

_FENCES = ("membar", "fence")
_ALL_LANES = 0xFFFFFFFF
_MEETINGS = ("shfl", "vote", "match", "redux", "elect")


def load(
    chunk: Chunk, mask: Mask, line: int, address: Values, *, space: str, type: str, count: int
) -> tuple[Values, ...]:
    """`numpy_memory.load`, observed."""
    values = numpy_memory.load(chunk, mask, line, address, space=space, type=type, count=count)
    _tell(chunk, mask, line, READ, space, address, TYPE_BITS[type] // 8 * count)
    return values


def store(
    chunk: Chunk, mask: Mask, line: int, address: Values, *values: Values, space: str, type: str, count: int
) -> tuple[()]:
    """`numpy_memory.store`, observed."""
    numpy_memory.store(chunk, mask, line, address, *values, space=space, type=type, count=count)
    _tell(chunk, mask, line, WRITE, space, address, TYPE_BITS[type] // 8 * len(values))
    return ()


def atomic(
    chunk: Chunk, mask: Mask, line: int, address: Values, *values: Values,
    space: str, type: str, operation: str, wanted: bool, count: int,
) -> tuple[Values, ...]:  # fmt: skip
    """`numpy_memory.atomic`, observed."""
    result = numpy_memory.atomic(
        chunk, mask, line, address, *values,
        space=space, type=type, operation=operation, wanted=wanted, count=count,
    )  # fmt: skip
    _tell(chunk, mask, line, ATOMIC, space, address, TYPE_BITS[type] // 8)
    return result


def _tell(chunk: Chunk, mask: Mask, line: int, kind: str, space: str, address: Values, nbytes: int) -> None:
    """Report an access; generic addresses by the space each lies in."""
    observer = chunk.observer
    assert observer is not None
    if space != "generic":
        if space != "parameter":
            observer.accessed(mask, line, kind, space, address, nbytes)
        return
    for real, chosen in numpy_memory.spaces_present(chunk, mask, address).items():
        if real != "parameter":
            window = np.uint64(numpy_memory.WINDOWS.get(real, 0))
            observer.accessed(chosen, line, kind, real, address - window, nbytes)


def copy_async(
    chunk: Chunk, mask: Mask, line: int, target: Values, source: Values, size: Values | None = None,
    *, nbytes: int, count: int,
) -> tuple[()]:  # fmt: skip
    """`numpy_memory.copy_async`, observed, and delayed until the thread waits for it where that is asked for."""
    observer = chunk.observer
    assert observer is not None
    numpy_memory.indices(chunk, mask, line, target, nbytes, "shared", "cp.async write")
    if chunk.delayed is None:
        numpy_memory.copy_async(chunk, mask, line, target, source, size, nbytes=nbytes, count=count)
    else:
        chunk.delayed.add(mask, line, target, source, size, nbytes)
    observer.copied(mask, line, target, source, size, nbytes)
    return ()


def load_matrix(
    chunk: Chunk, mask: Mask, line: int, address: Values, *, count: int, transposed: bool, **static: Any
) -> tuple[Values, ...]:
    """`numpy_matrix.load_matrix`, observed: each lane that gives an address reads that row."""
    result = numpy_matrix.load_matrix(chunk, mask, line, address, count=count, transposed=transposed, **static)
    _tell_rows(chunk, mask, line, READ, address, count)
    return result


def store_matrix(
    chunk: Chunk,
    mask: Mask,
    line: int,
    address: Values,
    *registers: Values,
    count: int,
    transposed: bool,
    **static: Any,
) -> tuple[()]:
    """`numpy_matrix.store_matrix`, observed."""
    numpy_matrix.store_matrix(chunk, mask, line, address, *registers, count=count, transposed=transposed, **static)
    _tell_rows(chunk, mask, line, WRITE, address, len(registers))
    return ()


def load_byte_matrix(
    chunk: Chunk, mask: Mask, line: int, address: Values, *, count: int, square: bool, bits: int
) -> tuple[Values, ...]:
    """`numpy_byte_matrix.load_byte_matrix`, observed."""
    result = numpy_byte_matrix.load_byte_matrix(chunk, mask, line, address, count=count, square=square, bits=bits)
    _tell_rows(chunk, mask, line, READ, address, count * (2 if square else 1))
    return result


def store_byte_matrix(
    chunk: Chunk, mask: Mask, line: int, address: Values, *registers: Values, count: int
) -> tuple[()]:
    """`numpy_byte_matrix.store_byte_matrix`, observed."""
    numpy_byte_matrix.store_byte_matrix(chunk, mask, line, address, *registers, count=count)
    _tell_rows(chunk, mask, line, WRITE, address, count)
    return ()


def _tell_rows(chunk: Chunk, mask: Mask, line: int, kind: str, address: Values, count: int) -> None:
    providers: Mask = mask
    if count < 4:
        lanes: Array = np.tile(np.arange(32) < 8 * count, chunk.threads // 32)
        providers = lanes if mask is None else lanes & mask
    assert chunk.observer is not None
    chunk.observer.accessed(providers, line, kind, "shared", numpy_matrix.leave_window(address), 16)


def wait_for_copies(chunk: Chunk, mask: Mask, line: int, pending: int | None) -> None:
    """cp.async.wait_group and wait_all: delayed copies arrive now."""
    if chunk.delayed is not None:
        chunk.delayed.complete(mask, pending)
    assert chunk.observer is not None
    chunk.observer.group_waited(mask, line, COPY, pending)


def commit_copies(chunk: Chunk, mask: Mask, line: int) -> None:
    """cp.async.commit_group."""
    if chunk.delayed is not None:
        chunk.delayed.commit(mask)
    assert chunk.observer is not None
    chunk.observer.group_committed(mask, line, COPY)


def call_after(instruction: Instruction) -> str:
    """The call, if any, that generated code makes after `instruction`, with `{mask}` to be filled in."""
    opcode, line = instruction.opcode, instruction.line
    if opcode == "cp" and not instruction.has("bulk"):
        if instruction.has("commit_group"):
            return f"commit_copies(T, {{mask}}, {line})"
        if instruction.has("wait_all"):
            return f"wait_for_copies(T, {{mask}}, {line}, None)"
        if instruction.has("wait_group") and isinstance(instruction.operands[0], Immediate):
            return f"wait_for_copies(T, {{mask}}, {line}, {instruction.operands[0].bits})"
    if opcode in _FENCES:
        kind = "memory" if not instruction.has("proxy") else "async" if instruction.has("async") else ""
        kind = "mbarrier_init" if instruction.has("mbarrier_init") else kind
        return f"T.observer.fenced({{mask}}, {line}, {kind!r})" if kind else ""
    if opcode == "griddepcontrol" and instruction.has("wait"):
        return f"T.observer.previous_awaited({{mask}}, {line})"
    if opcode in _MEETINGS or (opcode in ("bar", "barrier") and instruction.has("warp")):
        return f"T.observer.warps_met({{mask}}, {line}, {_names_all(instruction)})"
    return ""


def _names_all(instruction: Instruction) -> bool:
    """Whether the member mask, which comes last, is a literal of 32 ones."""
    members = instruction.operands[-1] if instruction.has("sync") else None
    return isinstance(members, Immediate) and members.bits & _ALL_LANES == _ALL_LANES


ROUTINES = {
    function.__name__: function
    for function in (
        load,
        store,
        atomic,
        copy_async,
        load_matrix,
        store_matrix,
        load_byte_matrix,
        store_byte_matrix,
        wait_for_copies,
        commit_copies,
    )
}
"""Names that generated code of observed kernels sees instead of, or beside, the plain routines."""

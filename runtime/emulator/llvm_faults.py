"""Findings of the fast engine, told as the NumPy engine tells them.

In: the fault that compiled code recorded in a context. Out: the DeviceError. Why: one text for both engines: the
functions of the NumPy engine that tell a finding are called with the addresses recorded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from ..errors import DeviceError
from .control_flow import Block, Exit
from .llvm_barriers import RECORD_SLOTS, SLOT_BYTES
from .llvm_compile import Translation
from .llvm_context import (
    FAULT_ACCESS,
    FAULT_CALL,
    FAULT_DEADLOCK,
    FAULT_DESCRIPTOR,
    FAULT_PARTIAL_WARP,
    SPACES,
)
from .llvm_module import Site
from .llvm_values import LANES
from .numpy_chunk import Chunk, Geometry, Launch
from .numpy_memory import beyond_limit, misaligned, out_of_bounds
from .numpy_waits import Parked, Waits
from .numpy_warpgroup import beyond_shared, highest_piece
from .ptx import Instruction
from .spins import YIELD

if TYPE_CHECKING:
    from .llvm_engine import Kernel, Workspace

_SLOT = np.dtype([("lanes", "u4"), ("number", "u4"), ("generation", "u4"), ("expected", "u4")])


def finding(kernel: Kernel, launch: Launch, workspace: Workspace) -> BaseException:
    """The error that the context of `workspace` describes; whatever it was that stopped the host."""
    context, translation = workspace.context[0], kernel.translation
    if workspace.host.error is not None:
        return workspace.host.error
    chunk = Chunk(launch, Geometry(launch.block, 1), int(context["block_number"]) + int(context["rank"]))
    try:
        if context["fault_kind"] == FAULT_DEADLOCK:
            _tell_waits(translation, workspace)
            _tell_deadlock(kernel, launch, workspace)
        _tell(translation, chunk, context)
    except DeviceError as error:
        return error
    raise AssertionError


def spin(kernel: Kernel, launch: Launch, workspace: Workspace) -> BaseException:
    """The error of threads that read for ever what nobody changes, with those who wait elsewhere."""
    waits, spinning = _parked(kernel.translation, workspace)
    line, mask = spinning[0]
    thread = int(mask.argmax())
    what = f"threads spin for ever on memory that nobody changes{waits.describe(thread)}"
    try:
        workspace.host.chunk().fault(line, what, thread)
    except DeviceError as error:
        return error


def _lanes(chunk: Chunk, warp: int, bits: int) -> Any:
    mask = np.zeros(chunk.threads, bool)
    chosen = (bits >> np.arange(LANES) & 1).astype(bool)
    mask[warp * LANES : (warp + 1) * LANES] = chosen
    return mask


def _tell(translation: Translation, chunk: Chunk, context: Any) -> NoReturn:
    site = translation.site(int(context["fault_site"]))
    mask = _lanes(chunk, int(context["fault_warp"]), int(context["fault_lanes"]))
    thread = int(mask.argmax())
    kind = int(context["fault_kind"])
    if kind == FAULT_DESCRIPTOR:
        bits, rows, along_rows = (int(number) for number in context["fault_address"][:3])
        reaches = highest_piece(rows, bool(along_rows), bits)
        chunk.fault(site.line, beyond_shared(bits, reaches, chunk.launch.shared_bytes), thread)
    if kind == FAULT_ACCESS:
        _tell_access(chunk, context, mask, site)
    if kind == FAULT_CALL:
        if site.verb == "__assertfail":
            chunk.fault(site.line, "device assertion failed", thread)
        chunk.fault(site.line, f"call of function {site.verb!r}, which has no body in this module", thread)
    if kind == FAULT_PARTIAL_WARP:
        lane = thread % LANES
        chunk.fault(site.line, f"{site.verb} executed by a part of a warp (lane {lane} does not take part)", thread)
    chunk.fault(site.line, "trap instruction executed" if site.verb == "trap" else site.verb, thread)


def _tell_access(chunk: Chunk, context: Any, mask: Any, site: Site) -> NoReturn:
    space = SPACES[int(context["fault_space"])]
    addresses = np.zeros(chunk.threads, np.uint64)
    warp = int(context["fault_warp"])
    addresses[warp * LANES : (warp + 1) * LANES] = context["fault_address"]
    wrong = mask & (addresses % np.uint64(site.nbytes) != 0)
    if wrong.any():
        misaligned(chunk, wrong, site.line, addresses, site.nbytes, space, site.verb)
    if space == "global":
        out_of_bounds(chunk, site.line, addresses, mask, site.nbytes, site.verb)
    beyond_limit(chunk, site.line, addresses, mask, site.nbytes, space, site.verb)


_WAIT = np.dtype([("lanes", "u4"), ("parities", "u4"), ("padding", "u4", 14), ("addresses", "u8", LANES)])


def _tell_waits(translation: Translation, workspace: Workspace) -> None:
    """Raise the DeviceError of a deadlock in which threads wait for mbarriers or their cluster, if any does."""
    waits, _ = _parked(translation, workspace)
    if waits.parked:
        waits.deadlock()


def _parked(translation: Translation, workspace: Workspace) -> tuple[Waits, list[tuple[int, Any]]]:
    """Threads that wait for mbarriers or their cluster; PTX line and mask of those that spin on memory."""
    chunk = workspace.host.chunk()
    waits, spinning = Waits(chunk, []), []
    records = workspace.records()
    for line, opcode, modifiers, start in translation.waits:
        mask, addresses = np.zeros(chunk.threads, bool), np.zeros(chunk.threads, "u8")
        for warp in range(chunk.threads // LANES):
            place = warp * translation.record_bytes + start
            found = records[place : place + _WAIT.itemsize].view(_WAIT)[0]
            mask |= _lanes(chunk, warp, int(found["lanes"]))
            addresses[warp * LANES : (warp + 1) * LANES] = found["addresses"]
        if not mask.any():
            continue
        if opcode == YIELD:
            spinning.append((line, mask))
            continue
        instruction = Instruction(opcode, tuple(modifiers), (), None, False, line)
        waits.parked.append(Parked(mask, Block(0, [], Exit("wait", (), instruction)), (addresses, None)))
    return waits, spinning


def _tell_deadlock(kernel: Kernel, launch: Launch, workspace: Workspace) -> NoReturn:
    """Who waits where, and who never came: of the first block in which threads wait for a barrier, alone in its cluster
    or not.
    """
    first = int(workspace.context[0]["block_number"])
    for rank in range(kernel.cluster_blocks):
        chunk = Chunk(launch, Geometry(launch.block, 1), first + rank)
        waiting = _waiting(kernel.translation, chunk, workspace.records(), rank * kernel.warps)
        if waiting:
            break
    # The NumPy engine names the barrier that was reached first; that is where most threads wait.
    waiting.sort(key=lambda entry: -int(entry[0].sum()))
    (mask, line, number, expected), *others = waiting
    parts = [f"{int(mask.sum())} of {expected} threads wait here"]
    parts += [f"{int(other.sum())} at barrier {at} of PTX line {place}" for other, place, at, _ in others]
    ended = chunk.geometry.block_threads - sum(int(entry[0].sum()) for entry in waiting)
    if ended:
        parts.append(f"{ended} have already exited")
    chunk.fault(line, f"deadlock at barrier {number}: " + ", ".join(parts), int(mask.argmax()))


def _waiting(
    translation: Translation, chunk: Chunk, records: Any, first_warp: int
) -> list[tuple[Any, int, int, int]]:
    """(threads, PTX line, number, threads that it waits for) of each barrier at which threads of the block stand."""
    waiting = []
    for slot, (_, line, _) in enumerate(translation.barriers):
        mask = np.zeros(chunk.threads, bool)
        number = expected = 0
        for warp in range(-(-chunk.geometry.block_threads // LANES)):
            place = (first_warp + warp) * translation.record_bytes + RECORD_SLOTS + SLOT_BYTES * slot
            record = records[place : place + SLOT_BYTES].view(_SLOT)[0]
            if record["lanes"]:
                mask |= _lanes(chunk, warp, int(record["lanes"]))
                number, expected = int(record["number"]), int(record["expected"])
        if mask.any():
            waiting.append((mask, line, number, expected))
    return waiting

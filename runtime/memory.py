"""The device memory of a session: weights, uploaded once, and the arena that inputs, temporaries and outputs
share.

In: an engine's weights and the arena plan of a shape. Out: an address for every buffer. It exists so that one
owner frees everything, whatever failed before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np

from .device import Device, release_all
from .dtypes import raw_bytes
from .kept import KeptMemory
from .manifest import Buffer, align
from .memory_plan import ALIGNMENT, ArenaPlan


class SessionMemory:
    """Everything one session has allocated on its device.

    With `checked` every buffer is an allocation of its own instead of a part of the arena, and is filled with
    0xFF (a NaN in every float type) before each run: slower and larger, but an emulator that checks bounds
    sees an access that leaves its buffer, and what a kernel forgets to write, or reads too early, shows in
    the results.
    """

    def __init__(self, device: Device, checked: bool = False) -> None:
        self._device = device
        self._checked = checked
        self._blocks: dict[str, tuple[int, int]] = {}  # name -> (address, bytes)
        self._weights: dict[str, int] = {}
        self.kept = KeptMemory(device, checked)  # of tensors that values of the host hold

    def upload_weights(self, weights: Iterable[tuple[Buffer, np.ndarray[Any, Any]]], nbytes: int) -> None:
        """Copy the weights, `nbytes` in all, to the device."""
        base = 0 if self._checked or not nbytes else self._allocate("weights", nbytes)
        for buffer, array in weights:
            size = buffer.nbytes or 0
            own = self._allocate(f"weight {buffer.name}", size) if self._checked else 0
            address = own or base + (buffer.offset or 0)
            self._weights[buffer.name] = address
            if size:
                self._device.upload(address, raw_bytes(array))

    def place(self, plan: ArenaPlan, sizes: Mapping[str, int]) -> tuple[dict[str, int], bool]:
        """(address of every buffer, whether any address changed since the last plan of the same shape)."""
        if self._checked:
            names = {name: f"buffer {name}" for name in plan.offsets}
            moved = sum(self._resize(names[name], sizes[name], exact=True) for name in plan.offsets) > 0
            addresses = {name: self._blocks[names[name]][0] for name in plan.offsets}
            for name, address in addresses.items():
                self._discard(address, sizes[name])
        else:
            moved = self._resize("arena", plan.nbytes, exact=False)
            base = self._blocks["arena"][0]
            addresses = {name: base + offset for name, offset in plan.offsets.items()}
        return addresses | self._weights, moved

    def place_late(self, name: str, plan: ArenaPlan, sizes: Mapping[str, int]) -> dict[str, int]:
        """Addresses of buffers whose sizes were found during a run, in the memory called `name`."""
        if self._checked:
            for buffer, nbytes in sizes.items():
                self._resize(f"buffer {buffer}", nbytes, exact=True)
            addresses = {buffer: self._blocks[f"buffer {buffer}"][0] for buffer in sizes}
            for buffer, address in addresses.items():
                self._discard(address, sizes[buffer])
            return addresses
        block = f"late {name}"
        if block in self._blocks and self._blocks[block][1] < plan.nbytes:
            self._resize(block, max(plan.nbytes, 2 * self._blocks[block][1]), exact=False)  # it may grow every turn
        else:
            self._resize(block, plan.nbytes, exact=False)
        base = self._blocks[block][0]
        return {buffer: base + offset for buffer, offset in plan.offsets.items()}

    def _discard(self, address: int, nbytes: int) -> None:
        """Fill with 0xFF; an emulator that watches for reads of unwritten memory is told that this is none. What an
        empty buffer has, kernels may read, and throw away."""
        discard = getattr(self._device, "discard", None)
        if not nbytes:
            self._device.fill(address, 0xFF, ALIGNMENT)
        elif discard is not None:
            discard(address, nbytes)
        else:
            self._device.fill(address, 0xFF, nbytes)

    def needs_move(self, plan: ArenaPlan) -> bool:
        """True when `place` would replace the arena, so that nothing may refer to it any longer."""
        return not self._checked and self._blocks.get("arena", (0, 0))[1] < plan.nbytes

    def _resize(self, name: str, nbytes: int, exact: bool) -> bool:
        present = self._blocks.get(name)
        if present is not None and (present[1] == nbytes or (present[1] > nbytes and not exact)):
            return False
        if present is not None:
            del self._blocks[name]
            self._device.free(present[0])
        self._allocate(name, nbytes)
        return True

    def _allocate(self, name: str, nbytes: int) -> int:
        # A kernel that leaves a part out reads that part's first elements instead: also an empty buffer has some.
        room = nbytes if self._checked and nbytes else align(max(nbytes, 1), ALIGNMENT)
        address = self._device.allocate(room)
        label = getattr(self._device, "label", None)
        if label is not None:
            label(address, name)
        self._blocks[name] = (address, nbytes)
        return address

    def close(self) -> None:
        """Free everything; the first failure is raised after all have been tried."""
        blocks, self._blocks = self._blocks, {}
        release_all([self.kept.close, *(partial(self._device.free, address) for address, _ in blocks.values())])

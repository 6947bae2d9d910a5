"""Runs one after another, each with its inputs on the device before its turn comes.

In: a session and batches of inputs. Out: their results in order. While the device computes one batch, the host copies
the next to memory of its own beside it; two such memories take turns, so that nothing waits for a copy but the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from .arrays import Array
from .binding import Value
from .device import Device, release_all
from .dtypes import raw_bytes
from .errors import Error
from .manifest import Manifest

if TYPE_CHECKING:
    from .session import Session


class InputMemory:
    """Device memory for the inputs of one batch, which grows with them."""

    def __init__(self, device: Device, manifest: Manifest) -> None:
        self._device, self._manifest = device, manifest
        self._blocks: dict[str, tuple[int, int]] = {}  # buffer: address, bytes

    def upload(self, values: Mapping[str, Value]) -> dict[str, int]:
        """Start the copies of what lies on the host; returns the addresses by buffer. Nothing may use them still."""
        addresses = {}
        for binding in self._manifest.inputs:
            value = values[binding.name]
            if isinstance(value, np.ndarray) and value.size:
                address = self._reserve(binding.buffer, value.nbytes)
                self._device.upload_ahead(address, raw_bytes(value))
                addresses[binding.buffer] = address
        return addresses

    def _reserve(self, buffer: str, nbytes: int) -> int:
        address, room = self._blocks.get(buffer, (0, 0))
        if room < nbytes:
            if buffer in self._blocks:
                del self._blocks[buffer]
                self._device.free(address)
            address = self._device.allocate(nbytes)
            self._blocks[buffer] = (address, nbytes)
        return address

    def close(self) -> None:
        """Free everything."""
        blocks, self._blocks = self._blocks, {}
        release_all(partial(self._device.free, address) for address, _ in blocks.values())


class _Batch:
    """One batch: its inputs, where those of them that were uploaded are, or what went wrong with it."""

    def __init__(self, values: Mapping[str, Value], memory: InputMemory, failure: Exception | None = None) -> None:
        self.values, self._memory, self._failure = values, memory, failure
        self.addresses: dict[str, int] = {}

    def upload(self) -> None:
        """Start the copies."""
        try:
            self.addresses = self._memory.upload(self.values) if self._failure is None else {}
        except Error as error:
            self._failure = error

    def check(self) -> None:
        """Raise what went wrong."""
        failure, self._failure = self._failure, None
        try:
            if failure is not None:
                raise failure
        finally:
            del failure  # else error and frame keep each other alive, and with them what a caller still holds


def run_each(session: Session, manifest: Manifest, batches: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Array]]:
    """The results of each batch in turn; see `Session.run_each`."""
    memories = [InputMemory(session.device, manifest) for _ in range(2)]
    try:
        source = iter(batches)
        batch = _next(session, source, memories[0])
        if batch is not None:
            session.exclusively(batch.upload)
        while batch is not None:
            batch.check()
            memories.reverse()
            following = _next(session, source, memories[0])
            yield session.run_uploaded(batch.values, batch.addresses, following.upload if following else None)
            batch = following
    finally:
        session.exclusively(lambda: release_all(memory.close for memory in memories))


def _next(session: Session, source: Iterator[Mapping[str, Any]], memory: InputMemory) -> _Batch | None:
    """The next batch; what goes wrong with it is told in its turn."""
    try:
        inputs = next(source, None)
        return None if inputs is None else _Batch(session.accept(inputs), memory)
    except Exception as error:  # of the caller's iterator, or of inputs that do not fit
        return _Batch({}, memory, error)

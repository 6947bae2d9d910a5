"""Interprets the host program: launches, copies, and what the host does between them.

In: the steps of a run (planning.py), the address of every buffer, values on the host. Out: the same steps given to
the device, in order. What is evaluated once a shape is done before.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .device import Device, LaunchArgument
from .dtypes import raw_bytes
from .errors import DeviceError, ModelError
from .host_functions import HostCall, run_host_function
from .kept import KeptArray, KeptMemory, fetched
from .planning import (
    CallStep,
    CopyStep,
    FillStep,
    HandStep,
    IfStep,
    LateStep,
    LaunchStep,
    LoopStep,
    TensorMapStep,
    TransferStep,
    about,
)
from .planning import Planner as Planner
from .planning import Step as Step
from .program import Call, Keep, Upload


@dataclass(frozen=True)
class KernelTiming:
    """How long one launch took on the device, or one host function on the host, in seconds."""

    kernel: str
    nodes: tuple[str, ...]
    seconds: float


PlaceLate = Callable[[Call, Mapping[str, int]], Mapping[str, int]]


@dataclass
class Run:
    """One run of a program: the addresses and host values so far, and the planner with the symbols so far.

    `place` gives the addresses of the buffers whose sizes a call has decided, from the call and all symbols.
    With `timings` the run waits after each launch, done `launches` times in a row, and notes how long one took.
    `memory` is for tensors that host values keep on the device.
    """

    device: Device
    planner: Planner
    addresses: dict[str, int]
    values: dict[str, Any]
    place: PlaceLate
    memory: KeptMemory
    timings: list[KernelTiming] | None = None
    launches: int = 1

    def execute(self, steps: Sequence[Step]) -> None:
        """Give the steps to the device in order. Raises DeviceError, and ModelError for data that does not fit."""
        device, addresses = self.device, self.addresses
        for step in steps:
            if isinstance(step, LaunchStep):
                _run_launch(device, step, addresses, self.timings, self.launches)
            elif isinstance(step, CopyStep):
                device.copy(addresses[step.target], addresses[step.source], step.nbytes)
            elif isinstance(step, FillStep):
                device.fill(addresses[step.target], step.byte, step.nbytes)
            elif isinstance(step, IfStep):
                self.execute((step.then if self._is_true(step.condition) else step.otherwise).steps)
            elif isinstance(step, LoopStep):
                while self._is_true(step.condition):
                    self.planner = self.planner.forget(step.found)
                    self.execute(step.body.steps)
            elif isinstance(step, TransferStep):
                self._transfer(step)
            elif isinstance(step, CallStep):
                self._call(step)
            elif isinstance(step, HandStep):
                value = self.values[step.source]
                self.values[step.target] = fetched(value, device) if step.fetch else value
            else:
                ready = self.planner.prepare([step.instruction])
                if any(isinstance(item, LateStep) for item in ready):
                    raise ModelError(f"damaged engine: a size is used before it is found: {step.instruction}")
                self.execute(ready)

    def _is_true(self, condition: str) -> bool:
        value = np.zeros(1, np.uint8)
        self.device.download(self.addresses[condition], value)
        return bool(value[0])

    def _transfer(self, step: TransferStep) -> None:
        if step.kind is Upload:
            self._upload(step)
        elif step.kind is Keep:
            kept = KeptArray(self.memory.take(_nbytes(step)), step.element, step.shape)
            if kept.nbytes:
                self.device.copy(kept.address, self.addresses[step.device], kept.nbytes)
            self.values[step.host] = kept
        else:
            array = np.empty(step.shape, step.element.numpy)
            if array.nbytes:
                self.device.download(self.addresses[step.device], array)
            self.values[step.host] = array

    def _upload(self, step: TransferStep) -> None:
        value = self.values[step.host]
        parts = [item if isinstance(item, KeptArray) else np.asarray(item) for item in _parts(value)]
        fits = isinstance(value, list) or parts[0].shape == step.shape
        if not fits or any(part.dtype != step.element.numpy for part in parts) or sum(
            part.nbytes for part in parts
        ) != _nbytes(step):
            given = ", ".join(f"{part.dtype}{list(part.shape)}" for part in parts[:8]) or "no tensor"
            raise ModelError(
                f"the host holds {given} for buffer {step.device!r}, which is {step.element}{list(step.shape)}"
            )
        address = self.addresses[step.device] if parts else 0
        for part in parts:
            if isinstance(part, KeptArray):
                if part.nbytes:
                    self.device.copy(address, part.address, part.nbytes)
            elif part.nbytes:
                self.device.upload(address, raw_bytes(part))
            address += part.nbytes

    def _call(self, step: CallStep) -> None:
        call = step.call
        given = HostCall([self.values[name] for name in call.inputs], call.attributes, step.sizes)
        start = time.perf_counter()
        try:
            outputs, bound = run_host_function(call.function, given, len(call.outputs), len(call.symbols))
        except ModelError as error:
            about = f"\n  nodes: {', '.join(call.nodes)}" if call.nodes else ""
            raise ModelError(f"{error}{about}") from error
        if self.timings is not None:
            self.timings.append(KernelTiming(f"host {call.function}", call.nodes, time.perf_counter() - start))
        self.values.update(zip(call.outputs, outputs, strict=True))
        if call.symbols:
            self.planner = self.planner.bind(dict(zip(call.symbols, bound, strict=True)))
            self.addresses.update(self.place(call, self.planner.symbols))


def _parts(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [value]


def _nbytes(step: TransferStep) -> int:
    return math.prod(step.shape) * step.element.bytes


def _run_launch(
    device: Device, step: LaunchStep, addresses: Mapping[str, int], timings: list[KernelTiming] | None, launches: int
) -> None:
    arguments: list[LaunchArgument] = []
    for kind, value in step.arguments:
        if isinstance(value, TensorMapStep):
            arguments.append((kind, value.encode(device, addresses[value.buffer])))
        else:
            arguments.append((kind, addresses[value] if isinstance(value, str) else value))

    def launch() -> None:
        for _ in range(launches):
            device.launch(step.kernel, step.grid, step.block, step.shared_bytes, arguments)

    try:
        if timings is None:
            launch()
        else:
            timings.append(KernelTiming(step.kernel.name, step.nodes, device.time(launch) / launches))
    except DeviceError as error:
        raise DeviceError(f"{error}\n  in kernel {step.kernel.name!r}, grid {step.grid}{about(step)}") from error

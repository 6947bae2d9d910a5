"""Interprets the host program: every launch, copy and fill, with the sizes of one shape filled in.

In: the program, the values of its symbols and the address of every buffer. Out: the same instructions given
to the device. It exists apart from the session so that what is evaluated once per shape and what is done for
every run are easy to tell.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np

from .device import Device, Extents, Kernel
from .errors import DeviceError
from .manifest import KernelDescription, Manifest, evaluate
from .program import BufferArgument, Copy, Fill, Instruction, Launch

_GRID_LIMITS = (2**31 - 1, 65535, 65535)  # of every CUDA target
_RANGES = {"i32": 2**31, "i64": 2**63}


@dataclass(frozen=True)
class KernelTiming:
    """How long one launch took, in seconds of wall clock, waiting for the device before and after."""

    kernel: str
    nodes: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class LaunchStep:
    """A launch with its sizes filled in; buffer arguments are still names."""

    kernel: Kernel
    nodes: tuple[str, ...]
    grid: Extents
    block: Extents
    shared_bytes: int
    arguments: tuple[tuple[str, int | str], ...]


@dataclass(frozen=True)
class CopyStep:
    """A copy of `nbytes` bytes between buffers."""

    target: str
    source: str
    nbytes: int


@dataclass(frozen=True)
class FillStep:
    """`nbytes` bytes of a buffer set to one value."""

    target: str
    byte: int
    nbytes: int


class Branch:
    """One side of an `if`. Its sizes are filled in when it is first taken: they may make no sense where it is
    not.
    """

    def __init__(self, planner: Planner, instructions: Sequence[Instruction]) -> None:
        self._planner = planner
        self._instructions = instructions

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """Its instructions, prepared."""
        return self._planner.prepare(self._instructions)


@dataclass(frozen=True)
class IfStep:
    """Reads the buffer `condition` and takes one of two branches."""

    condition: str
    then: Branch
    otherwise: Branch


Step: TypeAlias = LaunchStep | CopyStep | FillStep | IfStep


class Planner:
    """Fills the sizes of one shape into the instructions of a program."""

    def __init__(self, manifest: Manifest, kernels: Mapping[str, Kernel], symbols: Mapping[str, int]) -> None:
        self._kernels = kernels
        self._symbols = symbols
        self._descriptions = manifest.kernel_table()
        self._buffers = manifest.buffer_table()

    def prepare(self, instructions: Sequence[Instruction]) -> tuple[Step, ...]:
        """The steps to run, without launches of no blocks and copies of no bytes.

        Raises DeviceError for a grid or argument that does not fit, ModelError for sizes that make no sense.
        """
        steps = (self._step(instruction) for instruction in instructions)
        return tuple(step for step in steps if step is not None)

    def _step(self, instruction: Instruction) -> Step | None:
        if isinstance(instruction, Launch):
            return self._launch(instruction)
        if isinstance(instruction, Copy):
            return self._copy(instruction)
        if isinstance(instruction, Fill):
            nbytes = self._buffers[instruction.target].size(self._symbols)
            return FillStep(instruction.target, instruction.byte, nbytes) if nbytes else None
        return IfStep(
            instruction.condition, Branch(self, instruction.then), Branch(self, instruction.otherwise)
        )

    def _copy(self, instruction: Copy) -> Step | None:
        source, target = self._buffers[instruction.source], self._buffers[instruction.target]
        nbytes = target.size(self._symbols)
        if source.size(self._symbols) != nbytes:
            raise DeviceError(
                f"copy of {source.size(self._symbols)} bytes of buffer {source.name!r} "
                f"to {nbytes} bytes of buffer {target.name!r}"
            )
        return CopyStep(target.name, source.name, nbytes) if nbytes else None

    def _launch(self, launch: Launch) -> Step | None:
        description = self._descriptions[launch.kernel]
        place = f"kernel {launch.kernel!r}"
        values = [evaluate(extent, self._symbols, place) for extent in launch.grid]
        for value, limit in zip(values, _GRID_LIMITS, strict=True):
            if not 0 <= value <= limit:
                raise DeviceError(f"{place}: a grid of {' x '.join(map(str, values))} blocks{_about(launch)}")
        if 0 in values:
            return None
        return LaunchStep(
            kernel=self._kernels[launch.kernel],
            nodes=launch.nodes,
            grid=(values[0], values[1], values[2]),
            block=description.block,
            shared_bytes=description.shared_bytes if description.dynamic_shared else 0,
            arguments=self._arguments(launch, description),
        )

    def _arguments(self, launch: Launch, kernel: KernelDescription) -> tuple[tuple[str, int | str], ...]:
        arguments: list[tuple[str, int | str]] = []
        for argument, parameter in zip(launch.arguments, kernel.parameters, strict=True):
            if isinstance(argument, BufferArgument):
                arguments.append((parameter, argument.buffer))
                continue
            value = evaluate(argument.expression, self._symbols, f"kernel {launch.kernel!r}")
            limit = _RANGES[parameter]
            if not -limit <= value < limit:
                raise DeviceError(
                    f"kernel {launch.kernel!r}: argument {argument.expression} = {value} "
                    f"does not fit {parameter}{_about(launch)}"
                )
            arguments.append((parameter, value))
        return tuple(arguments)


def _about(launch: Launch | LaunchStep) -> str:
    return f"\n  nodes: {', '.join(launch.nodes)}" if launch.nodes else ""


def run(
    device: Device,
    steps: Sequence[Step],
    addresses: Mapping[str, int],
    timings: list[KernelTiming] | None = None,
) -> None:
    """Give the steps to the device in order; with `timings`, wait after each launch and note how long it
    took.
    """
    for step in steps:
        if isinstance(step, LaunchStep):
            _run_launch(device, step, addresses, timings)
        elif isinstance(step, CopyStep):
            device.copy(addresses[step.target], addresses[step.source], step.nbytes)
        elif isinstance(step, FillStep):
            device.fill(addresses[step.target], step.byte, step.nbytes)
        else:
            condition = np.zeros(1, np.uint8)
            device.download(addresses[step.condition], condition)
            branch = step.then if condition[0] else step.otherwise
            run(device, branch.steps, addresses, timings)


def _run_launch(
    device: Device, step: LaunchStep, addresses: Mapping[str, int], timings: list[KernelTiming] | None
) -> None:
    arguments = [
        (kind, addresses[value] if isinstance(value, str) else value) for kind, value in step.arguments
    ]
    if timings is not None:
        device.synchronize()
    start = time.perf_counter()
    try:
        device.launch(step.kernel, step.grid, step.block, step.shared_bytes, arguments)
        if timings is not None:
            device.synchronize()
            timings.append(KernelTiming(step.kernel.name, step.nodes, time.perf_counter() - start))
    except DeviceError as error:
        raise DeviceError(
            f"{error}\n  in kernel {step.kernel.name!r}, grid {step.grid}{_about(step)}"
        ) from error

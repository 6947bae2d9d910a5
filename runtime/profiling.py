"""A profile of an engine without a GPU: exact counts from the emulator, and a roofline on a named GPU.

In: an engine, inputs, a data sheet. Out: a `ProfileReport`. Why: whether a kernel is bound by memory or by
arithmetic, coalesces, conflicts or spills, can be known before a GPU is at hand. The times are a model, not a
measurement: the larger of the times that bytes, operations, shared-memory wavefronts and instructions would take at
the rates of the data sheet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from .emulator.device import EmulatorDevice
from .emulator.observer import READ, WRITE
from .emulator.profile import Counts, Profile
from .emulator.profile_counts import SECTOR
from .engine import Engine
from .gpus import Gpu, Occupancy, occupancy
from .manifest import KernelDescription
from .session import Session

LABEL = "a model, not a measurement"
_SCHEDULERS = 4
"""Warp instructions a multiprocessor can begin in a clock."""


@dataclass(frozen=True)
class KernelProfile:
    """One kernel: its counts over all launches, its occupancy on the GPU, and what the roofline says.

    `times` maps each resource to the seconds it would be busy; `bound` is the slowest.
    """

    description: KernelDescription
    counts: Counts
    occupancy: Occupancy
    times: dict[str, float]

    @property
    def bound(self) -> str:
        """The resource that takes longest."""
        return max(self.times, key=lambda name: self.times[name])

    @property
    def seconds(self) -> float:
        """The roofline time of all launches."""
        return max(self.times.values())

    @property
    def moved(self) -> int:
        """Bytes of all sectors that warps asked for."""
        return SECTOR * sum(self.counts.sectors.values())

    @property
    def coalescing(self) -> float:
        """Requested bytes of the bytes moved for them; above 1 where lanes of a warp share them."""
        requested = self.counts.requested[READ] + self.counts.requested[WRITE]
        return requested / self.moved if self.moved else 1.0

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        values = {item.name: getattr(self.counts, item.name) for item in fields(self.counts)}
        plain = {name: dict(value) if isinstance(value, Counter) else value for name, value in values.items()}
        return {
            **plain, "nodes": list(self.description.nodes), "registers": self.description.registers,
            "occupancy": asdict(self.occupancy), "times": self.times, "bound": self.bound, "seconds": self.seconds,
            "moved_bytes": self.moved, "coalescing": self.coalescing,
        }  # fmt: skip


@dataclass(frozen=True)
class ProfileReport:
    """All kernels of a run, slowest first, on `gpu`."""

    gpu: Gpu
    kernels: tuple[KernelProfile, ...]

    @property
    def seconds(self) -> float:
        """The sum of the kernels' roofline times; launches add theirs on a real GPU."""
        return sum(kernel.seconds for kernel in self.kernels)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return {
            "note": LABEL, "gpu": asdict(self.gpu), "seconds": self.seconds,
            "kernels": [kernel.to_json() for kernel in self.kernels],
        }  # fmt: skip


def profile(engine: Engine, inputs: Mapping[str, Any], gpu: Gpu) -> ProfileReport:
    """Run once on the emulator and count. Raises ModelError for wrong inputs, DeviceError for faults."""
    instrument = Profile()
    with Session(engine, EmulatorDevice(instrument=instrument), "profile") as session:
        session.run(inputs)
    kernels = [roofline(gpu, engine.kernels[name], counts) for name, counts in instrument.counts.items()]
    return ProfileReport(gpu, tuple(sorted(kernels, key=lambda kernel: -kernel.seconds)))


def roofline(gpu: Gpu, description: KernelDescription, counts: Counts) -> KernelProfile:
    """The time of each resource at the rates of `gpu`'s data sheet, in seconds."""
    threads = counts.block[0] * counts.block[1] * counts.block[2]
    resident = occupancy(gpu, threads, description.registers, counts.shared_bytes)
    used = _used(gpu, counts)
    per_clock = gpu.multiprocessors * gpu.clock * 1e9 * used
    times = {
        "memory": sum(counts.distinct.values()) / (gpu.bandwidth * 1e9),
        "f32": (counts.operations["f32"] + counts.operations["f16"] / 2) / (gpu.f32 * 1e12 * used),
        "tensor": sum(
            number / (gpu.tensor.get(kind, gpu.tensor["f16"]) * 1e12 * used)
            for kind, number in counts.tensor.items()
        ),
        "shared memory": counts.wavefronts / per_clock,
        "instructions": sum(counts.instructions.values()) / (_SCHEDULERS * per_clock),
    }
    return KernelProfile(description, counts, resident, times)


def _used(gpu: Gpu, counts: Counts) -> float:
    """How full the multiprocessors are, when blocks are spread over them as evenly as they can be: few blocks, or one
    block more than a multiple of the multiprocessors, leave some without work. Memory does not suffer from that.
    """
    each = counts.blocks / max(1, counts.launches)
    per_multiprocessor = -(-each // gpu.multiprocessors)
    return each / (per_multiprocessor * gpu.multiprocessors)

"""Data sheets of GPUs: what a roofline and an occupancy need to know.

In: a name such as `h100`, or a compilation target. Out: a `Gpu`. Why: the profile of the emulator gives times on a
named GPU; these numbers are the manufacturer's, at boost clock and without sparsity, and nothing here was measured.
They were compared with public tables and with each other (tests/emulator/test_profile.py), not with the documents,
which cannot be reached from where this was written.
"""

from __future__ import annotations

from dataclasses import dataclass

from .errors import ModelError


@dataclass(frozen=True)
class Multiprocessor:
    """What one multiprocessor of a compute capability holds: CUDA Programming Guide, table "Technical Specifications
    per Compute Capability".
    """

    threads: int
    blocks: int
    shared_bytes: int
    registers: int = 65536

    @property
    def warps(self) -> int:
        """Resident warps."""
        return self.threads // 32


MULTIPROCESSORS: dict[tuple[int, int], Multiprocessor] = {
    (8, 0): Multiprocessor(2048, 32, 164 * 1024),
    (8, 6): Multiprocessor(1536, 16, 100 * 1024),
    (8, 7): Multiprocessor(1536, 16, 164 * 1024),
    (8, 9): Multiprocessor(1536, 24, 100 * 1024),
    (9, 0): Multiprocessor(2048, 32, 228 * 1024),
    (10, 0): Multiprocessor(2048, 32, 228 * 1024),
    (12, 0): Multiprocessor(1536, 24, 100 * 1024),
}


@dataclass(frozen=True)
class Gpu:
    """One GPU: `clock` in GHz (boost), `bandwidth` in GB/s, `f32` in TFLOP/s outside the tensor cores, `tensor` in
    TFLOP/s (dense, f32 accumulation) by the type of the factors. `source` is the document of NVIDIA's that says so.
    """

    name: str
    title: str
    capability: tuple[int, int]
    multiprocessors: int
    clock: float
    bandwidth: float
    f32: float
    tensor: dict[str, float]
    source: str

    @property
    def multiprocessor(self) -> Multiprocessor:
        """What one of its multiprocessors holds."""
        return MULTIPROCESSORS[self.capability]


def _tensor(f16: float, tf32: float, int8: float, f8: float = 0) -> dict[str, float]:
    rates = {"f16": f16, "bf16": f16, "tf32": tf32, "int8": int8}
    return rates | ({"f8": f8} if f8 else {})


_A100 = "A100 Tensor Core GPU, data sheet; A100 Tensor Core GPU Architecture, white paper (clock)"
_ORIN = "Jetson AGX Orin Series, technical brief; rates of its GPU alone, half of the sparse ones"
_ADA = "Ada GPU Architecture, white paper, appendix on the RTX 4090"
_H100 = "H100 Tensor Core GPU Architecture, white paper, table of the A100 and the H100"
_B200 = "DGX B200, data sheet, an eighth of the system; clock and multiprocessors, which it lacks, from public tables"
_BLACKWELL = "RTX Blackwell GPU Architecture, white paper, appendix on the RTX 5090"

GPUS: dict[str, Gpu] = {
    gpu.name: gpu
    for gpu in (
        Gpu("a100", "A100 SXM 80 GB", (8, 0), 108, 1.41, 2039, 19.5, _tensor(312, 156, 624), _A100),
        Gpu("a10", "A10", (8, 6), 72, 1.695, 600, 31.2, _tensor(125, 62.5, 250), "A10 Tensor Core GPU, data sheet"),
        Gpu("orin", "Jetson AGX Orin 64 GB", (8, 7), 16, 1.3, 204.8, 5.3, _tensor(42.5, 21.2, 85), _ORIN),
        Gpu("l4", "L4", (8, 9), 58, 2.04, 300, 30.3, _tensor(121, 60, 242, 242), "L4 Tensor Core GPU, data sheet"),
        Gpu("l40s", "L40S", (8, 9), 142, 2.52, 864, 91.6, _tensor(362, 183, 733, 733), "L40S GPU, data sheet"),
        Gpu("rtx4090", "GeForce RTX 4090", (8, 9), 128, 2.52, 1008, 82.6, _tensor(165, 82.6, 661, 330), _ADA),
        Gpu("h100", "H100 SXM", (9, 0), 132, 1.98, 3350, 66.9, _tensor(989, 494, 1979, 1979), _H100),
        Gpu("h100-pcie", "H100 PCIe", (9, 0), 114, 1.755, 2039, 51.2, _tensor(756, 378, 1513, 1513), _H100),
        Gpu("h200", "H200 SXM", (9, 0), 132, 1.98, 4800, 66.9, _tensor(989, 494, 1979, 1979), "H200 GPU, data sheet"),
        Gpu("b200", "B200", (10, 0), 148, 1.98, 8000, 75, _tensor(2250, 1125, 4500, 4500), _B200),
        Gpu("rtx5090", "GeForce RTX 5090", (12, 0), 170, 2.41, 1792, 104.8, _tensor(209, 104.8, 838, 419), _BLACKWELL),
    )
}

DEFAULTS = {
    (8, 0): "a100", (8, 6): "a10", (8, 7): "orin", (8, 9): "l4", (9, 0): "h100", (10, 0): "b200", (12, 0): "rtx5090",
}  # fmt: skip
"""The GPU meant when only a target is known."""


def find_gpu(name: str) -> Gpu:
    """The GPU called `name`. Raises ModelError for an unknown one."""
    gpu = GPUS.get(name.lower())
    if gpu is None:
        raise ModelError(f"unknown GPU {name!r}\n  known: {', '.join(GPUS)}")
    return gpu


def gpu_of_target(target: str) -> Gpu:
    """A GPU that runs `target`, such as `sm_90a`."""
    digits = "".join(character for character in target if character.isdigit())
    capability = (int(digits[:-1]), int(digits[-1]))
    return GPUS[DEFAULTS.get(capability, "h100")]


@dataclass(frozen=True)
class Occupancy:
    """How many blocks of a kernel are resident on a multiprocessor, and what keeps it from more."""

    blocks: int
    warps: int
    of_warps: int
    limit: str

    @property
    def fraction(self) -> float:
        """Resident warps, of those that fit."""
        return self.warps / self.of_warps


def occupancy(gpu: Gpu, threads: int, registers: int, shared_bytes: int) -> Occupancy:
    """Of blocks of `threads` threads with `registers` each and `shared_bytes` of shared memory.

    Registers are granted in pieces of 256 a warp and to four warps at a time; each block costs 1 KiB of shared
    memory.
    """
    holds = gpu.multiprocessor
    warps = -(-threads // 32)
    limits = {"blocks": holds.blocks, "threads": holds.warps // warps}
    if registers:
        each = -(-registers * 32 // 256) * 256
        limits["registers"] = holds.registers // each // 4 * 4 // warps
    limits["shared memory"] = holds.shared_bytes // (-(-shared_bytes // 128) * 128 + 1024)
    limit = min(limits, key=lambda name: limits[name])
    blocks = limits[limit]
    return Occupancy(blocks, blocks * warps, holds.warps, limit)

"""What the compiler knows about each GPU architecture: the only place that does.

In: a name as CUDA spells it (`sm_90a`). Out: a `Target` of facts that schedules, lowering rules and the back
end read. It exists so that a new architecture is one new row here and no `if` anywhere else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..runtime.errors import ModelError

KIB = 1024


@dataclass(frozen=True)
class Target:
    """One architecture. Sizes in bytes; `multiprocessors` is that of `card`, the reference that cost models
    assume.
    """

    name: str
    capability: tuple[int, int]
    card: str
    multiprocessors: int
    ptx: str = "+ptx83"  # feature string of LLVM's NVPTX target: the PTX version that is emitted
    shared_per_block: int = 163 * KIB
    shared_per_multiprocessor: int = 164 * KIB
    registers_per_multiprocessor: int = 65536
    registers_per_thread: int = 255
    threads_per_multiprocessor: int = 2048
    blocks_per_multiprocessor: int = 32
    # What the instruction set offers ------------------------------------------------------------------------
    mma: tuple[str, ...] = ("f16", "bf16", "tf32", "i8")  # operand kinds of mma.sync
    cp_async: bool = True
    ldmatrix: bool = True
    stmatrix: bool = False
    tma: bool = False  # cp.async.bulk.tensor and mbarrier transactions
    cluster: bool = False
    wgmma: bool = False
    tcgen05: bool = False
    dependent_launch: bool = False  # griddepcontrol

    @property
    def chip(self) -> str:
        """The name as LLVM and ptxas spell it."""
        return self.name


_AMPERE = Target("sm_80", (8, 0), "A100", 108)
_HOPPER = replace(
    _AMPERE,
    name="sm_90",
    capability=(9, 0),
    card="H100 SXM",
    ptx="+ptx84",  # wgmma of signed with unsigned bytes
    multiprocessors=132,
    shared_per_block=227 * KIB,
    shared_per_multiprocessor=228 * KIB,
    mma=("f16", "bf16", "tf32", "i8", "f8"),
    stmatrix=True,
    tma=True,
    cluster=True,
    dependent_launch=True,
)
_BLACKWELL = replace(
    _HOPPER, name="sm_100", capability=(10, 0), card="B200", multiprocessors=148, ptx="+ptx86"
)
_GEFORCE = replace(  # Ampere for desktops: less shared memory, fewer threads
    _AMPERE,
    name="sm_86",
    capability=(8, 6),
    card="RTX 3090",
    multiprocessors=82,
    shared_per_block=99 * KIB,
    shared_per_multiprocessor=100 * KIB,
    threads_per_multiprocessor=1536,
    blocks_per_multiprocessor=16,
)
_ADA = replace(
    _GEFORCE,
    name="sm_89",
    capability=(8, 9),
    card="RTX 4090",
    ptx="+ptx84",  # mma.sync of 8-bit floats
    multiprocessors=128,
    blocks_per_multiprocessor=24,
    mma=("f16", "bf16", "tf32", "i8", "f8"),
)
_GEFORCE_BLACKWELL = replace(
    _ADA,
    name="sm_120",
    capability=(12, 0),
    card="RTX 5090",
    multiprocessors=170,
    ptx="+ptx87",
    stmatrix=True,
    tma=True,
    cluster=True,
    dependent_launch=True,
)

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        _AMPERE,
        _GEFORCE,
        replace(
            _AMPERE,
            name="sm_87",
            capability=(8, 7),
            card="Jetson AGX Orin",
            multiprocessors=16,
            threads_per_multiprocessor=1536,
            blocks_per_multiprocessor=16,
        ),
        _ADA,
        _HOPPER,
        replace(_HOPPER, name="sm_90a", wgmma=True),
        _BLACKWELL,
        replace(_BLACKWELL, name="sm_100a", tcgen05=True),
        _GEFORCE_BLACKWELL,
        replace(_GEFORCE_BLACKWELL, name="sm_120a"),
    )
}
DEFAULT_TARGET = "sm_90a"


def find_target(name: str) -> Target:
    """The target called `name`. Raises ModelError that lists the known ones."""
    found = TARGETS.get(name)
    if found is None:
        raise ModelError(f"unknown target {name!r}\n  known: {', '.join(TARGETS)}")
    return found

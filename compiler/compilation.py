"""One compilation on its way through the stage table: options, state, and what is told about it.

In: the options a user gave. Out: the typed state that stages share. It exists so that a stage is a function
of one argument.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ..passes.target import DEFAULT_TARGET, Target, find_target
from ..runtime.cache import Cache
from ..runtime.errors import InternalError, ModelError
from ..runtime.tuning import Tuning, built_in
from .backend.kernel import CompiledKernel

if TYPE_CHECKING:
    from ..passes.unit import Unit
    from ..runtime.engine import Engine

PRECISIONS = ("model", "strict", "tf32", "f16", "bf16")
Shapes: TypeAlias = Mapping[str, Sequence[int | str]]


@dataclass(frozen=True)
class Options:
    """What a compilation is asked for. `shapes` fixes or names input dimensions; `jobs` is a number of worker
    processes.

    `dump` is a folder for the IR of every stage, `override` one whose files replace what a stage made. `tuning` is what
    was measured, by default for the target in runtime/tunings. `hints` are typical sizes of symbols, which schedules
    are chosen for.
    """

    target: str = DEFAULT_TARGET
    precision: str = "model"
    shapes: Mapping[str, tuple[int | str, ...]] = field(default_factory=dict)
    dump: Path | None = None
    override: Path | None = None
    jobs: int | None = None
    cached: bool = True
    tuning: Tuning | None = None
    hints: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        find_target(self.target)
        if self.precision not in PRECISIONS:
            raise ModelError(f"unknown precision {self.precision!r}\n  known: {', '.join(PRECISIONS)}")
        for name, shape in self.shapes.items():
            if isinstance(shape, str) or not isinstance(shape, Sequence):
                raise ModelError(f"shape of {name!r}: {shape!r} is none\n  supported: a sequence of integers and names")
            for extent in shape:
                if not isinstance(extent, str) and not _is_integer(extent, 0):
                    raise ModelError(f"shape of {name!r}: {extent} is no size\n  supported: integers, names")
        for name, size in self.hints.items():
            if not _is_integer(size, 1):
                raise ModelError(f"hint {name}={size}: a typical size is at least 1, an integer")
        if self.jobs is not None and not _is_integer(self.jobs, 1):
            raise ModelError(f"{self.jobs} worker processes\n  supported: an integer, at least 1")

        if self.override is not None and not self.override.is_dir():
            raise ModelError(f"there is no folder {self.override} with edited dumps")

    @property
    def measured(self) -> Tuning:
        """The tuning that counts."""
        return self.tuning if self.tuning is not None else built_in(self.target)

    @property
    def facts(self) -> Target:
        """What is known about the target."""
        return find_target(self.target)


def _is_integer(value: Any, least: int) -> bool:
    """Callers may give anything."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


@dataclass(frozen=True)
class Progress:
    """Something happened: `stage` number `number` of `total` is running, with `done` of `kernels` kernels
    compiled.
    """

    stage: str
    number: int
    total: int
    done: int = 0
    kernels: int = 0


Listener: TypeAlias = Callable[[Progress], None]


@dataclass(frozen=True)
class StageReport:
    """What a stage took. `operations` and `changed` are known only when the IR is dumped."""

    stage: str
    seconds: float
    operations: int = 0
    changed: bool = True


@dataclass(frozen=True)
class Pending:
    """A kernel that was found in the cache or is being compiled, and the text of its program."""

    text: str
    result: Future[CompiledKernel] | CompiledKernel


@dataclass
class Compilation:
    """The state of one compilation. `source` is the path, bytes or ModelProto; `unit` is there after
    import.
    """

    options: Options
    source: Any = None
    listener: Listener | None = None
    unit_or_none: Unit | None = None
    cache: Cache | None = None
    early: bool = False  # workers begin while other kernels are still tiled
    pending: dict[str, Pending] = field(default_factory=dict)  # by kernel name
    kernels: dict[str, CompiledKernel] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)  # IR that goes into the engine, by member name
    reports: list[StageReport] = field(default_factory=list)
    engine: Engine | None = None
    progress: Progress = field(default_factory=lambda: Progress("", 0, 0))

    @property
    def unit(self) -> Unit:
        """The unit. Raises InternalError before import."""
        if self.unit_or_none is None:
            raise InternalError(f"stage {self.progress.stage!r} needs a model, and none was imported")
        return self.unit_or_none

    def tell(self, progress: Progress) -> None:
        """Remember where we are and let the listener know."""
        self.progress = progress
        if self.listener:
            self.listener(progress)

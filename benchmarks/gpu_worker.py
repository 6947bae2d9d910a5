"""Work on a GPU in a process of its own: a kernel that faults, or never ends, must not take what comes after it along.

In: a function of one task that yields records, and tasks. Out: the records as they come; `Broken` when the process has
died, raised, or said nothing for longer than it had announced, with what it was doing. Why: an illegal address leaves a
process without its GPU for good, and a kernel that waits for a barrier forever keeps it in a call that no signal ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

from tilewright.runtime.cuda import CudaDevice, CudaKernel
from tilewright.runtime.device import Device, Extents, LaunchArgument, open_device

STARTING = 90.0  # seconds until a new process has imported what its work needs
QUIET = 20.0  # seconds that a launch, a load, a copy may take; all of ours take milliseconds
_NOTE_BYTES = 400
_POLL = 0.2  # seconds between two looks at a worker
_DEATH_OF_PARENT = 1  # PR_SET_PDEATHSIG


class Broken(Exception):
    """The work on a task ended without its last record. The text says how, and what was being done."""


class Notes:
    """What a worker does at the moment, in memory that outlives it: a text, and when it counts as stuck.

    `stage` stands in front of all texts.
    """

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._text: Any = context.RawArray(ctypes.c_char, _NOTE_BYTES)
        self._until: Any = context.RawValue(ctypes.c_double, 0.0)
        self.stage = ""
        self("nothing yet", STARTING)

    def __call__(self, text: str, seconds: float = QUIET) -> None:
        """`text` is begun and takes no longer than `seconds`."""
        self._until.value = time.monotonic() + seconds
        self._text.value = f"{self.stage}: {text}".removeprefix(": ").encode()[: _NOTE_BYTES - 1]

    @property
    def text(self) -> str:
        """The last one."""
        return bytes(self._text.value).decode(errors="replace")

    @property
    def is_stuck(self) -> bool:
        """Whether it has taken longer than was said."""
        return time.monotonic() > float(self._until.value)


Work = Callable[[Any, Notes], Iterator[Any]]


class Worker:
    """Runs `work`, a function that a new process can import, on one task after the other.

    The process is started when a task needs one, and after a task that broke. `apart=False` runs everything in this
    process, for ncu and compute-sanitizer; then what breaks is not contained.
    """

    def __init__(self, work: Work, apart: bool = True) -> None:
        self._work = work
        self._apart = apart
        self._notes = Notes()
        self._process: Any = None
        self._pipe: Connection | None = None

    def do(self, task: Any) -> Iterator[Any]:
        """The records of a task, as they are found. Raises Broken."""
        if not self._apart:
            yield from _records(self._work, task, self._notes)
            return
        if self._process is None:
            self._start()
        pipe = self._pipe
        assert pipe is not None
        self._notes("starting", STARTING)
        try:
            pipe.send(task)
            while True:
                kind, value = self._receive(pipe)
                if kind == "end":
                    return
                if kind == "broken":
                    raise Broken(value)
                yield value
        except (EOFError, OSError):
            raise Broken(f"the process ended with {self._ending()}\n  while: {self._notes.text}") from None
        except BaseException:
            self.close()
            raise

    def _ending(self) -> str:
        """How the process has ended, which is then forgotten."""
        self._process.join(5)
        code = self._process.exitcode
        self.close()
        return f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"status {code}"

    def _receive(self, pipe: Connection) -> tuple[str, Any]:
        while not pipe.poll(_POLL):
            if self._notes.is_stuck:
                raise Broken(f"it hangs, and was killed\n  while: {self._notes.text}")
        kind, value = pipe.recv()
        return kind, value

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._work, self._notes), daemon=True)
        self._process.start()
        theirs.close()

    def close(self) -> None:
        """End the process, whatever it does; the next task gets a new one."""
        process, self._process = self._process, None
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
        if process is not None:
            process.kill()
            process.join(30)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _serve(pipe: Connection, work: Work, notes: Notes) -> None:
    """The process: tasks in, records out, until the pipe is closed. It ends after an error: its GPU may be lost."""
    if sys.platform == "linux":  # a parent that is killed cannot end what hangs
        ctypes.CDLL(None).prctl(_DEATH_OF_PARENT, signal.SIGKILL)
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):
        while True:
            task = pipe.recv()
            try:
                for record in _records(work, task, notes):
                    pipe.send(("record", record))
            except Broken as problem:
                pipe.send(("broken", str(problem)))
                return
            pipe.send(("end", None))


def _records(work: Work, task: Any, notes: Notes) -> Iterator[Any]:
    """What the work yields; Broken in place of what it raises."""
    notes.stage = ""
    try:
        yield from work(task, notes)
    except Exception as problem:
        raise Broken(f"{problem or type(problem).__name__}\n  while: {notes.text}") from problem


class AnnouncingDevice(CudaDevice):
    """The GPU; what is about to be done on it is noted first, so that it is known when it never ends."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        super().__init__()

    def load(self, name: str, ptx: str) -> CudaKernel:
        """JIT a kernel."""
        self._notes(f"loading kernel {name}", 3 * QUIET)
        return super().load(name, ptx)

    def launch(
        self, kernel: CudaKernel, grid: Extents, block: Extents, shared_bytes: int, arguments: Sequence[LaunchArgument]
    ) -> None:
        """Start a kernel."""
        early = ", may begin early" if self.may_begin_early(kernel) else ""
        self._notes(f"kernel {kernel.name}, grid {grid}, block {block}, {shared_bytes} bytes of shared memory{early}")
        super().launch(kernel, grid, block, shared_bytes, arguments)

    def launch_graph(self, executable: Any) -> None:
        """Start a graph."""
        self._notes("a CUDA graph")
        super().launch_graph(executable)


_held: list[Device] = []  # keeps the GPU's primary context from one session to the next: to make one takes long


def open_announcing(name: str, notes: Notes) -> Device:
    """The device called `name`. Raises DeviceError."""
    if name != "cuda":
        return open_device(name)
    notes("opening the GPU", 3 * QUIET)
    if not _held:
        _held.append(CudaDevice())
    return AnnouncingDevice(notes)

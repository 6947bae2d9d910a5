"""A pool of worker processes that compile kernels, and what happens when one of them dies.

In: kernel jobs. Out: futures of compiled kernels. A worker that aborts takes down one kernel only: its job
fails with an error that names the ONNX nodes and a folder that reproduces it, and a fresh worker takes its
place. Workers come from a server that forks them (fork_server.py), not from `multiprocessing`, so that scripts
without a main guard work under every start method.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import socket
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...runtime import errors
from .fork_server import ForkServer, tail, temporary_log
from .kernel import CompiledKernel, KernelJob
from .repro import write_repro

TIME_LIMIT = 300  # seconds for one kernel, after which its worker is ended
MOST_WORKERS = 8  # unless more are asked for: larger models have some fifty kernels


class WorkerDied(Exception):
    """The process ended in the middle of a job. `str` says how, with the end of its standard error."""


class Worker:
    """One process. Not thread-safe: a worker belongs to one thread of the pool."""

    def __init__(self, server: ForkServer) -> None:
        self._server = server
        self._log = temporary_log()
        self._channel, theirs = socket.socketpair()
        server.fork(theirs, self._log)
        theirs.close()
        self._jobs = self._channel.makefile("w", encoding="utf-8")
        self._replies = self._channel.makefile("r", encoding="utf-8")
        self._process = 0

    @property
    def process(self) -> int:
        """The process number, once the server has loaded and forked; 0 when that failed."""
        if not self._process:
            with contextlib.suppress(OSError, ValueError):
                self._process = int(self._replies.readline())
        return self._process

    def compile(self, job: KernelJob) -> dict[str, Any]:
        """The worker's reply. Raises WorkerDied."""
        process = self.process
        timer = threading.Timer(TIME_LIMIT, _kill, (process,))
        timer.start()
        try:
            self._jobs.write(json.dumps(asdict(job)) + "\n")
            self._jobs.flush()
            line = self._replies.readline()
        except (OSError, ValueError):
            line = ""
        finally:
            timer.cancel()
        if not line.endswith("\n"):
            raise WorkerDied(self._epitaph())
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _epitaph(self) -> str:
        status, server_log = self._server.ending(self.process)
        how = f"exit status {status}"
        if status < 0:
            how = signal.Signals(-status).name if -status in list(signal.Signals) else f"signal {-status}"
        return "\n".join(filter(None, [f"the compiler process ended with {how}", tail(self._log), server_log]))

    def close(self) -> None:
        """Close the channel, at which the process leaves by itself."""
        for stream in (self._jobs, self._replies, self._channel):
            with contextlib.suppress(OSError):
                stream.close()
        self._log.close()


def _kill(process: int) -> None:
    if process:
        with contextlib.suppress(OSError):
            os.kill(process, signal.SIGKILL)


class WorkerPool:
    """`jobs` workers, started at once so that MLIR is loaded while the model is read."""

    def __init__(self, jobs: int) -> None:
        self.jobs = max(1, jobs)
        self._executor = ThreadPoolExecutor(self.jobs, thread_name_prefix="tilewright-worker")
        self._lock = threading.Lock()
        self._server = ForkServer()
        self._idle: list[Worker] = [Worker(self._server) for _ in range(self.jobs)]

    def submit(self, job: KernelJob, repro_folder: Path | None = None) -> Future[CompiledKernel]:
        """Compile `job` in a worker. The future raises UnsupportedError, or InternalError naming nodes and a
        repro folder.
        """
        return self._executor.submit(self._compile, job, repro_folder)

    def _compile(self, job: KernelJob, repro_folder: Path | None) -> CompiledKernel:
        with self._lock:
            worker = self._idle.pop() if self._idle else None
        worker = worker or Worker(self._server)
        try:
            reply = worker.compile(job)
        except WorkerDied as death:
            worker.close()
            raise kernel_error(job, "InternalError", str(death), "", repro_folder) from None
        with self._lock:
            self._idle.append(worker)
        if "error" in reply:
            raise kernel_error(job, reply["error"], reply["message"], reply["trace"], repro_folder)
        return CompiledKernel.from_json(reply["kernel"])

    def close(self) -> None:
        """End all workers; running jobs are finished first."""
        self._executor.shutdown(wait=True, cancel_futures=True)
        with self._lock:
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.close()
        self._server.close()


def kernel_error(job: KernelJob, kind: str, message: str, trace: str, folder: Path | None) -> errors.Error:
    """The error for a kernel that did not compile: which ONNX nodes it computes, and how to see it again."""
    nodes = ", ".join(repr(node) for node in job.nodes[:8]) or "unknown"
    if len(job.nodes) > 8:
        nodes += f" and {len(job.nodes) - 8} more"
    lines = [f"kernel '{job.name}' for {job.target} does not compile", f"  ONNX nodes: {nodes}"]
    lines += ["  " + line for line in message.splitlines()]
    if kind in ("UnsupportedError", "ModelError"):  # no bug of ours: nothing to reproduce
        made: errors.Error = getattr(errors, kind)("\n".join(lines))
        return made
    where = write_repro(job, message, trace, folder)
    if where:
        lines.append(f"  repro: tilewright replay {where}")
    return errors.InternalError("\n".join(lines))


_shared: WorkerPool | None = None
_shared_lock = threading.Lock()


def available_cores() -> int:
    """Cores this process may use, and so the number of workers unless told; each takes about 150 MB."""
    with contextlib.suppress(AttributeError):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def shared_pool(jobs: int | None = None) -> WorkerPool:
    """The pool of this process, kept for the next compilation; made anew when another number of jobs is asked
    for.
    """
    global _shared
    wanted = jobs or min(available_cores(), MOST_WORKERS)
    with _shared_lock:
        if _shared is not None and _shared.jobs != wanted:
            _shared.close()
            _shared = None
        if _shared is None:
            _shared = WorkerPool(wanted)
        return _shared


def close_shared_pool() -> None:
    """End the workers of this process; the next compilation starts new ones."""
    global _shared
    with _shared_lock:
        if _shared is not None:
            _shared.close()
        _shared = None


atexit.register(close_shared_pool)
if hasattr(os, "register_at_fork"):  # a forked child must not talk to its parent's workers
    os.register_at_fork(after_in_child=lambda: globals().update(_shared=None, _shared_lock=threading.Lock()))

"""Jobs in a process that may crash, hang or ask for too much memory: each is an answer, not the end of the run.

In: jobs as JSON. Out: verdicts as JSON. The worker is this module run as a program; it leads a process group of its
own, so that the compiler's workers end with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

MEMORY = 4 << 30  # bytes of a worker that may be resident; of address space the emulator reserves far more
LOOK_EACH = 0.25  # seconds between two looks at the memory
SECONDS = 150.0  # a job may take; the slowest seen takes a tenth of that on an idle machine
JOBS_EACH = 500  # jobs until a worker is replaced: what leaks stays small

Job = dict[str, Any]


class IsolatedWorker:
    """One process that does one job at a time. A context manager."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._done = 0
        self._log = ""

    def run(self, job: Job) -> dict[str, Any]:
        """The verdict's fields; kind `crash` with the signal or the time limit where there is none."""
        process = self._ready()
        assert process.stdin and process.stdout
        try:
            process.stdin.write(json.dumps(job).encode() + b"\n")
            process.stdin.flush()
            line, failure = _read_line(process, self.seconds)
        except OSError:
            line, failure = b"", "crash"
        self._done += 1
        if not failure:
            return dict(json.loads(line))
        self.close()
        reasons = {
            "hang": f"no answer within {self.seconds:.0f} s",
            "memory": f"more than {MEMORY >> 20} MiB",
            "crash": f"the process died with code {process.returncode}",
        }
        return {"kind": failure, "message": reasons[failure], "seconds": self.seconds if failure == "hang" else 0.0}

    def _ready(self) -> subprocess.Popen[bytes]:
        if self._process is not None and (self._process.poll() is not None or self._done >= JOBS_EACH):
            self.close()
        if self._process is None:
            self._done = 0
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.fuzz.isolation"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=Path(__file__).resolve().parents[2],
                start_new_session=True,
            )
        return self._process

    def close(self) -> None:
        """End the process and its children."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def __enter__(self) -> IsolatedWorker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _read_line(process: subprocess.Popen[bytes], seconds: float) -> tuple[bytes, str]:
    """A line, or what went wrong: hang when the time is up, memory when too much is resident, crash."""
    assert process.stdout
    found = bytearray()
    end = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not found.endswith(b"\n"):
            if selector.select(LOOK_EACH):
                part = os.read(process.stdout.fileno(), 1 << 16)
                if not part:
                    return b"", "crash"
                found += part
            elif time.monotonic() > end:
                return b"", "hang"
            elif _resident(process.pid) > MEMORY:
                return b"", "memory"
    return bytes(found), ""


def _resident(process: int) -> int:
    """Bytes; 0 for a process that is gone."""
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def answer(job: Job) -> dict[str, Any]:
    """Do one job: `graph` or `motif` of a seed, `case` from a folder, `file` or `node` of a seed."""
    from dataclasses import asdict

    if job["what"] in ("graph", "motif"):
        from .differential import judge_seed

        return asdict(judge_seed(job["seed"], job["what"]))
    if job["what"] == "case":
        from .cases import judge_folder

        return asdict(judge_folder(Path(job["folder"])))
    if job["what"] == "node":
        from .damaged_nodes import judge_node

        return asdict(judge_node(job["seed"]))
    from .damaged_files import judge_damaged

    return asdict(judge_damaged(job["seed"]))


def serve() -> None:
    """The worker's life: jobs until there are no more. What others print goes nowhere."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        for line in sys.stdin:
            replies.write(json.dumps(answer(json.loads(line))) + "\n")
            replies.flush()
    finally:  # nobody listens any more: do not wait for threads of libraries, and take the compiler's workers along
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    serve()

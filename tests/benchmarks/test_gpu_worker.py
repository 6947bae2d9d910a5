"""A process that does the work on a GPU: what breaks in it ends one task, and the next is done all the same."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from benchmarks.gpu_worker import Broken, Notes, Worker


def misbehave(task: str, notes: Notes) -> Iterator[Any]:
    """What kernels do to a process."""
    notes.stage = f"stage {task}"
    notes("kernel dot_0, grid (4, 1, 1)", 0.3)
    yield os.getpid()
    if task == "fault":
        raise RuntimeError("cuStreamSynchronize failed: CUDA_ERROR_ILLEGAL_ADDRESS")
    if task == "hang":
        time.sleep(60)
    if task == "die":
        os.kill(os.getpid(), signal.SIGSEGV)
    yield "done"


TOLD = {
    "fault": "cuStreamSynchronize failed: CUDA_ERROR_ILLEGAL_ADDRESS",
    "hang": "it hangs, and was killed",
    "die": "the process ended with signal SIGSEGV",
}


def test_what_breaks_ends_one_task() -> None:
    records: dict[str, list[Any]] = {}
    with Worker(misbehave) as worker:
        for task in ("first", *TOLD, "second", "last"):
            records[task] = []
            try:
                for record in worker.do(task):
                    records[task].append(record)
            except Broken as problem:
                # What it did when it broke is told: a fault is known by the kernel, not by the call that reports it.
                expected = f"{TOLD[task]}\n  while: stage {task}: kernel dot_0, grid (4, 1, 1)"
                assert str(problem) == expected
    done = [task for task, found in records.items() if "done" in found]
    assert done == ["first", "second", "last"]
    assert all(found for found in records.values())  # what came before the break is kept
    processes = [found[0] for found in records.values()]
    assert processes[0] == processes[1] != processes[2]  # a new one after a fault
    assert processes[-1] == processes[-2] and os.getpid() not in processes


def test_everything_in_this_process() -> None:
    worker = Worker(misbehave, apart=False)
    assert list(worker.do("first")) == [os.getpid(), "done"]
    with pytest.raises(Broken, match=r"ILLEGAL_ADDRESS\n  while: stage fault: kernel dot_0"):
        list(worker.do("fault"))

"""Results of a GPU run as they grow: one JSON file that is complete after every record, and that a later run goes on.

In: records of the scripts that run on a GPU. Out: benchmarks/results/gpu-*.json with the device, the versions, what was
found and what was left out. Time on such a machine is short and may end at any moment: nothing found may be lost.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import subprocess
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from tilewright.runtime.device import open_device

Record = dict[str, Any]
PACKAGES = ("cuda-bindings", "torch", "triton", "jax", "transformers", "onnx")
OUT_OF_TIME = "out of time"
_CARD = "name,driver_version,clocks.max.sm,clocks.max.mem,power.limit"


def environment(device: str, bundle: Path | None = None) -> dict[str, Any]:
    """What results depend on. Raises DeviceError when the device cannot be opened."""
    opened = open_device(device)
    try:
        found: dict[str, Any] = {"device": opened.description}
    finally:
        opened.close()
    if device == "cuda":
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            command = ["nvidia-smi", f"--query-gpu={_CARD}", "--format=csv,noheader"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
            found["card"] = done.stdout.strip()
    found |= {"python": platform.python_version(), "numpy": np.__version__}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    plan = bundle / "cases.json" if bundle is not None else None
    if plan is not None and plan.exists():
        found["bundle"] = json.loads(plan.read_text()).get("commit", "")
    return found | {"date": time.strftime("%Y-%m-%d %H:%M", time.gmtime())}


class Results:
    """The records of one kind (`cases`, `workloads`, `models`) in a file, each known by some of its fields."""

    def __init__(self, path: Path, kind: str, key: tuple[str, ...], head: Record, resume: bool) -> None:
        """With `resume`, what the file has already on the same device is kept, of another bundle what was right;
        otherwise it is begun anew.
        """
        self.path, self.kind, self._key = path, kind, key
        self.content: Record = head | {kind: [], "left out": []}
        if resume and path.exists():
            before = json.loads(path.read_text())
            then, now = before["environment"], head["environment"]
            if then["device"] == now["device"]:
                same = then.get("bundle") == now.get("bundle")
                answered = [record for record in before[kind] if not has_failed(record)]
                self.content[kind] = [record for record in answered if same or record.get("right", True)]

    @property
    def records(self) -> list[Record]:
        """All so far."""
        found: list[Record] = self.content[self.kind]
        return found

    def find(self, record: Record) -> Record | None:
        """The record that has the same key fields."""
        return next((own for own in self.records if self._name(own) == self._name(record)), None)

    def add(self, record: Record) -> None:
        """Note a record, in the place of one with the same key fields, and write the file."""
        kept = [own for own in self.records if self._name(own) != self._name(record)]
        self.content[self.kind] = [*kept, record]
        self.write()

    def leave_out(self, name: str, reason: str = OUT_OF_TIME) -> None:
        """Note what was not done."""
        print(f"{name}: {reason}", flush=True)
        self.content["left out"].append(f"{name}: {reason}")
        self.write()

    def write(self) -> None:
        """Replace the file as a whole, so that a cut leaves the one before."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        scratch = self.path.with_suffix(".part")
        scratch.write_text(json.dumps(self.content, indent=1) + "\n")
        os.replace(scratch, self.path)

    def _name(self, record: Record) -> list[Any]:
        return [record.get(field) for field in self._key]


def has_failed(record: Record) -> bool:
    """Whether there is no answer, right or wrong. An "error" that is a number is the distance of an answer."""
    return "failed" in record or isinstance(record.get("error"), str)


def is_cut(record: Record) -> bool:
    """Whether the time was up before all of its peers were measured."""
    return any(peer.get("skipped") == OUT_OF_TIME for peer in record.get("peers", {}).values())


class OutOfTime(BaseException):
    """Not an Exception: compilers of peers take those for a candidate that does not work, and go on."""

    def __init__(self) -> None:
        super().__init__(OUT_OF_TIME)


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise OutOfTime, again and again, in what takes longer: compilers of peers may search for minutes."""

    def stop(*_: Any) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3), 2.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def skipped(problem: BaseException) -> Record:
    """What stands for a competitor that was not measured."""
    return {"skipped": (str(problem).splitlines() or [type(problem).__name__])[0][:200]}

"""A folder that reproduces the failure of one kernel with one command.

In: the kernel job that failed and its message. Out: a folder with the job, its IR as a file of its own, and
the message; and the way back, for `tilewright replay`. It exists because a crash in LLVM leaves nothing else
behind.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import asdict
from pathlib import Path

from ...runtime.cache import default_folder
from ...runtime.errors import ModelError
from .kernel import KernelJob


def write_repro(job: KernelJob, message: str, trace: str, folder: Path | None = None) -> Path | None:
    """Write the folder (under `folder`, else under the cache's `failures`); None when the disk does not allow
    it.
    """
    digest = hashlib.sha256(f"{job.text}\0{job.target}".encode()).hexdigest()[:12]
    target = (folder or default_folder() / "failures") / f"{job.name}-{digest}"
    name = "kernel.ptx" if job.level == "ptx" else f"kernel.{job.level}.mlir"
    description = asdict(job) | {"python": sys.version.split()[0], "text": name}
    try:
        target.mkdir(parents=True, exist_ok=True)
        (target / name).write_text(job.text)
        (target / "job.json").write_text(json.dumps(description, indent=1) + "\n")
        (target / "message.txt").write_text(message + "\n" + trace)
    except OSError:
        return None
    return target


def read_repro(folder: Path) -> KernelJob:
    """The job of a repro folder, with the IR as it stands there now. Raises ModelError when it is not one."""
    try:
        description = json.loads((folder / "job.json").read_text())
        description.pop("python", None)
        description["text"] = (folder / Path(description["text"]).name).read_text()
        return KernelJob.from_json(description)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder} is not a repro folder: {error}") from None

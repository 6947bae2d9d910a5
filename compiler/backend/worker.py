"""The worker process: compiles kernels sent to it, one line of JSON each way.

In: jobs, one `KernelJob` a line. Out: one line a job: the `CompiledKernel`, or what went wrong. It runs in a
process of its own because a mistake in the IR aborts LLVM, and because the pipeline holds Python's lock.
"""

from __future__ import annotations

import faulthandler
import json
import traceback
from dataclasses import asdict
from typing import Any, TextIO

from ...runtime.errors import Error

SMALLEST_PROGRAM = """
func.func @nothing() attributes {tile.threads = 32 : i64} {
  return
}
"""


def serve(jobs: TextIO, replies: TextIO) -> None:
    """Answer jobs until there are no more."""
    faulthandler.enable()
    for line in jobs:
        reply = answer(json.loads(line))
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def warm_up() -> None:
    """Load and use once what every kernel needs, while the compiler still reads the model."""
    from ...passes.lower import lower_kernel
    from ...passes.target import DEFAULT_TARGET, find_target
    from .assemble import version
    from .emit import emit_ptx

    target = find_target(DEFAULT_TARGET)
    emit_ptx(lower_kernel(SMALLEST_PROGRAM, target).module, target)
    version()


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """The reply to one job: ``{"kernel": ...}`` or ``{"error": class name, "message": ..., "trace":
    ...}``.
    """
    from .kernel import KernelJob, compile_kernel

    try:
        return {"kernel": asdict(compile_kernel(KernelJob.from_json(request)))}
    except Error as error:
        return {"error": type(error).__name__, "message": str(error), "trace": ""}
    except Exception as error:  # a bug in a lowering rule must not end the worker
        summary = f"{type(error).__name__}: {error}"
        return {"error": "InternalError", "message": summary, "trace": traceback.format_exc()}

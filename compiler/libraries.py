"""MLIR's and onnx's bindings, loaded where Ctrl-C cannot break them.

In: nothing. Out: both are imported. It exists because an exception that Python raises in the middle of loading them
ends in a segmentation fault, and a second after a command has begun is when most mistyped ones are interrupted.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

LIBRARIES = ("mlir.ir", "mlir.dialects.llvm", "onnx")


def load_libraries() -> None:
    """Import them; an interruption meanwhile is raised when that is done. Raises ImportError."""
    with _interruptions_held():
        for name in LIBRARIES:
            import_module(name)


@contextmanager
def _interruptions_held() -> Iterator[None]:
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield  # Python raises nothing here
        return
    held: list[tuple[Any, ...]] = []
    signal.signal(signal.SIGINT, lambda *arguments: held.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if held:
        handler(*held[0])

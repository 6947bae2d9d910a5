"""tilewright: ONNX models compiled to CUDA kernels in PTX, and an emulator where there is no GPU.

`compile` makes an `Engine` of an ONNX model, `load` reads one from a file; `Engine.session()` opens a
`Session` on a GPU or on the emulator, and `Session.run` takes and gives arrays by name. Importing this
package loads no compiler: an engine runs with numpy alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .runtime.engine import Engine, load
from .runtime.errors import DeviceError, Error, InternalError, ModelError, UnsupportedError

if TYPE_CHECKING:
    from .compiler import onnx_backend
    from .compiler.api import compile
    from .runtime.session import Session

__version__ = "0.1.0"
__all__ = [
    "DeviceError",
    "Engine",
    "Error",
    "InternalError",
    "ModelError",
    "Session",
    "UnsupportedError",
    "compile",
    "load",
    "onnx_backend",
]

_LAZY = {"compile": ".compiler.api", "Session": ".runtime.session", "onnx_backend": ".compiler.onnx_backend"}


def __getattr__(name: str) -> Any:
    """Load what needs the compiler, or a device, when it is first used."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module = import_module(_LAZY[name], __name__)
    value = module if name == "onnx_backend" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

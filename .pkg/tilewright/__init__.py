"""tilewright: ONNX models compiled to CUDA kernels in PTX, and an emulator where there is no GPU.

`compile` makes an `Engine` of an ONNX model, `load` reads one from a file; `Engine.session()` opens a
`Session` on a GPU or on the emulator, and `Session.run` takes and gives arrays by name. Importing this
package loads no compiler: an engine runs with numpy alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .runtime.errors import DeviceError, Error, InternalError, ModelError, UnsupportedError

if TYPE_CHECKING:
    from .compiler import custom, onnx_backend
    from .compiler.api import compile
    from .runtime.engine import Engine, load
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
    "custom",
    "load",
    "onnx_backend",
]

_LAZY = {
    "Engine": ".runtime.engine",
    "Session": ".runtime.session",
    "compile": ".compiler.api",
    "load": ".runtime.engine",
}
_LAZY_MODULES = {"custom": ".compiler.custom", "onnx_backend": ".compiler.onnx_backend"}


def __getattr__(name: str) -> Any:
    """Load the compiler, numpy and devices when they are first used: errors and `tilewright --help` need none."""
    place = _LAZY.get(name) or _LAZY_MODULES.get(name)
    if place is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module = import_module(place, __name__)
    value = module if name in _LAZY_MODULES else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

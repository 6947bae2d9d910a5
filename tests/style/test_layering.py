"""Imports point down only: compiler -> passes -> dialects; all may import the runtime, which imports none."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from tests.style.sources import ROOT, Source, package_sources

ALLOWED = {
    "compiler": {"compiler", "passes", "dialects", "runtime"},
    "passes": {"passes", "dialects", "runtime"},
    "dialects": {"dialects", "runtime"},
    "runtime": {"runtime"},
}
RUNTIME_PACKAGES = {"numpy", "ml_dtypes", "cuda"}  # besides the standard library
BEFORE_IMPORTS = """
import builtins, os, threading
written = []
original = builtins.open
def watched(file, mode="r", *rest, **options):
    if set(mode) & set("wax+"):
        written.append(str(file))
    return original(file, mode, *rest, **options)
builtins.open = watched
before = dict(os.environ)
"""
AFTER_IMPORTS = """
assert not written, written
assert threading.active_count() == 1, threading.enumerate()
assert before == dict(os.environ)
"""
HEAVY = {"mlir", "onnx", "onnxruntime", "cuda", "click", "rich"}


def own_imports(source: Source) -> list[tuple[int, str]]:
    return [(line, name) for line, name in source.imports() if name.split(".")[0] == "tilewright"]


@pytest.mark.parametrize("source", package_sources(), ids=lambda source: str(source.path))
def test_imports_point_down(source: Source) -> None:
    layers = [(line, name.split(".")[1]) for line, name in own_imports(source) if "." in name]
    upward = [f"{source.path}:{line} imports {layer}" for line, layer in layers if layer in ALLOWED]
    assert not [text for text in upward if text.split()[-1] not in ALLOWED[source.layer]]


@pytest.mark.parametrize("source", package_sources(), ids=lambda source: str(source.path))
def test_imports_inside_the_package_are_relative(source: Source) -> None:
    lines = source.text.splitlines()
    absolute = [line for line in lines if line.lstrip().startswith(("from tilewright", "import tilewright"))]
    assert not absolute


def test_the_runtime_needs_three_packages_only() -> None:
    standard = set(sys.stdlib_module_names) | {"tilewright"}
    foreign = {
        f"{source.path}:{line} {name}"
        for source in package_sources()
        if source.layer == "runtime"
        for line, name in source.imports()
        if name.split(".")[0] not in standard | RUNTIME_PACKAGES
    }
    assert not foreign


def loaded_after(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after one statement."""
    code = f"import json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    command = [sys.executable, "-c", code]
    finished = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert finished.returncode == 0, finished.stderr
    assert len(finished.stdout.splitlines()) == 1, f"importing printed something: {finished.stdout}"
    return {name.split(".")[0] for name in json.loads(finished.stdout)}


def test_import_tilewright_is_light() -> None:
    assert not loaded_after("import tilewright") & HEAVY


def test_loading_an_engine_imports_no_compiler() -> None:
    assert not loaded_after("from tilewright.runtime import engine, session, device") & HEAVY


def test_importing_every_module_has_no_side_effects() -> None:
    modules = [f"tilewright.{source.module}" for source in package_sources()]
    imports = "\n".join(f"import {module}" for module in modules if "__main__" not in module)
    loaded_after(BEFORE_IMPORTS + imports + AFTER_IMPORTS)

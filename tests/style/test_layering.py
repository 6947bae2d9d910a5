"""Imports point down only: compiler -> passes -> dialects; all may import the runtime, which imports none."""

from __future__ import annotations

import json
import re
import subprocess
import sys

from tests.style.sources import ROOT, package_sources

ALLOWED = {
    "compiler": {"compiler", "passes", "dialects", "runtime"},
    "passes": {"passes", "dialects", "runtime"},
    "dialects": {"dialects", "runtime"},
    "runtime": {"runtime"},
}
RUNTIME_PACKAGES = {"numpy", "ml_dtypes", "cuda"}  # besides the standard library
OPTIONAL_PACKAGES = {"runtime/host_functions/images.py": {"PIL"}}  # asked for when a model needs them
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


def test_imports_point_down() -> None:
    upward = []
    for source in package_sources():
        for line, name in source.imports():
            package, _, rest = name.partition(".")
            layer = rest.partition(".")[0]
            if package == "tilewright" and layer in ALLOWED and layer not in ALLOWED[source.layer]:
                upward.append(f"{source.path}:{line} imports {name}")
    assert not upward


def test_imports_inside_the_package_are_relative() -> None:
    absolute = re.compile(r"^\s*(from|import) tilewright\b", re.MULTILINE)
    assert not [str(source.path) for source in package_sources() if absolute.search(source.text)]


def test_the_runtime_needs_three_packages_only() -> None:
    standard = set(sys.stdlib_module_names) | {"tilewright"}
    foreign = {
        f"{source.path}:{line} {name}"
        for source in package_sources()
        if source.layer == "runtime"
        for line, name in source.imports()
        if name.split(".")[0] not in standard | RUNTIME_PACKAGES | OPTIONAL_PACKAGES.get(str(source.path), set())
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

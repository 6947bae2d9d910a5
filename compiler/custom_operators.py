"""Operators that users bring along: how they are registered, and files of them.

In: functions decorated with `operator`, in the running program or in a file that `--operators` names. Out: a
registry that the importer asks after its own. Light to import, because every compilation asks whether it is empty.
"""

from __future__ import annotations

import os
import runpy
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..runtime.errors import Error, ModelError

Function = Callable[..., Any]
STANDARD = ("", "ai.onnx")


@dataclass(frozen=True)
class CustomOperator:
    """`function` imports the operator; `origin` is the file that registered it."""

    function: Function
    origin: str


_REGISTRY: dict[tuple[str, str], dict[int, CustomOperator]] = {}


def operator(name: str, *, domain: str, since: int = 1) -> Callable[[Function], Function]:
    """Decorator: this function compiles the operator `name` of `domain` from opset version `since` of it on.

    It gets a `Node` and returns a tensor for every output. Raises ModelError for ONNX's own domain, and for an
    operator that another file registered.
    """
    if domain in STANDARD:
        raise ModelError(
            f"custom operator '{name}': the domain '{domain}' is ONNX's own\n  give it a domain of yours: 'com.example'"
        )

    def register(function: Function) -> Function:
        origin = function.__code__.co_filename
        versions = _REGISTRY.setdefault((domain, name), {})
        present = versions.get(since)
        if present is not None and present.origin != origin:
            both = f"in {present.origin} and in {origin}"
            raise ModelError(f"custom operator {domain}.{name} is registered twice: {both}")
        versions[since] = CustomOperator(function, origin)
        return function

    return register


def unregister(name: str, *, domain: str) -> None:
    """Forget an operator, all its versions."""
    _REGISTRY.pop((domain, name), None)


def any_registered() -> bool:
    """True when compiling may depend on more than the model and our own sources."""
    return bool(_REGISTRY)


def registered_files() -> list[str]:
    """The files that registered operators."""
    return sorted({item.origin for versions in _REGISTRY.values() for item in versions.values()})


def find_custom(domain: str, name: str, version: int) -> CustomOperator | None:
    """The operator at that version of its domain, or None."""
    versions = _REGISTRY.get((domain, name), {})
    usable = [since for since in versions if since <= version]
    return versions[max(usable)] if usable else None


def hint(domain: str, name: str) -> str:
    """What to do about an operator that nobody registered."""
    versions = _REGISTRY.get((domain, name))
    if versions:
        return f"{name} is registered for version {min(versions)} of '{domain}' and later"
    others = [f"'{known}'" for known, operator in _REGISTRY if operator == name]
    if others:
        return f"{name} is registered in domain {', '.join(sorted(others))}"
    own = sorted(operator for known, operator in _REGISTRY if known == domain)
    if own:
        return f"registered in '{domain}': {', '.join(own)}"
    return "see docs/operators.md, or bring it along: docs/custom-operators.md"


def load_operators(path: str | os.PathLike[str]) -> None:
    """Run a Python file that registers operators. Raises ModelError when it fails or registers none."""
    file = Path(path)
    if not file.is_file():
        raise ModelError(f"there is no file of operators {file}")
    origin = str(file.resolve())
    try:
        runpy.run_path(origin)
    except Error:
        raise
    except Exception as error:
        raise ModelError(f"the operators in {file} cannot be loaded: {describe_failure(error, origin)}") from error
    if not any(item.origin == origin for versions in _REGISTRY.values() for item in versions.values()):
        raise ModelError(f"{file} registers no operator\n  see docs/custom-operators.md")


def describe_failure(error: Exception, origin: str) -> str:
    """What went wrong and, where it is known, in which line of the user's file."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == origin]
    where = f"\n  at {origin}:{lines[-1]}" if lines else ""
    return f"{type(error).__name__}: {error}{where}"

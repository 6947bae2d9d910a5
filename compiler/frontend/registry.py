"""Which Python function imports which ONNX operator.

In: functions decorated with `@onnx_operator` in the files of compiler/frontend/operators, found by folder.
Out: the function for an operator at an opset version. One operator is added in one place: its function.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from functools import lru_cache
from typing import Any

OperatorFunction = Callable[..., Any]  # takes a Node, returns its outputs: Tensor, ir.Value or a sequence of them

_REGISTRY: dict[tuple[str, str], dict[int, OperatorFunction]] = {}
_ON_HOST: set[tuple[str, str]] = set()
DOMAINS = {"ai.onnx": ""}  # the two spellings of the standard domain


def onnx_operator(
    *names: str, since: int = 1, domain: str = "", host: bool = False
) -> Callable[[OperatorFunction], OperatorFunction]:
    """Decorator: this function imports the operators `names` from opset version `since` on.

    With `host` it takes strings, sequences and optionals too.
    """

    def register(function: OperatorFunction) -> OperatorFunction:
        for name in names:
            _REGISTRY.setdefault((domain, name), {})[since] = function
            if host:
                _ON_HOST.add((domain, name))
        return function

    return register


@lru_cache(maxsize=1)
def discover() -> None:
    """Import every file of the operators folder, once."""
    package = importlib.import_module(".operators", __package__)
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f".operators.{module.name}", __package__)


def find_operator(domain: str, name: str, version: int) -> OperatorFunction | None:
    """The importer of that operator at that opset version, or None."""
    discover()
    versions = _REGISTRY.get((DOMAINS.get(domain, domain), name), {})
    usable = [since for since in versions if since <= version]
    return versions[max(usable)] if usable else None


def takes_host_values(domain: str, name: str) -> bool:
    """True for operators whose importer takes strings, sequences and optionals."""
    discover()
    return (DOMAINS.get(domain, domain), name) in _ON_HOST


def registered_operators() -> list[tuple[str, str]]:
    """(domain, name) of every operator that has an importer, sorted."""
    discover()
    return sorted(_REGISTRY)

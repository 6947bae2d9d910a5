"""What the host does between kernels: one named Python function for each kind of step.

In: a call of the host program (values, attributes, sizes). Out: output values and the values of the symbols
that the call binds. Engines name functions and never hold code; the functions are found by folder.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from ..errors import InternalError, ModelError


@dataclass
class HostCall:
    """What a function gets. It may bind symbols by setting `symbols`, one non-negative integer for each."""

    inputs: Sequence[Any]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    sizes: Sequence[int] = ()
    symbols: Sequence[int] = ()


HostFunction = Callable[[HostCall], Sequence[Any]]

_FUNCTIONS: dict[str, HostFunction] = {}


def host_function(name: str) -> Callable[[HostFunction], HostFunction]:
    """Decorator: engines call this function by that name."""

    def register(function: HostFunction) -> HostFunction:
        if name in _FUNCTIONS:
            raise InternalError(f"two host functions are called {name!r}")
        _FUNCTIONS[name] = function
        return function

    return register


@lru_cache(maxsize=1)
def _discover() -> None:
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f".{module.name}", __package__)


def known_functions() -> tuple[str, ...]:
    """Every name, sorted."""
    _discover()
    return tuple(sorted(_FUNCTIONS))


def run_host_function(name: str, call: HostCall, outputs: int, symbols: int) -> tuple[list[Any], list[int]]:
    """(output values, values of the symbols). Raises ModelError for values that the function cannot take."""
    _discover()
    function = _FUNCTIONS.get(name)
    if function is None:
        raise ModelError(f"this runtime has no host function {name!r}")
    try:
        results = list(function(call))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:  # an engine file says what it likes
        raise ModelError(f"host function {name!r} cannot take these values: {type(error).__name__}: {error}") from error
    bound = [int(value) for value in call.symbols]
    if len(results) != outputs or len(bound) != symbols or any(value < 0 for value in bound):
        raise InternalError(
            f"host function {name!r} gave {len(results)} values and the sizes {bound}; "
            f"{outputs} values and {symbols} sizes are wanted"
        )
    return results, bound

"""Reads JSON into typed values, strictly: the same few checks for every record of an engine file.

In: what `json` parsed from a file nobody has to trust. Out: values of the wanted type, or a ModelError that
names the place. It exists so that the manifest and the host program reject unknown keys and wrong types in
one way.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, TypeVar

from .errors import ModelError
from .symbolic import Expression, parse

T = TypeVar("T")

LARGEST_INTEGER = 2**62  # what a size, an offset or a count may be at most; larger ones can only be hostile
LONGEST_EXPRESSION = 2000  # characters; the longest seen in real models have about a hundred
MOST_TERMS = 2000  # in the normal form of an expression
MISSING: Any = object()


def fail(place: str, message: str) -> ModelError:
    """The error for a wrong record: where it stands in the file, and what is wrong with it."""
    return ModelError(f"damaged engine: {place}: {message}")


class Record:
    """One JSON object whose keys are taken one by one; `done` rejects what nobody asked for."""

    def __init__(self, value: Any, place: str) -> None:
        if not isinstance(value, Mapping):
            raise fail(place, f"an object is expected, not {type(value).__name__}")
        self.place = place
        self._left: dict[str, Any] = dict(value)

    def take(self, key: str, default: Any = MISSING) -> Any:
        """The raw value of `key`; ModelError when it is missing and there is no default."""
        if key in self._left:
            return self._left.pop(key)
        if default is MISSING:
            raise fail(self.place, f"key {key!r} is missing")
        return default

    def text(self, key: str, default: Any = MISSING, choices: Iterable[str] = ()) -> str:
        """A string, one of `choices` when there are any."""
        value = self.take(key, default)
        if not isinstance(value, str):
            raise fail(self.place, f"{key!r} must be a string")
        allowed = tuple(choices)
        if allowed and value not in allowed:
            raise fail(self.place, f"{key!r} is {value!r}; known are {', '.join(allowed)}")
        return value

    def integer(self, key: str, default: Any = MISSING, least: int = 0, most: int = LARGEST_INTEGER) -> int:
        """An integer in [least, most]."""
        return _integer(self.take(key, default), f"{self.place}.{key}", least, most)

    def boolean(self, key: str, default: Any = MISSING) -> bool:
        """true or false."""
        value = self.take(key, default)
        if not isinstance(value, bool):
            raise fail(self.place, f"{key!r} must be true or false")
        return value

    def optional_integer(self, key: str, least: int = 0) -> int | None:
        """An integer, or None when the key is absent or null."""
        value = self.take(key, None)
        return None if value is None else _integer(value, f"{self.place}.{key}", least, LARGEST_INTEGER)

    def array(self, key: str, read: Callable[[Any, str], T], default: Any = MISSING) -> tuple[T, ...]:
        """A list, each element read with `read(value, place)`."""
        value = self.take(key, default)
        if not isinstance(value, list | tuple):
            raise fail(self.place, f"{key!r} must be a list")
        return tuple(read(item, f"{self.place}.{key}[{index}]") for index, item in enumerate(value))

    def table(self, key: str, read: Callable[[Any, str], T]) -> dict[str, T]:
        """An object as a dictionary, each value read with `read(value, place)`."""
        value = self.take(key)
        if not isinstance(value, Mapping):
            raise fail(self.place, f"{key!r} must be an object")
        return {str(name): read(item, f"{self.place}.{key}[{name!r}]") for name, item in value.items()}

    def done(self) -> None:
        """Raise ModelError when keys are left that this version does not know."""
        if self._left:
            raise fail(self.place, f"unknown key {sorted(self._left)[0]!r}")


def _integer(value: Any, place: str, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise fail(place, "an integer is expected")
    if not least <= value <= most:
        raise fail(place, f"{value} is outside {least} .. {most}")
    return value


def read_text(value: Any, place: str) -> str:
    """A string."""
    if not isinstance(value, str):
        raise fail(place, "a string is expected")
    return value


def read_integer(value: Any, place: str) -> int:
    """A non-negative integer."""
    return _integer(value, place, 0, LARGEST_INTEGER)


def read_signed(value: Any, place: str) -> int:
    """An integer."""
    return _integer(value, place, -LARGEST_INTEGER, LARGEST_INTEGER)


@lru_cache(maxsize=4096)
def _parse(text: str) -> Expression:
    """`parse`, refusing a product that would multiply out to more terms than any real size has."""
    _count_terms(ast.parse(text, mode="eval").body)
    return parse(text)


def _count_terms(node: ast.AST) -> int:
    """An upper bound of the terms of the normal form. Raises ValueError when any part has too many."""
    counts = [_count_terms(child) for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
    is_product = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult)
    total = math.prod(counts) if is_product else max(sum(counts), 1)
    if total > MOST_TERMS:
        raise ValueError(f"more than {MOST_TERMS} terms")
    return total


def read_expression(value: Any, place: str) -> Expression:
    """A symbolic integer in its text form."""
    text = read_text(value, place)
    if len(text) > LONGEST_EXPRESSION:
        raise fail(place, f"an expression of {len(text)} characters")
    try:
        return _parse(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise fail(place, f"not a symbolic integer: {text[:80]!r}") from error

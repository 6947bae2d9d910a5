"""The table of entries. `@operator("Softmax")` above a function of a `GraphBuilder` adds one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..graph_builder import GraphBuilder

Body = Callable[[GraphBuilder], None]
NEWEST = 99
_ENTRIES: dict[str, Entry] = {}


@dataclass(frozen=True)
class Entry:
    """One operator: drawn as often as `weight` says, at opsets `since` to `until`; in bodies too if it is `shallow`."""

    name: str
    body: Body
    weight: float
    since: int
    until: int
    shallow: bool


def operator(
    name: str, weight: float = 1.0, since: int = 1, until: int = NEWEST, shallow: bool = False
) -> Callable[[Body], Body]:
    """Register an entry under a name of its own. `shallow`: its outputs have the shape of an input."""

    def register(body: Body) -> Body:
        assert name not in _ENTRIES, name
        _ENTRIES[name] = Entry(name, body, weight, since, until, shallow)
        return body

    return register


def registered() -> list[Entry]:
    """All entries, by name."""
    return [_ENTRIES[name] for name in sorted(_ENTRIES)]

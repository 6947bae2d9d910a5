"""The table of motifs. `@motif("gate")` above a function of a `GraphBuilder` adds one.

In: the functions of this folder. Out: a row each, with what its graphs are compiled with. Why: a pass that only fires
in half precision on one target is not met by options that are drawn without regard to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..graph_builder import GraphBuilder

Body = Callable[[GraphBuilder], None]
HALVES = ("f16", "f16", "f16", "bf16", "bf16", "model", "model", "model", "model", "strict")  # as often as here
TARGETS = ("sm_90a", "sm_90a", "sm_90a", "sm_80")
_MOTIFS: dict[str, Motif] = {}


@dataclass(frozen=True)
class Motif:
    """A few nodes that some passes look for: drawn as often as `weight` says, at opsets from `since` on, compiled for
    one of `targets` in one of `precisions`.
    """

    name: str
    body: Body
    weight: float
    since: int
    precisions: tuple[str, ...]
    targets: tuple[str, ...]


def motif(
    name: str,
    weight: float = 1.0,
    since: int = 1,
    precisions: tuple[str, ...] = HALVES,
    targets: tuple[str, ...] = TARGETS,
) -> Callable[[Body], Body]:
    """Register a motif under a name of its own."""

    def register(body: Body) -> Body:
        assert name not in _MOTIFS, name
        _MOTIFS[name] = Motif(name, body, weight, since, precisions, targets)
        return body

    return register


def registered() -> list[Motif]:
    """All motifs, by name."""
    return [_MOTIFS[name] for name in sorted(_MOTIFS)]

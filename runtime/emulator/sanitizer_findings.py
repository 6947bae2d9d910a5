"""What the sanitizer has found: one record for each pair of PTX lines, with the first example and a count.

In: findings of observers, as they happen. Out: `Finding`s in the order they were first seen. Why: a race that
happens in every block and every iteration is one finding, and none of them hides the others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

RACE, UNINITIALISED, FAULT, UNWRITTEN = "race", "uninitialised", "fault", "unwritten"
"""Kinds of findings. `fault` is what stops a launch: out of bounds, misaligned, deadlock, trap."""

MOST_FINDINGS = 200
"""Different findings that are kept; more than anyone reads."""


@dataclass(frozen=True, slots=True)
class Access:
    """One side of a finding: who (`position`: block and thread) did what (`verb`) at which PTX `line`, with its
    `text`.
    """

    verb: str
    position: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.position} {self.verb}: PTX line {self.line}: {self.text}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault of a kernel: `kind`, a sentence `what`, the access that showed it, and the `earlier` one of a race.

    `nodes` are the ONNX nodes of the kernel where somebody knows them; `count` is how often threads ran into it.
    """

    kind: str
    kernel: str
    what: str
    access: Access | None = None
    earlier: Access | None = None
    nodes: tuple[str, ...] = ()
    count: int = 1

    def __str__(self) -> str:
        lines = [f"{self.kind}: {self.what}"]
        if self.kernel:
            nodes = f", ONNX nodes {', '.join(self.nodes)}" if self.nodes else ""
            lines.append(f"  kernel {self.kernel}{nodes}")
        lines += [f"  {access}" for access in (self.access, self.earlier) if access is not None]
        if self.count > 1:
            lines.append(f"  {self.count} times")
        return "\n".join(lines)

    def to_json(self) -> dict[str, object]:
        """Plain values, for `--json`."""

        def side(access: Access | None) -> dict[str, object] | None:
            if access is None:
                return None
            return {"verb": access.verb, "position": access.position, "line": access.line, "text": access.text}

        return {
            "kind": self.kind, "kernel": self.kernel, "what": self.what, "nodes": list(self.nodes),
            "access": side(self.access), "earlier": side(self.earlier), "count": self.count,
        }  # fmt: skip


Key = tuple[str, str, str, int, int]
"""Kernel, kind, what sort of it, and the PTX lines of both sides."""


class Findings:
    """Collects findings, one for each key."""

    def __init__(self) -> None:
        self._found: dict[Key, Finding] = {}

    def seen(self, key: Key, count: int) -> bool:
        """Count `count` more of a known finding; False when this one has to be described with `add`."""
        known = self._found.get(key)
        if known is None:
            return len(self._found) >= MOST_FINDINGS
        self._found[key] = replace(known, count=known.count + count)
        return True

    def add(self, key: Key, finding: Finding) -> None:
        """A finding that `seen` did not know."""
        self._found[key] = finding

    def __len__(self) -> int:
        return len(self._found)

    def list(self) -> list[Finding]:
        """Everything found, in the order it was first seen."""
        return list(self._found.values())

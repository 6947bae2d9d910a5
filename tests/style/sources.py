"""The project's Python files as the style tests see them: parsed once, with their module names."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
LAYERS = ("compiler", "passes", "dialects", "runtime")
OTHERS = ("tests", "examples", "benchmarks", ".ci")


@dataclass(frozen=True)
class Source:
    """One file: `path` from the root of the repository."""

    path: Path

    @property
    def layer(self) -> str:
        """The top-level folder."""
        return self.path.parts[0]

    @property
    def module(self) -> str:
        """The module's name, as in `runtime.emulator.device`; a package's own file has the package's name."""
        parts = self.path.with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @cached_property
    def text(self) -> str:
        """What the file holds."""
        return (ROOT / self.path).read_text()

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree."""
        return ast.parse(self.text)

    def imports(self, top_level_only: bool = False) -> Iterator[tuple[int, str]]:
        """(line, full name) of every module that the file imports; relative names are resolved.

        For `from a import b` both `a` and `a.b` are given, since b may be a module. Imports that only type
        checkers see are left out.
        """
        for node in _nodes(self.tree, top_level_only):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = self._base(node)
                yield node.lineno, base
                yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)

    def _base(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        package = self.path.parts[:-1]
        parents = package[: len(package) - node.level + 1]
        return ".".join(["tilewright", *parents, *([node.module] if node.module else [])])


def _nodes(tree: ast.AST, top_level_only: bool) -> Iterator[ast.AST]:
    """All nodes, without the bodies of `if TYPE_CHECKING` and, on request, of functions."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if top_level_only and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        yield child
        yield from _nodes(child, top_level_only)


@cache
def package_sources() -> tuple[Source, ...]:
    """Every file of the package."""
    return tuple(_sources(LAYERS))


@cache
def all_sources() -> tuple[Source, ...]:
    """Every Python file of the project."""
    return tuple(_sources(LAYERS + OTHERS))


def _sources(folders: tuple[str, ...]) -> Iterator[Source]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield Source(path.relative_to(ROOT))

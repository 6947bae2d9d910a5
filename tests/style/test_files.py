"""House style that a machine can check: sizes, docstrings, names, loose ends. Each test lists every offender."""

from __future__ import annotations

import ast
import re

from tests.style.sources import all_sources, package_sources

MOST_LINES = 600
MOST_FUNCTION_LINES = 50
VAGUE_NAMES = re.compile(r"(^|_)(utils?|helpers?|misc|stuff|2|new|old|tmp)(_|$)|^common$")
LOOSE_ENDS = re.compile(r"\b(TODO|FIXME|XXX)\b|raise NotImplementedError")
HERE = "tests/style/test_files.py"  # names what it looks for

Definition = ast.FunctionDef | ast.ClassDef


def test_no_file_is_too_long() -> None:
    lengths = {str(source.path): len(source.text.splitlines()) for source in all_sources()}
    assert not {path: length for path, length in lengths.items() if length > MOST_LINES}


def test_no_function_is_too_long() -> None:
    lengths = {
        f"{source.path}:{node.lineno} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for source in package_sources()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.FunctionDef)
    }
    assert not {place: length for place, length in lengths.items() if length > MOST_FUNCTION_LINES}


def test_every_module_has_a_docstring() -> None:
    bare = [source for source in all_sources() if source.text.strip() and not ast.get_docstring(source.tree)]
    assert not [str(source.path) for source in bare]


def is_public(node: ast.stmt) -> bool:
    """A function under a decorator, such as a rule in a table, is described by what it is registered as."""
    if not isinstance(node, Definition) or node.name.startswith("_"):
        return False
    return isinstance(node, ast.ClassDef) or not node.decorator_list


def test_public_things_have_docstrings() -> None:
    assert not [
        f"{source.path}:{node.lineno} {node.name}"
        for source in package_sources()
        for node in source.tree.body
        if isinstance(node, Definition) and is_public(node) and not ast.get_docstring(node)
    ]


def test_no_vague_names() -> None:
    assert not [str(source.path) for source in all_sources() if VAGUE_NAMES.search(source.path.stem)]


def test_no_loose_ends() -> None:
    assert not [
        f"{source.path}:{number} {line.strip()}"
        for source in all_sources()
        if str(source.path) != HERE
        for number, line in enumerate(source.text.splitlines(), 1)
        if LOOSE_ENDS.search(line)
    ]

"""Dumps of the IR that people read and that re-enter the pipeline.

In: a unit after a stage. Out: files `<NN>-<level>.<stage>.mlir` whose first line keeps what the module does
not say (target, precision, symbols, hints), the weights they mention beside them, and `index.tsv`. And back: a dump,
edited or not, as a unit.
"""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mlir import ir

from ..dialects import create_context
from ..dialects.tensors import element_of, shape_of
from ..passes.unit import SymbolSource, Unit, WeightStore
from ..runtime.dtypes import dtype
from ..runtime.errors import ModelError

HEADER = "// tilewright "
WEIGHTS_FOLDER = "weights"

_ALIAS = re.compile(r"^(#loc\d*) = (loc\(.*\))$", re.MULTILINE)
_USE = re.compile(r" ?loc\((#loc\d*)\)")
_NAME = re.compile(r"#loc\d*\b")
_STRING = r'"(?:[^"\\]|\\.)*"'
# A position in a text that was parsed names no ONNX node.
_POSITION = re.compile(rf" ?loc\({_STRING}:\d+:\d+(?: to (?:\d*:)?\d+)?\)")
_UNKNOWN = re.compile(r" ?loc\(unknown\)")
_ANY_LOCATION = re.compile(
    rf" ?loc\((?:#loc\d*|unknown|{_STRING}(?:\([^()]*\)|:\d+:\d+[^()]*)?|fused(?:<[^>]*>)?\[[^\]]*\])\)"
)


def readable(module: ir.Module) -> str:
    """The module's text with ONNX node names at the end of each line instead of numbered locations; it still
    parses.
    """
    text = module.operation.get_asm(enable_debug_info=True)
    aliases = dict(_ALIAS.findall(text))
    text = _ALIAS.sub("", text).strip() + "\n"

    def resolved(location: str) -> str:
        for _ in range(4):  # a fused location mentions other aliases
            location = _NAME.sub(lambda use: aliases.get(use.group(0), "")[4:-1] or "unknown", location)
        return location

    def inline(found: re.Match[str]) -> str:
        location = resolved(aliases.get(found.group(1), ""))
        return " " + location if location else ""

    # What is left is fused locations that stand in place, as those of a function's arguments do.
    return _UNKNOWN.sub("", _POSITION.sub("", resolved(_USE.sub(inline, text))))


def without_locations(text: str) -> str:
    """The text without any location: what identifies a kernel, whatever ONNX nodes it came from."""
    return _ANY_LOCATION.sub("", _ALIAS.sub("", text)).strip()


def header(unit: Unit) -> str:
    """The first line of a dump."""
    facts: dict[str, Any] = {
        "target": unit.target,
        "precision": unit.precision,
        "model": unit.model_name,
        "symbols": {name: [source.input, source.axis] for name, source in unit.symbols.items()},
    }
    if unit.hints:
        facts["hints"] = unit.hints
    return HEADER + json.dumps(facts) + "\n"


@dataclass
class DumpFolder:
    """Writes the dumps of one compilation. Raises ModelError when the folder cannot be written."""

    folder: Path
    rows: list[str] = field(default_factory=list)
    _weights: set[str] = field(default_factory=set)

    def write(self, name: str, text: str) -> None:
        """One file of the folder."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(text)
        except OSError as error:
            raise ModelError(
                f"cannot write the dump {self.folder / name}: {error.strerror or error}"
            ) from None

    def write_weights(self, unit: Unit) -> None:
        """Every weight the module mentions that no earlier dump has written, one `.npy` a handle."""
        wanted = [handle for handle in mentioned_weights(unit.module) if handle not in self._weights]
        folder = self.folder / WEIGHTS_FOLDER
        for handle in wanted:
            self._weights.add(handle)
            try:
                folder.mkdir(parents=True, exist_ok=True)
                np.save(folder / weight_file(handle), unit.weights.get(handle))
            except OSError as error:
                raise ModelError(
                    f"cannot write the weight {handle!r} of a dump: {error.strerror or error}"
                ) from None

    def row(self, number: int, stage: str, seconds: float, operations: int, changed: bool) -> None:
        """One line of index.tsv, which is written again each time so that a crash leaves it complete."""
        self.rows.append(
            f"{number:02d}\t{stage}\t{seconds * 1000:.1f}\t{operations}\t{'yes' if changed else 'no'}"
        )
        self.write(
            "index.tsv", "\n".join(["number\tpass\tmilliseconds\toperations\tchanged", *self.rows]) + "\n"
        )


def weight_file(handle: str) -> str:
    """A file name for a weight handle, readable and unique."""
    return re.sub(r"[^A-Za-z0-9_.-]", lambda found: f"%{ord(found.group(0)):x}", handle)[:200] + ".npy"


def mentioned_weights(module: ir.Module) -> dict[str, str]:
    """Handles of all graph.weight operations in order, with their dtype names."""
    found: dict[str, str] = {}

    def visit(operation: ir.Operation) -> ir.WalkResult:
        if operation.name == "graph.weight":
            found[ir.StringAttr(operation.attributes["handle"]).value] = element_of(operation.results[0])
        return ir.WalkResult.ADVANCE

    module.operation.walk(visit)
    return found


def count_operations(module: ir.Module) -> int:
    """How many operations the module has, nested ones too."""
    count = 0

    def visit(_: ir.Operation) -> ir.WalkResult:
        nonlocal count
        count += 1
        return ir.WalkResult.ADVANCE

    module.operation.walk(visit)
    return count


def read_unit(path: Path, **overrides: str) -> Unit:
    """A unit from a dump or any module of ours; `overrides` replace `target` and `precision`. Raises
    ModelError.

    Weights come from the folder `weights` beside the file; one that is not there fails only when a pass reads
    it.
    """
    try:
        text = path.read_text()
    except UnicodeDecodeError:
        raise ModelError(f"{path} is not IR of ours: it is not text") from None
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from None
    return parse_unit(text, str(path), path.parent / WEIGHTS_FOLDER, **overrides)


def parse_unit(text: str, name: str = "-", weights: Path | None = None, **overrides: str) -> Unit:
    """The same from text; `name` is for messages."""
    facts: dict[str, Any] = {}
    first = next((line for line in text.splitlines() if line.startswith(HEADER)), "")
    if first:
        with contextlib.suppress(ValueError):
            facts = json.loads(first[len(HEADER) :])
    context = create_context()
    with context, ir.Location.unknown():
        try:
            module = ir.Module.parse(text)
        except ir.MLIRError as error:
            raise ModelError(f"{name} is not IR of ours:\n{error}") from None
        symbols = {key: SymbolSource(*source) for key, source in facts.get("symbols", {}).items()}
        unit = Unit(
            module,
            WeightStore(),
            target=overrides.get("target") or facts.get("target", "sm_90a"),
            precision=overrides.get("precision") or facts.get("precision", "model"),
            model_name=facts.get("model", "model"),
            symbols=symbols or _symbols_of(module),
            hints=facts.get("hints", {}),
        )
        for handle, element in mentioned_weights(module).items():
            unit.weights.add(handle, _WeightFile(weights, handle, element))
    return unit


@dataclass(frozen=True)
class _WeightFile:
    """A weight that is read when it is needed."""

    folder: Path | None
    handle: str
    element: str

    def __call__(self) -> np.ndarray[Any, Any]:
        path = self.folder / weight_file(self.handle) if self.folder else None
        if path is None or not path.exists():
            raise ModelError(
                f"weight {self.handle!r} is needed, and there is no {path or 'folder of weights'}"
            )
        array: np.ndarray[Any, Any] = np.load(path, mmap_mode="r")
        return array.view(dtype(self.element).numpy)  # numpy's format does not know bfloat16


def _symbols_of(module: ir.Module) -> dict[str, SymbolSource]:
    """Where each symbol can be read: the first input dimension that is exactly it."""
    for operation in module.body.operations:
        if (
            "sym_name" in operation.attributes
            and ir.StringAttr(operation.attributes["sym_name"]).value == "main"
        ):
            break
    else:
        return {}
    found: dict[str, SymbolSource] = {}
    block = operation.regions[0].blocks[0]
    attributes = operation.attributes
    entries = (
        ir.ArrayAttr(attributes["arg_attrs"]) if "arg_attrs" in attributes else [None] * len(block.arguments)
    )
    for index, (argument, entry) in enumerate(zip(block.arguments, entries, strict=True)):
        named = entry is not None and "graph.name" in ir.DictAttr(entry)
        name = ir.StringAttr(ir.DictAttr(entry)["graph.name"]).value if named else f"x{index}"
        for axis, extent in enumerate(shape_of(argument)):
            symbol = extent.as_symbol()
            if symbol:
                found.setdefault(symbol, SymbolSource(name, axis))
    return found

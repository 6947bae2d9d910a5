"""The tables of docs/models.md from the recorded run of all models.

In: benchmarks/results/models.json and the page. Out: the page with its tables written again: every exported
architecture by exporter and opset, what no exporter makes and why, and every other model.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tests.style.sources import ROOT

RESULTS = ROOT / "benchmarks" / "results" / "models.json"
TABLE = re.compile(r"(<!-- (\w+): written by make docs -->\n).*?(<!-- end -->)", re.DOTALL)
EXPORTED = re.compile(r"(?P<architecture>.*)-small-(?P<exporter>dynamo|legacy)(?:-(?P<opset>\d+))?")
DEFAULT_OPSETS = {"dynamo": "20", "legacy": "17"}  # of the files in tests/models/graphs
COLUMNS = [(exporter, opset) for exporter in ("legacy", "dynamo") for opset in ("17", "20", "23")]

Record = dict[str, Any]


def page(text: str) -> str:
    """The page with fresh tables."""
    recorded = json.loads(RESULTS.read_text())
    tables = {
        "architectures": _architectures(recorded),
        "reasons": _reasons(recorded["not_exported"]),
        "models": _models(recorded["models"]),
    }
    return TABLE.sub(lambda found: found[1] + tables[found[2]] + found[3], text)


def _architectures(recorded: Record) -> str:
    cells: dict[str, dict[tuple[str, str], str]] = {}
    shapes: dict[str, str] = {}
    for row in recorded["models"]:
        found = EXPORTED.fullmatch(row["model"])
        if found:
            opset = found["opset"] or DEFAULT_OPSETS[found["exporter"]]
            cell = _answer(row) if str(row["opset"]) == opset else f"{_answer(row)} ({row['opset']})"
            cells.setdefault(found["architecture"], {})[found["exporter"], opset] = cell
            shapes.setdefault(found["architecture"], _shapes(row))
    for name in recorded.get("not_exported", {}):
        found = EXPORTED.fullmatch(name)
        if found and found["opset"]:
            cells.setdefault(found["architecture"], {})[found["exporter"], found["opset"]] = "none"
    text = "| architecture | shapes | " + " | ".join(" ".join(column) for column in COLUMNS) + " |\n"
    text += "|---|---|" + "---|" * len(COLUMNS) + "\n"
    for name, row in sorted(cells.items()):
        answers = " | ".join(row.get(column, "") for column in COLUMNS)
        text += f"| {name} | {shapes.get(name, '')} | {answers} |\n"
    return text


def _reasons(not_exported: dict[str, str]) -> str:
    """Files with the same reason stand together."""
    files: dict[str, list[str]] = {}
    for name, reason in sorted(not_exported.items()):
        files.setdefault(reason, []).append(name.replace("-small-", " ").replace("dynamo-", "dynamo "))
    text = "| not exported | the exporter's reason |\n|---|---|\n"
    return text + "".join(f"| {', '.join(names)} | {reason} |\n" for reason, names in files.items())


def _models(rows: list[Record]) -> str:
    text = "| model | opset | shapes | largest difference | kernels in a run | of bytes |\n|---|---|---|---|---|---|\n"
    for row in rows:
        if not EXPORTED.fullmatch(row["model"]):
            facts = [row["model"], row["opset"], _shapes(row), _answer(row), row["launches"], row["on_bytes"] or ""]
            text += "| " + " | ".join(map(str, facts)) + " |\n"
    return text


def _answer(row: Record) -> str:
    """The largest difference of any output at any shape, or that the answer is wrong."""
    if row["error"] or not row["differences"]:
        return "fails"
    worst = f"{max(row['differences']):.0e}" if max(row["differences"]) else "0"
    worst += "*" if row.get("peer") == "onnx" else ""
    worst += f" (itself {row['own']:.0e})" if row.get("own") else ""
    return worst if row["passed"] else f"wrong: {worst}"


def _shapes(row: Record) -> str:
    """The first input's shape in every run; where it stays, the first that changes."""
    runs = [shapes.split("; ") for shapes in row["shapes"]]
    inputs = list(zip(*runs, strict=True))
    changing = [shapes for shapes in inputs if len(set(shapes)) == len(runs)]
    return ", ".join((changing or inputs)[0])

"""Tables and plots of what GPUs showed.

In: benchmarks/results/gpu-*.json, written by gpu_check.py, gpu_speed.py and gpu_models.py. Out: Markdown on standard
output: the device and versions, a table a family with our time, the best peer's and their ratio, the geometric mean,
and what was left out; with `--plots DIR` a bar chart of the ratios for each family, and for whole models, as SVG.

    python -m benchmarks.report [FILE.json ...] [--plots DIR]
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Iterator
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
# Times as fast as the best peer; 1 for the others.
GOALS = {"matmul + epilogue": 1.15, "convolution": 1.05, "depthwise": 1.05, "models": 1.2}
MODEL_PEERS = ("torch", "torch.compile", "xla", "xla, cudnn attention")
Record = dict[str, Any]


def best_peer(record: Record) -> tuple[str, float] | None:
    """(name, seconds) of the fastest peer that was measured."""
    found = {name: peer["seconds"] for name, peer in record.get("peers", {}).items() if "seconds" in peer}
    return min(found.items(), key=lambda pair: pair[1]) if found else None


def ratio(record: Record) -> float | None:
    """How many times as fast as the best peer ours is; None without a right answer or without a peer."""
    peer = best_peer(record)
    if peer is None or "ours" not in record or not record.get("right", True):
        return None
    return float(peer[1] / record["ours"]["seconds"])


def geometric_mean(values: list[float]) -> float:
    """Of positive numbers."""
    return math.exp(sum(map(math.log, values)) / len(values))


def rate(record: Record, ceilings: dict[str, float]) -> tuple[str, float]:
    """Arithmetic or traffic in a second, whichever is nearer to its ceiling, and how near; 0 without ceilings."""
    seconds = record["ours"]["seconds"]
    kinds = (("flops", "cublas f16", 1e12, "TFLOP/s"), ("bytes", "copy", 1e9, "GB/s"))
    found = [
        (record[amount] / seconds / ceilings.get(ceiling, math.inf), f"{record[amount] / seconds / unit:.0f} {name}")
        for amount, ceiling, unit, name in kinds
    ]
    if not ceilings:
        return found[0 if record["flops"] else 1][1], 0.0
    reached, text = max(found)
    return text, reached


def row(record: Record, ceilings: dict[str, float]) -> str:
    """One line of a table."""
    if "ours" not in record:
        return f"| {record['name']} | failed: {record['failed'].splitlines()[0]} | | | | |"
    seconds, peer, times = record["ours"]["seconds"], best_peer(record), ratio(record)
    text, reached = rate(record, ceilings)
    cells = [
        record["name"] + ("" if record["right"] else " **WRONG**"),
        f"{seconds * 1e6:.1f}",
        text,
        f"{reached:.0%}" if reached else "",
        f"{peer[0]} {peer[1] * 1e6:.1f}" if peer else "",
        f"{times:.2f}" if times else "",
    ]
    return f"| {' | '.join(cells)} |"


def families(results: Record) -> Iterator[tuple[str, list[Record]]]:
    """The workloads of a file, family by family."""
    for family, records in groupby(results.get("workloads", ()), key=lambda record: str(record["family"])):
        yield family, list(records)


def kernel_tables(results: Record) -> Iterator[str]:
    """The families of one file of gpu_speed.py."""
    ceilings = results["ceilings"]
    if ceilings:
        copy, product = ceilings["copy"] / 1e9, ceilings["cublas f16"] / 1e12
        yield f"Ceilings of this card: copy {copy:.0f} GB/s, cuBLAS f16 {product:.0f} TFLOP/s.\n"
    for family, records in families(results):
        yield f"### {family}\n"
        yield "| work | us | rate | of the ceiling | best peer, us | times as fast |"
        yield "|---|---:|---:|---:|---:|---:|"
        yield from (row(record, ceilings) for record in records)
        yield from summary(family, records)


def summary(family: str, records: list[Record]) -> Iterator[str]:
    """The ratios of a family in one line."""
    ratios = [value for record in records if (value := ratio(record))]
    if ratios:
        goal = f"goal {GOALS.get(family, 1.0)}"
        yield f"\nGeometric mean {geometric_mean(ratios):.2f}, least {min(ratios):.2f}, of {len(ratios)}; {goal}.\n"


def model_name(record: Record) -> str:
    """A model and its sizes."""
    return f"{record['model']} {' '.join(f'{key}={value}' for key, value in record['sizes'].items())}"


def model_table(results: Record) -> Iterator[str]:
    """One file of gpu_models.py."""
    yield f"| model | us | launches | {', us | '.join(MODEL_PEERS)}, us | times as fast as the best |"
    yield f"|---|{'---:|' * (len(MODEL_PEERS) + 3)}"
    for record in results["models"]:
        name = model_name(record)
        if "ours" not in record:
            yield f"| {name} | failed: {record['failed'].splitlines()[0]} {'| ' * (len(MODEL_PEERS) + 3)}"
            continue
        peers = [record["peers"].get(peer, {}) for peer in MODEL_PEERS]
        times = [f"{peer['seconds'] * 1e6:.0f}" if "seconds" in peer else peer.get("skipped", "") for peer in peers]
        own, better = f"{record['ours']['seconds'] * 1e6:.0f}", ratio(record)
        yield f"| {name} | {own} | {record['launches']} | {' | '.join(times)} | {f'{better:.2f}' if better else ''} |"
    yield from summary("models", results["models"])


def answer_lines(results: Record) -> Iterator[str]:
    """One file of gpu_check.py."""
    wrong = [case for case in results["cases"] if not case["right"]]
    yield f"{len(results['cases']) - len(wrong)} of {len(results['cases'])} answers right."
    for case in wrong:
        yield f"- {case['model']} {case['precision']}: {case.get('error', case.get('difference'))}"


# Plots ----------------------------------------------------------------------------------------------------------
BAR, NAMES, UNIT, WIDTH = 18, 300, 200, 760  # pixels: a row, the names, a ratio of 1, everything


def bars(title: str, pairs: list[tuple[str, float]], goal: float) -> str:
    """An SVG of one bar a ratio, with a line at 1 and one at the goal."""
    height = (len(pairs) + 3) * BAR
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}"',
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="8" y="{BAR}" font-weight="bold">{escape(title)}</text>',
    ]
    for number, (name, value) in enumerate(pairs, start=2):
        y = number * BAR
        colour = "#3a7d44" if value >= goal else "#b5502f"
        length = min(value * UNIT, WIDTH - NAMES - 50)
        lines += [
            f'<text x="{NAMES - 6}" y="{y}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{NAMES}" y="{y - BAR + 6}" width="{length:.1f}" height="{BAR - 4}" fill="{colour}"/>',
            f'<text x="{NAMES + length + 4:.1f}" y="{y}">{value:.2f}</text>',
        ]
    for value, dashes in ((1.0, "none"), (goal, "4 3")):
        x = NAMES + value * UNIT
        lines.append(
            f'<line x1="{x}" x2="{x}" y1="{1.5 * BAR}" y2="{height - BAR}" stroke="black" stroke-dasharray="{dashes}"/>'
        )
    return "\n".join([*lines, "</svg>", ""])


def plot(results: Record, folder: Path) -> None:
    """A file for each family, or for the models, with ratios to the fastest peer."""
    folder.mkdir(parents=True, exist_ok=True)
    named = [(family, [(record["name"], record) for record in records]) for family, records in families(results)]
    if "models" in results:
        named.append(("models", [(model_name(record), record) for record in results["models"]]))
    for family, records in named:
        pairs = [(name, value) for name, record in records if (value := ratio(record))]
        if pairs:
            title = f"{family}: times as fast as the best peer, {results['environment']['device']}"
            name = re.sub(r"[^a-z0-9]+", "-", family)
            (folder / f"{name}.svg").write_text(bars(title, pairs, GOALS.get(family, 1.0)))


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--plots", type=Path, metavar="DIR")
    options = parser.parse_args()
    files = options.files or sorted(RESULTS.glob("gpu-*.json"))
    if not files:
        print("Nothing has run on a GPU yet: `make gpu-bundle` here, `make gpu-check` on a machine with one.")
    for path in files:
        results = json.loads(path.read_text())
        print(f"## {path.stem}: {', '.join(f'{key} {value}' for key, value in results['environment'].items())}\n")
        kinds = {"workloads": kernel_tables, "models": model_table, "cases": answer_lines}
        for kind, lines in kinds.items():
            if kind in results:
                print("\n".join(lines(results)))
        for name in results.get("left out", ()):
            print(f"- not run: {name}")
        print()
        if options.plots:
            plot(results, options.plots)


if __name__ == "__main__":
    main()

"""Tables, and plots where matplotlib is installed, of what GPUs showed.

In: benchmarks/results/gpu-*.json, written by gpu_check.py, gpu_speed.py and gpu_models.py. Out: Markdown on standard
output: the device and versions, a table a family with our time, the best peer's and their ratio, the geometric mean;
with `--plots DIR` a bar chart of the ratios for each family (`pip install matplotlib`; nothing else here needs it).

    python -m benchmarks.report [FILE.json ...] [--plots DIR]
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
GOALS = {"matmul + epilogue": 1.15, "convolution": 1.05}  # times as fast as the best peer; 1 for the others
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


def row(record: Record, ceilings: dict[str, float]) -> str:
    """One line of a table."""
    if "ours" not in record:
        return f"| {record['name']} | failed: {record['failed'].splitlines()[0]} | | | | |"
    seconds, peer, times = record["ours"]["seconds"], best_peer(record), ratio(record)
    if record["flops"]:
        rate, ceiling = record["flops"] / seconds, ceilings.get("cublas f16")
        text = f"{rate / 1e12:.0f} TFLOP/s"
    else:
        rate, ceiling = record["bytes"] / seconds, ceilings.get("copy")
        text = f"{rate / 1e9:.0f} GB/s"
    cells = [
        record["name"] + ("" if record["right"] else " **WRONG**"),
        f"{seconds * 1e6:.1f}",
        text,
        f"{rate / ceiling:.0%}" if ceiling else "",
        f"{peer[0]} {peer[1] * 1e6:.1f}" if peer else "",
        f"{times:.2f}" if times else "",
    ]
    return f"| {' | '.join(cells)} |"


def families(results: Record) -> Iterator[tuple[str, list[Record]]]:
    """The workloads of a file, family by family."""
    for family, records in groupby(results["workloads"], key=lambda record: str(record["family"])):
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
        ratios = [value for record in records if (value := ratio(record))]
        if ratios:
            goal = f"goal {GOALS.get(family, 1.0)}"
            yield f"\nGeometric mean {geometric_mean(ratios):.2f}, least {min(ratios):.2f}, of {len(ratios)}; {goal}.\n"


def model_table(results: Record) -> Iterator[str]:
    """One file of gpu_models.py."""
    yield f"| model | us | launches | {', us | '.join(MODEL_PEERS)}, us | times as fast as the best |"
    yield f"|---|{'---:|' * (len(MODEL_PEERS) + 3)}"
    for record in results["models"]:
        name = f"{record['model']} {' '.join(f'{key}={value}' for key, value in record['sizes'].items())}"
        if "ours" not in record:
            yield f"| {name} | failed: {record['failed'].splitlines()[0]} {'| ' * (len(MODEL_PEERS) + 3)}"
            continue
        peers = [record["peers"].get(peer, {}) for peer in MODEL_PEERS]
        times = [f"{peer['seconds'] * 1e6:.0f}" if "seconds" in peer else peer.get("skipped", "") for peer in peers]
        own, better = f"{record['ours']['seconds'] * 1e6:.0f}", ratio(record)
        yield f"| {name} | {own} | {record['launches']} | {' | '.join(times)} | {f'{better:.2f}' if better else ''} |"


def answer_lines(results: Record) -> Iterator[str]:
    """One file of gpu_check.py."""
    wrong = [case for case in results["cases"] if not case["right"]]
    yield f"{len(results['cases']) - len(wrong)} of {len(results['cases'])} answers right."
    for case in wrong:
        yield f"- {case['model']} {case['precision']}: {case.get('error', case.get('difference'))}"


def plot(results: Record, folder: Path) -> None:
    """A bar chart of the ratios of each family."""
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    for family, records in families(results):
        pairs = [(record["name"], value) for record in records if (value := ratio(record))]
        if not pairs:
            continue
        names, ratios = zip(*pairs, strict=True)
        figure, axes = pyplot.subplots(figsize=(8, 0.3 * len(names) + 1))
        axes.barh(range(len(names)), ratios)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.axvline(GOALS.get(family, 1.0), color="black", linewidth=1)
        axes.set_xlabel("times as fast as the best peer")
        axes.set_title(f"{family}, {results['environment']['device']}")
        figure.tight_layout()
        figure.savefig(folder / f"{family.replace(' ', '-')}.svg")
        pyplot.close(figure)


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
        if options.plots and "workloads" in results:
            plot(results, options.plots)


if __name__ == "__main__":
    main()

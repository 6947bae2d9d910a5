"""Random graphs against onnxruntime, damaged files and nodes against the compiler's errors.

    python -m benchmarks.fuzz graphs --seeds 0:10000 --json benchmarks/results/fuzz.json
    python -m benchmarks.fuzz files --seeds 0:10000 --json benchmarks/results/fuzz.json
    python -m benchmarks.fuzz nodes --seeds 0:2000 --json benchmarks/results/fuzz.json
    python -m benchmarks.fuzz motifs --seeds 0:1000 --json benchmarks/results/fuzz.json
    python -m benchmarks.fuzz graphs --again --json FILE     failures once more, with the compiler as it is now
    python -m benchmarks.fuzz graph SEED | motif SEED | file SEED | node SEED | case FOLDER   one, in this process
    python -m benchmarks.fuzz rule --seeds 0:300             how small a mistake the comparison notices

In: ranges of seeds. Out: a line for each failure, its shrunk case in a folder, and with --json a record that later runs
continue. The exit code is 1 when something failed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .damaged_files import DAMAGE
from .damaged_files import judge_damaged as judge_file
from .damaged_nodes import NODES, judge_node
from .differential import GOOD
from .isolation import IsolatedWorker
from .random_graphs import GENERATOR
from .random_motifs import MOTIFS
from .record import Section, load_section, save_section
from .sharpness import report

SAVE_EACH = 25  # seeds between two writes of the record
JOBS = {
    "graphs": ("graph", GENERATOR),
    "motifs": ("motif", MOTIFS),
    "files": ("file", DAMAGE),
    "nodes": ("node", NODES),
}


def run_seeds(
    what: str, seeds: Iterable[int], section: Section, options: argparse.Namespace, again: bool = False
) -> None:
    """Judge seeds in a worker and record them; failures of graphs are shrunk."""
    started = time.monotonic()
    with IsolatedWorker() as worker:
        for count, seed in enumerate(seeds, 1):
            verdict = worker.run({"what": JOBS[what][0], "seed": seed})
            verdict["failed"] = verdict["kind"] not in GOOD
            (section.replace if again else section.add)(seed, verdict)
            if verdict["failed"]:
                print(f"{what} seed {seed}: {verdict['kind']}: {verdict['message']}", flush=True)
                if what in ("graphs", "motifs") and options.shrink:
                    _shrink(JOBS[what][0], seed, verdict, worker, options.cases)
            if count % SAVE_EACH == 0:
                if options.json:
                    save_section(options.json, what, section)
                rate = (time.monotonic() - started) / count
                print(f"{section.finished} done, {rate:.2f} s each, {dict(section.kinds)}", file=sys.stderr, flush=True)
    if options.json:
        save_section(options.json, what, section)


def _shrink(kind: str, seed: int, verdict: dict[str, Any], worker: IsolatedWorker, folder: Path) -> None:
    from .shrinking import shrink_seed

    case = shrink_seed(kind, seed, verdict, worker, folder / f"{kind}-{seed}")
    print((case / "model.txt").read_text(), flush=True)


def run_many(what: str, options: argparse.Namespace) -> bool:
    """The two long commands; True when nothing of the record failed."""
    section = load_section(options.json, what, JOBS[what][1])
    if options.again:
        run_seeds(what, [int(seed) for seed in list(section.failures)], section, options, again=True)
    else:
        run_seeds(what, section.open_seeds(_range(options.seeds)), section, options)
    print(f"{what}: {section.finished} done, {dict(section.kinds)}, {section.seconds:.0f} s of processor time")
    return not section.failures


def _range(text: str) -> range:
    """FIRST:END, or one seed."""
    first, _, end = text.partition(":")
    return range(int(first), int(end or int(first) + 1))


def run_one(what: str, subject: str) -> bool:
    """One graph, file or case in this process, so that a debugger sees it."""
    if what == "case":
        from .cases import judge_folder

        verdict = judge_folder(Path(subject))
    elif what in ("graph", "motif"):
        import onnx.printer

        from .differential import judge_seed, trial_of

        trial = trial_of(int(subject), what)
        print(f"{onnx.printer.to_text(trial.graph.model)}\n{trial.target} {trial.precision}")
        verdict = judge_seed(int(subject), what)
    elif what == "node":
        verdict = judge_node(int(subject))
    else:
        verdict = judge_file(int(subject))
    print(f"{verdict.kind}: {verdict.message}")
    return verdict.kind in GOOD


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(dest="what", required=True)
    for what in JOBS:
        command = commands.add_parser(what)
        command.add_argument("--seeds", default="0:100", help="FIRST:END")
        command.add_argument("--json", type=Path, help="the record, continued when it exists")
        command.add_argument("--again", action="store_true", help="only seeds that are recorded as failures")
        command.add_argument("--cases", type=Path, default=Path("build/fuzz"), help="folder for failing cases")
        command.add_argument("--no-shrink", dest="shrink", action="store_false")
    for what in ("graph", "motif", "file", "node", "case"):
        commands.add_parser(what).add_argument("subject")
    commands.add_parser("rule").add_argument("--seeds", default="0:300", help="FIRST:END")
    options = parser.parse_args()
    if options.what == "rule":
        report(_range(options.seeds))
        return
    try:
        good = run_many(options.what, options) if options.what in JOBS else run_one(options.what, options.subject)
    except KeyboardInterrupt:  # what is recorded is kept
        sys.exit("stopped; the same command goes on")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()

"""onnx's node cases through `tilewright.onnx_backend` on the emulator, as a table of operators.

    python -m benchmarks.conformance [--only TEXT] [--workers 2] [--json FILE]

In: the cases of the onnx package, each run in a worker process that may crash or hang alone. Out: the table and, with
--json, what docs/operators.md is made from. The exit code is 1 for failures that are not on the reviewed list and for
cases on it that pass.
"""

from __future__ import annotations

import argparse
import json
import queue
import subprocess
import sys
import threading
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx
from rich.console import Console
from rich.progress import track
from rich.table import Table
from tests.conformance.backend import Outcome, expected_failures, run_case
from tests.operators.conformance import cases, operator_of

TIMEOUT = 120  # seconds a case may take; the slowest takes a tenth of that


class Worker:
    """A process that runs one case at a time: a name on its input, an outcome as JSON on its output."""

    def __init__(self) -> None:
        self._process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "benchmarks.conformance", "--worker"]
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def run(self, name: str) -> Outcome:
        """The outcome of a case; a process that dies or hangs is replaced."""
        process = self._process
        assert process.stdin and process.stdout
        guard = threading.Timer(TIMEOUT, process.kill)
        guard.start()
        try:
            process.stdin.write(name + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            guard.cancel()
        if line:
            return _outcome(json.loads(line))
        self.close()
        self._process = self._start()
        domain, operator = operator_of(cases()[name])
        return Outcome(name, domain, operator, 0, (), f"the process died or took more than {TIMEOUT} s", 0.0)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


def _outcome(record: dict[str, Any]) -> Outcome:
    return Outcome(**{key: tuple(value) if isinstance(value, list) else value for key, value in record.items()})


def serve() -> None:
    """A worker's life: until its input ends."""
    for line in sys.stdin:
        print(json.dumps(asdict(run_case(line.strip()))), flush=True)


def run_all(names: list[str], workers: int) -> list[Outcome]:
    """Every case, in the order of the names."""
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    for name in names:
        waiting.put(name)
    done: queue.SimpleQueue[Outcome] = queue.SimpleQueue()

    def work() -> None:
        worker = Worker()
        try:
            while True:
                done.put(worker.run(waiting.get_nowait()))
        except queue.Empty:
            return
        finally:
            worker.close()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(workers)]
    for thread in threads:
        thread.start()
    found = {
        outcome.case: outcome for outcome in (done.get() for _ in track(names, "cases", console=Console(stderr=True)))
    }
    return [found[name] for name in names]


def by_operator(outcomes: list[Outcome]) -> dict[str, dict[str, Any]]:
    """For each operator: cases, passed, opsets, element types of passed cases, where it ran."""
    groups: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        groups[f"{outcome.domain}.{outcome.operator}" if outcome.domain else outcome.operator].append(outcome)
    return {
        name: {
            "cases": len(group),
            "passed": sum(item.passed for item in group),
            "opsets": sorted({item.opset for item in group}),
            "types": sorted({kind for item in group if item.passed for kind in item.types}),
            "device": any(item.launches for item in group),
            "host": sorted({call for item in group for call in item.calls}),
        }
        for name, group in sorted(groups.items())
    }


def report(outcomes: list[Outcome]) -> bool:
    """Print the table; True when nothing unexpected happened."""
    out = Console(width=150)
    made = Table("operator", "opsets", "passed", "failed", "host functions", "why", title="onnx node cases")
    for name, row in by_operator(outcomes).items():
        own = [item for item in outcomes if not item.passed and name.endswith(item.operator)]
        reasons = {expected_failures().get(item.case, item.why.splitlines()[0]) for item in own}
        failed = row["cases"] - row["passed"]
        why = "; ".join(sorted(reasons)) if failed else ""
        opsets = ", ".join(map(str, row["opsets"]))
        made.add_row(name, opsets, str(row["passed"]), str(failed or ""), ", ".join(row["host"]), why)
    out.print(made)
    passed = sum(item.passed for item in outcomes)
    unexpected = [item for item in outcomes if not item.passed and item.case not in expected_failures()]
    surprising = [item.case for item in outcomes if item.passed and item.case in expected_failures()]
    whole = [item for item in outcomes if item.passed and not item.launches and not item.calls]
    for item in unexpected:
        out.print(f"unexpected: {item.case}: {item.why}", markup=False)
    for name in surprising:
        out.print(f"passes, and is on the list of expected failures: {name}")
    seconds = sum(item.seconds for item in outcomes)
    out.print(
        f"{passed} of {len(outcomes)} cases passed ({100 * passed / max(len(outcomes), 1):.2f} %), "
        f"{len(outcomes) - passed - len(unexpected)} failed as expected, {len(unexpected)} unexpectedly\n"
        f"{sum(bool(item.specialised) for item in outcomes)} with inputs compiled in, "
        f"{len(whole)} without any work left for the program; {seconds:.0f} s of processor time"
    )
    return not unexpected and not surprising


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="onnx's node cases through tilewright.onnx_backend on the emulator")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the results for docs/operators.md")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        serve()
        return
    outcomes = run_all([name for name in sorted(cases()) if options.only in name], options.workers)
    good = report(outcomes)
    if options.json:
        passed = sum(item.passed for item in outcomes)
        summary = {
            "onnx": onnx.__version__,
            "cases": len(outcomes),
            "passed": passed,
            "operators": by_operator(outcomes),
        }
        options.json.write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()

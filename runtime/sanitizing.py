"""Runs an engine under the emulator's sanitizer.

In: an engine, arrays by input name, the order in which warps and blocks advance. Out: the outputs and a `Report` of
what was found. Why: the command line, tests and benchmarks sanitize in the same way: every buffer an allocation of
its own, contents that count for nothing before each run, asynchronous copies as late as they may be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .emulator.device import EmulatorDevice
from .emulator.observer import Order
from .emulator.sanitizer import Sanitizer
from .emulator.sanitizer_findings import Finding
from .engine import Engine
from .errors import DeviceError, ModelError
from .session import Session

Arrays = dict[str, np.ndarray[Any, Any]]

CHECKS = (
    "bounds and alignment", "races in shared memory", "races between blocks", "asynchronous copies and their waits",
    "proxy fences", "reads of unwritten memory", "outputs written", "barriers and deadlock",
)  # fmt: skip
ORDERS = ("lockstep", "reversed", "random:SEED")


@dataclass(frozen=True)
class Report:
    """What the sanitizer found, and of how much: launches, different kernels, and the order they ran in."""

    findings: tuple[Finding, ...]
    launches: int
    kernels: int
    order: Order

    def __str__(self) -> str:
        covered = f"{self.launches} launches of {self.kernels} kernels, order {self.order}"
        if not self.findings:
            return f"nothing found in {covered}\nchecked: {', '.join(CHECKS)}"
        return "\n".join([*map(str, self.findings), f"{len(self.findings)} findings in {covered}"])

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return {
            "findings": [finding.to_json() for finding in self.findings],
            "launches": self.launches, "kernels": self.kernels, "order": str(self.order), "checks": list(CHECKS),
        }  # fmt: skip


def parse_order(text: str) -> Order:
    """`lockstep`, `reversed` or `random:SEED`. Raises ModelError for anything else."""
    name, separator, seed = text.partition(":")
    if name in ("lockstep", "reversed") and not separator:
        return Order(name)
    if name == "random" and (seed.isdecimal() or not separator):
        return Order(name, int(seed or 0))
    raise ModelError(f"unknown order {text!r}\n  supported: {', '.join(ORDERS)}")


def sanitize(
    engine: Engine, runs: Sequence[Mapping[str, Any]], order: Order | None = None
) -> tuple[list[Arrays], Report]:
    """Run once for each of the inputs `runs`; gives (the outputs of each, up to a fault that ends them; the report).

    Raises ModelError for wrong inputs.
    """
    sanitizer = Sanitizer(order)
    outputs: list[Arrays] = []
    try:
        with Session(engine, EmulatorDevice(instrument=sanitizer), "sanitizer", checked=True) as session:
            outputs.extend(session.run(inputs) for inputs in runs)
    except DeviceError:
        if not len(sanitizer.findings):
            raise
    kernels = engine.kernels
    found = tuple(
        replace(finding, nodes=tuple(kernels[finding.kernel].nodes)) if finding.kernel in kernels else finding
        for finding in sanitizer.findings.list()
    )
    return outputs, Report(found, sanitizer.launches, len(sanitizer.kernels), sanitizer.order)

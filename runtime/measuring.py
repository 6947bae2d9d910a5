"""How long a run takes on the device: repeated, captured where the device can, without the copies of a caller.

In: bodies that each start one run, and a device. Out: a `Measurement`. Why: a single timed launch shows mostly what
launching costs; back-to-back runs in one graph show what the work costs, and several inputs in turn keep the
second-level cache from answering for the memory.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .device import Device

SAMPLE_SECONDS = 1e-3
"""A sample is at least this long, so that starting a graph and reading the clock are a small part of it."""
MOST_RUNS = 64  # in one graph
LEAST_SAMPLES, MOST_SAMPLES = 5, 500


@dataclass(frozen=True)
class Measurement:
    """`samples`: seconds of one run, each the mean of `runs` runs in a row; `captured`: as one graph."""

    samples: tuple[float, ...]
    runs: int
    captured: bool

    @property
    def median(self) -> float:
        """Seconds of a run."""
        return statistics.median(self.samples)

    @property
    def best(self) -> float:
        """Seconds of a run in the fastest sample."""
        return min(self.samples)

    @property
    def spread(self) -> float:
        """The range of the middle half of the samples, as a part of the median."""
        low, _, high = statistics.quantiles(self.samples, n=4)
        return (high - low) / self.median if self.median else 0.0

    def record(self) -> dict[str, float | int | bool]:
        """What result files keep of it."""
        return {
            "seconds": self.median, "best": self.best, "spread": self.spread,
            "samples": len(self.samples), "runs": self.runs, "captured": self.captured,
        }  # fmt: skip


def measure(device: Device, bodies: Sequence[Callable[[], None]], captures: bool, seconds: float) -> Measurement:
    """Time `bodies` in turn for about `seconds`, after a warm-up.

    `captures`: the bodies only start work on the device, so that a graph may hold it. Raises DeviceError.
    """
    first = device.time(_in_turn(bodies, len(bodies)))  # loads and allocates what is left to later by the driver
    once = min(first, device.time(_in_turn(bodies, len(bodies)))) / len(bodies)
    runs = max(len(bodies), min(MOST_RUNS, round(SAMPLE_SECONDS / max(once, 1e-9))))
    runs = -(-runs // len(bodies)) * len(bodies)  # every input equally often
    body = _in_turn(bodies, runs)
    graph = device.capture(body) if captures else None
    start = body if graph is None else graph.launch
    try:
        samples = [device.time(start) for _ in range(2)][1:]
        count = max(LEAST_SAMPLES, min(MOST_SAMPLES, round(seconds / max(samples[0], 1e-9))))
        samples += [device.time(start) for _ in range(count - 1)]
    finally:
        if graph is not None:
            graph.close()
    return Measurement(tuple(sample / runs for sample in samples), runs, graph is not None)


def _in_turn(bodies: Sequence[Callable[[], None]], runs: int) -> Callable[[], None]:
    def start() -> None:
        for number in range(runs):
            bodies[number % len(bodies)]()

    return start

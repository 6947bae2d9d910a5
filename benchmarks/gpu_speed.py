"""Our kernels beside torch's on the same GPU: is every answer right, and how many times as fast is it?

In: the folder of benchmarks/gpu_bundle.py. Out: a table and a JSON file with the device, the versions, the card's own
ceilings (copy bandwidth, cuBLAS), and a record a workload: the error against float64, our time, the peers' times. All
are measured in the same way: repeated in one CUDA graph, with inputs in turn that do not fit the cache together.
Needs what gpu_check.py needs, and torch; benchmarks/report.py makes tables and plots of the results.

    PYTHONPATH=.pkg:. python benchmarks/gpu_speed.py BUNDLE [--family NAME ...] [--seconds 500] [--resume]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

try:
    import torch
except ImportError as problem:
    sys.exit(f"torch, which answers and times are compared with, is not installed here: {problem}")
from benchmarks.gpu_peers import COMPILED, PEERS
from benchmarks.gpu_results import OUT_OF_TIME, OutOfTime, Results, environment, is_cut, skipped, time_limit
from benchmarks.report import ratio
from benchmarks.workloads import WORKLOADS, Workload
from onnx import numpy_helper

from tilewright.runtime.errors import Error
from tilewright.runtime.hollow import load_hollow
from tilewright.runtime.measuring import Measurement, measure

CACHE_BYTES = 128 << 20  # inputs of this size together leave nothing in the second-level cache of any GPU so far
MOST_SETS = 16
SAMPLE = 0.1  # seconds of measuring each competitor
GRACE = 30.0  # seconds after the deadline that a competitor which was begun may take
# ||ours - reference|| / ||reference|| of results stored in f16 (10 bits: about 3e-4 by rounding the result alone), with
# intermediate results of the fused families in f16 too on the peers' side. Ours keep f32 inside a kernel.
TOLERANCE = 2e-3


class TorchDevice:
    """What benchmarks of ours ask of a device (`runtime.measuring`), through torch's events and graphs."""

    def __init__(self, name: str) -> None:
        self.name = name

    def time(self, body: Callable[[], None]) -> float:
        """Seconds between two events around what `body` starts."""
        if self.name == "cpu":
            start = time.perf_counter()
            body()
            return time.perf_counter() - start
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        body()
        last.record()
        last.synchronize()
        return first.elapsed_time(last) / 1e3

    def capture(self, body: Callable[[], None]) -> TorchGraph | None:
        """A CUDA graph of `body`; None where it cannot be captured."""
        if self.name == "cpu":
            return None
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                body()
        except RuntimeError:  # an operator that waits for the host
            torch.cuda.synchronize()
            return None
        return TorchGraph(graph)


class TorchGraph:
    """A graph as `runtime.measuring` wants it."""

    def __init__(self, graph: torch.cuda.CUDAGraph) -> None:
        self._graph = graph

    def launch(self) -> None:
        """Replay it."""
        self._graph.replay()

    def close(self) -> None:
        """Give its memory back."""
        self._graph.reset()


def tensors_of(workload: Workload, device: str, generator: torch.Generator) -> list[dict[str, torch.Tensor]]:
    """Sets of fresh random inputs, as many as leave nothing in the cache, with the model's own weights in each."""
    prototype = workload.make()
    weights = {
        tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()).to(device)
        for tensor in prototype.graph.initializer
    }
    shapes = {
        given.name: [dimension.dim_value for dimension in given.type.tensor_type.shape.dim]
        for given in prototype.graph.input
    }
    nbytes = sum(2 * torch.Size(shape).numel() for shape in shapes.values())
    sets = []
    for _ in range(max(1, min(MOST_SETS, -(-CACHE_BYTES // nbytes)) if device == "cuda" else 1)):
        made = {
            name: torch.randn(shape, generator=generator, device=device, dtype=torch.float16)
            for name, shape in shapes.items()
        }
        sets.append(made | weights)
    return sets


def error_of(result: torch.Tensor, reference: torch.Tensor) -> float:
    """||result - reference|| / ||reference||; infinite when an element is not finite."""
    if result.shape != reference.shape or not bool(torch.isfinite(result).all()):
        return float("inf")
    return float((result.double() - reference).norm() / reference.norm())


def run_ours(
    bundle: Path, workload: Workload, sets: Sequence[dict[str, torch.Tensor]], device: str
) -> tuple[torch.Tensor, Measurement]:
    """Our answer for the first set, with every buffer full of NaN before, and our time."""
    engine = load_hollow(bundle / "workloads" / f"{workload.slug}.packed")
    names = [given.name for given in engine.inputs]
    given = [{name: tensors[name] for name in names} for tensors in sets]
    place = "cuda" if device == "cuda" else "emulator"
    with engine.session(place, checked=True) as session:
        (result,) = session.run(given[0], device_outputs=True).values()
        answer = torch.from_dlpack(result).clone()
    with engine.session(place) as session:
        return answer, session.measure(given, SAMPLE)


def compare(bundle: Path, workload: Workload, device: str, deadline: float, seed: int) -> dict[str, Any]:
    """The record of one workload."""
    generator = torch.Generator(device).manual_seed(seed)
    sets = tensors_of(workload, device, generator)
    if device == "cuda":
        torch.cuda.synchronize()
    record: dict[str, Any] = {
        "family": workload.family, "name": workload.name, "flops": workload.flops, "bytes": workload.nbytes,
        "sets": len(sets), "tolerance": TOLERANCE, "peers": {},
    }  # fmt: skip
    peer = PEERS[workload.family]
    answer, ours = run_ours(bundle, workload, sets, device)
    record["error"] = error_of(answer, peer.reference(workload.parameters, sets[0]))
    record["right"] = record["error"] <= TOLERANCE
    record["ours"] = ours.record()
    del answer
    timer: Any = TorchDevice(device)
    for name, function in peer.competitors(workload.parameters).items():
        left = deadline - time.monotonic()
        if left < 0 or (name == COMPILED and device != "cuda"):
            record["peers"][name] = {"skipped": OUT_OF_TIME if device == "cuda" else "no GPU"}
            continue
        bodies = [lambda tensors=tensors, function=function: function(tensors) for tensors in sets]
        try:
            with time_limit(left + GRACE):
                record["peers"][name] = measure(timer, bodies, True, SAMPLE).record()
        except (Exception, OutOfTime) as problem:  # a backend of the peer that does not take this shape
            record["peers"][name] = skipped(problem)
    return record


def ceilings(device: str) -> dict[str, float]:
    """The card's own limits, measured: bytes per second of a copy (read and written), FLOP/s of cuBLAS in f16."""
    if device != "cuda":
        return {}
    timer: Any = TorchDevice(device)
    source = torch.randn(1 << 28, device=device)
    target = torch.empty_like(source)
    copy = measure(timer, [lambda: target.copy_(source)], True, SAMPLE)  # type: ignore[func-returns-value]
    a, b = (torch.randn(8192, 8192, device=device, dtype=torch.float16) for _ in range(2))
    product = measure(timer, [lambda: a @ b], True, SAMPLE)  # type: ignore[func-returns-value]
    return {"copy": 2 * source.nbytes / copy.median, "cublas f16": 2 * 8192**3 / product.median}


def line(record: dict[str, Any]) -> str:
    """A record for people."""
    name = f"{record['family']} {record['name']}"
    if "failed" in record:
        return f"{name:55} FAILED {record['failed'].splitlines()[0]}"
    ours, times = record["ours"]["seconds"], ratio(record)
    faster = f"{times:5.2f}x" if times else "     -"
    rate = f"{record['bytes'] / ours / 1e9:6.0f} GB/s, {record['flops'] / ours / 1e12:6.1f} TFLOP/s"
    state = "right" if record["right"] else "WRONG"
    return f"{name:55} {state} {record['error']:.1e} {ours * 1e6:10.1f} us {rate} {faster} of the best peer"


def main() -> None:
    """Every workload of the chosen families, until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--family", nargs="*", choices=sorted(PEERS), default=list(PEERS))
    parser.add_argument("--only", default="", help="workloads whose name contains this")
    parser.add_argument("--seconds", type=float, default=500, help="start nothing after this time")
    parser.add_argument("--ours", action="store_true", help="no peers: for ncu, or for a quick look")
    parser.add_argument("--resume", action="store_true", help="keep what --out has already")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda", help="emulator tries this script where there is no GPU")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gpu-speed.json"))
    options = parser.parse_args()
    deadline = time.monotonic() + options.seconds
    device = "cuda" if options.device == "cuda" else "cpu"
    torch.backends.cudnn.benchmark = True
    try:
        head = {"environment": environment(options.device, options.bundle), "ceilings": ceilings(device)}
    except Error as problem:
        sys.exit(f"no GPU to measure on: {problem}")
    results = Results(options.out, "workloads", ("family", "name"), head, options.resume)
    chosen = [work for work in WORKLOADS if work.family in options.family and options.only in work.name]
    chosen.sort(key=lambda work: int(options.family.index(work.family)))  # in the order that was asked for
    for number, workload in enumerate(chosen):
        known = {"family": workload.family, "name": workload.name}
        before = results.find(known)
        if before is not None and not is_cut(before):
            continue
        if time.monotonic() > deadline:
            results.leave_out(f"{workload.family} {workload.name}")
            continue
        try:
            seed = options.seed + number
            record = compare(options.bundle, workload, device, -1.0 if options.ours else deadline, seed)
        except (Error, RuntimeError, OSError) as problem:
            record = known | {"right": False, "failed": str(problem)}
        print(line(record), flush=True)
        results.add(record)
        if device == "cuda":
            torch.cuda.empty_cache()
    wrong = sum(not record["right"] for record in results.records)
    print(f"{len(results.records) - wrong} right, {wrong} wrong or failed; {options.out}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

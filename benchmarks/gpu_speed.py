"""Our kernels beside torch's on the same GPU: is every answer right, and how many times as fast is it?

In: the folder of benchmarks/gpu_bundle.py. Out: a table and a JSON file with the device, the versions, the card's own
ceilings (copy bandwidth, cuBLAS), and a record a workload: the error against float64, our time, the peers' times. All
are measured in the same way: repeated in one CUDA graph, with inputs in turn that do not fit the cache together. A
kernel that faults or hangs ends its own workload only (gpu_worker.py). Needs what gpu_check.py needs, and torch;
benchmarks/report.py makes tables and plots of the results.

    PYTHONPATH=.pkg:. python benchmarks/gpu_speed.py BUNDLE [--family NAME ...] [--seconds 500] [--resume]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

try:
    import torch
except ImportError as problem:
    sys.exit(f"torch, which answers and times are compared with, is not installed here: {problem}")
from benchmarks.gpu_peers import COMPILED, PEERS
from benchmarks.gpu_quantised_peers import EIGHT_BITS
from benchmarks.gpu_results import OUT_OF_TIME, OutOfTime, Results, environment, is_cut, skipped, time_limit
from benchmarks.gpu_worker import Broken, Notes, Worker, open_announcing
from benchmarks.quantised_workloads import EVERY
from benchmarks.report import ratio
from benchmarks.workloads import Workload
from onnx import helper, numpy_helper

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
TOLERANCES = {  # of other types; integers are exact
    "s8": 0.0, "u8": 0.0, "bf16": 8e-3, "tf32": 2e-3,
    # The sums of 8-bit floats keep some 14 bits on Hopper, which costs most where all terms have one sign.
    "e4m3": 2e-2, "e5m2": 2e-2, "e4m3 result": 5e-2,
}  # fmt: skip


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


def tensor_of(array: np.ndarray, device: str) -> torch.Tensor:
    """A weight, of types too that torch does not take from NumPy."""
    if hasattr(np, array.dtype.name):
        return torch.from_numpy(array.copy()).to(device)
    bits = torch.from_numpy(array.view(f"u{array.itemsize}").copy())
    return bits.view(getattr(torch, array.dtype.name)).to(device)


def random_tensor(shape: Sequence[int], dtype: torch.dtype, device: str, generator: torch.Generator) -> torch.Tensor:
    """Normal floats; integers from 0 to 99, which the scales of quantised workloads are made for."""
    if not dtype.is_floating_point:
        return torch.randint(0, 100, shape, generator=generator, device=device, dtype=dtype)
    drawn = torch.float16 if dtype.itemsize == 1 else dtype
    return torch.randn(shape, generator=generator, device=device, dtype=drawn).to(dtype)


def tensors_of(workload: Workload, device: str, generator: torch.Generator) -> list[dict[str, torch.Tensor]]:
    """Sets of fresh random inputs, as many as leave nothing in the cache, with the model's own weights in each."""
    graph = workload.make().graph
    weights = {tensor.name: tensor_of(numpy_helper.to_array(tensor), device) for tensor in graph.initializer}
    given = [
        (value.name, [dimension.dim_value for dimension in value.type.tensor_type.shape.dim],
         getattr(torch, helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name))
        for value in graph.input
    ]  # fmt: skip
    nbytes = sum(torch.Size(shape).numel() * dtype.itemsize for _, shape, dtype in given)
    count = max(1, min(MOST_SETS, -(-CACHE_BYTES // nbytes)) if device == "cuda" else 1)
    return [
        {name: random_tensor(shape, dtype, device, generator) for name, shape, dtype in given} | weights
        for _ in range(count)
    ]


def tolerance_of(workload: Workload) -> float:
    """The largest error of a right answer."""
    if workload.family == "typed matmul":
        return TOLERANCES.get(str(workload.parameters[0]), TOLERANCE)
    if workload.family == "scaled e4m3 matmul":
        return TOLERANCES["e4m3 result" if workload.parameters[-1] else "e4m3"]
    if workload.family.startswith("QDQ"):  # steps, as in kernel_answers.py
        return 1.7 if workload.parameters[-1] is True else 0.51
    return TOLERANCE


def error_of(workload: Workload, result: torch.Tensor, reference: torch.Tensor) -> float:
    """||result - reference|| / ||reference||, of quantised bytes the largest difference in steps; infinite when an
    element is not finite.
    """
    result = result.double()
    if result.shape != reference.shape or not bool(torch.isfinite(result).all()):
        return float("inf")
    difference = result - reference
    if workload.family.startswith("QDQ"):
        return float(difference.abs().max())
    return float(difference.norm() / reference.norm())


def lent(tensor: torch.Tensor) -> Any:
    """What a session takes in place; 8-bit floats go through the host, since torch lends them only of late."""
    if tensor.dtype not in EIGHT_BITS:
        return tensor
    name = str(tensor.dtype).removeprefix("torch.")
    return tensor.view(torch.uint8).cpu().numpy().view(getattr(ml_dtypes, name))


def taken(result: Any, device: str) -> torch.Tensor:
    """A copy of a result."""
    if result.dtype.itemsize > 1 or result.dtype.kind in "iu":
        return torch.from_dlpack(result).clone()
    return tensor_of(result.numpy(), device)


def run_ours(
    bundle: Path, workload: Workload, sets: Sequence[dict[str, torch.Tensor]], device: str, notes: Notes
) -> tuple[torch.Tensor, Measurement]:
    """Our answer for the first set, with every buffer full of NaN before, and our time."""
    engine = load_hollow(bundle / "workloads" / f"{workload.slug}.packed")
    names = [given.name for given in engine.inputs]
    given = [{name: lent(tensors[name]) for name in names} for tensors in sets]
    place = "cuda" if device == "cuda" else "emulator"
    notes.stage = "checked"
    with engine.session(open_announcing(place, notes), checked=True) as session:
        (result,) = session.run(given[0], device_outputs=True).values()
        answer = taken(result, device)
    notes.stage = "timed"
    with engine.session(open_announcing(place, notes)) as session:
        return answer, session.measure(given, SAMPLE)


@dataclass(frozen=True)
class Task:
    """One workload, by its number in `EVERY`; no peer is begun after the `deadline`, of the monotonic clock."""

    bundle: Path
    number: int
    device: str
    deadline: float
    seed: int


def compare(task: Task, notes: Notes) -> Iterator[dict[str, Any]]:
    """The record of one workload: with our time, and again after each peer."""
    workload, device = EVERY[task.number], task.device
    notes("inputs", 2 * GRACE)
    torch.backends.cudnn.benchmark = torch.backends.cuda.matmul.allow_tf32 = True
    generator = torch.Generator(device).manual_seed(task.seed)
    sets = tensors_of(workload, device, generator)
    if device == "cuda":
        torch.cuda.synchronize()
    record: dict[str, Any] = {
        "family": workload.family, "name": workload.name, "flops": workload.flops, "bytes": workload.nbytes,
        "sets": len(sets), "tolerance": tolerance_of(workload), "peers": {},
    }  # fmt: skip
    peer = PEERS[workload.family]
    answer, ours = run_ours(task.bundle, workload, sets, device, notes)
    notes("the reference in float64", 2 * GRACE)
    record["error"] = error_of(workload, answer, peer.reference(workload.parameters, sets[0]))
    record["right"] = record["error"] <= record["tolerance"]
    record["ours"] = ours.record()
    del answer
    functions = peer.competitors(workload.parameters)
    extras = peer.extras(workload.parameters, sets[0])
    record["peers"] = {name: skipped(OutOfTime()) for name in functions}
    yield record
    timer: Any = TorchDevice(device)
    for name, function in functions.items():
        left = task.deadline - time.monotonic()
        if left < 0 or (name == COMPILED and device != "cuda"):
            record["peers"][name] = {"skipped": OUT_OF_TIME if device == "cuda" else "no GPU"}
            continue
        bodies = [lambda tensors=tensors, function=function: function(tensors | extras) for tensors in sets]
        notes(f"peer {name}", left + 2 * GRACE)
        try:
            with time_limit(left + GRACE):
                record["peers"][name] = measure(timer, bodies, True, SAMPLE).record()
        except (Exception, OutOfTime) as problem:  # a backend of the peer that does not take this shape
            record["peers"][name] = skipped(problem)
    if device == "cuda":
        torch.cuda.empty_cache()
    yield record


def ceilings(device: str, notes: Notes) -> Iterator[dict[str, float]]:
    """The card's own limits, measured: bytes per second of a copy (read and written), FLOP/s of cuBLAS in f16."""
    if device != "cuda":
        yield {}
        return
    notes("the card's ceilings", 2 * GRACE)
    timer: Any = TorchDevice(device)
    source = torch.randn(1 << 28, device=device)
    target = torch.empty_like(source)
    copy = measure(timer, [lambda: target.copy_(source)], True, SAMPLE)  # type: ignore[func-returns-value]
    a, b = (torch.randn(8192, 8192, device=device, dtype=torch.float16) for _ in range(2))
    product = measure(timer, [lambda: a @ b], True, SAMPLE)  # type: ignore[func-returns-value]
    yield {"copy": 2 * source.nbytes / copy.median, "cublas f16": 2 * 8192**3 / product.median}


def serve(task: Task | str, notes: Notes) -> Iterator[dict[str, Any]]:
    """A workload's records; of a device's name, its ceilings."""
    yield from ceilings(task, notes) if isinstance(task, str) else compare(task, notes)


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


def run(worker: Worker, task: Task, results: Results) -> None:
    """One workload; what is known of it stays when a peer breaks."""
    workload = EVERY[task.number]
    record: dict[str, Any] = {"family": workload.family, "name": workload.name, "right": False}
    try:
        for record in worker.do(task):
            results.add(record)
    except Broken as problem:
        if "ours" in record:
            record["peers"]["broken"] = skipped(problem)
        else:
            record["failed"] = str(problem)
        results.add(record)
    print(line(record), flush=True)


def main() -> None:
    """Every workload of the chosen families, until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--family", nargs="*", choices=sorted(PEERS), default=list(PEERS))
    parser.add_argument("--only", default="", help="workloads whose name contains this")
    parser.add_argument("--seconds", type=float, default=500, help="start nothing after this time")
    parser.add_argument("--ours", action="store_true", help="no peers: for a quick look")
    parser.add_argument("--together", action="store_true", help="all in this process: for ncu and compute-sanitizer")
    parser.add_argument("--resume", action="store_true", help="keep what --out has already")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda", help="emulator tries this script where there is no GPU")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gpu-speed.json"))
    options = parser.parse_args()
    deadline = time.monotonic() + options.seconds
    device = "cuda" if options.device == "cuda" else "cpu"
    apart = not options.together
    try:
        head: dict[str, Any] = {"environment": environment(options.device, options.bundle)}
        worker = Worker(serve, apart)
        (head["ceilings"],) = worker.do(device)
    except (Error, Broken) as problem:
        sys.exit(f"no GPU to measure on: {problem}")
    results = Results(options.out, "workloads", ("family", "name"), head, options.resume)
    numbers = range(len(EVERY))
    chosen = [(EVERY[number], number) for number in numbers if options.only in EVERY[number].name]
    chosen = [(work, number) for work, number in chosen if work.family in options.family]
    chosen.sort(key=lambda own: int(options.family.index(own[0].family)))  # in the order that was asked for
    with worker:
        for workload, number in chosen:
            before = results.find({"family": workload.family, "name": workload.name})
            if before is not None and not is_cut(before):
                continue
            if time.monotonic() > deadline:
                results.leave_out(f"{workload.family} {workload.name}")
                continue
            until = -1.0 if options.ours else deadline
            run(worker, Task(options.bundle, number, device, until, options.seed + number), results)
    wrong = sum(not record["right"] for record in results.records)
    print(f"{len(results.records) - wrong} right, {wrong} wrong or failed; {options.out}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

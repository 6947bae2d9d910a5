"""Whole models beside torch and XLA on the same GPU: how many times as fast as the better of them is an engine?

In: the hollow engines of benchmarks/gpu_bundle.py, and the same architectures in torch and JAX (benchmarks/gpu_xla.py).
Out: a table and a JSON file, a record for each model and shape, all measured in CUDA graphs. Weights are random, so
these are times only; whether engines are right is asked by gpu_check.py with models that fit a bundle. Needs torch and
transformers; jax for XLA. What takes long comes last: first all engines, then torch as it is, XLA, and torch.compile.
What faults or hangs ends its own model only (gpu_worker.py).

    PYTHONPATH=.pkg:. python benchmarks/gpu_models.py BUNDLE [--only NAME] [--seconds 420] [--resume]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.gpu_results import OutOfTime, Results, environment, skipped, time_limit
from benchmarks.gpu_worker import QUIET, Broken, Notes, Worker, open_announcing

from tilewright.runtime.dtypes import dtype
from tilewright.runtime.errors import Error
from tilewright.runtime.hollow import load_hollow
from tilewright.runtime.measuring import Measurement, measure

SAMPLE = 0.5  # seconds of measuring each competitor
MOST_SECONDS = 90.0  # for one competitor: its compiler may search for minutes
SLOWEST = 8  # launches of ours that a record names


# By the beginning of an input's name: axis -> names of its size, the first that a case has.
AXES: dict[str, dict[int, tuple[str, ...]]] = {
    "input_ids": {0: ("batch",), 1: ("sequence",)},
    "token_type_ids": {0: ("batch",), 1: ("sequence",)},
    "attention_mask": {0: ("batch",), 1: ("total", "sequence")},
    "past": {0: ("batch",), 2: ("past",)},
    "pixel_values": {0: ("batch",)},
    "x": {0: ("batch",), 2: ("height",), 3: ("width",)},
}


@dataclass(frozen=True)
class Case:
    """One model of benchmarks/export_models.py at one shape: `sizes` are values of the dimensions named in `AXES`."""

    model: str
    sizes: dict[str, int]

    @property
    def slug(self) -> str:
        """A file name."""
        return "-".join([self.model, *(f"{name}{size}" for name, size in self.sizes.items())])

    def shapes(self, path: Path) -> dict[str, tuple[int, ...]]:
        """The shape of each input of the exported model in `path`."""
        import onnx

        inputs = onnx.load(path, load_external_data=False).graph.input
        return {given.name: self._shape(given) for given in inputs}

    def _shape(self, given: Any) -> tuple[int, ...]:
        """Exporters give one size many names; what is dynamic is told by the input's name."""
        axes = next(axes for prefix, axes in AXES.items() if given.name.startswith(prefix))
        shape = []
        for axis, size in enumerate(given.type.tensor_type.shape.dim):
            names = [name for name in axes.get(axis, ()) if name in self.sizes]
            shape.append(self.sizes[names[0]] if size.dim_param else size.dim_value)
        return tuple(shape)


CASES = (
    Case("resnet-50", {"batch": 1}),
    Case("resnet-50", {"batch": 64}),
    Case("bert-base", {"batch": 1, "sequence": 128}),
    Case("bert-base", {"batch": 32, "sequence": 384}),
    Case("vit-b16", {"batch": 1}),
    Case("vit-b16", {"batch": 32}),
    Case("gpt2-cached", {"batch": 1, "sequence": 1, "total": 513, "past": 512}),
    Case("unet", {"batch": 1, "height": 256, "width": 256}),
    Case("mobilenet-v2", {"batch": 1}),
)


def arrays(shapes: dict[str, tuple[tuple[int, ...], np.dtype]]) -> dict[str, np.ndarray]:
    """Random inputs: words and masks of ones where the type is an integer."""
    random = np.random.default_rng(0)
    return {
        name: np.ones(shape, element) if element.kind in "iub" else random.standard_normal(shape).astype(element)
        for name, (shape, element) in shapes.items()
    }


def inputs_of(bundle: Path, case: Case) -> list[np.ndarray]:
    """Random inputs of a case, in the order of the model's own."""
    engine = load_hollow(bundle / "models" / f"{case.slug}.hollow")
    shapes = {
        given.name: (tuple(size.evaluate({}) for size in given.shape), dtype(given.dtype).numpy)
        for given in engine.manifest.inputs
    }
    return list(arrays(shapes).values())


def ours(bundle: Path, case: Case, device: str, notes: Notes) -> dict[str, Any]:
    """The record of one model at one shape, without its peers."""
    notes("weights", 3 * QUIET)
    engine = load_hollow(bundle / "models" / f"{case.slug}.hollow")
    names = [given.name for given in engine.manifest.inputs]
    inputs = dict(zip(names, inputs_of(bundle, case), strict=True))
    with engine.session(open_announcing(device, notes)) as session:
        notes.stage = "one by one"
        _, timings = session.profile(inputs)
        notes.stage = "timed"
        measured = session.measure(inputs, SAMPLE)
    slowest = sorted(timings, key=lambda timing: -timing.seconds)[:SLOWEST]
    return {
        "model": case.model, "sizes": case.sizes, "launches": len(engine.program.launches),
        "ours": measured.record(), "peers": {}, "kernel_seconds": sum(timing.seconds for timing in timings),
        "slowest": [[timing.kernel, timing.seconds, list(timing.nodes)[:2]] for timing in slowest],
    }  # fmt: skip


# Peers ----------------------------------------------------------------------------------------------------------
def torch_module(case: Case) -> Any:
    """The architecture in torch, in f16."""
    from benchmarks.export_models import FULL

    return FULL[case.model]().make().eval().half()


def torch_eager(case: Case, inputs: list[np.ndarray]) -> Measurement:
    """torch as it is, channels-last."""
    return _torch(torch_module(case), inputs, lambda module: module)


def torch_compiled(case: Case, inputs: list[np.ndarray]) -> Measurement:
    """torch.compile, max-autotune, with weights as constants (batch normalisation folded)."""
    import torch
    import torch._inductor.config

    torch._inductor.config.freezing = True
    # The graph is captured by `measure`, as everybody's.
    options: dict[str, Any] = {"mode": "max-autotune-no-cudagraphs", "dynamic": False}
    return _torch(torch_module(case), inputs, lambda module: torch.compile(module, **options))


def _torch(module: Any, inputs: list[np.ndarray], prepared: Callable[[Any], Any]) -> Measurement:
    import torch
    from benchmarks.gpu_speed import TorchDevice

    device = "cuda" if torch.cuda.is_available() else "cpu"
    module = module.to(device)
    given = [torch.from_numpy(array).to(device) for array in inputs]
    given = [tensor.half() if tensor.is_floating_point() else tensor for tensor in given]
    if len(given) == 1:  # images
        module = module.to(memory_format=torch.channels_last)
        given = [given[0].contiguous(memory_format=torch.channels_last)]
    function = prepared(module)

    @torch.inference_mode()
    def body() -> None:
        function(*given)

    timer: Any = TorchDevice(device)
    return measure(timer, [body], True, SAMPLE)


def xla(name: str, case: Case, inputs: list[np.ndarray]) -> Measurement:
    """The same architecture in JAX."""
    from benchmarks import gpu_xla

    halves = [array.astype(np.float16) if array.dtype.kind == "f" else array for array in inputs]
    function = gpu_xla.competitors(case.model).get(name)
    if function is None:
        raise ValueError(f"no {name} of this model")
    return gpu_xla.measure(function, gpu_xla.arguments(torch_module(case), halves), SAMPLE)


ROUNDS: dict[str, Callable[[Case, list[np.ndarray]], Measurement]] = {
    "torch": torch_eager,
    "xla": partial(xla, "xla"),
    "xla, cudnn attention": partial(xla, "xla, cudnn attention"),
    "torch.compile": torch_compiled,
}


def attempt(run: Callable[[], Measurement], deadline: float) -> dict[str, Any]:
    """What `run` measured, or why it did not."""
    left = deadline - time.monotonic()
    if left < 0:
        return skipped(OutOfTime())
    try:
        with time_limit(min(MOST_SECONDS, left)):
            return dict(run().record())
    except (Exception, OutOfTime) as problem:  # whatever the peer cannot do with this model
        return skipped(problem)


def line(record: dict[str, Any]) -> str:
    """A record for people."""
    name = f"{record['model']} {' '.join(f'{key}={value}' for key, value in record['sizes'].items())}"
    if "failed" in record:
        return f"{name:50} FAILED {record['failed'].splitlines()[0]}"
    ours = record["ours"]["seconds"]
    peers = ", ".join(
        f"{peer}: {found['seconds'] / ours:.2f}x" if "seconds" in found else f"{peer}: {found['skipped']}"
        for peer, found in record["peers"].items()
    )
    return f"{name:50} {ours * 1e6:10.1f} us, {record['launches']} launches; {peers}"


@dataclass(frozen=True)
class Task:
    """One competitor, "ours" or a name of `ROUNDS`, with one model."""

    competitor: str
    bundle: Path
    case: Case
    device: str
    deadline: float  # of the monotonic clock


def serve(task: Task, notes: Notes) -> Iterator[dict[str, Any]]:
    """What the competitor needed, or our whole record."""
    if task.competitor == "ours":
        yield ours(task.bundle, task.case, task.device, notes)
        return
    notes(f"{task.competitor}: {task.case.slug}", MOST_SECONDS + 3 * QUIET)
    inputs = inputs_of(task.bundle, task.case)
    yield attempt(partial(ROUNDS[task.competitor], task.case, inputs), task.deadline)


def measure_ours(results: Results, cases: list[Case], options: argparse.Namespace, deadline: float) -> None:
    """The first round: every engine."""
    worker = Worker(serve, not options.together)
    for case in cases:
        known = {"model": case.model, "sizes": case.sizes}
        if results.find(known):
            continue
        if time.monotonic() > deadline:
            results.leave_out(case.slug)
            continue
        try:
            (record,) = worker.do(Task("ours", options.bundle, case, options.device, deadline))
        except Broken as problem:
            record = known | {"failed": str(problem)}
        print(line(record), flush=True)
        results.add(record)
    worker.close()


def measure_peers(results: Results, cases: list[Case], options: argparse.Namespace, deadline: float) -> None:
    """The others: each competitor with every model before the next competitor, and in a process of its own."""
    for name in ROUNDS:
        worker = Worker(serve, not options.together)
        for case in cases:
            record = results.find({"model": case.model, "sizes": case.sizes})
            if record is None or "failed" in record:
                continue
            if record["peers"].get(name, skipped(OutOfTime())) != skipped(OutOfTime()):
                continue  # of a run before
            if time.monotonic() > deadline:
                record["peers"][name] = skipped(OutOfTime())
            else:
                record["peers"][name] = competitor(worker, Task(name, options.bundle, case, options.device, deadline))
            print(f"{name:22} {line(record)}", flush=True)
            results.add(record)
        worker.close()


def competitor(worker: Worker, task: Task) -> dict[str, Any]:
    """What a peer needed, or why that is not known."""
    try:
        (found,) = worker.do(task)
    except Broken as problem:
        return skipped(problem)
    return dict(found)


def main() -> None:
    """Every case, until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--only", default="", help="models whose name contains this")
    parser.add_argument("--seconds", type=float, default=420, help="start nothing after this time")
    parser.add_argument("--resume", action="store_true", help="keep what --out has already")
    parser.add_argument("--device", default="cuda", help="emulator tries this script where there is no GPU")
    parser.add_argument("--together", action="store_true", help="all in this process: for ncu and compute-sanitizer")
    parser.add_argument("--peers", action="store_true", help="also where there is no GPU, to try them out")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gpu-models.json"))
    options = parser.parse_args()
    deadline = time.monotonic() + options.seconds
    try:
        head = {"environment": environment(options.device, options.bundle)}
    except Error as problem:
        sys.exit(f"no GPU to measure on: {problem}")
    results = Results(options.out, "models", ("model", "sizes"), head, options.resume)
    cases = []
    for case in CASES:
        if options.only in case.model:
            if (options.bundle / "models" / f"{case.slug}.hollow").exists():
                cases.append(case)
            else:
                results.leave_out(case.slug, "not in the bundle")
    measure_ours(results, cases, options, deadline)
    if options.device == "cuda" or options.peers:
        measure_peers(results, cases, options, deadline)
    sys.exit(any("failed" in record for record in results.records))


if __name__ == "__main__":
    main()

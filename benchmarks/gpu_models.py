"""Whole models beside torch and XLA on the same GPU: how many times as fast as the better of them is an engine?

In: the hollow engines of benchmarks/gpu_bundle.py, and the same architectures in torch and JAX (benchmarks/gpu_xla.py).
Out: a table and a JSON file, a record for each model and shape, all measured in CUDA graphs. Weights are random, so
these are times only; whether engines are right is asked by gpu_check.py with models that fit a bundle. Needs torch and
transformers; jax for XLA.

    PYTHONPATH=.pkg:. python benchmarks/gpu_models.py BUNDLE [--only NAME] [--seconds 500]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tilewright.runtime.measuring import Measurement, measure

SAMPLE = 0.5  # seconds of measuring each competitor


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
)


def arrays(shapes: dict[str, tuple[tuple[int, ...], np.dtype]]) -> dict[str, np.ndarray]:
    """Random inputs: words and masks of ones where the type is an integer."""
    random = np.random.default_rng(0)
    return {
        name: np.ones(shape, element) if element.kind in "iub" else random.standard_normal(shape).astype(element)
        for name, (shape, element) in shapes.items()
    }


def compare(bundle: Path, case: Case, device: str, deadline: float) -> dict[str, Any]:
    """The record of one model at one shape."""
    from benchmarks.export_models import FULL

    from tilewright.runtime.hollow import load_hollow

    engine = load_hollow(bundle / "models" / f"{case.slug}.hollow")
    shapes = {
        given.name: (tuple(size.evaluate({}) for size in given.shape), np.dtype(given.dtype))
        for given in engine.manifest.inputs
    }
    inputs = arrays(shapes)
    with engine.session(device) as session:
        ours = session.measure(inputs, SAMPLE)
    record: dict[str, Any] = {
        "model": case.model, "sizes": case.sizes, "launches": len(engine.program.launches), "ours": ours.record(),
        "peers": {},
    }  # fmt: skip
    if device == "cuda":
        module = FULL[case.model]().make().eval().half()
        record["peers"] |= xla_peers(case, module, list(inputs.values()), deadline)
        record["peers"] |= torch_peers(module, list(inputs.values()), device, deadline)
    return record


def attempt(peers: dict[str, Any], name: str, deadline: float, run: Callable[[], Measurement]) -> None:
    """Record what `run` measured under `name`, or why it did not."""
    if time.monotonic() > deadline:
        peers[name] = {"skipped": "out of time"}
        return
    try:
        peers[name] = run().record()
    except Exception as problem:  # whatever the peer cannot do with this model
        peers[name] = {"skipped": str(problem).splitlines()[0][:200]}


def torch_peers(module: Any, inputs: list[np.ndarray], device: str, deadline: float) -> dict[str, Any]:
    """torch as it is and compiled, channels-last and with weights as constants (batch normalisation folded)."""
    import torch
    import torch._inductor.config
    from benchmarks.gpu_speed import TorchDevice

    torch._inductor.config.freezing = True
    module = module.to(device)
    given = [torch.from_numpy(array).to(device) for array in inputs]
    given = [tensor.half() if tensor.is_floating_point() else tensor for tensor in given]
    if len(given) == 1:  # images
        module = module.to(memory_format=torch.channels_last)
        given = [given[0].contiguous(memory_format=torch.channels_last)]
    timer: Any = TorchDevice(device)
    peers: dict[str, Any] = {}
    # The graph is captured by `measure`, as everybody's.
    compiled = torch.compile(module, mode="max-autotune-no-cudagraphs", dynamic=False)
    for name, function in {"torch": module, "torch.compile": compiled}.items():

        @torch.inference_mode()
        def body(function: Callable[..., Any] = function) -> None:
            function(*given)

        attempt(peers, name, deadline, lambda body=body: measure(timer, [body], True, SAMPLE))  # type: ignore[misc]
    return peers


def xla_peers(case: Case, module: Any, inputs: list[np.ndarray], deadline: float) -> dict[str, Any]:
    """The same architecture in JAX, where that is installed."""
    try:
        from benchmarks import gpu_xla
    except ImportError as problem:
        return {"xla": {"skipped": str(problem)}}
    halves = [array.astype(np.float16) if array.dtype.kind == "f" else array for array in inputs]
    given = gpu_xla.arguments(module, halves)
    peers: dict[str, Any] = {}
    for name, function in gpu_xla.competitors(case.model).items():
        attempt(peers, name, deadline, lambda function=function: gpu_xla.measure(function, given, SAMPLE))  # type: ignore[misc]
    return peers


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


def main() -> None:
    """Every case, until the time is up."""
    from benchmarks.gpu_check import environment

    from tilewright.runtime.errors import Error

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--only", default="", help="models whose name contains this")
    parser.add_argument("--seconds", type=float, default=500, help="start nothing after this time")
    parser.add_argument("--device", default="cuda", help="emulator tries this script where there is no GPU")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gpu-models.json"))
    options = parser.parse_args()
    deadline = time.monotonic() + options.seconds
    results: dict[str, Any] = {"environment": environment(options.device), "models": []}
    for case in CASES:
        if options.only not in case.model or not (options.bundle / "models" / f"{case.slug}.hollow").exists():
            continue
        if time.monotonic() > deadline:
            print(f"out of time before {case.slug}", flush=True)
            break
        try:
            record = compare(options.bundle, case, options.device, deadline)
        except (Error, RuntimeError, OSError) as problem:
            record = {"model": case.model, "sizes": case.sizes, "failed": str(problem)}
        print(line(record), flush=True)
        results["models"].append(record)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(results, indent=1) + "\n")
    sys.exit(any("failed" in record for record in results["models"]))


if __name__ == "__main__":
    main()

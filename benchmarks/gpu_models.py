"""Whole models beside torch on the same GPU: how many times as fast as torch.compile is an engine?

In: the hollow engines of benchmarks/gpu_bundle.py, and the same architectures in torch. Out: a table and a JSON file, a
record for each model and shape, all measured in CUDA graphs. Weights are random, so these are times only; whether
engines are right is asked by gpu_check.py with models that fit a bundle. Needs torch and transformers.

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
    import torch
    from benchmarks.export_models import FULL
    from benchmarks.gpu_speed import TorchDevice, summary

    from tilewright.runtime.hollow import load_hollow
    from tilewright.runtime.measuring import measure

    engine = load_hollow(bundle / "models" / f"{case.slug}.hollow")
    shapes = {
        given.name: (tuple(size.evaluate({}) for size in given.shape), np.dtype(given.dtype))
        for given in engine.manifest.inputs
    }
    inputs = arrays(shapes)
    with engine.session(device) as session:
        ours = session.measure(inputs, SAMPLE)
    record: dict[str, Any] = {
        "model": case.model, "sizes": case.sizes, "launches": len(engine.program.launches), "ours": summary(ours),
        "peers": {},
    }  # fmt: skip
    if device != "cuda":
        return record
    module = FULL[case.model]().make().eval().half().to(device)
    given = [torch.from_numpy(array).to(device) for array in inputs.values()]
    given = [tensor.half() if tensor.is_floating_point() else tensor for tensor in given]
    timer: Any = TorchDevice(device)
    competitors: dict[str, Callable[..., Any]] = {
        "torch": module, "torch.compile": torch.compile(module, mode="max-autotune-no-cudagraphs", dynamic=False)
    }  # fmt: skip
    for name, function in competitors.items():
        if time.monotonic() > deadline:
            record["peers"][name] = {"skipped": "out of time"}
            continue

        @torch.inference_mode()
        def body(function: Callable[..., Any] = function) -> None:
            function(*given)

        try:
            record["peers"][name] = summary(measure(timer, [body], True, SAMPLE))
        except Exception as problem:  # whatever the peer cannot do with this model
            record["peers"][name] = {"skipped": str(problem).splitlines()[0][:200]}
    return record


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

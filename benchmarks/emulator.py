"""How fast the emulator is: kernels per core and on all cores, launches, compilation, whole models beside onnxruntime.

In: nothing. Out: tables, and JSON with --json FILE.

    python -m benchmarks.emulator [--json FILE] [--only kernels|launch|compile|models] [--skip-numpy] [--times N]

Kernels are our own: a fused pointwise kernel, on tensors as large as activations of image models (1 MiB, which stay in
the processor's caches) and on ones that do not, and square matrix products. Beside them, as what the processor itself
does, NumPy's copy and sum of equally large arrays. Times are the best of several runs, of processor time where one core
works (its sibling's load still counts), else of the clock. Compilation is measured in processes of their own with an
empty cache (cold) and again (warm). It needs some two minutes of processor time; --json writes what there is after each
part. On a shared machine, whose speed differs from minute to minute, --times measures everything so often, one round
after the other, and keeps the best of each row: competitors have the same rounds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from rich.console import Console
from rich.table import Table
from tests.support.zoo import MODELS

import tilewright
from tilewright.runtime.emulator.device import EmulatorDevice
from tilewright.runtime.emulator.numpy_engine import available_cores
from tilewright.runtime.session import Session

ROOT = Path(__file__).resolve().parent.parent
CACHED, LARGE_TENSOR = 1 << 18, 1 << 22
SIZE, LARGE = 512, 1024
DTYPES = {"f32": np.float32, "f16": np.float16}
MODEL_NAMES = ("light-resnet50", "minilm-int8", "ppocr-recogniser")
ADD_ONE = (ROOT / "tests/emulator/cuda/pointwise.ptx").read_text()


@dataclass(frozen=True)
class Measurement:
    """One number: `cores` of one `engine` (numpy, llvm, onnxruntime; host: NumPy's own arithmetic)."""

    what: str
    engine: str
    cores: int
    value: float
    unit: str


def _pointwise(elements: int) -> onnx.ModelProto:
    """x * sigmoid(x) + y."""
    nodes = [
        helper.make_node("Sigmoid", ["x"], ["s"]), helper.make_node("Mul", ["x", "s"], ["p"]),
        helper.make_node("Add", ["p", "y"], ["z"]),
    ]  # fmt: skip
    return _model(nodes, {"x": [elements], "y": [elements]}, {"z": [elements]})


def _product(size: int = SIZE, type: int = TensorProto.FLOAT) -> onnx.ModelProto:
    nodes = [helper.make_node("MatMul", ["a", "b"], ["c"])]
    return _model(nodes, {"a": [size, size], "b": [size, size]}, {"c": [size, size]}, type)


def _model(
    nodes: list[Any], inputs: dict[str, list[int]], outputs: dict[str, list[int]], type: int = TensorProto.FLOAT
) -> onnx.ModelProto:
    given, results = (
        [helper.make_tensor_value_info(name, type, shape) for name, shape in part.items()] for part in (inputs, outputs)
    )
    graph = helper.make_graph(nodes, "benchmark", given, results)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@dataclass(frozen=True)
class Kernel:
    """The kernel of a model of one node group: `work` is what one launch does, in units of the rate."""

    make: Callable[[], onnx.ModelProto]
    precision: str
    target: str
    work: float
    unit: str


KERNELS = {
    **{
        f"fused pointwise, {elements} elements": Kernel(
            partial(_pointwise, elements), "strict", "sm_90a", elements / 1e9, "Gelem/s"
        )
        for elements in (CACHED, LARGE_TENSOR)
    },
    f"f32 product {SIZE}^3": Kernel(_product, "strict", "sm_90a", 2 * SIZE**3 / 1e9, "GFLOP/s"),
    f"tf32 mma.sync product {SIZE}^3": Kernel(_product, "tf32", "sm_90a", 2 * SIZE**3 / 1e9, "GFLOP/s"),
    f"f16 mma.sync product {SIZE}^3": Kernel(_product, "f16", "sm_90a", 2 * SIZE**3 / 1e9, "GFLOP/s"),
    f"f16 mma.sync product {LARGE}^3, f16 tensors": Kernel(
        partial(_product, LARGE, TensorProto.FLOAT16), "strict", "sm_80", 2 * LARGE**3 / 1e9, "GFLOP/s"
    ),
    f"f16 wgmma product {LARGE}^3, f16 tensors": Kernel(
        partial(_product, LARGE, TensorProto.FLOAT16), "strict", "sm_90a", 2 * LARGE**3 / 1e9, "GFLOP/s"
    ),
}
"""Products of f16 tensors move their operands with cp.async or TMA; those of f32 tensors convert them on the way to
shared memory."""


class _TimedDevice(EmulatorDevice):
    """Notes the seconds of each launch: of processor time where one core works, which others cannot take away."""

    def __init__(self, cores: int, engine: str) -> None:
        super().__init__(cores=cores, engine=engine)
        self.clock = time.thread_time if cores == 1 else time.perf_counter
        self.seconds: list[float] = []

    def launch(self, *arguments: Any) -> None:
        """Run a kernel and note its time."""
        start = self.clock()
        super().launch(*arguments)
        self.seconds.append(self.clock() - start)


def _kernel_rate(engine: Any, work: float, name: str, cores: int) -> float:
    """Work per second of the launch that takes longest, on the best of a few runs."""
    random = np.random.default_rng(0)
    device = _TimedDevice(cores, name)
    best = float("inf")
    with Session(engine, device) as session:
        inputs = {
            binding.name: random.standard_normal(tuple(map(int, binding.shape))).astype(DTYPES[binding.dtype])
            for binding in session.inputs
        }
        session.run(inputs)
        for _ in range(1 if name == "numpy" else 10):
            device.seconds.clear()
            session.run(inputs)
            best = min(best, max(device.seconds))
    return work / best


def _numpy_rates(elements: int) -> list[Measurement]:
    """What one core of the processor does with as many elements: a copy, and the sum of two arrays."""
    x, y, z = (np.ones(elements, np.float32) for _ in range(3))
    work: dict[str, Callable[[], object]] = {"np.copyto": partial(np.copyto, z, x), "np.add": partial(np.add, x, y, z)}
    return [
        Measurement(
            f"{name}, {elements} elements", "host", 1, elements / 1e9 / _best(run, 20, time.thread_time), "Gelem/s"
        )
        for name, run in work.items()
    ]


def measure_kernels(engines: list[str]) -> list[Measurement]:
    """Rates of our kernels, and of what NumPy does for comparison."""
    found = [one for elements in (CACHED, LARGE_TENSOR) for one in _numpy_rates(elements)]
    for what, kernel in KERNELS.items():
        engine = tilewright.compile(kernel.make(), target=kernel.target, precision=kernel.precision)
        for name in engines:
            for cores in dict.fromkeys((1, available_cores())):
                rate = _kernel_rate(engine, kernel.work, name, cores)
                found.append(Measurement(what, name, cores, rate, kernel.unit))
    return found


def measure_launch(engines: list[str]) -> list[Measurement]:
    """The median of many launches of 32 threads: like the one before, as in a model that runs again and again, and with
    other arguments each time."""
    found = []
    for name, count in itertools.product(engines, (1, 2)):
        device = EmulatorDevice(cores=1, engine=name)
        kernel = device.load("add_one", ADD_ONE)
        addresses = [device.allocate(128) for _ in range(count)]
        times = []
        for turn in range(500):
            start = time.thread_time()
            device.launch(kernel, (1, 1, 1), (32, 1, 1), 0, [("pointer", addresses[turn % count]), ("i32", 32)])
            times.append(time.thread_time() - start)
        device.close()
        what = "tiny launch" + (", other arguments each time" if count > 1 else "")
        found.append(Measurement(what, name, 1, 1e6 * statistics.median(times), "us"))
    return found


_LOAD = """
import sys, time, json
from tilewright.runtime.engine import Engine
from tilewright.runtime.emulator.device import EmulatorDevice
from tilewright.runtime.emulator.llvm_library import library
library()
engine = Engine.load(sys.argv[1])
device = EmulatorDevice(engine="llvm")
texts = {name: engine.ptx(name) for name in engine.kernels}
times = [time.process_time()]
for name, text in texts.items():
    kernel = device.load(name, text)
    kernel.prepare(kernel.facts.block_shape)
    times.append(time.process_time())
print(json.dumps([(times[-1] - times[0]) / len(texts), times[1] - times[0]]))
"""


def measure_compilation() -> list[Measurement]:
    """Milliseconds of processor time per kernel of ResNet-50, from PTX to callable code: the mean of all kernels of a
    process, and for its first one, which has the engine look for what has changed since."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "resnet50.tw"
        tilewright.compile(MODELS["light-resnet50"].prototype(), target="sm_90a").save(path)
        environment = {**os.environ, "TILEWRIGHT_CACHE": folder}
        for what in ("cold", "warm"):
            command = [sys.executable, "-c", _LOAD, str(path)]
            output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
            mean, first = (1e3 * seconds for seconds in json.loads(output))
            found.append(Measurement(f"{what} compilation, mean per kernel", "llvm", 1, mean, "ms"))
            found.append(Measurement(f"{what} compilation, first kernel of a process", "llvm", 1, first, "ms"))
    return found


def _onnxruntime(model: onnx.ModelProto, inputs: dict[str, Any], cores: int) -> float:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return _best(lambda: session.run(None, inputs), 5)


def _best(run: Callable[[], object], times: int, clock: Callable[[], float] = time.perf_counter) -> float:
    seconds = []
    for _ in range(times):
        start = clock()
        run()
        seconds.append(clock() - start)
    return min(seconds)


def measure_models() -> list[Measurement]:
    """Seconds of a run once kernels are compiled, beside onnxruntime's in the same process."""
    found = []
    for name in MODEL_NAMES:
        print(f"{name} ...", file=sys.stderr, flush=True)
        model = MODELS[name].prototype()
        inputs = MODELS[name].inputs()[0]
        engine = tilewright.compile(model, target="sm_90a")
        for cores in dict.fromkeys((1, available_cores())):
            found.append(Measurement(name, "onnxruntime", cores, 1e3 * _onnxruntime(model, inputs, cores), "ms"))
            with Session(engine, EmulatorDevice(cores=cores, engine="llvm")) as session:
                session.run(inputs)
                run = partial(session.run, inputs)
                found.append(Measurement(name, "llvm", cores, 1e3 * _best(run, 3), "ms"))
    return found


def _bests(found: list[Measurement]) -> list[Measurement]:
    """Of rows that say the same, the one with the least time or the highest rate."""
    best: dict[tuple[str, str, int], Measurement] = {}
    for one in found:
        key = (one.what, one.engine, one.cores)
        better = min if one.unit in ("ms", "us") else max
        best[key] = better(best.get(key, one), one, key=lambda measurement: measurement.value)
    return list(best.values())


def _print(found: list[Measurement]) -> None:
    table = Table(title=f"the emulator on {available_cores()} cores")
    for heading in ("what", "engine", "cores", "value", "unit"):
        table.add_column(heading, justify="right" if heading in ("cores", "value") else "left")
    for one in found:
        table.add_row(one.what, one.engine, str(one.cores), f"{one.value:.3g}", one.unit)
    Console().print(table)


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", choices=["kernels", "launch", "compile", "models"])
    parser.add_argument("--skip-numpy", action="store_true", help="measure the LLVM engine only")
    parser.add_argument("--times", type=int, default=1, help="rounds, of which the best of each row counts")
    options = parser.parse_args()
    engines = ["llvm"] if options.skip_numpy else ["numpy", "llvm"]
    parts: dict[str, Callable[[], list[Measurement]]] = {
        "kernels": lambda: measure_kernels(engines), "launch": lambda: measure_launch(engines),
        "compile": measure_compilation, "models": measure_models,
    }  # fmt: skip
    found: list[Measurement] = []
    for name, measure in list(parts.items()) * options.times:
        if options.only in (None, name):
            print(f"{name} ...", file=sys.stderr, flush=True)
            found = _bests([*found, *measure()])
            if options.json:
                options.json.write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n")
    _print(found)


if __name__ == "__main__":
    main()

"""What a compiled model would take, launch by launch, by data sheets and cost models: nothing is run.

In: ONNX files, shapes, a target. Out: for every kernel its launches, arithmetic, bytes and a predicted time, and for
the model their sum beside two bounds. `roofline` is every launch at the rates of the data sheet; `ideal` moves inputs,
outputs and weights once and multiplies at the peak, as one kernel without any seams would. It exists to find the
launches that should not be there, and those far from what they could be. A model, not a measurement.

    python -m benchmarks.model_budget MODEL.onnx ... [--shape x=1,3,224,224] [--hint batch=8] [--all]
    python -m benchmarks.model_budget --exports DIR --json benchmarks/results/model-budget.json   # the goal's models

A launch takes what the cost model of its schedule says, where there is one (matrix products on wgmma, and of few rows),
else the larger of its roofline times, as far as its blocks fill the card; and the time between dependent launches.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.gpu_models import CASES
from benchmarks.model_work import Work, bytes_of_value, footprint, work_of
from mlir import ir
from rich.console import Console
from rich.table import Table

from tilewright.compiler.compilation import Compilation, Options
from tilewright.compiler.pipeline import run_pipeline
from tilewright.passes.graph.rewriting import body_of, functions, inner_operations, operations_of, producer
from tilewright.passes.tile.programs import nodes_of
from tilewright.passes.tile.schedule import size_guess, typical_sizes
from tilewright.passes.unit import KernelProgram
from tilewright.runtime.gpus import Gpu, gpu_of_target

LABEL = "a model, not a measurement"
SHOWN = 12  # kernels of a model, unless --all
# Estimates, as long as nothing was measured.
SECONDS_BETWEEN = 1e-6  # dependent launches of a CUDA graph, the second already waiting
BLOCK_BANDWIDTH = 40e9  # bytes a second that one block has in flight: 40 KB, some 1 us away
WITHOUT_WGMMA = 0.6  # of the rate of the tensor cores, on Hopper


@dataclass(frozen=True)
class Launches:
    """A kernel and how often it is launched. `seconds` of one launch, `roofline` seconds at the data sheet's rates."""

    kernel: str
    launches: int
    nodes: tuple[str, ...]  # of ONNX, of the first launch
    blocks: int
    work: Work
    predicted_by: str  # schedule or roofline
    seconds: float
    roofline: float
    bound: str


@dataclass
class Budget:
    """A model: its kernels, and `ideal` seconds of all of it as one."""

    model: str
    gpu: str
    note: str = LABEL
    ideal: float = 0.0
    moved_bytes: int = 0  # inputs, outputs and weights
    kernels: list[Launches] = field(default_factory=list)

    @property
    def launches(self) -> int:
        """Of the whole model."""
        return sum(kernel.launches for kernel in self.kernels)

    @property
    def seconds(self) -> float:
        """Predicted, of the whole model."""
        return sum(kernel.launches * kernel.seconds for kernel in self.kernels)

    @property
    def roofline(self) -> float:
        """Every launch at the data sheet's rates, one after the other without a gap."""
        return sum(kernel.launches * kernel.roofline for kernel in self.kernels)

    def to_json(self) -> dict[str, object]:
        """Plain values; times in microseconds."""
        sums = {
            "launches": self.launches,
            "us": round(self.seconds * 1e6, 1),
            "roofline_us": round(self.roofline * 1e6, 1),
            "ideal_us": round(self.ideal * 1e6, 1),
            "moved_bytes": self.moved_bytes,
        }
        kernels = [
            {
                "kernel": own.kernel, "launches": own.launches, "us": round(own.seconds * 1e6, 2),
                "roofline_us": round(own.roofline * 1e6, 2), "bound": own.bound, "predicted_by": own.predicted_by,
                "blocks": own.blocks, **asdict(own.work), "nodes": list(own.nodes[:3]),
            }
            for own in self.kernels
        ]  # fmt: skip
        return {"model": self.model, "gpu": self.gpu, "note": self.note, **sums, "kernels": kernels}


def budget(name: str, source: Path, options: Options) -> Budget:
    """Compile `source` as far as its tile programs and count. Raises the errors of the compiler."""
    compilation = Compilation(options, source)
    run_pipeline(compilation, last="pipeline")
    unit, gpu = compilation.unit, gpu_of_target(options.target)
    everything = functions(unit.module)
    calls = [own for own in inner_operations(everything["main"]) if own.name == "func.call"]
    counts = Counter(_callee(call) for call in calls)
    cycles = {own.kernel: own.cycles for own in reversed(unit.tuning.decisions)}
    made = Budget(name, gpu.title)
    with typical_sizes(unit.hints):
        for name in counts:
            call = next(own for own in calls if _callee(own) == name)
            program = unit.kernels[name]
            work = work_of(everything[name], program)
            made.kernels.append(_launches(program, counts[name], work, cycles.get(name, 0.0), call, gpu))
        made.moved_bytes = _moved_once(everything, calls)
    flops = Counter[str]()
    for kernel in made.kernels:
        for kind, number in kernel.work.flops.items():
            flops[kind] += number * kernel.launches
    multiplying = sum(number / _rate(gpu, kind) for kind, number in flops.items())
    made.ideal = max(made.moved_bytes / (gpu.bandwidth * 1e9), multiplying)
    made.kernels.sort(key=lambda own: -own.launches * own.seconds)
    return made


def _callee(call: ir.Operation) -> str:
    return str(ir.FlatSymbolRefAttr(call.attributes["callee"]).value)


def _rate(gpu: Gpu, kind: str) -> float:
    """Operations a second, at most."""
    return gpu.tensor.get(kind, gpu.f32) * 1e12


def _launches(program: KernelProgram, count: int, work: Work, cycles: float, call: ir.Operation, gpu: Gpu) -> Launches:
    """The record of one kernel. Blocks that do not fill the card leave a part of every rate unused."""
    blocks = 1
    for extent in program.grid:
        blocks *= size_guess(extent)
    filled = min(1.0, blocks / gpu.multiprocessors)
    best = {
        "memory": (work.read + work.written) / (gpu.bandwidth * 1e9),
        "arithmetic": sum(number / _rate(gpu, kind) for kind, number in work.flops.items()),
        "pointwise": work.operations / (gpu.f32 * 1e12),
    }
    slower = {
        "memory": (work.read + work.written) / min(gpu.bandwidth * 1e9, blocks * BLOCK_BANDWIDTH),
        "arithmetic": best["arithmetic"] / filled / (1.0 if _has_wgmma(program) else WITHOUT_WGMMA),
        "pointwise": best["pointwise"] / filled,
    }
    bound = max(slower, key=lambda name: slower[name])
    seconds = cycles / (gpu.clock * 1e9) if cycles else max(slower.values())
    return Launches(
        kernel=program.name,
        launches=count,
        nodes=tuple(nodes_of(call) or program.nodes),
        blocks=blocks,
        work=work,
        predicted_by="schedule" if cycles else "roofline",
        seconds=max(seconds, *best.values()) + SECONDS_BETWEEN * (1 + len(program.prepared)),
        roofline=max(best.values()),
        bound=bound,
    )


def _has_wgmma(program: KernelProgram) -> bool:
    return '"m64n' in program.text or "wgmma" in program.text


def _moved_once(everything: Mapping[str, ir.Operation], calls: list[ir.Operation]) -> int:
    """Bytes of what every implementation has to read and write: weights and inputs as far as they are read, outputs."""
    read: dict[ir.Value, int] = {}
    for call in calls:
        arguments = body_of(everything[_callee(call)]).arguments
        for operand, argument in zip(call.operands, arguments, strict=True):
            origin = _behind_reshapes(operand)
            maker = producer(origin)
            if maker is None or maker.name in ("graph.weight", "graph.constant"):
                read[origin] = max(read.get(origin, 0), footprint(argument))
    main = operations_of(body_of(everything["main"]))[-1]
    return sum(read.values()) + sum(bytes_of_value(value) for value in main.operands)


def _behind_reshapes(value: ir.Value) -> ir.Value:
    while (maker := producer(value)) is not None and maker.name == "graph.reshape":
        value = maker.operands[0]
    return value


# Showing ----------------------------------------------------------------------------------------------------------
def show(made: Budget, everything: bool, console: Console) -> None:
    """A table of the kernels that take longest."""
    columns = ("launches", "us", "us in all", "roofline us", "bound by", "blocks", "GFLOP", "read MB", "written MB")
    table = Table("kernel", *columns, "ONNX nodes", title=f"{made.model} on {made.gpu}: {made.note}")
    for own in made.kernels if everything else made.kernels[:SHOWN]:
        work = own.work
        table.add_row(
            own.kernel, str(own.launches), f"{own.seconds * 1e6:.2f}", f"{own.launches * own.seconds * 1e6:.1f}",
            f"{own.roofline * 1e6:.2f}", f"{own.bound}{' *' if own.predicted_by == 'schedule' else ''}",
            str(own.blocks), f"{sum(work.flops.values()) / 1e9:.3g}", f"{work.read / 1e6:.3g}",
            f"{work.written / 1e6:.3g}", ", ".join(own.nodes[:2]),
        )  # fmt: skip
    console.print(table)
    times = f"{made.seconds * 1e6:.1f} us; at the data sheet's rates {made.roofline * 1e6:.1f} us"
    ideal = f"ideal {made.ideal * 1e6:.1f} us for {made.moved_bytes / 1e6:.1f} MB"
    console.print(f"{made.launches} launches, {times}; {ideal} (* from the schedule's cost model)\n", markup=False)


def main() -> None:
    """Print a table a model."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="*", type=Path, metavar="MODEL.onnx")
    parser.add_argument("--exports", type=Path, help="folder of full-size exports: the goal's models and shapes")
    parser.add_argument("--only", default="", metavar="NAME", help="of --exports: names that begin so")
    parser.add_argument("--shape", action="append", default=[], metavar="INPUT=1,3,224,224")
    parser.add_argument("--hint", action="append", default=[], metavar="SYMBOL=SIZE", help="a typical size")
    parser.add_argument("--target", default="sm_90a")
    parser.add_argument("--precision", default="f16")
    parser.add_argument("--all", action="store_true", help="every kernel")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    common = {"target": arguments.target, "precision": arguments.precision}
    hints = {name: int(size) for name, _, size in (text.partition("=") for text in arguments.hint)}
    shapes = {
        name: tuple(int(size) if size.isdigit() else size for size in sizes.split(","))
        for name, _, sizes in (text.partition("=") for text in arguments.shape)
    }
    asked = [(path.stem, path, Options(**common, shapes=shapes, hints=hints)) for path in arguments.models]
    for case in CASES if arguments.exports else ():
        path = arguments.exports / f"{case.model}.onnx"
        if not path.exists():
            print(f"{case.slug}: left out, there is no {path}")
        elif case.slug.startswith(arguments.only):
            asked.append((case.slug, path, Options(**common, shapes=case.shapes(path))))
    console, records = Console(width=190), []
    for name, path, options in asked:
        made = budget(name, path, options)
        show(made, arguments.all, console)
        records.append(made.to_json())
        if arguments.json:
            arguments.json.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""`tilewright profile`: where the time goes, kernel by kernel.

In: an engine or an ONNX file, arrays or a seed. Out: on a GPU the measured time of every launch; on the emulator
exact counts of bytes, sectors, bank conflicts and instructions, and the roofline time on a named GPU, which is a
model, not a measurement.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from ...runtime.device import choose_device
from ...runtime.emulator.observer import READ, WRITE
from ...runtime.gpus import GPUS, find_gpu, gpu_of_target
from ...runtime.profiling import LABEL, KernelProfile, ProfileReport, profile
from ..command_options import (
    Choices,
    compile_options,
    console,
    input_option,
    read_arrays,
    seed_option,
    size_text,
    table,
)
from ..random_inputs import fill_inputs
from .run import engine_of, show_timings

SHOWN = 30  # kernels, unless --all
COLUMNS = (
    "us", "bound by", "kernel", "launches", "read", "written", "requested/moved", "bank conflicts", "occupancy",
    "GFLOP", "ONNX nodes",
)  # fmt: skip


@click.command(name="profile")
@click.argument("file", type=click.Path(path_type=Path))
@input_option()
@seed_option()
@click.option("--device", type=click.Choice(["auto", "cuda", "emulator"]), default="auto", show_default=True)
@click.option("--gpu", metavar="GPU", help=f"Of the roofline: {', '.join(GPUS)} [default: by target].")
@click.option("--all", "everything", is_flag=True, help="Every kernel, not only the slowest.")
@click.option("--json", "as_json", is_flag=True, help="Print all counts as JSON.")
@compile_options()
def command(
    file: Path,
    inputs: tuple[str, ...],
    seed: int,
    device: str,
    gpu: str | None,
    everything: bool,
    as_json: bool,
    choices: Choices,
) -> None:
    """Profile FILE, an engine (.tw) or an ONNX model."""
    sheet = find_gpu(gpu) if gpu else None
    given = read_arrays(inputs)
    engine = engine_of(file, choices)
    arrays = fill_inputs(engine, given, choices.shapes, seed, choices.hints)
    choice = choose_device(device)
    if choice.device.name == "cuda":
        with engine.session(choice.device) as session:
            session.run(arrays)  # what a first launch costs is nobody's profile
            show_timings(session.profile(arrays)[1])
        return
    choice.device.close()
    report = profile(engine, arrays, sheet or gpu_of_target(engine.target))
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=1))
    else:
        _show(report, everything)


def _show(report: ProfileReport, everything: bool) -> None:
    title = f"{report.gpu.title} at its data sheet's rates: {LABEL}"
    made = table(title, *COLUMNS, numbers=COLUMNS[:1] + COLUMNS[3:10])
    shown = report.kernels if everything else report.kernels[:SHOWN]
    for kernel in shown:
        made.add_row(*_row(kernel))
    out = console()
    out.print(made)
    hidden = len(report.kernels) - len(shown)
    more = f", {hidden} kernels not shown (--all)" if hidden else ""
    out.print(f"{report.seconds * 1e6:.1f} us in {len(report.kernels)} kernels{more}; {LABEL}", markup=False)


def _row(kernel: KernelProfile) -> tuple[str, ...]:
    counts = kernel.counts
    operations = sum(counts.operations.values()) + sum(counts.tensor.values())
    conflicts = f"{counts.wavefronts / counts.ideal - 1:.0%}" if counts.ideal else "-"
    return (
        f"{kernel.seconds * 1e6:.2f}", kernel.bound, counts.kernel, str(counts.launches),
        size_text(counts.distinct[READ]), size_text(counts.distinct[WRITE]), f"{kernel.coalescing:.0%}", conflicts,
        f"{kernel.occupancy.fraction:.0%} ({kernel.occupancy.limit})", f"{operations / 1e9:.3g}",
        ", ".join(kernel.description.nodes[:3]),
    )  # fmt: skip

"""`tilewright run`: an engine, or a model that is compiled first, on a device.

In: an engine or ONNX file, arrays or a seed. Out: what each output is, the time it took, and the arrays in a
file when asked.
"""

from __future__ import annotations

import time
import zipfile
from pathlib import Path
from typing import Any

import click
import numpy as np

from ...passes.target import DEFAULT_TARGET, TARGETS
from ...runtime.device import DeviceChoice, choose_device
from ...runtime.engine import Engine
from ...runtime.errors import ModelError
from ...runtime.measuring import Measurement
from ...runtime.whole_file import check_place, whole_file
from ..command_options import (
    Choices,
    compile_options,
    console,
    input_option,
    progress_bar,
    read_arrays,
    seed_option,
    table,
)
from ..random_inputs import check_hints, fill_inputs

Array = np.ndarray[Any, Any]


@click.command(name="run")
@click.argument("file", type=click.Path(path_type=Path))
@input_option()
@seed_option(default=None)
@click.option(
    "--save", type=click.Path(path_type=Path, dir_okay=False), help="Write the outputs to an .npz file."
)
@click.option("--device", type=click.Choice(["auto", "cuda", "emulator"]), default="auto", show_default=True)
@click.option(
    "--repeat", type=click.IntRange(1), default=1, metavar="N",
    help="Run N times and give the best time; on a GPU also that of the device alone."
)
@click.option("--profile", is_flag=True, help="Print the time of every launch.")
@click.option("--sanitize", "sanitized", is_flag=True, help="Look for races and other faults, on the emulator.")
@click.option("--order", default="", metavar="ORDER", help="With --sanitize: lockstep, reversed or random:SEED.")
@compile_options(default_target=None)
def command(
    file: Path,
    inputs: tuple[str, ...],
    seed: int | None,
    save: Path | None,
    device: str,
    repeat: int,
    profile: bool,
    sanitized: bool,
    order: str,
    choices: Choices,
) -> None:
    """Run FILE, an engine (.tw) or an ONNX model, which is compiled first.

    --shape NAME=... also gives the sizes of random inputs. Without --target a model is compiled for the GPU
    at hand.
    """
    given = read_arrays(inputs)
    if save is not None:
        check_place(save)
    if sanitized and (device == "cuda" or profile or repeat > 1):
        raise click.UsageError("--sanitize runs once, on the emulator")
    if order and not sanitized:
        raise click.UsageError("--order needs --sanitize")
    choice = choose_device("emulator" if sanitized else device)
    engine = engine_of(file, choices, target_of(choice))
    arrays = fill_inputs(engine, given, choices.shapes, seed, choices.hints)
    if sanitized:
        choice.device.close()
        _sanitized(engine, arrays, order or "lockstep", save)
        return
    with engine.session(choice.device) as session:
        seconds = []
        for _ in range(repeat):
            started = time.perf_counter()
            results = session.run(arrays)
            seconds.append(time.perf_counter() - started)
        _report(results)
        console(stderr=True).print(
            f"{min(seconds) * 1000:.1f} ms on {choice.device.description} ({choice.reason})", markup=False
        )
        if repeat > 1 and choice.device.name == "cuda":
            _show_measurement(session.measure(arrays))
        if profile:
            show_timings(session.profile(arrays)[1])
    if save is not None:
        _save(save, results)


def _sanitized(engine: Engine, arrays: dict[str, Array], order: str, save: Path | None) -> None:
    """Run under the sanitizer; exit status 1 when it finds something."""
    from ...runtime.sanitizing import parse_order, sanitize
    from .sanitize import show_report

    outputs, report = sanitize(engine, [arrays], parse_order(order))
    for results in outputs:
        _report(results)
        if save is not None:
            _save(save, results)
    show_report(report)
    if report.findings:
        raise click.exceptions.Exit(1)


def engine_of(file: Path, choices: Choices, target: str = DEFAULT_TARGET) -> Engine:
    """The engine in `file`, or the one that the ONNX model in it compiles to, for `target` where none was chosen."""
    if is_engine(file):
        if choices.chosen:
            flag = f"--{choices.chosen[0]}"
            raise click.UsageError(f"{file} is compiled already: {flag} is for models, and would change nothing")
        engine = Engine.load(file)
        check_hints(engine, choices.hints)
        return engine
    from ..api import compile_with

    options = choices.options(target)
    with progress_bar() as progress:
        return compile_with(file, options, progress)[0]


def is_engine(file: Path) -> bool:
    """True for a zip, which is what engines are. Raises ModelError when the file cannot be read."""
    try:
        with open(file, "rb"):
            return zipfile.is_zipfile(file) or file.suffix == ".tw"
    except OSError as error:
        raise ModelError(f"cannot read {file}: {error.strerror or error}") from None


def target_of(choice: DeviceChoice) -> str:
    """The target for an open device: that of the GPU, with its own instructions where we know it."""
    capability = getattr(choice.device, "capability", None)
    if capability is None:
        return DEFAULT_TARGET
    fitting = [target for target in TARGETS.values() if target.capability <= tuple(capability)]
    exact = [target for target in fitting if target.capability == tuple(capability)]
    portable = [target for target in fitting if not target.name.endswith("a")]
    return (exact or portable)[-1].name


def _report(results: dict[str, Array]) -> None:
    out = console()
    for name, array in results.items():
        shape = ", ".join(map(str, array.shape))
        summary = f"{name}: {array.dtype}[{shape}]"
        if array.size and array.dtype.kind in "fiub":
            low, high, mean = array.min(), array.max(), array.mean(dtype=np.float64)
            summary += f" min {low:.6g} max {high:.6g} mean {mean:.6g}"
        if 0 < array.size <= 16:
            summary += f" = {np.array2string(array, precision=6, separator=', ', max_line_width=10**6)}"
        out.print(summary, markup=False, soft_wrap=True)


def show_timings(timings: list[Any]) -> None:
    """Print the time of every launch."""
    made = table("launches", "ms", "kernel", "ONNX nodes", numbers=("ms",))
    for timing in timings:
        made.add_row(f"{timing.seconds * 1000:.3f}", timing.kernel, ", ".join(timing.nodes))
    console().print(made)


def _show_measurement(measurement: Measurement) -> None:
    how = "in one graph" if measurement.captured else "one by one"
    console(stderr=True).print(
        f"{measurement.median * 1e6:.1f} us on the device alone: median of {len(measurement.samples)} samples of "
        f"{measurement.runs} runs {how}, without copies of inputs and outputs",
        markup=False,
    )


def _save(path: Path, results: dict[str, Array]) -> None:
    with whole_file(path) as stream:
        arrays: Any = results  # numpy's type of savez takes its own options for array names
        np.savez(stream, **arrays)

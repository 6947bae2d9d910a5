"""`tilewright verify`: does the compiled model answer what onnxruntime answers?

In: an ONNX model. Out: a table of differences; exit status 1 when one is too large. `--layers` also compares
every ONNX node as imported, and every compiled kernel, and so finds where a difference begins.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...runtime.device import choose_device
from ...runtime.errors import InternalError
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
from ..libraries import load_libraries
from ..random_inputs import fill_inputs

if TYPE_CHECKING:
    from ...runtime.engine import Engine

# Of the largest reference value. f32 sums of other order differ by about 1e-6; tf32 keeps 10 bits of
# mantissa, f16 10 and
# bf16 7, of which a deep network loses a few more.
TOLERANCES = {"model": 1e-4, "strict": 1e-4, "tf32": 2e-2, "f16": 2e-2, "bf16": 1e-1}
DEFAULTS = ", ".join(f"{name} {limit:g}" for name, limit in TOLERANCES.items())
SHOWN = 40  # rows of a table, the worst first, unless --all


@click.command(name="verify")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--layers", is_flag=True, help="Every ONNX node and every kernel too.")
@input_option()
@seed_option()
@click.option("--device", type=click.Choice(["auto", "cuda", "emulator"]), default="auto", show_default=True)
@click.option(
    "--tolerance",
    type=float,
    help=f"Of the largest reference value [default: by precision, {DEFAULTS}; by the inputs' or outputs' type where"
    " that is f16 or bf16].",
)
@click.option("--all", "everything", is_flag=True, help="Every row, not only the worst.")
@compile_options(default_target=None)
def command(
    model: Path,
    layers: bool,
    inputs: tuple[str, ...],
    seed: int,
    device: str,
    tolerance: float | None,
    everything: bool,
    choices: Choices,
) -> None:
    """Compare the compiled MODEL.onnx with onnxruntime, or with onnx's reference evaluator."""
    load_libraries()
    from .. import verification
    from ..api import compile_fully
    from .run import target_of

    given = read_arrays(inputs)
    choice = choose_device(device)
    options = choices.options(target_of(choice))
    with progress_bar() as progress:
        compilation = compile_fully(model, options, progress)
    engine = compilation.engine
    if engine is None:
        raise InternalError("the pipeline ended without an engine")
    limit = _tolerance(engine, choices.precision) if tolerance is None else tolerance
    arrays = fill_inputs(engine, given, choices.shapes, seed, choices.hints)
    reference = verification.Reference(model, layers)
    want = reference.run(arrays)
    failed = 0
    if layers:
        nodes = verification.compare_nodes(model, options, arrays, want, reference.nodes)
        failed += _show(f"ONNX nodes as imported, numpy against {reference.name}", nodes, limit, everything)
        kernels = verification.compare_kernels(compilation, choose_device(device).device, arrays)
        failed += _show(f"kernels, {choice.device.name} against numpy", kernels, limit, everything)
    outputs = verification.compare_outputs(engine, choice.device, arrays, want)
    failed += _show(f"outputs, {choice.device.name} against {reference.name}", outputs, limit, everything)
    console().print(
        f"tolerance {limit:g} of the largest reference value: {'passed' if not failed else f'{failed} FAILED'}"
    )
    if failed:
        raise click.exceptions.Exit(1)


def _tolerance(engine: Engine, precision: str) -> float:
    """By the precision, and the 16-bit floats that the model takes or gives."""
    names = {precision, *(binding.dtype for binding in (*engine.inputs, *engine.outputs))}
    return max(TOLERANCES[name] for name in names & TOLERANCES.keys())


def _show(title: str, comparisons: list, limit: float, everything: bool) -> int:  # type: ignore[type-arg]
    """Print a table, the order of the program where everything is shown, else the worst first; returns how
    many fail.
    """
    columns = ("tensor", "dtype", "shape", "difference", "relative", "", "ONNX nodes")
    made = table(f"{title} ({len(comparisons)})", *columns, numbers=("difference", "relative"))
    rows = (
        comparisons
        if everything
        else sorted(comparisons, key=lambda item: (item.holds(limit), -item.relative))
    )
    for item in rows if everything else rows[:SHOWN]:
        verdict = item.problem or ("ok" if item.holds(limit) else "TOO LARGE")
        shape = " x ".join(map(str, item.shape))
        numbers = (f"{item.difference:.3g}", f"{item.relative:.3g}")
        made.add_row(item.name, item.dtype, shape, *numbers, verdict, ", ".join(item.nodes[:4]))
    console().print(made)
    return sum(not item.holds(limit) for item in comparisons)

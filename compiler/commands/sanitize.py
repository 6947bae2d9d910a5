"""`tilewright sanitize`: what would go wrong on a GPU, found on the emulator.

In: an engine or an ONNX file, arrays or a seed. Out: each finding with kernel, ONNX nodes and PTX lines, exit
status 1 when there is one; else what was checked. It exists so that a race is found before a GPU happens to lose
it.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from ...runtime.sanitizing import ORDERS, Report, parse_order, sanitize
from ..command_options import (
    Choices,
    compile_options,
    console,
    input_option,
    read_arrays,
    seed_option,
)
from ..random_inputs import fill_inputs
from .run import engine_of

SHOWN = 20  # findings, unless --all


@click.command(name="sanitize")
@click.argument("file", type=click.Path(path_type=Path))
@input_option()
@seed_option()
@click.option(
    "--order", "orders", multiple=True, default=("lockstep",), show_default=True, metavar="ORDER",
    help=f"Of warps and blocks: {', '.join(ORDERS)}; several times for several runs.",
)  # fmt: skip
@click.option("--all", "everything", is_flag=True, help="Every finding, not only the first.")
@click.option("--json", "as_json", is_flag=True, help="Print a list of reports as JSON.")
@compile_options()
def command(
    file: Path,
    inputs: tuple[str, ...],
    seed: int,
    orders: tuple[str, ...],
    everything: bool,
    as_json: bool,
    choices: Choices,
) -> None:
    """Run FILE, an engine (.tw) or an ONNX model, under the emulator's sanitizer."""
    wanted = [parse_order(order) for order in orders]
    given = read_arrays(inputs)
    engine = engine_of(file, choices)
    arrays = fill_inputs(engine, given, choices.shapes, seed, choices.hints)
    reports = [sanitize(engine, [arrays], order)[1] for order in wanted]
    if as_json:
        click.echo(json.dumps([report.to_json() for report in reports], indent=1))
    for report in reports:
        if not as_json:
            show_report(report, everything)
    if any(report.findings for report in reports):
        raise click.exceptions.Exit(1)


def show_report(report: Report, everything: bool = False) -> None:
    """Print the findings, or what was checked."""
    out = console()
    if not everything and len(report.findings) > SHOWN:
        for finding in report.findings[:SHOWN]:
            out.print(str(finding), markup=False, soft_wrap=True)
        out.print(f"... {len(report.findings) - SHOWN} more findings (--all shows them)", markup=False)
        return
    out.print(str(report), markup=False, soft_wrap=True)

"""`tilewright inspect`: what is in an engine.

In: an engine file. Out: its kernels with their ONNX nodes, buffers and host program; or the IR, PTX or SASS
of one thing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from ...runtime.engine import Engine
from ...runtime.launch_arguments import Argument, BufferArgument, TensorMapArgument
from ...runtime.program import Call, Copy, Download, Fetch, Fill, If, Instruction, Keep, Launch, Loop, Upload
from ..command_options import console, size_text, table

LONGEST_NODES = 100  # characters of ONNX node names in a table, unless --all


@click.command(name="inspect")
@click.argument("engine_file", metavar="MODEL.tw", type=click.Path(path_type=Path))
@click.option(
    "--ir", "stage", metavar="STAGE", help="Print the IR of a stage kept in the engine ('list' lists them)."
)
@click.option("--ptx", metavar="KERNEL", help="Print a kernel's PTX.")
@click.option(
    "--sass", metavar="KERNEL", help="Assemble a kernel for the engine's target and print the machine code."
)
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
@click.option("--all", "everything", is_flag=True, help="Weights too, and all names in full.")
def command(
    engine_file: Path, stage: str | None, ptx: str | None, sass: str | None, as_json: bool, everything: bool
) -> None:
    """Show what is in MODEL.tw: kernels, buffers and the host program."""
    engine = Engine.load(engine_file)
    if stage == "list":
        click.echo("\n".join(engine.ir_stages))
    elif stage is not None:
        click.echo(engine.ir(stage))
    elif ptx is not None:
        click.echo(engine.ptx(ptx))
    elif sass is not None:
        click.echo(machine_code(engine, sass))
    elif as_json:
        click.echo(json.dumps(engine.manifest.to_json(), indent=1))
    else:
        _overview(engine, everything)


def machine_code(engine: Engine, kernel: str) -> str:
    """SASS of a kernel, by ptxas and nvdisasm."""
    from ...passes.target import find_target
    from ..backend.assemble import assemble, disassemble

    return disassemble(assemble(engine.ptx(kernel), find_target(engine.target), keep_cubin=True).cubin)


def _overview(engine: Engine, everything: bool) -> None:
    out = console()
    manifest = engine.manifest
    out.print(
        f"{engine.model}  {engine.target}  {engine.precision}  written by {manifest.producer}", markup=False
    )
    for role, bindings in (("input", engine.inputs), ("output", engine.outputs)):
        for item in bindings:
            shape = ", ".join(map(str, item.shape))
            out.print(f"  {role:6} {item.name}: {item.dtype}[{shape}]", markup=False)
    for name, source in engine.symbols.items():
        out.print(f"  symbol {name} = dimension {source.axis} of {source.input}", markup=False)
    weights = f"{len(manifest.weights)} weights, {size_text(manifest.weight_bytes)}"
    out.print(
        f"  {len(engine.kernels)} kernels, {len(engine.program.launches)} launches, {weights}", markup=False
    )
    for note in manifest.notes:
        out.print(f"  note: {note}", markup=False)
    out.print(f"  IR kept: {', '.join(engine.ir_stages) or 'none'}\n", markup=False)
    _kernels(engine, everything)
    _buffers(engine, everything)
    out.print("host program\n", markup=False)
    for line in program_lines(engine.program.instructions):
        out.print("  " + line, markup=False, soft_wrap=True)


def _kernels(engine: Engine, everything: bool) -> None:
    grids: dict[str, list[str]] = {}
    for launch in engine.program.launches:
        grids.setdefault(launch.kernel, []).append(" x ".join(str(extent) for extent in launch.grid))
    columns = ("kernel", "kind", "launches", "grid", "block", "registers", "shared", "spills", "ONNX nodes")
    made = table("kernels", *columns, numbers=("launches", "block", "registers", "shared", "spills"))
    for name, kernel in engine.kernels.items():
        own = grids.get(name, [])
        different = list(dict.fromkeys(own))
        grid = (
            different[0] + (f" and {len(different) - 1} more" if len(different) > 1 else "")
            if different
            else ""
        )
        nodes = shorten(kernel.nodes, everything)
        numbers = (kernel.registers, size_text(kernel.shared_bytes), kernel.spills)
        block = " x ".join(str(extent) for extent in kernel.block if extent > 1) or "1"
        made.add_row(name, kernel.kind, str(len(own)), grid, block, *map(str, numbers), nodes)
    console().print(made)


def _buffers(engine: Engine, everything: bool) -> None:
    made = table("buffers", "buffer", "kind", "dtype", "shape", "lives", "bytes", numbers=("bytes",))
    hidden = 0
    for buffer in engine.buffers:
        if buffer.kind == "weight" and not everything:
            hidden += 1
            continue
        lives = f"{buffer.first} to {buffer.last}" if buffer.kind == "temporary" else ""
        constant = all(extent.as_constant() is not None for extent in buffer.shape)
        nbytes = size_text(buffer.size({})) if constant else "dynamic"
        made.add_row(buffer.name, buffer.kind, buffer.dtype, ", ".join(map(str, buffer.shape)), lives, nbytes)
    console().print(made)
    if hidden:
        console().print(f"and {hidden} weights (--all shows them)\n", markup=False)


def _argument_word(argument: Argument) -> str:
    if isinstance(argument, BufferArgument):
        return argument.buffer
    if isinstance(argument, TensorMapArgument):
        box = argument.box if argument.im2col is None else (argument.im2col.channels, argument.im2col.pixels)
        return f"boxes of {'x'.join(map(str, box))} of {argument.buffer}"
    return str(argument.expression)


def program_lines(instructions: Sequence[Instruction], indent: str = "") -> list[str]:
    """The host program as text, one line an instruction."""
    lines = []
    for item in instructions:
        if isinstance(item, Launch):
            words = [_argument_word(argument) for argument in item.arguments]
            grid = ", ".join(str(extent) for extent in item.grid)
            lines.append(f"{indent}launch {item.kernel} <{grid}> ({', '.join(words)})")
        elif isinstance(item, Copy):
            lines.append(f"{indent}copy {item.source} to {item.target}")
        elif isinstance(item, Fill):
            lines.append(f"{indent}fill {item.target} with {item.byte}")
        elif isinstance(item, Loop):
            lines += [f"{indent}while {item.condition}", *program_lines(item.body, indent + "  ")]
        elif isinstance(item, Download | Upload | Keep | Fetch):
            lines.append(f"{indent}{item.to_json()['op']} {item.source} to {item.target}")
        elif isinstance(item, Call):
            bound = f" binding {', '.join(item.symbols)}" if item.symbols else ""
            given = f" -> {', '.join(item.outputs)}" if item.outputs else ""
            lines.append(f"{indent}host {item.function} ({', '.join(item.inputs)}){given}{bound}")
        elif isinstance(item, If):
            lines.append(f"{indent}if {item.condition}")
            lines += program_lines(item.then, indent + "  ")
            if item.otherwise:
                lines += [f"{indent}else", *program_lines(item.otherwise, indent + "  ")]
    return lines


def shorten(nodes: Sequence[str], everything: bool) -> str:
    """Names of ONNX nodes in one line, cut unless `everything`."""
    text = ", ".join(nodes)
    if everything or len(text) <= LONGEST_NODES:
        return text
    return f"{text[: LONGEST_NODES - 3]}... ({len(nodes)})"

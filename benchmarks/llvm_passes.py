"""What LLVM's passes do to our kernels: time, and the instructions that ptxas makes of the PTX.

In: models of tests/support/zoo.py. Out: for each pipeline the seconds of LLVM and of ptxas, SASS instructions in all
and in loops, and registers, summed over all kernels. The first row is LLVM's own -O1.

    python -m benchmarks.llvm_passes [--only NAME] [--every N] [PIPELINE ...]
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields

from mlir import ir
from rich.console import Console
from rich.table import Table
from tests.support.zoo import MODELS

from tilewright.compiler.backend import emit, llvm
from tilewright.compiler.backend.assemble import assemble, disassemble
from tilewright.compiler.compilation import Compilation, Options
from tilewright.compiler.pipeline import run_pipeline
from tilewright.passes.lower import lower_kernel

DEFAULT = ("light-resnet50", "ppocr-recogniser", "minilm-int8", "bert-small-dynamo", "unet-small-dynamo", "magika")
_LABEL = re.compile(r"\.(L_x_\d+):")
_INSTRUCTION = re.compile(r"\s+/\*[0-9a-f]{4,}\*/\s+(.*?);")
_BRANCH = re.compile(r"BRA.*`\(\.(L_x_\d+)\)")


@dataclass
class Cost:
    """Sums over kernels. Instructions of nested loops count once a level, as a weight for depth."""

    llvm_seconds: float = 0
    ptxas_seconds: float = 0
    instructions: int = 0
    in_loops: int = 0
    registers: int = 0
    spills: int = 0


def count(sass: str) -> tuple[int, int]:
    """(instructions without NOP, instructions between a backward branch and its target)."""
    instructions: list[str] = []
    labels: dict[str, int] = {}
    for line in sass.splitlines():
        if label := _LABEL.match(line.strip()):
            labels[label.group(1)] = len(instructions)
        elif instruction := _INSTRUCTION.match(line):
            instructions.append(instruction.group(1))
    loops = 0
    for position, text in enumerate(instructions):
        branch = _BRANCH.search(text)
        if branch and labels.get(branch.group(1), position) < position:
            loops += position + 1 - labels[branch.group(1)]
    return sum("NOP" not in text for text in instructions), loops


def bitcode(names: list[str], every: int) -> Iterator[tuple[str, bytes, Compilation]]:
    """LLVM's input for each kernel of the models: (kernel, bitcode, its compilation)."""
    for name in names:
        compilation = Compilation(Options(cached=False), MODELS[name].load())
        run_pipeline(compilation, last="pipeline")
        programs = {program.name: program for program in compilation.unit.kernels.values()}
        for program in list(programs.values())[::every]:
            module = lower_kernel(program.text, compilation.options.facts).module
            with module.context, ir.Location.unknown():
                yield f"{name}/{program.name}", emit.module_bitcode(module, compilation.options.facts), compilation


def main() -> None:
    """Measure every pipeline on every kernel and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=MODELS)
    parser.add_argument("--every", type=int, default=1, help="take every Nth kernel of a model")
    parser.add_argument("pipelines", nargs="*")
    options = parser.parse_args()
    costs = {pipeline: Cost() for pipeline in ("default<O1>", llvm.PASSES, *options.pipelines)}
    for _, code, compilation in bitcode([options.only] if options.only else list(DEFAULT), options.every):
        facts = compilation.options.facts
        for pipeline, cost in costs.items():
            started = time.perf_counter()
            ptx = llvm.bitcode_to_ptx(code, facts, pipeline)
            between = time.perf_counter()
            assembly = assemble(ptx, facts, keep_cubin=True)
            cost.llvm_seconds += between - started
            cost.ptxas_seconds += time.perf_counter() - between
            instructions, loops = count(disassemble(assembly.cubin))
            cost.instructions += instructions
            cost.in_loops += loops
            cost.registers += assembly.registers
            cost.spills += assembly.spills
    table = Table("pipeline", *(field.name.replace("_", " ") for field in fields(Cost)), title="LLVM's passes")
    for pipeline, cost in costs.items():
        table.add_row(pipeline, *(f"{getattr(cost, field.name):.6g}" for field in fields(Cost)))
    Console(width=150).print(table)


if __name__ == "__main__":
    main()

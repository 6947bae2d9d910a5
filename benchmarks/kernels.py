"""What is known about the speed of a kernel without running it: a table over the work of benchmarks/workloads.py.

In: workloads and a target. Out: for each the kernels, and of the one that does the most: registers, spills, shared
memory, blocks on a multiprocessor, the arithmetic instructions of its main loop, the share of its global accesses that
are 16 bytes wide, the fraction of the roofline that full waves of tiles allow, and where memory bounds the work the
bytes that the threads of a multiprocessor have asked for at once (in_flight.py; "low" below what the bandwidth needs).
Of what kernel_answers.py found for the same PTX: the error, and the blocks that the sanitizer watched ("-" where the
kernels have changed since). The exit code is 1 when a kernel spills, is serialised, multiplies matrices in f16 without
tensor cores, touches memory before the kernels in front of it have ended, or has a wrong answer or a finding there.

    python -m benchmarks.kernels [--target sm_90a] [--precision f16] [--family NAME] [--json FILE]

"waves x tiles" is a model, not a measurement.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.in_flight import bytes_in_flight, needed
from benchmarks.kernel_answers import RESULTS, Answer, Key, load
from benchmarks.quantised_workloads import EVERY
from benchmarks.sanitize import digest_of
from benchmarks.workloads import Workload
from rich.console import Console
from rich.table import Table

import tilewright
from tilewright.compiler.backend.assemble import assemble, disassemble
from tilewright.passes.target import find_target
from tilewright.runtime.gpus import Gpu, gpu_of_target, occupancy

_INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\d+\s+)?([A-Z0-9_.]+)")
_GLOBAL = re.compile(r"^(LDG|STG|LDGSTS)\b")
_MATRIX = ("HGMMA", "IGMMA", "QGMMA", "HMMA", "IMMA", "QMMA")
_ARITHMETIC = (*_MATRIX, "FFMA", "HFMA2", "DFMA")
# In front of ACQBULK none of these: accesses of global memory, and a thread that ends without having waited.
_EARLY = re.compile(r"^(LDG?|STG?|LDGSTS|RED|ATOMG?|UTMALDG|UTMASTG|UBLKCP|EXIT)\b")
_FETCH = re.compile(r"\b(UTMALDG|UBLKCP)\b")
_BULK = re.compile(r"^(UTMALDG|UTMASTG|UBLKCP)")


@dataclass(frozen=True)
class Row:
    """One workload. `wide` is None when a kernel touches global memory by bulk copies only; `error` and `watched` are
    of kernel_answers.py, None and empty where it did not run these kernels; `problems` end the run.
    """

    family: str
    name: str
    kernels: int
    registers: int
    spills: int
    shared_bytes: int
    blocks: int
    arithmetic: str
    wide: float | None
    bulk: int
    roofline: float
    problems: tuple[str, ...]
    error: float | None = None
    watched: str = ""
    in_flight: int | None = None


def inspect(workload: Workload, target: str, precision: str, answers: dict[Key, Answer]) -> Row:
    """Compile one workload and look at its largest kernel."""
    engine = tilewright.compile(workload.make(), target=target, precision=precision)
    facts, gpu = find_target(target), gpu_of_target(target)
    looks = []
    for name, kernel in engine.kernels.items():
        assembly = assemble(engine.ptx(name), facts, keep_cubin=True)
        sass = disassemble(assembly.cubin)
        instructions = _INSTRUCTION.findall(sass)
        early = _early(instructions, _fetches_weights(engine.ir("pipeline"), name))
        looks.append((len(instructions), name, kernel, assembly, Counter(instructions), sass, early))
    _, name, kernel, assembly, counts, sass, _ = max(looks, key=lambda look: look[0])
    shared = kernel.shared_bytes + assembly.shared_bytes
    threads = kernel.block[0] * kernel.block[1] * kernel.block[2]
    unit, number = _arithmetic(counts)
    problems = [f"{own.spills} bytes of spills" for _, _, own, *_ in looks if own.spills]
    problems += [warning for _, _, _, own, *_ in looks for warning in own.warnings if "C75" in warning]
    problems += [f"{early} before the kernels in front have ended" for *_, early in looks if early]
    # What the memory bounds even on ordinary multiply-adds needs no tensor cores.
    needs_matrix_units = workload.flops / (gpu.f32 * 1e12) > workload.nbytes / (gpu.bandwidth * 1e9)
    if needs_matrix_units and precision != "strict" and unit not in _MATRIX:
        problems.append(f"{unit or 'nothing'} in the main loop")
    answer = answers.get((workload.family, workload.name, target, precision))
    if answer is not None and answer.digest != digest_of(engine):
        answer = None
    problems += answer.problems if answer is not None else []
    launch = next(launch for launch in engine.program.launches if launch.kernel == name)
    grid = launch.grid[0].evaluate({}) * launch.grid[1].evaluate({}) * launch.grid[2].evaluate({})
    resident = occupancy(gpu, threads, kernel.registers, shared).blocks
    return Row(
        workload.family,
        workload.name,
        len(engine.program.launches),
        kernel.registers,
        kernel.spills,
        shared,
        resident,
        f"{number} {unit}" if unit else "",
        _wide(counts),
        sum(count for opcode, count in counts.items() if _BULK.match(opcode)),
        _roofline(workload, engine.ir("pipeline"), grid, resident, gpu, unit),
        tuple(problems),
        answer.error if answer is not None else None,
        f"{answer.watched} of {answer.blocks}" if answer is not None else "",
        None if needs_matrix_units else _in_flight(sass, threads, min(resident, -(-grid // gpu.multiprocessors))),
    )


def _in_flight(sass: str, threads: int, blocks: int) -> int | None:
    """Bytes that the threads of one multiprocessor have asked for; None where bulk copies fetch them."""
    return None if _FETCH.search(sass) else bytes_in_flight(sass) * threads * blocks


def _fetches_weights(tile_ir: str, kernel: str) -> bool:
    """Whether the kernel asks for weights before the kernels in front have ended."""
    text = tile_ir.partition(f"@{kernel}(")[2].partition("func.func")[0]
    return re.search(r"\{ahead,", text) is not None


def _early(instructions: list[str], fetches_weights: bool) -> str:
    """The first access of global memory, or end of a thread, in front of the wait for earlier kernels, where there is
    such a wait.
    """
    if "ACQBULK" not in instructions:
        return ""
    before = instructions[: instructions.index("ACQBULK")]
    found = (opcode for opcode in before if _EARLY.match(opcode))
    return next((opcode for opcode in found if not (fetches_weights and opcode.startswith("UTMALDG"))), "")


def _arithmetic(counts: Counter[str]) -> tuple[str, int]:
    """The unit that multiplies, and how many of its instructions there are."""
    totals = Counter[str]()
    for opcode, count in counts.items():
        unit = opcode.split(".")[0]
        if unit in _ARITHMETIC:
            totals[unit] += count
    matrix = [unit for unit in _MATRIX if totals[unit]]
    unit = matrix[0] if matrix else max(totals, key=lambda key: totals[key], default="")
    return unit, totals[unit]


def _wide(counts: Counter[str]) -> float | None:
    """The share of 16-byte accesses among those of global memory."""
    total = sum(count for opcode, count in counts.items() if _GLOBAL.match(opcode))
    wide = sum(count for opcode, count in counts.items() if _GLOBAL.match(opcode) and ".128" in opcode)
    return wide / total if total else None


def _roofline(workload: Workload, tile_ir: str, grid: int, resident: int, gpu: Gpu, unit: str) -> float:
    """Useful arithmetic over what whole tiles in whole waves cost, where arithmetic bounds the work; else how much of
    the card has a block to run.
    """
    peak = gpu.tensor["f16"] if unit in ("HGMMA", "HMMA") else gpu.f32
    bound_by_memory = workload.nbytes / (gpu.bandwidth * 1e9) > workload.flops / (peak * 1e12)
    places = gpu.multiprocessors * max(1, resident)
    blocks = re.findall(r"block = array<i64: (\d+), (\d+), (\d+)>", tile_ir)
    if bound_by_memory or not blocks or workload.family != "matmul":
        return min(1.0, grid / gpu.multiprocessors) if grid < places else grid / (-(-grid // places) * places)
    rows, columns, depth = map(int, blocks[-1])
    m, n, k = map(int, workload.name.split("x"))
    if run := re.findall(r"run = (\d+)", tile_ir):
        tiles = -(-m // rows) * -(-n // columns)
        waves = tiles // gpu.multiprocessors + int(run[-1]) / -(-k // depth)
        return m * n / (waves * gpu.multiprocessors * rows * columns)
    split = int((re.findall(r"split = (\d+)", tile_ir) or [1])[-1])
    tiles = -(-m // rows) * -(-n // columns) * split
    waves = -(-tiles // gpu.multiprocessors)
    return m * n * split / (waves * gpu.multiprocessors * rows * columns)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--target", default="sm_90a")
    parser.add_argument("--precision", default="f16")
    parser.add_argument("--family", choices=sorted({workload.family for workload in EVERY}))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows, answers = [], {answer.key: answer for answer in load(RESULTS)}
    columns = (
        "kernels", "regs", "spills", "shared", "blocks/SM", "multiplies by", "16 B", "bulk", "waves x tiles",
        "in flight", "error", "watched",
    )  # fmt: skip
    table = Table("work", *columns, title=f"kernels without running them: {options.target}, {options.precision}")
    for workload in EVERY:
        if options.family in (None, workload.family):
            row = inspect(workload, options.target, workload.precision or options.precision, answers)
            rows.append(row)
            wide = "-" if row.wide is None else f"{row.wide:.0%}"
            facts = (row.kernels, row.registers, row.spills, row.shared_bytes, row.blocks)
            low = row.in_flight is not None and row.in_flight < needed(gpu_of_target(options.target))
            flight = "-" if row.in_flight is None else f"{row.in_flight / 1e3:.0f} kB{' (low)' if low else ''}"
            cells = (*facts, row.arithmetic, wide, row.bulk, f"{row.roofline:.0%}", flight)
            name = f"{row.family} {row.name}" + (f" [red]{'; '.join(row.problems)}[/red]" if row.problems else "")
            error = "-" if row.error is None else f"{row.error:.1e}"
            table.add_row(name, *map(str, cells), error, row.watched or "-")
    Console(width=200).print(table)
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    sys.exit(any(row.problems for row in rows))


if __name__ == "__main__":
    main()

"""The journey of a model as one table, and the one loop over it that dumps, verifies, times and lets a dump
re-enter.

In: a `Compilation` with a source, or with a unit read from a dump. Out: the same with everything the stages
made, the engine last. A stage is either a registered pass, found in the folder of its level by its name, or a
function named here.
"""

from __future__ import annotations

import importlib
import pkgutil
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

from mlir import ir

from ..dialects import verify
from ..passes.unit import PASSES, Pass
from ..runtime.errors import Error, InternalError, ModelError
from .compilation import Compilation, Progress, StageReport
from .dumps import DumpFolder, count_operations, header, parse_unit, readable
from .kernels import finish_kernels, lowered_texts, start_early, start_kernels


def import_model(compilation: Compilation) -> None:
    """Read the ONNX model. The frontend is imported here because a dump that re-enters does not need it."""
    from .frontend import import_model as read

    options = compilation.options
    shapes = {name: tuple(shape) for name, shape in options.shapes.items()} or None
    compilation.unit_or_none = read(
        compilation.source, shapes=shapes, precision=options.precision, target=options.target
    )
    unit = compilation.unit
    unit.tuning, unit.hints = options.measured, dict(options.hints)
    unit.on_kernel = partial(start_early, compilation) if compilation.early else None
    unknown = sorted(options.hints.keys() - unit.symbols.keys())
    if unknown:
        known = ", ".join(unit.symbols) or "none, all sizes are fixed"
        raise ModelError(f"hint for {unknown[0]!r}, which is no dynamic dimension of the model\n  dynamic: {known}")


def package_engine(compilation: Compilation) -> None:
    """Put everything into an engine."""
    from .package import package

    compilation.engine = package(compilation.unit, compilation.kernels, compilation.kept)


@dataclass(frozen=True)
class Stage:
    """A row of the table: `level` is the IR it leaves. Without `run` it is the registered pass `transform`,
    or `name`.

    `kept` puts its IR into the engine, for `tilewright inspect --ir`.
    """

    name: str
    level: str
    run: Callable[[Compilation], None] | None = None
    transform: str = ""
    kept: bool = False


STAGES = (
    Stage("import", "graph", import_model, kept=True),
    Stage("multiply-integers", "graph"),
    Stage("multiply-small-floats", "graph"),
    Stage("fold-constants", "graph"),
    Stage("simplify", "graph"),
    Stage("unfold-reshapes", "graph"),
    Stage("fold-affine-into-convolution", "graph"),
    Stage("fold-space-into-channels", "graph"),
    Stage("plain-transposed-convolutions", "graph"),
    Stage("join-groups", "graph"),
    Stage("plan-layout", "graph"),
    Stage("merge-matmuls", "graph"),
    Stage("pair-products", "graph"),
    Stage("fold-normalisations", "graph"),
    Stage("plan-precision", "graph"),
    Stage("simplify-planned", "graph", transform="simplify"),
    Stage("lay-out-weights", "graph"),
    Stage("merge-maps", "graph"),
    Stage("split-reductions", "graph"),
    Stage("pack-weights", "graph"),
    Stage("fuse", "graph", kept=True),
    Stage("excess-precision", "graph"),
    Stage("narrow-storage", "graph"),
    Stage("join-statistics", "graph"),
    Stage("tabulate-bytes", "graph"),
    Stage("approximate-functions", "graph"),
    Stage("shorten-activations", "graph"),
    Stage("round-quotients", "graph"),
    Stage("concatenate-in-place", "graph"),
    Stage("deduplicate-kernels", "graph"),
    Stage("share-numbers", "graph"),
    Stage("tile", "tile"),
    Stage("pipeline", "tile", kept=True),
    Stage("lower", "gpu", start_kernels),  # in the workers, while the host program is planned
    Stage("plan-host", "host", kept=True),
    Stage("emit", "ptx", finish_kernels),
    Stage("package", "engine", package_engine),
)
PASS_FOLDERS = ("graph", "tile", "host")


def stage_index(name: str) -> int:
    """The position of a stage given its name or number. Raises ModelError that lists them."""
    for index, stage in enumerate(STAGES):
        if name in (stage.name, str(index + 1), f"{index + 1:02d}"):
            return index
    raise ModelError(f"there is no stage {name!r}\n  stages: {', '.join(stage.name for stage in STAGES)}")


def run_pipeline(
    compilation: Compilation,
    first: str = STAGES[0].name,
    last: str = STAGES[-1].name,
    skip: Sequence[str] = (),
) -> None:
    """Run the stages from `first` to `last`, both included, but none that leaves a level in `skip`.

    Raises the errors of runtime/errors.py only.
    """
    begin, end = stage_index(first), stage_index(last)
    if begin > end:
        raise ModelError(f"stage {first!r} comes after {last!r}")
    folder = DumpFolder(compilation.options.dump) if compilation.options.dump else None
    previous = readable(compilation.unit.module) if folder and compilation.unit_or_none else ""
    for index in range(begin, end + 1):
        stage = STAGES[index]
        if stage.level in skip:
            continue
        compilation.tell(Progress(stage.name, index + 1, len(STAGES)))
        started = time.perf_counter()
        _run_stage(compilation, stage)
        seconds = time.perf_counter() - started
        previous = _record(compilation, index, seconds, folder, previous)


def _run_stage(compilation: Compilation, stage: Stage) -> None:
    try:
        if stage.run:
            stage.run(compilation)
        else:
            transform = find_pass(stage.transform or stage.name)
            with compilation.unit.module.context, ir.Location.unknown():
                transform.run(compilation.unit)
        if stage.level in ("graph", "tile"):
            verify(compilation.unit.module)
        elif stage.level == "host" and compilation.unit.host is not None:
            verify(compilation.unit.host)
    except InternalError as error:
        raise InternalError(f"stage '{stage.name}': {error}") from error
    except Error:
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{place.filename}:{place.lineno} in {place.name}"
        message = f"stage '{stage.name}' failed: {type(error).__name__}: {error}\n  at {where}"
        raise InternalError(message) from error


def _record(
    compilation: Compilation, index: int, seconds: float, folder: DumpFolder | None, previous: str
) -> str:
    """Report, dump and override after a stage; returns the module's text for the next comparison."""
    stage = STAGES[index]
    if not folder:
        compilation.reports.append(StageReport(stage.name, seconds))
        if stage.kept:
            compilation.kept.update(_members(compilation, index))
        return previous
    _override(compilation, index)
    unit = compilation.unit
    text = readable(unit.module)
    report = StageReport(stage.name, seconds, count_operations(unit.module), text != previous)
    compilation.reports.append(report)
    for name, content in stage_texts(compilation, index).items():
        folder.write(name, content)
    if stage.level == "graph":
        folder.write_weights(unit)
    folder.row(
        index + 1,
        stage.name,
        seconds,
        report.operations,
        report.changed or stage.level not in ("graph", "tile"),
    )
    if stage.kept:
        compilation.kept.update(_members(compilation, index))
    return text


def stage_texts(compilation: Compilation, index: int) -> dict[str, str]:
    """What a stage leaves for people, by file name: the module, or a file for each kernel."""
    stage, unit = STAGES[index], compilation.unit
    prefix = f"{index + 1:02d}-{stage.level}.{stage.name}"
    if stage.level == "graph":
        return {f"{prefix}.mlir": header(unit) + readable(unit.module)}
    if stage.level == "tile":
        return {f"{prefix}.{program.file_name}": program.text for program in unit.kernels.values()}
    if stage.level == "host" and unit.host is not None:
        return {f"{prefix}.mlir": header(unit) + readable(unit.host)}
    if stage.level == "ptx":
        lower = f"{stage_index('lower') + 1:02d}-gpu.lower"
        lowered = {f"{lower}.{name}.mlir": text for name, text in lowered_texts(compilation).items()}
        return lowered | {f"{prefix}.{name}.ptx": kernel.ptx for name, kernel in compilation.kernels.items()}
    return {}


def _members(compilation: Compilation, index: int) -> dict[str, str]:
    """The IR members of the engine for a stage: one text, whatever number of files a dump has."""
    stage = STAGES[index]
    text = "\n".join(stage_texts(compilation, index).values())
    return {f"ir/{index + 1:02d}-{stage.level}.{stage.name}.mlir": text} if text else {}


def _override(compilation: Compilation, index: int) -> None:
    """Replace what a stage made by the files of the same name in the override folder."""
    folder = compilation.options.override
    stage = STAGES[index]
    if folder is None or stage.level not in ("graph", "tile"):
        return
    for name in stage_texts(compilation, index):
        path = folder / name
        if not path.exists():
            continue
        if stage.level == "graph":
            edited = parse_unit(path.read_text(), str(path))
            compilation.unit.module = edited.module
        else:
            for function, program in compilation.unit.kernels.items():
                if name.endswith(f".{program.file_name}"):
                    compilation.unit.kernels[function] = replace(program, text=path.read_text())


def find_pass(name: str) -> Pass:
    """The registered pass; its file is found by its name in the folders of passes/. Raises InternalError."""
    module = _modules().get(name)
    if module:
        importlib.import_module(module)  # even if it is registered: another thread may be in the middle of its file
    if name not in PASSES:
        raise InternalError(
            f"there is no pass {name!r} in {', '.join('passes/' + folder for folder in PASS_FOLDERS)}"
        )
    return PASSES[name]


@lru_cache(maxsize=1)
def _modules() -> dict[str, str]:
    """Module names by pass name: a pass stands in a file of its name."""
    found: dict[str, str] = {}
    root = __name__.split(".", 1)[0]
    for folder in PASS_FOLDERS:
        package = importlib.import_module(f"{root}.passes.{folder}")
        for module in pkgutil.iter_modules(package.__path__):
            found[module.name.replace("_", "-")] = f"{package.__name__}.{module.name}"
    return found

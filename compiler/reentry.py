"""A dump goes back into the pipeline.

In: a file with IR of any level, and the stages to run. Out: the text that the last one leaves. A tile-level
file holds one kernel, as the dumps of that level do; what runs on it ends with PTX.
"""

from __future__ import annotations

import re
from pathlib import Path

from ..passes.target import DEFAULT_TARGET
from ..passes.unit import KernelProgram
from ..runtime.cache import Cache
from ..runtime.errors import InternalError, ModelError
from ..runtime.symbolic import expression
from .compilation import Compilation, Options
from .dumps import read_unit
from .kernels import lowered_texts
from .pipeline import STAGES, run_pipeline, stage_index, stage_texts

_TILE_KERNEL = re.compile(r"func\.func\s+(?:public\s+)?@([\w$.-]+)")


def reenter(
    file: Path,
    first: str,
    last: str,
    target: str | None = None,
    precision: str | None = None,
    dump: Path | None = None,
) -> str:
    """Run `first` to `last` on the IR in `file` and return what is left. Raises ModelError for a file or
    stage that does not fit.
    """
    begin, end = stage_index(first), stage_index(last)
    if begin == 0:
        raise ModelError(
            "import reads an ONNX model, not IR\n  use: tilewright compile MODEL.onnx --dump DIR"
        )
    if STAGES[end].level == "engine":
        end -= 1
    unit = read_unit(
        file, **{key: value for key, value in (("target", target), ("precision", precision)) if value}
    )
    options = Options(unit.target or DEFAULT_TARGET, unit.precision, dump=dump)
    compilation = Compilation(options, unit_or_none=unit, cache=Cache())
    _check_level(compilation, file, begin, end)
    skipped = []
    if begin > stage_index("tile"):
        _adopt_kernel(compilation)
        skipped.append("host")  # one kernel has no host program
    if STAGES[end].level in ("gpu", "host"):
        skipped.append("gpu")  # the workers would make PTX, which nobody waits for: `_text` lowers here
    run_pipeline(compilation, STAGES[begin].name, STAGES[end].name, skipped)
    return _text(compilation, end)


def _check_level(compilation: Compilation, file: Path, begin: int, end: int) -> None:
    """Raises ModelError where the file's level is not that of the stage, which would look for what is not there."""
    text, of_kernel = str(compilation.unit.module), begin > stage_index("tile")
    stage = f"stage {STAGES[begin].name!r}"
    if of_kernel and STAGES[end].level == "host":
        raise ModelError(f"{STAGES[end].name!r} needs a model and all of its kernels\n  use: --from tile and a graph")
    if of_kernel and re.search(r'"(graph|host)\.[\w.]+"\(', text):
        raise ModelError(f"{stage} takes one kernel, as dumps of the level tile are; {file} has a whole model")
    if not of_kernel and re.search(r'"tile\.[\w.]+"\(', text):
        raise ModelError(f"{stage} takes a whole model, as dumps of the level graph are; {file} has a kernel")


def _adopt_kernel(compilation: Compilation) -> None:
    """The module of a tile-level dump as the unit's only kernel."""
    unit = compilation.unit
    with unit.module.context:
        text = unit.module.operation.get_asm(enable_debug_info=True)
        names = _TILE_KERNEL.findall(str(unit.module))
    if len(names) != 1:
        raise ModelError(f"a file for this stage holds one kernel; it has {', '.join(names) or 'none'}")
    one = expression(1)
    unit.kernels[names[0]] = KernelProgram(names[0], text, "", (one, one, one), 0, [])


def _text(compilation: Compilation, end: int) -> str:
    """What the stage leaves; after `lower`, whose work the workers do otherwise, the lowered kernels."""
    stage = STAGES[end]
    if stage.level == "gpu":
        try:
            return "\n".join(lowered_texts(compilation).values())
        except ValueError as error:  # a layout that does not exist
            raise InternalError(f"stage '{stage.name}': {error}") from error
    texts = stage_texts(compilation, end)
    if stage.level == "ptx":
        texts = {name: text for name, text in texts.items() if name.endswith(".ptx")}
    return "\n".join(texts.values())

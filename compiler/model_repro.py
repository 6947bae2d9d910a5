"""A folder that reproduces a compilation that failed through a bug of ours, outside any one kernel.

In: the model, the options, the error, the module as the failing stage left it. Out: a folder under the
cache's `failures` (or under the dump folder), and the way back for `tilewright replay`. Models up to 64 MB
are copied; of larger files only the path is kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import traceback
from pathlib import Path
from typing import Any

from ..runtime.cache import default_folder
from ..runtime.errors import InternalError, ModelError
from .compilation import Compilation, Options
from .custom_operators import load_operators, registered_files

DESCRIPTION = "compile.json"
LARGEST_COPY = 64_000_000  # bytes


def with_repro(compilation: Compilation, error: InternalError) -> InternalError:
    """The same error, naming a folder that reproduces it; unchanged where it names one already or the disk
    refuses.
    """
    if "tilewright replay" in str(error) or compilation.source is None:
        return error
    try:
        folder = _write(compilation, error)
    except (OSError, ValueError):
        return error
    return InternalError(f"{error}\n  repro: tilewright replay {folder}")


def _write(compilation: Compilation, error: InternalError) -> Path:
    options = compilation.options
    content, path = _content(compilation.source)
    key = hashlib.sha256(f"{path}\0{options.target}\0{error}".encode()).hexdigest()[:12]
    folder = (options.dump / "failures" if options.dump else default_folder() / "failures") / f"compile-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    model = str(path)
    if content is not None:
        (folder / "model.onnx").write_bytes(content)
        model = "model.onnx"
    description = {
        "model": model,
        "target": options.target,
        "precision": options.precision,
        "shapes": {name: list(shape) for name, shape in options.shapes.items()},
        "hints": dict(options.hints),
        "operators": registered_files(),
        "stage": compilation.progress.stage,
    }
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n")
    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    (folder / "message.txt").write_text(f"{error}\n\n{trace}")
    if compilation.unit_or_none is not None:
        from .dumps import header, readable

        with contextlib.suppress(Exception):  # a module in pieces may not print
            text = header(compilation.unit) + readable(compilation.unit.module)
            (folder / "module.mlir").write_text(text)
    return folder


def _content(source: Any) -> tuple[bytes | None, Path | None]:
    """(bytes to copy, path): bytes of a model in memory or of a small file without external data, else
    None.
    """
    if isinstance(source, (str, os.PathLike)):
        path = Path(source).resolve()
        if path.stat().st_size > LARGEST_COPY:
            return None, path
        content = path.read_bytes()
        return (None if b"location" in content else content), path
    content = source if isinstance(source, bytes) else source.SerializeToString(deterministic=True)
    if len(content) > LARGEST_COPY:
        raise ValueError("too large to copy")
    return content, None


def is_model_repro(folder: Path) -> bool:
    """True for a folder of this kind, rather than of one kernel."""
    return (folder / DESCRIPTION).exists()


def read_model_repro(folder: Path) -> tuple[Path, Options]:
    """(model, options) of a folder. Raises ModelError when it is damaged."""
    try:
        description = json.loads((folder / DESCRIPTION).read_text())
        shapes = {name: tuple(shape) for name, shape in description["shapes"].items()}
        hints = description.get("hints", {})
        options = Options(description["target"], description["precision"], shapes, cached=False, hints=hints)
        for file in description.get("operators", ()):
            load_operators(file)
        return folder / description["model"], options
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{folder} is not a repro folder: {error}") from None

"""The Python API: a model in, an engine out.

In: a path, bytes or `onnx.ModelProto`, and options. Out: an `Engine`. Everything heavy is imported when a
model is really compiled, so that `import tilewright` and engines out of the cache need neither MLIR nor onnx.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..passes.target import DEFAULT_TARGET
from ..runtime.cache import Cache
from ..runtime.engine import Engine
from ..runtime.errors import InternalError, ModelError
from ..runtime.tuning import read_tuning
from .compilation import Compilation, Listener, Options, Shapes
from .custom_operators import any_registered, load_operators
from .libraries import load_libraries

if TYPE_CHECKING:
    import onnx


def compile(
    source: str | os.PathLike[str] | bytes | onnx.ModelProto,
    target: str = DEFAULT_TARGET,
    precision: str = "model",
    shapes: Shapes | None = None,
    dump: str | os.PathLike[str] | None = None,
    *,
    override: str | os.PathLike[str] | None = None,
    jobs: int | None = None,
    cache: bool = True,
    progress: Listener | None = None,
    operators: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    tuning: str | os.PathLike[str] | None = None,
    hints: Mapping[str, int] | None = None,
) -> Engine:
    """Compile an ONNX model to an engine of PTX kernels. No GPU is needed.

    `target` is a CUDA architecture (`sm_80`, `sm_90a`, ...). `precision` says how matmul and convolution
    compute: in the types that the `model` has; in those, with every rounding of it (`strict`); in `tf32`, `f16` or
    `bf16` on tensor cores. `shapes` fixes input dimensions,
    ``{"x": (8, 3, 224, 224)}``; a string instead of a number names a dimension that stays dynamic. `dump` is
    a folder for the IR of every stage, `override` one with edited dumps that replace it. `jobs` is the number
    of worker processes, by default one a core. `cache=False` compiles everything anew. `operators` are Python files
    that register custom operators. `tuning` is a file of measured schedules (`tilewright tune`). `hints` are typical
    sizes of dynamic dimensions, ``{"batch": 1, "sequence": 384}``: schedules are chosen for them, and all sizes run.

    Raises ModelError for a bad model or option, UnsupportedError naming every node that cannot be compiled,
    InternalError for a bug of ours with a way to reproduce it.
    """
    if not (isinstance(source, str | os.PathLike | bytes) or _is_model(source)):
        raise ModelError(f"a {type(source).__name__} is no model\n  supported: a path, bytes, an onnx.ModelProto")
    for path in [operators] if isinstance(operators, str | os.PathLike) else operators:
        load_operators(path)
    options = Options(
        target=target,
        precision=precision,
        shapes={name: _shape(shape) for name, shape in _by_name(shapes, "shapes").items()},
        dump=Path(dump) if dump is not None else None,
        override=Path(override) if override is not None else None,
        jobs=jobs,
        cached=cache,
        tuning=read_tuning(Path(tuning), target) if tuning is not None else None,
        hints={name: _integer(size) for name, size in _by_name(hints, "hints").items()},
    )
    return compile_with(source, options, progress)[0]


def _is_model(source: Any) -> bool:
    """Told by its class's name: importing onnx takes longer than finding an engine in the cache."""
    return any(kind.__name__ == "ModelProto" for kind in type(source).__mro__)


def _by_name(given: Any, what: str) -> Mapping[str, Any]:
    if given is not None and not isinstance(given, Mapping):
        raise ModelError(f"{what} are given as a {type(given).__name__}\n  supported: a mapping from names")
    return given or {}


def _shape(shape: Any) -> Any:
    """A tuple; what is no sequence as it is, for `Options` to judge."""
    return tuple(map(_integer, shape)) if isinstance(shape, Iterable) and not isinstance(shape, str) else shape


def _integer(size: Any) -> Any:
    """NumPy's integers as Python's; what is none as it is, for `Options` to judge."""
    return operator.index(size) if hasattr(size, "__index__") and not isinstance(size, bool) else size


def compile_with(
    source: Any, options: Options, progress: Listener | None = None
) -> tuple[Engine, Compilation | None]:
    """The engine, and the compilation that made it; None instead when the engine was in the cache."""
    slot = None
    cache = Cache() if options.cached else None
    # What a user's function does is not in a key: engines are kept only where there is none.
    if cache is not None and not any_registered() and options.dump is None and options.override is None:
        from .engine_cache import find_slot

        slot = find_slot(source, options, cache)
        engine = slot.load() if slot else None
        if engine is not None:
            return engine, None
    compilation = compile_fully(source, options, progress)
    engine = compilation.engine
    if engine is None:
        raise InternalError("the pipeline ended without an engine")
    return slot.store(engine) if slot else engine, compilation


def compile_fully(source: Any, options: Options, progress: Listener | None = None) -> Compilation:
    """The whole pipeline, whatever engines are in the cache; kernels are still taken from there."""
    from .backend.workers import shared_pool

    shared_pool(options.jobs)  # the workers load MLIR while this process reads the model
    load_libraries()
    from .kernels import give_up
    from .pipeline import run_pipeline

    compilation = Compilation(options, source, progress, cache=Cache() if options.cached else None)
    compilation.early = options.override is None  # which may replace what a kernel was tiled to
    try:
        run_pipeline(compilation)
    except InternalError as error:
        from .model_repro import with_repro

        raise with_repro(compilation, error) from error.__cause__
    finally:
        give_up(compilation)
    return compilation

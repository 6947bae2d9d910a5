"""One damaged model file through the compiler: it compiles, or a clear error refuses it; nothing else may happen.

In: a seed. Out: a `Verdict`: compiled, refused, or a failure: internal (an InternalError, or any other exception),
memory. Runs in a worker process with limits on time and memory.
"""

from __future__ import annotations

import random
import resource
import tempfile
import time
from functools import lru_cache
from pathlib import Path

import onnx
import onnx.backend.test

from tilewright.compiler.compilation import Compilation, Options
from tilewright.compiler.pipeline import run_pipeline
from tilewright.runtime.errors import Error, InternalError

from .damage import BYTES, FIELDS
from .differential import LONGEST, Verdict
from .random_graphs import random_graph

DAMAGE = 2  # to be raised when seeds come to mean other files
WHOLE_EACH = 10  # one file in so many is compiled to kernels, the others up to the host program
MOST_BYTES = 300_000
GRAPHS = Path(__file__).resolve().parents[2] / "tests" / "models" / "graphs"
SHIPPED = Path(onnx.backend.test.__file__).parent / "data"
NO_KERNELS = ("gpu", "ptx", "engine")  # levels that are left out


@lru_cache(maxsize=1)
def real_models() -> list[Path]:
    """Small models of exporters and of the onnx package."""
    found = [*GRAPHS.glob("*.onnx"), *SHIPPED.glob("simple/*/model.onnx"), *SHIPPED.glob("pytorch-*/*/model.onnx")]
    found += SHIPPED.glob("light/*.onnx")
    return sorted(path for path in found if path.stat().st_size < MOST_BYTES)


def _source(rng: random.Random) -> bytes:
    """A valid model: a real one, or a random graph for its many operators."""
    if rng.random() < 0.5:
        return rng.choice(real_models()).read_bytes()
    return random_graph(rng.randrange(1 << 20)).model.SerializeToString()


def damaged_file(seed: int) -> tuple[bytes, str]:
    """The bytes of a seed's file, and the kinds of damage done."""
    rng = random.Random(f"file {seed}")
    data = _source(rng)
    if rng.random() < 0.4:
        way = rng.choice(BYTES)
        return way(data, _source(rng), rng), way.__name__
    model = onnx.ModelProto.FromString(data)
    done = []
    for change in rng.choices(FIELDS, k=rng.choice((1, 1, 1, 2, 3))):
        try:
            change(model, rng)
            done.append(change.__name__)
        except (ValueError, TypeError):  # protobuf does not take everything
            continue
    return model.SerializeToString(), ", ".join(done)


def judge_damaged(seed: int) -> Verdict:
    """Write the file of a seed, compile it, and tell what came of it."""
    data, ways = damaged_file(seed)
    started, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory(prefix="tilewright-fuzz-") as folder:
        path = Path(folder, "model.onnx")
        path.write_bytes(data)
        kind, message = compiled_or_refused(path, whole=seed % WHOLE_EACH == 0)
    seconds = round(time.process_time() - started, 3)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    if grown > 1500:
        kind, message = "memory", f"{grown} MiB more than before; {message}"
    return Verdict(kind, f"[{ways}] {message}"[:LONGEST], seconds, tuple(ways.split(", ")))


def compiled_or_refused(source: Path | onnx.ModelProto, whole: bool) -> tuple[str, str]:
    """The kind of verdict and its message; `whole` makes kernels, too."""
    compilation = Compilation(Options(jobs=1, cached=whole), source)
    try:
        run_pipeline(compilation, skip=() if whole else NO_KERNELS)
    except InternalError as error:
        return "internal", str(error)
    except Error as error:
        return "refused", f"{type(error).__name__}: {error}"
    except Exception as error:  # every other exception is a bug of ours
        return "internal", f"{type(error).__name__}: {error}"
    return "compiled", ""

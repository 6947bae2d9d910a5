"""Whole engines by model and options, so that a second compilation reads a file instead of compiling.

In: the model as the user gave it, and the options. Out: a key made of the bytes of the model and of all files
it refers to, and the engine file kept under it. Neither MLIR nor onnx is imported to find an engine, unless a
model with external data is new.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..runtime.archive import ENGINE_FILE
from ..runtime.cache import Cache, make_key
from ..runtime.engine import Engine
from ..runtime.errors import ModelError
from ..runtime.whole_file import whole_file
from .backend.versions import LIBRARIES, TOOLS, source_digest, tool_versions
from .compilation import Options

SECTION = "engines"
SUFFIX = ".tw"
LARGEST_SHARE = 0.25  # of the cache's limit that one engine may take
_EXTERNAL_MARK = b"location"  # the key that every reference to external data carries
_CHUNK = 1 << 24


@dataclass(frozen=True)
class Slot:
    """The place of one engine in the cache."""

    cache: Cache
    key: str

    @property
    def path(self) -> Path:
        """Where its file stands, if it does."""
        return self.cache.path(SECTION, self.key, SUFFIX)

    def load(self) -> Engine | None:
        """The engine, or None when there is none or its file is damaged."""
        if not os.path.exists(self.path):
            return None
        try:
            engine = Engine.load(self.path)
        except ModelError:
            with suppress(OSError):  # a folder that may not be written to
                self.path.unlink()
            return None
        self.cache.touch(self.path)
        return engine

    def store(self, engine: Engine) -> Engine:
        """Keep `engine` and return it as it was kept, its weights mapped; the same engine where it cannot be
        kept.
        """
        if engine.manifest.weight_bytes > self.cache.limit * LARGEST_SHARE:
            return engine
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            engine.save(self.path)
            self.cache.written(self.path.stat().st_size)
            self.cache.trim()
            return Engine.load(self.path, trusted=True)
        except (ModelError, OSError):
            return engine


def save_engine(engine: Engine, path: Path) -> None:
    """`engine.save(path)`, by copying the file where the engine was just read from one and checked. Raises
    ModelError.
    """
    if engine.path is None or not engine.path.exists():  # evicted meanwhile: its mapping is still there
        engine.save(path)
        return
    with whole_file(path, ENGINE_FILE) as target, open(engine.path, "rb") as source:
        shutil.copyfileobj(source, target, _CHUNK)


def find_slot(source: Any, options: Options, cache: Cache) -> Slot | None:
    """Where the engine of `source` belongs; None when the source cannot be read (importing it will say
    why).
    """
    try:
        content, folder, name = _content(source)
        model = hashlib.sha256(content).hexdigest()
        shapes = sorted((name, list(shape)) for name, shape in options.shapes.items())
        hints = sorted(options.hints.items())
        facts = json.dumps([options.target, options.precision, shapes, hints, name, options.measured.key()])
        versions = tool_versions((*TOOLS, *LIBRARIES))
        base = make_key("engine", model, facts, source_digest(), versions)
        locations = _external_locations(content, base, cache)
        digests = (
            []
            if folder is None
            else [f"{location}={_file_digest(folder / location)}" for location in locations]
        )
    except (OSError, ValueError):
        return None
    return Slot(cache, make_key(base, *digests))


def _content(source: Any) -> tuple[bytes | mmap.mmap, Path | None, str]:
    """(bytes of the model, folder of its external data, name that ends up in the engine)."""
    if isinstance(source, bytes):
        return source, None, ""
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        with open(path, "rb") as stream:
            return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ), path.resolve().parent, path.stem
    return source.SerializeToString(deterministic=True), None, ""


def _external_locations(content: bytes | mmap.mmap, base: str, cache: Cache) -> list[str]:
    """Files the model refers to, from a note in the cache or else from the model itself."""
    note = cache.get(SECTION, base)
    if note is not None:
        return [str(location) for location in json.loads(note)]
    locations: list[str] = []
    if content.find(_EXTERNAL_MARK) >= 0:
        import onnx

        try:
            model = onnx.ModelProto.FromString(bytes(content))
        except Exception as error:  # protobuf's DecodeError; the frontend will report it
            raise ValueError("not a model") from error
        locations = sorted(set(_locations(model.graph)))
    cache.put(SECTION, base, json.dumps(locations).encode())
    return locations


def _locations(graph: Any) -> Iterable[str]:
    attributes = [attribute for node in graph.node for attribute in node.attribute]
    tensors = [*graph.initializer, *(attribute.t for attribute in attributes if attribute.HasField("t"))]
    for tensor in tensors:
        yield from (entry.value for entry in tensor.external_data if entry.key == "location")
    for attribute in attributes:
        if attribute.HasField("g"):
            yield from _locations(attribute.g)


def _file_digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()

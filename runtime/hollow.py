"""Engines without their weights, for machines that a large model does not reach: their speed is in the kernels.

In: an engine. Out: a small file with its kernels, its program, its small and integer weights, and of each large float
weight the mean and the deviation; `load_hollow` fills those with seeded random numbers of the same distribution. What
it computes is then not what the model does.
"""

from __future__ import annotations

import io
import json
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .engine import Engine, Weight
from .errors import ModelError
from .manifest import Manifest

KEPT_BYTES = 1 << 14  # a weight of up to this size is kept as it is: tables of indices, biases, scales


def save_hollow(engine: Engine, path: Path, kept_bytes: float = KEPT_BYTES) -> None:
    """Write `engine`, packed, without float weights of more than `kept_bytes`. Raises ModelError when it cannot."""
    moments: dict[str, list[float]] = {}
    kept: dict[str, np.ndarray[Any, Any]] = {}
    for buffer, weight in engine.weights():
        array = np.asarray(weight)
        if array.nbytes <= kept_bytes or array.dtype.kind in "iub":
            kept[buffer.name] = array.reshape(-1).view(np.uint8)
        else:
            values = array.astype(np.float32)
            moments[buffer.name] = [float(values.mean()), float(values.std())]
    arrays = io.BytesIO()
    members: Any = kept  # numpy's type of savez takes its own options for array names
    np.savez(arrays, **members)
    try:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("manifest.json", json.dumps(engine.manifest.to_json()))
            file.writestr("moments.json", json.dumps(moments))
            file.writestr("kept.npz", arrays.getvalue())
            for name in engine.kernels:
                file.writestr(f"kernels/{name}.ptx", engine.ptx(name))
    except OSError as error:
        raise ModelError(f"cannot write {path}: {error.strerror or error}") from None


def load_hollow(path: Path, seed: int = 0) -> Engine:
    """The engine, with random numbers where weights were left out. Raises ModelError for a file that is none."""
    try:
        with zipfile.ZipFile(path) as file:
            manifest = Manifest.from_json(json.loads(file.read("manifest.json")))
            moments = json.loads(file.read("moments.json"))
            kept = dict(np.load(io.BytesIO(file.read("kept.npz"))))
            kernels = {kernel.name: file.read(f"kernels/{kernel.name}.ptx").decode() for kernel in manifest.kernels}
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ModelError(f"cannot read {path}, an engine without weights: {error}") from None
    weights: list[Weight] = []
    for number, buffer in enumerate(manifest.weights):
        shape = tuple(extent.evaluate({}) for extent in buffer.shape)
        if buffer.name in kept:
            weights.append(kept[buffer.name].view(buffer.element.numpy).reshape(shape))
        else:
            mean, deviation = moments[buffer.name]
            weights.append(partial(_random, shape, buffer.element.numpy, mean, deviation, seed + number))
    return Engine.build(manifest, kernels, {}, weights)


def _random(
    shape: tuple[int, ...], element: np.dtype[Any], mean: float, deviation: float, seed: int
) -> np.ndarray[Any, Any]:
    values = np.random.default_rng(seed).standard_normal(shape, np.float32)
    result: np.ndarray[Any, Any] = (values * np.float32(deviation) + np.float32(mean)).astype(element)
    return result

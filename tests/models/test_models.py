"""Whole models: compiled strictly, run on the emulator at each of their shapes, compared with onnxruntime.

The models and their inputs stand in tests/support/zoo.py. One engine serves all shapes of a model.
"""

from __future__ import annotations

import re

import numpy as np
import onnxruntime
import pytest
from tests.support.zoo import MODELS, Inputs, Model

import tilewright

# The slow ones first, so that two workers finish together.
NAMES = sorted(MODELS, key=lambda name: -MODELS[name].gigaflop)
# Each kind of kernel, for each target; `python -m benchmarks.targets` does all models.
SMALL = ["bert-small-dynamo", "unet-small-dynamo", "ppocr-classifier"]


def expected_outputs(model: Model) -> list[dict[str, np.ndarray]]:
    """What onnxruntime's CPU provider answers, for each of the model's inputs."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.prototype().SerializeToString(), options)
    names = [output.name for output in session.get_outputs()]
    return [dict(zip(names, session.run(None, inputs), strict=True)) for inputs in model.inputs()]


def largest_difference(actual: np.ndarray, expected: np.ndarray) -> float:
    """The largest absolute difference, relative to the largest expected value."""
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    if actual.size == 0:
        return 0.0
    difference = np.abs(actual.astype(np.float64) - expected.astype(np.float64)).max()
    return float(difference / max(float(np.abs(expected).max()), 1e-30))


def compare(engine: tilewright.Engine, batches: list[Inputs], model: Model, tolerance: float) -> None:
    """Run the engine on the emulator for each of the inputs and compare every output."""
    with engine.session(device="emulator") as session:
        for inputs, expected in zip(batches, expected_outputs(model), strict=True):
            actual = session.run(inputs)
            assert actual.keys() == expected.keys()
            for name, value in expected.items():
                assert np.abs(value).max() > 0, f"{name}: the reference answers zeros, which checks nothing"
                assert largest_difference(actual[name], value) <= tolerance, name


# Fusion at work: IREE 3.13 needs 58 for ResNet-50 and 16 a layer for BERT, here two layers and what surrounds them.
MOST_LAUNCHES = {"light-resnet50": 57, "bert-small-dynamo": 21, "bert-small-legacy": 21, "magika": 16}

# A word takes no turn of the host: an inference is launches and copies on the device.
ON_DEVICE = ("bert", "gpt2", "llama", "minilm")


@pytest.mark.parametrize("name", NAMES)
def test_same_answer_as_onnxruntime(name: str) -> None:
    model = MODELS[name]
    engine = tilewright.compile(model.load(), precision="strict")
    assert not [kernel.name for kernel in engine.kernels.values() if kernel.spills]
    assert len(engine.program.launches) <= MOST_LAUNCHES.get(name, len(engine.program.launches))
    assert not (name.startswith(ON_DEVICE) and engine.program.returns_to_host)
    compare(engine, model.inputs(), model, model.tolerance)


# How far rounding the operands of every multiplication moves two-layer models: tf32 keeps 10
# bits of the mantissa (relative error 5e-4), as f16 does; bf16 keeps 7 (4e-3). A factor of ten for the depth.
@pytest.mark.parametrize(("precision", "tolerance"), [("tf32", 5e-3), ("f16", 5e-3), ("bf16", 4e-2)])
@pytest.mark.parametrize("name", ["bert-small-dynamo", "resnet-small-legacy", "unet-small-dynamo"])
def test_lower_precisions(name: str, precision: str, tolerance: float) -> None:
    model = MODELS[name]
    engine = tilewright.compile(model.load(), precision=precision)
    assert any(re.search(r"wgmma|mma\.sync", engine.ptx(name)) for name in engine.kernels)
    compare(engine, model.inputs(), model, tolerance)


@pytest.mark.parametrize("target", ["sm_80", "sm_89", "sm_90a", "sm_100"])
@pytest.mark.parametrize("name", SMALL)
def test_assembles_without_spills(name: str, target: str) -> None:
    engine = tilewright.compile(MODELS[name].load(), target=target)
    spilling = [kernel.name for kernel in engine.kernels.values() if kernel.spills]
    assert engine.kernels
    assert not spilling


def test_fixed_shapes_only_specialise() -> None:
    model = MODELS["bert-small-legacy"]
    batch = model.inputs()[0]
    shapes = {name: value.shape for name, value in batch.items()}
    engine = tilewright.compile(model.load(), shapes=shapes)
    with engine.session(device="emulator") as session:
        assert all(isinstance(extent, int) for spec in session.inputs for extent in spec.shape)
        actual = session.run(batch)
    for name, value in expected_outputs(model)[0].items():
        assert largest_difference(actual[name], value) <= model.tolerance

"""Exported architectures as onnxruntime's optimisers rewrite them, against onnxruntime on what was exported.

Its graph optimiser (extended level) and its optimiser of transformers write operators of com.microsoft: biased
activations, fused products, skipped and grouped normalisations, convolutions with the channels last.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from tests.support.zoo import exported

from tilewright.compiler.frontend import import_model
from tilewright.passes.graph.interpret import interpret

GRAPHS = Path(__file__).parent / "graphs"
TRANSFORMERS = {  # the kind that the optimiser of transformers takes a model for, and an operator that it writes
    "bert-small-legacy": ("bert", "SkipLayerNormalization"),
    "gpt2-small-legacy": ("gpt2", "FastGelu"),
    "llama-small-dynamo": ("gpt2", "SkipSimplifiedLayerNormalization"),
    "unet-small-legacy": ("unet", "GroupNorm"),
    "vit-small-legacy": ("vit", "SkipLayerNormalization"),
}
EXTENDED = {"mobilenet-small-dynamo": "FusedConv", "bert-small-dynamo": "BiasGelu", "llama-small-dynamo": "QuickGelu"}


def by_transformers(source: Path, target: Path, kind: str) -> None:
    logging.disable(logging.CRITICAL)  # it tells every fusion
    try:
        from onnxruntime.transformers import optimizer

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = optimizer.optimize_model(str(source), kind, num_heads=0, hidden_size=0, opt_level=0)
            made.save_model_to_file(str(target))
    finally:
        logging.disable(logging.NOTSET)


def by_graph_optimiser(source: Path, target: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(target)
    onnxruntime.InferenceSession(str(source), options)


@pytest.mark.parametrize("name", [*TRANSFORMERS, *EXTENDED])
def test_same_answers(name: str, tmp_path: Path) -> None:
    model = exported(GRAPHS / f"{name}.onnx")
    source, target = tmp_path / "exported.onnx", tmp_path / "optimised.onnx"
    onnx.save(model.prototype(), source)
    kind, operator = TRANSFORMERS.get(name) or ("", EXTENDED[name])
    if kind:
        by_transformers(source, target, kind)
    else:
        by_graph_optimiser(source, target)
    assert operator in {node.op_type for node in onnx.load(target).graph.node}
    inputs = model.inputs()[0]
    wanted = onnxruntime.InferenceSession(str(source)).run(None, inputs)
    for result, want in zip(interpret(import_model(target), inputs).values(), wanted, strict=True):
        # Sums in f32 in another order: 8e-7 of the largest output was the most that was seen.
        np.testing.assert_allclose(result, want, rtol=0, atol=1e-5 * np.abs(want).max())

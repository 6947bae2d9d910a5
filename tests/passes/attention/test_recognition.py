"""Attention as models spell it out is one kernel each: batches that broadcast, relative positions, shifted windows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from benchmarks.attention import attention_kernels, attention_nodes
from onnx import parser
from tests.support.seeded_weights import fill

import tilewright

GRAPHS = Path(__file__).parents[2] / "models" / "graphs"
# f32 products and sums of at most 16 terms near 1, with exp of libdevice: a few units of 2^-24 each.
TOLERANCE = 3e-6


@dataclass(frozen=True)
class Spelling:
    """softmax(f(q k')) v as nodes of onnx.parser's text; `kernels` as they are called in turn."""

    shapes: dict[str, tuple[int, ...]]
    scores: str  # from `a` to `s`
    kernels: str = "attention"

    def model(self) -> onnx.ModelProto:
        """From q, k, v and what else the scores take to y."""
        inputs = ", ".join(f"float[{','.join(map(str, shape))}] {name}" for name, shape in self.shapes.items())
        rank = len(self.shapes["k"])
        turned = ", ".join(map(str, [*range(rank - 2), rank - 1, rank - 2]))
        body = f"kt = Transpose <perm = [{turned}]> (k)  a = MatMul(q, kt)  {self.scores}"
        body += "  p = Softmax <axis = -1> (s)  y = MatMul(p, v)"
        header = '<ir_version: 8, opset_import: ["": 17]>'
        model = parser.parse_model(f"{header} spelled ({inputs}) => (float y) {{ {body} }}")
        model.graph.output[0].type.tensor_type.ClearField("shape")
        return model


def reshaped(source: str, target: str, *shape: int) -> str:
    """A reshape in onnx.parser's text."""
    sizes = f"int64[{len(shape)}] {{{', '.join(map(str, shape))}}}"
    return f"{target}_shape = Constant <value = {sizes}> ()  {target} = Reshape({source}, {target}_shape)"


HEADS = {"q": (3, 2, 9, 16), "k": (3, 2, 13, 16), "v": (3, 2, 13, 16)}
SQUARE = dict.fromkeys("qkv", (6, 12, 16))  # three times four positions
PLACES = {"down": (6, 3, 4, 3, 1), "across": (6, 3, 4, 1, 4)}
SPELLINGS = {
    "queries for all entries": Spelling(HEADS | {"q": (1, 2, 9, 16)}, "s = Identity(a)"),
    "keys for all entries": Spelling(HEADS | {"k": (1, 2, 13, 16), "v": (1, 2, 13, 16)}, "s = Identity(a)"),
    "keys for all heads": Spelling(HEADS | {"k": (3, 1, 13, 16), "v": (3, 1, 13, 16)}, "s = Identity(a)"),
    "keys for everything": Spelling(HEADS | {"k": (1, 1, 13, 16), "v": (1, 1, 13, 16)}, "s = Identity(a)"),
    # Without batches one product has more rows where the other has batches: three kernels.
    "keys for everything, values not": Spelling(HEADS | {"k": (1, 1, 13, 16)}, "s = Identity(a)", "dot + row + dot"),
    "relative positions in two dimensions, added to split scores": Spelling(
        SQUARE | PLACES,
        f"{reshaped('a', 'b', 6, 3, 4, 3, 4)}  c = Add(b, down)  d = Add(c, across)  {reshaped('d', 's', 6, 12, 12)}",
    ),
    "relative positions in two dimensions, joined and added": Spelling(
        SQUARE | PLACES, f"b = Add(down, across)  {reshaped('b', 'c', 6, 12, 12)}  s = Add(a, c)"
    ),
    "windows of images, each with its mask": Spelling(
        dict.fromkeys("qkv", (6, 2, 9, 16)) | {"mask": (3, 1, 9, 9)},
        f"{reshaped('a', 'b', 2, 3, 2, 9, 9)}  c = Add(b, mask)  {reshaped('c', 's', 6, 2, 9, 9)}",
    ),
}  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_spelled_out(spelling: Spelling) -> None:
    model = spelling.model()
    engine = tilewright.compile(model)
    calls = [launch.kernel.rpartition("_")[0] for launch in engine.program.launches]
    assert " + ".join(calls) == spelling.kernels
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        name: rng.standard_normal(shape).astype(np.float32) for name, shape in spelling.shapes.items()
    }
    session = onnxruntime.InferenceSession(model.SerializeToString())
    with engine.session("emulator", checked=True) as own:
        np.testing.assert_allclose(own.run(arrays)["y"], session.run(None, arrays)[0], atol=TOLERANCE)


@pytest.mark.parametrize("name", ["bert", "gpt2-cached", "llama", "vit"])
def test_every_layer_of_exported_models(name: str) -> None:
    files = sorted(path for path in GRAPHS.glob(f"{name}-small-*.onnx") if re.fullmatch(r".*small-\w+", path.stem))
    assert files
    for path in files:
        model = fill(onnx.load(path))
        assert attention_kernels(model) == attention_nodes(model) == 2, path.stem

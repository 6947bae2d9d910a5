"""Concatenations without a kernel, whole: parts are written where the result lies, and read there."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, parser

import tilewright
from tilewright.runtime.emulator.observer import Order
from tilewright.runtime.launch_arguments import TensorMapArgument
from tilewright.runtime.sanitizing import sanitize

CHANNELS = 64
# One tensor is a part, the input of a 3x3 convolution, of a pool and of a mean; the whole is read by a 1x1 convolution.
BLOCK = """
    t = Transpose <perm = [0, 3, 1, 2]> (x)
    a = Conv <pads = [1, 1, 1, 1]> (t, w0)  ra = Relu(a)
    b = Conv <pads = [1, 1, 1, 1]> (ra, w1)  rb = Relu(b)
    p = MaxPool <kernel_shape = [3, 3], strides = [1, 1], pads = [1, 1, 1, 1]> (rb)
    c = Concat <axis = 1> (ra, rb, p)
    d = Conv (c, w2)  e = Transpose <perm = [0, 2, 3, 1]> (d)
    y = Relu(e)  m = GlobalAveragePool(rb)
"""
# As YOLO: half of the channels go through a convolution and are added to themselves; all three are joined.
SPLIT = """
    t = Transpose <perm = [0, 3, 1, 2]> (x)
    a = Conv <pads = [1, 1, 1, 1]> (t, w3)  ra = Relu(a)
    l, r = Split <axis = 1, num_outputs = 2> (ra)
    b = Conv <pads = [1, 1, 1, 1]> (r, w1)  rb = Relu(b)  q = Add(rb, r)
    c = Concat <axis = 1> (l, r, q)
    d = Conv (c, w2)  e = Transpose <perm = [0, 2, 3, 1]> (d)  y = Relu(e)  m = GlobalMaxPool(q)
"""
# As DenseNet: every layer reads all before it, and the features are named anew every time.
DENSE = """
    a = MatMul(x, v0)  ra = Relu(a)
    b = MatMul(ra, v1)  rb = Relu(b)
    ab = Concat <axis = -1> (ra, rb)  c = MatMul(ab, v2)  rc = Relu(c)
    abc = Concat <axis = -1> (ra, rb, rc)
    s = Softmax(abc)  y = Sub(abc, s)  d = MatMul(abc, v3)  m = Relu(d)
"""


def _model(inputs: str, nodes: str) -> onnx.ModelProto:
    text = f'<ir_version: 10, opset_import: ["": 23]> joined ({inputs}) => (float[?] y, float[?] m) {{ {nodes} }}'
    model = parser.parse_model(text)
    rng = np.random.default_rng(0)
    shapes = {
        "w0": (CHANNELS, CHANNELS, 3, 3), "w1": (CHANNELS, CHANNELS, 3, 3), "w2": (CHANNELS, 3 * CHANNELS, 1, 1),
        "w3": (2 * CHANNELS, CHANNELS, 3, 3),
        "v0": (32, 64), "v1": (64, 32), "v2": (96, 16), "v3": (112, 24),
    }  # fmt: skip
    for name, shape in shapes.items():
        if f"{name})" in nodes:
            lines = np.prod(shape[1:]) if name.startswith("w") else shape[0]
            weight = (rng.standard_normal(shape) / np.sqrt(lines)).astype(np.float32)
            model.graph.initializer.append(numpy_helper.from_array(weight, name))
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    return model


@pytest.mark.parametrize("target,precision", [("sm_90a", "f16"), ("sm_80", "strict")])
@pytest.mark.parametrize(
    "nodes,shape,kernels",
    [
        (BLOCK, (2, 6, 5, CHANNELS), ["dot", "dot", "dot", "loop", "row"]),
        (SPLIT, (2, 6, 5, CHANNELS), ["dot", "dot", "dot", "row"]),
        (DENSE, (9, 32), ["dot", "dot", "dot", "dot", "row"]),
    ],
    ids=["block", "split", "dense"],
)
def test_parts_are_written_in_place(
    nodes: str, shape: tuple[int, ...], kernels: list[str], target: str, precision: str
) -> None:
    dimensions = ", ".join(["n", *map(str, shape[1:])])
    model = _model(f"float[{dimensions}] x", nodes)
    engine = tilewright.compile(model, target=target, precision=precision)
    found = [launch.kernel.split("_")[0] for launch in engine.program.launches]
    assert sorted(found) == sorted(kernels)
    boxes = [item for own in engine.program.launches for item in own.arguments if isinstance(item, TensorMapArgument)]
    assert any(item.offset != 0 for item in boxes) == (target == "sm_90a" and nodes != DENSE)
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    (outputs,), report = sanitize(engine, [{"x": x}], Order("random", 5))
    assert not report.findings, str(report)
    expected = onnxruntime.InferenceSession(model.SerializeToString()).run(["y", "m"], {"x": x})
    # Sums of up to 576 products in another order: 2**-23 each; halves keep 2**-11, at four places one behind the other.
    tolerance = 2**-9 if precision == "f16" else 2**-19
    for name, wanted in zip(("y", "m"), expected, strict=True):
        np.testing.assert_allclose(outputs[name], wanted, rtol=0, atol=tolerance * np.abs(wanted).max())

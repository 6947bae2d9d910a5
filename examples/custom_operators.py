"""Two operators of one's own: one made of other operators, one that is a kernel written in CUDA C++.

    python examples/custom_operators.py
    tilewright compile model.onnx --operators examples/custom_operators.py

The first line builds a model with both, compiles it and runs it. The second compiles any model that has them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

import tilewright
from tilewright import custom

DOMAIN = "com.example"
BINS = 16
MODEL = f"""
<ir_version: 9, opset_import: ["" : 20, "{DOMAIN}" : 1]>
example (float[n, 64] x) => (float[n, 64] parts, int32[{BINS}] counts) {{
  positive = Abs (x)
  parts = {DOMAIN}.SharpSoftmax <power = 2.0> (positive)
  counts = {DOMAIN}.Histogram <bins = {BINS}> (parts)
}}
"""
PTX = Path(__file__).parent / "kernels" / "histogram.ptx"
HISTOGRAM = custom.Kernel.from_file(PTX, block=256, shared_bytes=4 * 256)


@custom.operator("SharpSoftmax", domain=DOMAIN)
def sharp_softmax(node: custom.Node) -> list[custom.Tensor]:
    """softmax(power * x): pointwise work is a Python function of scalars, the rest is an ONNX operator."""
    power = node.get("power", 1.0)
    scaled = node.map([node.input(0)], lambda x: x * power)
    return node.apply("Softmax", [scaled], axis=-1)


@custom.operator("Histogram", domain=DOMAIN)
def histogram(node: custom.Node) -> list[custom.Tensor]:
    """How many elements of x in [0, 1) fall into each of `bins` equal parts."""
    x, bins = node.input(0), node.get("bins", 10)
    if x.dtype != "f32" or bins > 256:
        raise custom.Unsupported(f"Histogram of {x.dtype} with {bins} bins", "f32, up to 256 bins")
    elements = custom.graph.product(x.shape)
    counts = custom.Result("i32", [bins], initial=0)  # the kernel adds to it
    return HISTOGRAM.launch(node, [x], [counts], grid=[(elements + 4095) // 4096], sizes=[elements, bins])


def main() -> None:
    """Compile the model, run it, and compare with numpy."""
    engine = tilewright.compile(onnx.parser.parse_model(MODEL))
    print("kernels:", ", ".join(f"{kernel.name} ({kernel.kind})" for kernel in engine.kernels.values()))
    x = np.random.default_rng(0).standard_normal((40, 64)).astype(np.float32)
    with engine.session() as session:
        results = session.run({"x": x})
        print(f"ran on {session.device.name}")
    exponentials = np.exp(2 * np.abs(x).astype(np.float64))
    difference = np.abs(results["parts"] - exponentials / exponentials.sum(-1, keepdims=True)).max()
    print("softmax agrees:", bool(difference < 1e-6))
    print("histogram agrees:", np.array_equal(results["counts"], np.histogram(results["parts"], BINS, (0, 1))[0]))


if __name__ == "__main__":
    main()

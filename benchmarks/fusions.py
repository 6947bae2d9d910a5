"""Which operations share a kernel: small graphs as exporters write them, and how many kernels they become.

In: `PATTERNS`, each an ONNX graph in the textual form of onnx.parser, whose names in `weights` are constants. Out: a
table with the number of operators (kernels without fusion) and the kernels by kind. With `--models`, models of the
tests instead: their kernels, and those that concatenate, before and after `concatenate-in-place`. Nothing is compiled
any further.

    python -m benchmarks.fusions [--target sm_90a] [--precision f16] [--models NAME ...]
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field

import numpy as np
import onnx
from mlir import ir
from onnx import numpy_helper, parser
from rich.console import Console
from rich.table import Table

from tilewright.compiler.compilation import Compilation, Options
from tilewright.compiler.pipeline import run_pipeline
from tilewright.dialects.tensors import element_of, shape_of
from tilewright.passes.graph.rewriting import functions, inner_operations
from tilewright.runtime.dtypes import dtype
from tilewright.runtime.symbolic import product

_HEADER = '<ir_version: 10, opset_import: ["": 23]>'


@dataclass(frozen=True)
class Pattern:
    """A graph from `inputs` to y (and more `outputs`) in f16. A weight is a shape, or the values themselves."""

    name: str
    kernels: str  # expected, such as "dot" or "row + dot"
    inputs: str
    nodes: str
    weights: dict[str, tuple[int, ...] | np.ndarray] = field(default_factory=dict)
    outputs: str = "float16[?] y"

    def model(self) -> onnx.ModelProto:
        """The ONNX model."""
        model = parser.parse_model(f"{_HEADER} pattern ({self.inputs}) => ({self.outputs}) {{ {self.nodes} }}")
        rng = np.random.default_rng(0)
        for name, value in self.weights.items():
            array = value
            if isinstance(value, tuple):
                array = (rng.standard_normal(value) / np.sqrt(max(1, value[0] if value else 1))).astype(np.float16)
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
        for output in model.graph.output:
            output.type.tensor_type.ClearField("shape")
        return model

    @property
    def operators(self) -> int:
        """Kernels without fusion: operators but for reshapes, which move nothing."""
        return sum(node.op_type != "Reshape" for node in self.model().graph.node)


def _heads(name: str, heads: int) -> str:
    """Queries, keys or values of so many heads from a product."""
    return (
        f"{name}m = MatMul(x, w{name})  {name}a = Add({name}m, b{name})"
        f"  {name}r = Reshape({name}a, s{heads})  {name} = Transpose <perm = [0, 2, 1, 3]> ({name}r)"
    )


_SHAPES = {f"s{heads}": np.array([0, 0, heads, 16]) for heads in (2, 8)}
_QKV = {
    **{f"w{name}": (128, width) for name, width in (("q", 128), ("k", 32), ("v", 32))},
    **{f"b{name}": (width,) for name, width in (("q", 128), ("k", 32), ("v", 32))},
}
_ROWS = "float16[64, 128] x"
_IMAGE = "float16[1, 64, 14, 14] x"
_SCALES = {"scale": np.float16(0.5), "zero": np.uint8(3)}

PATTERNS = (
    Pattern(
        "matmul, bias, GELU, residual", "dot", f"{_ROWS}, float16[64, 256] r",
        "a = MatMul(x, w)  b = Add(a, bias)  c = Gelu(b)  y = Add(c, r)", {"w": (128, 256), "bias": (256,)},
    ),
    Pattern(
        "matmul, scale, cast", "dot", _ROWS,
        "a = MatMul(x, w)  b = Mul(a, half)  y = Cast <to = 1> (b)",
        {"w": (128, 256), "half": np.float16(0.5)}, "float[?] y",
    ),
    Pattern(
        "matmul, quantise", "dot", _ROWS, "a = MatMul(x, w)  y = QuantizeLinear(a, scale, zero)",
        {"w": (128, 256), **_SCALES}, "uint8[?] y",
    ),
    Pattern(
        "dequantise, matmul, quantise", "dot", "uint8[64, 128] x",
        "a = DequantizeLinear(x, scale, zero)  b = DequantizeLinear(w, scale, none)  c = MatMul(a, b)"
        "  y = QuantizeLinear(c, scale, zero)",
        {"w": np.ones((128, 256), np.int8), "none": np.int8(0), **_SCALES}, "uint8[?] y",
    ),
    Pattern(
        "convolution, residual, ReLU", "loop + dot", f"{_IMAGE}, float16[1, 64, 14, 14] r",
        "a = Conv <pads = [1, 1, 1, 1]> (x, w, bias)  b = Add(a, r)  y = Relu(b)", {"w": (64, 64, 3, 3), "bias": (64,)},
    ),
    Pattern(
        "convolution, batch norm, ReLU6, quantise", "dot", _IMAGE,
        "a = Conv <pads = [1, 1, 1, 1]> (x, w)  b = BatchNormalization(a, s, t, m, v)  c = Clip(b, low, high)"
        "  y = QuantizeLinear(c, scale, zero)",
        {
            "w": (64, 64, 3, 3), "s": (64,), "t": (64,), "m": (64,), "v": np.ones(64, np.float16),
            "low": np.float16(0), "high": np.float16(6), **_SCALES,
        }, "uint8[?] y",
    ),
    Pattern(
        "SwiGLU of two products", "dot", _ROWS,
        "a = MatMul(x, w)  b = MatMul(x, v)  c = Sigmoid(a)  d = Mul(a, c)  y = Mul(d, b)",
        {"w": (128, 256), "v": (128, 256)},
    ),
    Pattern(
        "GEGLU of one product in halves, bias", "dot", _ROWS,
        "a = MatMul(x, w)  b = Add(a, bias)  c, d = Split <axis = -1, num_outputs = 2> (b)  e = Gelu(d)  y = Mul(c, e)",
        {"w": (128, 512), "bias": (512,)},
    ),
    Pattern(
        "queries, keys, values of grouped heads with biases, attention, projection", "dot + attention + dot",
        "float16[2, 64, 128] x",
        f"{_heads('q', 8)}  {_heads('k', 2)}  {_heads('v', 2)}  o = Attention <is_causal = 1> (q, k, v)"
        "  t = Transpose <perm = [0, 2, 1, 3]> (o)  j = Reshape(t, joined)  y = MatMul(j, wo)",
        {**_QKV, **_SHAPES, "joined": np.array([0, 0, 128]), "wo": (128, 128)},
    ),
    Pattern(
        "Gemm layers between reshapes, one word, GELU", "dot + dot", "float16[1, 1, 128] x",
        "f = Reshape(x, flat)  a = Gemm(f, w, bias)  r = Reshape(a, whole)  g = Gelu(r)  h = Reshape(g, flat)"
        "  b = Gemm(h, v)  s = Reshape(b, whole)  y = Add(s, x)",
        {"w": (128, 256), "bias": (256,), "v": (256, 128), "flat": np.array([1, -1]), "whole": np.array([1, 1, -1])},
    ),
    Pattern(
        "keys and values of one product behind their caches", "dot + loop",
        "float16[1, 1, 128] x, float16[1, 4, 32, 16] pk, float16[1, 4, 32, 16] pv",
        "m = MatMul(x, w)  k, v = Split <axis = -1, num_outputs = 2> (m)  kr = Reshape(k, heads)"
        "  kt = Transpose <perm = [0, 2, 1, 3]> (kr)  y = Concat <axis = 2> (pk, kt)  vr = Reshape(v, heads)"
        "  vt = Transpose <perm = [0, 2, 1, 3]> (vr)  z = Concat <axis = 2> (pv, vt)",
        {"w": (128, 128), "heads": np.array([0, 0, 4, 16])}, "float16[?] y, float16[?] z",
    ),
    Pattern(
        "residual, layer norm, two products", "row + dot + dot", f"{_ROWS}, float16[64, 128] r",
        "a = Add(x, r)  b = LayerNormalization(a, g, t)  y = MatMul(b, w)  z = MatMul(b, v)",
        {"g": (128,), "t": (128,), "w": (128, 256), "v": (128, 64)}, "float16[?] y, float16[?] z",
    ),
    Pattern(
        "product, residual, layer norm, product, GELU", "dot + dot", f"{_ROWS}, float16[64, 128] r",
        "a = MatMul(x, w)  b = Add(a, r)  c = LayerNormalization(b, g, t)  d = MatMul(c, v)  y = Gelu(d)",
        {"w": (128, 128), "g": (128,), "t": (128,), "v": (128, 256)}, "float16[?] y",
    ),
    Pattern(
        "product, residual, RMS norm, product", "dot + dot", f"{_ROWS}, float16[64, 128] r",
        "a = MatMul(x, w)  b = Add(a, r)  c = RMSNormalization(b, g)  y = MatMul(c, v)",
        {"w": (128, 128), "g": (128,), "v": (128, 256)}, "float16[?] y",
    ),
    Pattern(
        "product, residual, layer norm, product, that norm as residual", "dot + dot", f"{_ROWS}, float16[64, 128] r",
        "a = MatMul(x, w)  b = Add(a, r)  c = LayerNormalization(b, g, t)  d = MatMul(c, v)  y = Add(d, c)",
        {"w": (128, 128), "g": (128,), "t": (128,), "v": (128, 128)}, "float16[?] y",
    ),
    Pattern(
        "transposed heads into a product", "dot", "float16[2, 4, 64, 32] x",
        "a = Transpose <perm = [0, 2, 1, 3]> (x)  b = Reshape(a, joined)  y = MatMul(b, w)",
        {"w": (128, 128), "joined": np.array([0, 0, 128])},
    ),
    Pattern("softmax of a product", "dot + row", _ROWS, "a = MatMul(x, w)  y = Softmax(a)", {"w": (128, 256)}),
    Pattern(
        "products side by side", "dot + dot", f"{_ROWS}, float16[64, 128] r",
        "a = MatMul(x, w)  b = MatMul(r, v)  y = Concat <axis = 1> (a, b)", {"w": (128, 256), "v": (128, 64)},
    ),
    Pattern(
        "enlarged and skipped channels side by side into a convolution", "dot + dot + loop + dot + row", _IMAGE,
        "t = Conv (x, v)  r = Relu(t)  a = Conv <strides = [2, 2]> (r, v)  b = Relu(a)"
        "  u = Resize <mode = \"nearest\"> (b, , factors)  c = Concat <axis = 1> (u, r)"
        "  d = Conv <pads = [1, 1, 1, 1]> (c, w)  e = GlobalAveragePool(d)  y = Relu(e)",
        {"v": (64, 64, 1, 1), "w": (64, 128, 3, 3), "factors": np.array([1, 1, 2, 2], np.float32)},
    ),
    Pattern(
        "half of the channels through a convolution with a residual, all side by side (C2f)",
        "dot + dot + dot + row", _IMAGE,
        "a = Conv (x, v)  r = Relu(a)  b, c = Split <axis = 1, num_outputs = 2> (r)"
        "  d = Conv <pads = [1, 1, 1, 1]> (c, w)  e = Relu(d)"
        "  f = Add(c, e)  g = Concat <axis = 1> (b, c, f)  h = Conv (g, u)  y = GlobalAveragePool(h)",
        {"v": (128, 64, 1, 1), "w": (64, 64, 3, 3), "u": (64, 192, 1, 1)},
    ),
    Pattern(
        "channels side by side into a convolution", "loop + dot",
        f"{_IMAGE}, float16[1, 64, 14, 14] r",
        "a = Concat <axis = 1> (x, r)  y = Conv <pads = [1, 1, 1, 1]> (a, w)", {"w": (64, 128, 3, 3)},
    ),
    Pattern(
        "group norm as PyTorch exports it, SiLU", "row", _IMAGE,
        "a = Reshape(x, groups)  b = InstanceNormalization(a, ones, zeros)  c = Reshape(b, whole)  d = Mul(c, g)"
        "  e = Add(d, t)  f = Sigmoid(e)  y = Mul(e, f)",
        {
            "groups": np.array([0, 8, -1]), "whole": np.array([1, 64, 14, 14]), "ones": np.ones(8, np.float16),
            "zeros": np.zeros(8, np.float16), "g": (64, 1, 1), "t": (64, 1, 1),
        },
    ),
    Pattern(
        "group norm, SiLU", "row", _IMAGE,
        "a = GroupNormalization <num_groups = 8> (x, g, t)  b = Sigmoid(a)  y = Mul(a, b)", {"g": (64,), "t": (64,)},
    ),
)  # fmt: skip


def kernels(pattern: Pattern, target: str = "sm_90a", precision: str = "f16") -> str:
    """The kernels of a pattern by kind, in the order of the calls."""
    compilation = Compilation(Options(target=target, precision=precision), pattern.model())
    run_pipeline(compilation, last="deduplicate-kernels")
    calls = re.findall(r"call @([a-z_]+)_\d+\(", str(compilation.unit.module))
    return " + ".join(calls)


@dataclass(frozen=True)
class Joined:
    """Launches of a model, those whose kernels concatenate, and the bytes that these write."""

    launches: int
    joining: int
    nbytes: int


def joined(model: onnx.ModelProto, target: str, precision: str) -> tuple[Joined, Joined]:
    """Before and after concatenations are written in place; sizes that are not known count as 1."""
    compilation = Compilation(Options(target=target, precision=precision), model)
    run_pipeline(compilation, last="round-quotients")
    before = _count(compilation)
    run_pipeline(compilation, first="concatenate-in-place", last="concatenate-in-place")
    return before, _count(compilation)


def _count(compilation: Compilation) -> Joined:
    launches = joining = nbytes = 0
    everything = functions(compilation.unit.module)
    for call in inner_operations(everything["main"]):
        if call.name != "func.call":
            continue
        kernel = everything[ir.FlatSymbolRefAttr(call.attributes["callee"]).value]
        launches += 1
        found = [own.results[0] for own in inner_operations(kernel) if own.name == "graph.concatenate"]
        joining += bool(found)
        for value in found:
            size = product(list(shape_of(value)))
            nbytes += size.evaluate(dict.fromkeys(size.symbols, 1)) * dtype(element_of(value)).bytes
    return Joined(launches, joining, nbytes)


def print_models(names: Sequence[str], target: str, precision: str) -> None:
    """The table of `--models`."""
    from tests.support.zoo import LARGE, MODELS

    table = Table("model", "launches", "of them concatenate", "bytes that these write")
    for name in names:
        before, after = joined({**MODELS, **LARGE}[name].prototype(), target, precision)
        pairs = zip(astuple(before), astuple(after), strict=True)
        table.add_row(name, *(f"{first} -> {last}" for first, last in pairs))
    Console(width=140).print(table)


def main() -> None:
    """Print the table."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--target", default="sm_90a")
    arguments.add_argument("--precision", default="f16")
    arguments.add_argument("--models", nargs="+", metavar="NAME", help="names of tests/support/zoo.py")
    options = arguments.parse_args()
    if options.models:
        print_models(options.models, options.target, options.precision)
        return
    table = Table("pattern", "operators", "kernels")
    for pattern in PATTERNS:
        found = kernels(pattern, options.target, options.precision)
        table.add_row(pattern.name, str(pattern.operators), found)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()

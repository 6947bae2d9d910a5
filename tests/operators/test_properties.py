"""Random shapes through models with free dimensions, against onnxruntime: one import serves every shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.frontend.building import model, run

from tilewright.compiler.frontend import import_model
from tilewright.passes.unit import Unit

Sizes = tuple[int, ...]
Draw = Callable[..., Any]
RNG = np.random.default_rng(5)
KERNEL = RNG.normal(size=(6, 4, 3, 3)).astype(np.float32)
DEPTHWISE = RNG.normal(size=(4, 1, 3, 2)).astype(np.float32)
TRANSPOSED = RNG.normal(size=(4, 3, 3, 3)).astype(np.float32)


@dataclass(frozen=True)
class Example:
    """A model, and the sizes of its inputs as functions of a few random numbers."""

    text: str
    shapes: Callable[[list[int]], dict[str, Sizes]]
    initializers: dict[str, Any]
    opset: int = 18


def image(sizes: list[int]) -> dict[str, Sizes]:
    return {"x": (sizes[0], 4, sizes[1] + 3, sizes[2] + 3)}


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


IMAGE = "m (float[n,4,h,w] x) => (float[a,b,c,d] y) "
EXAMPLES = {
    "broadcast": Example(
        "m (float[n,k] x, float[n,1] z) => (float[a,b] y) { t = Add(x, z) u = Mul(t, x) y = Max(u, z) }",
        lambda s: {"x": (s[0], s[1]), "z": (s[0], 1)},
        {},
    ),
    "matmul": Example(
        "m (float[n,m,k] x, float[k,p] z) => (float[a,b,c] y) { y = MatMul(x, z) }",
        lambda s: {"x": (s[0], s[1], s[2]), "z": (s[2], s[3])},
        {},
    ),
    "softmax": Example("m (float[n,k] x) => (float[a,b] y) { y = Softmax(x) }", lambda s: {"x": (s[0], s[1])}, {}),
    "normalise": Example(
        "m (float[n,k,8] x) => (float[a,b,c] y) { y = LayerNormalization(x, s, b) }",
        lambda s: {"x": (s[0], s[1], 8)},
        {"s": RNG.normal(size=8).astype(np.float32), "b": RNG.normal(size=8).astype(np.float32)},
    ),
    "reduce": Example(
        "m (float[n,k,l] x) => (float[a,b,c] y) { m = ReduceMean(x, a0) v = ReduceMax(x, a1) y = Add(m, v) }",
        lambda s: {"x": (s[0], s[1], s[2])},
        {"a0": ints(0, 2), "a1": ints(-1)},
    ),
    "convolution": Example(IMAGE + "{ y = Conv<strides=[2,1], pads=[1,0,1,2]>(x, w) }", image, {"w": KERNEL}),
    "same_upper": Example(IMAGE + '{ y = Conv<strides=[2,3], auto_pad="SAME_UPPER">(x, w) }', image, {"w": KERNEL}),
    "same_lower": Example(
        IMAGE + '{ y = MaxPool<kernel_shape=[2,3], strides=[2,2], auto_pad="SAME_LOWER">(x) }', image, {}
    ),
    "depthwise": Example(IMAGE + "{ y = Conv<group=4, dilations=[1,2]>(x, w) }", image, {"w": DEPTHWISE}),
    "transposed": Example(
        IMAGE + "{ y = ConvTranspose<strides=[2,2], pads=[1,0,1,1], output_padding=[1,0]>(x, w) }",
        image,
        {"w": TRANSPOSED},
    ),
    "ceil_pool": Example(IMAGE + "{ y = MaxPool<kernel_shape=[3,2], strides=[2,2], ceil_mode=1>(x) }", image, {}),
    "average": Example(
        IMAGE + "{ y = AveragePool<kernel_shape=[3,3], strides=[2,1], pads=[1,1,1,1], count_include_pad=1>(x) }",
        image,
        {},
    ),
    "resize_linear": Example(
        IMAGE + '{ y = Resize<mode="linear">(x, , s) }', image, {"s": np.array([1, 1, 2, 1.5], np.float32)}
    ),
    "resize_nearest": Example(
        IMAGE
        + '{ y = Resize<mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor">(x, , s) }',
        image,
        {"s": np.array([1, 1, 2, 3], np.float32)},
    ),
    "reflect": Example(IMAGE + '{ y = Pad<mode="reflect">(x, p) }', image, {"p": ints(0, 0, 1, 2, 0, 0, 2, 1)}),
    "crop_and_pad": Example(IMAGE + "{ y = Pad(x, p) }", image, {"p": ints(0, 1, -1, 2, 1, 0, 2, -2)}),
    "slice": Example(
        IMAGE + "{ y = Slice(x, b, e, a, s) }",
        image,
        {"b": ints(-1, 0), "e": ints(-(10**9), -1), "a": ints(2, 3), "s": ints(-2, 1)},
    ),
    "slice_past_the_ends": Example(
        IMAGE + "{ y = Slice(x, b, e, a, s) }",
        image,
        {"b": ints(0, -6), "e": ints(-6, 10**9), "a": ints(2, 3), "s": ints(1, 1)},
    ),
    "heads": Example(
        """m (float[n,k,12] x) => (float[a,b,c,d] y) {
            r = Reshape(x, heads) t = Transpose<perm=[0,2,1,3]>(r) u = Transpose<perm=[0,2,3,1]>(r) y =
            MatMul(t, u)
        }""",
        lambda s: {"x": (s[0], s[1], 12)},
        {"heads": ints(0, 0, 3, 4)},
    ),
    "concatenate": Example(
        "m (float[n,k] x, float[n,l] z) => (float[a,b] y) { c = Concat<axis=1>(x, z, x) y = CumSum(c, one) }",
        lambda s: {"x": (s[0], s[1]), "z": (s[0], s[2])},
        {"one": np.array(1, np.int64)},
    ),
    "gather": Example(
        "m (float[n,k] x) => (float[a,b,c] y) { y = Gather<axis=1>(x, i) }",
        lambda s: {"x": (s[0], s[1] + 2)},
        {"i": np.array([[0, -1], [1, 0]], np.int64)},
    ),
}


@cache
def prepared(name: str) -> tuple[Unit, onnxruntime.InferenceSession]:
    """Both sides, made once for all shapes."""
    example = EXAMPLES[name]
    source = model(example.text, opset=example.opset, **example.initializers)
    session = onnxruntime.InferenceSession(source.SerializeToString(), providers=["CPUExecutionProvider"])
    return import_model(source), session


@pytest.mark.parametrize("name", EXAMPLES)
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(sizes=st.lists(st.integers(1, 9), min_size=4, max_size=4), seed=st.integers(0, 1000))
def test_any_shape(name: str, sizes: list[int], seed: int) -> None:
    unit, session = prepared(name)
    generator = np.random.default_rng(seed)
    inputs = {
        key: generator.normal(size=shape).astype(np.float32) for key, shape in EXAMPLES[name].shapes(sizes).items()
    }
    (wanted,) = session.run(None, inputs)
    actual = run(unit, **inputs)["y"]
    assert actual.shape == wanted.shape
    # Sums of at most 36 f32 products in another order than onnxruntime's.
    np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-5)

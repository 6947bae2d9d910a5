"""Convolutions as implicit GEMMs against a reference that loops over taps, in both layouts, on the emulator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlir import ir
from tests.passes.dot import references
from tests.passes.dot.harness import Kernel, compile_kernel

from tilewright.dialects import graph_builder as graph
from tilewright.dialects.tensors import shape_of
from tilewright.runtime.symbolic import Expression, expression

NUMPY: dict[str, Any] = {"f32": np.float32, "f16": np.float16}


@dataclass(frozen=True)
class Window:
    """Attributes of a convolution; `sizes` are those of the input."""

    sizes: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    groups: int = 1
    channels: int = 3  # of a group
    outputs: int = 4  # of a group
    images: int = 2
    channels_last: bool = False
    dynamic: bool = False


def _output(window: Window, transposed: bool, sizes: tuple[Expression, ...]) -> list[Expression]:
    """Spatial sizes of the result."""
    rank, result = len(sizes), []
    for axis, size in enumerate(sizes):
        reach = (window.kernel[axis] - 1) * window.dilations[axis] + 1
        padding = window.pads[axis] + window.pads[rank + axis]
        if transposed:
            result.append((size - 1) * window.strides[axis] + reach - padding)
        else:
            result.append((size + padding - reach) // window.strides[axis] + 1)
    return result


def verify(
    window: Window,
    element: str = "f32",
    transposed: bool = False,
    prologue: bool = False,
    target: str = "sm_80",
) -> Kernel | None:
    """Compile, run and compare; the kernel, or None when the result would have no pixels."""
    generator = np.random.default_rng(0)
    rank = len(window.sizes)
    static = [size.evaluate({}) for size in _output(window, transposed, tuple(map(expression, window.sizes)))]
    if min(static) <= 0:
        return None
    channels, outputs = window.groups * window.channels, window.groups * window.outputs
    weight_shape = (channels, window.outputs) if transposed else (outputs, window.channels)
    tensor = generator.standard_normal((window.images, channels, *window.sizes)).astype(NUMPY[element])
    weight = generator.standard_normal((*weight_shape, *window.kernel)).astype(NUMPY[element])
    options: dict[str, Any] = {
        "groups": window.groups,
        "strides": window.strides,
        "pads": window.pads,
        "dilations": window.dilations,
    }
    source = np.maximum(tensor, 0) + tensor.dtype.type(1) if prologue else tensor
    if transposed:
        expected = references.convolution_transpose(source, weight, output=static, **options)
    else:
        expected = references.convolution(source, weight, **options)
    if window.channels_last:
        tensor, expected = np.moveaxis(tensor, 1, -1), np.moveaxis(expected, 1, -1)
        weight = np.moveaxis(weight, (0, 1), (-2, -1) if transposed else (-1, -2))

    def make(a: ir.Value, b: ir.Value) -> ir.Value:
        shape = shape_of(a)
        spatial = _output(window, transposed, shape[1:-1] if window.channels_last else shape[2:])
        result = [shape[0], *spatial, outputs] if window.channels_last else [shape[0], outputs, *spatial]
        if prologue:
            a = graph.map([a], lambda x: x.maximum(0.0) + 1.0)
        name = "convolution_transpose" if transposed else "convolution"
        layout = "channels_last" if window.channels_last else "channels_first"
        attributes = {
            "groups": window.groups,
            "strides": list(window.strides),
            "pads": graph.expressions(window.pads),
            "dilations": list(window.dilations),
            "layout": layout,
        }
        return graph.build(name, result, "f32", [a, b], **attributes)

    names: list[int | str] = list(tensor.shape)
    symbols = {}
    if window.dynamic:
        for axis in (0, 1 if window.channels_last else 2):
            names[axis] = f"s{axis}"
            symbols[f"s{axis}"] = tensor.shape[axis]
    kernel = compile_kernel([(names, element), (list(weight.shape), element)], make, target)
    (found,) = kernel.run([np.ascontiguousarray(tensor), np.ascontiguousarray(weight)], **symbols)
    # Products and the reference are exact to f64; a few hundred f32 additions are left.
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found / scale, expected / scale, rtol=0, atol=3e-6)
    assert rank == len(window.kernel)
    return kernel


@st.composite
def windows(draw: st.DrawFn) -> Window:
    """Windows of one to three dimensions."""
    rank = draw(st.sampled_from([1, 2, 2, 2, 3]))

    def each(values: list[int], count: int = rank) -> tuple[int, ...]:
        return tuple(draw(st.sampled_from(values)) for _ in range(count))

    return Window(
        each([5, 6, 9]),
        each([1, 2, 3]),
        each([1, 1, 2]),
        each([1, 1, 2]),
        each([0, 1], 2 * rank),
        draw(st.sampled_from([1, 1, 2, 4])),
        draw(st.sampled_from([1, 3, 4, 8])),
        draw(st.sampled_from([1, 4, 5, 16])),
        draw(st.sampled_from([1, 2])),
        draw(st.booleans()),
        draw(st.booleans()),
    )


@settings(max_examples=9, deadline=None, derandomize=True)
@given(windows(), st.booleans())
def test_any_window(window: Window, prologue: bool) -> None:
    verify(window, prologue=prologue)


@settings(max_examples=6, deadline=None, derandomize=True)
@given(windows(), st.booleans())
def test_any_transposed_window(window: Window, prologue: bool) -> None:
    verify(window, transposed=True, prologue=prologue)


@pytest.mark.parametrize("kernel,pads", [(2, (0, 0, 0, 0)), (4, (1, 1, 1, 1)), (3, (0, 0, 1, 1)), (5, (1, 1, 2, 2))])
def test_phases_of_transposed_convolutions(kernel: int, pads: tuple[int, ...]) -> None:
    """The result is twice the input: four interleaved phases, each with its own taps."""
    for last in (False, True):
        window = Window((5, 6), (kernel, kernel), (2, 2), (1, 1), pads, 2, 4, 8, 2, last, dynamic=last)
        verify(window, transposed=True)


@pytest.mark.parametrize("channels_last", [False, True])
def test_tensor_cores(channels_last: bool) -> None:
    window = Window((9, 8), (3, 3), (1, 1), (1, 1), (1, 1, 1, 1), 1, 16, 24, 2, channels_last)
    verify(window, "f16")


def test_pointwise_convolution_reads_whole_vectors() -> None:
    """A 1x1 convolution in channels-last is a plain matmul: 16-byte copies of both operands."""

    def make(a: ir.Value, b: ir.Value) -> ir.Value:
        attributes = {"groups": 1, "strides": [1, 1], "dilations": [1, 1], "layout": "channels_last"}
        shape = [*shape_of(a)[:3], 32]
        return graph.build("convolution", shape, "f32", [a, b], pads=graph.expressions([0] * 4), **attributes)

    kernel = compile_kernel([(("n", 14, "w", 16), "f32"), ((1, 1, 16, 32), "f32")], make)
    assert kernel.simple_text.count("vector = 4") == 2
    assert "arith.divui" not in kernel.simple_text.split("scf.for")[1].split("tile.dot")[0]

"""Reductions, and what is made of them: softmax, arg-max, running sums.

In: a tensor and axes (an attribute in older opsets, an input since). Out: graph.reduce with maps before and
after. Narrow floats are reduced in f32.
"""

from __future__ import annotations

from collections.abc import Callable

from mlir import ir

from ....dialects import graph_builder as build
from ....dialects.scalar import Scalar
from ..node import Node
from ..registry import onnx_operator
from ..tensor import Tensor

Step = Callable[[Scalar], Scalar]

# name -> (before, kind, after); None leaves out the map
REDUCTIONS: dict[str, tuple[Step | None, str, Step | None]] = {
    "ReduceSum": (None, "sum", None),
    "ReduceProd": (None, "product", None),
    "ReduceMax": (None, "max", None),
    "ReduceMin": (None, "min", None),
    "ReduceL1": (Scalar.abs, "sum", None),
    "ReduceL2": (lambda x: x * x, "sum", Scalar.sqrt),
    "ReduceSumSquare": (lambda x: x * x, "sum", None),
    "ReduceLogSum": (None, "sum", Scalar.log),
}


def wide(dtype: str) -> str:
    """The dtype to compute in: f32 for narrower floats."""
    return "f32" if dtype in ("f16", "bf16") else dtype


def widened(node: Node, tensor: Tensor) -> ir.Value:
    """The tensor in its wide dtype."""
    return build.cast(tensor.value, wide(tensor.dtype))


def reduction_axes(node: Node) -> list[int] | None:
    """Sorted axes; None when the node does nothing."""
    axes = node.axes_input(1)
    if not axes:
        if axes is not None and node.get("noop_with_empty_axes", 0):
            return None
        if axes is None and node.get("noop_with_empty_axes", 0) and not node.has(1):
            return None
        return list(range(node.rank(0)))
    return node.axes(axes, node.rank(0))


def finish(node: Node, value: ir.Value, axes: list[int], dtype: str) -> ir.Value:
    """Back to the input's dtype, without the reduced dimensions when `keepdims` is 0."""
    value = build.cast(value, dtype)
    return value if node.get("keepdims", 1) else build.remove_dimensions(value, axes)


def _register(name: str, before: Step | None, kind: str, after: Step | None) -> None:
    @onnx_operator(name)
    def import_reduction(node: Node) -> ir.Value | Tensor:
        axes = reduction_axes(node)
        dtype = node.dtype(0)
        if axes is None and before is None and after is None:
            return node.input(0)
        target = "ui8" if dtype == "i1" else wide(dtype)
        value = build.cast(node.value(0), target)
        value = node.map([value], before) if before else value
        value = build.reduce(value, kind, axes or [])
        if after is not None:
            floating = target if target in ("f32", "f64") else "f32"
            value = node.map([value], lambda x: after(x.cast(floating)))
        return finish(node, value, axes or [], dtype) if axes is not None else build.cast(value, dtype)


for _name, (_before, _kind, _after) in REDUCTIONS.items():
    _register(_name, _before, _kind, _after)


@onnx_operator("ReduceMean")
def reduce_mean(node: Node) -> ir.Value | Tensor:
    axes = reduction_axes(node)
    if axes is None:
        return node.input(0)
    return finish(node, build.mean(widened(node, node.input(0)), axes), axes, node.dtype(0))


@onnx_operator("ReduceLogSumExp")
def reduce_log_sum_exp(node: Node) -> ir.Value:
    """log(sum(exp(x))) shifted by the largest element, which is left out where it is infinite."""
    axes = reduction_axes(node)
    dtype = node.dtype(0)
    floating = wide(dtype) if dtype in ("f16", "bf16", "f32", "f64") else "f32"
    value = build.cast(node.value(0), floating)
    if axes is None:
        return node.input(0).value
    largest = node.map([build.reduce(value, "max", axes)], lambda m: m.is_infinite().select(0.0, m))
    total = build.reduce(node.map([value, largest], lambda x, m: (x - m).exp()), "sum", axes)
    return finish(node, node.map([total, largest], lambda s, m: s.log() + m), axes, dtype)


@onnx_operator("GlobalAveragePool")
def global_average_pool(node: Node) -> ir.Value:
    axes = list(range(2, node.rank(0)))
    return build.cast(build.mean(widened(node, node.input(0)), axes), node.dtype(0))


@onnx_operator("GlobalMaxPool")
def global_max_pool(node: Node) -> ir.Value:
    return build.reduce(node.value(0), "max", list(range(2, node.rank(0))))


@onnx_operator("GlobalLpPool")
def global_lp_pool(node: Node) -> ir.Value:
    power = node.get("p", 2)
    return lp_norm(node, node.input(0), list(range(2, node.rank(0))), power)


def lp_norm(node: Node, tensor: Tensor, axes: list[int], power: float) -> ir.Value:
    """(sum |x|^p)^(1/p) over `axes`, which stay as size 1."""
    total = build.reduce(node.map([widened(node, tensor)], lambda x: x.abs().power(power)), "sum", axes)
    return build.cast(node.map([total], lambda x: x.power(1.0 / power)), tensor.dtype)


# Softmax and its kind ---------------------------------------------------------------------------------------
def _softmax_axes(node: Node) -> list[int]:
    """Since opset 13 one axis; before, everything from `axis` on."""
    axis = node.axis(node.get("axis", -1 if node.version >= 13 else 1), node.rank(0))
    return [axis] if node.version >= 13 else list(range(axis, node.rank(0)))


def softmax_of(node: Node, value: ir.Value, axes: list[int], dtype: str) -> ir.Value:
    """exp(x - max) / sum(exp(x - max)) over `axes`, given in the wide dtype."""
    largest = build.reduce(value, "max", axes)
    powers = node.map([value, largest], lambda x, m: (x - m).exp())
    return node.map([powers, build.reduce(powers, "sum", axes)], lambda e, s: e / s, element=dtype)


@onnx_operator("Softmax")
def softmax(node: Node) -> ir.Value:
    return softmax_of(node, widened(node, node.input(0)), _softmax_axes(node), node.dtype(0))


@onnx_operator("LogSoftmax")
def log_softmax(node: Node) -> ir.Value:
    axes, value = _softmax_axes(node), widened(node, node.input(0))
    largest = build.reduce(value, "max", axes)
    total = build.reduce(node.map([value, largest], lambda x, m: (x - m).exp()), "sum", axes)
    return node.map([value, largest, total], lambda x, m, s: x - m - s.log(), element=node.dtype(0))


@onnx_operator("Hardmax")
def hardmax(node: Node) -> ir.Value:
    """1 at the first of the largest elements."""
    axes = _softmax_axes(node)
    shape = node.shape(0)
    flat = node.input(0)
    if len(axes) != 1:
        rows, columns = build.product(shape[: axes[0]]), build.product(shape[axes[0] :])
        flat = node.reshaped(flat, [rows, columns])
    axis = axes[0] if len(axes) == 1 else 1
    best = build.arg_reduce(flat.value, "max", axis)
    dtype = node.dtype(0)
    result = node.map([best], lambda b: b.eq(build.index(axis)).cast(dtype), shape=flat.shape)
    return build.reshape(result, shape)


@onnx_operator("ArgMax", "ArgMin")
def arg_extremum(node: Node) -> ir.Value:
    axis = node.axis(node.get("axis", 0), node.rank(0))
    kind = "max" if node.operator == "ArgMax" else "min"
    value = build.arg_reduce(node.value(0), kind, axis, bool(node.get("select_last_index", 0)))
    return value if node.get("keepdims", 1) else build.remove_dimensions(value, [axis])

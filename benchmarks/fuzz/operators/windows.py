"""Operators that slide windows over images: convolutions, pooling, resizing, sampling.

In: a graph. Out: one more node. One to three spatial dimensions; sizes of results are the formulas of the ONNX text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tilewright.runtime.symbolic import Expression, expression

from ..graph_builder import SINGLES, GraphBuilder, Shape, Unfit, Value
from .registry import operator


@dataclass(frozen=True)
class Window:
    """Kernel, strides, dilations and paddings of the spatial dimensions, begins before ends."""

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    begins: list[int]
    ends: list[int]

    @property
    def attributes(self) -> dict[str, Any]:
        """As ONNX writes them, without the kernel."""
        return {"strides": self.strides, "dilations": self.dilations, "pads": self.begins + self.ends}

    def result(self, graph: GraphBuilder, sizes: Shape, ceil: bool = False) -> list[Expression]:
        """Sizes of what comes out. Raises Unfit where the window does not fit."""
        found = []
        for axis, size in enumerate(sizes):
            covered = self.dilations[axis] * (self.kernel[axis] - 1) + 1
            room = size + self.begins[axis] + self.ends[axis] - covered
            if graph.smallest(room) < 0:
                raise Unfit
            stride = self.strides[axis]
            found.append((room.ceil_divide(stride) if ceil else room // stride) + 1)
        return found


def _window(graph: GraphBuilder, rank: int, pads_below_kernel: bool = False) -> Window:
    kernel = [graph.rng.choice((1, 1, 2, 3, 3)) for _ in range(rank)]
    strides = [graph.rng.choice((1, 1, 2)) for _ in range(rank)]
    dilations = [graph.rng.choice((1, 1, 1, 2)) for _ in range(rank)]
    most = [size - 1 if pads_below_kernel else 2 for size in kernel]
    begins, ends = ([graph.rng.choice((0, min(1, most[axis]), most[axis])) for axis in range(rank)] for _ in range(2))
    return Window(kernel, strides, dilations, begins, ends)


def _image(graph: GraphBuilder, types: tuple[str, ...] = SINGLES, ranks: tuple[int, ...] = (3, 4, 4, 5)) -> Value:
    """[n, c, ...] with a static number of channels, from the graph or fresh."""
    found = [
        value
        for value in graph.visible()
        if value.known
        and value.dtype in types
        and value.rank in ranks
        and value.shape[1].as_constant() is not None
        and value.bound <= 50
        and all(graph.smallest(size) > 0 for size in value.shape)
    ]
    if found and graph.rng.random() < 0.6:
        return graph.rng.choice(found)
    spatial = [graph.rng.choice((4, 5, 8, 9)) for _ in range(graph.rng.choice(ranks) - 2)]
    shape = [graph.dimension(), expression(graph.rng.choice((1, 2, 3, 4, 8, 16))), *map(expression, spatial)]
    symbols = list(graph.bindings[0])
    if symbols and graph.rng.random() < 0.5:
        shape[2] = Expression.symbol(graph.rng.choice(symbols))
    while graph.elements(shape) > 1500:
        axis = graph.rng.choice([0, *range(2, len(shape))])
        shape[axis] = expression(graph.rng.choice((1, 3, 4)))
    return graph.fresh(graph.rng.choice(types), tuple(shape))


@operator("Conv", weight=3)
def convolution(graph: GraphBuilder) -> None:
    value = _image(graph)
    channels = value.extent(1)
    group = graph.rng.choice([number for number in (1, 1, 1, 2, channels) if channels % number == 0])
    features = group * graph.rng.choice((1, 2, 3, 4, 8))
    window = _window(graph, value.rank - 2)
    spatial = window.result(graph, value.shape[2:])
    weights = graph.fresh(
        value.dtype, (expression(features), expression(channels // group), *map(expression, window.kernel)), -1, 1
    )
    inputs = [value, weights]
    if graph.rng.random() < 0.5:
        inputs.append(graph.fresh(value.dtype, (expression(features),)))
    terms = channels // group * graph.elements([expression(size) for size in window.kernel])
    shape = (value.shape[0], expression(features), *spatial)
    graph.one("Conv", inputs, value.dtype, shape, terms * value.bound + 2, group=group, **window.attributes)


@operator("ConvTranspose", weight=1)
def transposed_convolution(graph: GraphBuilder) -> None:
    value = _image(graph, ("float32",), (3, 4))
    channels, features = value.extent(1), graph.rng.choice((1, 2, 4))
    group = graph.rng.choice([number for number in (1, 1, 2) if channels % number == 0])
    window = _window(graph, value.rank - 2, pads_below_kernel=True)
    spatial = []
    for axis, size in enumerate(value.shape[2:]):
        covered = window.dilations[axis] * (window.kernel[axis] - 1) + 1
        spatial.append((size - 1) * window.strides[axis] + covered - window.begins[axis] - window.ends[axis])
        if graph.smallest(spatial[-1]) < 1:
            raise Unfit
    weights = graph.fresh(
        "float32", (expression(channels), expression(features), *map(expression, window.kernel)), -1, 1
    )
    shape = (value.shape[0], expression(features * group), *spatial)
    bound = value.bound * channels * 9
    graph.one("ConvTranspose", [value, weights], value.dtype, shape, bound, group=group, **window.attributes)


@operator("MaxPool", weight=2)
def max_pool(graph: GraphBuilder) -> None:
    value = _image(graph, ("float32", "float32", "float16", "uint8"))
    window = _window(graph, value.rank - 2, pads_below_kernel=True)
    spatial = window.result(graph, value.shape[2:])
    shape = (*value.shape[:2], *spatial)
    outputs = [Value("", value.dtype, shape, value.bound)]
    if value.dtype == "float32" and graph.rng.random() < 0.2:
        outputs.append(Value("", "int64", shape, 4096.0))
    graph.node("MaxPool", [value], outputs, kernel_shape=window.kernel, **window.attributes)


@operator("AveragePool", weight=1.5, since=19)
def average_pool(graph: GraphBuilder) -> None:
    value = _image(graph, ("float32",))
    window = _window(graph, value.rank - 2, pads_below_kernel=True)
    spatial = window.result(graph, value.shape[2:])
    flag = graph.rng.randint(0, 1)
    graph.one(
        "AveragePool",
        [value],
        value.dtype,
        (*value.shape[:2], *spatial),
        value.bound,
        kernel_shape=window.kernel,
        count_include_pad=flag,
        **window.attributes,
    )


@operator("GlobalPool", weight=1)
def global_pool(graph: GraphBuilder) -> None:
    value = _image(graph)
    name = graph.rng.choice(("GlobalAveragePool", "GlobalMaxPool"))
    shape = (*value.shape[:2], *(expression(1) for _ in value.shape[2:]))
    graph.one(name, [value], value.dtype, shape, value.bound)


@operator("LpPool", weight=0.5, since=18)
def lp_pool(graph: GraphBuilder) -> None:
    value = _image(graph, ("float32",), (4,))
    window = _window(graph, 2, pads_below_kernel=True)
    spatial = window.result(graph, value.shape[2:])
    graph.one(
        "LpPool",
        [value],
        value.dtype,
        (*value.shape[:2], *spatial),
        value.bound * 9,
        kernel_shape=window.kernel,
        p=graph.rng.randint(1, 2),
        **window.attributes,
    )


@operator("Resize", weight=1.5)
def resize(graph: GraphBuilder) -> None:
    value = _image(graph, ("float32",), (4,))
    factors = [graph.rng.choice((1, 2, 3)) for _ in range(2)]
    mode = graph.rng.choice(("nearest", "linear", "cubic"))
    coordinates = graph.rng.choice(("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"))
    attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": coordinates}
    if mode == "nearest":
        attributes["nearest_mode"] = graph.rng.choice(("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"))
    scales = graph.constant([1, 1, *factors], "float32")
    shape = (*value.shape[:2], *(size * factor for size, factor in zip(value.shape[2:], factors, strict=True)))
    graph.one("Resize", [value, "", scales], value.dtype, shape, value.bound * 2, **attributes)


@operator("GridSample", weight=0.7, since=20)
def grid_sample(graph: GraphBuilder) -> None:
    value = _image(graph, ("float32",), (4,))
    height, width = graph.dimension(), graph.dimension()
    grid = graph.fresh("float32", (value.shape[0], height, width, expression(2)), -1.2, 1.2)
    attributes = {
        "mode": graph.rng.choice(("linear", "nearest")),
        "padding_mode": graph.rng.choice(("zeros", "border", "reflection")),
        "align_corners": graph.rng.randint(0, 1),
    }
    graph.one("GridSample", [value, grid], value.dtype, (*value.shape[:2], height, width), value.bound, **attributes)

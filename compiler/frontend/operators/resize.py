"""Resize and Upsample, in all modes, as maps that read at computed positions.

In: an image, and scales or sizes. Out: one map: each output element is a weighted sum of the input elements
around its source position. Formulas: the ONNX specification of Resize.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from mlir import ir

from ....dialects import graph_builder as build
from ....dialects.scalar import Scalar
from ....runtime.errors import ModelError
from ....runtime.symbolic import Expression
from ..errors import Unsupported
from ..node import Node
from ..registry import onnx_operator
from ..tensor import Ratio, Tensor
from .reduction import wide

MODES = ("nearest", "linear", "cubic")
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_crop_and_resize",
    "tf_half_pixel_for_nn",
)
ANTIALIAS_TAPS = 64  # more source elements an output element than this would not make a sensible kernel


@dataclass(frozen=True)
class Axis:
    """One resized dimension. `scale` is output/input: a literal, or None for output size over input size."""

    number: int
    size: Expression
    output: Expression
    scale: float | None
    region: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class Options:
    """Attributes of the node."""

    mode: str
    coordinates: str
    rounding: str
    cubic: float
    exclude_outside: bool
    extrapolation: float
    antialias: bool


@dataclass(frozen=True)
class Tap:
    """One source element along an axis: where it is and with what weight."""

    position: Scalar
    weight: Scalar | None  # None: 1


@onnx_operator("Resize", "Upsample")
def resize(node: Node) -> ir.Value | Tensor:
    options = _options(node)
    x = node.input(0)
    axes = _axes(node, x, options)
    resized = [axis for axis in axes if axis.output != axis.size or options.coordinates == "tf_crop_and_resize"]
    if not resized:
        return x
    shape = list(x.shape)
    for axis in axes:
        shape[axis.number] = axis.output
    return _sample(node, x, resized, shape, options)


def _options(node: Node) -> Options:
    mode = node.get("mode", "nearest")
    mode = {"bilinear": "linear"}.get(mode, mode)
    old = node.operator == "Upsample" or node.version < 11
    coordinates = "asymmetric" if old else node.get("coordinate_transformation_mode", "half_pixel")
    rounding = "floor" if old else node.get("nearest_mode", "round_prefer_floor")
    for what, value, known in (
        ("mode", mode, MODES),
        ("coordinate_transformation_mode", coordinates, COORDINATES),
        ("nearest_mode", rounding, ROUNDINGS),
    ):
        if value not in known:
            raise Unsupported(f"{node.operator} {what} '{value}'", ", ".join(known))
    return Options(
        mode,
        coordinates,
        rounding,
        node.get("cubic_coeff_a", -0.75),
        bool(node.get("exclude_outside", 0)),
        node.get("extrapolation_value", 0.0),
        bool(node.get("antialias", 0)) and mode != "nearest",
    )


# Sizes ------------------------------------------------------------------------------------------------------
def _axes(node: Node, x: Tensor, options: Options) -> list[Axis]:
    numbers = node.get("axes")
    numbers = list(range(x.rank)) if numbers is None else [node.axis(item, x.rank) for item in numbers]
    sizes = _given(node, 3) if node.operator == "Resize" and node.version >= 11 else None
    if sizes is not None:
        axes = _from_sizes(node, x, numbers, [_integer(item) for item in sizes])
    else:
        axes = _from_scales(node, x, numbers)
    if options.coordinates == "tf_crop_and_resize":
        region = node.constant(1)
        if region is None:
            raise Unsupported("Resize with a computed roi", "a constant roi", node.input(1).sources)
        bounds = [float(item) for item in region.ravel()]
        half = len(bounds) // 2
        axes = [
            Axis(axis.number, axis.size, axis.output, axis.scale, (bounds[place], bounds[half + place]))
            for place, axis in enumerate(axes)
        ]
    return axes


def _given(node: Node, position: int) -> list[Expression | Ratio] | None:
    """An optional input's elements; None when it is absent or empty."""
    tensor = node.optional(position)
    if tensor is None or tensor.size == 0:
        return None
    known = tensor.known()
    if known is None:
        if tensor.is_constant:
            return [
                Ratio(Expression.constant(f.numerator), f.denominator)
                for f in map(Fraction, tensor.array().ravel().tolist())
            ]
        sources = frozenset().union(*(item.sources for item in node.inputs[1:] if item is not None))
        what = f"{node.operator} with sizes or scales computed from data"
        raise Unsupported(what, "constants, or sizes from shapes", sources)
    return list(known.ravel())


def _integer(item: Expression | Ratio) -> Expression:
    if isinstance(item, Ratio):
        raise ModelError("Resize with sizes that are not integers")
    return item


def _from_sizes(node: Node, x: Tensor, numbers: list[int], sizes: list[Expression]) -> list[Axis]:
    policy = node.get("keep_aspect_ratio_policy", "stretch")
    if len(sizes) != len(numbers):
        raise ModelError(f"Resize with {len(sizes)} sizes for {len(numbers)} dimensions")
    if policy == "stretch":
        return [_axis(number, x.shape[number], size) for number, size in zip(numbers, sizes, strict=True)]
    known = [(size.as_constant(), x.shape[number].as_constant()) for number, size in zip(numbers, sizes, strict=True)]
    ratios = [Fraction(size, old) for size, old in known if size is not None and old]
    if len(ratios) != len(known):
        raise Unsupported(f"Resize with keep_aspect_ratio_policy '{policy}' and dynamic sizes", "static sizes")
    scale = min(ratios) if policy == "not_larger" else max(ratios)
    axes = []
    for number in numbers:
        size = x.shape[number].as_constant() or 0
        output = int(Fraction(size) * scale + Fraction(1, 2))
        axes.append(Axis(number, x.shape[number], Expression.constant(output), float(scale)))
    return axes


def _axis(number: int, size: Expression, output: Expression) -> Axis:
    old, new = size.as_constant(), output.as_constant()
    scale = new / old if old and new is not None else None
    if scale is None:
        factor = output.exact_divide(size)
        constant = factor.as_constant() if factor is not None else None
        scale = float(constant) if constant is not None else None
    return Axis(number, size, output, scale)


def _from_scales(node: Node, x: Tensor, numbers: list[int]) -> list[Axis]:
    if node.get("scales") is not None:
        scales = [Fraction(float(item)) for item in node.get("scales")]
    elif node.get("width_scale") is not None:  # opset 1
        scales = [Fraction(1), Fraction(1), Fraction(node.get("height_scale")), Fraction(node.get("width_scale"))]
    else:
        position = 2 if node.operator == "Resize" and node.version >= 11 else 1
        given = _given(node, position)
        if given is None:
            raise ModelError(f"{node.operator} needs scales or sizes")
        return [_ratio_axis(number, x.shape[number], item) for number, item in zip(numbers, given, strict=True)]
    return [_scaled_axis(number, x.shape[number], scale) for number, scale in zip(numbers, scales, strict=True)]


def _scaled_axis(number: int, size: Expression, scale: Fraction) -> Axis:
    """floor(size * scale)"""
    return Axis(number, size, size * scale.numerator // scale.denominator, float(scale))


def _ratio_axis(number: int, size: Expression, item: Expression | Ratio) -> Axis:
    ratio = item if isinstance(item, Ratio) else Ratio(item)
    constant = ratio.numerator.as_constant()
    if constant is not None:
        return _scaled_axis(number, size, Fraction(constant, ratio.denominator))
    return _axis(number, size, size * ratio.numerator // ratio.denominator)


# Sampling ---------------------------------------------------------------------------------------------------
def _sample(node: Node, x: Tensor, axes: list[Axis], shape: list[Expression], options: Options) -> ir.Value:
    table, dtype = x.value, x.dtype
    exact = options.mode == "nearest"

    def body() -> Scalar:
        outside = Scalar.constant(0, "i1")
        taps: list[tuple[int, list[Tap]]] = []
        for axis in axes:
            found, beyond = _taps(axis, options)
            taps.append((axis.number, found))
            outside = outside | beyond
        places = [build.index(number) for number in range(x.rank)]
        result = _weighted(table, places, taps, dtype if exact else _wide(dtype))
        if outside.integer is None:
            result = outside.select(options.extrapolation, result)
        return (result.round() if not exact and dtype not in ("f16", "bf16", "f32", "f64") else result).cast(dtype)

    return node.map([], body, shape=shape)


def _wide(dtype: str) -> str:
    return wide(dtype) if dtype in ("f16", "bf16", "f32", "f64") else "f32"


def _weighted(table: ir.Value, places: list[Scalar], taps: list[tuple[int, list[Tap]]], dtype: str) -> Scalar:
    """The sum over the taps of the first axis of the weighted sums over the remaining axes."""
    if not taps:
        return build.element_at(table, places).cast(dtype)
    (number, candidates), *rest = taps
    total: Scalar | None = None
    for tap in candidates:
        value = _weighted(table, [*places[:number], tap.position, *places[number + 1 :]], rest, dtype)
        value = value if tap.weight is None else value * tap.weight.cast(dtype)
        total = value if total is None else total + value
    assert total is not None
    return total


def _taps(axis: Axis, options: Options) -> tuple[list[Tap], Scalar]:
    """Source elements along one axis, and whether the position lies outside the tensor (tf_crop_and_resize
    only).
    """
    source = _source(axis, options.coordinates)
    size = build.dimension(axis.size)
    outside = Scalar.constant(0, "i1")
    if options.coordinates == "tf_crop_and_resize":
        outside = source.lt(0.0) | source.gt((size - 1).cast("f32"))
    if options.mode == "nearest":
        position = _rounded(source, options.rounding).cast("i64")
        return [Tap(position.clip(0, size - 1), None)], outside
    if options.antialias and axis.scale is None:
        raise Unsupported("Resize with antialias and dynamic scales", "static scales")
    if options.antialias and (axis.scale or 1.0) < 1.0:
        return _filtered(axis, source, size, options), outside
    first = source.floor()
    fraction = source - first
    weights = [1.0 - fraction, fraction] if options.mode == "linear" else _cubic(fraction, options.cubic)
    start = first.cast("i64") - (0 if options.mode == "linear" else 1)
    return _normalised(start, weights, size, options.exclude_outside), outside


def _normalised(start: Scalar, weights: list[Scalar], size: Scalar, exclude: bool) -> list[Tap]:
    """Taps from `start` on. Elements outside repeat the edge, or are left out and the rest is scaled up."""
    positions = [start + number for number in range(len(weights))]
    if exclude:
        inside = [position.ge(0) & position.lt(size) for position in positions]
        weights = [valid.select(weight, 0.0) for valid, weight in zip(inside, weights, strict=True)]
        total = weights[0]
        for weight in weights[1:]:
            total = total + weight
        weights = [weight / total for weight in weights]
    return [Tap(p.clip(0, size - 1), w) for p, w in zip(positions, weights, strict=True)]


def _filtered(axis: Axis, source: Scalar, size: Scalar, options: Options) -> list[Tap]:
    """Antialiasing: the filter is stretched by 1/scale and its weights are normalised."""
    scale = axis.scale
    assert scale is not None
    support = (1.0 if options.mode == "linear" else 2.0) / scale
    count = int(2 * support) + 2
    if count > ANTIALIAS_TAPS:
        raise Unsupported(f"Resize with antialias and scale {scale:g}", f"filters of at most {ANTIALIAS_TAPS} elements")
    start = (source - support).floor().cast("i64") + 1
    weights = []
    for number in range(count):
        distance = ((start + number).cast("f32") - source).abs() * scale
        weights.append(_hat(distance) if options.mode == "linear" else _cubic_weight(distance, options.cubic))
    total = weights[0]
    for weight in weights[1:]:
        total = total + weight
    return _normalised(start, [weight / total for weight in weights], size, options.exclude_outside)


def _hat(distance: Scalar) -> Scalar:
    return (1.0 - distance).maximum(0.0)


def _cubic_weight(distance: Scalar, a: float) -> Scalar:
    """The cubic convolution kernel of Keys."""
    d = distance
    near = ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
    far = ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a
    return d.le(1.0).select(near, d.lt(2.0).select(far, 0.0))


def _cubic(fraction: Scalar, a: float) -> list[Scalar]:
    """Weights of the elements at -1, 0, 1, 2 from the position rounded down."""
    distances = [fraction + 1.0, fraction, 1.0 - fraction, 2.0 - fraction]
    return [_cubic_weight(distance, a) for distance in distances]


def _rounded(source: Scalar, mode: str) -> Scalar:
    rules: dict[str, Callable[[Scalar], Scalar]] = {
        "floor": Scalar.floor,
        "ceil": Scalar.ceil,
        "round_prefer_floor": lambda x: (x - 0.5).ceil(),
        "round_prefer_ceil": lambda x: (x + 0.5).floor(),
    }
    return rules[mode](source)


def _real_output(axis: Axis) -> Scalar:
    """size * scale before it is rounded down, f32."""
    if axis.scale is None:
        return build.dimension(axis.output).cast("f32")
    size = axis.size.as_constant()
    if size is not None:
        return Scalar.constant(size * axis.scale, "f32")
    return build.dimension(axis.size).cast("f32") * axis.scale


def _source(axis: Axis, mode: str) -> Scalar:
    """The output position in the input's coordinates, f32."""
    position = build.index(axis.number).cast("f32")
    size, output = build.dimension(axis.size).cast("f32"), _real_output(axis)

    def scaled(x: Scalar) -> Scalar:
        if axis.scale is not None:
            return x * (1.0 / axis.scale) if (1.0 / axis.scale).is_integer() else x / axis.scale
        return x * size / output

    half = scaled(position + 0.5) - 0.5
    single = output.eq(1.0)
    if mode == "half_pixel":
        return half
    if mode == "half_pixel_symmetric":
        # The output size may be rounded down: the image stays centred.
        adjustment = build.dimension(axis.output).cast("f32") / output
        return (1.0 - adjustment) * (size * 0.5) + half
    if mode == "pytorch_half_pixel":
        return single.select(0.0, half)
    if mode == "align_corners":
        return single.select(0.0, position * (size - 1.0) / (output - 1.0).maximum(1.0))
    if mode == "asymmetric":
        return scaled(position)
    if mode == "tf_half_pixel_for_nn":
        return scaled(position + 0.5)
    start, end = axis.region
    spread = position * (size - 1.0) * (end - start) / (output - 1.0).maximum(1.0) + (size - 1.0) * start
    return single.select((size - 1.0) * (0.5 * (start + end)), spread)

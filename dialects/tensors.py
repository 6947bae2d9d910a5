"""Tensor types with named dimensions.

In: shapes as symbolic expressions and dtype names. Out: builtin tensor types and back. A static tensor has no
encoding; a dynamic one carries every dimension's text: ``tensor<?x384xf32, ["n", "384"]>``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from mlir import ir

from ..runtime.dtypes import NARROW
from ..runtime.errors import ModelError
from ..runtime.symbolic import Expression, ExpressionLike, expression

Shape = tuple[Expression, ...]
LARGEST_SIZE = (1 << 31) - 1  # of a dimension: indices have 32 bits

_SCALARS: dict[str, Callable[[], ir.Type]] = {
    "f64": lambda: ir.F64Type.get(),
    "f32": lambda: ir.F32Type.get(),
    "f16": lambda: ir.F16Type.get(),
    "bf16": lambda: ir.BF16Type.get(),
    "i1": lambda: ir.IntegerType.get_signless(1),
    **{f"i{bits}": partial(ir.IntegerType.get_signless, bits) for bits in (8, 16, 32, 64)},
    **{f"ui{bits}": partial(ir.IntegerType.get_unsigned, bits) for bits in (8, 16, 32, 64)},
}


def element_type(name: str) -> ir.Type:
    """The MLIR type of a tensor element, by dtype name."""
    make = _SCALARS.get(name)
    return make() if make else ir.Type.parse(name)


def scalar_type(name: str) -> ir.Type:
    """The type of one element inside a scalar body: signless, because `arith` has no unsigned types.

    Narrow types are a byte there, the pattern of the element (dialects/narrow.py).
    """
    if name in NARROW:
        return ir.IntegerType.get_signless(8)
    return element_type(name[1:] if name.startswith("ui") else name)


def tensor_type(shape: Sequence[ExpressionLike], element: str) -> ir.RankedTensorType:
    """The tensor type of that symbolic shape; the encoding is there only when a dimension is dynamic. Raises ModelError
    for sizes that no index of ours reaches.
    """
    dimensions = [expression(dimension) for dimension in shape]
    constants = [dimension.as_constant() for dimension in dimensions]
    if any(constant is not None and not 0 <= constant <= LARGEST_SIZE for constant in constants):
        text = ", ".join(map(str, dimensions))
        raise ModelError(f"a tensor of shape [{text}]\n  supported: dimensions of 0 to {LARGEST_SIZE}")
    dynamic = ir.ShapedType.get_dynamic_size()
    sizes = [dynamic if constant is None else constant for constant in constants]
    encoding = None
    if dynamic in sizes:
        encoding = ir.ArrayAttr.get([ir.StringAttr.get(str(dimension)) for dimension in dimensions])
    return ir.RankedTensorType.get(sizes, element_type(element), encoding)


def shape_of(value: ir.Value | ir.Type) -> Shape:
    """The symbolic shape of a tensor value or type."""
    tensor = ir.RankedTensorType(value if isinstance(value, ir.Type) else value.type)
    if tensor.encoding is not None:
        return tuple(expression(ir.StringAttr(item).value) for item in ir.ArrayAttr(tensor.encoding))
    return tuple(expression(size) for size in tensor.shape)


def element_of(value: ir.Value | ir.Type) -> str:
    """The dtype name of a tensor's elements, e.g. ``"f32"`` or ``"ui8"``."""
    return str(ir.RankedTensorType(value if isinstance(value, ir.Type) else value.type).element_type)


def rank_of(value: ir.Value) -> int:
    """Number of dimensions."""
    return int(ir.RankedTensorType(value.type).rank)

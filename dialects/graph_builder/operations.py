"""One operation of the `graph` dialect: its result type, its attributes; constants.

In: a name, operands, Python values, a symbolic shape. Out: the operation's result, built at the current insertion point.
What the other files of this folder are made of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from mlir import ir
from mlir.dialects import arith

from ...runtime.dtypes import DTYPES, from_numpy
from ...runtime.errors import InternalError
from ...runtime.symbolic import ONE, Expression, ExpressionLike, expression
from ...runtime.symbolic import product as symbolic_product
from ..tensors import Shape, element_type, scalar_type, tensor_type

Unify = Callable[[Expression, Expression], Expression]


def strict(left: Expression, right: Expression) -> Expression:
    """The size of two dimensions that must be equal. Raises InternalError when they are not provably so."""
    if left != right:
        raise InternalError(f"dimensions {left} and {right} are not known to be equal")
    return left


def broadcast_shapes(shapes: Sequence[Sequence[Expression]], unify: Unify = strict) -> Shape:
    """numpy's broadcast of symbolic shapes; `unify` decides about two sizes neither of which is 1."""
    rank = max((len(shape) for shape in shapes), default=0)
    result: list[Expression] = [ONE] * rank
    for shape in shapes:
        for axis, size in enumerate(shape, start=rank - len(shape)):
            if size == result[axis] or size == ONE:
                continue
            result[axis] = size if result[axis] == ONE else unify(result[axis], size)
    return tuple(result)


def build(
    name: str,
    shape: Sequence[ExpressionLike],
    element: str,
    operands: Sequence[ir.Value] = (),
    blocks: Sequence[ir.Block] = (),
    **attributes: Any,
) -> ir.Value:
    """One `graph` operation with one result. Python attributes become MLIR ones; `blocks` are moved in."""
    operation = ir.Operation.create(
        f"graph.{name}",
        results=[tensor_type(shape, element)],
        operands=list(operands),
        attributes={key: attribute(value) for key, value in attributes.items()},
        regions=len(blocks),
    )
    for region, block in zip(operation.regions, blocks, strict=True):
        block.append_to(region)
    return operation.result


def attribute(value: Any) -> ir.Attribute:
    """str -> string, int -> i64, list of int -> dense array, tuple of expressions -> array of strings."""
    if isinstance(value, ir.Attribute):
        return value
    if isinstance(value, str):
        return ir.StringAttr.get(value)
    if isinstance(value, (bool, int)):
        return ir.IntegerAttr.get(ir.IntegerType.get_signless(64), int(value))
    if isinstance(value, list):
        return ir.DenseI64ArrayAttr.get(value)
    if isinstance(value, tuple):
        return ir.ArrayAttr.get([ir.StringAttr.get(str(item)) for item in value])
    raise TypeError(f"no attribute for {value!r}")


def expressions(values: Sequence[ExpressionLike]) -> tuple[Expression, ...]:
    """Symbolic integers from integers, texts or expressions."""
    return tuple(expression(value) for value in values)


def weight(handle: str, shape: Sequence[ExpressionLike], element: str) -> ir.Value:
    """The constant tensor kept under `handle` in the unit's weight store."""
    return build("weight", shape, element, handle=handle)


def constant(array: np.ndarray[Any, Any] | float | int | bool, element: str | None = None) -> ir.Value:
    """A small constant tensor inside the IR (16 elements at most)."""
    values = np.asarray(array, dtype=DTYPES[element].numpy if element else None)
    name = element or from_numpy(values.dtype).name
    return build("constant", values.shape, name, value=dense(values, name))


def dense(values: np.ndarray[Any, Any], element: str) -> ir.Attribute:
    """A dense attribute from an array of the dtype's numpy type."""
    shape = "x".join([*(str(size) for size in values.shape), str(element_type(element))])
    if values.size == 0:
        return ir.Attribute.parse(f"dense<> : tensor<{shape}>")
    if element == "i1":
        flat = [bool(value) for value in values.ravel()]
        if len(set(flat)) == 1:
            return ir.Attribute.parse(f"dense<{str(flat[0]).lower()}> : tensor<{shape}>")
        nested = str(values.astype(bool).tolist()).lower()
        return ir.Attribute.parse(f"dense<{nested}> : tensor<{shape}>")
    return ir.Attribute.parse(f'dense<"0x{np.ascontiguousarray(values).tobytes().hex().upper()}"> : tensor<{shape}>')


def true() -> ir.Value:
    """A host-side `arith.constant true`."""
    return arith.ConstantOp(scalar_type("i1"), ir.BoolAttr.get(True)).result


def product(sizes: Sequence[Expression]) -> Expression:
    """The number of elements of a shape."""
    return symbolic_product(tuple(sizes))

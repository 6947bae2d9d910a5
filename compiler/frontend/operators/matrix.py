"""Matrix products.

In: two tensors. Out: graph.matmul with maps around it. Batch dimensions broadcast; vectors get a dimension
and lose it again.
"""

from __future__ import annotations

from mlir import ir

from ....dialects import graph_builder as build
from ....dialects.scalar import Scalar
from ....runtime.errors import ModelError
from ....runtime.symbolic import Expression
from ..node import Node
from ..registry import onnx_operator
from ..tensor import Tensor
from .reduction import wide


def product_of(node: Node, left: Tensor, right: Tensor, element: str) -> ir.Value:
    """numpy's matmul. Raises ModelError for 0-d operands."""
    if not left.rank or not right.rank:
        raise ModelError(f"{node.operator} of a 0-d tensor")
    first = left if left.rank > 1 else node.reshaped(left, [1, left.shape[0]])
    second = right if right.rank > 1 else node.reshaped(right, [right.shape[0], 1])
    value = build.matmul(first.value, second.value, element=element, unify=node.unify)
    rank = build.rank_of(value)
    dropped = ([rank - 2] if left.rank == 1 else []) + ([rank - 1] if right.rank == 1 else [])
    return build.remove_dimensions(value, dropped)


@onnx_operator("MatMul")
def matmul(node: Node) -> ir.Value:
    return product_of(node, node.input(0), node.input(1), node.dtype(0))


@onnx_operator("Gemm")
def gemm(node: Node) -> ir.Value:
    """alpha * A' * B' + beta * C."""
    left, right, addend = node.input(0), node.input(1), node.optional(2)
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    if left.rank != 2 or right.rank != 2:
        raise ModelError(f"Gemm of tensors of rank {left.rank} and {right.rank}")
    plain = (addend is None or beta == 0) and alpha == 1
    element = left.dtype if plain else wide(left.dtype)
    flags = bool(node.get("transA", 0)), bool(node.get("transB", 0))
    value = build.matmul(left.value, right.value, *flags, element=element, unify=node.unify)
    if plain:
        return value

    def scaled(x: Scalar, factor: float) -> Scalar:
        return x if factor == 1 else (x.cast("f32") * factor).cast(x.dtype) if "i" in x.dtype else x * factor

    if addend is None or beta == 0:
        return node.map([value], lambda x: scaled(x, alpha), element=left.dtype)
    if addend.rank > 2:
        raise ModelError(f"Gemm with C of rank {addend.rank}")
    addend = _aligned(node, addend, build.shape_of(value))
    return node.map([value, addend], lambda x, c: scaled(x, alpha) + scaled(c.cast(element), beta), element=left.dtype)


def _aligned(node: Node, addend: Tensor, shape: tuple[Expression, ...]) -> Tensor:
    """Before opset 7 a vector may stand for a column of an equally long result; since then numpy's rule
    holds.
    """
    if node.version < 7 and addend.rank == 1 and addend.shape[0] == shape[0] != shape[1]:
        return node.reshaped(addend, [addend.shape[0], 1])
    return addend


# Integers ---------------------------------------------------------------------------------------------------
def shifted(node: Node, tensor: Tensor, zero: Tensor | None) -> Tensor:
    """tensor - zero point in i32."""
    if zero is None:
        return node.tensor(build.cast(tensor.value, "i32"))
    return node.tensor(node.map([tensor, zero], lambda x, z: x.cast("i32") - z.cast("i32"), shape=tensor.shape))


def zero_of(node: Node, position: int, rank: int, axis: int) -> Tensor | None:
    """A zero point: a scalar, or one a row or column, shaped to broadcast along `axis`; None when it is
    absent.
    """
    zero = node.optional(position)
    if zero is None or zero.rank != 1 or zero.size == 1:
        return node.reshaped(zero, []) if zero is not None and zero.size == 1 else zero
    shape: list[Expression | int] = [1] * rank
    shape[axis] = zero.shape[0]
    return node.reshaped(zero, shape)


@onnx_operator("MatMulInteger")
def matmul_integer(node: Node) -> ir.Value:
    left, right = node.input(0), node.input(1)
    first = shifted(node, left, zero_of(node, 2, left.rank, max(left.rank - 2, 0)))
    second = shifted(node, right, zero_of(node, 3, right.rank, right.rank - 1))
    return product_of(node, first, second, "i32")


# Einsum -----------------------------------------------------------------------------------------------------
@onnx_operator("Einsum")
def einsum(node: Node) -> ir.Value:
    """Operands are contracted from left to right, each contraction one matmul."""
    operands, result = _terms(node)
    tensors = [node.input(position) for position in range(len(operands))]
    current, labels = _without_diagonals(node, tensors[0], operands[0])
    for position in range(1, len(operands)):
        later = set(result).union(*operands[position + 1 :])
        other, other_labels = _without_diagonals(node, tensors[position], operands[position])
        current, labels = _contract(node, (current, labels), (other, other_labels), later)
    gone = [axis for axis, label in enumerate(labels) if label not in result]
    if gone:
        current = build.remove_dimensions(build.reduce(current, "sum", gone), gone)
        labels = [label for label in labels if label in result]
    return build.transpose(current, [labels.index(label) for label in result])


def _terms(node: Node) -> tuple[list[list[str]], list[str]]:
    """Labels of every operand and of the result; dimensions under an ellipsis get labels like ``.0``."""
    text = node.get("equation", "").replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(node.inputs):
        raise ModelError(f"Einsum equation {text!r} does not fit {len(node.inputs)} operands")
    operands = [_labels(term, node.rank(position)) for position, term in enumerate(terms)]
    dots = max((sum(label.startswith(".") for label in labels) for labels in operands), default=0)
    ellipsis = [f".{number}" for number in range(dots, 0, -1)]
    if arrow:
        head, _, tail = right.partition("...")
        result = [*head, *(ellipsis if "..." in right else []), *tail]
    else:
        every = [label for labels in operands for label in labels]
        result = ellipsis + sorted({label for label in every if every.count(label) == 1 and label[0] != "."})
    return operands, result


def _labels(term: str, rank: int) -> list[str]:
    head, dots, tail = term.partition("...")
    hidden = rank - len(head) - len(tail)
    if hidden < 0 or (hidden and not dots):
        raise ModelError(f"Einsum term {term!r} does not fit a tensor of rank {rank}")
    return [*head, *[f".{number}" for number in range(hidden, 0, -1)], *tail]


def _without_diagonals(node: Node, tensor: Tensor, labels: list[str]) -> tuple[ir.Value, list[str]]:
    """The tensor with every repeated label reduced to its diagonal."""
    unique = list(dict.fromkeys(labels))
    if len(unique) == len(labels):
        return tensor.value, labels
    value = tensor.value
    shape = [tensor.shape[labels.index(label)] for label in unique]

    def body() -> Scalar:
        return build.element_at(value, [build.index(unique.index(label)) for label in labels])

    return node.map([], body, shape=shape), unique


def _contract(
    node: Node, left: tuple[ir.Value, list[str]], right: tuple[ir.Value, list[str]], later: set[str]
) -> tuple[ir.Value, list[str]]:
    """Two operands into one: labels in both and needed later are batches, the others in both are summed."""
    (first, first_labels), (second, second_labels) = left, right
    first, first_labels = _sum_alone(first, first_labels, later | set(second_labels))
    second, second_labels = _sum_alone(second, second_labels, later | set(first_labels))
    shared = [label for label in first_labels if label in second_labels]
    batch = [label for label in shared if label in later]
    depth = [label for label in shared if label not in later]
    rows = [label for label in first_labels if label not in shared]
    columns = [label for label in second_labels if label not in shared]
    a = _arranged(first, first_labels, batch, rows, depth)
    b = _arranged(second, second_labels, batch, depth, columns)
    value = build.matmul(a, b, unify=node.unify)
    sizes = dict(zip(second_labels, build.shape_of(second), strict=True))
    for label, size in zip(first_labels, build.shape_of(first), strict=True):
        sizes[label] = size if size != 1 or label not in sizes else sizes[label]
    labels = [*batch, *rows, *columns]
    return build.reshape(value, [sizes[label] for label in labels]), labels


def _sum_alone(value: ir.Value, labels: list[str], wanted: set[str]) -> tuple[ir.Value, list[str]]:
    gone = [axis for axis, label in enumerate(labels) if label not in wanted]
    if not gone:
        return value, labels
    value = build.remove_dimensions(build.reduce(value, "sum", gone), gone)
    return value, [label for label in labels if label in wanted]


def _arranged(value: ir.Value, labels: list[str], batch: list[str], rows: list[str], columns: list[str]) -> ir.Value:
    """[batch..., product of rows, product of columns]"""
    order = [*batch, *rows, *columns]
    moved = build.transpose(value, [labels.index(label) for label in order])
    sizes = build.shape_of(moved)
    split = len(batch), len(batch) + len(rows)
    return build.reshape(
        moved, [*sizes[: split[0]], build.product(sizes[split[0] : split[1]]), build.product(sizes[split[1] :])]
    )

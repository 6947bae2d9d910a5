"""How a reshape splits and joins dimensions: the pieces of both shapes that hold the same elements.

In: two symbolic shapes of the same number of elements. Out: pairs of axes lists whose sizes have equal
products, as fine as can be proven.
"""

from __future__ import annotations

from ...dialects.tensors import Shape
from ...runtime.symbolic import ONE, Expression

Pieces = list[tuple[list[int], list[int]]]


def reassociate(source: Shape, target: Shape) -> Pieces | None:
    """Pieces (source axes, target axes) in order; None when the shapes cannot be aligned by proof.

    ``[n, 12, h, w] -> [n, 3, 4, h*w]`` gives ``([0], [0]), ([1], [1, 2]), ([2, 3], [3])``.
    Dimensions of size 1 join a neighbour.
    """
    pieces: Pieces = []
    i = j = 0
    while i < len(source) or j < len(target):
        left, right = [i] if i < len(source) else [], [j] if j < len(target) else []
        size_left = source[i] if left else ONE
        size_right = target[j] if right else ONE
        i, j = i + len(left), j + len(right)
        while size_left != size_right:
            if _is_smaller(size_left, size_right) and i < len(source):
                size_left, i = size_left * source[i], i + 1
                left.append(i - 1)
            elif j < len(target):
                size_right, j = size_right * target[j], j + 1
                right.append(j - 1)
            elif i < len(source):
                size_left, i = size_left * source[i], i + 1
                left.append(i - 1)
            else:
                return None
        pieces.append((left, right))
    return _join_ones(pieces, source, target)


def _is_smaller(left: Expression, right: Expression) -> bool:
    """True when the right side divided by the left is a whole expression, so the left side has to grow."""
    quotient = right.exact_divide(left)
    if quotient is not None:
        return True
    if left.exact_divide(right) is not None:
        return False
    first, second = left.as_constant(), right.as_constant()
    return first < second if first is not None and second is not None else len(left.terms) <= len(right.terms)


def _join_ones(pieces: Pieces, source: Shape, target: Shape) -> Pieces:
    """Pieces without a source or a target are of size 1: give them to the piece before, or after at the start."""
    joined: Pieces = []
    for left, right in pieces:
        if joined and (not left or not right or not joined[-1][0] or not joined[-1][1]):
            joined[-1] = (joined[-1][0] + left, joined[-1][1] + right)
        else:
            joined.append((left, right))
    return joined

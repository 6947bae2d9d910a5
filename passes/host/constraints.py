"""Equalities between dimensions that only a run can check, turned into shared symbols.

In: the model's symbols and the pairs of expressions that the importer had to assume equal. Out: for every
symbol that a pair determines, the expression that stands for it everywhere. The runtime then checks the
equality by itself, as it checks every dimension of an input against its expression.
"""

from __future__ import annotations

from collections.abc import Iterable

from ...runtime.symbolic import Expression

Substitution = dict[str, Expression]


def solve(
    symbols: Iterable[str], pairs: Iterable[tuple[Expression, Expression]]
) -> tuple[Substitution, list[tuple[Expression, Expression]]]:
    """(substitution, pairs that could not be expressed by one) for equalities ``left == right``.

    A symbol is replaced only when the pair is linear in it with factor 1 or -1, so the result stays an
    integer polynomial, and never by a size that only a run finds.
    """
    order = list(symbols)
    substitution: Substitution = {}
    unsolved: list[tuple[Expression, Expression]] = []
    for left, right in pairs:
        difference = (left - right).substitute(substitution)
        if difference.as_constant() == 0:
            continue
        name = _solvable(difference, order) if difference.symbols <= set(order) else None
        if name is None:
            unsolved.append((left, right))
            continue
        factor = difference.coefficient(name)
        assert factor is not None
        sign = factor.as_constant() or 1
        value = Expression.symbol(name) - difference * sign
        substitution = {known: term.substitute({name: value}) for known, term in substitution.items()}
        substitution[name] = value
    return substitution, unsolved


def _solvable(difference: Expression, order: list[str]) -> str | None:
    """The symbol to replace: the last one declared that has factor 1 or -1, so that earlier inputs name the
    dimension.
    """
    for name in reversed(order):
        factor = difference.coefficient(name) if name in difference.symbols else None
        if factor is not None and factor.as_constant() in (1, -1):
            return name
    return None

"""Polynomials of sizes that divide each other, as exporters write reshapes: elements over elements of a row."""

from __future__ import annotations

import random

import pytest

from tilewright.runtime.symbolic import ZERO, Expression, expression

NAMES = ("a", "ab", "a0", "b")  # in the order of their text, not of the products'


def polynomial(generator: random.Random) -> Expression:
    """Three terms of up to three names."""
    total = ZERO
    for _ in range(3):
        term = Expression.constant(generator.choice([-3, -1, 1, 2, 5]))
        for _ in range(generator.randint(0, 3)):
            term = term * Expression.symbol(generator.choice(NAMES))
        total = total + term
    return total


def test_quotients_of_polynomials() -> None:
    generator = random.Random(1)
    for _ in range(300):
        first, second = polynomial(generator), polynomial(generator)
        if second.terms:
            assert (first * second).exact_divide(second) == first
            quotient = first.exact_divide(second)
            assert quotient is None or quotient * second == first


@pytest.mark.parametrize(
    ("text", "simplified"),
    [
        ("(64*s*n + 64*s*m)//(32*n + 32*m)", "2*s"),
        ("(64*s*n + 64*s*m) % (32*n + 32*m)", "0"),
        ("(64*s*n + 64*s*m + 1)//(32*n + 32*m)", "(64*m*s + 64*n*s + 1)//(32*m + 32*n)"),
    ],
)
def test_divisors_of_several_terms(text: str, simplified: str) -> None:
    assert str(expression(text)) == simplified

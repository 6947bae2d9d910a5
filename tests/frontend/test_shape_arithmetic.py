"""Shape arithmetic on numbers: what is said symbolically is what the operator computes, for every value of the symbols;
and what is known stays known beside elements that depend on data.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from tests.frontend.building import model, operations, run, signature

from tilewright.compiler.frontend import import_model
from tilewright.compiler.frontend.element_arithmetic import ELEMENTWISE, converted
from tilewright.compiler.frontend.tensor import Ratio
from tilewright.runtime.symbolic import Expression

NUMBERS = some.integers(-9, 9)
SIZES = some.fixed_dictionaries({"n": some.integers(0, 40), "k": some.integers(1, 7)})


@some.composite
def integers(draw: some.DrawFn) -> Expression:
    """A polynomial of two sizes."""
    n, k = Expression.symbol("n"), Expression.symbol("k")
    return n * draw(NUMBERS) + k * draw(NUMBERS) + n * k * draw(some.integers(-1, 1)) + draw(NUMBERS)


def towards_zero(left: int, right: int) -> int:
    """Exact: the numbers are below 2**53."""
    return math.trunc(left / right)


@settings(deadline=None, max_examples=300, derandomize=True)
@given(integers(), some.one_of(NUMBERS, some.just("k"), some.just("n + k")), SIZES)
def test_integer_division(left: Expression, divisor: int | str, sizes: dict[str, int]) -> None:
    right = Expression.symbol("k") * 0 + divisor
    bottom = right.evaluate(sizes)
    quotient = ELEMENTWISE["Div"][0](False, left, right)
    if bottom == 0:
        assert quotient is None
        return
    assert isinstance(quotient, Expression)
    top = left.evaluate(sizes)
    assert quotient.evaluate(sizes) == towards_zero(top, bottom)
    remainder = ELEMENTWISE["fmod"][0](False, left, right)
    assert isinstance(remainder, Expression)
    assert remainder.evaluate(sizes) == int(np.fmod(top, bottom))
    modulo = ELEMENTWISE["Mod"][0](False, left, right)
    assert modulo is None or (isinstance(modulo, Expression) and modulo.evaluate(sizes) == top % bottom)


@settings(deadline=None, max_examples=100, derandomize=True)
@given(integers(), some.integers(1, 9), SIZES)
def test_fractions_are_cast_towards_zero(top: Expression, bottom: int, sizes: dict[str, int]) -> None:
    result = converted(Ratio(top, bottom), "i64")
    assert isinstance(result, Expression)
    assert result.evaluate(sizes) == towards_zero(top.evaluate(sizes), bottom)


def test_a_convolution_and_the_exporters_formula_agree() -> None:
    """torch's dynamo exporter writes the size after a stride of 2 as (n - 1) / 2 + 1; -1 / 2 is 0 there."""
    text = """m (float[1,1,n] x, float[1,1,3] w) => (float[1,1,p] y) {
        size = Shape<start=2>(x) one = Constant<value_ints=[1]>() two = Constant<value_ints=[2]>()
        less = Sub(size, one) half = Div(less, two) wanted = Add(half, one)
        ones = Constant<value_ints=[1, 1]>() shape = Concat<axis=0>(ones, wanted)
        c = Conv<strides=[2], pads=[1, 1]>(x, w) y = Reshape(c, shape)
    }"""
    unit = import_model(model(text))
    for size in (1, 2, 7):
        x = np.arange(size, dtype=np.float32).reshape(1, 1, size)
        assert run(unit, x=x, w=np.ones((1, 1, 3), np.float32))["y"].shape == (1, 1, (size + 1) // 2)


@pytest.mark.parametrize("n", [3, 6])
def test_sizes_stay_known_beside_one_that_depends_on_data(n: int) -> None:
    """Heads are static and the batch is symbolic, though the host finds how many words there are."""
    text = """m (float[n,24] x, int64[1] words) => (float[a,b,c,d] y, int64[2] z) {
        batch = Shape<end=1>(x) three = Constant<value_ints=[3]>() groups = Div(batch, three)
        heads = Constant<value_ints=[3, 4]>() shape = Concat<axis=0>(groups, words, heads)
        y = Reshape(x, shape)
        chosen = Constant<value_ints=[0, 2]>() z = Gather(shape, chosen)
    }"""
    unit = import_model(model(text))
    assert '["n//3", "reshape_1", "3", "4"]' in signature(unit)
    assert operations(unit)["graph.gather"] == 0
    results = run(unit, x=np.zeros((n, 24), np.float32), words=np.array([6]))
    assert results["y"].shape == (n // 3, 6, 3, 4)
    np.testing.assert_array_equal(results["z"], [n // 3, 3])


def test_zero_and_minus_one_are_no_sizes() -> None:
    """Beside an element that depends on data they still copy a size and take the rest."""
    text = """m (float[n,8] x, int64[1] k) => (float[a,b] y) {
        rest = Constant<value_ints=[-1]>() both = Concat<axis=0>(k, rest) first = Reshape(x, both)
        zero = Constant<value_ints=[0]>() half = Constant<value_ints=[2]>() part = Div(k, half)
        copied = Concat<axis=0>(zero, part) y = Reshape(first, copied)
    }"""
    x = np.arange(32, dtype=np.float32).reshape(4, 8)
    np.testing.assert_array_equal(run(import_model(model(text)), x=x, k=np.array([8]))["y"], x.reshape(8, 4))


def test_expand_to_a_shape_of_which_one_size_depends_on_data() -> None:
    text = """m (float[1,1,1,4] x, int64[1] k, float[n] like) => (float[a,b,c,d] y) {
        n = Shape(like) ones = Constant<value_ints=[5, 1]>() shape = Concat<axis=0>(n, k, ones)
        y = Expand(x, shape)
    }"""
    unit = import_model(model(text))
    assert '["n", "expand_1", "5", "4"]' in signature(unit)
    x = np.arange(4, dtype=np.float32).reshape(1, 1, 1, 4)
    result = run(unit, x=x, k=np.array([2]), like=np.zeros(3, np.float32))["y"]
    np.testing.assert_array_equal(result, np.broadcast_to(x, (3, 2, 5, 4)))


def test_repeat_interleave_as_torch_writes_it() -> None:
    """The repeats of a Tile are a OneHot of 1 and a size."""
    text = """m (float[1,3] x, float[n] like) => (float[a,b] y) {
        n = Shape(like) one = Constant<value_ints=[1]>() values = Concat<axis=0>(one, n)
        axis = Constant<value_ints=[0]>() rank = Constant<value_int=2>()
        hot = OneHot(axis, rank, values) flat = Constant<value_ints=[-1]>() repeats = Reshape(hot, flat)
        y = Tile(x, repeats)
    }"""
    unit = import_model(model(text))
    assert '["n", "3"]' in signature(unit)


def test_no_elements_are_known() -> None:
    """What is left of a shape may be nothing; a Concat puts -1 behind it."""
    text = """m (float[2,n] x) => (float[a] y) {
        shape = Shape(x) zero = Constant<value_ints=[0]>() nothing = Slice(shape, zero, zero)
        rest = Constant<value_ints=[-1]>() flat = Concat<axis=0>(nothing, rest) y = Reshape(x, flat)
    }"""
    assert '["2*n"]' in signature(import_model(model(text)))


def test_a_huge_one_hot_is_left_to_the_run() -> None:
    text = """m (float[2,n] x) => (int64[a,b] y) {
        n = Shape<start=1>(x) one = Constant<value_ints=[1]>() values = Concat<axis=0>(one, n)
        axis = Constant<value_ints=[0]>() depth = Constant<value_int=2000000000>() y = OneHot(axis, depth, values)
    }"""
    assert "tensor<1x2000000000xi64>" in signature(import_model(model(text)))


def test_what_is_known_of_all_elements_is_stored() -> None:
    """Positions are a weight, a mask of ones is a number; neither is chosen from number by number in a kernel."""
    text = """m (float[40] x) => (float[40] y, int64[40] z) {
        n = Shape(x) end = Squeeze(n) zero = Constant<value_int=0>() one = Constant<value_int=1>()
        positions = Range(zero, end, one) z = Neg(positions) inside = Greater(end, positions) y = Where(inside, x, x)
    }"""
    body = str(import_model(model(text)).module)
    assert "graph.index" not in body
    assert body.count("graph.weight") == 1 and "arith.constant true" in body

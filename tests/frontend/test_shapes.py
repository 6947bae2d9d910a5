"""Symbolic shapes: names of dimensions, shape arithmetic, constraints, and fixing sizes."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from tests.frontend.building import model, operations, run, signature

from tilewright.compiler.frontend import import_model
from tilewright.passes.unit import Unit
from tilewright.runtime.errors import ModelError, UnsupportedError


def test_named_and_unnamed_dimensions_become_symbols() -> None:
    unit = import_model(
        model("m (float[batch,3,N] x, float[batch,?] z) => (float[a,b,c] y) { y = Relu(x) u = Relu(z) }")
    )
    assert "tensor<?x3x?xf32" in signature(unit)
    assert {name: (source.input, source.axis) for name, source in unit.symbols.items()} == {
        "batch": ("x", 0),
        "N": ("x", 2),
        "z_1": ("z", 1),
    }


def test_question_marks_are_different_dimensions() -> None:
    source = model("m (float[n,m] x) => (float[a,b] y) { y = Relu(x) }")
    for dimension in source.graph.input[0].type.tensor_type.shape.dim:
        dimension.dim_param = "?"
    assert set(import_model(source).symbols) == {"x_0", "x_1"}


@pytest.mark.parametrize("name", ["a-b", "1st", "max", "lambda", "größe", "seq len"])
def test_odd_names_become_identifiers(name: str) -> None:
    source = model("m (float[n] x) => (float[a] y) { y = Relu(x) }")
    source.graph.input[0].type.tensor_type.shape.dim[0].dim_param = name
    (symbol,) = import_model(source).symbols
    assert symbol.isidentifier() and symbol.isascii() and symbol not in ("max", "lambda")


def test_fixing_a_dimension_fixes_it_everywhere() -> None:
    text = "m (float[n,k] x, float[n,k] z) => (float[a,b] y) { y = Add(x, z) }"
    unit = import_model(model(text), shapes={"x": (4, "k")})
    assert "tensor<4x?xf32" in signature(unit) and "n" not in unit.symbols
    assert signature(unit).count("4x?") == 3


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"w": (1, 2)}, "no input 'w'"),
        ({"x": (1, 2, 3)}, "has 2 dimensions; 3 are given"),
        ({"x": (5, 7)}, "the model has 3, 7 is given"),
        ({"x": (-1, 3)}, "cannot be -1"),
        ({"x": ("2*q", 3)}, "exactly the symbol 'q'"),
        ({"x": ("n n", 3)}, "not a symbolic integer"),
    ],
)
def test_wrong_shapes_option(shapes: dict[str, tuple[int | str, ...]], message: str) -> None:
    with pytest.raises(ModelError, match=message.replace("*", r"\*")):
        import_model(model("m (float[n,3] x) => (float[a,b] y) { y = Relu(x) }"), shapes=shapes)


def test_shape_arithmetic_leaves_no_trace() -> None:
    """view(batch, sequence, heads, -1) as exporters write it."""
    text = """m (float[b,s,12] x) => (float[p,q,r,t] y) {
        shape = Shape(x)
        zero = Constant<value_ints=[0]>() one = Constant<value_ints=[1]>() two = Constant<value_ints=[2]>()
        first = Slice(shape, zero, one) second = Slice(shape, one, two)
        heads = Constant<value_ints=[3]>() rest = Constant<value_ints=[-1]>()
        wanted = Concat<axis=0>(first, second, heads, rest)
        y = Reshape(x, wanted)
    }"""
    unit = import_model(model(text))
    assert dict(operations(unit)) == {"builtin.module": 1, "func.func": 1, "graph.reshape": 1, "func.return": 1}
    assert '["b", "s", "3", "4"]' in signature(unit)


def test_float_shape_arithmetic() -> None:
    """Resize to floor(2.5 * size) through casts, as torch's interpolate exports."""
    text = """m (float[1,1,h,w] x) => (float[1,1,p,q] y) {
        shape = Shape(x)
        two = Constant<value_ints=[2]>() four = Constant<value_ints=[4]>() zero = Constant<value_ints=[0]>()
        spatial = Slice(shape, two, four) real = Cast<to=1>(spatial) factor = Constant<value_floats=[2.5]>()
        scaled = Mul(real, factor) down = Floor(scaled) sizes = Cast<to=7>(down)
        head = Slice(shape, zero, two) wanted = Concat<axis=0>(head, sizes)
        y = Resize(x, , , wanted)
    }"""
    unit = import_model(model(text))
    assert '["1", "1", "(5*h)//2", "(5*w)//2"]' in signature(unit)
    x = np.arange(12, dtype=np.float32).reshape(1, 1, 3, 4)
    assert run(unit, x=x)["y"].shape == (1, 1, 7, 10)


def test_a_shape_that_is_an_output_is_materialised() -> None:
    unit = import_model(model("m (float[n,3] x) => (int64[2] y) { y = Shape(x) }"))
    result = run(unit, x=np.zeros((5, 3), np.float32))["y"]
    np.testing.assert_array_equal(result, np.array([5, 3]))


def test_expand_idiom_decides_comparisons_with_minus_one() -> None:
    """torch's expand: where(shape == -1, 1, shape)."""
    text = """m (float[1,k] x, float[n,k] like) => (float[a,b] y) {
        shape = Shape(like) minus = Constant<value_int=-1>() same = Equal(shape, minus)
        ones = Constant<value_ints=[1, 1]>() chosen = Where(same, ones, shape)
        y = Expand(x, chosen)
    }"""
    assert '["n", "k"]' in signature(import_model(model(text)))


def test_sizes_that_must_agree_become_constraints() -> None:
    unit = import_model(model("m (float[n] x, float[k] z) => (float[a] y) { y = Add(x, z) }"))
    attributes = unit.module.body.operations[0].attributes
    assert str(attributes["graph.constraints"]) == '[["n", "k"]]'


def test_constants_win_over_symbols_and_one_stretches() -> None:
    unit = import_model(model("m (float[n,1] x, float[4] z) => (float[a,b] y) { y = Add(x, z) }"))
    assert '["n", "4"]' in signature(unit)
    assert "graph.constraints" not in unit.module.body.operations[0].attributes


def test_sizes_that_cannot_agree() -> None:
    source = model("m (float[3] x, float[4] z) => (float[a] y) { y = Add(x, z) }")
    with pytest.raises(ModelError, match=r"sizes 3 and 4 do not fit together\n  node 'y' \(Add, opset 18\)"):
        import_model(source)


def test_rank_that_depends_on_data_is_reported() -> None:
    source = model("m (float[n] x, int64[k] s) => (float[a,b] y) { y = Reshape(x, s) }")
    with pytest.raises(UnsupportedError, match="Reshape with shape computed from data") as caught:
        import_model(source)
    assert caught.value.inputs == ("s",)


def test_shape_from_data_becomes_symbols() -> None:
    unit = import_model(model("m (float[n] x, int64[2] s) => (float[a,b] y) { y = Reshape(x, s) }"))
    assert run(unit, x=np.zeros(12, np.float32), s=np.array([3, -1]))["y"].shape == (3, 4)


def test_slices_of_dynamic_dimensions() -> None:
    text = """m (float[n,8] x) => (float[a,8] y, float[b,8] z) {
        zero = Constant<value_ints=[0]>() one = Constant<value_ints=[1]>()
        last = Constant<value_ints=[-1]>() far = Constant<value_ints=[9223372036854775807]>()
        y = Slice(x, zero, last, zero) z = Slice(x, one, far, zero)
    }"""
    unit = import_model(model(text))
    x = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    results = run(unit, x=x)
    np.testing.assert_array_equal(results["y"], x[:-1])
    np.testing.assert_array_equal(results["z"], x[1:])


NOTHING = 2**63 - 1


@pytest.mark.parametrize(
    ("start", "end", "step"),
    [
        (0, -9, 1), (2, -3, 1), (-9, NOTHING, 1), (4, NOTHING, 1), (-7, -2, 1), (-4, 3, 2), (0, 6, 1), (3, -1, 1),
        (-1, -NOTHING, -1), (-3, -NOTHING, -1), (4, -NOTHING, -2), (-2, -6, -1), (NOTHING, 2, -1),
        (NOTHING, 1, -1), (4, 1, -2), (1, -NOTHING, -1), (1, -3, -1), (NOTHING, 0, -1), (1, 0, -1), (0, -NOTHING, -1),
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 9, 12])
def test_slices_clamp_to_dynamic_dimensions(start: int, end: int, step: int, size: int) -> None:
    """What lies outside of a short dimension is not there, as in Python; nothing may be left."""
    unit = _sliced(start, end, step)
    x = np.arange(2 * size, dtype=np.float32).reshape(size, 2)
    np.testing.assert_array_equal(run(unit, x=x)["y"], x[start:end:step])


@cache
def _sliced(start: int, end: int, step: int) -> Unit:
    text = f"""m (float[n,2] x) => (float[a,2] y) {{
        start = Constant<value_ints=[{start}]>() end = Constant<value_ints=[{end}]>()
        axis = Constant<value_ints=[0]>() step = Constant<value_ints=[{step}]>()
        y = Slice(x, start, end, axis, step)
    }}"""
    return import_model(model(text))


def test_sizes_of_slices_have_one_form() -> None:
    """The same number of elements in front and behind: their sum needs no constraint."""
    text = f"""m (float[n] x) => (float[a] y) {{
        two = Constant<value_ints=[2]>() zero = Constant<value_ints=[0]>() far = Constant<value_ints=[{NOTHING}]>()
        end = Constant<value_ints=[-2]>()
        a = Slice(x, zero, end) b = Slice(x, two, far) y = Add(a, b)
    }}"""
    unit = import_model(model(text))
    assert "graph.constraints" not in str(unit.module)
    for size in (1, 2, 6):
        x = np.arange(size, dtype=np.float32)
        np.testing.assert_array_equal(run(unit, x=x)["y"], x[:-2] + x[2:])

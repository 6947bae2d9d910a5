"""Floats of 4 and 8 bits and integers of 2 and 4: every pattern, and every boundary between two roundings.

In: casts to and from each narrow type. Out: the same bits as ml_dtypes, which onnx's own cases are made with.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from tilewright.compiler.frontend import import_model
from tilewright.compiler.frontend.tensors_of_file import ELEMENT_TYPES
from tilewright.dialects.narrow import FLOATS, INTEGERS, ROUNDINGS
from tilewright.passes.graph.interpret import interpret
from tilewright.runtime.dtypes import DTYPES, NARROW

Array = np.ndarray[Any, Any]
KINDS = {name: kind for kind, name in ELEMENT_TYPES.items()}


def cast(array: Array, source: str, target: str, **attributes: Any) -> Array:
    """A model of one Cast node, on the graph interpreter."""
    helper = onnx.helper
    node = helper.make_node("Cast", ["x"], ["y"], to=KINDS[target], **attributes)
    x = helper.make_tensor_value_info("x", KINDS[source], array.shape)
    y = helper.make_tensor_value_info("y", KINDS[target], array.shape)
    model = helper.make_model(helper.make_graph([node], "cast", [x], [y]), opset_imports=[helper.make_opsetid("", 24)])
    return interpret(import_model(model), {"x": array})["y"]


def patterns(name: str) -> Array:
    """Every element of a type."""
    bits = INTEGERS.get(name, 4 if name.startswith("f4") else 8)
    return np.arange(1 << bits, dtype=np.uint8).view(DTYPES[name].numpy)


def boundaries(name: str) -> Array:
    """All finite numbers of a float type, the middles between neighbours, and the f32 numbers next to those."""
    numbers = patterns(name).astype(np.float32)
    numbers = np.unique(numbers[np.isfinite(numbers)])
    middles = ((numbers[1:].astype(np.float64) + numbers[:-1]) / 2).astype(np.float32)
    above, below = np.nextafter(middles, np.float32(np.inf)), np.nextafter(middles, np.float32(-np.inf))
    special = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 1e38, -1e38, 1e-42], np.float32)
    return np.concatenate([numbers, middles, above, below, special])


@pytest.mark.parametrize("name", sorted(NARROW))
def test_every_pattern_is_the_number_that_ml_dtypes_says(name: str) -> None:
    values = patterns(name)
    np.testing.assert_array_equal(cast(values, name, "f32"), values.astype(np.float32))


@pytest.mark.parametrize("saturate", [0, 1])
@pytest.mark.parametrize("name", sorted(FLOATS))
def test_floats_round_as_ml_dtypes_rounds(name: str, saturate: int) -> None:
    values, kind = boundaries(name), DTYPES[name].numpy
    wanted = onnx.numpy_helper.saturate_cast(values, kind) if saturate else values.astype(kind)
    given = cast(values, "f32", name, saturate=saturate)
    nan = np.isnan(wanted.astype(np.float32))  # there are several patterns of NaN
    np.testing.assert_array_equal(given.astype(np.float32)[nan], wanted.astype(np.float32)[nan])
    np.testing.assert_array_equal(given.view(np.uint8)[~nan], wanted.view(np.uint8)[~nan])


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_powers_of_two_round_as_asked(rounding: str) -> None:
    values = np.abs(boundaries("f8E8M0FNU"))
    # The specification saturates infinity; the reference makes NaN of it, and rounds subnormal numbers up to 2^-126.
    values = values[((values >= 2.0**-126) | (values == 0)) & (values < np.inf)]
    wanted = onnx.numpy_helper.to_float8e8m0(values, True, rounding).astype(DTYPES["f8E8M0FNU"].numpy)
    given = cast(values, "f32", "f8E8M0FNU", round_mode=rounding)
    np.testing.assert_array_equal(given.view(np.uint8), wanted.view(np.uint8))


@pytest.mark.parametrize("name", sorted(INTEGERS))
def test_integers_take_the_low_bits(name: str) -> None:
    values = np.arange(-40, 40).astype(np.int32)
    given = cast(values, "i32", name)
    np.testing.assert_array_equal(given.astype(np.int32), values.astype(DTYPES[name].numpy).astype(np.int32))

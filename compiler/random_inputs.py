"""Inputs for models nobody has data for: seeded random arrays of the right shapes and dtypes.

In: the inputs of a session, arrays already given, shapes asked for and a seed. Out: an array for every input.
Symbols take their value from given arrays and shapes first, then from hints; a batch dimension is 1 and any other
32 where nothing says more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..runtime.dtypes import dtype
from ..runtime.engine import Engine
from ..runtime.errors import ModelError
from ..runtime.manifest import evaluate_shape

Array = np.ndarray[Any, Any]
BATCH, OTHER = 1, 32  # sizes of dimensions that nothing determines
TOKENS = 100  # integers are below it: bytes, token ids
BINARY_NAMES = ("mask", "type", "segment")


def fill_inputs(
    engine: Engine,
    given: Mapping[str, Array],
    shapes: Mapping[str, Sequence[int | str]],
    seed: int | None,
    hints: Mapping[str, int] | None = None,
) -> dict[str, Array]:
    """`given` and a random array for every other input. Without a seed, raises ModelError when one is
    missing.
    """
    missing = [binding for binding in engine.inputs if binding.name not in given]
    if missing and seed is None:
        wanted = "; ".join(
            f"{item.name}: {item.dtype}[{', '.join(map(str, item.shape))}]" for item in missing
        )
        raise ModelError(f"no array for input {wanted}\n  give --input NAME=FILE.npy, or --random SEED")
    _check_shapes(engine, shapes)
    generator = np.random.default_rng(seed)
    symbols = _symbols(engine, given, shapes, hints or {})
    arrays = dict(given)
    for binding in missing:
        shape = evaluate_shape(binding.shape, symbols, f"input {binding.name!r}")
        arrays[binding.name] = random_array(generator, binding.name, shape, binding.dtype)
    return arrays


def _check_shapes(engine: Engine, shapes: Mapping[str, Sequence[int | str]]) -> None:
    """Raises ModelError for shapes that no input of this engine has."""
    inputs = {binding.name: binding for binding in engine.inputs}
    for name, given in shapes.items():
        if name not in inputs:
            raise ModelError(f"the model has no input {name!r}\n  inputs: {', '.join(inputs) or 'none'}")
        shape = inputs[name].shape
        fixed = [extent.as_constant() for extent in shape]
        if len(given) != len(shape) or any(
            isinstance(size, int) and known not in (None, size) for size, known in zip(given, fixed, strict=True)
        ):
            said, wanted = (", ".join(map(str, sizes)) for sizes in (given, shape))
            raise ModelError(f"input {name!r} cannot have the shape [{said}]\n  wanted: [{wanted}]")


def check_hints(engine: Engine, hints: Mapping[str, int]) -> None:
    """Raises ModelError for hints about what is no dimension of an engine that was compiled before. Of a model the
    compiler knows more names: dimensions that turned out equal to others have none in its engine.
    """
    unknown = sorted(hints.keys() - engine.symbols.keys())
    if unknown:
        known = ", ".join(engine.symbols) or "none, all sizes are fixed"
        raise ModelError(f"hint for {unknown[0]!r}, which is no dynamic dimension of the model\n  dynamic: {known}")


def _symbols(
    engine: Engine,
    given: Mapping[str, Array],
    shapes: Mapping[str, Sequence[int | str]],
    hints: Mapping[str, int],
) -> dict[str, int]:
    values = {}
    for name, source in engine.symbols.items():
        array, shape = given.get(source.input), shapes.get(source.input)
        if array is not None and source.axis < array.ndim:
            values[name] = int(array.shape[source.axis])
        elif shape is not None and source.axis < len(shape) and isinstance(shape[source.axis], int):
            values[name] = int(shape[source.axis])
        else:
            values[name] = hints.get(name, BATCH if source.axis == 0 else OTHER)
    return values


def random_array(generator: np.random.Generator, name: str, shape: Sequence[int], element: str) -> Array:
    """Normal floats. Integers are small enough for every table of embeddings, and 0 or 1 where the name says
    mask or type.
    """
    kind = dtype(element)
    if kind.name.startswith(("f", "bf")):
        return generator.standard_normal(shape).astype(kind.numpy)
    binary = element == "i1" or any(word in name.lower() for word in BINARY_NAMES)
    return generator.integers(0, 2 if binary else TOKENS, shape).astype(kind.numpy)

"""Numbers that a line of a result shares: held in a tile, and computed where another line's is asked for."""

from __future__ import annotations

import numpy as np
from mlir import ir
from tests.passes.dot.harness import compile_kernel

from tilewright.dialects import graph_builder as graph
from tilewright.runtime.emulator.observer import Order
from tilewright.runtime.emulator.sanitizer import Sanitizer

ROWS, COLUMNS, DEPTH = 128, 64, 64


def test_the_tile_is_of_its_own_lines() -> None:
    def make(left: ir.Value, right: ir.Value, given: ir.Value) -> ir.Value:
        line = graph.map([given], lambda v: v.exp())
        spread = graph.broadcast(line, [ROWS, COLUMNS])  # as wide as the result: it gets no tile of its own
        other = graph.slice(spread, [ROWS - 1, 0], [ROWS, COLUMNS], [-1, 1])
        product = graph.matmul(left, right, False, True, element="f32")
        return graph.map([product, line, other], lambda x, own, far: x * own + far)

    types = [([ROWS, DEPTH], "f16"), ([COLUMNS, DEPTH], "f16"), ([ROWS, 1], "f32")]
    kernel = compile_kernel(types, make, "sm_90a")
    generator = np.random.default_rng(0)
    left, right = (generator.standard_normal((lines, DEPTH)).astype(np.float16) for lines in (ROWS, COLUMNS))
    given = generator.standard_normal((ROWS, 1)).astype(np.float32)
    sanitizer = Sanitizer(Order("random", 3))
    (found,) = kernel.run([left, right, given], sanitizer)
    assert not sanitizer.findings
    line = np.exp(given.astype(np.float64))
    expected = left.astype(np.float64) @ right.astype(np.float64).T * line + line[::-1]
    # Sums of 64 products of halves in f32 lose 2**-20 of the largest; exponentials two units in the last place.
    np.testing.assert_allclose(found, expected, rtol=0, atol=2**-19 * np.abs(expected).max())

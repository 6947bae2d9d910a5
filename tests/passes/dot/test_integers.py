"""Products of 8-bit integers: exact, on tensor cores where both operands run along k."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.kernels import build, emulate

TYPES = {"i8": np.int8, "ui8": np.uint8}
CASES = [  # rows, columns, k, left, right, right is [columns, k], the instruction
    (64, 96, 128, "i8", "i8", True, "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32"),
    (50, 72, 100, "ui8", "i8", True, "mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32"),
    (130, 24, 48, "i8", "ui8", True, "mma.sync.aligned.m16n8k32.row.col.s32.s8.u8.s32"),
    (33, 40, 256, "ui8", "ui8", True, "mma.sync.aligned.m16n8k32.row.col.s32.u8.u8.s32"),
    (33, 40, 64, "ui8", "i8", False, "mad.lo.s32"),  # columns run in memory: bytes are not turned around
    (33, 40, 35, "i8", "i8", True, "mad.lo.s32"),  # one byte at a time
]


def random(kind: str, *shape: int) -> np.ndarray:
    """The whole range of the type."""
    limits = np.iinfo(TYPES[kind])
    return np.random.default_rng(0).integers(limits.min, limits.max + 1, shape).astype(TYPES[kind])


@pytest.mark.parametrize(("rows", "columns", "depth", "left", "right", "turned", "instruction"), CASES)
def test_product(rows: int, columns: int, depth: int, left: str, right: str, turned: bool, instruction: str) -> None:
    a = f"tensor<{rows}x{depth}x{left}>"
    b = f"tensor<{columns}x{depth}x{right}>" if turned else f"tensor<{depth}x{columns}x{right}>"
    result = f"tensor<{rows}x{columns}xi32>"
    built = build(
        f"""
        func.func private @k(%a: {a}, %b: {b}) -> {result} {{
          %0 = "graph.matmul"(%a, %b) {{transpose_left = 0 : i64, transpose_right = {int(turned)} : i64}} : ({a}, {b}) -> {result}
          return %0 : {result}
        }}""",
        "dot",
        "sm_80",
    )
    assert instruction in built.ptx
    assert ("mma.sync" in built.ptx) == ("mma.sync" in instruction)
    arrays = [random(left, rows, depth), random(right, *((columns, depth) if turned else (depth, columns)))]
    (actual,) = emulate(built, arrays)
    wide = [array.astype(np.int64) for array in arrays]
    np.testing.assert_array_equal(actual, wide[0] @ (wide[1].T if turned else wide[1]))

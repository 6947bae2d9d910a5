"""Grouped multiply-adds answer like the same instructions one by one, whatever their order and overlaps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.emulator.harness import Runner

from tilewright.runtime.emulator.control_flow import build
from tilewright.runtime.emulator.numpy_outer import find_outer_products
from tilewright.runtime.emulator.parser import parse

COUNT = 10
Step = tuple[int, int, int, int]


def _kernel(steps: list[Step], guarded: bool) -> str:
    """Ten registers from memory, the steps (one of them under a guard between groups), ten registers to memory."""
    lines = [
        ".version 8.0",
        ".target sm_80",
        ".address_size 64",
        ".visible .entry k(.param .u64 p, .param .u32 u) {",
    ]
    lines.append(f".reg .b32 %x<{COUNT}>, %t, %u; .reg .b64 %rd<3>; .reg .pred %p;")
    lines.append("mov.u32 %t, %tid.x; ld.param.u64 %rd0, [p]; ld.param.b32 %u, [u]; setp.lt.u32 %p, %t, 20;")
    lines.append(f"mad.wide.u32 %rd1, %t, {4 * COUNT}, %rd0;")
    lines += [f"ld.global.b32 %x{i}, [%rd1+{4 * i}];" for i in range(COUNT - 1)]
    lines.append(f"mov.b32 %x{COUNT - 1}, %u;")  # a value that all threads share
    for index, (target, a, b, c) in enumerate(steps):
        if guarded and index == len(steps) // 2:
            lines.append("@%p add.f32 %x0, %x1, %x2;")
        lines.append(f"fma.rn.f32 %x{target}, %x{a}, %x{b}, %x{c};")
    lines += [f"st.global.b32 [%rd1+{4 * i}], %x{i};" for i in range(COUNT)]
    return "\n".join([*lines, "ret; }"])


def _reference(x: np.ndarray, steps: list[Step], guarded: bool) -> np.ndarray:
    x = x.copy()
    for index, (target, a, b, c) in enumerate(steps):
        if guarded and index == len(steps) // 2:
            x[:20, 0] = (x[:, 1] + x[:, 2])[:20]
        x[:, target] = (x[:, a].astype("f8") * x[:, b] + x[:, c]).astype("f4")
    return x


def _check(steps: list[Step], guarded: bool) -> None:
    x = np.random.default_rng(len(steps)).uniform(-1, 1, (32, COUNT)).astype("f4")
    x[:, -1] = 0.75
    with np.errstate(all="ignore"):
        expected = _reference(x, steps, guarded)
    (got,) = Runner(_kernel(steps, guarded))("k", x, int(np.float32(0.75).view("i4")))
    assert np.array_equal(got, expected, equal_nan=True)


REGISTER = st.integers(0, COUNT - 1)
ROW = st.builds(
    lambda a, targets, factors, addends, swap: [
        (t, b, a, c) if swap else (t, a, b, c) for t, b, c in zip(targets, factors, addends, strict=True)
    ],
    REGISTER,
    st.permutations(range(COUNT)).map(lambda p: p[:4]),
    st.lists(REGISTER, min_size=4, max_size=4),
    st.lists(REGISTER, min_size=4, max_size=4),
    st.booleans(),
)


@given(st.lists(ROW, min_size=1, max_size=5), st.booleans())
@settings(max_examples=80, deadline=None)
def test_random_rows(rows: list[list[Step]], guarded: bool) -> None:
    _check([step for row in rows for step in row], guarded)


@given(st.lists(st.tuples(REGISTER, REGISTER, REGISTER, REGISTER), min_size=4, max_size=24), st.booleans())
@settings(max_examples=40, deadline=None)
def test_random_sequences(steps: list[Step], guarded: bool) -> None:
    _check(steps, guarded)


@pytest.mark.parametrize("in_place", [False, True])
def test_a_blocked_product_is_found(in_place: bool) -> None:
    """Rows 0, 1 and columns 2, 3; accumulators 4 to 7, then 4 to 7 again or in reverse."""
    order = (4, 5, 6, 7) if in_place else (7, 6, 5, 4)
    first = [(4, 0, 2, 4), (5, 0, 3, 5), (6, 1, 2, 6), (7, 1, 3, 7)]
    second = [(order[0], 8, 2, 4), (order[1], 8, 3, 5)]
    program = build(parse(_kernel(first + second, False)), "k")
    groups = find_outer_products(program.blocks[0].instructions)
    sizes = [(len(group.rows), len(group.columns)) for group in groups.values()]
    assert (2, 2) in sizes or (3, 2) in sizes
    _check(first + second, False)

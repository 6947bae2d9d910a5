"""mma.sync in the loops of matrix products: sums that stay in their places, chains along K, neighbouring tiles.

In: loops of products whose sums are read, or are not, before their end. Out: the same bits on both engines. Why: the
fast engine computes products together and later than they stand; the NumPy engine, which test_warp.py and others check
against the manual's layouts, computes each where it stands.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from tests.emulator.harness import Runner

from tilewright.runtime.emulator.control_flow import build
from tilewright.runtime.emulator.latches import with_single_latches
from tilewright.runtime.emulator.llvm_compile import write_module
from tilewright.runtime.emulator.llvm_library import Unavailable, library
from tilewright.runtime.emulator.parser import parse

FORMS = {
    "f16": ("m16n8k16", 4, 2, np.float16), "bf16": ("m16n8k16", 4, 2, ml_dtypes.bfloat16),
    "tf32": ("m16n8k8", 4, 2, np.float32), "s8": ("m16n8k32", 4, 2, np.int8), "u8": ("m16n8k16", 2, 1, np.uint8),
    "e4m3": ("m16n8k32", 4, 2, ml_dtypes.float8_e4m3fn),
}  # fmt: skip
"""Shape, registers of A and of B, NumPy's type."""
TURNS = 3


def _names(letter: str, count: int) -> str:
    return "{" + ", ".join(f"%{letter}{index}" for index in range(count)) + "}"


def _product(type: str, tile: int, step: int, steps: int) -> str:
    """The sums of a tile go through %d's of their own between the steps of a chain."""
    shape, rows, columns, _ = FORMS[type]
    sums = "s32" if type in ("s8", "u8") else "f32"
    result = f"c{tile}_" if step == steps - 1 else f"d{step}_{tile}_"
    start = f"c{tile}_" if step == 0 else f"d{step - 1}_{tile}_"
    operands = (_names(result, 4), _names(f"a{step}_", rows), _names(f"b{step}_{tile}_", columns), _names(start, 4))
    return f"mma.sync.aligned.{shape}.row.col.{sums}.{type}.{type}.{sums} {', '.join(operands)};"


def _kernel(type: str, tiles: int, steps: int, between: dict[tuple[int, int], str]) -> str:
    """`between` stands after the product of a (step, tile)."""
    _, rows, columns, _ = FORMS[type]
    fragments = [(f"a{step}_", rows) for step in range(steps)]
    fragments += [(f"b{step}_{tile}_", columns) for step in range(steps) for tile in range(tiles)]
    sums = [f"c{tile}_{index}" for tile in range(tiles) for index in range(4)]
    registers = [f"%{letter}{index}" for letter, count in fragments for index in range(count)]
    registers += [f"%d{step}_{tile}_{index}" for step in range(steps) for tile in range(tiles) for index in range(4)]
    words = 4 * sum(count for _, count in fragments)
    loads, place = [], 0
    for letter, count in fragments:
        for index in range(count):
            loads.append(f"ld.global.b32 %{letter}{index}, [%rd2+{place}];")
            place += 4
    products = []
    for step in range(steps):
        for tile in range(tiles):
            products += [_product(type, tile, step, steps), between.get((step, tile), "")]
    zeros = " ".join(f"mov.b32 %{name}, 0;" for name in sums)
    stores = " ".join(f"st.global.b32 [%rd4+{4 * index}], %{name};" for index, name in enumerate(sums))
    return f""".version 8.0
.target sm_80
.address_size 64
.visible .entry k(.param .u64 x, .param .u64 y, .param .u64 z) .reqntid 64 {{
.reg .b32 %r<4>, {", ".join([*registers, *(f"%{name}" for name in sums)])}; .reg .b64 %rd<9>; .reg .pred %p;
mov.u32 %r0, %tid.x; ld.param.u64 %rd0, [x]; ld.param.u64 %rd1, [y]; ld.param.u64 %rd6, [z];
mad.wide.u32 %rd2, %r0, {words}, %rd0; mad.wide.u32 %rd4, %r0, {4 * len(sums)}, %rd1;
mad.wide.u32 %rd5, %r0, 16, %rd6; mov.b32 %r1, 0; {zeros}
LOOP: bar.sync 0; {" ".join(loads)} {" ".join(products)}
add.s64 %rd2, %rd2, {64 * words}; add.s32 %r1, %r1, 1; setp.lt.s32 %p, %r1, {TURNS}; @%p bra LOOP;
{stores} ret; }}"""


def _whole_numbers(type: str, shape: tuple[int, ...]) -> np.ndarray:
    """Fragments of small whole numbers, whose sums are exact in every order."""
    dtype = np.dtype(FORMS[type][3])
    per_word = 4 // dtype.itemsize
    low = 0 if type == "u8" else -4
    return np.random.default_rng(7).integers(low, 5, (*shape, per_word)).astype(dtype)


def _run(engine: str, type: str, tiles: int, steps: int, between: dict[tuple[int, int], str]) -> tuple[Runner, list]:
    _, rows, columns, _ = FORMS[type]
    words = steps * (rows + tiles * columns)
    runner = Runner(_kernel(type, tiles, steps, between), engine)
    sums, seen = np.zeros((64, tiles, 4), "u4"), np.zeros((64, 4), "u4")
    return runner, runner("k", _whole_numbers(type, (TURNS, 64, words)), sums, seen, block=(64,))[1:]


def _agree(type: str, tiles: int, steps: int, between: dict[tuple[int, int], str] | None = None) -> None:
    """Both engines give the same."""
    try:
        library()
    except Unavailable as reason:
        pytest.skip(f"no LLVM engine: {reason}")
    _, expected = _run("numpy", type, tiles, steps, between or {})
    runner, found = _run("llvm", type, tiles, steps, between or {})
    assert expected[0].any()
    for one, other in zip(expected, found, strict=True):
        assert (one == other).all()
    kernel = runner.device.load("k", runner.ptx)
    (choice,) = kernel.choices.values()
    assert choice.engine == "llvm", choice.reason


@pytest.mark.parametrize(
    ("type", "steps"), [("f16", 1), ("f16", 2), ("bf16", 2), ("tf32", 3), ("s8", 2), ("u8", 1), ("e4m3", 2)]
)
def test_sums_of_a_loop(type: str, steps: int) -> None:
    """Two tiles are computed together; the third has no neighbour."""
    _agree(type, 3, steps)


def _helpers(ptx: str) -> list[str]:
    """What the fast engine calls on a host with vectors of 512 bits."""
    program = with_single_latches(build(parse(ptx), "k"))
    return list(write_module(program, {}, (64, 1, 1), "run", wide=True)[1].helpers)


def test_which_products_are_computed_together() -> None:
    """Chains of two; two of three tiles as a pair, the third alone; all alone where something stands between."""
    found = _helpers(_kernel("f16", 3, 2, {}))
    assert [name for name in found if name.startswith("tw_mma_pair_2_2_f32_2_")]
    assert [name for name in found if name.startswith("tw_mma_2_2_f32_2_")]
    found = _helpers(_kernel("f16", 2, 2, {(1, 0): _store("c0_")}))
    assert not [name for name in found if name.startswith("tw_mma_pair")]


def _store(registers: str) -> str:
    return f"st.global.v4.b32 [%rd5], {_names(registers, 4)};"


BETWEEN = {
    "sums of one tile are read before those of its neighbour are computed": {(1, 0): _store("c0_")},
    "sums are changed in between": {(1, 0): "xor.b32 %c0_1, %c0_1, -2147483648;"},
    "what a step begins with is read": {(0, 1): _store("c0_")},
    "sums of a step are read by others than the next step": {(1, 1): _store("d0_0_")},
    "sums of the first step are changed": {(0, 1): "xor.b32 %d0_0_2, %d0_0_2, -2147483648;"},
    "A is changed between neighbours": {(0, 0): "xor.b32 %a0_1, %a0_1, -2147483648;"},
    "B is changed after it was used": {(0, 0): "mov.b32 %b0_0_0, 0;"},
}


@pytest.mark.parametrize("between", list(BETWEEN.values()), ids=list(BETWEEN))
def test_what_stands_between_products_sees_what_it_should(between: dict[tuple[int, int], str]) -> None:
    _agree("tf32", 2, 2, between)

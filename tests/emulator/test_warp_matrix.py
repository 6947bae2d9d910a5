"""wmma through CUDA's own header, and mma.sync of f64 and of eight rows: against NumPy."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tests.emulator.harness import Runner

_STORED = {
    "f16": np.dtype("f2"), "bf16": np.dtype(ml_dtypes.bfloat16), "tf32": np.dtype("f4"), "f64": np.dtype("f8"),
    "s8": np.dtype("i1"), "u8": np.dtype("u1"),
}  # fmt: skip
_SUMS = {"f16": "f2", "f32": "f4", "f64": "f8", "s32": "i4"}


def _laid(matrix: np.ndarray[Any, Any], by_rows: bool) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(matrix if by_rows else matrix.T)


@pytest.mark.parametrize(
    ("kernel", "shape", "element", "total", "layouts"),
    [
        ("f16_f32", (16, 16), "f16", "f32", "rrr"), ("f16_f16_tall", (32, 8), "f16", "f16", "crc"),
        ("f16_f32_wide", (8, 32), "f16", "f32", "rcr"), ("bf16_f32", (16, 16), "bf16", "f32", "ccr"),
        ("bf16_f32_wide", (8, 32), "bf16", "f32", "crc"), ("tf32_f32", (16, 16), "tf32", "f32", "rcc"),
        ("tf32_f32_turned", (16, 16), "tf32", "f32", "crr"), ("s8_s32", (16, 16), "s8", "s32", "rcr"),
        ("u8_s32_tall", (32, 8), "u8", "s32", "crr"), ("f64_f64", (8, 8), "f64", "f64", "rcr"),
        ("f64_f64_turned", (8, 8), "f64", "f64", "crc"),
    ],
)  # fmt: skip
def test_tiles(kernel: str, shape: tuple[int, int], element: str, total: str, layouts: str) -> None:
    rows, columns = shape
    depth, random = 48, np.random.default_rng(0)
    low = 0 if element == "u8" else -4
    # Small whole numbers: every type holds all sums exactly.
    a, b, c = (random.integers(low, 5, size) for size in ((rows, depth), (depth, columns), (rows, columns)))
    given = [
        _laid(matrix.astype(_STORED[element] if letter != "c" else _SUMS[total]), layout == "r")
        for letter, matrix, layout in zip("abc", (a, b, c), layouts, strict=True)
    ]
    got = Runner.of("wmma")(kernel, *given, np.zeros_like(given[2]), depth)[3]
    expected = _laid(2 * (a @ b + c), layouts[2] == "r")
    assert (got.reshape(expected.shape) == expected).all()


def test_a_product_by_way_of_shared_memory() -> None:
    random = np.random.default_rng(1)
    a, b = (random.standard_normal(size).astype("f2") for size in ((128, 32), (32, 64)))
    d = Runner.of("wmma")("product", a, b, np.zeros((128, 64), "f4"), 64, 32, grid=(1, 2), block=(128,))[2]
    # Sums of 32 products of halves in f32, in another order.
    np.testing.assert_allclose(d, a.astype("f8") @ b.astype("f8"), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("kernel", "low", "high"), [("nibbles", -8, 8), ("unsigned_nibbles", 0, 16)])
def test_nibbles(kernel: str, low: int, high: int) -> None:
    a, b = np.random.default_rng(2).integers(low, high, (2, 8, 32))
    words = [_packed(matrix, 4) for matrix in (a, b)]
    assert (Runner.of("wmma")(kernel, *words, np.zeros((8, 8), "i4"))[2] == 3 + a @ b.T).all()


@pytest.mark.parametrize("kernel", ["bits", "common_bits"])
def test_bits(kernel: str) -> None:
    a, b = np.random.default_rng(3).integers(0, 2, (2, 8, 128))
    expected = a @ (1 - b.T) + (1 - a) @ b.T if kernel == "bits" else a @ b.T
    words = [_packed(matrix, 1) for matrix in (a, b)]
    assert (Runner.of("wmma")(kernel, *words, np.zeros((8, 8), "i4"))[2] == 3 + expected).all()


def _packed(rows: np.ndarray[Any, Any], bits: int) -> np.ndarray[Any, Any]:
    """Whole numbers of `bits` bits as 32-bit words, the first lowest."""
    shaped = rows.reshape(len(rows), -1, 32 // bits).astype("u8") & ((1 << bits) - 1)
    return (shaped << np.arange(0, 32, bits, dtype="u8")).sum(axis=2, dtype="u8").astype("u4")


@pytest.mark.parametrize("shape", ["m8n8k4", "m16n8k4", "m16n8k8", "m16n8k16"])
def test_products_of_f64(shape: str) -> None:
    """Lane 4g + t holds A[g, t], B[t, g] and C[g, 2t..]; more registers are eight rows or four of k further on."""
    rows, depth = int(shape[1:].split("n")[0]), int(shape.split("k")[1])
    random = np.random.default_rng(4)
    a, b, c = (random.standard_normal(size) for size in ((rows, depth), (depth, 8), (rows, 8)))
    lane = np.arange(32)
    g, t = lane // 4, lane % 4
    halves = range(0, rows, 8)
    fragments = [
        np.stack([a[g + half, t + k] for k in range(0, depth, 4) for half in halves], axis=1),
        np.stack([b[t + k, g] for k in range(0, depth, 4)], axis=1),
        np.stack([c[g + half, 2 * t + i] for half in halves for i in (0, 1)], axis=1),
    ]
    loads = ""
    for letter, part in zip("abc", fragments, strict=True):
        count = part.shape[1]
        loads += f"ld.param.u64 %rd0, [p{letter}]; mad.wide.u32 %rd1, %r0, {8 * count}, %rd0;"
        loads += "".join(f"ld.global.f64 %{letter}{i}, [%rd1+{8 * i}];" for i in range(count))
    counts = dict(zip("abc", (part.shape[1] for part in fragments), strict=True))
    registers = ["{" + ", ".join(f"%{x}{i}" for i in range(count)) + "}" for x, count in counts.items()]
    ptx = f""".version 8.0\n.target sm_90a\n.address_size 64
    .visible .entry k(.param .u64 pa, .param .u64 pb, .param .u64 pc) {{
    .reg .b32 %r0; .reg .f64 %a<8>, %b<4>, %c<4>; .reg .b64 %rd<2>; mov.u32 %r0, %tid.x; {loads}
    mma.sync.aligned.{shape}.row.col.f64.f64.f64.f64 {registers[2]}, {registers[0]}, {registers[1]}, {registers[2]};
    {"".join(f"st.global.f64 [%rd1+{8 * i}], %c{i};" for i in range(counts["c"]))} ret; }}"""
    got = Runner(ptx)("k", *map(np.ascontiguousarray, fragments))[2]
    wanted = a @ b + c
    expected = np.stack([wanted[g + half, 2 * t + i] for half in halves for i in (0, 1)], axis=1)
    np.testing.assert_allclose(got, expected, rtol=1e-13, atol=1e-13)  # f64 sums of at most 16 products

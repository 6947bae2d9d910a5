"""Whole kernels that nvcc compiled, against NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest
from tests.emulator.harness import Runner


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(7)


def test_pointwise_with_partial_last_block(random: np.random.Generator) -> None:
    x = random.standard_normal(1000).astype("f4")
    assert (Runner.of("pointwise")("add_one", x, 1000, grid=(5,), block=(256,))[0] == x + 1).all()


def test_block_not_a_multiple_of_the_warp(random: np.random.Generator) -> None:
    x = random.standard_normal(35).astype("f4")
    assert (
        Runner.of("pointwise")("add_one", x, 33, grid=(3,), block=(11,))[0] == np.append(x[:33] + 1, x[33:])
    ).all()


def test_vector_pointwise(random: np.random.Generator) -> None:
    x, y = random.standard_normal((2, 4096)).astype("f4")
    z = Runner.of("pointwise")("silu_add4", x, y, np.zeros_like(x), 1024, grid=(4,), block=(256,))[2]
    wide = x.astype("f8")
    # ex2, rcp and the products each round to f32: a few units of 2^-24 of values up to about 5.
    np.testing.assert_allclose(z, wide / (1 + np.exp(-wide)) + y, atol=3e-6)


def test_sgemm(random: np.random.Generator) -> None:
    a = random.standard_normal((128, 64)).astype("f4")
    b = random.standard_normal((64, 256)).astype("f4")
    c = Runner.of("sgemm")(
        "sgemm", a, b, np.zeros((128, 256), "f4"), 128, 256, 64, grid=(2, 1), block=(256,)
    )[2]
    # 64 fused steps, each rounding a partial sum of size about 8 to 2^-24 relative.
    np.testing.assert_allclose(c, a.astype("f8") @ b.astype("f8"), atol=2e-5)


def test_sgemm_is_a_chain_of_fused_steps_in_order(random: np.random.Generator) -> None:
    a = random.standard_normal((128, 8)).astype("f4")
    b = random.standard_normal((8, 128)).astype("f4")
    c = Runner.of("sgemm")("sgemm", a, b, np.zeros((128, 128), "f4"), 128, 128, 8, grid=(1, 1), block=(256,))[
        2
    ]
    expected = np.zeros((128, 128), "f4")
    for k in range(8):
        expected = (np.outer(a[:, k].astype("f8"), b[k].astype("f8")) + expected).astype("f4")
    assert (c == expected).all()


@pytest.mark.parametrize("columns", [1, 31, 100, 257])
def test_softmax_by_warp_shuffles(random: np.random.Generator, columns: int) -> None:
    x = 3 * random.standard_normal((6, columns)).astype("f4")
    y = Runner.of("softmax")("softmax_warp", x, np.zeros_like(x), 6, columns, grid=(2,), block=(128,))[1]
    np.testing.assert_allclose(y, _softmax(x), rtol=2e-6)  # expf has 2 ulp, the sum and quotient add some


def test_softmax_by_blocks_with_dynamic_shared_memory(random: np.random.Generator) -> None:
    x = 3 * random.standard_normal((5, 300)).astype("f4")
    y = Runner.of("softmax")("softmax_block", x, np.zeros_like(x), 300, grid=(5,), block=(128,), shared=16)[1]
    np.testing.assert_allclose(y, _softmax(x), rtol=2e-6)  # as above


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x.astype("f8") - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def test_hgemm_with_asynchronous_copies_and_ldmatrix(random: np.random.Generator) -> None:
    a = random.standard_normal((64, 96)).astype("f2")
    b = random.standard_normal((96, 128)).astype("f2")
    c = Runner.of("hgemm")("hgemm", a, b, np.zeros((64, 128), "f4"), 64, 128, 96, grid=(2, 1), block=(128,))[
        2
    ]
    # Products of halves are exact in f32; 96 additions round sums of size about 10.
    np.testing.assert_allclose(c, a.astype("f8") @ b.astype("f8"), atol=3e-5)


def test_tf32_gemm(random: np.random.Generator) -> None:
    a = random.standard_normal((32, 24)).astype("f4")
    b = random.standard_normal((24, 16)).astype("f4")
    c = Runner.of("tf32gemm")("tf32gemm", a, b, np.zeros((32, 16), "f4"), 16, 24, grid=(2, 2))[2]

    def rounded(x: np.ndarray) -> np.ndarray:
        return ((x.view("u4") + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view("f4").astype("f8")

    np.testing.assert_allclose(c, rounded(a) @ rounded(b), atol=1e-5)  # f32 sums of 24 exact products


def test_data_dependent_loop_with_break() -> None:
    start = np.arange(1, 301, dtype="i4")

    def steps(x: int) -> int:
        count = 0
        while x != 1:
            x = 3 * x + 1 if x % 2 else x // 2
            count += 1
            if count > 100:
                return -1
        return count

    result = Runner.of("control")("collatz", start, np.zeros_like(start), 290, grid=(3,), block=(128,))[1]
    assert result.tolist() == [steps(int(x)) for x in start[:290]] + [0] * 10


def test_switch(random: np.random.Generator) -> None:
    kind = random.integers(0, 9, 200).astype("i4")
    x = random.integers(-9, 9, 200).astype("f4")
    y = Runner.of("control")("dispatch", kind, x, np.full(200, 5, "f4"), 200, grid=(2,), block=(128,))[2]

    def one(kind: int, v: float, i: int) -> float:
        if kind == 6:
            for j in range(i % 5):
                v = v * 0.5 + j
            return v
        return {0: v + 1, 1: v * v, 2: -v, 3: abs(v), 4: 7, 5: v - 3}.get(kind, 0)

    assert y.tolist() == [one(int(k), float(v), i) for i, (k, v) in enumerate(zip(kind, x, strict=True))]


def test_function_calls(random: np.random.Generator) -> None:
    a, b = random.integers(-50, 50, (2, 64)).astype("i4")

    def helper(p: int, q: int) -> int:
        return p * 3 if p > q else q - p

    expected = []
    for p, q in zip(a.tolist(), b.tolist(), strict=True):
        r = helper(p, q)
        expected.append(r + helper(q, r) if r % 2 else r)
    assert Runner.of("control")("calls", a, b, np.zeros_like(a), block=(64,))[2].tolist() == expected


def test_local_arrays(random: np.random.Generator) -> None:
    keys = random.integers(0, 100, (40, 8)).astype("i4")
    out = Runner.of("control")("local_sort", keys, np.zeros((40, 9), "i4"), block=(40,))[1]
    ordered = np.sort(keys, axis=1)
    assert (out[:, :8] == ordered).all()
    assert (out[:, 8] == ordered[np.arange(40), keys[:, 0] & 7]).all()


def test_votes_matches_and_warp_reductions(random: np.random.Generator) -> None:
    x = random.integers(-100, 100, 64).astype("i4")
    out = Runner.of("control")("votes", x, np.zeros((64, 6), "u4"), block=(64,))[1]
    for warp in range(2):
        lanes = x[32 * warp : 32 * warp + 32]
        bits = [1 << lane for lane in range(32)]
        positive = sum(bit for bit, value in zip(bits, lanes, strict=True) if value > 0)
        for lane in range(32):
            row = out[32 * warp + lane]
            assert row[0] == positive
            assert row[1] == bool((lanes > 90).any()) + 2 * bool((lanes < 99).all())
            assert row[2] == sum(
                bit for bit, value in zip(bits, lanes, strict=True) if value & 3 == lanes[lane] & 3
            )
            assert row[3].view("i4") == lanes.sum() and row[4].view("i4") == lanes.max()
            assert row[5] == (positive if lanes[lane] > 0 else 0)


def test_barrier_reductions(random: np.random.Generator) -> None:
    x = random.integers(0, 100, 3 * 48).astype("i4")
    out = Runner.of("control")("reduce_by_barrier", x, np.zeros_like(x), grid=(3,), block=(48,))[1].reshape(
        3, 48
    )
    blocks = x.reshape(3, 48)
    assert (out == ((blocks & 1).sum(1) * 2 + (blocks > 95).any(1))[:, None]).all()


def test_initialised_globals_and_constants() -> None:
    out = Runner.of("control")("constants", np.zeros(32, "f4"))[0]
    lane = np.arange(32)
    assert (out == np.array([10, 20, 30, 40, 50])[lane % 5] * np.array([1.5, -2])[lane % 2]).all()

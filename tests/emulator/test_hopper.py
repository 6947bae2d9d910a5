"""A warp-specialised persistent product with tensor copies, wgmma and setmaxnreg, alone and in clusters of two
blocks.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from tests.emulator.hopper_harness import Tensors

from tilewright.runtime.emulator.observer import Instrument, Order
from tilewright.runtime.emulator.sanitizer import Sanitizer

BF16 = ml_dtypes.bfloat16
SHARED = 3 * 2 * 128 * 64 * 2 + 2 * 64 * 128 * 2
"""Three stages of two tiles, and the tile of results."""


class _Unkind(Instrument):
    """Warps in a chosen order, copies at the latest moment."""

    delayed = True

    def __init__(self, order: Order) -> None:
        self.order = order


def _product(name: str, m: int, n: int, k: int, grid: int, instrument: Instrument | None = None) -> None:
    tensors = Tensors("wsgemm", instrument)
    random = np.random.default_rng(m + n + k)
    a, b = random.standard_normal((m, k)).astype(BF16), random.standard_normal((n, k)).astype(BF16)
    c = np.zeros((m, n), BF16)
    place_a, place_b, place_c = tensors.put(a), tensors.put(b), tensors.put(c)
    rows_of_b = 64 if name.endswith("cluster") else 128
    maps = [
        tensors.map("bfloat16", place_a, a, (64, 128), swizzle="128b"),
        tensors.map("bfloat16", place_b, b, (64, rows_of_b), swizzle="128b"),
        tensors.map("bfloat16", place_c, c, (64, 64), swizzle="128b"),
    ]
    tensors.launch(name, *maps, m, n, k, grid=grid, block=384, shared=SHARED)
    expected = a.astype("f8") @ b.astype("f8").T
    # One rounding to the 8 bits of bf16; sums in f32 add a thousandth of that.
    np.testing.assert_allclose(tensors.get(place_c, c).astype("f8"), expected, rtol=2**-8, atol=2e-4)


@pytest.mark.parametrize(("m", "n", "k", "grid"), [(128, 128, 64, 1), (256, 128, 320, 2), (256, 384, 128, 4)])
def test_persistent_blocks(m: int, n: int, k: int, grid: int) -> None:
    """One step; more steps than stages; more tiles than blocks."""
    _product("wsgemm", m, n, k, grid)


@pytest.mark.parametrize(("m", "n", "k", "grid"), [(256, 128, 64, 2), (512, 256, 256, 4)])
def test_clusters_share_tiles(m: int, n: int, k: int, grid: int) -> None:
    _product("wsgemm_cluster", m, n, k, grid)


@pytest.mark.parametrize("name", ["wsgemm", "wsgemm_cluster"])
@pytest.mark.parametrize("order", [Order("reversed"), Order("random", 3)], ids=str)
def test_any_order_and_the_latest_copies_give_the_same(name: str, order: Order) -> None:
    _product(name, 256, 128, 128, 2, _Unkind(order))


def test_what_llvm_makes_of_nvvm_operations() -> None:
    """Two blocks load half a tile each for both, look into each other's shared memory, and store the whole tile."""
    tensors = Tensors("llvm_share")
    x = np.random.default_rng(4).standard_normal((32, 64)).astype("f4")
    y, out = np.zeros((64, 64), "f4"), np.zeros((4, 32), "f4")
    place_x, place_y, place_out = tensors.put(x), tensors.put(y), tensors.put(out)
    half, whole = tensors.map("float32", place_x, x, (64, 8)), tensors.map("float32", place_y, y, (64, 16))
    tensors.launch("share", half, whole, np.int64(place_out), grid=4, block=32, shared=4096)
    pairs = x.reshape(2, 16, 64)
    assert (tensors.get(place_y, y).reshape(4, 16, 64) == np.repeat(pairs, 2, axis=0)).all()
    assert (tensors.get(place_out, out) == np.repeat(pairs[:, 0, :32], 2, axis=0)).all()


@pytest.mark.parametrize("name", ["wsgemm", "wsgemm_cluster"])
def test_the_sanitizer_finds_nothing(name: str) -> None:
    sanitizer = Sanitizer(Order("random", 5))
    _product(name, 256, 128, 256, 2, sanitizer)
    assert not len(sanitizer.findings)

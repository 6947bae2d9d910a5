"""Products with a sparse A, of floats of 4 to 8 bits, with scaled blocks, and matrices of bytes: kernels that nvcc
compiled, against NumPy on whole matrices of small numbers, which f32 adds exactly."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tests.emulator.harness import Runner

from tilewright.runtime.errors import DeviceError

Array = np.ndarray[Any, Any]
_FLOATS = {
    "f16": np.dtype("f2"), "bf16": np.dtype(ml_dtypes.bfloat16), "tf32": np.dtype("f4"), "s8": np.dtype("i1"),
    "u8": np.dtype("u1"), "e4m3": np.dtype(ml_dtypes.float8_e4m3fn), "e5m2": np.dtype(ml_dtypes.float8_e5m2),
    "e2m1": np.dtype(ml_dtypes.float4_e2m1fn), "e2m3": np.dtype(ml_dtypes.float6_e2m3fn),
    "e3m2": np.dtype(ml_dtypes.float6_e3m2fn),
}  # fmt: skip
_SMALL = np.array([0, 0.5, 1, 1.5, 2, 3])
"""Values that all floats have."""


def _random(random: np.random.Generator, element: str, shape: tuple[int, int]) -> Array:
    """Numbers that `element` holds."""
    if element in ("u8", "u4"):
        return random.integers(0, 16, shape).astype("f8")
    if element in ("s8", "s4"):
        return random.integers(-8, 8, shape).astype("f8")
    return random.choice(_SMALL, shape) * random.choice([-1, 1], shape)


def _bytes(matrix: Array, element: str, packed: bool = False) -> Array:
    """Lines of `element`s as registers hold them; 4-bit floats alone in the middle of a byte, or `packed` by two."""
    if element in ("s4", "u4") or (element == "e2m1" and packed):
        nibbles = matrix.astype("i1").view("u1") if element != "e2m1" else matrix.astype(_FLOATS["e2m1"]).view("u1")
        return np.ascontiguousarray(nibbles[:, 0::2] & 15 | nibbles[:, 1::2] << 4)
    stored = np.ascontiguousarray(matrix.astype(_FLOATS[element])).view("u1")
    return stored << 2 if element == "e2m1" else stored


def _sparse(random: np.random.Generator, dense: Array, element: str, ordered: bool, packed: bool) -> tuple[Any, ...]:
    """(A with half its elements zero, the others in a row, places in fours): of four units two, a unit being an
    element, or two of 4 bits that stand together; of tf32 one of two elements."""
    pair = 2 if packed else 1
    rows, depth = dense.shape
    units = dense.reshape(rows, -1, pair)
    if element == "tf32":
        chosen = random.integers(0, 2, (rows, depth // 2, 1))
        places = np.concatenate([2 * chosen, 2 * chosen + 1], axis=2).reshape(rows, -1)
        taken = 2 * np.arange(depth // 2) + chosen[:, :, 0]
    else:
        chosen = np.argsort(random.random((rows, units.shape[1] // 4, 4)), axis=2)[:, :, :2]
        places = (np.sort(chosen, axis=2) if ordered else chosen).reshape(rows, -1)
        taken = 4 * (np.arange(places.shape[1]) // 2) + places
    kept = np.take_along_axis(units, taken[:, :, None], axis=1)
    whole = np.zeros_like(units)
    np.put_along_axis(whole, np.broadcast_to(taken[:, :, None], kept.shape), kept, axis=1)
    return whole.reshape(rows, depth), kept.reshape(rows, -1), places


def _metadata(places: Array, bits: int) -> Array:
    """Two bits for each place, in words of 16 or 32 bits, by rows."""
    fields = places.reshape(len(places), -1, bits // 2).astype("u8")
    return (fields << np.arange(0, bits, 2, dtype="u8")).sum(axis=2).astype(f"u{bits // 8}")


@pytest.mark.parametrize(
    ("kernel", "a", "b", "depth"),
    [
        ("sparse_f16", "f16", "f16", 16), ("sparse_f16_deep", "f16", "f16", 32),
        ("sparse_bf16_any_order", "bf16", "bf16", 32), ("sparse_tf32", "tf32", "tf32", 8),
        ("sparse_tf32_deep", "tf32", "tf32", 16), ("sparse_s8", "s8", "u8", 32), ("sparse_s8_deep", "s8", "s8", 64),
        ("sparse_s4", "s4", "u4", 128), ("sparse_e4m3", "e4m3", "e5m2", 64), ("sparse_e2m1", "e2m1", "e3m2", 64),
    ],
)  # fmt: skip
def test_sparse(kernel: str, a: str, b: str, depth: int) -> None:
    random = np.random.default_rng(depth)
    whole, kept, places = _sparse(random, _random(random, a, (16, depth)), a, "any" not in kernel, a == "s4")
    right = _random(random, b, (depth, 8))
    sums = random.integers(-9, 9, (16, 8)).astype("i4" if a in ("s8", "s4") else "f4")
    metadata = _metadata(places, 16 if a in ("f16", "bf16", "tf32") else 32)
    given = _bytes(kept, a), _bytes(right.T, b), sums, metadata, np.zeros_like(sums)
    assert (Runner.of("blackwell")(kernel, *given)[4] == whole @ right + sums).all()


def test_sparse_metadata_that_cannot_be() -> None:
    operands = np.zeros((16, 16), "u1"), np.zeros((8, 32), "u1"), np.zeros((16, 8), "f4")
    metadata = np.full((16, 1), 0x4444, "u2")
    metadata[9] = 0x4414
    with pytest.raises(DeviceError, match=r"the metadata of row 9 .*\n.*sparse_f16(.|\n)*PTX line \d+: mma.sp"):
        Runner.of("blackwell")("sparse_f16", *operands, metadata, np.zeros((16, 8), "f4"))


@pytest.mark.parametrize(("a", "b"), [("e2m1", "e3m2"), ("e2m3", "e2m1"), ("e4m3", "e5m2")])
def test_small_floats(a: str, b: str) -> None:
    random = np.random.default_rng(0)
    left, right = _random(random, a, (16, 32)), _random(random, b, (32, 8))
    sums = random.integers(-9, 9, (16, 8)).astype("f4")
    given = _bytes(left, a), _bytes(right.T, b), sums, np.zeros_like(sums)
    assert (Runner.of("blackwell")(f"small_{a}_{b}", *given)[3] == left @ right + sums).all()


def _scales(random: np.random.Generator, lines: int, count: int, first: int, kind: str) -> tuple[Array, Array]:
    """(numbers [lines, count], words of which the bytes from `first` on hold them)."""
    words = np.full((lines, 4), 0x55, "u1")
    if kind == "ue8m0":
        numbers = random.integers(-3, 4, (lines, count))
        words[:, first : first + count] = numbers + 127
        return np.exp2(numbers), words
    numbers = random.choice(_SMALL, (lines, count))
    words[:, first : first + count] = numbers.astype(_FLOATS["e4m3"]).view("u1")
    return numbers, words


@pytest.mark.parametrize(
    ("kernel", "a", "b", "depth", "count", "kind", "selectors"),
    [
        ("scaled_mxf8", "e4m3", "e2m1", 32, 1, "ue8m0", (3, 1, 2, 2)),
        ("scaled_mxf4", "e2m1", "e2m1", 64, 2, "ue8m0", (2, 0, 0, 3)),
        ("scaled_nvf4", "e2m1", "e2m1", 64, 4, "ue4m3", (0, 1, 0, 0)),
    ],
)
def test_scaled_blocks(
    kernel: str, a: str, b: str, depth: int, count: int, kind: str, selectors: tuple[int, ...]
) -> None:  # fmt: skip
    random = np.random.default_rng(count)
    left, right = _random(random, a, (16, depth)), _random(random, b, (depth, 8))
    of_rows, words_a = _scales(random, 16, count, selectors[0], kind)
    of_columns, words_b = _scales(random, 8, count, selectors[2], kind)
    sums = random.integers(-9, 9, (16, 8)).astype("f4")
    given = _bytes(left, a, depth == 64), _bytes(right.T, b, depth == 64), sums, words_a, words_b, np.zeros_like(sums)
    got = _with_selectors(kernel, given, selectors)
    scaled = left * np.repeat(of_rows, depth // count, axis=1), right * np.repeat(of_columns, depth // count, axis=1).T
    assert (got == scaled[0] @ scaled[1] + sums).all()


def _with_selectors(kernel: str, arrays: tuple[Array, ...], selectors: tuple[int, ...]) -> Array:
    """D of a kernel whose last parameters have 16 bits."""
    runner = Runner.of("blackwell")
    device = runner.device
    addresses = [device.allocate(array.nbytes) for array in arrays]
    for address, array in zip(addresses, arrays, strict=True):
        device.upload(address, array)
    arguments = [("pointer", address) for address in addresses]
    arguments += [("bytes", np.uint16(selector).tobytes()) for selector in selectors]
    device.launch(device.load(kernel, runner.ptx), (1, 1, 1), (32, 1, 1), 0, arguments)
    result = np.empty_like(arrays[-1])
    device.download(addresses[-1], result)
    return result


def test_selectors_that_there_are_not() -> None:
    zeros = [np.zeros(shape, "u1") for shape in ((16, 32), (8, 32), (16, 32), (16, 4), (8, 4), (16, 32))]
    with pytest.raises(DeviceError, match="scale_vec::2X has no byte 1 of thread 0 for A"):
        _with_selectors("scaled_mxf4", tuple(zeros), (1, 0, 0, 0))


def test_sparse_and_scaled() -> None:
    random = np.random.default_rng(3)
    whole, kept, places = _sparse(random, _random(random, "e2m1", (16, 128)), "e2m1", True, True)
    right = _random(random, "e2m1", (128, 8))
    of_rows, words_a = _scales(random, 16, 2, 0, "ue8m0")
    of_columns, words_b = _scales(random, 8, 2, 0, "ue8m0")
    sums = random.integers(-9, 9, (16, 8)).astype("f4")
    given = _bytes(kept, "e2m1", True), _bytes(right.T, "e2m1", True), sums, _metadata(places, 32), words_a, words_b
    got = Runner.of("blackwell")("sparse_scaled", *given, np.zeros_like(sums))[6]
    scaled = whole * np.repeat(of_rows, 64, axis=1), right * np.repeat(of_columns, 64, axis=1).T
    assert (got == scaled[0] @ scaled[1] + sums).all()


@pytest.mark.parametrize(
    ("kernel", "rows", "bits", "square"),
    [
        ("load_b8", 16, 8, True), ("load_b8_twice", 32, 8, True), ("load_b6_square", 16, 6, True),
        ("load_b4_square", 32, 4, True), ("load_b6", 32, 6, False), ("load_b4", 16, 4, False),
    ],
)  # fmt: skip
def test_loads_of_bytes(kernel: str, rows: int, bits: int, square: bool) -> None:
    stored = np.random.default_rng(bits).integers(0, 256, (rows, 16)).astype("u1")
    elements = np.array([
        [int.from_bytes(bytes(row), "little") >> bits * place & ((1 << bits) - 1) for place in range(16)]
        for row in stored
    ])  # fmt: skip
    got = Runner.of("blackwell")(kernel, stored, np.zeros((rows // 8, 32), "u4"))[1].view("u1").reshape(-1, 32, 4)
    for register, lane, byte in np.ndindex(*got.shape):
        g, t = lane // 4, 4 * (lane % 4) + byte
        where = (16 * (register // 2) + t, g + 8 * (register % 2)) if square else (8 * register + g, t)
        assert got[register, lane, byte] == elements[where]


def test_a_store_of_bytes() -> None:
    given = np.random.default_rng(5).integers(0, 256, (2, 32, 4)).astype("u1")
    got = Runner.of("blackwell")("store_b8", given, np.zeros((2, 8, 16), "u1"))[1]
    for matrix, lane, byte in np.ndindex(*given.shape):
        row, column = lane // 4 + 8 * (byte // 2), 2 * (lane % 4) + byte % 2
        assert got[matrix, column, row] == given[matrix, lane, byte]


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_cluster_that_the_launch_asks_for(size: int) -> None:
    runner = Runner.of("blackwell")
    device = runner.device
    out = device.allocate(64)
    kernel = device.load("launched_in_clusters", runner.ptx)
    device.launch(kernel, (8, 1, 1), (32, 1, 1), 0, [("pointer", out)], cluster=(size, 1, 1))
    got = np.zeros((8, 2), "i4")
    device.download(out, got)
    wanted = np.arange(1, 9).reshape(-1, size).sum(axis=1).repeat(size)
    assert (got[:, 0] == wanted).all() and (got[:, 1] == size).all()
    with pytest.raises(DeviceError, match="is not a multiple of the cluster"):
        device.launch(kernel, (8, 1, 1), (32, 1, 1), 0, [("pointer", out)], cluster=(3, 1, 1))


def test_clusters_that_ptx_and_launch_disagree_on() -> None:
    entry = ".version 9.0\n.target sm_90\n.address_size 64\n.visible .entry k() .explicitcluster{} {{ ret; }}\n"
    runner = Runner(entry.format(""))
    kernel = runner.device.load("k", runner.ptx)
    with pytest.raises(DeviceError, match=r"\.explicitcluster asks for a cluster"):
        runner.device.launch(kernel, (2, 1, 1), (32, 1, 1), 0, [])
    runner.device.launch(kernel, (2, 1, 1), (32, 1, 1), 0, [], cluster=(2, 1, 1))
    runner = Runner(entry.format(" .reqnctapercluster 4, 1, 1"))
    with pytest.raises(DeviceError, match=r"differs from \.reqnctapercluster"):
        runner.device.launch(runner.device.load("k", runner.ptx), (4, 1, 1), (32, 1, 1), 0, [], cluster=(2, 1, 1))

"""Bulk and tensor copies (TMA): kernels that nvcc compiled, against copies made element by element."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from tests.emulator.hopper_harness import Tensors

from tilewright.runtime.emulator.numpy_im2col import pixel_runs
from tilewright.runtime.emulator.sanitizer import Sanitizer
from tilewright.runtime.emulator.tensor_map import decode, encode
from tilewright.runtime.errors import DeviceError
from tilewright.runtime.tensor_map import Im2col, TensorMap

SPANS = {"none": 0, "32b": 32, "64b": 64, "128b": 128}
FILLER = 0xEE


def _placed(rows: np.ndarray, swizzle: str, nbytes: int, start: int = 0) -> np.ndarray:
    """Shared memory of `nbytes` bytes after rows of bytes arrived at `start`: 16-byte pieces by address bits."""
    span = SPANS[swizzle]
    memory = np.full(nbytes, FILLER, "u1")
    for row, data in enumerate(rows):
        for piece in range(len(data) // 16):
            address = start + row * (span or len(data)) + 16 * piece
            address ^= {0: 0, 32: address >> 7 & 1, 64: address >> 7 & 3, 128: address >> 7 & 7}[span] << 4
            memory[address : address + 16] = data[16 * piece : 16 * piece + 16]
    return memory


def _box(
    x: np.ndarray, start: tuple[int, ...], extents: tuple[int, ...], steps: tuple[int, ...], fill: float
) -> np.ndarray:
    """Elements of `x` from `start`, all outermost first; `fill` outside."""
    result = np.full(extents, fill, x.dtype)
    for place in itertools.product(*map(range, extents)):
        index = tuple(s + p * step for s, p, step in zip(start, place, steps, strict=True))
        if all(0 <= i < n for i, n in zip(index, x.shape, strict=True)):
            result[place] = x[index]
    return result


def _load(tensors: Tensors, name: str, tensor_map: object, nbytes: int, size: int, *coordinates: int) -> np.ndarray:
    out = np.zeros(size, "u1")
    address = tensors.put(out)
    padded = (*coordinates, 0, 0, 0, 0, 0)[:5] if name.endswith("d") and "im2col" not in name else coordinates
    tensors.launch(name, tensor_map, nbytes, size // 4, np.int64(address), *padded, shared=size)
    return tensors.get(address, out)


@pytest.mark.parametrize("swizzle", ["none", "32b", "64b", "128b"])
@pytest.mark.parametrize("dtype", ["f4", "f2", "u1"])
def test_tiles_of_matrices(swizzle: str, dtype: str) -> None:
    tensors = Tensors("tma")
    x = np.random.default_rng(0).integers(0, 200, (40, 256)).astype(dtype)
    name = {"f4": "float32", "f2": "float16", "u1": "uint8"}[dtype]
    inner = (SPANS[swizzle] or 96) // x.itemsize
    made = tensors.map(name, tensors.put(x), x, (inner, 19), swizzle=swizzle)
    for column, row in ((0, 0), (16, 30), (-8, -3), (250, 39), (512, 0)):
        got = _load(tensors, "load_2d", made, 19 * inner * x.itemsize, 8192, column, row)
        box = _box(x, (row, column), (19, inner), (1, 1), 0)
        assert (got == _placed(box.view("u1"), swizzle, 8192)).all()


@pytest.mark.parametrize("rank", [1, 2, 3, 4, 5])
def test_ranks_and_element_strides(rank: int) -> None:
    tensors = Tensors("tma")
    shape = (3, 4, 5, 6, 32)[5 - rank :]
    box, steps = (2, 3, 4, 5, 16)[5 - rank :], (1, 2, 1, 3, 1)[5 - rank :]
    x = np.random.default_rng(rank).standard_normal(shape).astype("f4")
    made = tensors.map("float32", tensors.put(x), x, box[::-1], element_strides=steps[::-1])
    extents = tuple(-(-extent // step) for extent, step in zip(box, steps, strict=True))
    for start in ((0,) * 5, (2, 1, 3, 2, 20), (-1, -1, -2, -1, -4)):
        start = start[5 - rank :]
        got = _load(tensors, f"load_{rank}d", made, 4 * int(np.prod(extents)), 16384, *start[::-1])
        expected = _box(x, start, extents, steps, 0).reshape(-1, extents[-1])
        assert (got == _placed(expected.view("u1"), "none", 16384)).all()


def test_fill_with_nan_and_a_map_by_pointer() -> None:
    tensors = Tensors("tma")
    x = np.ones((4, 8), "f4")
    made = tensors.map("float32", tensors.put(x), x, (8, 8), fill="nan")
    place = tensors.put(np.frombuffer(made, "u1"))
    got = _load(tensors, "load_by_pointer", np.int64(place), 256, 1024, 0, 0)[:256].view("f4").reshape(8, 8)
    assert (got[:4] == 1).all() and np.isnan(got[4:]).all()


@pytest.mark.parametrize(("stride", "dilation", "padding"), [(1, 1, 1), (2, 1, 1), (1, 2, 2), (2, 2, 0)])
def test_im2col(stride: int, dilation: int, padding: int) -> None:
    """Rows of the im2col matrix of a 3x3 convolution, from the convolution's definition."""
    tensors = Tensors("tma")
    n, h, w, c = 2, 7, 9, 16
    x = np.random.default_rng(5).standard_normal((n, h, w, c)).astype("f4")
    lower, upper = -padding, padding - 2 * dilation
    address, pixels = tensors.put(x), 40
    strides = tuple(x.strides[2::-1])
    im2col = Im2col((lower, lower), (upper, upper), c, pixels)
    made = tensors.device.tensor_map(
        TensorMap("float32", address, (c, w, h, n), strides, (), (1, stride, stride, 1), "64b", im2col=im2col)
    )
    span = dilation * 2 + 1
    high, wide = (h + 2 * padding - span) // stride + 1, (w + 2 * padding - span) // stride + 1
    outputs = list(itertools.product(range(n), range(high), range(wide)))
    for r, s, first in ((0, 0, 0), (2, 1, 5), (1, 2, len(outputs) - 7)):
        rows = np.zeros((pixels, c), "f4")
        for row, (image, p, q) in enumerate(outputs[first : first + pixels]):
            down, across = p * stride - padding + r * dilation, q * stride - padding + s * dilation
            if 0 <= down < h and 0 <= across < w:
                rows[row] = x[image, down, across]
        image, p, q = outputs[first]
        start = (0, q * stride + lower, p * stride + lower, image)
        got = _load(tensors, "load_im2col_4d", made, rows.nbytes, 4096, *start, s * dilation, r * dilation)
        assert (got == _placed(rows.view("u1"), "64b", 4096)).all()


@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_im2col_walks_the_bounding_box_pixel_by_pixel(spatial: int) -> None:
    """Runs of random maps cover exactly the pixels that a walk of one pixel at a time reads inside the tensor."""
    random = np.random.default_rng(spatial)
    for _ in range(30):
        shape = (random.integers(1, 3), *random.integers(3, 8, spatial), 4)  # images, ..., width, channels
        x = np.arange(np.prod(shape), dtype="i4").reshape(shape)
        lower, upper = random.integers(-2, 2, spatial).tolist(), random.integers(-2, 2, spatial).tolist()
        steps = (1, *random.integers(1, 3, spatial).tolist(), 1)
        tensor_map = TensorMap(
            "int32", 0, x.shape[::-1], x.strides[-2::-1], (), steps, im2col=Im2col(tuple(lower), tuple(upper), 4, 30)
        )
        offsets = random.integers(0, 3, spatial).tolist()
        pixel, image = list(lower), 0
        expected = np.full((30, 4), -1)
        for row in range(30):
            place = [at + offset for at, offset in zip(pixel, offsets, strict=True)]
            if image < shape[0] and all(0 <= at < n for at, n in zip(place, shape[-2:0:-1], strict=True)):
                expected[row] = x[(image, *place[::-1])]
            for axis in range(spatial):
                pixel[axis] += steps[axis + 1]
                if pixel[axis] < shape[-2 - axis] + upper[axis]:
                    break
                pixel[axis] = lower[axis]
            else:
                image += 1
        got = np.full((30, 4), -1)
        for address, run, strides, box in pixel_runs(tensor_map, (0, *lower, 0), tuple(offsets)):
            got[box] = np.ndarray(run, "i4", x, address, strides)
        assert (got == expected).all()


@pytest.mark.parametrize("swizzle", ["none", "32b", "64b", "128b"])
def test_stores_drop_what_is_outside(swizzle: str) -> None:
    tensors = Tensors("tma")
    y = np.zeros((20, 64), "f4")
    inner = (SPANS[swizzle] or 64) // 4
    box = np.random.default_rng(1).standard_normal((12, inner)).astype("f4")
    address = tensors.put(y)
    made = tensors.map("float32", address, y, (inner, 12), swizzle=swizzle)
    shared = tensors.put(_placed(box.view("u1"), swizzle, 4096))
    for column, row in ((0, 3), (60, 15), (-4, -5)):
        tensors.launch("store_2d", made, 1024, np.int64(shared), column, row, shared=4096)
        for i, j in itertools.product(range(12), range(inner)):
            if 0 <= row + i < 20 and 0 <= column + j < 64:
                y[row + i, column + j] = box[i, j]
        assert (tensors.get(address, y) == y).all()


@pytest.mark.parametrize(
    ("operation", "data_type", "dtype"),
    [
        ("add", "float32", "f4"), ("add", "float16", "f2"), ("add", "int32", "i4"), ("min", "int32", "i4"),
        ("max", "uint64", "u8"), ("max", "float16", "f2"), ("xor", "uint32", "u4"), ("inc", "uint32", "u4"),
    ],
)  # fmt: skip
def test_reductions(operation: str, data_type: str, dtype: str) -> None:
    tensors = Tensors("tma")
    random = np.random.default_rng(2)
    y, box = (random.integers(0, 50, shape).astype(dtype) for shape in ((8, 16), (8, 16)))
    address, shared = tensors.put(y), tensors.put(box)
    made = tensors.map(data_type, address, y, (16, 8))
    tensors.launch(f"reduce_{operation}", made, box.nbytes // 4, np.int64(shared), 0, 2, shared=4096)
    combine = {
        "add": np.add, "min": np.minimum, "max": np.maximum, "xor": np.bitwise_xor,
        "inc": lambda old, limit: np.where(old >= limit, 0, old + 1),
    }[operation]  # fmt: skip
    y[2:] = combine(y[2:], box[:6])  # small whole numbers: exact in every type
    assert (tensors.get(address, y) == y).all()


def test_plain_runs() -> None:
    tensors = Tensors("tma")
    x = np.arange(200, dtype="f4")
    most = np.array([5, 5, 25, 25], "u4")
    addresses = [tensors.put(array) for array in (x, np.zeros_like(x), x, most)]
    tensors.launch("runs", *map(np.int64, addresses), 640)
    expected = np.where(np.arange(200) < 160, x, 0)
    assert (tensors.get(addresses[1], x) == expected).all()
    assert (tensors.get(addresses[2], x) == x + expected).all()
    assert tensors.get(addresses[3], most).tolist() == [5, 10, 25, 30]


def test_maps_encode_and_decode() -> None:
    im2col = Im2col((-3, -1), (2, 0), 64, 1000)
    for tensor_map in (
        TensorMap("bfloat16", 1 << 40, (1 << 32, 7, 3), (1 << 39, 48), (64, 256, 1), (1, 8, 2), "128b", "256b", "nan"),
        TensorMap(
            "int64", 64, (4, 5, 6, 7), (32, 160, 960), (), (1, 2, 2, 1), "32b", im2col=Im2col((0, 0), (0, 0), 4, 1)
        ),
        TensorMap("uint8", 32, (64, 5, 6, 7), (64, 320, 1920), im2col=im2col),
    ):
        assert decode(encode(tensor_map)) == tensor_map and len(encode(tensor_map)) == 128


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"address": 24}, "address 0x18 is not a multiple of 16"),
        ({"data_type": "float8"}, "unknown data type 'float8' (known: uint8"),
        ({"strides": (72,)}, "strides (72,) are not multiples of 16"),
        ({"box": (300, 4)}, "box (300, 4) is not within 1 to 256"),
        ({"box": (2, 4)}, "an inner row of 8 bytes is not a multiple of 16"),
        ({"box": (64, 4), "swizzle": "128b"}, "an inner row of 256 bytes is wider than the swizzle, 128"),
        ({"element_strides": (1, 9)}, "element strides are not 1 to 8"),
        ({"strides": ()}, "rank 2 needs 1 strides, not 0"),
        ({"data_type": "int32", "fill": "nan"}, "fill with NaN of int32"),
        ({"im2col": Im2col((0,), (0,), 16, 16)}, "im2col needs a rank of 3 to 5, not 2"),
    ],
)
def test_maps_that_a_driver_would_refuse(changes: dict[str, object], part: str) -> None:
    good = {"data_type": "float32", "address": 4096, "shape": (16, 8), "strides": (64,), "box": (16, 4)}
    with pytest.raises(DeviceError) as caught:
        encode(TensorMap(**{**good, **changes}))  # type: ignore[arg-type]
    assert part in str(caught.value)


def test_faults_are_named() -> None:
    tensors = Tensors("tma")
    x = np.zeros((8, 16), "f4")
    address = tensors.put(x)
    too_tall = np.zeros((9, 16), "f4")
    with pytest.raises(DeviceError, match=r"out of bounds: .* past the end of allocation"):
        _load(tensors, "load_2d", tensors.map("float32", address, too_tall, (16, 9)), 576, 1024, 0, 0)
    with pytest.raises(DeviceError, match="no tensor map at"):
        _load(tensors, "load_2d", bytes(128), 64, 1024, 0, 0)
    with pytest.raises(DeviceError, match="2 coordinates for a tensor map of rank 1"):
        _load(tensors, "load_2d", tensors.map("float32", address, x.reshape(-1), (16,)), 64, 1024, 0, 0)
    good = tensors.map("float32", address, x, (16, 8))
    with pytest.raises(DeviceError, match=r"bytes of shared memory"):
        _load(tensors, "load_2d", good, 512, 256, 0, 0)
    with pytest.raises(DeviceError, match=r"lacks 0 of 1 arrivals and 88 bytes(.|\n)*try_wait"):
        _load(tensors, "load_2d", good, 600, 1024, 0, 0)


def test_maps_that_a_kernel_changes(engine: str) -> None:
    """Of every field but the innermost box; the template is a map of another matrix of another type."""
    sanitizer = Sanitizer() if engine == "numpy" else None
    tensors = Tensors("tensormap", sanitizer)
    other = np.zeros((64, 64), "f4")
    template = tensors.map("float32", tensors.put(other), other, (16, 32), swizzle="64b", fill="nan")
    random = np.random.default_rng(0)
    matrices = [random.integers(0, 99, shape).astype("i4") for shape in ((40, 32), (9, 20), (100, 64))]
    table = np.array(
        [(tensors.put(x), x.strides[0], *x.shape) for x in matrices],
        [("address", "u8"), ("pitch", "u8"), ("rows", "i4"), ("columns", "i4")],
    )
    room, out = np.zeros((len(matrices), 128), "u1"), np.zeros((len(matrices), 8, 16), "i4")
    places = [np.int64(tensors.put(array)) for array in (table.view("u1"), room, out)]
    tensors.launch("boxes", template, *places, 5, 12, grid=len(matrices))
    got = tensors.get(int(places[2]), out)
    for box, matrix in zip(got, matrices, strict=True):
        assert (box == _box(matrix, (5, 12), (8, 16), (1, 1), 0)).all()
    assert sanitizer is None or not sanitizer.findings.list()

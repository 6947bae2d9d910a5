"""What a tensor map says: a tensor in global memory, and the box of it that one copy moves.

In: address, extents, strides, box, swizzle of a tensor. Out: a checked `TensorMap`, which each device encodes in its
own 128 bytes. Why: the rules of cuTensorMapEncodeTiled and cuTensorMapEncodeIm2col are told once, before any driver
is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .errors import DeviceError

ELEMENT_BYTES: dict[str, int] = {
    "uint8": 1, "uint16": 2, "uint32": 4, "int32": 4, "uint64": 8, "int64": 8, "float16": 2, "float32": 4,
    "float64": 8, "bfloat16": 2, "float32_ftz": 4, "tfloat32": 4, "tfloat32_ftz": 4,
}  # fmt: skip
"""Bytes of one element, in the order of CUtensorMapDataType."""

SWIZZLE_BYTES: dict[str, int] = {"none": 0, "32b": 32, "64b": 64, "128b": 128}
"""The span within which 16-byte pieces change places, in the order of CUtensorMapSwizzle."""

L2_PROMOTIONS = ("none", "64b", "128b", "256b")
FILLS = ("zeros", "nan")
_MOST_STRIDE = 1 << 40


@dataclass(frozen=True)
class Im2col:
    """The im2col mode: pixels of a bounding box, in order, as the rows of a matrix.

    `lower_corner` and `upper_corner` move the box's edges against the tensor's, in pixels, innermost (width) first;
    one copy takes `channels_per_pixel` channels of `pixels_per_column` pixels.
    """

    lower_corner: tuple[int, ...]
    upper_corner: tuple[int, ...]
    channels_per_pixel: int
    pixels_per_column: int


@dataclass(frozen=True)
class TensorMap:
    """Parameters of cuTensorMapEncodeTiled (or, with `im2col`, of cuTensorMapEncodeIm2col), innermost dimension first.

    `strides` are in bytes and leave the innermost dimension out. `box` is in elements and not used with `im2col`. Where
    `element_strides` is above one, every so-manieth element of the box is taken.
    """

    data_type: str
    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    box: tuple[int, ...] = ()
    element_strides: tuple[int, ...] = ()
    swizzle: str = "none"
    l2_promotion: str = "none"
    fill: str = "zeros"
    im2col: Im2col | None = None

    def __post_init__(self) -> None:
        if not self.element_strides:
            object.__setattr__(self, "element_strides", (1,) * len(self.shape))

    @property
    def element_bytes(self) -> int:
        """Bytes of one element."""
        return ELEMENT_BYTES[self.data_type]

    @property
    def counts(self) -> tuple[int, ...]:
        """Elements of the box along each dimension, as they arrive in shared memory."""
        steps = (1, *self.element_strides[1:])
        return tuple(-(-extent // step) for extent, step in zip(self.box, steps, strict=True))

    @property
    def row_bytes(self) -> int:
        """Bytes of one innermost row of a copy."""
        inner = self.im2col.channels_per_pixel if self.im2col else self.box[0]
        return inner * self.element_bytes


def check(tensor_map: TensorMap) -> None:
    """Raise DeviceError for parameters that the driver would refuse, or whose behaviour it leaves open."""
    known = _check_names(tensor_map)
    problems = [text for holds, text in known if not holds]
    if not problems:
        rules = (*_tensor_rules(tensor_map), *(_im2col_rules if tensor_map.im2col else _tile_rules)(tensor_map))
        problems = [text for holds, text in rules if not holds()]
    if problems:
        raise DeviceError("tensor map: " + "; ".join(problems))


def _check_names(tensor_map: TensorMap) -> list[tuple[bool, str]]:
    def one_of(what: str, name: str, names: Iterable[str]) -> tuple[bool, str]:
        return name in names, f"unknown {what} {name!r} (known: {', '.join(names)})"

    rank = len(tensor_map.shape)
    return [
        one_of("data type", tensor_map.data_type, ELEMENT_BYTES),
        one_of("swizzle", tensor_map.swizzle, SWIZZLE_BYTES),
        one_of("L2 promotion", tensor_map.l2_promotion, L2_PROMOTIONS),
        one_of("fill", tensor_map.fill, FILLS),
        (1 <= rank <= 5, f"rank {rank} is not 1 to 5"),
        (len(tensor_map.strides) == rank - 1, f"rank {rank} needs {rank - 1} strides, not {len(tensor_map.strides)}"),
        (len(tensor_map.element_strides) == rank, f"rank {rank} needs {rank} element strides"),
    ]


Rule = tuple[Callable[[], bool], str]


def _tensor_rules(tensor_map: TensorMap) -> tuple[Rule, ...]:
    """Rules of both modes."""
    bytes_, span = tensor_map.row_bytes if tensor_map.box or tensor_map.im2col else 0, SWIZZLE_BYTES[tensor_map.swizzle]
    return (
        (lambda: tensor_map.address % 16 == 0, f"address {tensor_map.address:#x} is not a multiple of 16"),
        (lambda: all(1 <= extent <= 1 << 32 for extent in tensor_map.shape), f"shape {tensor_map.shape}"),
        (
            lambda: all(0 < stride < _MOST_STRIDE and stride % 16 == 0 for stride in tensor_map.strides),
            f"strides {tensor_map.strides} are not multiples of 16 between 16 and 2^40",
        ),
        (lambda: all(1 <= step <= 8 for step in tensor_map.element_strides), "element strides are not 1 to 8"),
        (lambda: bytes_ % 16 == 0, f"an inner row of {bytes_} bytes is not a multiple of 16"),
        (lambda: not span or bytes_ <= span, f"an inner row of {bytes_} bytes is wider than the swizzle, {span}"),
        (
            lambda: tensor_map.fill == "zeros" or "float" in tensor_map.data_type,
            f"fill with NaN of {tensor_map.data_type}",
        ),
    )


def _tile_rules(tensor_map: TensorMap) -> tuple[Rule, ...]:
    rank = len(tensor_map.shape)
    return (
        (lambda: len(tensor_map.box) == rank, f"rank {rank} needs a box of {rank} extents"),
        (lambda: all(1 <= extent <= 256 for extent in tensor_map.box), f"box {tensor_map.box} is not within 1 to 256"),
    )


_CORNERS = {1: (-(1 << 15), (1 << 15) - 1), 2: (-(1 << 7), (1 << 7) - 1), 3: (-(1 << 4), (1 << 4) - 1)}
"""The corners' range by the number of spatial dimensions."""


def _im2col_rules(tensor_map: TensorMap) -> tuple[Rule, ...]:
    im2col, rank = tensor_map.im2col, len(tensor_map.shape)
    assert im2col is not None
    corners = (*im2col.lower_corner, *im2col.upper_corner)
    low, high = _CORNERS.get(rank - 2, (0, 0))
    return (
        (lambda: rank >= 3, f"im2col needs a rank of 3 to 5, not {rank}"),
        (
            lambda: len(im2col.lower_corner) == len(im2col.upper_corner) == rank - 2,
            f"rank {rank} needs corners of {rank - 2} pixels",
        ),
        (lambda: all(low <= corner <= high for corner in corners), f"corners {corners} are not in {low} to {high}"),
        (lambda: 1 <= im2col.channels_per_pixel <= 256, f"{im2col.channels_per_pixel} channels are not 1 to 256"),
        (lambda: 1 <= im2col.pixels_per_column <= 1024, f"{im2col.pixels_per_column} pixels are not 1 to 1024"),
    )

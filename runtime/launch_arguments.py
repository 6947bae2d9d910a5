"""What a launch gives its kernel: addresses, integers and tensor maps, before any shape is known.

In: arguments the compiler planned, or their JSON form. Out: typed, immutable arguments and their JSON, for the launches
of a host program (program.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from .records import Record, fail, read_expression, read_integer, read_signed, read_text
from .symbolic import ZERO, Expression
from .tensor_map import ELEMENT_BYTES, SWIZZLE_BYTES


@dataclass(frozen=True)
class BufferArgument:
    """A kernel argument: the device address of a buffer."""

    buffer: str

    def to_json(self) -> dict[str, Any]:
        return {"buffer": self.buffer}


@dataclass(frozen=True)
class ExpressionArgument:
    """A kernel argument: a symbolic integer, evaluated for every shape and passed as a signed integer."""

    expression: Expression

    def to_json(self) -> dict[str, Any]:
        return {"expression": str(self.expression)}


@dataclass(frozen=True)
class Im2colArgument:
    """The im2col mode of a tensor map, as in runtime/tensor_map.py; the upper corner may depend on sizes."""

    lower_corner: tuple[int, ...]
    upper_corner: tuple[Expression, ...]
    channels: int
    pixels: int

    def to_json(self) -> dict[str, Any]:
        return {
            "lower_corner": list(self.lower_corner),
            "upper_corner": [str(corner) for corner in self.upper_corner],
            "channels": self.channels,
            "pixels": self.pixels,
        }


@dataclass(frozen=True)
class TensorMapArgument:
    """A kernel argument: a tensor map over a buffer, for copies by the tensor memory accelerator.

    Innermost dimension first, as in runtime/tensor_map.py: `shape` and `box` in elements, `strides` in bytes and
    without the innermost; no `element_strides` means ones, and a map with `im2col` has no box. The tensor begins
    `offset` bytes into the buffer.
    """

    buffer: str
    data_type: str
    shape: tuple[Expression, ...]
    strides: tuple[Expression, ...]
    swizzle: str
    box: tuple[int, ...] = ()
    element_strides: tuple[int, ...] = ()
    im2col: Im2colArgument | None = None
    offset: Expression = ZERO

    def to_json(self) -> dict[str, Any]:
        record: dict[str, Any] = {
            "buffer": self.buffer,
            "data_type": self.data_type,
            "shape": [str(extent) for extent in self.shape],
            "strides": [str(stride) for stride in self.strides],
            "swizzle": self.swizzle,
            "box": list(self.box),
            "element_strides": list(self.element_strides),
        }
        if self.im2col is not None:
            record["im2col"] = self.im2col.to_json()
        if self.offset != ZERO:
            record["offset"] = str(self.offset)
        return {"tensor_map": record}

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """What is evaluated per shape."""
        return (*self.shape, *self.strides, self.offset, *(self.im2col.upper_corner if self.im2col else ()))


Argument: TypeAlias = BufferArgument | ExpressionArgument | TensorMapArgument


def read_argument(value: Any, place: str) -> Argument:
    """The inverse of an argument's `to_json`. Raises ModelError that names `place`."""
    record = Record(value, place)
    kinds = [(key, record.take(key, None)) for key in ("buffer", "expression", "tensor_map")]
    record.done()
    given = [(key, item) for key, item in kinds if item is not None]
    if len(given) != 1:
        raise fail(place, "either a buffer, an expression or a tensor map is expected")
    kind, item = given[0]
    if kind == "buffer":
        return BufferArgument(read_text(item, place))
    if kind == "expression":
        return ExpressionArgument(read_expression(item, place))
    return _tensor_map(Record(item, place))


def _tensor_map(record: Record) -> TensorMapArgument:
    im2col, offset = record.take("im2col", None), record.take("offset", None)
    argument = TensorMapArgument(
        buffer=record.text("buffer"),
        data_type=record.text("data_type", choices=ELEMENT_BYTES),
        shape=record.array("shape", read_expression),
        strides=record.array("strides", read_expression),
        swizzle=record.text("swizzle", choices=SWIZZLE_BYTES),
        box=record.array("box", read_integer, default=[]),
        element_strides=record.array("element_strides", read_integer, default=[]),
        im2col=_im2col(Record(im2col, f"{record.place}.im2col")) if im2col is not None else None,
        offset=read_expression(offset, record.place) if offset is not None else ZERO,
    )
    record.done()
    rank = len(argument.shape)
    if not 1 <= rank <= 5 or len(argument.strides) != rank - 1:
        raise fail(record.place, "a tensor map has 1 to 5 dimensions, and a stride less")
    return argument


def _im2col(record: Record) -> Im2colArgument:
    result = Im2colArgument(
        lower_corner=record.array("lower_corner", read_signed),
        upper_corner=record.array("upper_corner", read_expression),
        channels=record.integer("channels", least=1, most=256),
        pixels=record.integer("pixels", least=1, most=1024),
    )
    record.done()
    return result

"""A model file whose weights stay in the file.

In: the path of an ONNX file. Out: the model without the bytes of its large initializers, and those bytes as
views of the memory-mapped file. A model of gigabytes is imported without being read; this walks protobuf's
wire format only as deep as it must.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

# Field numbers of ModelProto, GraphProto and TensorProto (onnx.proto): they never change.
MODEL_GRAPH, GRAPH_INITIALIZER, TENSOR_NAME, TENSOR_RAW_DATA = 7, 5, 8, 9
MAPPED_BYTES = 4096  # smaller initializers are copied: a view is not worth it
LENGTH_DELIMITED = 2


@dataclass(frozen=True)
class MappedModel:
    """`skeleton` is the serialised model without large data; `data` gives those bytes by initializer name."""

    skeleton: bytes
    data: dict[str, np.ndarray[Any, Any]]


class _Malformed(Exception):
    """Not the wire format we expect: the caller lets protobuf say what is wrong."""


@dataclass(frozen=True)
class _Field:
    number: int
    start: int  # of the tag
    content: int  # of the value, after tag and length
    end: int


def map_model(path: Path) -> MappedModel | None:
    """The mapped model; None when the file is not what it seems, or has nothing large. Raises OSError."""
    with path.open("rb") as file:
        try:
            buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:  # an empty file
            return None
    try:
        return _strip(buffer)
    except (_Malformed, UnicodeDecodeError):
        return None


def _strip(buffer: mmap.mmap) -> MappedModel | None:
    whole = np.frombuffer(buffer, dtype=np.uint8)
    data: dict[str, np.ndarray[Any, Any]] = {}
    parts: list[bytes] = []
    for field in _fields(buffer, 0, len(buffer)):
        if field.number != MODEL_GRAPH:
            parts.append(buffer[field.start : field.end])
            continue
        body = b"".join(_graph(buffer, field, whole, data))
        parts += [_key(MODEL_GRAPH), _varint(len(body)), body]
    return MappedModel(b"".join(parts), data) if data else None


def _graph(buffer: mmap.mmap, graph: _Field, whole: Any, data: dict[str, Any]) -> Iterator[bytes]:
    for field in _fields(buffer, graph.content, graph.end):
        if field.number != GRAPH_INITIALIZER or field.end - field.content < MAPPED_BYTES:
            yield buffer[field.start : field.end]
            continue
        name, raw, others = "", None, []
        for part in _fields(buffer, field.content, field.end):
            if part.number == TENSOR_RAW_DATA and part.end - part.content >= MAPPED_BYTES // 2:
                raw = part
                continue
            if part.number == TENSOR_NAME:
                name = buffer[part.content : part.end].decode()
            others.append(buffer[part.start : part.end])
        if raw is None or name in data or not name:
            yield buffer[field.start : field.end]
            continue
        data[name] = whole[raw.content : raw.end]
        tensor = b"".join(others)
        yield _key(GRAPH_INITIALIZER) + _varint(len(tensor)) + tensor


def _fields(buffer: mmap.mmap, start: int, end: int) -> Iterator[_Field]:
    position = start
    while position < end:
        key, content = _read_varint(buffer, position, end)
        kind, number = key & 7, key >> 3
        if kind == LENGTH_DELIMITED:
            length, content = _read_varint(buffer, content, end)
            stop = content + length
        elif kind == 0:
            _, stop = _read_varint(buffer, content, end)
        elif kind in (1, 5):
            stop = content + (8 if kind == 1 else 4)
        else:
            raise _Malformed
        if stop > end or number == 0:
            raise _Malformed
        yield _Field(number, position, content, stop)
        position = stop


def _read_varint(buffer: mmap.mmap, position: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while position < end and shift < 64:
        byte = buffer[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise _Malformed


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _key(number: int) -> bytes:
    return _varint(number << 3 | LENGTH_DELIMITED)

"""The container of an engine file: a zip of stored members, written to the same bytes every time and read
without trust.

In: member names with their bytes, or the path of such a file. Out: a file put in place atomically, or
memory-mapped views. It exists so that reading never copies weights, and a damaged, truncated or hostile file
ends in a ModelError.
"""

from __future__ import annotations

import mmap
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .errors import ModelError
from .whole_file import whole_file

Chunks = Callable[[], Iterable[memoryview]]

ENGINE_FILE = "the engine file"  # in messages

_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can hold; the real one would change the bytes
_ZIP64_SIZES = struct.Struct("<2H2Q")  # an extra field: the sizes of a member in 64 bits
_ZIP64_ID, _ZIP64_VERSION, _IN_EXTRA = 1, 45, 0xFFFFFFFF
_PADDING_ID = 0x5754  # "TW"; our extra field that pads up to the alignment
_ALIGNMENT = 256


@dataclass(frozen=True)
class Member:
    """A member to be written: its name and a function that gives its bytes, piece by piece, as often as
    called.
    """

    name: str
    chunks: Chunks


class _Information(zipfile.ZipInfo):
    """What the zip says about a member. Its header is packed here: zipfile's own differs from one Python to another."""

    def __init__(self, name: str) -> None:
        super().__init__(name, date_time=_EPOCH)
        self.create_system = 3  # Unix, wherever it is written
        self.create_version = self.extract_version = _ZIP64_VERSION
        self.external_attr = 0o644 << 16

    def FileHeader(self, zip64: bool | None = None) -> bytes:
        """The bytes in front of the member. zipfile asks twice: when it begins, and when the sizes are known."""
        name, day = self.filename.encode(), 1 << 5 | 1
        sizes = _ZIP64_SIZES.pack(_ZIP64_ID, _ZIP64_SIZES.size - 4, self.file_size, self.compress_size)
        header = _LOCAL_HEADER.pack(
            b"PK\x03\x04", _ZIP64_VERSION, 0, zipfile.ZIP_STORED, 0, day, self.CRC, _IN_EXTRA, _IN_EXTRA,
            len(name), len(self.extra) + len(sizes),
        )  # fmt: skip
        return header + name + self.extra + sizes


def write(path: Path, members: Iterable[Member]) -> None:
    """Write `members` in order to a new file that then replaces `path`.

    What stood at `path` stays untouched until the new file is complete. Raises ModelError when it cannot be
    written.
    """
    with (
        whole_file(path, ENGINE_FILE) as handle,
        zipfile.ZipFile(handle, "w", zipfile.ZIP_STORED, allowZip64=True) as target,
    ):
        for member in members:
            _write_member(target, handle, member)


def _write_member(target: zipfile.ZipFile, handle: IO[bytes], member: Member) -> None:
    info = _Information(member.name)
    header = _LOCAL_HEADER.size + len(member.name.encode()) + 4 + _ZIP64_SIZES.size
    padding = -(handle.tell() + header) % _ALIGNMENT
    info.extra = struct.pack("<HH", _PADDING_ID, padding) + bytes(padding)
    with target.open(info, "w", force_zip64=True) as stream:
        for chunk in member.chunks():
            stream.write(chunk)


class Archive:
    """A memory-mapped engine file: `members` maps names to read-only views of their bytes."""

    members: dict[str, memoryview]

    def __init__(self, path: Path) -> None:
        """Map the file at `path`. Raises ModelError when it is absent, truncated or not such a zip."""
        try:
            with open(path, "rb") as handle:
                self._view = memoryview(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ))
                with zipfile.ZipFile(handle) as source:
                    entries = source.infolist()
        except OSError as error:
            raise ModelError(f"cannot read the engine file {path}: {error.strerror or error}") from error
        except (
            zipfile.BadZipFile,
            ValueError,
            NotImplementedError,
            EOFError,
            struct.error,
            OverflowError,
        ) as error:
            raise ModelError(f"not an engine file, or a truncated one: {path}\n  {error}") from error
        self.members = {}
        self._checksums = {entry.filename: entry.CRC for entry in entries}
        end = 0
        for entry in sorted(entries, key=lambda item: item.header_offset):
            if entry.filename in self.members:
                raise ModelError(f"damaged engine: two members are called {entry.filename!r}")
            start = self._start(entry)
            if entry.header_offset < end:
                raise ModelError(f"damaged engine: member {entry.filename!r} overlaps another")
            end = start + entry.file_size
            self.members[entry.filename] = self._view[start:end]

    def is_sound(self, name: str) -> bool:
        """True when the zip's own checksum of the member is right: for the manifest, which holds no sha256 of
        itself.
        """
        return zlib.crc32(self.members[name]) == self._checksums[name]

    def _start(self, entry: zipfile.ZipInfo) -> int:
        """Where the member's bytes begin in the file, after checking its headers."""
        place = f"damaged engine: member {entry.filename!r}"
        if (
            entry.compress_type != zipfile.ZIP_STORED
            or entry.file_size != entry.compress_size
            or entry.flag_bits & 1
        ):
            raise ModelError(f"{place} is compressed or encrypted")
        offset = entry.header_offset
        if offset < 0 or offset + _LOCAL_HEADER.size > len(self._view):
            raise ModelError(f"{place} lies outside the file")
        header = _LOCAL_HEADER.unpack_from(self._view, offset)
        if header[0] != b"PK\x03\x04":
            raise ModelError(f"{place} has no header where it should stand")
        start: int = offset + _LOCAL_HEADER.size + header[9] + header[10]
        if entry.file_size < 0 or start + entry.file_size > len(self._view):
            raise ModelError(f"{place} lies outside the file")
        return start

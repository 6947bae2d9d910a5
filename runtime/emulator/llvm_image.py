"""Object files as images: code that runs wherever it is copied to.

In: the object file (ELF, x86-64) that libLLVM made of one module. Out: an `Image`: its sections in one piece, with
every reference inside resolved, and a table for the addresses that it needs from outside. Why: what is kept in the
cache is then loaded by a copy and a few addresses, in a fifth of the time that LLVM's linker takes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..errors import InternalError

ALIGNMENT = 64
"""Of an image, and the most that a section may ask for."""
_SLOT_BYTES = 8
_HEAD = struct.Struct("<III")
_PROGRAM_BITS, _SYMBOLS, _RELOCATIONS, _UNWIND = 1, 2, 4, 0x70000001
_WRITABLE, _ALLOCATED = 1, 2
_RELATIVE = {2: "R_X86_64_PC32", 4: "R_X86_64_PLT32"}
_BY_TABLE = {9: "R_X86_64_GOTPCREL", 41: "R_X86_64_GOTPCRELX", 42: "R_X86_64_REX_GOTPCRELX"}
_JUMP_BY_TABLE = b"\xff\x25"
"""jmp *displacement(%rip)"""


@dataclass(frozen=True, slots=True)
class Image:
    """Code and constants. `entry` is where its function begins; at `table` there is room for the address of each of
    `names`, 8 bytes each."""

    content: bytes
    entry: int
    table: int
    names: tuple[str, ...]

    def to_bytes(self) -> bytes:
        """For the cache."""
        names = "\0".join(self.names).encode()
        return _HEAD.pack(self.entry, self.table, len(names)) + names + self.content

    @classmethod
    def from_bytes(cls, data: bytes) -> Image:
        """The inverse of `to_bytes`."""
        entry, table, length = _HEAD.unpack_from(data)
        behind = _HEAD.size + length
        names = data[_HEAD.size : behind].decode()
        return cls(data[behind:], entry, table, tuple(names.split("\0")) if names else ())


@dataclass(frozen=True, slots=True)
class _Section:
    type: int
    flags: int
    content: bytes
    link: int
    info: int
    alignment: int


@dataclass(frozen=True, slots=True)
class _Symbol:
    name: str
    section: int
    value: int


def image(content: bytes, symbol: str) -> Image:
    """The image of an object file whose function is `symbol`. Raises InternalError for what our modules do not have:
    variables, references of other kinds."""
    sections = list(_sections(content))
    symbols = _symbols(sections)
    layout = _Layout(sections)
    for section in sections:
        if section.type == _RELOCATIONS and section.info in layout.places:
            for offset, info, addend in struct.iter_unpack("<QQq", section.content):
                where = layout.places[section.info] + offset
                layout.resolve(symbols[info >> 32], info & 0xFFFFFFFF, where, addend)
    entry = next(found for found in symbols if found.name == symbol)
    return layout.finished(layout.places[entry.section] + entry.value)


def _sections(content: bytes) -> Iterator[_Section]:
    if content[:6] != b"\x7fELF\x02\x01":
        raise InternalError("emulator: LLVM's object file is not ELF of 64 bits")
    (start,) = struct.unpack_from("<Q", content, 0x28)
    size, count = struct.unpack_from("<HH", content, 0x3A)
    for number in range(count):
        _, type, flags, _, offset, nbytes, link, info, alignment, _ = struct.unpack_from(
            "<IIQQQQIIQQ", content, start + size * number
        )
        yield _Section(type, flags, content[offset : offset + nbytes], link, info, alignment)


def _symbols(sections: list[_Section]) -> list[_Symbol]:
    table = next(section for section in sections if section.type == _SYMBOLS)
    names = sections[table.link].content
    return [
        _Symbol(names[name : names.index(b"\0", name)].decode(), section, value)
        for name, _, _, section, value, _ in struct.iter_unpack("<IBBHQQ", table.content)
    ]


@dataclass(slots=True)
class _Layout:
    """Sections one after the other, then jumps to functions outside, then the table. `places` are offsets of sections,
    `references` displacements into the table, which are written at the end."""

    sections: list[_Section]
    places: dict[int, int] = field(default_factory=dict)
    content: bytearray = field(default_factory=bytearray)
    names: list[str] = field(default_factory=list)
    jumps: dict[str, int] = field(default_factory=dict)
    references: list[tuple[int, int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for number, section in enumerate(self.sections):
            if not section.flags & _ALLOCATED or section.type == _UNWIND:
                continue
            if section.type != _PROGRAM_BITS or section.flags & _WRITABLE or section.alignment > ALIGNMENT:
                raise InternalError(f"emulator: LLVM's object file has a section of type {section.type:#x} and flags "
                                    f"{section.flags:#x}, alignment {section.alignment}")  # fmt: skip
            self._align(max(1, section.alignment))
            self.places[number] = len(self.content)
            self.content += section.content

    def _align(self, alignment: int) -> None:
        self.content += bytes(-len(self.content) % alignment)

    def resolve(self, symbol: _Symbol, kind: int, where: int, addend: int) -> None:
        """Write one reference, or note that it goes by the table."""
        if kind in _BY_TABLE:
            self.references.append((where, self._slot(symbol.name), addend))
        elif kind not in _RELATIVE:
            raise InternalError(f"emulator: LLVM's object file has a reference of kind {kind} to {symbol.name!r}")
        elif symbol.section in self.places:
            target = self.places[symbol.section] + symbol.value
            struct.pack_into("<i", self.content, where, target + addend - where)
        else:
            struct.pack_into("<i", self.content, where, self._jump(symbol.name) + addend - where)

    def _slot(self, name: str) -> int:
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name)

    def _jump(self, name: str) -> int:
        """Where a jump to a function outside stands."""
        if name not in self.jumps:
            self._align(_SLOT_BYTES)
            self.jumps[name] = len(self.content)
            self.content += _JUMP_BY_TABLE + bytes(4)
            self.references.append((self.jumps[name] + 2, self._slot(name), -4))
        return self.jumps[name]

    def finished(self, entry: int) -> Image:
        """With the table behind."""
        self._align(_SLOT_BYTES)
        table = len(self.content)
        for where, slot, addend in self.references:
            struct.pack_into("<i", self.content, where, table + _SLOT_BYTES * slot + addend - where)
        self.content += bytes(_SLOT_BYTES * len(self.names))
        return Image(bytes(self.content), entry, table, tuple(self.names))

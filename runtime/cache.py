"""A content-addressed cache on disk, shared by all processes of a user and safe when several run at once.

In: a key made of everything a result depends on. Out: the bytes kept under it, or None. Entries are written
to a temporary file and renamed, carry their own checksum, and are evicted oldest-use-first above a size
bound. A cache never fails what uses it: a damaged entry, a read-only folder or a full disk only means that
nothing is found or kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import tempfile
from collections.abc import Iterable
from pathlib import Path

DEFAULT_LIMIT = 2 * 1024**3  # bytes
KEPT_AFTER_EVICTION = 0.8  # of the limit, so that evicting is rare
SHARE_BETWEEN_TRIMS = 1 / 64  # of the limit: what is written between two looks at all entries, on average
_DIGEST_BYTES = 32
_SECTIONS = ("kernels", "engines", "emulator")


def default_folder() -> Path:
    """`TILEWRIGHT_CACHE`, else `tilewright` in the user's cache folder."""
    chosen = os.environ.get("TILEWRIGHT_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "tilewright"


def make_key(*parts: str) -> str:
    """A key from texts, each counted with its length so that no two lists collide."""
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        digest.update(f"{len(encoded)}:".encode() + encoded)
    return digest.hexdigest()


class Cache:
    """Entries `<folder>/<section>/<ab>/<key><suffix>`. `limit` bounds the bytes of all sections together."""

    def __init__(self, folder: Path | None = None, limit: int = DEFAULT_LIMIT) -> None:
        self.folder = folder or default_folder()
        self.limit = limit
        self.hits = 0
        self.misses = 0
        self._written = 0  # bytes since the last trim

    # Small entries: bytes with a checksum in front ----------------------------------------------------------
    def get(self, section: str, key: str) -> bytes | None:
        """The bytes kept under `key`, or None when there are none or they are damaged."""
        path = self.path(section, key)
        try:
            content = path.read_bytes()
        except OSError:
            self.misses += 1
            return None
        payload = content[_DIGEST_BYTES:]
        if hashlib.sha256(payload).digest() != content[:_DIGEST_BYTES]:
            self.misses += 1
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        self.hits += 1
        self.touch(path)
        return payload

    def put(self, section: str, key: str, payload: bytes) -> None:
        """Keep `payload`; silently does nothing where the disk does not allow it."""
        self._write(self.path(section, key), (hashlib.sha256(payload).digest(), payload))

    # Large entries: plain files that readers map, put there by others ---------------------------------------
    def path(self, section: str, key: str, suffix: str = "") -> Path:
        """Where an entry stands, whether or not it exists."""
        return Path(f"{self.folder}/{section}/{key[:2]}/{key}{suffix}")  # one step: this is asked thousands of times

    def touch(self, path: Path) -> None:
        """Mark an entry as used now."""
        with contextlib.suppress(OSError):
            os.utime(path)

    def written(self, nbytes: int) -> None:
        """Somebody put a file of `nbytes` at a `path` of this cache."""
        self._written += nbytes

    def _write(self, target: Path, pieces: Iterable[bytes]) -> None:
        temporary = ""
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(prefix=".writing-", dir=target.parent)
            with os.fdopen(handle, "wb") as stream:
                stream.writelines(pieces)
            os.replace(temporary, target)
            self._written += target.stat().st_size
        except OSError:
            if temporary:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)

    # Size bound ---------------------------------------------------------------------------------------------
    def trim(self) -> int:
        """Evict the entries not used for longest until the bound holds; returns how many.

        Looking at every entry takes a while, so it is done with a chance in proportion to the bytes written:
        the bound is exceeded by a few percent at most, however many short compilations there are.
        """
        chance = self._written / (self.limit * SHARE_BETWEEN_TRIMS)
        self._written = 0
        if random.random() >= chance:
            return 0
        entries = sorted(self._entries())
        total = sum(size for _, size, _ in entries)
        if total <= self.limit:
            return 0
        evicted = 0
        for _, size, path in entries:
            if total <= self.limit * KEPT_AFTER_EVICTION:
                break
            with contextlib.suppress(OSError):
                path.unlink()
                evicted += 1
            total -= size
        return evicted

    def size(self) -> int:
        """Bytes of all entries."""
        return sum(size for _, size, _ in self._entries())

    def _entries(self) -> list[tuple[float, int, Path]]:
        """(last use, bytes, path) of everything in our sections; files that vanish meanwhile are left out."""
        found: list[tuple[float, int, Path]] = []
        for section in _SECTIONS:
            for path in (self.folder / section).glob("*/*"):
                with contextlib.suppress(OSError):
                    status = path.stat()
                    found.append((status.st_mtime, status.st_size, path))
        return found

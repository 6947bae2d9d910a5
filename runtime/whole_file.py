"""A file that is there whole or not at all.

In: where it belongs, and bytes as they are made. Out: the file, in the place of what stood there, once all is written.
It exists because a full disk or an interruption must leave what was there, and because a device such as /dev/null, or
what /dev/stdout leads to, is written to and never replaced. Links stay, and lead to the new file.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from .errors import ModelError


@contextmanager
def whole_file(path: Path, what: str = "") -> Iterator[IO[bytes]]:
    """A stream whose bytes stand at `path` when the block ends without an error.

    `what` names the kind of file in messages. Raises ModelError when it cannot be written.
    """
    special = _is_special(path)
    place = path if special else Path(os.path.realpath(path))
    partial = path if special else place.with_name(f".{place.name}.{os.getpid()}.{secrets.token_hex(4)}.partial")
    try:
        with open(partial, "wb" if special else "xb") as stream:
            yield stream
            stream.flush()
            if not special:
                os.fsync(stream.fileno())
        if not special:
            os.replace(partial, place)
    except OSError as error:
        raise _cannot_write(path, what, error) from error
    finally:
        if not special:
            with suppress(OSError):  # there is none, and a disk that is read-only says so otherwise
                partial.unlink()


def _is_special(path: Path) -> bool:
    """Whether something stands there that cannot be replaced: a device, a pipe, a folder, an open file by number."""
    folder = path.absolute().parent
    numbered = folder in (Path("/dev"), Path("/dev/fd")) or folder.is_relative_to("/proc")
    return path.exists() and (numbered or not path.is_file())


def check_place(path: Path, what: str = "") -> None:
    """Raises what `whole_file` would for a folder that is missing or not to be written to: before the work is done."""
    if _is_special(path) and not path.is_dir():
        return
    folder = Path(os.path.realpath(path)).parent
    number = (
        errno.EISDIR if path.is_dir()
        else errno.ENOENT if not folder.exists()
        else errno.ENOTDIR if not folder.is_dir()
        else errno.EACCES if not os.access(folder, os.W_OK)
        else 0
    )  # fmt: skip
    if number:
        raise _cannot_write(path, what, OSError(number, os.strerror(number)))


def _cannot_write(path: Path, what: str, error: OSError) -> ModelError:
    named = f"{what} {path}" if what else str(path)
    return ModelError(f"cannot write {named}: {error.strerror or error}")

"""A file that is there whole or not at all.

In: where it belongs, and bytes as they are made. Out: the file, in the place of what stood there, once all is written.
It exists because a full disk or an interruption must leave what was there, and because a device such as /dev/null is
written to and never replaced.
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
    special = path.exists() and not path.is_file()  # a device, a pipe; a folder, which cannot be opened
    partial = path if special else path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.partial")
    try:
        with open(partial, "wb" if special else "xb") as stream:
            yield stream
            stream.flush()
            if not special:
                os.fsync(stream.fileno())
        if not special:
            os.replace(partial, path)
    except OSError as error:
        raise _cannot_write(path, what, error) from error
    finally:
        if not special:
            with suppress(OSError):  # there is none, and a disk that is read-only says so otherwise
                partial.unlink()


def check_place(path: Path, what: str = "") -> None:
    """Raises what `whole_file` would for a folder that is missing or not to be written to: before the work is done."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        return
    folder = path.parent
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

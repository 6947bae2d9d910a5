"""A file that is there whole or not at all.

In: where it belongs, and bytes as they are made. Out: the file, in the place of what stood there, once all is written.
It exists because a full disk or an interruption must leave what was there, and because a device such as /dev/null is
written to and never replaced.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
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
        named = f"{what} {path}" if what else str(path)
        raise ModelError(f"cannot write {named}: {error.strerror or error}") from error
    finally:
        if not special:
            partial.unlink(missing_ok=True)

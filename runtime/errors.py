"""Every error a user can meet.

In: what went wrong, told by whoever noticed it. Out: one of four exceptions under `Error`, so that callers can tell a
bad model from a missing feature, a device fault and our own bug. The command line prints the message alone, without a
traceback.
"""

from __future__ import annotations

from collections.abc import Sequence


class Error(Exception):
    """Base of all tilewright errors. `str(error)` is the whole message for a person."""


class ModelError(Error):
    """The input is wrong: a damaged, invalid or hostile model or engine file, or arrays of wrong name, shape or
    dtype.
    """


class UnsupportedError(Error):
    """The model is valid and tilewright cannot do it yet. Names every unsupported node at once.

    `inputs` are the model inputs that the nodes would take as constants: axes, sizes and the like.
    """

    def __init__(self, message: str, inputs: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.inputs = tuple(inputs)


class DeviceError(Error):
    """A device is absent, out of memory, or reported a fault; for the emulator also a memory-safety finding."""


class InternalError(Error):
    """A bug of ours. Carries the folder that reproduces it and the command that replays it."""

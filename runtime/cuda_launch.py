"""Launches that may begin before the kernel in front of them has ended (programmatic dependent launch).

In: the PTX of a kernel, the calls that were put into a stream. Out: whether a launch may be a dependent one, and what
the driver is told then. Why: a kernel's first instructions, its barriers and its tensor maps overlap with the end of
the kernel before.
"""

from __future__ import annotations

import re
from typing import Any

from .device import Extents

LEAST_DRIVER = 12030  # the version whose capture turns dependent launches into edges of a graph
LEAST_CAPABILITY = (9, 0)
_WAIT = re.compile(r"^\s*griddepcontrol\.wait\s*;", re.MULTILINE)
_STREAM_WORK = re.compile(r"cuMemcpy|cuMemset|cuGraphLaunch|cuEventRecord|cuStream")
_LAUNCH = re.compile(r"cuLaunchKernel")


def waits_for_previous(ptx: str) -> bool:
    """Whether the kernel itself waits for those before it: `griddepcontrol.wait` has no other use."""
    return _WAIT.search(ptx) is not None


class StreamOrder:
    """What the last call has put into the stream."""

    def __init__(self) -> None:
        self.after_kernel = False

    def note(self, name: str) -> None:
        """A driver call has succeeded."""
        if _LAUNCH.match(name):
            self.after_kernel = True
        elif _STREAM_WORK.match(name):
            self.after_kernel = False


def dependent_configuration(driver: Any, grid: Extents, block: Extents, shared_bytes: int, stream: Any) -> Any:
    """The CUlaunchConfig of a launch that may begin while the kernel before it in the stream still runs."""
    value = driver.CUlaunchAttributeValue()
    value.programmaticStreamSerializationAllowed = 1
    attribute = driver.CUlaunchAttribute()
    attribute.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
    attribute.value = value
    configuration = driver.CUlaunchConfig()
    configuration.gridDimX, configuration.gridDimY, configuration.gridDimZ = grid
    configuration.blockDimX, configuration.blockDimY, configuration.blockDimZ = block
    configuration.sharedMemBytes, configuration.hStream = shared_bytes, stream
    configuration.attrs, configuration.numAttrs = [attribute], 1
    return configuration

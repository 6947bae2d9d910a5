"""The arguments of a kernel's launch, as the runtime would make them.

In: a `KernelProgram`, a device, addresses of its buffers and values of symbols. Out: what `Device.launch` takes.
"""

from __future__ import annotations

from collections.abc import Mapping

from tilewright.passes.unit import BoxedTensor, KernelProgram
from tilewright.runtime.device import Device, LaunchArgument
from tilewright.runtime.tensor_map import Im2col, TensorMap

# By ("input" | "output" | "workspace", number); semaphores of a kernel that has some: ("semaphores", how many).
Addresses = Mapping[tuple[str, int], int]


def launch_arguments(
    program: KernelProgram, device: Device, addresses: Addresses, symbols: Mapping[str, int]
) -> list[LaunchArgument]:
    """The launch's arguments in order."""
    arguments: list[LaunchArgument] = []
    for kind, item in program.arguments:
        if isinstance(item, BoxedTensor):
            shape, strides = (tuple(size.evaluate(symbols) for size in part) for part in (item.shape, item.strides))
            address = addresses[item.source]
            im2col = None
            if item.im2col is not None:
                upper = tuple(corner.evaluate(symbols) for corner in item.im2col.upper_corner)
                im2col = Im2col(item.im2col.lower_corner, upper, item.im2col.channels, item.im2col.pixels)
            boxes = TensorMap(
                item.data_type, address, shape, strides, item.box, item.element_strides, item.swizzle, im2col=im2col
            )
            arguments.append(("bytes", device.tensor_map(boxes)))
        elif kind == "symbol":
            arguments.append(("i32", symbols[str(item)]))
        else:
            arguments.append(("pointer", addresses[kind, int(item)]))
    return arguments

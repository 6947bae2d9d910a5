"""Runs one contraction kernel the whole way down: graph function, tile program, PTX, emulator.

In: argument types and a function that builds the kernel's body. Out: numpy results, or what ptxas says. Tests
compare with references that share no code with the compiler.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mlir import ir
from tests.support.launching import launch_arguments

from tilewright.compiler.backend.assemble import Assembly, assemble
from tilewright.compiler.backend.emit import emit_ptx
from tilewright.dialects import create_context
from tilewright.dialects.tensors import element_of, shape_of, tensor_type
from tilewright.passes.lower.kernel import LoweredKernel, lower_kernel
from tilewright.passes.target import find_target
from tilewright.passes.tile.elements import load_rules
from tilewright.passes.tile.pipeline import pipelined
from tilewright.passes.tile.programs import PROGRAMS, Request
from tilewright.passes.unit import KernelProgram
from tilewright.runtime.dtypes import dtype
from tilewright.runtime.emulator.device import EmulatorDevice
from tilewright.runtime.emulator.observer import Instrument
from tilewright.runtime.errors import DeviceError

Array = np.ndarray[Any, np.dtype[Any]]
Signature = Sequence[tuple[Sequence[int | str], str]]


@dataclass(frozen=True)
class Kernel:
    """A compiled kernel and what is needed to launch it."""

    program: KernelProgram
    simple_text: str
    lowered: LoweredKernel
    ptx: str
    outputs: list[tuple[Any, str]]  # (symbolic shape, dtype)

    def run(self, arrays: Sequence[Array], instrument: Instrument | None = None, **symbols: int) -> list[Array]:
        """Launch on the emulator; outputs start as NaN or -1 bytes, so that a missing store shows."""
        device = EmulatorDevice(instrument=instrument)
        addresses = []
        for array in arrays:
            addresses.append(device.allocate(_rounded(array.nbytes)))
            device.upload(addresses[-1], np.ascontiguousarray(array))
        results = []
        for shape, element in self.outputs:
            result = np.empty([size.evaluate(symbols) for size in shape], dtype(element).numpy)
            results.append((device.allocate(_rounded(result.nbytes)), result))
            device.fill(results[-1][0], 0xFF, result.nbytes)
        own = [_poisoned(device, shape, element, symbols) for element, shape in self.program.workspaces]
        buffers = {"input": addresses, "output": [address for address, _ in results], "workspace": own}
        places = {(kind, number): address for kind, own in buffers.items() for number, address in enumerate(own)}
        semaphores = [np.zeros(int(str(item)), np.int32) for kind, item in self.program.arguments if kind == "semaphores"]
        for array in semaphores:
            address = places["semaphores", len(array)] = device.allocate(array.nbytes)
            device.upload(address, array)
        arguments = launch_arguments(self.program, device, places, symbols)
        grid = tuple(extent.evaluate(symbols) for extent in self.program.grid)
        if all(grid):
            kernel = device.load(self.lowered.name, self.ptx)
            device.launch(kernel, grid, (self.lowered.block, 1, 1), self.lowered.shared_bytes, arguments)
        for array in semaphores:
            device.download(places["semaphores", len(array)], array)
            if array.any():
                raise DeviceError("the kernel has left semaphores set")
        for address, result in results:
            device.download(address, result)
        return [result for _, result in results]

    def assemble(self, target: str) -> Assembly:
        """What ptxas says about the kernel, emitted for `target`."""
        facts = find_target(target)
        return assemble(emit_ptx(self.lowered.module_text, facts), facts)


def _poisoned(device: EmulatorDevice, shape: Any, element: str, symbols: dict[str, int]) -> int:
    """The address of a workspace full of NaN."""
    nbytes = math.prod(size.evaluate(symbols) for size in shape) * dtype(element).bytes
    address = device.allocate(nbytes)
    device.fill(address, 0xFF, nbytes)
    return address


def _rounded(nbytes: int) -> int:
    """Whole 16-byte words: LLVM widens a load of three aligned elements to one of four.

    That is harmless, because buffers begin 256 bytes apart.
    """
    return max(16, -(-nbytes // 16) * 16)


def compile_kernel(
    signature: Signature, make: Callable[..., Any], target: str = "sm_80", pipeline: bool = True
) -> Kernel:
    """Compile the function `make(*arguments) -> value or values` of kind dot."""
    context = create_context()
    load_rules()
    with context, ir.Location.unknown():
        module = ir.Module.create()
        types = [tensor_type(shape, element) for shape, element in signature]
        with ir.InsertionPoint(module.body):
            function = ir.Operation.create(
                "func.func",
                attributes={
                    "sym_name": ir.StringAttr.get("kernel"),
                    "function_type": ir.TypeAttr.get(ir.FunctionType.get(types, [])),
                    "sym_visibility": ir.StringAttr.get("private"),
                },
                regions=1,
            )
        block = function.regions[0].blocks.append(*types)
        with ir.InsertionPoint(block):
            made = make(*block.arguments)
            values = list(made) if isinstance(made, (list, tuple)) else [made]
            ir.Operation.create("func.return", operands=values)
        function.attributes["function_type"] = ir.TypeAttr.get(
            ir.FunctionType.get(types, [value.type for value in values])
        )
        outputs = [(shape_of(value), element_of(value)) for value in values]
        program = PROGRAMS["dot"](Request(function, "kernel", find_target(target)))
        text = (pipelined(program.text) if pipeline else None) or program.text
    lowered = lower_kernel(text, find_target(target))
    return Kernel(program, program.text, lowered, emit_ptx(lowered.module_text, find_target(target)), outputs)

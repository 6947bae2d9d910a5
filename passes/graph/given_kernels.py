"""What a kernel that somebody wrote in PTX computes, for the interpreter of the graph level.

In: the function that declares it and arrays for its operands. Out: arrays for its results, from the emulator: the
PTX is its own meaning, and so a comparison with a compiled engine checks everything around it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mlir import ir

from ...dialects.given_kernel import GivenKernel, read
from ...dialects.tensors import element_of
from ...runtime.dtypes import dtype
from ...runtime.symbolic import parse

Array = np.ndarray[Any, Any]


def run_given(
    function: ir.Operation, symbols: Mapping[str, int], operands: Sequence[Array], shapes: Sequence[tuple[int, ...]]
) -> list[Array]:
    """The results, of the function's types and these shapes. Raises DeviceError for a kernel that faults."""
    kernel = read(function)
    types = ir.FunctionType(ir.TypeAttr(function.attributes["function_type"]).value).results
    results = [np.zeros(shape, dtype(element_of(kind)).numpy) for kind, shape in zip(types, shapes, strict=True)]
    for output, verb, value in kernel.preparations:
        if verb == "copy":
            results[output][...] = operands[value]
        else:
            results[output].reshape(-1).view(np.uint8)[...] = value
    grid = tuple(extent.evaluate(symbols) for extent in kernel.grid)
    if 0 not in grid:
        _launch(kernel, grid, symbols, operands, results)
    return results


def _launch(
    kernel: GivenKernel,
    grid: tuple[int, ...],
    symbols: Mapping[str, int],
    operands: Sequence[Array],
    results: Sequence[Array],
) -> None:
    from ...runtime.emulator.device import EmulatorDevice  # much to load for what few models have

    device = EmulatorDevice()
    try:
        addresses: dict[str, int] = {}
        for kind, arrays in (("input", operands), ("output", results)):
            for number, array in enumerate(arrays):
                address = device.allocate(max(array.nbytes, 1))
                device.upload(address, array)
                addresses[f"{kind} {number}"] = address
        arguments = [
            (parameter, addresses[item] if item in addresses else parse(item).evaluate(symbols))
            for item, parameter in zip(kernel.arguments, kernel.parameters, strict=True)
        ]
        loaded = device.load(kernel.entry, kernel.ptx)
        device.launch(loaded, (grid[0], grid[1], grid[2]), kernel.block, kernel.shared_bytes, arguments)
        for number, array in enumerate(results):
            device.download(addresses[f"output {number}"], array)
    finally:
        device.close()

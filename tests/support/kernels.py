"""One kernel function all the way: tile program, PTX, emulator, beside the graph interpreter.

In: the text of a kernel function and its input arrays. Out: what the emulator computed and what numpy says, so that a
test of a tile program needs nothing but graph IR.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from mlir import ir
from tests.support.launching import launch_arguments

from tilewright.compiler.backend.emit import emit_ptx
from tilewright.dialects import create_context, verify
from tilewright.dialects.tensors import element_of, shape_of
from tilewright.passes.graph.interpret import interpret
from tilewright.passes.lower import lower_kernel
from tilewright.passes.target import find_target
from tilewright.passes.tile.tile import tile
from tilewright.passes.unit import KernelProgram, Unit, WeightStore
from tilewright.runtime.dtypes import dtype
from tilewright.runtime.emulator.device import EmulatorDevice

Arrays = list[np.ndarray]


@dataclass
class Built:
    """A kernel function compiled: its program, PTX, and what a launch needs."""

    unit: Unit
    program: KernelProgram
    ptx: str
    shared_bytes: int
    input_shapes: list
    outputs: list


def build(text: str, kind: str, target: str = "sm_90a", precision: str = "strict") -> Built:
    """Compile ``func.func private @k(...)`` of kind `kind`; a @main that calls it is added."""
    context = create_context()
    with context, ir.Location.unknown():
        text = text.strip()
        header = text[: text.index("{\n")]
        if "attributes" not in header:
            text = text.replace("{\n", f'attributes {{graph.kernel = "{kind}"}} {{\n', 1)
        module = ir.Module.parse(text)
        function = module.body.operations[0].operation
        types = ir.FunctionType(ir.TypeAttr(function.attributes["function_type"]).value)
        parameters = ", ".join(f'%a{i}: {type_} {{graph.name = "a{i}"}}' for i, type_ in enumerate(types.inputs))
        results = ", ".join(f'{type_} {{graph.name = "r{i}"}}' for i, type_ in enumerate(types.results))
        arguments = ", ".join(f"%a{i}" for i in range(len(types.inputs)))
        plain = ", ".join(map(str, types.results))
        call = (
            f"%r:{len(types.results)} = func.call @k({arguments}) : ({', '.join(map(str, types.inputs))}) -> ({plain})"
        )
        names = ", ".join(f"%r#{i}" for i in range(len(types.results)))
        main = f"func.func @main({parameters}) -> ({results}) {{\n  {call}\n  return {names} : {plain}\n}}"
        module = ir.Module.parse(text + "\n" + main)
        verify(module)
        unit = Unit(module, WeightStore(), target, precision)
        tile(unit)
        program = unit.kernels["k"]
        machine = find_target(target)
        lowered = lower_kernel(program.text, machine)
        inputs = [(shape_of(type_), element_of(type_)) for type_ in types.inputs]
        outputs = [(shape_of(type_), element_of(type_)) for type_ in types.results]
    return Built(unit, program, emit_ptx(lowered.module_text, machine), lowered.shared_bytes, inputs, outputs)


def symbols_of(built: Built, arrays: Arrays) -> dict[str, int]:
    """Symbol values from the shapes of the inputs."""
    values: dict[str, int] = {}
    for (shape, _), array in zip(built.input_shapes, arrays, strict=True):
        for size, actual in zip(shape, array.shape, strict=True):
            name = size.as_symbol()
            if name is not None:
                assert values.setdefault(name, actual) == actual
    return values


def emulate(built: Built, arrays: Arrays) -> Arrays:
    """Run the kernel once on the emulator; outputs start out poisoned."""
    symbols = symbols_of(built, arrays)
    device = EmulatorDevice()
    buffers: dict[tuple[str, int], int] = {}

    def allocate(key: tuple[str, int], array: np.ndarray) -> None:
        buffers[key] = device.allocate(max(1, array.nbytes))
        if array.nbytes:
            device.upload(buffers[key], np.ascontiguousarray(array))

    for number, array in enumerate(arrays):
        allocate(("input", number), array)
    results = []
    for kind, specifications in (
        ("output", built.outputs),
        ("workspace", [(shape, element) for element, shape in built.program.workspaces]),
    ):
        for number, (shape, element) in enumerate(specifications):
            sizes = [size.evaluate(symbols) for size in shape]
            poisoned = np.frombuffer(b"\xcd" * (int(np.prod(sizes)) * dtype(element).bytes), np.uint8).copy()
            array = (poisoned & 1 if element == "i1" else poisoned).view(dtype(element).numpy).reshape(sizes)
            allocate((kind, number), array)
            if kind == "output":
                results.append(array)
    launch = launch_arguments(built.program, device, buffers, symbols)
    grid = tuple(extent.evaluate(symbols) for extent in built.program.grid)
    if all(grid):
        kernel = device.load("k", built.ptx)
        device.launch(kernel, grid, (built.program.block, 1, 1), built.shared_bytes, launch)
        device.synchronize()
    for number, array in enumerate(results):
        if array.nbytes:
            device.download(buffers[("output", number)], array)
    device.close()
    return results


def reference(built: Built, arrays: Arrays) -> Arrays:
    """What the graph interpreter computes."""
    outputs = interpret(built.unit, {f"a{i}": array for i, array in enumerate(arrays)})
    return [outputs[f"r{i}"] for i in range(len(outputs))]


def tensor(shape: str, element: str = "f32") -> str:
    """A tensor type from ``"n,3,2*s"``; the encoding is added when a dimension is a symbol."""
    sizes = [size.strip() for size in shape.split(",")] if shape else []
    static = all(re.fullmatch(r"\d+", size) for size in sizes)
    dimensions = "x".join([*(size if size.isdigit() else "?" for size in sizes), element])
    encoding = "" if static else ", [" + ", ".join(f'"{size}"' for size in sizes) + "]"
    return f"tensor<{dimensions}{encoding}>"

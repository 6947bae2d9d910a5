"""Cross-checks of a manifest: every name refers to something, every size fits, every lifetime covers its
uses.

In: a typed manifest. Out: nothing, or a ModelError that names the first thing wrong. It exists so that a
damaged or hostile engine file is refused when it is loaded, before any memory is planned or a kernel
launched.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from .dtypes import COMPLEX_OF
from .host_functions import known_functions
from .launch_arguments import BufferArgument, ExpressionArgument, TensorMapArgument
from .manifest import BUFFER_KINDS, PARAMETER_TYPES, WEIGHT_ALIGNMENT, Buffer, KernelDescription, Manifest
from .program import Call, Copy, Download, Fetch, If, Keep, Launch, Loop, Upload
from .records import fail
from .symbolic import Expression

LARGEST_BLOCK = 1024  # threads; CUDA's limit on every target


def check(manifest: Manifest) -> None:
    """Raise ModelError when the parts of the manifest do not fit together."""
    _unique("input", (binding.name for binding in manifest.inputs))
    _unique("output", (binding.name for binding in manifest.outputs))
    _unique("buffer", (buffer.name for buffer in manifest.buffers))
    _unique("kernel", (kernel.name for kernel in manifest.kernels))
    _check_symbols(manifest)
    _check_bindings(manifest)
    for kernel in manifest.kernels:
        _check_kernel(kernel)
    _check_program(manifest)
    _check_lifetimes(manifest)
    check_weights(manifest)


def _unique(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise fail("manifest", f"two {what}s are called {name!r}")
        seen.add(name)


def _check_symbols(manifest: Manifest) -> None:
    inputs = {binding.name: binding for binding in manifest.inputs}
    for name, source in manifest.symbols.items():
        place = f"manifest.symbols[{name!r}]"
        if source.input not in inputs:
            raise fail(place, f"there is no input {source.input!r}")
        shape = inputs[source.input].shape
        if source.axis >= len(shape) or shape[source.axis] != Expression.symbol(name):
            raise fail(place, f"dimension {source.axis} of input {source.input!r} is not {name}")


def _check_expressions(manifest: Manifest, expressions: Iterable[Expression], place: str) -> None:
    for value in expressions:
        unknown = value.symbols - manifest.all_symbols
        if unknown:
            raise fail(place, f"{value} has the unknown symbol {sorted(unknown)[0]!r}")


def _check_bindings(manifest: Manifest) -> None:
    buffers = manifest.buffer_table()
    for binding, role in [(b, "input") for b in manifest.inputs] + [(b, "output") for b in manifest.outputs]:
        place = f"{role} {binding.name!r}"
        _check_expressions(manifest, binding.shape, place)
        if binding.buffer not in buffers:
            raise fail(place, f"there is no buffer {binding.buffer!r}")
        buffer = buffers[binding.buffer]
        if role == "input" and buffer.kind != "input":
            raise fail(place, f"its buffer {buffer.name!r} is of kind {buffer.kind}")
        if buffer.dtype != binding.dtype:
            raise fail(place, f"it is {binding.dtype} and its buffer {buffer.name!r} {buffer.dtype}")
        if binding.complex and (binding.dtype not in COMPLEX_OF or binding.shape[-1:] != (Expression.constant(2),)):
            raise fail(place, f"complex numbers of {binding.dtype}{[str(size) for size in binding.shape]}")
    bound = {binding.buffer for binding in manifest.inputs}
    if len(bound) != len(manifest.inputs):
        raise fail("manifest.inputs", "two inputs share a buffer")
    for buffer in manifest.buffers:
        _check_expressions(manifest, buffer.shape, f"buffer {buffer.name!r}")
        if buffer.kind not in BUFFER_KINDS:
            raise fail(f"buffer {buffer.name!r}", f"unknown kind {buffer.kind!r}")
        if buffer.kind == "input" and buffer.name not in bound:
            raise fail(f"buffer {buffer.name!r}", "it is of kind input and no input is bound to it")


def _check_kernel(kernel: KernelDescription) -> None:
    place = f"kernel {kernel.name!r}"
    if min(kernel.block) < 1 or math.prod(kernel.block) > LARGEST_BLOCK:
        raise fail(place, f"a block of {' x '.join(map(str, kernel.block))} threads")
    for parameter in kernel.parameters:
        if parameter not in PARAMETER_TYPES:
            raise fail(place, f"unknown parameter type {parameter!r}")


def _check_program(manifest: Manifest) -> None:
    buffers, kernels = manifest.buffer_table(), manifest.kernel_table()
    for index, instruction in manifest.program.flatten():
        place = f"instruction {index}"
        for name in instruction.buffers:
            if name not in buffers:
                raise fail(place, f"there is no buffer {name!r}")
        if isinstance(instruction, Launch):
            _check_expressions(manifest, instruction.expressions, place)
            _check_launch(instruction, kernels.get(instruction.kernel), place)
        elif isinstance(instruction, Copy):
            _check_written(buffers[instruction.target], place)
            if buffers[instruction.source].on_host != buffers[instruction.target].on_host:
                raise fail(place, f"a copy between the device and the host: {instruction.source!r}")
        elif isinstance(instruction, Download | Upload | Keep | Fetch | Call):
            _check_host(manifest, instruction, place)
        elif isinstance(instruction, If | Loop):
            condition = buffers[instruction.condition]
            if condition.dtype != "i1":
                raise fail(place, f"the condition {condition.name!r} is {condition.dtype}, not i1")
        else:
            _check_written(buffers[instruction.target], place)


def _check_host(manifest: Manifest, instruction: Download | Upload | Keep | Fetch | Call, place: str) -> None:
    buffers = manifest.buffer_table()
    if isinstance(instruction, Call):
        _check_expressions(manifest, instruction.sizes, place)
        if instruction.function not in known_functions():
            raise fail(place, f"this runtime has no host function {instruction.function!r}")
        on_host, written = instruction.buffers, instruction.outputs
    elif isinstance(instruction, Fetch):
        on_host, written = instruction.buffers, (instruction.target,)
    else:
        if isinstance(instruction, Download | Keep):
            _check_expressions(manifest, instruction.shape, place)
        ends = (instruction.source, instruction.target)
        host, device = ends if isinstance(instruction, Upload) else ends[::-1]
        if buffers[device].on_host:
            raise fail(place, f"buffer {device!r} is a host value")
        on_host, written = (host,), (instruction.target,)
    for name in on_host:
        if not buffers[name].on_host:
            raise fail(place, f"buffer {name!r} is no host value")
    for name in written:
        _check_written(buffers[name], place)


_ARGUMENT_CLASSES: dict[str, type] = {"pointer": BufferArgument, "tensor_map": TensorMapArgument}


def _check_launch(launch: Launch, kernel: KernelDescription | None, place: str) -> None:
    if kernel is None:
        raise fail(place, f"there is no kernel {launch.kernel!r}")
    if len(launch.arguments) != len(kernel.parameters):
        raise fail(
            place,
            f"{len(launch.arguments)} arguments for {len(kernel.parameters)} parameters of {kernel.name!r}",
        )
    for position, (argument, parameter) in enumerate(zip(launch.arguments, kernel.parameters, strict=True)):
        wanted = _ARGUMENT_CLASSES.get(parameter, ExpressionArgument)
        if not isinstance(argument, wanted):
            raise fail(place, f"argument {position} of {kernel.name!r} should be of type {parameter}")


def _check_written(buffer: Buffer, place: str) -> None:
    if buffer.kind in ("input", "weight"):
        raise fail(place, f"it writes the {buffer.kind} buffer {buffer.name!r}")


def _check_lifetimes(manifest: Manifest) -> None:
    buffers = manifest.buffer_table()
    last_output_index = sum(1 for _ in manifest.program.flatten())
    for buffer in manifest.buffers:
        if buffer.kind != "temporary":
            continue
        if buffer.first is None or buffer.last is None:
            raise fail(f"buffer {buffer.name!r}", "a temporary needs 'first' and 'last'")
        if not 0 <= buffer.first <= buffer.last <= last_output_index:
            raise fail(f"buffer {buffer.name!r}", f"impossible lifetime {buffer.first} .. {buffer.last}")
    for index, instruction in manifest.program.flatten():
        for name in instruction.buffers:
            buffer = buffers[name]
            if buffer.kind == "temporary" and not (buffer.first or 0) <= index <= (buffer.last or 0):
                lifetime = f"{buffer.first} .. {buffer.last}"
                raise fail(f"instruction {index}", f"it uses buffer {name!r} outside its lifetime {lifetime}")


def check_weights(manifest: Manifest) -> None:
    """Raise ModelError unless every weight has a place of its own, aligned and of its shape's size."""
    end = 0
    for buffer in manifest.weights:
        if buffer.offset is None or buffer.nbytes is None:
            raise fail(f"weight {buffer.name!r}", "'offset' and 'nbytes' are missing")
        if any(extent.as_constant() is None for extent in buffer.shape):
            raise fail(f"weight {buffer.name!r}", f"shape {[str(e) for e in buffer.shape]} is not constant")
        if buffer.nbytes != buffer.size({}):
            raise fail(f"weight {buffer.name!r}", f"{buffer.nbytes} bytes for a shape of {buffer.size({})} bytes")
    for buffer in sorted(manifest.weights, key=lambda weight: (weight.offset or 0, weight.nbytes or 0)):
        offset, nbytes = buffer.offset or 0, buffer.nbytes or 0
        if offset % WEIGHT_ALIGNMENT:
            raise fail(f"weight {buffer.name!r}", f"offset {offset} is not a multiple of {WEIGHT_ALIGNMENT}")
        if offset < end:
            raise fail(f"weight {buffer.name!r}", "it overlaps another weight")
        end = offset + nbytes

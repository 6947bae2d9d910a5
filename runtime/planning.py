"""What a run does, for one shape: a program's instructions with every size filled in.

In: instructions, the kernels and the values of the symbols that are known. Out: steps. It is done once a shape, but for
what a call of the run decides, which is prepared when it is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

from .device import Device, Extents, Kernel
from .dtypes import DType
from .errors import DeviceError
from .launch_arguments import BufferArgument, TensorMapArgument
from .manifest import KernelDescription, Manifest, evaluate, evaluate_shape
from .program import Call, Copy, Download, Fetch, Fill, If, Instruction, Keep, Launch, Loop, Program, Upload
from .symbolic import Expression
from .tensor_map import Im2col, TensorMap

_GRID_LIMITS = (2**31 - 1, 65535, 65535)  # of every CUDA target
_FETCHED_LINES = "128b"  # what the second-level cache fetches for a box at least, as with CUTLASS and Triton
_RANGES = {"i32": 2**31, "i64": 2**63}


@dataclass(frozen=True)
class TensorMapStep:
    """A tensor map whose buffer's address is not known yet: that of `map` counts from there."""

    buffer: str
    map: TensorMap

    def encode(self, device: Device, address: int) -> bytes:
        """What the kernel gets."""
        return device.tensor_map(replace(self.map, address=address + self.map.address))


@dataclass(frozen=True)
class LaunchStep:
    """A launch with its sizes filled in; buffer arguments are still names."""

    kernel: Kernel
    nodes: tuple[str, ...]
    grid: Extents
    block: Extents
    shared_bytes: int
    arguments: tuple[tuple[str, int | str | TensorMapStep], ...]


@dataclass(frozen=True)
class CopyStep:
    """A copy of `nbytes` bytes between buffers."""

    target: str
    source: str
    nbytes: int


@dataclass(frozen=True)
class FillStep:
    """`nbytes` bytes of a buffer set to one value."""

    target: str
    byte: int
    nbytes: int


class Branch:
    """One side of an `if`. Its sizes are filled in when it is first taken: they may make no sense where it is
    not.
    """

    def __init__(self, planner: Planner, instructions: Sequence[Instruction]) -> None:
        self._planner = planner
        self._instructions = instructions

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """Its instructions, prepared."""
        return self._planner.prepare(self._instructions)


@dataclass(frozen=True)
class IfStep:
    """Reads the buffer `condition` and takes one of two branches."""

    condition: str
    then: Branch
    otherwise: Branch


@dataclass(frozen=True)
class LoopStep:
    """Runs its body while the buffer `condition` holds true. The body finds the sizes `found` anew in every turn."""

    condition: str
    body: Branch
    found: frozenset[str]


@dataclass(frozen=True)
class TransferStep:
    """A whole tensor from a device buffer to a host value, or back: a download, a copy that the value keeps on the
    device, an upload.
    """

    device: str
    host: str
    element: DType
    shape: tuple[int, ...]
    kind: type[Download | Upload | Keep]


@dataclass(frozen=True)
class HandStep:
    """A host value under another name; `fetch`: with what it keeps on the device brought to the host."""

    target: str
    source: str
    fetch: bool = False


@dataclass(frozen=True)
class CallStep:
    """A host function, with its sizes filled in."""

    call: Call
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class LateStep:
    """An instruction whose sizes a call of this run decides."""

    instruction: Instruction


Step: TypeAlias = LaunchStep | CopyStep | FillStep | IfStep | LoopStep | TransferStep | HandStep | CallStep | LateStep


class Planner:
    """Fills the sizes of one shape into the instructions of a program."""

    def __init__(self, manifest: Manifest, kernels: Mapping[str, Kernel], symbols: Mapping[str, int]) -> None:
        self._manifest = manifest
        self._kernels = kernels
        self._symbols = symbols
        self._descriptions = manifest.kernel_table()
        self._buffers = manifest.buffer_table()
        self._late = manifest.program.bound_symbols - symbols.keys()

    @property
    def symbols(self) -> Mapping[str, int]:
        """The values that are known."""
        return self._symbols

    def bind(self, values: Mapping[str, int]) -> Planner:
        """The planner for what comes after a call that found these values."""
        return Planner(self._manifest, self._kernels, {**self._symbols, **values})

    def forget(self, found: frozenset[str]) -> Planner:
        """The planner without these values, as at the start of a turn that finds them anew."""
        if not found & self._symbols.keys():
            return self
        kept = {symbol: value for symbol, value in self._symbols.items() if symbol not in found}
        return Planner(self._manifest, self._kernels, kept)

    def prepare(self, instructions: Sequence[Instruction]) -> tuple[Step, ...]:
        """The steps to run, without launches of no blocks and copies of no bytes.

        Raises DeviceError for a grid or argument that does not fit, ModelError for sizes that make no sense.
        """
        steps = (self._step(instruction) for instruction in instructions)
        return tuple(step for step in steps if step is not None)

    def _step(self, instruction: Instruction) -> Step | None:
        if self._late and self._mentions(instruction) & self._late:
            return LateStep(instruction)
        if isinstance(instruction, Launch):
            return self._launch(instruction)
        if isinstance(instruction, Copy):
            return self._copy(instruction)
        if isinstance(instruction, Fill):
            nbytes = self._buffers[instruction.target].size(self._symbols)
            return FillStep(instruction.target, instruction.byte, nbytes) if nbytes else None
        if isinstance(instruction, Download | Upload | Keep):
            return self._transfer(instruction)
        if isinstance(instruction, Fetch):
            return HandStep(instruction.target, instruction.source, fetch=True)
        if isinstance(instruction, Call):
            place = f"host function {instruction.function!r}"
            return CallStep(instruction, tuple(evaluate(size, self._symbols, place) for size in instruction.sizes))
        if isinstance(instruction, Loop):
            found = Program(instruction.body).bound_symbols
            return LoopStep(instruction.condition, Branch(self, instruction.body), found)
        return IfStep(instruction.condition, Branch(self, instruction.then), Branch(self, instruction.otherwise))

    def _mentions(self, instruction: Instruction) -> frozenset[str]:
        """Symbols that preparing the instruction needs."""
        if isinstance(instruction, If | Loop):
            return frozenset()
        expressions: tuple[Expression, ...] = ()
        if isinstance(instruction, Launch):
            expressions = instruction.expressions
        elif isinstance(instruction, Call):
            expressions = instruction.sizes
        elif isinstance(instruction, Download | Keep):
            expressions = instruction.shape
        own = frozenset().union(*(expression.symbols for expression in expressions))
        devices = (self._buffers[name] for name in instruction.buffers if not self._buffers[name].on_host)
        return own.union(*(buffer.symbols for buffer in devices))

    def _transfer(self, instruction: Download | Upload | Keep) -> Step:
        ends = (instruction.source, instruction.target)
        device, host = ends[::-1] if isinstance(instruction, Upload) else ends
        buffer = self._buffers[device]
        extents = buffer.shape if isinstance(instruction, Upload) else instruction.shape
        shape = evaluate_shape(extents, self._symbols, f"buffer {device!r}")
        return TransferStep(device, host, buffer.element, shape, type(instruction))

    def _copy(self, instruction: Copy) -> Step | None:
        source, target = self._buffers[instruction.source], self._buffers[instruction.target]
        if target.on_host:
            return HandStep(target.name, source.name)
        nbytes = target.size(self._symbols)
        if source.size(self._symbols) != nbytes:
            raise DeviceError(
                f"copy of {source.size(self._symbols)} bytes of buffer {source.name!r} "
                f"to {nbytes} bytes of buffer {target.name!r}"
            )
        return CopyStep(target.name, source.name, nbytes) if nbytes else None

    def _launch(self, launch: Launch) -> Step | None:
        description = self._descriptions[launch.kernel]
        place = f"kernel {launch.kernel!r}"
        values = [evaluate(extent, self._symbols, place) for extent in launch.grid]
        for value, limit in zip(values, _GRID_LIMITS, strict=True):
            if not 0 <= value <= limit:
                raise DeviceError(f"{place}: a grid of {' x '.join(map(str, values))} blocks{about(launch)}")
        if 0 in values:
            return None
        return LaunchStep(
            kernel=self._kernels[launch.kernel],
            nodes=launch.nodes,
            grid=(values[0], values[1], values[2]),
            block=description.block,
            shared_bytes=description.shared_bytes if description.dynamic_shared else 0,
            arguments=self._arguments(launch, description),
        )

    def _arguments(
        self, launch: Launch, kernel: KernelDescription
    ) -> tuple[tuple[str, int | str | TensorMapStep], ...]:
        arguments: list[tuple[str, int | str | TensorMapStep]] = []
        for argument, parameter in zip(launch.arguments, kernel.parameters, strict=True):
            if isinstance(argument, BufferArgument):
                arguments.append((parameter, argument.buffer))
                continue
            if isinstance(argument, TensorMapArgument):
                arguments.append(("bytes", self._tensor_map(argument, f"kernel {launch.kernel!r}")))
                continue
            value = evaluate(argument.expression, self._symbols, f"kernel {launch.kernel!r}")
            limit = _RANGES[parameter]
            if not -limit <= value < limit:
                raise DeviceError(
                    f"kernel {launch.kernel!r}: argument {argument.expression} = {value} "
                    f"does not fit {parameter}{about(launch)}"
                )
            arguments.append((parameter, value))
        return tuple(arguments)

    def _tensor_map(self, argument: TensorMapArgument, place: str) -> TensorMapStep:
        shape, strides = (evaluate_shape(part, self._symbols, place) for part in (argument.shape, argument.strides))
        im2col = None
        if argument.im2col is not None:
            given = argument.im2col
            upper = tuple(evaluate(corner, self._symbols, place) for corner in given.upper_corner)
            im2col = Im2col(given.lower_corner, upper, given.channels, given.pixels)
        steps = argument.element_strides
        if 0 in shape:
            extents = ", ".join(map(str, shape[::-1]))
            raise DeviceError(
                f"{place}: buffer {argument.buffer!r} has no elements in this run: [{extents}]\n"
                "  the kernel reads it by a tensor map, which cannot be empty\n"
                "  engines for targets without tensor maps, such as sm_90, run such sizes"
            )
        start, swizzle = evaluate(argument.offset, self._symbols, place), argument.swizzle
        where = (argument.data_type, start, shape, strides, argument.box, steps)
        boxes = TensorMap(*where, swizzle, _FETCHED_LINES, im2col=im2col)
        return TensorMapStep(argument.buffer, boxes)


def about(launch: Launch | LaunchStep) -> str:
    """The lines of a message that name the ONNX nodes."""
    return f"\n  nodes: {', '.join(launch.nodes)}" if launch.nodes else ""

"""The manifest of an engine: what its kernels, buffers, inputs and outputs are, and the host program that
ties them together.

In: the parts the compiler planned, or `manifest.json` of an engine file. Out: typed, cross-checked, immutable
records. It exists so that nothing after loading has to distrust a name, a size or an index again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from .dtypes import DTYPES, HOST_TYPES, DType, dtype
from .errors import ModelError
from .program import Program
from .records import Record, fail, read_expression, read_integer, read_text
from .symbolic import Expression

FORMAT = 1
MOST_ELEMENTS = 2**31  # of one tensor: indices inside kernels are 32-bit (passes/lower/context.py)
WEIGHT_ALIGNMENT = 256  # bytes, in weights.bin and on the device
BUFFER_KINDS = ("input", "output", "weight", "temporary")
PARAMETER_TYPES = ("pointer", "i32", "i64", "tensor_map")

Shape = tuple[Expression, ...]


@dataclass(frozen=True)
class SymbolSource:
    """Where a symbol is read at run time: dimension `axis` of the input called `input`."""

    input: str
    axis: int

    def to_json(self) -> dict[str, Any]:
        return {"input": self.input, "axis": self.axis}

    @staticmethod
    def from_json(value: Any, place: str) -> SymbolSource:
        record = Record(value, place)
        result = SymbolSource(record.text("input"), record.integer("axis", most=63))
        record.done()
        return result


@dataclass(frozen=True)
class TensorBinding:
    """An input or output of the engine: its ONNX `name`, dtype and shape, and the buffer that holds it.

    With `complex`, callers have complex numbers, whose two parts are the last dimension.
    """

    name: str
    dtype: str
    shape: Shape
    buffer: str
    complex: bool = False

    def to_json(self) -> dict[str, Any]:
        shape = [str(extent) for extent in self.shape]
        entry = {"name": self.name, "dtype": self.dtype, "shape": shape, "buffer": self.buffer}
        return {**entry, "complex": True} if self.complex else entry

    @staticmethod
    def from_json(value: Any, place: str) -> TensorBinding:
        record = Record(value, place)
        result = TensorBinding(
            name=record.text("name"),
            dtype=record.text("dtype", choices=(*DTYPES, *HOST_TYPES)),
            shape=record.array("shape", read_expression),
            buffer=record.text("buffer"),
            complex=record.boolean("complex", False),
        )
        record.done()
        return result


@dataclass(frozen=True)
class Buffer:
    """A piece of device memory.

    `first` and `last` are the flattened instruction indices of a temporary's first write and last use;
    `offset` and `nbytes` say where a weight stands in weights.bin, in bytes.
    """

    name: str
    dtype: str
    shape: Shape
    kind: str
    first: int | None = None
    last: int | None = None
    offset: int | None = None
    nbytes: int | None = None

    @property
    def on_host(self) -> bool:
        """True for values of the host program, which have no device memory."""
        return self.dtype in HOST_TYPES

    @property
    def symbols(self) -> frozenset[str]:
        """The symbols that its shape mentions."""
        return frozenset().union(*(extent.symbols for extent in self.shape))

    @property
    def element(self) -> DType:
        """The element type, from the table."""
        return dtype(self.dtype)

    def size(self, symbols: Mapping[str, int]) -> int:
        """Bytes for the given symbol values. Raises ModelError when a dimension cannot be evaluated or is
        negative, or when there are more elements than kernels can number.
        """
        if self.on_host:
            return 0
        shape = evaluate_shape(self.shape, symbols, f"buffer {self.name!r}")
        count = math.prod(shape)
        if count >= MOST_ELEMENTS:
            raise ModelError(
                f"buffer {self.name!r} would have {count} elements (shape {list(shape)}); kernels number "
                f"elements with 32 bits and take fewer than {MOST_ELEMENTS}\n  use a smaller batch"
            )
        return count * self.element.bytes

    def to_json(self) -> dict[str, Any]:
        shape = [str(extent) for extent in self.shape]
        result: dict[str, Any] = {"name": self.name, "dtype": self.dtype, "shape": shape, "kind": self.kind}
        optional = {"first": self.first, "last": self.last, "offset": self.offset, "nbytes": self.nbytes}
        return result | {key: value for key, value in optional.items() if value is not None}

    @staticmethod
    def from_json(value: Any, place: str) -> Buffer:
        record = Record(value, place)
        result = Buffer(
            name=record.text("name"),
            dtype=record.text("dtype", choices=(*DTYPES, *HOST_TYPES)),
            shape=record.array("shape", read_expression),
            kind=record.text("kind", choices=BUFFER_KINDS),
            first=record.optional_integer("first", least=-1),
            last=record.optional_integer("last", least=-1),
            offset=record.optional_integer("offset"),
            nbytes=record.optional_integer("nbytes"),
        )
        record.done()
        return result


@dataclass(frozen=True)
class KernelDescription:
    """One kernel: its fixed block shape, memory and registers, parameter types, and the ONNX nodes it
    computes.

    `shared_bytes` are passed at launch when `dynamic_shared`, else they are part of the kernel. `spills` are
    bytes.
    """

    name: str
    block: tuple[int, int, int]
    shared_bytes: int = 0
    registers: int = 0
    spills: int = 0
    dynamic_shared: bool = True
    parameters: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    kind: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "block": list(self.block),
            "shared_bytes": self.shared_bytes,
            "registers": self.registers,
            "spills": self.spills,
            "dynamic_shared": self.dynamic_shared,
            "parameters": list(self.parameters),
            "nodes": list(self.nodes),
            "kind": self.kind,
        }

    @staticmethod
    def from_json(value: Any, place: str) -> KernelDescription:
        record = Record(value, place)
        block = record.array("block", read_integer)
        if len(block) != 3:
            raise fail(place, "a block has three extents")
        result = KernelDescription(
            name=record.text("name"),
            block=(block[0], block[1], block[2]),
            shared_bytes=record.integer("shared_bytes", most=2**31 - 1),
            registers=record.integer("registers", default=0),
            spills=record.integer("spills", default=0),
            dynamic_shared=record.boolean("dynamic_shared", default=True),
            parameters=record.array("parameters", read_text),
            nodes=record.array("nodes", read_text, default=[]),
            kind=record.text("kind", default=""),
        )
        record.done()
        return result


@dataclass(frozen=True)
class Equality:
    """Two sizes that the model needs to be equal and that only a run can compare."""

    left: Expression
    right: Expression

    def to_json(self) -> list[str]:
        """As a pair of texts."""
        return [str(self.left), str(self.right)]

    @staticmethod
    def from_json(value: Any, place: str) -> Equality:
        """From a pair of texts."""
        if not isinstance(value, list) or len(value) != 2:
            raise fail(place, "a pair of expressions is expected")
        return Equality(read_expression(value[0], place), read_expression(value[1], place))


@dataclass(frozen=True)
class Manifest:
    """Everything about an engine except the bytes of its kernels, IR dumps and weights."""

    target: str
    precision: str
    model: str
    symbols: dict[str, SymbolSource]
    inputs: tuple[TensorBinding, ...]
    outputs: tuple[TensorBinding, ...]
    buffers: tuple[Buffer, ...]
    kernels: tuple[KernelDescription, ...]
    program: Program
    equalities: tuple[Equality, ...] = ()
    notes: tuple[str, ...] = ()
    producer: str = "tilewright 0.1.0"
    sha256: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT

    @cached_property
    def all_symbols(self) -> frozenset[str]:
        """Symbols that the inputs' shapes give and those that the program's calls find."""
        return frozenset(self.symbols) | self.program.bound_symbols

    def buffer_table(self) -> dict[str, Buffer]:
        """Buffers by name."""
        return {buffer.name: buffer for buffer in self.buffers}

    def kernel_table(self) -> dict[str, KernelDescription]:
        """Kernels by name."""
        return {kernel.name: kernel for kernel in self.kernels}

    @property
    def weights(self) -> tuple[Buffer, ...]:
        """The weight buffers, in the order of their arrays."""
        return tuple(buffer for buffer in self.buffers if buffer.kind == "weight")

    def with_weight_offsets(self) -> Manifest:
        """The same manifest with the weights laid out one after the other, each aligned to 256 bytes."""
        buffers, offset = [], 0
        for buffer in self.buffers:
            if buffer.kind == "weight":
                nbytes = buffer.size({})
                buffer = replace(buffer, offset=offset, nbytes=nbytes)
                offset = align(offset + nbytes, WEIGHT_ALIGNMENT)
            buffers.append(buffer)
        return replace(self, buffers=tuple(buffers))

    @property
    def weight_bytes(self) -> int:
        """Length of weights.bin."""
        return max(((b.offset or 0) + (b.nbytes or 0) for b in self.weights), default=0)

    def to_json(self) -> dict[str, Any]:
        """The object of `manifest.json`."""
        return {
            "format": self.format,
            "producer": self.producer,
            "target": self.target,
            "precision": self.precision,
            "model": self.model,
            "sha256": dict(self.sha256),
            "symbols": {name: source.to_json() for name, source in self.symbols.items()},
            "inputs": [binding.to_json() for binding in self.inputs],
            "outputs": [binding.to_json() for binding in self.outputs],
            "buffers": [buffer.to_json() for buffer in self.buffers],
            "kernels": [kernel.to_json() for kernel in self.kernels],
            "program": self.program.to_json(),
            "equalities": [equality.to_json() for equality in self.equalities],
            "notes": list(self.notes),
        }

    @staticmethod
    def from_json(value: Any) -> Manifest:
        """Read and cross-check `manifest.json`. Raises ModelError, also for a newer format version."""
        record = Record(value, "manifest")
        version = record.integer("format", least=1)
        if version > FORMAT:
            raise ModelError(
                f"the engine has format {version}; this tilewright reads up to {FORMAT}\n"
                f"  written by: {record.take('producer', 'unknown')}\n  update tilewright, or compile again"
            )
        result = Manifest(
            format=version,
            producer=record.text("producer"),
            target=record.text("target"),
            precision=record.text("precision"),
            model=record.text("model"),
            sha256=record.table("sha256", read_text),
            symbols=record.table("symbols", SymbolSource.from_json),
            inputs=record.array("inputs", TensorBinding.from_json),
            outputs=record.array("outputs", TensorBinding.from_json),
            buffers=record.array("buffers", Buffer.from_json),
            kernels=record.array("kernels", KernelDescription.from_json),
            program=Program.from_json(record.take("program")),
            equalities=record.array("equalities", Equality.from_json, ()),
            notes=record.array("notes", read_text, ()),
        )
        record.done()
        return result


def align(value: int, alignment: int) -> int:
    """`value` rounded up to a multiple of `alignment`."""
    return -(-value // alignment) * alignment


def evaluate(value: Expression, symbols: Mapping[str, int], what: str) -> int:
    """The integer for the given symbol values. Raises ModelError naming `what` when it has none."""
    try:
        return value.evaluate(symbols)
    except KeyError as error:
        raise ModelError(f"{what}: symbol {error.args[0]!r} in {value} is bound by no input") from error
    except ZeroDivisionError as error:
        raise ModelError(f"{what}: {value} divides by zero for {dict(symbols)}") from error


def evaluate_shape(shape: Shape, symbols: Mapping[str, int], what: str) -> tuple[int, ...]:
    """All dimensions for the given symbol values. Raises ModelError naming `what`, also for a negative
    dimension.
    """
    values = tuple(evaluate(extent, symbols, what) for extent in shape)
    if any(value < 0 for value in values):
        raise ModelError(
            f"{what} would have the shape {list(values)} for {dict(symbols)}: the input is too small"
        )
    return values

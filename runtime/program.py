"""The host program: the short list of instructions that a session interprets for every inference.

In: instructions the compiler planned, or their JSON form from an engine file. Out: typed, immutable
instructions and their JSON. It exists so that compiler, file and runtime share one definition of what a
device is told to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

from .launch_arguments import Argument, ExpressionArgument, TensorMapArgument, read_argument
from .records import Record, fail, read_expression, read_text
from .symbolic import Expression

OPERATIONS = ("launch", "copy", "fill", "if", "loop", "download", "upload", "keep", "fetch", "call")
DEEPEST_NESTING = 32  # of `if` in `if`; exported models nest a handful deep


@dataclass(frozen=True)
class Launch:
    """Run `kernel` on a grid of blocks. A grid with a zero extent is skipped. `nodes` are the ONNX nodes it
    computes.
    """

    kernel: str
    grid: tuple[Expression, Expression, Expression]
    arguments: tuple[Argument, ...]
    nodes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "op": "launch",
            "kernel": self.kernel,
            "grid": [str(extent) for extent in self.grid],
            "arguments": [argument.to_json() for argument in self.arguments],
            "nodes": list(self.nodes),
        }

    @property
    def buffers(self) -> tuple[str, ...]:
        """Names of the buffers it reads or writes."""
        return tuple(item.buffer for item in self.arguments if not isinstance(item, ExpressionArgument))

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """Everything that is evaluated per shape: the grid, then what the arguments need."""
        found = list(self.grid)
        for argument in self.arguments:
            if isinstance(argument, ExpressionArgument):
                found.append(argument.expression)
            elif isinstance(argument, TensorMapArgument):
                found += argument.expressions
        return tuple(found)


@dataclass(frozen=True)
class Copy:
    """Copy the whole buffer `source` to `target`, device to device. Both have the same size in bytes.

    Between host values it hands the value on.
    """

    source: str
    target: str

    def to_json(self) -> dict[str, Any]:
        return {"op": "copy", "source": self.source, "target": self.target}

    @property
    def buffers(self) -> tuple[str, ...]:
        return (self.source, self.target)


@dataclass(frozen=True)
class Fill:
    """Set every byte of the buffer `target` to `byte` (0 to 255)."""

    target: str
    byte: int

    def to_json(self) -> dict[str, Any]:
        return {"op": "fill", "target": self.target, "byte": self.byte}

    @property
    def buffers(self) -> tuple[str, ...]:
        return (self.target,)


@dataclass(frozen=True)
class If:
    """Read the one `i1` of the buffer `condition` back to the host and run one of two branches."""

    condition: str
    then: tuple[Instruction, ...]
    otherwise: tuple[Instruction, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "op": "if",
            "condition": self.condition,
            "then": [instruction.to_json() for instruction in self.then],
            "else": [instruction.to_json() for instruction in self.otherwise],
        }

    @property
    def buffers(self) -> tuple[str, ...]:
        return (self.condition,)


@dataclass(frozen=True)
class Loop:
    """Run `body` again and again while the one `i1` of the buffer `condition`, read back each time, is true."""

    condition: str
    body: tuple[Instruction, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "op": "loop",
            "condition": self.condition,
            "body": [instruction.to_json() for instruction in self.body],
        }

    @property
    def buffers(self) -> tuple[str, ...]:
        return (self.condition,)


@dataclass(frozen=True)
class Download:
    """Bring the whole device buffer `source` to the host, as the host value `target`: an array of `shape`."""

    source: str
    target: str
    shape: tuple[Expression, ...]

    def to_json(self) -> dict[str, Any]:
        shape = [str(extent) for extent in self.shape]
        return {"op": "download", "source": self.source, "target": self.target, "shape": shape}

    @property
    def buffers(self) -> tuple[str, ...]:
        return (self.source, self.target)


@dataclass(frozen=True)
class Upload:
    """Write the host value `source` to the device buffer `target`: an array of its dtype and shape, or a list of
    arrays one after the other; those that are kept on the device are copied there.
    """

    source: str
    target: str

    def to_json(self) -> dict[str, Any]:
        return {"op": "upload", "source": self.source, "target": self.target}

    @property
    def buffers(self) -> tuple[str, ...]:
        return (self.source, self.target)


@dataclass(frozen=True)
class Keep:
    """Copy the whole device buffer `source` to memory of its own, which the host value `target` holds: an array of
    `shape` that stays on the device.
    """

    source: str
    target: str
    shape: tuple[Expression, ...]

    def to_json(self) -> dict[str, Any]:
        shape = [str(extent) for extent in self.shape]
        return {"op": "keep", "source": self.source, "target": self.target, "shape": shape}

    @property
    def buffers(self) -> tuple[str, ...]:
        return (self.source, self.target)


@dataclass(frozen=True)
class Fetch:
    """Bring what the host value `source` keeps on the device to the host: `target` is the same with arrays there."""

    source: str
    target: str

    def to_json(self) -> dict[str, Any]:
        return {"op": "fetch", "source": self.source, "target": self.target}

    @property
    def buffers(self) -> tuple[str, ...]:
        return (self.source, self.target)


@dataclass(frozen=True)
class Call:
    """Run a function of runtime/host_functions on host values. `sizes` are evaluated for it, `symbols` are
    what it binds. `attributes` is a JSON object.
    """

    function: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    sizes: tuple[Expression, ...] = ()
    symbols: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "op": "call",
            "function": self.function,
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
            "attributes": dict(self.attributes),
            "sizes": [str(size) for size in self.sizes],
            "symbols": list(self.symbols),
            "nodes": list(self.nodes),
        }

    @property
    def buffers(self) -> tuple[str, ...]:
        return self.inputs + self.outputs


Instruction: TypeAlias = Launch | Copy | Fill | If | Loop | Download | Upload | Keep | Fetch | Call


@dataclass(frozen=True)
class Program:
    """The instructions of one inference, in order."""

    instructions: tuple[Instruction, ...]

    def to_json(self) -> list[dict[str, Any]]:
        """The `program` list of the manifest."""
        return [instruction.to_json() for instruction in self.instructions]

    @staticmethod
    def from_json(value: Any) -> Program:
        """Read the `program` list of a manifest. Raises ModelError for unknown instructions and keys."""
        return Program(_instructions(value, "program", 0))

    def flatten(self) -> Iterator[tuple[int, Instruction]]:
        """(index, instruction) over the flattened program, which lifetimes count in.

        An `if` takes one index, the reading of its condition, and the instructions of `then`, then `else`,
        follow it; a `loop` takes one, and its body follows.
        """
        return enumerate(_flattened(self.instructions))

    @property
    def loops(self) -> tuple[tuple[int, int], ...]:
        """(index of the loop, index of the last instruction in it) of every loop of the flattened program."""
        return tuple(
            (index, index + sum(1 for _ in _flattened(instruction.body)))
            for index, instruction in self.flatten()
            if isinstance(instruction, Loop)
        )

    @property
    def returns_to_host(self) -> bool:
        """True when the host has a part in every run: it cannot be captured as one graph of launches."""
        return any(not isinstance(instruction, Launch | Copy | Fill) for instruction in self.instructions)

    @property
    def calls(self) -> tuple[Call, ...]:
        """Every call of a host function in the flattened program."""
        return tuple(instruction for _, instruction in self.flatten() if isinstance(instruction, Call))

    @cached_property
    def bound_symbols(self) -> frozenset[str]:
        """Symbols whose values the program's calls find."""
        return frozenset(symbol for call in self.calls for symbol in call.symbols)

    @property
    def launches(self) -> tuple[Launch, ...]:
        """Every launch of the flattened program."""
        return tuple(instruction for _, instruction in self.flatten() if isinstance(instruction, Launch))


def _flattened(instructions: tuple[Instruction, ...]) -> Iterator[Instruction]:
    for instruction in instructions:
        yield instruction
        if isinstance(instruction, If):
            yield from _flattened(instruction.then)
            yield from _flattened(instruction.otherwise)
        elif isinstance(instruction, Loop):
            yield from _flattened(instruction.body)


def _instructions(value: Any, place: str, depth: int) -> tuple[Instruction, ...]:
    if not isinstance(value, list | tuple):
        raise fail(place, "a list of instructions is expected")
    if depth > DEEPEST_NESTING:
        raise fail(place, f"branches nested more than {DEEPEST_NESTING} deep")
    return tuple(_instruction(item, f"{place}[{index}]", depth) for index, item in enumerate(value))


def _instruction(value: Any, place: str, depth: int) -> Instruction:
    record = Record(value, place)
    operation = record.text("op", choices=OPERATIONS)
    result: Instruction
    if operation == "launch":
        result = _launch(record)
    elif operation == "copy":
        result = Copy(source=record.text("source"), target=record.text("target"))
    elif operation == "fill":
        result = Fill(target=record.text("target"), byte=record.integer("byte", most=255))
    elif operation == "loop":
        body = _instructions(record.take("body"), f"{place}.body", depth + 1)
        result = Loop(condition=record.text("condition"), body=body)
    elif operation in ("download", "keep"):
        shape = record.array("shape", read_expression)
        kind = Download if operation == "download" else Keep
        result = kind(source=record.text("source"), target=record.text("target"), shape=shape)
    elif operation in ("upload", "fetch"):
        move = Upload if operation == "upload" else Fetch
        result = move(source=record.text("source"), target=record.text("target"))
    elif operation == "call":
        result = _call(record)
    else:
        result = If(
            condition=record.text("condition"),
            then=_instructions(record.take("then"), f"{place}.then", depth + 1),
            otherwise=_instructions(record.take("else", []), f"{place}.else", depth + 1),
        )
    record.done()
    return result


def _launch(record: Record) -> Launch:
    grid = record.array("grid", read_expression)
    if len(grid) != 3:
        raise fail(record.place, "a grid has three extents")
    return Launch(
        kernel=record.text("kernel"),
        grid=(grid[0], grid[1], grid[2]),
        arguments=record.array("arguments", read_argument),
        nodes=record.array("nodes", read_text, default=[]),
    )


def _call(record: Record) -> Call:
    attributes = record.take("attributes", {})
    if not isinstance(attributes, dict):
        raise fail(record.place, "'attributes' must be an object")
    return Call(
        function=record.text("function"),
        inputs=record.array("inputs", read_text),
        outputs=record.array("outputs", read_text),
        attributes=attributes,
        sizes=record.array("sizes", read_expression, default=[]),
        symbols=record.array("symbols", read_text, default=[]),
        nodes=record.array("nodes", read_text, default=[]),
    )

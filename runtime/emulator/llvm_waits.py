"""Waits of the fast engine: mbarrier.try_wait and barrier.cluster.wait, where lanes stay until others have come; and
pauses of loops that spin on memory (`spins.py`), where they stay until the warp's next turn.

In: the blocks of a warp function that end in a wait. Out: IR that asks whether a wait is over, and what is kept of it
in the warp's record meanwhile. Why: whether the phase of an mbarrier is complete is one look at its word in shared
memory.

A record keeps for each wait the lanes that stand there, the parities of the phases they wait for as one bit each, and
the addresses of their mbarriers. `%turn` is -1 where a part of a warp that paused has its next turn, else 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .control_flow import Block
from .isa.barrier import wait_operands
from .isa.memory import address_operand
from .llvm_checks import ADDRESSES
from .llvm_cluster import generations_over
from .llvm_mbarrier import phases_over
from .llvm_values import LANES, Value
from .numpy_mbarrier import PARITY_SHIFT
from .numpy_waits import wait_space
from .ptx import Instruction
from .spins import YIELD

if TYPE_CHECKING:
    from .llvm_barriers import Barriers

WAIT_BYTES = 64 + 8 * LANES
WAIT_FIELDS = {"lanes": 0, "parities": 4, "addresses": 64}
WAIT_ALIGNMENT = 64
_ELEMENTS = {"lanes": "i32", "parities": "i32", "addresses": "i64"}


class Waits:
    """The waits of a warp function, whose records begin `start` bytes into the warp's."""

    def __init__(self, barriers: Barriers, start: int) -> None:
        self._emit = barriers.emit
        self._code = barriers.code
        self._blocks = barriers.blocks
        self.start = start
        self.numbers = tuple(block.number for block in barriers.blocks if block.exit.kind == "wait")

    @property
    def nbytes(self) -> int:
        """Bytes of all waits in a record."""
        return WAIT_BYTES * len(self.numbers)

    def told(self) -> list[list[Any]]:
        """PTX line, opcode, modifiers and place of each, for messages."""
        return [
            [ender.line, ender.opcode, list(ender.modifiers), self._place(number)]
            for number in self.numbers for ender in [self._ender(self._blocks[number])]
        ]  # fmt: skip

    def _place(self, number: int) -> int:
        return self.start + WAIT_BYTES * self.numbers.index(number)

    @staticmethod
    def _ender(block: Block) -> Instruction:
        assert block.exit.instruction is not None
        return block.exit.instruction

    def field(self, number: int, name: str) -> str:
        """Where a field of the wait that ends block `number` lies."""
        place = self._code.name()
        self._code.line(f"{place} = getelementptr i8, ptr %record, i64 {self._place(number) + WAIT_FIELDS[name]}")
        return place

    def load(self, number: int, name: str) -> Value:
        """A field; addresses are one for each lane."""
        wide = name == "addresses"
        kind = ADDRESSES if wide else "i32"
        return self._code.emit(f"load {kind}, ptr {self.field(number, name)}", _ELEMENTS[name], wide)

    def store(self, number: int, **values: Value) -> None:
        """Set fields."""
        for name, value in values.items():
            self._code.line(f"store {value.typed}, ptr {self.field(number, name)}")

    def yields(self, number: int) -> bool:
        """Whether block `number` ends in a pause between two looks at memory."""
        return self._ender(self._blocks[number]).opcode == YIELD

    def operands(self, block: Block) -> tuple[Value, Value]:
        """(address, parities) of the wait that the current lanes have reached; try_wait gives true."""
        emit, code, ender = self._emit, self._code, self._ender(block)
        if ender.opcode in ("barrier", YIELD):
            return code.integer("i64", 0), code.integer("i32", 0)
        place, token, parity = wait_operands(ender)
        address = emit.address(address_operand(emit, place))
        if address.pattern is not None:
            address = code.widen(address)
        address = code.resize(address, "i64")
        if parity:
            asked = code.binary("and", emit.read(token, "u32"), code.integer("i32", 1))
        else:
            shifted = code.binary("lshr", emit.read(token, "b64"), code.integer("i64", PARITY_SHIFT))
            asked = code.binary("and", shifted, code.integer("i64", 1))
        parities = code.cast_mask(code.compare("icmp ne", asked, code.integer(asked.element, 0)))
        emit.write(ender.operands[0], "pred", code.integer("i1", 1))
        return Value(address.text, address.element, address.wide), parities

    def over(self, block: Block, address: Value, parities: Value, lanes: Value) -> Value:
        """Of `lanes` those whose wait is over; all of them or none where they share the address."""
        emit, ender = self._emit, self._ender(block)
        if ender.opcode == YIELD:
            turn = emit.code.emit("load i32, ptr %turn", "i32", False)
            return emit.code.binary("and", lanes, turn)
        emit.instruction, outside = ender, (emit.mask, emit.guard)
        emit.mask, emit.guard = lanes, None
        try:
            if ender.opcode == "barrier":
                return generations_over(emit, lanes)
            return phases_over(emit, wait_space(ender), address, parities, lanes)
        finally:
            emit.mask, emit.guard = outside

"""Barriers of the fast engine: where a warp waits, what it keeps meanwhile, and where it goes on.

In: the control flow of a warp function, and its blocks that end in a barrier or a wait (`llvm_waits.py`). Out: IR of
those exits, of the points where a warp resumes, and the layout of its record. Why: nearly all of what makes the warp
function a coroutine is here.

The record of a warp: the place to go on at, whether it has ended, and for each barrier instruction the lanes that wait
there, at which barrier, since which generation; the same for each wait; for each instruction of a whole warp the lanes
that are there already; then the saved registers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .control_flow import Block
from .llvm_context import BARRIER_BYTES, BARRIER_FIELDS, BLOCKED, PAUSES, WAITS
from .llvm_module import call
from .llvm_parts import Parts
from .llvm_values import BITS, LANES, Code, Value
from .llvm_waits import WAIT_ALIGNMENT, Waits
from .ptx import Instruction, Negated, Operand, Register

if TYPE_CHECKING:
    from .llvm_control import Control

RECORD_PLACE, RECORD_ENDED, RECORD_SLOTS = 0, 4, 16
SLOT_BYTES = 16
SLOT_FIELDS = {"lanes": 0, "number": 4, "generation": 8, "expected": 12}
_SLOT_ALIGNMENT = 128
_KEPT_IN_REGISTERS = 16
"""Vector registers of the host, in lanes of 32 bits, that hold a warp's values between instructions: with more than
so many to save, values stay in the record."""


@dataclass(frozen=True, slots=True)
class Record:
    """Sizes of a warp's record: `barriers` are the blocks that end in one, in slot order."""

    barriers: tuple[int, ...]
    header_bytes: int
    nbytes: int


class Barriers:
    """Writes what has to do with barriers into the function of `control`."""

    def __init__(self, control: Control) -> None:
        self.control = control
        self.emit = control.emit
        self.code = control.code
        self.blocks = control.blocks
        self.end = control.end
        self.threads = control.threads
        self.partial = control.partial
        self.homes = control.homes
        self.barriers = tuple(block.number for block in self.blocks if block.exit.kind == "barrier")
        slots_end = RECORD_SLOTS + SLOT_BYTES * len(self.barriers)
        self.waits = Waits(self, -(-slots_end // WAIT_ALIGNMENT) * WAIT_ALIGNMENT)
        self.stops: tuple[int, ...] = tuple(sorted((*self.barriers, *self.waits.numbers)))
        self.parts = Parts(self)
        self.places, saved_bytes = self._save_places()
        self.residents = self._residents()
        self.parts.start = self.waits.start + self.waits.nbytes if self.waits.numbers else slots_end
        header = self.parts.start + self.parts.nbytes
        self.save_start = -(-header // _SLOT_ALIGNMENT) * _SLOT_ALIGNMENT
        nbytes = -(-(self.save_start + saved_bytes) // _SLOT_ALIGNMENT) * _SLOT_ALIGNMENT
        self.record = Record(self.barriers, header, nbytes)

    def resumed(self, block: Block) -> int:
        """Registers that are live where a barrier lets go."""
        targets = [target for target in block.exit.targets if target < self.end]
        return self.blocks[targets[0]].live_in if targets else 0

    def _save_places(self) -> tuple[dict[int, int], int]:
        """Offsets of the registers that are saved at barriers, and their bytes."""
        saved = 0
        for number in self.stops:
            saved |= self.resumed(self.blocks[number])
        for number in self.parts.gathering:
            saved |= self.blocks[number].live_in
        places, position = {}, 0
        for number in self.homes:
            if saved >> number & 1:
                nbytes = self._wide_bytes(number)
                # Vectors must not lie across the host's cache lines.
                position = -(-position // _SLOT_ALIGNMENT) * _SLOT_ALIGNMENT if nbytes else position
                places[number] = position
                position += nbytes or 8
        return places, position

    def _wide_bytes(self, number: int) -> int:
        """Bytes of a register that differs between lanes; 0 for others."""
        wide = self.emit.home_type(number).startswith("<")
        return BITS[self.emit.elements[number]] // 8 * LANES if wide else 0

    def _residents(self) -> frozenset[int]:
        """Registers that live in the record all the time: nothing to save or restore. A kernel with so many of them
        would have them in memory anyway."""
        words = [number for number in self.places if self._wide_bytes(number) == 4 * LANES]
        return frozenset(words) if len(words) > _KEPT_IN_REGISTERS else frozenset()

    def home(self, number: int) -> str:
        """The definition of the place of a register."""
        if number in self.residents:
            return f"%r{number} = getelementptr i8, ptr %record, i64 {self.save_start + self.places[number]}"
        return f"%r{number} = alloca {self.emit.home_type(number)}"

    def end_block(self, block: Block, lanes: Value) -> None:
        """The exit of a block that ends in a barrier, which `lanes` have reached."""
        if self.is_wait(block.number):
            self._end_in_wait(block, lanes)
            return
        code, emit = self.code, self.emit
        ender = block.exit.instruction
        assert ender is not None
        operands = list(ender.operands[1:] if ender.has("red") else ender.operands)
        numbers = [emit.read(operand, "u32") for operand in operands if not self._is_predicate(operand)]
        predicates = [emit.read(operand, "pred") for operand in operands if self._is_predicate(operand)]
        if any(value.wide for value in numbers):
            emit.unsupported("a barrier number that may differ between lanes")
        if ender.has("red") and self.partial[block.number]:
            emit.unsupported("a reducing barrier that a part of a warp may reach")
        number = code.binary("and", numbers[0], code.integer("i32", 15)) if numbers else code.integer("i32", 0)
        expected = numbers[1] if len(numbers) > 1 else code.integer("i32", self.threads)
        votes = code.integer("i32", 0)
        if predicates:
            votes = code.intrinsic("ctpop", "i32", code.binary("and", lanes, code.cast_mask(predicates[0])))
        self.control.leave(block)
        count = code.intrinsic("ctpop", "i32", lanes)
        generation = self._barrier_field(code, number, "generation")
        code.line("; the barrier")
        before = code.emit(f"load i32, ptr {generation}", "i32", False)
        released = call(code, "i1", self._arrive_helper(),
                        f"ptr %context, {number.typed}, {expected.typed}, {count.typed}, {votes.typed}")  # fmt: skip
        passes = ender.has("arrive")
        target = block.exit.targets[0]
        if self.partial[block.number]:
            self._wait_loosely(block, lanes, (number, before, expected), released, passes)
            return
        if passes:
            self.control.go(target)
            return
        label = f"through{block.number}"
        code.line(f"br i1 {released}, label %{label}, label %save{block.number}")
        code.label(f"save{block.number}")
        self._write_slot(block.number, lanes, number, before, expected)
        self.save(self.resumed(block) & ~self._result_bit(ender))
        self.return_waiting(block.number + 1)
        code.label(label)
        emit.begin_block()
        if ender.has("red"):
            self._write_result(block, ender, number)
        self.control.go(target)

    def _is_predicate(self, operand: Operand) -> bool:
        return isinstance(operand, Negated) or self.emit.is_predicate(operand)

    def _result_bit(self, ender: Instruction) -> int:
        if not ender.has("red"):
            return 0
        operand = ender.operands[0]
        assert isinstance(operand, Register)
        return 1 << self.emit.numbers[operand.name]

    def _write_result(self, block: Block, ender: Instruction, number: Value) -> None:
        """bar.red: the block's votes, into the destination register."""
        code, emit = self.code, self.emit
        votes = code.emit(f"load i32, ptr {self._barrier_field(code, number, 'result')}", "i32", False)
        mode = ender.first_of("popc", "and", "or")
        if mode == "popc":
            emit.write(ender.operands[0], "u32", votes)
        else:
            expected = code.emit(f"load i32, ptr {self._barrier_field(code, number, 'expected')}", "i32", False)
            value = (
                code.compare("icmp eq", votes, expected)
                if mode == "and"
                else code.compare("icmp ne", votes, code.integer("i32", 0))
            )
            emit.write(ender.operands[0], "pred", value)
        self.control.leave(block)

    def _barrier_field(self, code: Code, number: Value, field: str) -> str:
        base = self.emit.field("barriers", "ptr").text
        slot, place = code.name(), code.name()
        code.line(f"{slot} = getelementptr [{BARRIER_BYTES} x i8], ptr {base}, {number.typed}")
        code.line(f"{place} = getelementptr i8, ptr {slot}, i64 {BARRIER_FIELDS[field]}")
        return place

    def _arrive_helper(self) -> str:
        """`(context, number, expected, count, votes)` -> whether the barrier is complete now."""

        def build(code: Code) -> None:
            values = {name: Value(f"%{name}", "i32") for name in ("number", "expected", "count", "votes")}
            places = {name: self._barrier_field_in(code, values["number"], name) for name in BARRIER_FIELDS}
            arrived = code.emit(f"load i32, ptr {places['arrived']}", "i32", False)
            voted = code.emit(f"load i32, ptr {places['votes']}", "i32", False)
            arrived = code.binary("add", arrived, values["count"])
            voted = code.binary("add", voted, values["votes"])
            complete = code.compare("icmp uge", arrived, values["expected"])
            zero = code.integer("i32", 0)
            generation = code.emit(f"load i32, ptr {places['generation']}", "i32", False)
            next_generation = code.binary("add", generation, code.resize(complete, "i32"))
            result = code.emit(f"load i32, ptr {places['result']}", "i32", False)
            for name, value in (
                ("arrived", code.select(complete, zero, arrived)), ("votes", code.select(complete, zero, voted)),
                ("result", code.select(complete, voted, result)), ("generation", next_generation),
                ("expected", values["expected"]),
            ):  # fmt: skip
                code.line(f"store {value.typed}, ptr {places[name]}")
            code.line(f"ret i1 {complete.text}")

        header = "i1 @(ptr %context, i32 %number, i32 %expected, i32 %count, i32 %votes)"
        return self.emit.module.helper("arrive", header, build)

    def _barrier_field_in(self, code: Code, number: Value, field: str) -> str:
        outside, self.emit.code = self.emit.code, code
        try:
            return self._barrier_field(code, number, field)
        finally:
            self.emit.code = outside

    def _slot(self, number: int, field: str) -> str:
        place = RECORD_SLOTS + SLOT_BYTES * self.barriers.index(number) + SLOT_FIELDS[field]
        name = self.code.name()
        self.code.line(f"{name} = getelementptr i8, ptr %record, i64 {place}")
        return name

    def _write_slot(self, block: int, lanes: Value, number: Value, generation: Value, expected: Value) -> None:
        for field, value in (("lanes", lanes), ("number", number), ("generation", generation), ("expected", expected)):
            self.code.line(f"store {value.typed}, ptr {self._slot(block, field)}")

    def return_waiting(self, place: int, outcome: int | str = WAITS) -> None:
        """The warp returns, to go on at `place` when its turn comes."""
        self.code.line(f"store i32 {place}, ptr %record")
        self.code.line(f"ret i32 {outcome}")

    def save(self, registers: int) -> None:
        """Registers to the record."""
        for number in self.homes:
            if registers >> number & 1 and number not in self.residents:
                home = self.emit.home_type(number)
                value = self.code.name()
                self.code.line(f"{value} = load {home}, ptr %r{number}")
                self.code.line(f"store {home} {value}, ptr {self._saved(number)}, align 8")

    def restore(self, registers: int) -> None:
        """Registers from the record."""
        for number in self.homes:
            if registers >> number & 1 and number not in self.residents:
                home = self.emit.home_type(number)
                value = self.code.name()
                self.code.line(f"{value} = load {home}, ptr {self._saved(number)}, align 8")
                self.code.line(f"store {home} {value}, ptr %r{number}")

    def _saved(self, number: int) -> str:
        name = self.code.name()
        self.code.line(f"{name} = getelementptr i8, ptr %record, i64 {self.save_start + self.places[number]}")
        return name

    def _is_released(self, block: int) -> Value:
        """Whether the barrier that lanes wait at in slot `block` has been completed since."""
        code = self.code
        number = code.emit(f"load i32, ptr {self._slot(block, 'number')}", "i32", False)
        since = code.emit(f"load i32, ptr {self._slot(block, 'generation')}", "i32", False)
        now = code.emit(f"load i32, ptr {self._barrier_field(code, number, 'generation')}", "i32", False)
        return code.compare("icmp ne", since, now)

    def is_wait(self, number: int) -> bool:
        """Whether block `number` ends in a wait and not in a barrier."""
        return self.blocks[number].exit.kind == "wait"

    def free(self, number: int) -> Value:
        """Of the lanes that stand at the barrier or wait of slot `number` those that may go on."""
        code, block = self.code, self.blocks[number]
        if self.is_wait(number):
            place, parities, lanes = (self.waits.load(number, name) for name in ("addresses", "parities", "lanes"))
            return self.waits.over(block, place, parities, lanes)
        there = code.emit(f"load i32, ptr {self.lanes_at(number)}", "i32", False)
        return code.select(self._is_released(number), there, code.integer("i32", 0))

    def lanes_at(self, number: int) -> str:
        """Where the lanes that stand at the barrier or wait of slot `number` are kept."""
        return self.waits.field(number, "lanes") if self.is_wait(number) else self._slot(number, "lanes")

    # Waits.
    def _end_in_wait(self, block: Block, lanes: Value) -> None:
        code, number = self.code, block.number
        address, parities = self.waits.operands(block)
        self.control.leave(block)
        pauses = self.waits.yields(number)
        going = code.integer("i32", 0) if pauses else self.waits.over(block, address, parities, lanes)
        target = block.exit.targets[0]
        if self.partial[number]:
            self.control.send(target, going)
            free = self.free(number)
            self.control.send(target, free)
            kept = code.binary("xor", self.waits.load(number, "lanes"), free)
            staying = code.binary("xor", lanes, going)
            old = code.lanes(kept)
            self.waits.store(
                number, addresses=code.select(old, self.waits.load(number, "addresses"), address),
                parities=code.binary("or", code.binary("and", self.waits.load(number, "parities"), kept),
                                     code.binary("and", parities, staying)),
                lanes=code.binary("or", kept, staying),
            )  # fmt: skip
            self.control.visit_next(block, [])
            return
        all_go = code.compare("icmp eq", going, lanes)
        code.line(f"br i1 {all_go.text}, label %through{number}, label %save{number}")
        code.label(f"save{number}")
        self.waits.store(number, addresses=code.widen(address), parities=parities, lanes=lanes)
        self.save(self.resumed(block))
        self.return_waiting(number + 1, PAUSES if pauses else WAITS)
        code.label(f"through{number}")
        self.emit.begin_block()
        self.control.go(target)

    def _resume_after_wait(self, block: Block) -> None:
        """Where a whole warp goes on after a wait."""
        code, number = self.code, block.number
        code.label(f"resume{number}")
        pauses = self.waits.yields(number)
        over = code.integer("i1", 1)
        if not pauses:
            over = code.compare("icmp eq", self.free(number), self.waits.load(number, "lanes"))
        code.line(f"br i1 {over.text}, label %restore{number}, label %still{number}")
        code.label(f"still{number}")
        code.line(f"ret i32 {BLOCKED}")
        code.label(f"restore{number}")
        self.waits.store(number, lanes=code.integer("i32", 0))
        self.restore(self.resumed(block))
        self.emit.begin_block()
        self.control.go(block.exit.targets[0])

    def resume_point(self, block: Block) -> None:
        """Where a whole warp goes on after a barrier."""
        if self.is_wait(block.number):
            self._resume_after_wait(block)
            return
        code, ender = self.code, block.exit.instruction
        assert ender is not None
        if ender.has("arrive"):
            code.label(f"resume{block.number}")
            code.line("unreachable")
            return
        code.label(f"resume{block.number}")
        released = self._is_released(block.number)
        code.line(f"br i1 {released.text}, label %restore{block.number}, label %still{block.number}")
        code.label(f"still{block.number}")
        code.line(f"ret i32 {BLOCKED}")
        code.label(f"restore{block.number}")
        code.line(f"store i32 0, ptr {self._slot(block.number, 'lanes')}")
        self.restore(self.resumed(block) & ~self._result_bit(ender))
        self.emit.begin_block()
        self.emit.partial, self.emit.mask = False, None
        if ender.has("red"):
            number = code.emit(f"load i32, ptr {self._slot(block.number, 'number')}", "i32", False)
            self._write_result(block, ender, number)
        self.control.go(block.exit.targets[0])

    # Barriers that a part of a warp may reach.
    def _wait_loosely(
        self, block: Block, lanes: Value, barrier: tuple[Value, Value, Value], released: str, passes: bool
    ) -> None:
        code, target = self.code, block.exit.targets[0]
        if passes:
            self.control.send(target, lanes)
            self.control.visit_next(block, [])
            return
        going = code.select(Value(released, "i1"), lanes, code.integer("i32", 0))
        staying = code.binary("xor", lanes, going)
        self.control.send(target, going)
        # Lanes that came here earlier and have been released are sent on before the slot is used again.
        earlier = code.emit(f"load i32, ptr {self._slot(block.number, 'lanes')}", "i32", False)
        free = code.select(self._is_released(block.number), earlier, code.integer("i32", 0))
        self.control.send(target, free)
        kept = code.binary("xor", earlier, free)
        self._write_slot(block.number, code.binary("or", kept, staying), *barrier)
        self.control.visit_next(block, [])

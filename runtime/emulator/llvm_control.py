"""Control flow of the fast engine: one LLVM function that runs a warp from barrier to barrier.

In: a program and the generator of its instructions. Out: the function `warp(context, record, place)`. Why: a warp is a
coroutine: at a barrier that is not complete it leaves its live registers in its record and returns; called again, it
goes on there.

Blocks that all lanes run together jump to each other directly. Where lanes may part, each block has a set of lanes that
wait for it, and blocks are visited in layout order, lowest first; `uniformity.py` relies on that order.

The record of a warp: the place to go on at, whether it has ended, and for each barrier instruction the lanes that wait
there, at which barrier, since which generation; then the saved registers.
"""

from __future__ import annotations

from dataclasses import dataclass

from .control_flow import Block
from .isa import table
from .llvm_codegen import Generator
from .llvm_context import (
    BARRIER_BYTES,
    BARRIER_FIELDS,
    FAULT_SWITCH,
    FAULT_TRAP,
)
from .llvm_groups import find_groups
from .llvm_module import REGISTER_CALL, call, load_field
from .llvm_routines import record_fault
from .llvm_values import BITS, LANES, Code, Value
from .ptx import Instruction, Negated, Operand

ENDED, BLOCKED, WAITS = range(3)
"""What `warp` returns: all lanes ended; still waiting as before; got further, and waits now."""

RECORD_PLACE, RECORD_ENDED, RECORD_SLOTS = 0, 4, 16
SLOT_BYTES = 16
SLOT_FIELDS = {"lanes": 0, "number": 4, "generation": 8, "expected": 12}
_SLOT_ALIGNMENT = 128


@dataclass(frozen=True, slots=True)
class Record:
    """Sizes of a warp's record: `barriers` are the blocks that end in one, in slot order."""

    barriers: tuple[int, ...]
    header_bytes: int
    nbytes: int


class Control:
    """Writes the warp function of `emit.program`."""

    def __init__(self, emit: Generator) -> None:
        self.emit = emit
        self.code = emit.code
        self.blocks = emit.program.blocks
        self.end = len(self.blocks)
        self.threads = emit.shape[0] * emit.shape[1] * emit.shape[2]
        self.whole = self.threads % LANES == 0
        uniformity = emit.uniformity
        self.partial = [uniformity.is_partial(number) for number in range(self.end)]
        self.visited = self._visited()
        self.barriers = tuple(block.number for block in self.blocks if block.exit.kind == "barrier")
        self.loose = [number for number in self.barriers if self.partial[number]]
        self.homes = self._homes()
        self.places, saved_bytes = self._save_places()
        header = RECORD_SLOTS + SLOT_BYTES * len(self.barriers)
        self.save_start = -(-header // _SLOT_ALIGNMENT) * _SLOT_ALIGNMENT
        nbytes = -(-(self.save_start + saved_bytes) // _SLOT_ALIGNMENT) * _SLOT_ALIGNMENT
        self.record = Record(self.barriers, header, nbytes)

    # What is where.
    def _visited(self) -> set[int]:
        """Blocks that lanes may reach from a place where they had parted."""
        found = {number for number in range(self.end) if self.partial[number]}
        for block in self.blocks:
            parts = self.emit.uniformity.divergent >> block.number & 1
            if parts or self.partial[block.number]:
                found.update(target for target in block.exit.targets if target < self.end)
        return found

    def _homes(self) -> list[int]:
        """Registers that live from block to block."""
        crossing = 0
        for block in self.blocks:
            crossing |= block.live_in | block.live_out
        return [number for number in range(len(self.emit.elements)) if crossing >> number & 1]

    def _resumed(self, block: Block) -> int:
        """Registers that are live where a barrier lets go."""
        targets = [target for target in block.exit.targets if target < self.end]
        return self.blocks[targets[0]].live_in if targets else 0

    def _save_places(self) -> tuple[dict[int, int], int]:
        """Offsets of the registers that are saved at barriers, and their bytes."""
        saved = 0
        for number in self.barriers:
            saved |= self._resumed(self.blocks[number])
        places, position = {}, 0
        for number in self.homes:
            if saved >> number & 1:
                places[number] = position
                home = self.emit.home_type(number)
                wide = home.startswith("<")
                position += max(BITS[self.emit.elements[number]] // 8 * LANES, 64) if wide else 8
                position = -(-position // 64) * 64 if wide else position
        return places, position

    # The function.
    def generate(self) -> str:
        """The text of the warp function."""
        for block in self.blocks:
            self._block(block)
        if self.visited or self.loose:
            self._after_all()
        for number in self.barriers:
            if not self.partial[number]:
                self._resume_point(self.blocks[number])
        if self.loose:
            self._resume_loose()
        body = self.code.lines
        self.code.lines = []
        self._entry()
        lines = self.code.lines + body
        header = f"define internal {REGISTER_CALL} i32 @warp(ptr %context, ptr %record, i32 %place) noinline #0 {{"
        return "\n".join([header, "entry:", *lines, "}", ""])

    def _entry(self) -> None:
        code = self.code
        for number in self.homes:
            code.line(f"%r{number} = alloca {self.emit.home_type(number)}")
        for number in sorted(self.visited):
            code.line(f"%pending{number} = alloca i32")
        for number in sorted(self.visited):
            code.line(f"store i32 0, ptr %pending{number}")
        code.line("%all_lanes = " + self._all_lanes())
        cases = [f"i32 {number + 1}, label %resume{number}" for number in self.barriers if not self.partial[number]]
        if self.loose:
            cases.append(f"i32 {self.end + 1}, label %resume_loose")
        code.line(f"switch i32 %place, label %start [ {' '.join(cases)} ]")
        code.label("start")
        for number in self.homes:
            code.line(f"store {self.emit.home_type(number)} zeroinitializer, ptr %r{number}")
        self._go(0)

    def _all_lanes(self) -> str:
        """The lanes of this warp that are threads of the block."""
        if self.whole:
            return "or i32 -1, 0"
        last = self.threads // LANES
        bits = (1 << self.threads % LANES) - 1
        warp = load_field(self.code, "warp", "i32")
        is_last = self.code.compare("icmp eq", warp, self.code.integer("i32", last))
        return f"select i1 {is_last.text}, i32 {bits}, i32 -1"

    # Going from block to block.
    def _go(self, target: int) -> None:
        """All lanes together go to `target`; the current LLVM block ends."""
        if target >= self.end:
            self.code.line(f"ret i32 {ENDED}")
        elif not self.partial[target]:
            self.code.line(f"br label %block{target}")
        else:
            self._send(target, Value("%all_lanes", "i32"))
            self.code.line(f"br label %visit{target}")

    def _send(self, target: int, lanes: Value) -> None:
        """Lanes wait for `target`; beyond the last block they have ended."""
        if target >= self.end:
            return
        old = self.code.emit(f"load i32, ptr %pending{target}", "i32", False)
        self.code.line(f"store i32 {self.code.binary('or', old, lanes).text}, ptr %pending{target}")

    def _visit_next(self, block: Block, backward: list[tuple[int, Value]]) -> None:
        """Go to the lowest block that lanes wait for: one of `backward` when it has lanes, else one further down."""
        code = self.code
        for target, lanes in sorted(backward, key=lambda pair: pair[0]):
            some = code.compare("icmp ne", lanes, code.integer("i32", 0))
            label = code.name()[1:]
            self._check_fault(label)
            code.line(f"br i1 {some.text}, label %visit{target}, label %onward{label}")
            code.label(f"onward{label}")
        code.line(f"br label %{self._next_visit(block.number)}")

    def _next_visit(self, number: int) -> str:
        later = [place for place in sorted(self.visited) if place > number]
        return f"visit{later[0]}" if later else "after_all"

    def _check_fault(self, label: str) -> None:
        """A finding ends the warp at the next backward jump, so that no loop runs on with wrong values."""
        kind = self.emit.field("fault_kind", "i32")
        fine = self.code.compare("icmp eq", kind, self.code.integer("i32", 0))
        self.code.line(f"br i1 {fine.text}, label %sound{label}, label %found{label}")
        self.code.label(f"found{label}")
        self.code.line(f"ret i32 {ENDED}")
        self.code.label(f"sound{label}")

    # One block.
    def _block(self, block: Block) -> None:
        code, emit, number = self.code, self.emit, block.number
        emit.begin_block()
        if number in self.visited:
            code.label(f"visit{number}")
            waiting = code.emit(f"load i32, ptr %pending{number}", "i32", False)
            some = code.compare("icmp ne", waiting, code.integer("i32", 0))
            code.line(f"br i1 {some.text}, label %arrive{number}, label %{self._next_visit(number)}")
            code.label(f"arrive{number}")
            code.line(f"store i32 0, ptr %pending{number}")
            code.line(f"br label %block{number}")
            code.label(f"block{number}")
            lanes = waiting if self.partial[number] else Value("%all_lanes", "i32")
        else:
            code.label(f"block{number}")
            lanes = Value("%all_lanes", "i32")
        emit.partial = self.partial[number]
        emit.mask = lanes if self.partial[number] or not self.whole else None
        # Inline code takes longer to compile than calls: only where it is executed often.
        emit.groups = find_groups(emit, block) if emit.mask is None and self._in_loop(number) else {}
        for instruction in block.instructions:
            self._instruction(instruction)
        emit.scalar = False
        emit.instruction = block.exit.instruction or emit.instruction
        self._exit(block, lanes)

    def _in_loop(self, number: int) -> bool:
        return any(
            target <= number <= block.number for block in self.blocks for target in block.exit.targets
        )

    def _instruction(self, instruction: Instruction) -> None:
        emit = self.emit
        emit.begin(instruction)
        found = table().get(instruction.opcode)
        if found is None:
            emit.unsupported("unknown")
        if instruction.guard is not None:
            guard = emit.read(instruction.guard, "pred")
            emit.guard = emit.apply("not", "pred", guard) if instruction.guard_negated else guard
        found.semantics(instruction, emit)
        emit.guard = None

    def _leave(self, block: Block) -> None:
        """Store what later blocks read."""
        for number in sorted(self.emit.written):
            if block.live_out >> number & 1:
                self.emit.store_home(number)

    def _exit(self, block: Block, lanes: Value) -> None:
        kind, ender = block.exit.kind, block.exit.instruction
        if kind in ("fall", "jump"):
            self._leave(block)
            self._jump(block, lanes)
        elif kind == "branch":
            assert ender is not None
            assert ender.guard is not None
            taken = self.emit.read(ender.guard, "pred")
            if ender.guard_negated:
                taken = self.emit.apply("not", "pred", taken)
            self._leave(block)
            self._branch(block, lanes, taken)
        elif kind == "exit":
            if self.partial[block.number]:
                self._visit_next(block, [])
            else:
                self.code.line(f"ret i32 {ENDED}")
        elif kind == "barrier":
            self._barrier(block, lanes)
        elif kind == "switch":
            assert ender is not None
            index = self.emit.read(ender.operands[0], "u32")
            self._leave(block)
            self._switch(block, lanes, index)
        elif kind == "trap":
            record_fault(self.emit, FAULT_TRAP, self.emit.site("", "trap", 0), lanes)
            self.code.line(f"ret i32 {ENDED}")
        else:
            self.emit.unsupported(f"a block that ends in {kind}")

    def _jump(self, block: Block, lanes: Value) -> None:
        (target,) = block.exit.targets
        if self.partial[block.number]:
            self._send(target, lanes)
            self._visit_next(block, [(target, lanes)] if target <= block.number else [])
            return
        if target <= block.number:
            self._check_fault(self.code.name()[1:])
        self._go(target)

    def _branch(self, block: Block, lanes: Value, taken: Value) -> None:
        code, targets = self.code, block.exit.targets
        if not self.partial[block.number] and not taken.wide:
            label = code.name()[1:]
            code.line(f"br i1 {taken.text}, label %yes{label}, label %no{label}")
            for side, target in zip(("yes", "no"), targets, strict=True):
                code.label(f"{side}{label}")
                if target <= block.number:
                    self._check_fault(f"{side}{label}")
                self._go(target)
            return
        chosen = code.binary("and", lanes, code.cast_mask(taken))
        others = code.binary("and", lanes, code.binary("xor", chosen, code.integer("i32", -1)))
        backward = []
        for target, some in zip(targets, (chosen, others), strict=True):
            self._send(target, some)
            if target <= block.number:
                backward.append((target, some))
        self._visit_next(block, backward)

    def _switch(self, block: Block, lanes: Value, index: Value) -> None:
        """brx.idx: each target gets the lanes that chose it."""
        code = self.code
        for target in block.exit.targets:
            if target < self.end and target not in self.visited:
                self.emit.unsupported("a uniform brx.idx")
        left = lanes
        backward = []
        for number, target in enumerate(block.exit.targets):
            equal = code.compare("icmp eq", index, code.integer("i32", number))
            chosen = code.binary("and", lanes, code.cast_mask(equal))
            left = code.binary("and", left, code.binary("xor", chosen, code.integer("i32", -1)))
            self._send(target, chosen)
            if target <= block.number:
                backward.append((target, chosen))
        beyond = code.compare("icmp ne", left, code.integer("i32", 0))
        label = code.name()[1:]
        code.line(f"br i1 {beyond.text}, label %beyond{label}, label %chosen{label}")
        code.label(f"beyond{label}")
        site = self.emit.site("", f"brx.idx beyond its {len(block.exit.targets)} targets", 0)
        record_fault(self.emit, FAULT_SWITCH, site, left)
        code.line(f"ret i32 {ENDED}")
        code.label(f"chosen{label}")
        self._visit_next(block, backward)

    # Barriers.
    def _barrier(self, block: Block, lanes: Value) -> None:
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
        self._leave(block)
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
            self._go(target)
            return
        label = f"through{block.number}"
        code.line(f"br i1 {released}, label %{label}, label %save{block.number}")
        code.label(f"save{block.number}")
        self._write_slot(block.number, lanes, number, before, expected)
        self._save(self._resumed(block) & ~self._result_bit(ender))
        self._return_waiting(block.number + 1)
        code.label(label)
        emit.begin_block()
        if ender.has("red"):
            self._write_result(block, ender, number)
        self._go(target)

    def _is_predicate(self, operand: Operand) -> bool:
        return isinstance(operand, Negated) or self.emit.is_predicate(operand)

    def _result_bit(self, ender: Instruction) -> int:
        if not ender.has("red"):
            return 0
        operand = ender.operands[0]
        return 1 << self.emit.numbers[getattr(operand, "name")]  # noqa: B009

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
        self._leave(block)

    def _barrier_field(self, code: Code, number: Value, field: str) -> str:
        base = self.emit.pointer("barriers")
        slot, place = code.name(), code.name()
        code.line(f"{slot} = getelementptr [{BARRIER_BYTES} x i8], ptr {base}, {number.typed}")
        code.line(f"{place} = getelementptr i8, ptr {slot}, i64 {BARRIER_FIELDS[field]}")
        return place

    def _arrive_helper(self) -> str:
        """`(context, number, expected, count, votes)` -> whether the barrier is complete now."""

        def build(code: Code) -> None:
            values = {name: Value(f"%{name}", "i32") for name in ("number", "expected", "count", "votes")}
            places = {
                name: self._barrier_field_in(code, values["number"], name) for name in BARRIER_FIELDS
            }
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

    def _return_waiting(self, place: int) -> None:
        self.code.line(f"store i32 {place}, ptr %record")
        self.code.line(f"ret i32 {WAITS}")

    def _save(self, registers: int) -> None:
        """Registers to the record."""
        for number in self.homes:
            if registers >> number & 1:
                home = self.emit.home_type(number)
                value = self.code.name()
                self.code.line(f"{value} = load {home}, ptr %r{number}")
                self.code.line(f"store {home} {value}, ptr {self._saved(number)}, align 8")

    def _restore(self, registers: int) -> None:
        for number in self.homes:
            if registers >> number & 1:
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

    def _resume_point(self, block: Block) -> None:
        """Where a whole warp goes on after a barrier."""
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
        self._restore(self._resumed(block) & ~self._result_bit(ender))
        self.emit.begin_block()
        self.emit.partial, self.emit.mask = False, None
        if ender.has("red"):
            number = code.emit(f"load i32, ptr {self._slot(block.number, 'number')}", "i32", False)
            self._write_result(block, ender, number)
        self._go(block.exit.targets[0])

    # Barriers that a part of a warp may reach.
    def _wait_loosely(
        self, block: Block, lanes: Value, barrier: tuple[Value, Value, Value], released: str, passes: bool
    ) -> None:
        code, target = self.code, block.exit.targets[0]
        if passes:
            self._send(target, lanes)
            self._visit_next(block, [])
            return
        going = code.select(Value(released, "i1"), lanes, code.integer("i32", 0))
        staying = code.binary("xor", lanes, going)
        self._send(target, going)
        # Lanes that came here earlier and have been released are sent on before the slot is used again.
        earlier = code.emit(f"load i32, ptr {self._slot(block.number, 'lanes')}", "i32", False)
        free = code.select(self._is_released(block.number), earlier, code.integer("i32", 0))
        self._send(target, free)
        kept = code.binary("xor", earlier, free)
        self._write_slot(block.number, code.binary("or", kept, staying), *barrier)
        self._visit_next(block, [])

    def _after_all(self) -> None:
        """No lane can go on: all have ended, or some wait at barriers."""
        code = self.code
        code.label("after_all")
        if not self.loose:
            code.line(f"ret i32 {ENDED}")
            return
        going, waiting = code.integer("i32", 0), code.integer("i32", 0)
        for number in self.loose:
            there = code.emit(f"load i32, ptr {self._slot(number, 'lanes')}", "i32", False)
            free = code.select(self._is_released(number), there, code.integer("i32", 0))
            kept = code.binary("xor", there, free)
            code.line(f"store {kept.typed}, ptr {self._slot(number, 'lanes')}")
            self._send(self.blocks[number].exit.targets[0], free)
            going, waiting = code.binary("or", going, free), code.binary("or", waiting, kept)
        some = code.compare("icmp ne", going, code.integer("i32", 0))
        first = f"visit{min(self.visited)}"
        code.line(f"br i1 {some.text}, label %{first}, label %nobody")
        code.label("nobody")
        left = code.compare("icmp ne", waiting, code.integer("i32", 0))
        code.line(f"br i1 {left.text}, label %save_loose, label %ended")
        code.label("ended")
        code.line(f"ret i32 {ENDED}")
        code.label("save_loose")
        self._save(self._loose_registers())
        self._return_waiting(self.end + 1)

    def _loose_registers(self) -> int:
        registers = 0
        for number in self.loose:
            registers |= self._resumed(self.blocks[number])
        return registers

    def _resume_loose(self) -> None:
        code = self.code
        code.label("resume_loose")
        any_free = code.integer("i32", 0)
        for number in self.loose:
            there = code.emit(f"load i32, ptr {self._slot(number, 'lanes')}", "i32", False)
            free = code.select(self._is_released(number), there, code.integer("i32", 0))
            any_free = code.binary("or", any_free, free)
        some = code.compare("icmp ne", any_free, code.integer("i32", 0))
        code.line(f"br i1 {some.text}, label %restore_loose, label %still_loose")
        code.label("still_loose")
        code.line(f"ret i32 {BLOCKED}")
        code.label("restore_loose")
        self._restore(self._loose_registers())
        code.line("br label %after_all")



"""Control flow of the fast engine: one LLVM function that runs a warp from barrier to barrier.

In: a program and the generator of its instructions. Out: the function `warp(context, record, place)`. Why: a warp is a
coroutine: at a barrier that is not complete it leaves its live registers in its record and returns; called again, it
goes on there.

Blocks that all lanes run together jump to each other directly. Where lanes may part, each block has a set of lanes that
wait for it, and blocks are visited in layout order, lowest first; `uniformity.py` relies on that order.
"""

from __future__ import annotations

from .control_flow import Block, uses_and_definitions
from .isa import table
from .llvm_barriers import Barriers
from .llvm_codegen import Generator
from .llvm_context import ENDED, FAULT_SWITCH, FAULT_TRAP
from .llvm_groups import find_groups
from .llvm_module import REGISTER_CALL, load_field
from .llvm_routines import record_fault
from .llvm_values import LANES, Value
from .ptx import Instruction


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
        self.homes = self._homes()
        self.waits = Barriers(self)

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
        """Registers that live from block to block, or that a routine changes in their places."""
        crossing = 0
        for block in self.blocks:
            crossing |= block.live_in | block.live_out
            for instruction in block.instructions:
                if instruction.opcode == "wgmma":
                    for name in uses_and_definitions(instruction)[1]:
                        crossing |= 1 << self.emit.numbers[name]
        return [number for number in range(len(self.emit.elements)) if crossing >> number & 1]

    # The function.
    def generate(self) -> str:
        """The text of the warp function."""
        for block in self.blocks:
            self._block(block)
        if self.visited or self.waits.parts.loose:
            self.waits.parts.after_all()
        for number in self.waits.stops:
            if not self.partial[number]:
                self.waits.resume_point(self.blocks[number])
        if self.waits.parts.loose:
            self.waits.parts.resume()
        body = self.code.lines
        self.code.lines = []
        self._entry()
        lines = self.code.lines + body
        header = f"define internal {REGISTER_CALL} i32 @warp(ptr %context, ptr %record, i32 %place) noinline #0 {{"
        return "\n".join([header, "entry:", *lines, "}", ""])

    def _entry(self) -> None:
        code = self.code
        for number in self.homes:
            code.line(self.waits.home(number))
        for place in self.emit.fragments.places():
            code.line(place)
        for numbers, places in self.emit.tables.items():
            code.line(f"{places} = alloca [{len(numbers)} x ptr]")
            for index, number in enumerate(numbers):
                place = code.name()
                code.line(f"{place} = getelementptr ptr, ptr {places}, i64 {index}")
                code.line(f"store ptr %r{number}, ptr {place}")
        for number in sorted(self.visited):
            code.line(f"%pending{number} = alloca i32")
        for number in sorted(self.visited):
            code.line(f"store i32 0, ptr %pending{number}")
        code.line("%turn = alloca i32")
        code.line("store i32 0, ptr %turn")
        code.line("%all_lanes = " + self._all_lanes())
        cases = [f"i32 {number + 1}, label %resume{number}" for number in self.waits.stops if not self.partial[number]]
        if self.waits.parts.loose:
            cases.append(f"i32 {self.end + 1}, label %resume_loose")
        code.line(f"switch i32 %place, label %start [ {' '.join(cases)} ]")
        code.label("start")
        for number in self.homes:
            code.line(f"store {self.emit.home_type(number)} zeroinitializer, ptr %r{number}")
        self.go(0)

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
    def go(self, target: int) -> None:
        """All lanes together go to `target`; the current LLVM block ends."""
        if target >= self.end:
            self.code.line(f"ret i32 {ENDED}")
        elif not self.partial[target]:
            self.code.line(f"br label %block{target}")
        else:
            self.send(target, Value("%all_lanes", "i32"))
            self.code.line(f"br label %visit{target}")

    def send(self, target: int, lanes: Value) -> None:
        """Lanes wait for `target`; beyond the last block they have ended."""
        if target >= self.end:
            return
        old = self.code.emit(f"load i32, ptr %pending{target}", "i32", False)
        self.code.line(f"store i32 {self.code.binary('or', old, lanes).text}, ptr %pending{target}")

    def visit_next(self, block: Block, backward: list[tuple[int, Value]]) -> None:
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
            if number in self.waits.parts.gathering:
                self.waits.parts.gather(number, self._next_visit(number))
            code.line(f"store i32 0, ptr %pending{number}")
            code.line(f"br label %block{number}")
            code.label(f"block{number}")
            lanes = waiting if self.partial[number] else Value("%all_lanes", "i32")
        else:
            code.label(f"block{number}")
            lanes = Value("%all_lanes", "i32")
        emit.partial = self.partial[number]
        emit.mask = lanes if self.partial[number] or not self.whole else None
        emit.fragments.begin(block, whole=emit.mask is None and code.avx512)
        # Inline code takes longer to compile than calls: only where it is executed often.
        emit.groups = find_groups(emit, block) if emit.mask is None and self._in_loop(number) else {}
        for instruction in block.instructions:
            self._instruction(instruction)
        emit.scalar = False
        emit.instruction = block.exit.instruction or emit.instruction
        self._exit(block, lanes)

    def _in_loop(self, number: int) -> bool:
        return any(target <= number <= block.number for block in self.blocks for target in block.exit.targets)

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

    def leave(self, block: Block) -> None:
        """Store what later blocks read."""
        for number in sorted(self.emit.written):
            if block.live_out >> number & 1:
                self.emit.store_home(number)

    def _exit(self, block: Block, lanes: Value) -> None:
        kind, ender = block.exit.kind, block.exit.instruction
        if kind in ("fall", "jump"):
            self.leave(block)
            self._jump(block, lanes)
        elif kind == "branch":
            assert ender is not None
            assert ender.guard is not None
            taken = self.emit.read(ender.guard, "pred")
            if ender.guard_negated:
                taken = self.emit.apply("not", "pred", taken)
            self.leave(block)
            self._branch(block, lanes, taken)
        elif kind == "exit":
            if self.partial[block.number]:
                self.visit_next(block, [])
            else:
                self.code.line(f"ret i32 {ENDED}")
        elif kind in ("barrier", "wait"):
            self.waits.end_block(block, lanes)
        elif kind == "switch":
            assert ender is not None
            index = self.emit.read(ender.operands[0], "u32")
            self.leave(block)
            self._switch(block, lanes, index)
        elif kind == "trap":
            record_fault(self.emit, FAULT_TRAP, self.emit.site("", "trap", 0), lanes)
            self.code.line(f"ret i32 {ENDED}")
        else:
            self.emit.unsupported(f"a block that ends in {kind}")

    def _jump(self, block: Block, lanes: Value) -> None:
        (target,) = block.exit.targets
        if self.partial[block.number]:
            self.send(target, lanes)
            self.visit_next(block, [(target, lanes)] if target <= block.number else [])
            return
        if target <= block.number:
            self._check_fault(self.code.name()[1:])
        self.go(target)

    def _branch(self, block: Block, lanes: Value, taken: Value) -> None:
        code, targets = self.code, block.exit.targets
        if not self.partial[block.number] and not taken.wide:
            label = code.name()[1:]
            code.line(f"br i1 {taken.text}, label %yes{label}, label %no{label}")
            for side, target in zip(("yes", "no"), targets, strict=True):
                code.label(f"{side}{label}")
                if target <= block.number:
                    self._check_fault(f"{side}{label}")
                self.go(target)
            return
        chosen = code.binary("and", lanes, code.cast_mask(taken))
        others = code.binary("and", lanes, code.binary("xor", chosen, code.integer("i32", -1)))
        backward = []
        for target, some in zip(targets, (chosen, others), strict=True):
            self.send(target, some)
            if target <= block.number:
                backward.append((target, some))
        self.visit_next(block, backward)

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
            self.send(target, chosen)
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
        self.visit_next(block, backward)

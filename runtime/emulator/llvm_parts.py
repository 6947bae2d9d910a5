"""Parts of a warp that stand at different barriers and waits, for the fast engine.

In: the barriers and waits that a part of a warp may reach. Out: IR of where nobody of a warp can go on, of where it is
taken up again, and of instructions of the whole warp, before which its parts meet. Why: on a GPU the lanes of a warp
make progress apart; here those who can go on do, and the warp returns when none can.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .llvm_context import BLOCKED, ENDED, PAUSES, WAITS

if TYPE_CHECKING:
    from .llvm_barriers import Barriers


class Parts:
    """What the function of `barriers` does with parts of warps. `start`: where in a record it is kept who has come to
    instructions of the whole warp."""

    def __init__(self, barriers: Barriers) -> None:
        self._barriers = barriers
        self._control, self._code, self._emit = barriers.control, barriers.code, barriers.emit
        self._blocks, self._waits, self._end = barriers.blocks, barriers.waits, barriers.end
        self.loose = [number for number in barriers.stops if barriers.partial[number]]
        self._loose_waits = [number for number in self.loose if barriers.is_wait(number)]
        # Places where lanes stay while others of their warp are at a wait.
        self.gathering = [
            block.number for block in barriers.blocks
            if self._loose_waits and block.converges and barriers.partial[block.number]
        ]  # fmt: skip
        self.start = 0

    @property
    def nbytes(self) -> int:
        """Bytes in a record."""
        return 4 * len(self.gathering)

    def gather(self, number: int, next_visit: str) -> None:
        """Before an instruction of a whole warp: while lanes of it are at waits those that are here stay, unless nobody
        else in the block can go on."""
        code = self._code
        away = code.integer("i32", 0)
        for place in self._loose_waits:
            away = code.binary("or", away, self._waits.load(place, "lanes"))
        calm = code.compare("icmp eq", self._emit.field("hurry", "i32"), code.integer("i32", 0))
        missing = code.compare("icmp ne", away, code.integer("i32", 0))
        stay = code.binary("and", calm, missing)
        code.line(f"br i1 {stay.text}, label %{next_visit}, label %gathered{number}")
        code.label(f"gathered{number}")

    def _gathered_at(self, number: int) -> str:
        name = self._code.name()
        place = self.start + 4 * self.gathering.index(number)
        self._code.line(f"{name} = getelementptr i8, ptr %record, i64 {place}")
        return name

    def after_all(self) -> None:
        """No lane can go on: all have ended, or some wait at barriers."""
        code = self._code
        code.label("after_all")
        if not self.loose:
            code.line(f"ret i32 {ENDED}")
            return
        going, waiting = code.integer("i32", 0), code.integer("i32", 0)
        for number in self.loose:
            free = self._barriers.free(number)
            there = code.emit(f"load i32, ptr {self._barriers.lanes_at(number)}", "i32", False)
            kept = code.binary("xor", there, free)
            code.line(f"store {kept.typed}, ptr {self._barriers.lanes_at(number)}")
            self._control.send(self._blocks[number].exit.targets[0], free)
            going, waiting = code.binary("or", going, free), code.binary("or", waiting, kept)
        self._set_turn(0)
        some = code.compare("icmp ne", going, code.integer("i32", 0))
        first = f"visit{min(self._control.visited)}"
        code.line(f"br i1 {some.text}, label %{first}, label %nobody")
        code.label("nobody")
        left = code.compare("icmp ne", waiting, code.integer("i32", 0))
        code.line(f"br i1 {left.text}, label %save_loose, label %ended")
        code.label("ended")
        code.line(f"ret i32 {ENDED}")
        code.label("save_loose")
        self._barriers.save(self.registers())
        for number in self.gathering:
            here = code.emit(f"load i32, ptr %pending{number}", "i32", False)
            code.line(f"store {here.typed}, ptr {self._gathered_at(number)}")
        self._barriers.return_waiting(self._end + 1, self._outcome_of_parts())

    def _outcome_of_parts(self) -> str:
        """What `warp` returns when parts of it stand at different places."""
        code = self._code
        pausing = code.integer("i32", 0)
        for number in self._loose_waits:
            if self._waits.yields(number):
                pausing = code.binary("or", pausing, self._waits.load(number, "lanes"))
        some = code.compare("icmp ne", pausing, code.integer("i32", 0))
        return code.select(some, code.integer("i32", PAUSES), code.integer("i32", WAITS)).text

    def _set_turn(self, lanes: int) -> None:
        if any(self._waits.yields(number) for number in self._loose_waits):
            self._code.line(f"store i32 {lanes}, ptr %turn")

    def registers(self) -> int:
        """Those that lanes still read which stand at different places."""
        registers = 0
        for number in self.loose:
            registers |= self._barriers.resumed(self._blocks[number])
        for number in self.gathering:
            registers |= self._blocks[number].live_in
        return registers

    def resume(self) -> None:
        """Where a warp of which parts stand at different places is taken up again."""
        code = self._code
        code.label("resume_loose")
        self._set_turn(-1)
        any_free = code.integer("i32", 0)
        for number in self.loose:
            any_free = code.binary("or", any_free, self._barriers.free(number))
        if self.gathering:
            here = code.integer("i32", 0)
            for number in self.gathering:
                waiting = code.emit(f"load i32, ptr {self._gathered_at(number)}", "i32", False)
                here = code.binary("or", here, waiting)
            calm = code.compare("icmp eq", self._emit.field("hurry", "i32"), code.integer("i32", 0))
            any_free = code.binary("or", any_free, code.select(calm, code.integer("i32", 0), here))
        some = code.compare("icmp ne", any_free, code.integer("i32", 0))
        code.line(f"br i1 {some.text}, label %restore_loose, label %still_loose")
        code.label("still_loose")
        code.line(f"ret i32 {BLOCKED}")
        code.label("restore_loose")
        self._barriers.restore(self.registers())
        for number in self.gathering:
            here = code.emit(f"load i32, ptr {self._gathered_at(number)}", "i32", False)
            code.line(f"store {here.typed}, ptr %pending{number}")
        if self.gathering:
            # Lanes that gathered may go on although nobody is free.
            hurry = code.compare("icmp ne", self._emit.field("hurry", "i32"), code.integer("i32", 0))
            code.line(f"br i1 {hurry.text}, label %visit{min(self._control.visited)}, label %after_all")
            return
        code.line("br label %after_all")

"""Prepared fragments of matrices in a block: where they lie, and which products are added up together.

In: a block of a kernel, and its fragments as they come. Out: places in the stack frame of a warp function; for each
product whether a later one goes on with its sums. Why: a fragment is prepared once however many products use it, and
sums that only pass from one product to the next need not be put into fragments in between.
"""

from __future__ import annotations

from .control_flow import Block, uses_and_definitions
from .ptx import Instruction, Register, Vector

_MOST_LINKS = {"tf32": 4}
"""Products that are added up before C is, by type of B; 2 for others. Sums of bytes stay below 2^24."""


def find_chains(block: Block) -> dict[int, Instruction]:
    """For products whose D is nothing but the C of a later one of the block: that one, by identity of the first."""
    following: dict[int, Instruction] = {}
    open_sums: dict[tuple[Register, ...], tuple[Instruction, int]] = {}
    for instruction in block.instructions:
        used, defined = uses_and_definitions(instruction)
        length, sums = 0, _sums_of(instruction)
        if sums is not None:
            before, length = open_sums.get(sums[1], (instruction, 0))
            apart = len(set(used)) == len(used)  # A and B have no register of C
            if length and apart and before.modifiers == instruction.modifiers:
                following[id(before)] = instruction
            else:
                length = 0
        touched = {*used, *defined}
        for names in [names for names in open_sums if any(name.name in touched for name in names)]:
            del open_sums[names]
        if sums is not None and length + 1 < _MOST_LINKS.get(instruction.types[2], 2):
            open_sums[sums[0]] = (instruction, length + 1)
    return following


def _sums_of(instruction: Instruction) -> tuple[tuple[Register, ...], tuple[Register, ...]] | None:
    """D and C of a product whose sums are not rounded in between, and that all lanes execute."""
    if instruction.opcode != "mma" or instruction.guard is not None or instruction.types[-1] == "f16":
        return None
    result, _, _, start = instruction.operands[:4]
    if not isinstance(result, Vector) or not isinstance(start, Vector):
        return None
    names = [
        tuple(element for element in vector.elements if isinstance(element, Register)) for vector in (result, start)
    ]
    if len(names[0]) != len(result.elements) or len(names[1]) != len(start.elements):
        return None
    return names[0], names[1]


class Fragments:
    """The places of prepared fragments in the stack frame of a warp function, and what they hold in this block; and the
    products that wait for a later one that adds to the same sums."""

    def __init__(self) -> None:
        self._held: dict[str, dict[tuple[str, ...], int]] = {}
        self._most: dict[str, int] = {}
        self._following: dict[int, Instruction] = {}
        self._waiting: dict[int, list[tuple[str, str]]] = {}

    def begin(self, block: Block) -> None:
        """Another block begins: nothing is prepared."""
        self._held.clear()
        self._following = find_chains(block)

    def find(self, key: tuple[str, ...], limit: int) -> tuple[str, bool]:
        """(pointer, whether the fragment `key` is there already). Beyond `limit` of a side the oldest that no product
        waits for makes room."""
        side = key[0]
        held = self._held.setdefault(side, {})
        known = key in held
        if not known:
            wanted = {place for links in self._waiting.values() for link in links for place in link}
            free = [old for old, number in held.items() if f"%{side}{number}" not in wanted]
            held[key] = held.pop(free[0]) if len(held) >= limit and free else len(held)
            self._most[side] = max(self._most.get(side, 0), len(held))
        return f"%{side}{held[key]}", known

    def link(self, instruction: Instruction, left: str, right: str) -> list[tuple[str, str]]:
        """The products to add up at `instruction`: none yet where a later one goes on with its sums."""
        links = [*self._waiting.pop(id(instruction), []), (left, right)]
        later = self._following.get(id(instruction))
        if later is None:
            return links
        self._waiting[id(later)] = links
        return []

    def places(self) -> list[str]:
        """Definitions of all places, for the entry of the function."""
        return [
            f"%{side}{number} = alloca [{_LARGEST_BYTES[side]} x i8], align 64"
            for side, most in self._most.items()
            for number in range(most)
        ]


_LARGEST_BYTES = {"left": 2048, "right": 1024}
"""Of m16n8k32 with bytes."""

"""Prepared fragments of matrices in a block: where they lie, and which products are computed together.

In: a block of a kernel, and its fragments as they come. Out: places in the stack frame of a warp function; for each
product whether a later one goes on with its sums, and whether it has a neighbour. Why: a fragment is prepared once
however many products use it, and sums that only pass from one product to the next, or stay where they are, need not be
moved in between.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from .control_flow import Block, uses_and_definitions
from .isa.structured_matrix import STRUCTURED
from .llvm_prepared import ELEMENTS_PER_WORD
from .llvm_values import Value
from .ptx import Instruction, Register, Vector

_MOST_LINKS = {"tf32": 4}
"""Products that are added up before C is, by type of B; 2 for others. Sums of bytes stay below 2^24."""
_LARGEST_BYTES = {"left": 2048, "right": 1024, "pair": 2048}
"""Of m16n8k32 with bytes."""

Names = tuple[str, ...]
"""Registers of one operand."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two neighbouring tiles of sums, `first` and `second` each a chain of products by their places in the block, with
    the same fragments of A; their sums are changed where they are, when the last product is reached."""

    first: tuple[int, ...]
    second: tuple[int, ...]


class Touches:
    """Where in a block registers are used or defined: positions in rising order, by name."""

    def __init__(self, instructions: Sequence[Instruction]) -> None:
        self.anyhow: dict[str, list[int]] = defaultdict(list)
        self.defined: dict[str, list[int]] = defaultdict(list)
        for position, instruction in enumerate(instructions):
            used, defined = uses_and_definitions(instruction)
            for name in {*used, *defined}:
                self.anyhow[name].append(position)
            for name in defined:
                self.defined[name].append(position)

    def between(self, names: Iterable[str], first: int, last: int, apart_from: Sequence[int] = ()) -> bool:
        """Whether an instruction from `first` to `last`, but none of `apart_from`, touches one of `names`."""
        return any(
            first <= place <= last and place not in apart_from for name in names for place in self.anyhow[name]
        )  # fmt: skip

    def changed_between(self, names: Iterable[str], first: int, last: int) -> bool:
        """Whether an instruction from `first` to `last` defines one of `names`."""
        return any(first <= place <= last for name in names for place in self.defined[name])


def find_chains(block: Block, touches: Touches, numbers: Mapping[str, int]) -> dict[int, int]:
    """For products whose D is nothing but the C of a later one of the block: that one, by positions."""
    following: dict[int, int] = {}
    length: dict[int, int] = {}
    for position, instruction in enumerate(block.instructions):
        sums = _sums_of(instruction)
        if sums is None:
            continue
        length.setdefault(position, 0)
        used, _ = uses_and_definitions(instruction)
        before = max((place for name in sums[1] for place in touches.defined[name] if place < position), default=-1)
        if before not in length or len(set(used)) != len(used):  # A and B have no register of C
            continue
        earlier = block.instructions[before]
        given = _sums_of(earlier)
        if (
            given is not None and given[0] == sums[1] and earlier.modifiers == instruction.modifiers
            and length[before] + 1 < _MOST_LINKS.get(instruction.types[2], 2)
            and not touches.between(given[0], before + 1, position - 1)
            and not _outlives(block, touches, numbers, given[0], position)
        ):  # fmt: skip
            following[before] = position
            length[position] = length[before] + 1
    return following


def _outlives(block: Block, touches: Touches, numbers: Mapping[str, int], names: Names, position: int) -> bool:
    """Whether anything after `position` reads what `names` hold there."""
    for name in names:
        if position in touches.defined[name]:
            continue
        later = [place for place in touches.anyhow[name] if place > position]
        if later or block.live_out >> numbers[name] & 1:
            return True
    return False


def find_pairs(
    block: Block, touches: Touches, following: Mapping[int, int], numbers: Mapping[str, int]
) -> list[Pair]:  # fmt: skip
    """Chains of the block that can be computed two by two."""
    waiting: dict[tuple[object, ...], tuple[int, ...]] = {}
    found = []
    for chain in _chains(block, following):
        key = _in_place(block, chain, touches, numbers)
        if key is None:
            continue
        first = waiting.pop(key, None)
        if first is not None and _may_wait(block, first, chain, touches):
            found.append(Pair(first, chain))
        else:
            waiting[key] = chain
    return found


def _chains(block: Block, following: Mapping[int, int]) -> Iterator[tuple[int, ...]]:
    """All chains of products, each as positions, in the order of their ends."""
    before = {later: earlier for earlier, later in following.items()}
    for position, instruction in enumerate(block.instructions):
        if position not in following and _sums_of(instruction) is not None:
            chain = [position]
            while chain[0] in before:
                chain.insert(0, before[chain[0]])
            yield tuple(chain)


def _in_place(
    block: Block, chain: tuple[int, ...], touches: Touches, numbers: Mapping[str, int]
) -> tuple[object, ...] | None:  # fmt: skip
    """What two chains of a pair have in common; None for a chain whose sums do not stay in one place."""
    products = [block.instructions[position] for position in chain]
    first, last = _sums_of(products[0]), _sums_of(products[-1])
    assert first is not None
    assert last is not None
    sums = last[0]
    kept = all((block.live_in | block.live_out) >> numbers[name] & 1 for name in sums)
    if first[1] != sums or not kept or len(set(sums)) != len(sums):
        return None
    if touches.between(sums, chain[0], chain[-1], chain):
        return None
    return (products[0].modifiers, products[0].types, *(_names(product.operands[1]) for product in products))


def _may_wait(block: Block, first: tuple[int, ...], second: tuple[int, ...], touches: Touches) -> bool:
    """Whether the sums of `first` may be computed with those of `second`, from the fragments of A of the latter."""
    sums, others = (_sums_of(block.instructions[chain[-1]]) for chain in (first, second))
    assert sums is not None
    assert others is not None
    if set(sums[0]) & set(others[0]) or touches.between(sums[0], first[0], second[-1], first):
        return False
    return all(
        one < two and not touches.changed_between(_names(block.instructions[one].operands[1]), one, two)
        for one, two in zip(first, second, strict=True)
    )


def _names(operand: object) -> Names:
    elements = operand.elements if isinstance(operand, Vector) else (operand,)
    return tuple(element.name for element in elements if isinstance(element, Register))


def _sums_of(instruction: Instruction) -> tuple[Names, Names] | None:
    """D and C of a product whose sums are not rounded in between, and that all lanes execute."""
    if instruction.opcode != "mma" or instruction.guard is not None or instruction.types[-1] == "f16":
        return None
    known = ELEMENTS_PER_WORD.keys() >= set(instruction.types[1:3])
    if not known or instruction.has("satfinite", "xor", "m8n8k16", *STRUCTURED):
        return None  # the host multiplies
    result, _, _, start = instruction.operands[:4]
    if not isinstance(result, Vector) or not isinstance(start, Vector):
        return None
    names = _names(result), _names(start)
    if len(names[0]) != len(result.elements) or len(names[1]) != len(start.elements):
        return None
    return names


class Fragments:
    """The places of prepared fragments in the stack frame of a warp function, and what they hold in this block; and the
    products that wait for a later one."""

    def __init__(self, numbers: Mapping[str, int]) -> None:
        """`numbers` are those of the registers by name."""
        self._numbers = numbers
        self._held: dict[str, dict[Names, int]] = {}
        self._most: dict[str, int] = {}
        self._following: dict[int, int] = {}
        self._partners: dict[int, int] = {}
        self._staying: set[int] = set()
        self._ends: dict[int, list[int]] = {}
        self._columns: dict[int, Sequence[Value]] = {}
        self._waiting: dict[int, list[tuple[str, str]]] = {}

    def begin(self, block: Block, whole: bool) -> None:
        """Another block begins: nothing is prepared. `whole` warps may change sums in their places."""
        self._held.clear()
        self._columns.clear()
        self._partners.clear()
        self._staying.clear()
        self._ends.clear()
        self._following.clear()
        if any(instruction.opcode == "mma" for instruction in block.instructions):
            self._plan(block, whole)

    def _plan(self, block: Block, whole: bool) -> None:
        places = [id(instruction) for instruction in block.instructions]
        touches = Touches(block.instructions)
        following = find_chains(block, touches, self._numbers)
        self._following = {places[earlier]: places[later] for earlier, later in following.items()}
        for pair in find_pairs(block, touches, following, self._numbers) if whole else []:
            for first, second in zip(pair.first, pair.second, strict=True):
                self._partners[places[first]] = self._partners[places[second]] = places[second]
            numbers = []
            for chain in (pair.first, pair.second):
                sums = _names(block.instructions[chain[-1]].operands[0])
                numbers += [self._numbers[name] for name in sums]
                results = ((places[place], _names(block.instructions[place].operands[0])) for place in chain)
                self._staying.update(place for place, result in results if result == sums)
            self._ends[places[pair.second[-1]]] = numbers

    def is_paired(self, instruction: Instruction) -> bool:
        """Whether the product is computed together with that of a neighbouring tile."""
        return id(instruction) in self._partners

    def stays(self, instruction: Instruction) -> bool:
        """Whether D of a paired product is changed in its place, once the whole pair is computed."""
        return id(instruction) in self._staying

    def partner(self, instruction: Instruction, columns: Sequence[Value]) -> Sequence[Value] | None:
        """Of a paired product, whose fragment of B is `columns`: that of the other one, None when it is to come."""
        later = self._partners[id(instruction)]
        if later != id(instruction):
            self._columns[later] = columns
            return None
        return self._columns.pop(later)

    def sums(self, instruction: Instruction) -> list[int]:
        """Registers of the sums of both tiles of the pair that ends with `instruction`."""
        return self._ends[id(instruction)]

    def find(self, key: Names, limit: int) -> tuple[str, bool]:
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
        self._waiting[later] = links
        return []

    def places(self) -> list[str]:
        """Definitions of all places, for the entry of the function."""
        return [
            f"%{side}{number} = alloca [{_LARGEST_BYTES[side]} x i8], align 64"
            for side, most in self._most.items()
            for number in range(most)
        ]

"""Wide loads and stores for lanes whose addresses follow a known pattern.

In: how far each lane's address lies from lane 0's, and how many 32-bit words a lane moves. Out: a `Plan` (which runs of
memory to move, and which word of them belongs where), and the shuffles that carry it out. Why: a gather costs a load
per lane; most warps touch a few runs of memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .llvm_values import LANES, Code, Pattern, Value

HALF = 16
"""Words of one piece: a 512-bit register."""
_MOST_SHUFFLES = 56
"""Beyond this many, gathering is cheaper."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`runs`: (byte offset from lane 0's address, words) of contiguous memory. `places[w][l]`: the number, counted
    through all runs, of word w of lane l."""

    runs: tuple[tuple[int, int], ...]
    places: tuple[tuple[int, ...], ...]

    @property
    def low(self) -> int:
        """The lowest byte, relative to lane 0's address."""
        return min(start for start, _ in self.runs)

    @property
    def span(self) -> int:
        """Bytes from the lowest to behind the highest."""
        return max(start + 4 * words for start, words in self.runs) - self.low


def plan(pattern: Pattern, words: int) -> Plan | None:
    """How to move `words` words per lane; None when lanes overlap in part or are too scattered."""
    found = arrangement(pattern, words)
    return found if found is not None and is_cheap(found) else None


def arrangement(pattern: Pattern, words: int) -> Plan | None:
    """The same whatever it costs."""
    nbytes = 4 * words
    offsets = sorted(set(pattern))
    if any(offset % nbytes for offset in offsets):
        return None
    runs: list[tuple[int, int]] = []
    number_at: dict[int, int] = {}
    total = 0
    for offset in offsets:
        number_at[offset] = total
        total += words
        if runs and runs[-1][0] + 4 * runs[-1][1] == offset:
            runs[-1] = (runs[-1][0], runs[-1][1] + words)
        else:
            runs.append((offset, words))
    places = tuple(tuple(number_at[offset] + word for offset in pattern) for word in range(words))
    return Plan(tuple(runs), places)


def is_cheap(found: Plan) -> bool:
    """Whether carrying a plan out costs less than gathering."""
    return _cost(found) <= _MOST_SHUFFLES


def is_one_to_one(pattern: Pattern) -> bool:
    """Whether no two lanes have the same address."""
    return len(set(pattern)) == len(pattern)


def _pieces(runs: Sequence[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Runs cut into (byte offset, words, number of the first word), at most 16 words each."""
    pieces, number = [], 0
    for start, words in runs:
        for first in range(0, words, HALF):
            count = min(HALF, words - first)
            pieces.append((start + 4 * first, count, number + first))
        number += words
    return pieces


def _cost(found: Plan) -> int:
    numbers = [index for index, (_, count, _) in enumerate(_pieces(found.runs)) for _ in range(count)]
    total = 0
    for row in found.places:
        for half in (row[:HALF], row[HALF:]):
            if len(set(half)) > 1:
                total += max(1, len({numbers[word] for word in half}) - 1)
    return total


def _shuffled(code: Code, sources: Sequence[Value], wanted: Sequence[tuple[int, int]]) -> Value:
    """16 words, the i-th being word `wanted[i][1]` of `sources[wanted[i][0]]`."""
    order = list(dict.fromkeys(source for source, _ in wanted))
    masks = [word for _, word in wanted]
    element = sources[0].element
    vector = f"<{HALF} x {element}>"
    if masks == list(range(HALF)) and len(order) == 1:
        return sources[order[0]]

    def shuffle(a: str, b: str, mask: list[int]) -> str:
        indices = ", ".join("i32 poison" if index < 0 else f"i32 {index}" for index in mask)
        name = code.name()
        code.line(f"{name} = shufflevector {vector} {a}, {vector} {b}, <{HALF} x i32> <{indices}>")
        return name

    first = order[0]
    if len(order) == 1:
        return Value(shuffle(sources[first].text, "poison", masks), element)
    second = order[1]
    mask = [word if source == first else HALF + word if source == second else -1
            for source, word in wanted]  # fmt: skip
    result = shuffle(sources[first].text, sources[second].text, mask)
    for extra in order[2:]:
        mask = [HALF + word if source == extra else lane for lane, (source, word) in enumerate(wanted)]
        result = shuffle(result, sources[extra].text, mask)
    return Value(result, element)


def _shuffled_pair(
    code: Code, sources: Sequence[Value], first: Sequence[tuple[int, int]], second: Sequence[tuple[int, int]]
) -> tuple[Value, Value]:
    """Two results of `_shuffled`. Where both draw on the same four sources, which is the usual case of four words a
    lane, they share two intermediate vectors: four shuffles in place of six."""
    both = [*first, *second]
    order = list(dict.fromkeys(source for source, _ in both))
    if len(order) == 4:
        near, far = (
            list(dict.fromkeys(place for place in both if place[0] in pair)) for pair in (order[:2], order[2:])
        )
        if len(near) <= HALF and len(far) <= HALF:
            gathered = [_shuffled(code, sources, part + part[:1] * (HALF - len(part))) for part in (near, far)]
            number = {place: (side, index) for side, part in enumerate((near, far)) for index, place in enumerate(part)}
            low, high = (_shuffled(code, gathered, [number[place] for place in wanted]) for wanted in (first, second))
            return low, high
    return _shuffled(code, sources, first), _shuffled(code, sources, second)


def halves(code: Code, value: Value) -> tuple[Value, Value]:
    """Lanes 0 to 15 and lanes 16 to 31 as vectors of their own."""
    found = []
    for first in (0, HALF):
        indices = ", ".join(f"i32 {first + lane}" for lane in range(HALF))
        name = code.name()
        code.line(f"{name} = shufflevector {value.typed}, {value.type} poison, <{HALF} x i32> <{indices}>")
        found.append(Value(name, value.element))
    return found[0], found[1]


def joined(code: Code, low: Value, high: Value) -> Value:
    """The inverse of `halves`."""
    vector = f"<{HALF} x {low.element}>"
    indices = ", ".join(f"i32 {lane}" for lane in range(LANES))
    return code.emit(
        f"shufflevector {vector} {low.text}, {vector} {high.text}, <{LANES} x i32> <{indices}>", low.element, True
    )


def _pointer(code: Code, base: str, offset: int) -> str:
    if not offset:
        return base
    name = code.name()
    code.line(f"{name} = getelementptr i8, ptr {base}, i64 {offset}")
    return name


def _load_piece(code: Code, pointer: str, count: int, alignment: int) -> Value:
    name = code.name()
    code.line(f"{name} = load <{count} x i32>, ptr {pointer}, align {alignment}")
    if count == HALF:
        return Value(name, "i32")
    indices = ", ".join(f"i32 {word}" if word < count else "i32 poison" for word in range(HALF))
    wide = code.name()
    code.line(f"{wide} = shufflevector <{count} x i32> {name}, <{count} x i32> poison, <{HALF} x i32> <{indices}>")
    return Value(wide, "i32")


def load_words(code: Code, pointer: str, found: Plan) -> list[Value]:
    """One vector over the lanes per word. `pointer` is lane 0's address."""
    alignment = min(64, 4 * len(found.places))
    pieces = _pieces(found.runs)
    owner = [(index, word) for index, (_, count, _) in enumerate(pieces) for word in range(count)]
    sources: dict[int, Value] = {}

    def piece(index: int) -> Value:
        if index not in sources:
            offset, count, _ = pieces[index]
            sources[index] = _load_piece(code, _pointer(code, pointer, offset), count, alignment)
        return sources[index]

    def gathered(rows: Sequence[Sequence[tuple[int, int]]]) -> list[Value]:
        available = {index: piece(index) for row in rows for index, _ in row}
        order = list(available)
        wanted = [[(order.index(index), word) for index, word in row] for row in rows]
        if len(wanted) == 2:
            return list(_shuffled_pair(code, list(available.values()), wanted[0], wanted[1]))
        return [_shuffled(code, list(available.values()), row) for row in wanted]

    parts: dict[tuple[int, int], Value] = {}
    for side in (0, 1):
        wanted: dict[int, list[tuple[int, int]]] = {}
        for word, row in enumerate(found.places):
            half = row[side * HALF : (side + 1) * HALF]
            if len(set(half)) == 1:
                parts[word, side] = _load_splat(code, pointer, pieces, owner[half[0]])
            else:
                wanted[word] = [owner[place] for place in half]
        for pair in _in_pairs(list(wanted)):
            for word, value in zip(pair, gathered([wanted[word] for word in pair]), strict=True):
                parts[word, side] = value
    return [joined(code, parts[word, 0], parts[word, 1]) for word in range(len(found.places))]


def _in_pairs(numbers: list[int]) -> list[list[int]]:
    return [numbers[first : first + 2] for first in range(0, len(numbers), 2)]


def _load_splat(code: Code, pointer: str, pieces: list[tuple[int, int, int]], owner: tuple[int, int]) -> Value:
    """One word in 16 lanes: a broadcast from memory."""
    offset = pieces[owner[0]][0] + 4 * owner[1]
    word, first, name = code.name(), code.name(), code.name()
    code.line(f"{word} = load i32, ptr {_pointer(code, pointer, offset)}")
    code.line(f"{first} = insertelement <{HALF} x i32> poison, i32 {word}, i64 0")
    code.line(f"{name} = shufflevector <{HALF} x i32> {first}, <{HALF} x i32> poison, <{HALF} x i32> zeroinitializer")
    return Value(name, "i32")


def store_words(code: Code, pointer: str, found: Plan, values: Sequence[Value]) -> None:
    """The inverse of `load_words`; the lanes must not overlap."""
    alignment = min(64, 4 * len(values))
    sources = [half for value in values for half in halves(code, value)]
    origin: dict[int, tuple[int, int]] = {}
    for word, row in enumerate(found.places):
        for lane, number in enumerate(row):
            origin[number] = (2 * word + lane // HALF, lane % HALF)
    pieces = _pieces(found.runs)
    for pair in _in_pairs(list(range(len(pieces)))):
        wanted = []
        for index in pair:
            _, count, first = pieces[index]
            places = [origin[first + word] for word in range(count)]
            wanted.append(places + places[:1] * (HALF - count))
        moved = _shuffled_pair(code, sources, *wanted) if len(pair) == 2 else [_shuffled(code, sources, wanted[0])]
        for index, value in zip(pair, moved, strict=True):
            _store_piece(code, pointer, pieces[index], value, alignment)


def _store_piece(code: Code, pointer: str, piece: tuple[int, int, int], value: Value, alignment: int) -> None:
    offset, count, _ = piece
    target, text = _pointer(code, pointer, offset), value.text
    if count < HALF:
        text = code.name()
        indices = ", ".join(f"i32 {word}" for word in range(count))
        code.line(
            f"{text} = shufflevector <{HALF} x i32> {value.text}, <{HALF} x i32> poison, <{count} x i32> <{indices}>"
        )
    code.line(f"store <{count} x i32> {text}, ptr {target}, align {alignment}")

"""The program of attention on Hopper, as FlashAttention-3 has it (Shah et al. 2024): a thread that fetches, and groups
of warps that multiply with wgmma and compute the softmax meanwhile.

In: the parts of an attention kernel whose operands can be fetched in boxes. Out: a program of two roles: the producer
brings the queries and then keeps a ring of key and value tiles full, from the last key that the block sees to the
first; a consumer group has scores, weights and results of 64 queries in registers. docs/attention.md tells the
protocol.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

from mlir import ir
from mlir.dialects import arith, scf

from ...dialects.tensors import scalar_type
from ...runtime.symbolic import ONE, ZERO, Expression, maximum, minimum
from ..lower.context import byte_width
from ..lower.dot_layouts import PairLayout, SharedLayout, WarpgroupLayout
from ..target import Target
from .attention_scores import key_range
from .attention_softmax import Softmax
from .builder import TileBuilder
from .contraction import Contraction
from .heads import Heads
from .roles import PRODUCER_WARPS, Ring, make_barriers, region, role
from .schedule import size_guess
from .tile_types import ACCESS_BYTES, i64, tile_of

GROUP_ROWS, GROUP_WARPS = 64, 4  # of a consumer group
MOST_HEAD = 256
EXCHANGE_COLUMNS = 32  # of the results that change threads at a time
EXCHANGE_LINE = EXCHANGE_COLUMNS + 8  # f32 of a row of them: 8 against bank conflicts
EXCHANGE_BYTES = EXCHANGE_LINE * 4
# Registers of a thread, by the number of consumer groups: (producer, consumers), None to leave them as launched.
_REGISTERS = {1: None, 2: (24, 240), 3: (32, 160)}
# Up to this size of head: (consumer groups, keys of a tile).
_TILES = ((64, 3, 128), (128, 2, 128), (256, 2, 64))
# More keys of a tile for two groups where scores are only scaled, which takes no registers: fewer instructions a score.
_MORE_KEYS = {128: 176, 64: 80}
TURN_KEYS = 8  # what a tile costs besides its products, in keys: some 100 cycles of waiting, not measured
LINE = 64  # elements of a line of a swizzled tile
LINE_BYTES = 2 * LINE
BARRIERS = 1024  # bytes of shared memory kept for them
MOST_STAGES = 4
MEETINGS = 3  # of the blocks that share keys: maxima are there, sums are there, all is read
SPLITS = (8, 4, 2)  # blocks of a cluster that share keys
LEAST_TILES = 2  # of keys that a block should have then


@dataclass(frozen=True)
class Schedule:
    """`groups` of 64 queries x `keys` keys; `head` elements of queries and keys, `width` of values, padded."""

    groups: int
    keys: int
    head: int
    width: int
    element: str
    stages: int = 2
    split: int = 1  # blocks of a cluster that share the keys of one tile of queries

    @property
    def rows(self) -> int:
        return self.groups * GROUP_ROWS

    @property
    def consumers(self) -> int:
        """Warps that multiply."""
        return self.groups * GROUP_WARPS

    @property
    def threads(self) -> int:
        return (self.consumers + PRODUCER_WARPS) * 32

    def keys_of_block(self, length: int) -> int:
        """What a block has to do, in keys, where there are `length`: tiles are shared in runs."""
        tiles = -(-length // self.keys)
        return -(-tiles // self.split) * (self.keys + TURN_KEYS)

    def instruction(self, columns: int) -> str:
        """A wgmma with that many columns."""
        return f"m64n{columns}k16.{self.element}"


def hopper_schedules(
    first: Contraction, second: Contraction, element: str, target: Target, plain: bool = False
) -> list[Schedule]:
    """Tiles for the sizes of the heads, the predicted ones first; none where wgmma does not serve the problem. `plain`
    says that scores are only scaled.
    """
    head, width = first.depth.as_constant(), second.columns.as_constant()
    if not target.wgmma or element not in ("f16", "bf16") or head is None or width is None:
        return []
    if not 0 < min(head, width) <= max(head, width) <= MOST_HEAD or first.columns == 0:
        return []
    groups, keys = next((groups, keys) for most, groups, keys in _TILES if max(head, width) <= most)
    # Unknown lengths are taken for short ones: two groups waste fewer rows, and still take turns.
    queries = first.rows.as_constant()
    groups = min(groups, 2 if queries is None else max(1, -(-queries // GROUP_ROWS)))
    lines = -(-head // LINE), -(-width // LINE)  # of a query or key, and of a value
    row = lines[0] * LINE_BYTES
    row += 0 if row >= EXCHANGE_BYTES else EXCHANGE_BYTES
    padded = -(-width // EXCHANGE_COLUMNS) * EXCHANGE_COLUMNS
    found: list[Schedule] = []
    for own in _groups(first, groups, target):
        for columns in _keys_of_tiles(keys, first.columns.as_constant(), plain and own == 2):
            room = target.shared_per_block - own * GROUP_ROWS * row - BARRIERS
            stages = min(MOST_STAGES, room // (columns * sum(lines) * LINE_BYTES))
            splits = _splits(first, columns, target) if queries is not None and queries <= GROUP_ROWS else [1]
            found += [
                Schedule(own, columns, -(-head // 16) * 16, padded, element, stages, split) for split in splits
            ]
    length = first.columns.as_constant()
    if length is None or found[0].split == 1:
        return found
    return sorted(found, key=lambda own: own.keys_of_block(length))  # smaller tiles where more blocks can share them


def _groups(first: Contraction, most: int, target: Target) -> list[int]:
    """How many groups a block may have, the predicted number first. That is `most`, which hide each other's softmax,
    unless blocks of fewer queries still find a multiprocessor each: then a block has less to do, and waits for less.
    """
    queries, batch = first.rows.as_constant(), size_guess(first.batch)
    found = range(most, 0, -1)
    if queries is None:
        return list(found)
    at_once = [own for own in found if batch * -(-queries // (own * GROUP_ROWS)) <= target.multiprocessors]
    return sorted(found, key=lambda own: own != min(at_once, default=most))


def _keys_of_tiles(keys: int, length: int | None, plain: bool) -> list[int]:
    """How many keys a tile may have, by the time that `length` of them take; the usual number first if unknown."""
    found = list(dict.fromkeys((keys, *([_MORE_KEYS[keys]] if plain and keys in _MORE_KEYS else []), 64)))
    if length is None or not plain:
        return found
    return sorted(found, key=lambda own: -(-length // own) * (own + TURN_KEYS))


def _splits(first: Contraction, keys: int, target: Target) -> list[int]:
    """How many blocks share the keys of a head: as many as leave no multiprocessor without work, or fewer."""
    most = target.multiprocessors // size_guess(first.batch)
    length = first.columns.as_constant()
    if length is not None:
        most = min(most, -(-length // keys) // LEAST_TILES)
    return [*(ways for ways in SPLITS if ways <= most), 1]


@dataclass
class HopperAttention:
    """One program under construction. `operands` are queries, keys and values."""

    builder: TileBuilder
    softmax: Softmax
    schedule: Schedule
    operands: tuple[Heads, Heads, Heads]
    rank: Expression = ZERO  # of this block among those that share its keys

    def emit(self) -> None:
        """Both roles."""
        schedule, (query, key, value) = self.schedule, self.operands
        self._make_ranges()
        rows, keys, head, width = schedule.rows, schedule.keys, schedule.head, schedule.width
        self.maps = [
            self.builder.tensor_map(own.boxed(tokens), scalar_type(own.element))
            for own, tokens in ((query, rows), (key, keys), (value, keys))
        ]
        self.query = self._tile((rows, head), query.layout(turned=False), 1)
        self.key = self._tile((head, keys), key.layout(turned=True), schedule.stages)
        self.value = self._tile((keys, width), value.layout(turned=False), schedule.stages)
        self.scratch = self._scratch() if schedule.split == 1 else self._partial_results()
        self.loaded = make_barriers(1, 1)
        self.filled = [make_barriers(schedule.stages, 1) for _ in range(2)]  # of keys, of values
        self.emptied = [make_barriers(schedule.stages, schedule.consumers) for _ in range(2)]
        self.turns = make_barriers(schedule.groups, GROUP_WARPS) if schedule.groups > 1 else None
        ir.Operation.create("tile.barrier")
        producer, consumers = _REGISTERS[schedule.groups] or (None, None)
        with role(self.builder, 0, schedule.consumers, consumers):
            self._consume()
        with role(self.builder, schedule.consumers, PRODUCER_WARPS, producer):
            with region(self.builder, "tile.single"):
                self._produce()
            for _ in range(MEETINGS if schedule.split > 1 else 0):
                _meet()

    # Which keys -----------------------------------------------------------------------------------------------------
    def _make_ranges(self) -> None:
        """The tiles of keys to visit, from `last` down; after the first, those before `clear` turns may hold keys that
        are hidden, those before `hidden` do not, and those before `count` may again.
        """
        builder, first, keys = self.builder, self.softmax.first, self.schedule.keys
        row = self.softmax.row
        end = minimum(row + self.schedule.rows, first.rows) - 1
        seen = key_range(self.softmax.scores, row, end, first.columns)
        begin, end = (self._variable(maximum(own, 0)) for own in (seen.begin, seen.end))
        lowest = self._variable(builder.divide(begin, keys))
        above = self._variable(builder.divide(end + (keys - 1), keys))
        if self.schedule.split > 1:
            lowest, above = self._share(lowest, above)
        above = self._variable(maximum(above, lowest + 1))
        self.last = self._variable(above - 1)
        self.count = self._variable(above - lowest)
        self.clear, self.hidden = ONE, self.count
        if seen.all_end != first.columns or not first.columns.divisible_by(keys):
            clear = maximum(above - builder.divide(maximum(seen.all_end, 0), keys), 1)
            self.clear = self._variable(minimum(clear, self.count))
        if seen.all_begin != 0:
            hidden = above - builder.divide(maximum(seen.all_begin, 0) + (keys - 1), keys)
            self.hidden = self._variable(maximum(minimum(hidden, self.count), self.clear))

    def _share(self, lowest: Expression, above: Expression) -> tuple[Expression, Expression]:
        """This block's tiles of those of a cluster, which are cut into runs; where none is left the tile after the last
        key, which counts for nothing.
        """
        builder, split, keys = self.builder, self.schedule.split, self.schedule.keys
        each = self._variable(builder.divide(maximum(above - lowest, 0) + (split - 1), split))
        own = self._variable(above - self.rank * each)
        past = self.softmax.first.columns.ceil_divide(keys)
        empty = arith.cmpi(arith.CmpIPredicate.sle, builder.index(own), builder.index(lowest))
        low = arith.select(empty, builder.index(past), builder.index(maximum(own - each, lowest)))
        high = arith.select(empty, builder.index(past), builder.index(own))
        return builder.variable(low, "low", 1 << 30), builder.variable(high, "high", 1 << 30)

    def _variable(self, value: Expression) -> Expression:
        """The value, computed once."""
        known = value.as_constant()
        return value if known is not None else self.builder.variable(self.builder.index(value), "keys", 1 << 30)

    def _column(self, turn: Expression) -> Expression:
        """The first key of the tile of a turn."""
        return (self.last - turn) * self.schedule.keys

    # Pieces ---------------------------------------------------------------------------------------------------------
    def _tile(self, shape: tuple[int, int], layout: SharedLayout, stages: int) -> ir.Value:
        type_ = tile_of(*shape, scalar_type(self.schedule.element), str(layout))
        return ir.Operation.create("tile.allocate", results=[type_], attributes={"stages": i64(stages)}).result

    def _scratch(self) -> ir.Value:
        """Where results change threads: in the place of the queries if they are as large, which are read by then."""
        layout = SharedLayout("rows", EXCHANGE_LINE)
        type_ = tile_of(self.schedule.rows, EXCHANGE_COLUMNS, ir.F32Type.get(), str(layout))
        fits = self.operands[0].tile_bytes(1, self.schedule.head) >= EXCHANGE_BYTES
        place = [self.query] if fits else []
        return ir.Operation.create(
            "tile.allocate", results=[type_], operands=place, attributes={"stages": i64(1)}
        ).result

    def _loop(self, low: Expression, high: Expression, carried: list[ir.Value]) -> scf.ForOp:
        return scf.ForOp(self.builder.index(low), self.builder.index(high), self.builder.index(1), carried)

    def _ring(self, parity: int) -> Ring:
        return Ring(self.builder.index(0), self.builder.index(parity))

    # The producer ---------------------------------------------------------------------------------------------------
    def _produce(self) -> None:
        schedule, (query, _, _), row = self.schedule, self.operands, self.softmax.row
        zero = self.builder.index(0)
        self._expect(self.loaded, zero, query.tile_bytes(schedule.rows, schedule.head))
        query.load(self.builder, (self.query, self.maps[0], self.loaded, zero), row, schedule.rows, schedule.head)
        ring = self._ring(1)  # the phase before the first, which counts as ended
        loop = self._loop(ZERO, self.count, [ring.stage, ring.parity])
        with ir.InsertionPoint(loop.body), self.builder.region():
            ring = Ring(*loop.inner_iter_args)
            turn = self.builder.variable(loop.induction_variable, "turn", self.count)
            token = self._column(turn)
            for number, tile, width in ((0, self.key, schedule.head), (1, self.value, schedule.width)):
                own, filled = self.operands[1 + number], self.filled[number]
                _await(self.emptied[number], ring)
                self._expect(filled, ring.stage, own.tile_bytes(schedule.keys, width))
                target = (tile, self.maps[1 + number], filled, ring.stage)
                own.load(self.builder, target, token, schedule.keys, width)
            following = ring.following(schedule.stages)
            scf.yield_([following.stage, following.parity])

    def _expect(self, barriers: ir.Value, index: ir.Value, nbytes: int) -> None:
        ir.Operation.create("tile.expect", operands=[barriers, index], attributes={"bytes": i64(nbytes)})

    # The consumers --------------------------------------------------------------------------------------------------
    def _consume(self) -> None:
        """The product of one tile of keys runs before that of the values one tile earlier, the softmax during both."""
        softmax, schedule = self.softmax, self.schedule
        ring = self._ring(0)
        turn = self._first_turn()
        _await(self.loaded, self._ring(0))
        _await(self.filled[0], ring)
        self._take_turn(turn)
        scores = self._scores(ring)
        self._pass_turn()
        scores = _finished(scores, 0, 0)
        _arrive(self.emptied[0], ring)
        seen = softmax.seen(scores, self.builder.index(self._column(ZERO)))
        first = softmax.step(seen, *softmax.start())
        output = softmax.zeros(schedule.width, softmax.layouts[1])
        state = [first.maximum, first.total, output, self._pack(first.weights), ring.stage, ring.parity, turn]
        bounds = (ONE, self.clear, self.hidden, self.count)
        for number, (low, high) in enumerate(itertools.pairwise(bounds)):
            if low != high:
                state = self._turns(low, high, number == 1, state)
        peak, total, output, weights, stage, parity, _ = state
        _await(self.filled[1], Ring(stage, parity))
        output = _finished(self._results(weights, output, stage), 0, 0)
        _arrive(self.emptied[1], Ring(stage, parity))
        if schedule.split > 1:
            self._combine(peak, total, output)
        else:
            softmax.store(*self._exchanged(softmax.quotient(output, total)))

    def _turns(self, low: Expression, high: Expression, bounded: bool, state: list[ir.Value]) -> list[ir.Value]:
        """The loop over some tiles of keys; `bounded` when none of their keys is hidden."""
        softmax, builder = self.softmax, self.builder
        loop = self._loop(low, high, state)
        with ir.InsertionPoint(loop.body), builder.region():
            maximum_, total, output, weights, stage, parity, turn = loop.inner_iter_args
            before = Ring(stage, parity)
            ring = before.following(self.schedule.stages)
            turn = self._next_turn(turn)
            _await(self.filled[0], ring)
            self._take_turn(turn)
            scores = self._scores(ring)
            _await(self.filled[1], before)
            output = self._results(weights, output, before.stage)
            self._pass_turn()
            scores = _finished(scores, 1, 1)
            _arrive(self.emptied[0], ring)
            number = builder.variable(loop.induction_variable, "turn", self.count)
            seen = softmax.seen(scores, builder.index(self._column(number)), bounded)
            online = softmax.step(seen, maximum_, total)
            # Already over; but ptxas moves a wait for wgmma in front of all arithmetic of its basic block, and this
            # test begins another one: the exponentials run while the values are multiplied.
            _await(self.filled[1], before)
            output = _finished(output, 0, 0)
            _arrive(self.emptied[1], before)
            output = softmax.rescaled(output, online.scale)
            packed = self._pack(online.weights)
            scf.yield_([online.maximum, online.total, output, packed, ring.stage, ring.parity, turn])
        return list(loop.results)

    def _scores(self, ring: Ring) -> ir.Value:
        """Q x K' of a tile of keys, started."""
        layout, keys = self.softmax.layouts[0], self.schedule.keys
        start = self.softmax.zeros(keys, layout)
        return self._dot(self.query, self.key, start, ring.stage, keys)

    def _results(self, weights: ir.Value, output: ir.Value, stage: ir.Value) -> ir.Value:
        """The output plus P x V of a tile of values, started."""
        return self._dot(weights, self.value, output, stage, self.schedule.width)

    def _dot(self, left: ir.Value, right: ir.Value, start: ir.Value, stage: ir.Value, columns: int) -> ir.Value:
        return ir.Operation.create(
            "tile.dot",
            results=[start.type],
            operands=[left, right, start, stage],
            attributes={"instruction": ir.StringAttr.get(self.schedule.instruction(columns))},
        ).result

    def _pack(self, weights: ir.Value) -> ir.Value:
        rows, keys = self.schedule.rows, self.schedule.keys
        layout = PairLayout(rows, keys, self.schedule.groups)
        type_ = tile_of(rows, keys, scalar_type(self.schedule.element), str(layout))
        return ir.Operation.create("tile.pack", results=[type_], operands=[weights]).result

    def _exchanged(self, output: ir.Value) -> tuple[ir.Value, str, int]:
        """The results with neighbours in one thread, their layout, and how many neighbours."""
        schedule = self.schedule
        stored = min(byte_width(scalar_type(own.element)) for own in self.builder.outputs)
        vector = max(2, ACCESS_BYTES // stored)
        while not self.softmax.second.columns.divisible_by(vector):
            vector //= 2
        across = EXCHANGE_COLUMNS // vector
        layout = f"blocked<{schedule.consumers * 32 // across}x{across}, vector={vector}>"
        type_ = tile_of(schedule.rows, schedule.width, ir.F32Type.get(), layout)
        made = ir.Operation.create("tile.exchange", results=[type_], operands=[output, self.scratch]).result
        return made, layout, vector

    # Keys shared by the blocks of a cluster ------------------------------------------------------------------------
    def _partial_results(self) -> ir.Value:
        """Where a block leaves its results for the others, in the place of the keys, when all is read."""
        rows, width = self.schedule.rows, self.schedule.width
        f32 = ir.F32Type.get()
        self.lines = [
            ir.Operation.create(
                "tile.allocate",
                results=[tile_of(rows, 1, f32, str(SharedLayout("rows", 1)))],
                attributes={"stages": i64(1)},
            ).result
            for _ in range(2)
        ]
        type_ = tile_of(rows, width, f32, str(SharedLayout("rows", width + EXCHANGE_LINE - EXCHANGE_COLUMNS)))
        return ir.Operation.create(
            "tile.allocate", results=[type_], operands=[self.key], attributes={"stages": i64(1)}
        ).result

    def _combine(self, peak: ir.Value, total: ir.Value, output: ir.Value) -> None:
        """Bring the parts of all blocks to the largest maximum, add them up, each block some queries, and store."""
        softmax, (rows, _, width), split = self.softmax, self.softmax.shape, self.schedule.split
        zero = self.builder.index(0)
        ir.Operation.create("tile.put", operands=[self.lines[0], zero, peak])
        _meet()
        top = _over_blocks(self.lines[0], zero, softmax.line_type, split, "max")
        total, output = softmax.joined(peak, total, output, top)
        ir.Operation.create("tile.put", operands=[self.lines[1], zero, total])
        ir.Operation.create("tile.put", operands=[self.scratch, zero, output])
        _meet()
        own, across = rows // split, self.schedule.consumers * 32 * split // rows
        vector = max(size for size in (2, 4, 8) if width % (across * size) == 0)
        layout = f"blocked<{own}x{across}, vector={vector}>"
        first = self._variable(self.rank * own)
        part = replace(softmax, shape=(own, width, width), layouts=(layout, layout), row=softmax.row + first)
        start = self.builder.index(first)
        sums = _over_blocks(self.scratch, start, tile_of(own, width, ir.F32Type.get(), layout), split, "sum")
        totals = _over_blocks(self.lines[1], start, part.line_type, split, "sum")
        part.store(part.quotient(sums, totals), layout, vector)
        _meet()  # a block that has ended could still be read from

    # Whose turn it is to multiply: the tensor cores have one group's products while the others compute softmaxes -----
    def _first_turn(self) -> ir.Value:
        """Parity of a group's first turn; that of group 0 is the phase before the first, which counts as ended."""
        zero = self.builder.index(0)
        if self.turns is None:
            return zero
        self.group = ir.Operation.create("tile.group", results=[ir.IndexType.get()]).result
        leads = arith.cmpi(arith.CmpIPredicate.eq, self.group, zero)
        return arith.select(leads, self.builder.index(1), zero)

    def _next_turn(self, turn: ir.Value) -> ir.Value:
        return arith.xori(turn, self.builder.index(1)) if self.turns is not None else turn

    def _take_turn(self, turn: ir.Value) -> None:
        if self.turns is not None:
            ir.Operation.create("tile.await", operands=[self.turns, self.group, turn])

    def _pass_turn(self) -> None:
        if self.turns is None:
            return
        one, count = self.builder.index(1), self.builder.index(self.schedule.groups)
        following = arith.addi(self.group, one)
        wrapped = arith.cmpi(arith.CmpIPredicate.eq, following, count)
        following = arith.select(wrapped, self.builder.index(0), following)
        ir.Operation.create("tile.arrive", operands=[self.turns, following])


def accumulators(schedule: Schedule, vector: int) -> tuple[str, str]:
    """Layouts of scores, of which a thread has `vector` neighbours that lie in the same tensors, and of results."""
    scores = WarpgroupLayout(schedule.rows, schedule.keys, schedule.groups, vector)
    return str(scores), str(WarpgroupLayout(schedule.rows, schedule.width, schedule.groups))


def _await(barriers: ir.Value, ring: Ring) -> None:
    ir.Operation.create("tile.await", operands=[barriers, ring.stage, ring.parity])


def _arrive(barriers: ir.Value, ring: Ring) -> None:
    ir.Operation.create("tile.arrive", operands=[barriers, ring.stage])


def _meet() -> None:
    ir.Operation.create("tile.cluster_barrier")


def _over_blocks(tile: ir.Value, row: ir.Value, type_: ir.Type, blocks: int, kind: str) -> ir.Value:
    attributes = {"blocks": i64(blocks), "kind": ir.StringAttr.get(kind)}
    return ir.Operation.create(
        "tile.combine_blocks", results=[type_], operands=[tile, row], attributes=attributes
    ).result


def _finished(accumulator: ir.Value, pending: int, others: int) -> ir.Value:
    attributes = {"pending": i64(pending), "others": i64(others)}
    return ir.Operation.create(
        "tile.dot_wait", results=[accumulator.type], operands=[accumulator], attributes=attributes
    ).result

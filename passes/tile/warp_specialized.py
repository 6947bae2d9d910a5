"""The program of a contraction on Hopper: warps that fetch boxes of the operands, and warps that multiply.

In: the plan of a kernel of kind ``dot`` whose operands are dense in memory. Out: a persistent program with two roles.
One thread of the producer keeps a ring of shared tiles full; the consumers, groups of four warps, run wgmma on them
and the epilogue on their registers, whose results go to memory in boxes as well or by the threads that hold them.
docs/hopper.md tells the protocol.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mlir import ir
from mlir.dialects import arith, scf

from ...dialects.tensors import scalar_type
from ...runtime.symbolic import expression
from ..lower.dot_layouts import SharedLayout
from .block_work import BlockWork
from .boxes import Boxes, Operands
from .builder import TileBuilder
from .elements import zero as element_zero
from .epilogue import Position
from .producer import Producer
from .result_boxes import SLOTS, Place, ResultBox
from .roles import PRODUCER_WARPS, Ring, make_barriers, region, role, role_ahead
from .schedule import Schedule
from .schedule_wgmma import CONSUMER_GROUP, EXCHANGE_LINE, PADDING
from .shared_tiles import Part
from .tile_types import full, i64, program_id, tile_of

# Of a tile: its place, its sums, what has arrived beside them -> what boxes store.
Epilogue = Callable[[Position, ir.Value, "ir.Value | None"], "ir.Value | None"]

EXCHANGE_COLUMNS = EXCHANGE_LINE - PADDING  # of the sums that change threads at a time
PRODUCER_REGISTERS, CONSUMER_REGISTERS = 40, 232  # a thread, with two groups of consumers: 40 + 2 * 232 <= 3 * 168


@dataclass
class WarpSpecialized:
    """One program under construction."""

    builder: TileBuilder
    schedule: Schedule
    operands: Operands
    work: BlockWork
    accumulator: str  # dtype of the sums
    layouts: tuple[str, str]  # of the accumulator, and of the sums as the epilogue gets them
    result: ResultBox | None = None  # where what the epilogue makes is stored in boxes
    weights: int | None = None  # the operand, 0 or 1, that no kernel writes
    strip: int = 0  # columns of which the epilogue is run at a time, where boxes are stored; 0: all
    is_turned: bool = False  # the epilogue gets the transposed sums

    def emit(self, epilogue: Epilogue) -> None:
        """Both roles; `epilogue` gets the place of a tile, its sums and what has arrived beside them, and returns what
        boxes store.
        """
        rows, columns, depth = self.schedule.block
        left, right = self.operands.both
        cluster = self.schedule.cluster
        maps = [
            self.builder.tensor_map(box.boxed(lines, depth), scalar_type(box.element))
            for box, lines in ((left, rows), (right, columns // cluster))
        ]
        self.tiles = [
            _allocate(box, shape, self.schedule.stages)
            for box, shape in ((left, (rows, depth)), (right, (depth, columns)))
        ]
        self.scratch = self._scratch()
        if self.schedule.run:
            self.partial = self._partial_memory()
        consumers = self.schedule.warps[0] * self.schedule.turns
        self.filled = make_barriers(self.schedule.stages, 1)
        self.emptied = make_barriers(self.schedule.stages, self.schedule.warps[0] * cluster)
        self.order = make_barriers(self.schedule.turns, CONSUMER_GROUP) if self.schedule.turns > 1 else None
        if self._beside is not None:
            self.beside_map = self._result_map(self._beside)
            self.arrived = make_barriers(consumers // CONSUMER_GROUP, 1)
        self._begin()
        parts = (maps, self.tiles, self.filled, self.emptied, self.weights)
        producer = Producer(self.builder, self.schedule, self.operands, self.work, *parts)
        if producer.ahead:
            with role_ahead(self.builder, consumers, PRODUCER_WARPS), region(self.builder, "tile.single"):
                producer.fetch_weights()
        several = consumers > CONSUMER_GROUP
        with role(self.builder, 0, consumers, CONSUMER_REGISTERS if several else None, self.schedule.turns > 1):
            self._consume(epilogue)
        with role(self.builder, consumers, PRODUCER_WARPS, PRODUCER_REGISTERS if several else None):
            with region(self.builder, "tile.single"):
                producer.run()
            if self.schedule.split > 1:
                _meet()  # with the consumers of all blocks, whose partial sums are then complete
        if self.schedule.together > 1:
            _meet()  # a block that has ended could still be written to, or read from

    def _begin(self) -> None:
        """Wait until the barriers are made which this block's threads look at, or arrive at: other blocks' too where
        boxes go to all of them.
        """
        if self.schedule.cluster > 1:
            ir.Operation.create("tile.cluster_barrier", attributes={"relaxed": ir.UnitAttr.get()})
        else:
            ir.Operation.create("tile.barrier")

    # The consumers --------------------------------------------------------------------------------------------------
    def _consume(self, epilogue: Epilogue) -> None:
        self._consume_tiles(epilogue)
        if self.result is not None:
            ir.Operation.create("tile.stores_wait")

    def _consume_tiles(self, epilogue: Epilogue) -> None:
        rows, columns, _ = self.schedule.block
        turns, stages = self.schedule.turns, self.schedule.stages
        with self.work.tiles([*self._start(), *self._start_beside()], self.group) as (work, carried, end):
            ring, turn, beside = Ring(*carried[:2]), carried[2 : self.schedule.turns + 1], carried[-1]
            if self._beside is not None:
                self._fetch_beside(work.position)
            if self.order is not None:
                ir.Operation.create("tile.await", operands=[self.order, self.group, *turn])
            start = full(rows, columns, self.layouts[0], element_zero(scalar_type(self.accumulator)))
            loop = self.work.depth_loop(work, [start, ring.stage, ring.parity, ring.stage])
            with ir.InsertionPoint(loop.body), self.builder.region():
                accumulator, stage, parity, previous = loop.inner_iter_args
                ir.Operation.create("tile.await", operands=[self.filled, stage, parity])
                product = self._accumulate("tile.dot", [*self.tiles, accumulator, stage], self._instruction())
                running = self._accumulate("tile.dot_wait", [product], {"pending": i64(1)})
                self._release_previous(loop.induction_variable, previous)
                following = Ring(stage, parity).following(stages)
                scf.yield_([running, following.stage, following.parity, stage])
            accumulator, stage, parity, previous = loop.results
            if self.order is not None:
                other = arith.xori(self.group, self.builder.index(1))
                ir.Operation.create("tile.arrive", operands=[self.order, other])
            done = self._accumulate("tile.dot_wait", [accumulator], {"pending": i64(0)})
            if self.schedule.split > 1:
                epilogue(*self._combined(work.position, done), None)
                return
            ir.Operation.create("tile.arrive", operands=[self.emptied, previous], attributes=self._everywhere())
            if work.part is None:
                self._finish_tile(epilogue, work.position, done, beside)
            else:
                self._finish_part(epilogue, work.position, work.part, done)
            ring = Ring(stage, parity)
            if turns > 1:
                ring = ring.after(self.work.steps, stages)
            parities = turn if self._beside is None else [*turn, beside]
            end += [ring.stage, ring.parity, *(arith.xori(own, self.builder.index(1)) for own in parities)]

    def _start(self) -> list[ir.Value]:
        """What a consumer carries from tile to tile, before its first: stage and parity of the ring, and where groups
        take turns the parity of its own turn.

        A group's first tile is as many steps into the ring as come before it. Group 0 need not wait for its first turn:
        it asks for the phase before the first, which counts as ended.
        """
        zero, one = self.builder.index(0), self.builder.index(1)
        self.group: ir.Value | None = None
        if self.schedule.turns == 1:
            return [zero, zero]
        self.group = ir.Operation.create("tile.group", results=[ir.IndexType.get()]).result
        leads = arith.cmpi(arith.CmpIPredicate.eq, self.group, zero)
        later = Ring(zero, zero).after(self.work.steps, self.schedule.stages)
        return [
            arith.select(leads, zero, later.stage),
            arith.select(leads, zero, later.parity),
            arith.select(leads, one, zero),
        ]

    def _finish_part(self, epilogue: Epilogue, position: Position, part: Part, sums: ir.Value) -> None:
        """Give the sums away; or collect what other blocks have of the tile, the nearest first, and finish it."""
        builder, own = self.builder, program_id(0)
        loop = scf.ForOp(builder.index(0), part.others, builder.index(1), [sums])
        with ir.InsertionPoint(loop.body):
            other = arith.subi(arith.subi(own, builder.index(1)), loop.induction_variable)
            operands = [loop.inner_iter_args[0], *self.partial, other]
            scf.yield_([ir.Operation.create("tile.collect", results=[sums.type], operands=operands).result])
        branch = scf.IfOp(part.partial, has_else=True)
        with ir.InsertionPoint(branch.then_block):
            ir.Operation.create("tile.publish", operands=[loop.results[0], *self.partial, own])
            scf.yield_([])
        with ir.InsertionPoint(branch.else_block), builder.region():
            self._finish_tile(epilogue, position, loop.results[0])
            scf.yield_([])

    def _finish_tile(
        self, epilogue: Epilogue, position: Position, sums: ir.Value, parity: ir.Value | None = None
    ) -> None:
        """Run the epilogue and store what it makes; `parity` is that of what arrives beside the tile."""
        if self.result is None:
            epilogue(position, self._exchanged(sums), None)
        else:
            self._finish_strips(epilogue, position, sums, parity)

    def _slot(self) -> ir.Value:
        """The first of the shared tiles through which this group's results leave."""
        if self.group is None:
            return self.builder.index(0)
        return arith.muli(self.group, self.builder.index(SLOTS))

    # What the epilogue reads beside the sums --------------------------------------------------------------------------
    @property
    def _beside(self) -> Place | None:
        return None if self.result is None else self.result.beside

    def _start_beside(self) -> list[ir.Value]:
        """The parity of what arrives beside the first tile."""
        return [] if self._beside is None else [self.builder.index(0)]

    def _fetch_beside(self, position: Position) -> None:
        """Ask for it in front of the products, which hide its way."""
        assert self.result is not None
        place = (self.scratch, self._slot(), self.beside_map, self.arrived)
        self.result.fetch(self.builder, place, position, self.schedule.block[1])

    def _finish_strips(
        self, epilogue: Epilogue, position: Position, sums: ir.Value, parity: ir.Value | None
    ) -> None:
        """Wait for what arrives beside the tile, if anything does; then take it, run the epilogue and store, one strip
        after the other.
        """
        assert self.result is not None
        columns, slot = self.schedule.block[1], self._slot()
        if self._beside is not None:
            group = ir.Operation.create("tile.group", results=[ir.IndexType.get()]).result
            ir.Operation.create("tile.await", operands=[self.arrived, group, parity])
        batch, row, column = position
        for first in range(0, columns, self.strip or columns):
            place, number = (batch, row, column + first), first // self.result.strip
            made = epilogue(place, self._part(sums, first), self._take_beside(slot, number))
            assert made is not None
            strip = number if self.strip else None
            self.result.store(self.builder, made, (self.scratch, slot, self.result_map), position, strip)

    def _part(self, sums: ir.Value, first: int) -> ir.Value:
        """The columns of a strip of the sums."""
        if not self.strip:
            return sums
        type_ = tile_of(self.schedule.block[0], self.strip, scalar_type(self.accumulator), self.layouts[0])
        return ir.Operation.create(
            "tile.columns", results=[type_], operands=[sums], attributes={"first": i64(first)}
        ).result

    def _take_beside(self, slot: ir.Value, strip: int) -> ir.Value | None:
        """What has arrived beside a strip, in registers."""
        if self._beside is None:
            return None
        assert self.result is not None
        rows, columns, _ = self.schedule.block
        type_ = tile_of(rows, self.strip or columns, scalar_type(self.result.element), self.layouts[0])
        return ir.Operation.create(
            "tile.take_boxes", results=[type_], operands=[self.scratch, slot], attributes={"strip": i64(strip)}
        ).result

    def _scratch(self) -> ir.Value:
        """The shared tile through which the sums, or what the epilogue makes of them, leave."""
        if self.schedule.split > 1:
            return self._partial_sums()
        if self.result is None:
            return self._exchange_tile()
        self.result_map = self._result_map(self.result.place)
        return self.result.allocate(self.schedule.block[0], self.schedule.turns)

    def _result_map(self, place: Place) -> ir.Value:
        assert self.result is not None
        return self.builder.tensor_map(self.result.boxed(place), scalar_type(self.result.element))

    def _partial_memory(self) -> tuple[ir.Value, ir.Value]:
        """Where blocks leave sums for others, a tile each, and the flags that tell so, one a warp."""
        grid, (rows, columns, _) = self.work.shares.grid, self.schedule.block
        shape = (expression(grid), expression(rows * columns))
        return self.builder.workspace(self.accumulator, shape), self.builder.semaphores(grid * self.schedule.warps[0])

    def _exchange_tile(self) -> ir.Value:
        columns = min(EXCHANGE_COLUMNS, self.schedule.block[1])
        layout = SharedLayout("rows", columns + PADDING)
        type_ = tile_of(self.schedule.block[0], columns, scalar_type(self.accumulator), str(layout))
        stages = {"stages": i64(self.schedule.turns)}
        return ir.Operation.create("tile.allocate", results=[type_], attributes=stages).result

    def _exchanged(self, accumulator: ir.Value) -> ir.Value:
        """The sums with neighbouring columns in one thread, so that the epilogue's accesses are 16 bytes wide."""
        rows, columns, _ = self.schedule.block
        operands = [accumulator, self.scratch, *([self.group] if self.group is not None else [])]
        type_, attributes = self._stored_sums(rows, columns)
        return ir.Operation.create("tile.exchange", results=[type_], operands=operands, attributes=attributes).result

    def _stored_sums(self, rows: int, columns: int) -> tuple[ir.Type, dict[str, ir.Attribute]]:
        """The type of so many sums as the epilogue gets them, and what tells operations that these turn them."""
        shape = (columns, rows) if self.is_turned else (rows, columns)
        type_ = tile_of(*shape, scalar_type(self.accumulator), self.layouts[1])
        return type_, {"turned": ir.UnitAttr.get()} if self.is_turned else {}

    def _partial_sums(self) -> ir.Value:
        """Where a block leaves its sums for the others of the cluster: in the place of the ring, when all is read."""
        rows, columns, _ = self.schedule.block
        layout = SharedLayout("rows", columns + PADDING)
        type_ = tile_of(rows, columns, scalar_type(self.accumulator), str(layout))
        return ir.Operation.create(
            "tile.allocate", results=[type_], operands=[self.tiles[0]], attributes={"stages": i64(1)}
        ).result

    def _combined(self, position: Position, accumulator: ir.Value) -> tuple[Position, ir.Value]:
        """The rows of the tile that this block adds up: their place, and the sums over the blocks of the cluster."""
        rows, columns, _ = self.schedule.block
        own = rows // self.schedule.split
        ir.Operation.create("tile.barrier")  # all consumers have read their last boxes
        ir.Operation.create("tile.put", operands=[self.scratch, self.builder.index(0), accumulator])
        _meet()
        first = self.work.rank * own
        type_, attributes = self._stored_sums(own, columns)
        sums = ir.Operation.create(
            "tile.combine_blocks",
            results=[type_],
            operands=[self.scratch, self.builder.index(first)],
            attributes={"blocks": i64(self.schedule.split), **attributes},
        ).result
        batch, row, column = position
        return (batch, row + first, column), sums

    def _instruction(self) -> dict[str, ir.Attribute]:
        return {"instruction": ir.StringAttr.get(self.schedule.instruction)}

    def _accumulate(self, name: str, operands: list[ir.Value], attributes: dict[str, ir.Attribute]) -> ir.Value:
        rows, columns, _ = self.schedule.block
        type_ = tile_of(rows, columns, scalar_type(self.accumulator), self.layouts[0])
        return ir.Operation.create(name, results=[type_], operands=operands, attributes=attributes).result

    def _everywhere(self) -> dict[str, ir.Attribute]:
        """What tells an arrival that all blocks of the cluster wait for it."""
        return {"blocks": i64(self.schedule.cluster)} if self.schedule.cluster > 1 else {}

    def _release_previous(self, step: ir.Value, previous: ir.Value) -> None:
        """With one product still running, the one before has read its stage."""
        later = arith.cmpi(arith.CmpIPredicate.ne, step, self.builder.index(0))
        branch = scf.IfOp(later)
        with ir.InsertionPoint(branch.then_block):
            ir.Operation.create("tile.arrive", operands=[self.emptied, previous], attributes=self._everywhere())
            scf.yield_([])


def _meet() -> None:
    ir.Operation.create("tile.cluster_barrier")


def _allocate(box: Boxes, shape: tuple[int, int], stages: int) -> ir.Value:
    type_ = tile_of(*shape, scalar_type(box.element), str(box.layout()))
    return ir.Operation.create("tile.allocate", results=[type_], attributes={"stages": i64(stages)}).result

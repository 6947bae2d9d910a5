"""The producer of a contraction on Hopper: one thread that keeps a ring of shared tiles full.

In: the operands as tensor maps see them, the ring, the work of a block. Out: the body of its role, and what it does
before the kernels in front have ended. It exists apart from the consumers, with whom it shares barriers only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mlir import ir
from mlir.dialects import arith, scf

from ...dialects.tensors import scalar_type
from ...runtime.symbolic import ZERO, Expression
from ..lower.context import byte_width
from .block_work import BlockWork
from .boxes import Operands
from .builder import TileBuilder
from .roles import Ring
from .schedule import Schedule
from .tile_types import i64


@dataclass
class Producer:
    """One under construction. `weights` is the operand, 0 or 1, that no kernel writes."""

    builder: TileBuilder
    schedule: Schedule
    operands: Operands
    work: BlockWork
    maps: list[ir.Value]  # tensor maps of both operands
    tiles: list[ir.Value]  # their stages
    filled: ir.Value  # barriers of the stages
    emptied: ir.Value
    weights: int | None

    @property
    def ahead(self) -> int:
        """Steps of a block's first tile whose weights are asked for before the kernels in front have ended."""
        is_known = self.weights is not None and not self.schedule.run
        return min(self.schedule.stages, self.work.steps) if is_known else 0

    def fetch_weights(self) -> None:
        """Fill the ring with weights, as far as it goes; each stage expects the other operand too."""
        assert self.weights is not None
        builder, work = self.builder, self.work.first()
        batch, *lines = work.position
        for value in self.operands.both[self.weights].fixed(builder, lines[self.weights], batch):
            builder.index(value)  # in front of the loop
        loop = scf.ForOp(builder.index(0), builder.index(self.ahead), builder.index(1))
        with ir.InsertionPoint(loop.body), builder.region():
            stage = loop.induction_variable
            depth = (work.first + builder.variable(stage, "step", self.ahead)) * self.schedule.block[2]
            self._expect(stage)
            self._load(self.weights, stage, (lines[self.weights], depth, batch))
            scf.yield_([])

    def _expect(self, stage: ir.Value) -> None:
        attributes = {"bytes": i64(self._stage_bytes())}
        ir.Operation.create("tile.expect", operands=[self.filled, stage], attributes=attributes)

    def run(self) -> None:
        """The role: boxes of both operands a step. Carries the ring, and how many stages have their weights already."""
        start = [self.builder.index(value) for value in (0, 1, *([self.ahead] if self.ahead else []))]
        with self.work.tiles(start) as (work, carried, end):
            batch, row, column = work.position
            lines = (row, column)
            for box, line in zip(self.operands.both, lines, strict=True):
                for value in box.fixed(self.builder, line, batch):
                    self.builder.index(value)  # in front of the loop
            loop = self.work.depth_loop(work, carried)
            with ir.InsertionPoint(loop.body), self.builder.region():
                inner, fetched = Ring(*loop.inner_iter_args[:2]), list(loop.inner_iter_args[2:])
                step = self.builder.variable(loop.induction_variable, "step", self.work.steps)
                depth = (work.first + step) * self.schedule.block[2]
                ir.Operation.create("tile.await", operands=[self.emptied, inner.stage, inner.parity])
                sometimes = [number for number in (0, 1) if not fetched or number == self.weights]
                always = [number for number in (0, 1) if number not in sometimes]
                with self._unless(fetched):
                    self._expect(inner.stage)
                    for number in sometimes:
                        self._load(number, inner.stage, (lines[number], depth, batch))
                for number in always:
                    self._load(number, inner.stage, (lines[number], depth, batch))
                following = inner.following(self.schedule.stages)
                scf.yield_([following.stage, following.parity, *map(self._less, fetched)])
            end += list(loop.results)

    @contextmanager
    def _unless(self, fetched: list[ir.Value]) -> Iterator[None]:
        """What a step does whose weights have not been asked for."""
        if not fetched:
            yield
            return
        branch = scf.IfOp(arith.cmpi(arith.CmpIPredicate.eq, fetched[0], self.builder.index(0)))
        with ir.InsertionPoint(branch.then_block), self.builder.region():
            yield
            scf.yield_([])

    def _less(self, count: ir.Value) -> ir.Value:
        """One less, down to zero."""
        zero, one = self.builder.index(0), self.builder.index(1)
        return arith.subi(count, arith.select(arith.cmpi(arith.CmpIPredicate.eq, count, zero), zero, one))

    def _stage_bytes(self) -> int:
        rows, columns, depth = self.schedule.block
        return (rows + columns) * depth * byte_width(scalar_type(self.operands.left.element))

    def _load(self, number: int, stage: ir.Value, origin: tuple[Expression, Expression, Expression]) -> None:
        """The copies that make up one operand's tile at (line, k, batch).

        The blocks of a cluster share the right operand: each fetches its part of the columns for all of them.
        """
        lines, depth = self.schedule.block[number], self.schedule.block[2]
        shared = number == 1 and self.schedule.cluster > 1
        part = ZERO
        if shared:
            lines //= self.schedule.cluster
            part = self.work.rank * lines
        line, first, batch = origin
        for load in self.operands.both[number].loads(self.builder, (line + part, first, batch), (lines, depth)):
            inside = part * depth + load.inside  # a line, or a panel of lines, holds `depth` elements for each
            values = [self.builder.index(value) for value in (inside, *load.coordinates, *load.offsets)]
            attributes = {"rank": i64(len(load.coordinates))}
            if shared:
                attributes["blocks"] = i64(self.schedule.cluster)
            ir.Operation.create(
                "tile.load_box",
                operands=[self.tiles[number], stage, self.maps[number], self.filled, stage, *values],
                attributes=attributes,
            )

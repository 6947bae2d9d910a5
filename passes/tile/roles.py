"""What warp-specialised programs are made of: roles of warps, a ring of stages, and barriers in shared memory.

In: a builder at the place where a role begins. Out: its region, and positions in the ring. docs/hopper.md and
docs/attention.md tell the protocols.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mlir import ir
from mlir.dialects import arith

from .builder import TileBuilder
from .tile_types import i64

PRODUCER_WARPS = 4  # one would do, but registers are handed over by groups of four


@dataclass
class Ring:
    """Where a role stands in the ring of stages."""

    stage: ir.Value
    parity: ir.Value

    def following(self, stages: int) -> Ring:
        """The next stage; the parity turns where the ring begins again."""
        zero, one, count = (arith.constant(ir.IndexType.get(), value) for value in (0, 1, stages))
        stage = arith.addi(self.stage, one)
        wrapped = arith.cmpi(arith.CmpIPredicate.eq, stage, count)
        return Ring(
            arith.select(wrapped, zero, stage), arith.select(wrapped, arith.xori(self.parity, one), self.parity)
        )

    def after(self, steps: int, stages: int) -> Ring:
        """The stage that many steps on."""
        rounds, rest = divmod(steps, stages)
        one, count, rest_value = (arith.constant(ir.IndexType.get(), value) for value in (1, stages, rest))
        stage = arith.addi(self.stage, rest_value)
        wrapped = arith.cmpi(arith.CmpIPredicate.uge, stage, count)
        turned = arith.xori(self.parity, one)
        kept, flipped = (turned, self.parity) if rounds % 2 else (self.parity, turned)
        return Ring(arith.select(wrapped, arith.subi(stage, count), stage), arith.select(wrapped, flipped, kept))


@contextmanager
def role(
    builder: TileBuilder, first: int, count: int, registers: int | None, apart: bool = False
) -> Iterator[None]:
    """The part of `count` warps from warp `first` on, with that many registers a thread (None: as launched). With
    `apart`, each group of warps goes through it at its own pace.
    """
    attributes = {"first": i64(first), "count": i64(count)}
    if apart:
        attributes["apart"] = ir.UnitAttr.get()
    if registers is not None:
        attributes["registers"] = i64(registers)
    with region(builder, "tile.warps", attributes):
        yield


@contextmanager
def role_ahead(builder: TileBuilder, first: int, count: int) -> Iterator[None]:
    """The same for what a role does before the kernels in front have ended."""
    with region(builder, "tile.warps", {"first": i64(first), "count": i64(count), "ahead": ir.UnitAttr.get()}):
        yield


@contextmanager
def region(builder: TileBuilder, name: str, attributes: dict[str, ir.Attribute] | None = None) -> Iterator[None]:
    """The body of an operation without operands and results."""
    operation = ir.Operation.create(name, attributes=attributes or {}, regions=1)
    with ir.InsertionPoint(operation.regions[0].blocks.append()), builder.region():
        yield
        ir.Operation.create("gpu.yield")


def make_barriers(count: int, arrivals: int) -> ir.Value:
    """Barriers in shared memory, ready after the block has met."""
    return ir.Operation.create(
        "tile.make_barriers",
        results=[ir.Type.parse("!tile.barriers")],
        attributes={"count": i64(count), "arrivals": i64(arrivals)},
    ).result

"""Pass `pipeline`: overlap the copies of a contraction's main loop with its arithmetic.

In: tile programs whose loop copies, waits and multiplies one step after the other. Out: the same programs
over a ring of `stages` shared tiles: the copies of later steps are in flight while a step is multiplied. The
number of stages stands in the program's schedule.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from mlir import ir
from mlir.dialects import arith, scf

from ..unit import Unit, register_pass
from .tile_types import i64

_TRANSFERS = ("tile.copy", "tile.fill")
_ROLLED = "#llvm.loop_annotation<unroll = <disable = true>>"


@register_pass("pipeline", requires="tile", ensures="tile")
def pipeline(unit: Unit) -> None:
    """Turn main loops into multi-stage asynchronous ones.

    before::

        scf.for %k { tile.copy A, B; tile.commit; tile.wait 0; tile.barrier; tile.dot; tile.barrier }

    after, for three stages::

        scf.for %s = 0 to 2 { copy step s; tile.commit }
        scf.for %k { tile.wait 1; tile.barrier; copy step k + 2; tile.commit; tile.dot }
    """
    with unit.module.context, ir.Location.unknown():
        for name, program in unit.kernels.items():
            text = pipelined(program.text)
            if text is not None:
                unit.kernels[name] = replace(program, text=text)


@lru_cache(maxsize=256)  # the kernels of one large model
def pipelined(text: str) -> str | None:
    """The pipelined text of one tile program in the current context, or None when there is nothing to overlap.

    Kept for the pass when a worker was given the kernel before it (compiler/kernels.py).
    """
    if '"tile.dot"' not in text:
        return None
    module = ir.Module.parse(text)
    function = module.body.operations[0].operation
    schedule = ir.DictAttr(function.attributes["tile.schedule"])
    stages = ir.IntegerAttr(schedule["stages"]).value
    loops = [
        view.operation
        for view in function.regions[0].blocks[0].operations
        if view.operation.name == "scf.for"
    ]
    changed = False
    for loop in loops:
        step = _find_step(loop)
        if step is not None and stages > 1:
            _overlap(loop, step, stages)
            changed = True
    return module.operation.get_asm(enable_debug_info=False) if changed else None


@dataclass(frozen=True)
class _Step:
    """The parts of a simple main loop."""

    transfers: list[ir.Operation]
    dot: ir.Operation

    @property
    def tiles(self) -> list[ir.Value]:
        return [transfer.operands[0] for transfer in self.transfers]


def _find_step(loop: ir.Operation) -> _Step | None:
    """The parts of the loop when it has exactly the simple form."""
    body = [view.operation for view in loop.regions[0].blocks[0].operations]
    names = [operation.name for operation in body if not operation.name.startswith("arith.")]
    transfers = [operation for operation in body if operation.name in _TRANSFERS]
    expected = ["tile.commit", "tile.wait", "tile.barrier", "tile.dot", "tile.barrier", "scf.yield"]
    if not transfers or names != [transfer.name for transfer in transfers] + expected:
        return None
    return _Step(transfers, next(operation for operation in body if operation.name == "tile.dot"))


def _overlap(loop: ir.Operation, step: _Step, stages: int) -> None:
    low, high, stride, start = loop.operands
    for tile in step.tiles:
        tile.owner.attributes["stages"] = i64(stages)
    index = ir.IndexType.get()
    with ir.InsertionPoint(loop):
        zero, one = arith.constant(index, 0), arith.constant(index, 1)
        last, ring = arith.constant(index, stages - 1), arith.constant(index, stages)
        # A loop, not a copy per stage: the transfers are most of the program's text.
        filling = scf.ForOp(zero, last, one)
        filling.operation.attributes["loop_annotation"] = ir.Attribute.parse(_ROLLED)
        with ir.InsertionPoint(filling.body):
            stage = filling.induction_variable
            position = arith.addi(low, arith.muli(stage, stride))
            _transfer(loop, step, position, high, stage)
            ir.Operation.create("tile.commit")
            scf.yield_([])
        ahead = arith.muli(stride, last)
        # Carried: the accumulator, the stage to read, the stage to fill.
        new = scf.ForOp(low, high, stride, [start, zero, last])
    with ir.InsertionPoint(new.body):
        accumulator, read, write = new.inner_iter_args
        ir.Operation.create("tile.wait", attributes={"pending": i64(stages - 2)})
        ir.Operation.create("tile.barrier")
        _transfer(loop, step, arith.addi(new.induction_variable, ahead), high, write)
        ir.Operation.create("tile.commit")
        product = ir.Operation.create(
            "tile.dot",
            results=[step.dot.results[0].type],
            operands=[*list(step.dot.operands)[:2], accumulator, read],
            attributes={"instruction": step.dot.attributes["instruction"]},
        ).result
        scf.yield_([product, *(_following(stage, one, ring, zero) for stage in (read, write))])
    loop.results[0].replace_all_uses_with(new.results[0])
    loop.erase()


def _following(stage: ir.Value, one: ir.Value, stages: ir.Value, zero: ir.Value) -> ir.Value:
    """The next stage of the ring."""
    following = arith.addi(stage, one)
    return arith.select(arith.cmpi(arith.CmpIPredicate.eq, following, stages), zero, following)


def _transfer(loop: ir.Operation, step: _Step, position: ir.Value, high: ir.Value, stage: ir.Value) -> None:
    """Copies of the step at k `position` into `stage`, when there is such a step."""
    branch = scf.IfOp(arith.cmpi(arith.CmpIPredicate.ult, position, high))
    with ir.InsertionPoint(branch.then_block):
        _clone_transfers(loop, step, position, stage)
        scf.yield_([])


def _clone_transfers(loop: ir.Operation, step: _Step, position: ir.Value, stage: ir.Value) -> None:
    """The loop's transfers with another k and stage; what they compute from k in the loop's body is cloned as
    well.
    """
    block = loop.regions[0].blocks[0]
    mapping: dict[ir.Value, ir.Value] = {block.arguments[0]: position}
    for view in block.operations:
        operation = view.operation
        if operation not in step.transfers and not operation.name.startswith("arith."):
            break
        clone = operation.clone()
        _replace_operands(clone, mapping)
        for old, new in zip(operation.results, clone.results, strict=True):
            mapping[old] = new
        if operation in step.transfers:
            clone.operands[1] = stage


def _replace_operands(operation: ir.Operation, mapping: dict[ir.Value, ir.Value]) -> None:
    """Use the mapped values in the operation and in everything inside it."""

    def visit(inner: ir.Operation) -> ir.WalkResult:
        for number, operand in enumerate(inner.operands):
            if operand in mapping:
                inner.operands[number] = mapping[operand]
        return ir.WalkResult.ADVANCE

    operation.walk(visit)

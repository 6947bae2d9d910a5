"""Block-level control and everything that is not a tile: program ids, barriers, loops that carry tiles, scalar
arithmetic.

In: operations between the maps of a tile program. Out: the same per thread; an scf.for that carries a tile carries
its registers.
"""

from __future__ import annotations

from mlir import ir
from mlir.dialects import llvm, nvvm, scf

from ...runtime.errors import InternalError
from .bodies import clone_scalar, from_memory, memory_element
from .context import RULES, LoweringContext, Memory, RegisterTile, byte_width, lowering

_PROGRAM_ID = {
    0: nvvm.read_ptx_sreg_ctaid_x,
    1: nvvm.read_ptx_sreg_ctaid_y,
    2: nvvm.read_ptx_sreg_ctaid_z,
}


@lowering("tile.program_id")
def _program_id(context: LoweringContext, operation: ir.Operation) -> None:
    axis = ir.IntegerAttr(operation.attributes["axis"]).value
    context.set(operation.results[0], _PROGRAM_ID[axis](context.i32))


@lowering("tile.load")
def _load(context: LoweringContext, operation: ir.Operation) -> None:
    """Between maps: an element that every thread of the block reads."""
    memory = context.get(operation.operands[0])
    assert isinstance(memory, Memory)
    stored = memory_element(context, memory.element)
    place = context.offset_pointer(memory.pointer, context.scalar(operation.operands[1]), stored)
    value = llvm.load(stored, place, alignment=byte_width(stored))
    context.set(operation.results[0], from_memory(value, memory.element))


@lowering("tile.barrier")
def _barrier(context: LoweringContext, operation: ir.Operation) -> None:
    context.barrier()


def flatten(context: LoweringContext, value: ir.Value) -> list[ir.Value]:
    """The scalars behind a lowered value."""
    lowered = context.get(value)
    return list(lowered.values) if isinstance(lowered, RegisterTile) else [lowered]


def rebuild(context: LoweringContext, like: ir.Value, scalars: list[ir.Value]) -> object:
    """A lowered value of the same kind as `like` over other scalars."""
    lowered = context.get(like)
    return RegisterTile(lowered.layout, tuple(scalars)) if isinstance(lowered, RegisterTile) else scalars[0]


@lowering("scf.for")
def _for(context: LoweringContext, operation: ir.Operation) -> None:
    low, high, step = (context.scalar(operand) for operand in list(operation.operands)[:3])
    carried = list(operation.operands)[3:]
    parts = [flatten(context, value) for value in carried]
    loop = scf.ForOp(low, high, step, [scalar for part in parts for scalar in part])
    if "loop_annotation" in operation.attributes:
        loop.operation.attributes["loop_annotation"] = operation.attributes["loop_annotation"]
    body = operation.regions[0].blocks[0]
    with ir.InsertionPoint(loop.body):
        context.set(body.arguments[0], loop.induction_variable)
        _bind(context, list(body.arguments)[1:], carried, parts, list(loop.inner_iter_args))
        yielded = lower_block(context, body)
        scf.yield_([scalar for value in yielded for scalar in flatten(context, value)])
    _bind(context, list(operation.results), carried, parts, list(loop.results))


def _bind(
    context: LoweringContext,
    targets: list[ir.Value],
    like: list[ir.Value],
    parts: list[list[ir.Value]],
    scalars: list[ir.Value],
) -> None:
    start = 0
    for target, source, part in zip(targets, like, parts, strict=True):
        context.set(target, rebuild(context, source, scalars[start : start + len(part)]))
        start += len(part)


@lowering("scf.if")
def _if(context: LoweringContext, operation: ir.Operation) -> None:
    """A branch on a value that is the same for the whole block; it carries nothing."""
    if len(operation.results):
        raise InternalError("scf.if with results is not used in tile programs")
    has_else = len(operation.regions[1].blocks) > 0
    branch = scf.IfOp(context.scalar(operation.operands[0]), has_else=has_else)
    regions = [(branch.then_block, 0)] + ([(branch.else_block, 1)] if has_else else [])
    for block, index in regions:
        with ir.InsertionPoint(block):
            lower_block(context, operation.regions[index].blocks[0])
            scf.yield_([])


def lower_block(context: LoweringContext, block: ir.Block) -> list[ir.Value]:
    """Lower every operation of a block; returns the operands of its terminator."""
    for view in block.operations:
        operation = view.operation
        if operation.name in ("scf.yield", "func.return", "gpu.yield"):
            return list(operation.operands)
        rule = RULES.get(operation.name)
        if rule is not None:
            with operation.location:
                rule(context, operation)
        elif operation.name.startswith("tile."):
            raise InternalError(f"no lowering rule for '{operation.name}':\n{operation}")
        else:
            with operation.location:
                clones = clone_scalar(context, operation, [context.scalar(operand) for operand in operation.operands])
            for result, clone in zip(operation.results, clones, strict=True):
                context.set(result, clone)
    return []

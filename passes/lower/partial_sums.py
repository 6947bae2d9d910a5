"""tile.publish and tile.collect: sums that one block leaves in global memory for another.

In: a register tile, a workspace of sums, semaphores that are zero, and the number of the block that gives. Out: stores
of 16 bytes of the thread's own registers and one flag a warp; or the sums with those of the other block added, thread
by thread, and the flag zero again for the next launch.
"""

from __future__ import annotations

from mlir import ir
from mlir.dialects import arith, llvm, nvvm, scf

from .bodies import load_vector, store_vector
from .context import LoweringContext, Memory, RegisterTile, lowering
from .dot_layouts import WARP

_PIECE = 4  # sums of 4 bytes: an access of 16
_FLAG_BYTES = 4
_SET = """{
.reg .pred first;
setp.eq.u32 first, $0, 0;
@first st.release.gpu.global.b32 [$1], 1;
}"""
_CLEAR = """{
.reg .pred first;
setp.eq.u32 first, $0, 0;
@first st.relaxed.gpu.global.b32 [$1], 0;
}"""
_READ = "ld.acquire.gpu.global.b32 $0, [$1];"


@lowering("tile.publish")
def _publish(context: LoweringContext, operation: ir.Operation) -> None:
    tile, workspace, semaphores = (context.get(operand) for operand in list(operation.operands)[:3])
    assert isinstance(tile, RegisterTile)
    block = context.scalar(operation.operands[3])
    for number, place in enumerate(_places(context, tile, block)):
        piece = list(tile.values[number * _PIECE : (number + 1) * _PIECE])
        store_vector(context, workspace.pointer, place, piece)
    _meet(context)
    _by_first_lane(context, _SET, _flag(context, semaphores, block))


@lowering("tile.collect")
def _collect(context: LoweringContext, operation: ir.Operation) -> None:
    tile, workspace, semaphores = (context.get(operand) for operand in list(operation.operands)[:3])
    assert isinstance(tile, RegisterTile) and isinstance(workspace, Memory)
    block = context.scalar(operation.operands[3])
    flag = _flag(context, semaphores, block)
    _await(context, flag)
    add = arith.addf if isinstance(workspace.element, ir.FloatType) else arith.addi
    sums: list[ir.Value] = []
    for number, place in enumerate(_places(context, tile, block)):
        others = load_vector(context, workspace.pointer, place, workspace.element, _PIECE)
        own = tile.values[number * _PIECE : (number + 1) * _PIECE]
        sums += [add(left, right) for left, right in zip(own, others, strict=True)]
    _meet(context)
    _by_first_lane(context, _CLEAR, flag)
    context.set(operation.results[0], RegisterTile(tile.layout, tuple(sums)))


def _places(context: LoweringContext, tile: RegisterTile, block: ir.Value) -> list[ir.Value]:
    """Where the pieces of this thread's registers lie: those of neighbouring threads side by side."""
    threads = tile.layout.threads
    first = context.add(context.multiply(block, threads * len(tile.values)), context.multiply(context.thread, _PIECE))
    return [context.add(first, number * threads * _PIECE) for number in range(len(tile.values) // _PIECE)]


def _flag(context: LoweringContext, semaphores: Memory, block: ir.Value) -> ir.Value:
    """The address of the flag of this warp in `block`."""
    warp = context.divide(context.thread, WARP)
    number = context.add(context.multiply(block, context.threads // WARP), warp)
    return context.offset_pointer(semaphores.pointer, number, context.i32)


def _meet(context: LoweringContext) -> None:
    """Wait for the warp: its lanes' accesses are in front of what its first lane does next."""
    nvvm.bar_warp_sync(context.integer(-1))


def _by_first_lane(context: LoweringContext, assembly: str, pointer: ir.Value) -> None:
    lane = context.remainder(context.thread, WARP)
    llvm.inline_asm(None, [lane, pointer], assembly, "r,l,~{memory}", has_side_effects=True)


def _await(context: LoweringContext, pointer: ir.Value) -> None:
    """Look until the flag is set; every lane acquires for itself."""
    loop = scf.WhileOp([], [])
    look = loop.before.blocks.append()
    with ir.InsertionPoint(look):
        found = llvm.inline_asm(context.i32, [pointer], _READ, "=r,l,~{memory}", has_side_effects=True)
        scf.condition(arith.cmpi(arith.CmpIPredicate.eq, found, context.integer(0)), [])
    again = loop.after.blocks.append()
    with ir.InsertionPoint(again):
        scf.yield_([])

"""tile.begin_next, tile.prefetch_map and tile.await_previous: what a kernel does before those in front have ended.

In: the three operations. Out: `griddepcontrol`, and prefetches by one thread. The wait is assembly that clobbers
memory, because LLVM knows the intrinsic as one that touches none, and may then read in front of it what the kernel
before is still writing.
"""

from __future__ import annotations

from mlir import ir
from mlir.dialects import arith, llvm, nvvm, scf

from .context import LoweringContext, lowering


@lowering("tile.begin_next")
def _begin_next(context: LoweringContext, operation: ir.Operation) -> None:
    nvvm.griddepcontrol(nvvm.GridDepActionKind.launch_dependents)


@lowering("tile.prefetch_map")
def _prefetch_map(context: LoweringContext, operation: ir.Operation) -> None:
    branch = scf.IfOp(arith.cmpi(arith.CmpIPredicate.eq, context.thread, context.integer(0)))
    with ir.InsertionPoint(branch.then_block):
        # Assembly, because the operation becomes two instructions, for the parameter's own address and the generic one.
        tensor_map = context.scalar(operation.operands[0])
        llvm.inline_asm(None, [tensor_map], "prefetch.tensormap [$0];", "l", has_side_effects=True)
        scf.yield_([])


@lowering("tile.await_previous")
def _await_previous(context: LoweringContext, operation: ir.Operation) -> None:
    llvm.inline_asm(None, [], "griddepcontrol.wait;", "~{memory}", has_side_effects=True)

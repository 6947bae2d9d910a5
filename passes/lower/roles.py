"""Warp specialisation: roles of warps, barriers that count arrivals and bytes, boxes that arrive by themselves.

In: tile.warps, tile.single, tile.make_barriers and what waits for or arrives at them, tile.load_box. Out: branches on
the thread, mbarriers in shared memory and bulk tensor copies. Layouts inside a role see the role's threads only.
"""

from __future__ import annotations

from mlir import ir
from mlir.dialects import arith, llvm, nvvm, scf

from .context import Barriers, LoweringContext, SharedTile, byte_width, lowering
from .control import lower_block
from .dot_fma import stage_offset
from .dot_layouts import WARP

BARRIER_BYTES = 8
WARPGROUP = 4 * WARP  # threads
REGISTERS = 65536  # of a multiprocessor, which one block of roles has for itself
_TICKS = 0x989680  # of a try_wait before it looks again: any number is right


_ARRIVE = """{
.reg .pred first;
setp.eq.u32 first, $0, 0;
@first mbarrier.arrive.shared::cta.b64 _, [$1];
}"""
# Lane r arrives at the barrier of block r. Not with the scope of the cluster: ptxas would put a fence of the whole
# device in front of it, in every step of a main loop, while all that it releases are the finished reads of wgmma.
_ARRIVE_EVERYWHERE = """{{
.reg .pred first;
.reg .b32 remote;
setp.lt.u32 first, $0, {blocks};
@first mapa.shared::cluster.u32 remote, $1, $0;
@first mbarrier.arrive.shared::cluster.b64 _, [remote];
}}"""


@lowering("tile.program_count")
def _program_count(context: LoweringContext, operation: ir.Operation) -> None:
    readers = (nvvm.read_ptx_sreg_nctaid_x, nvvm.read_ptx_sreg_nctaid_y, nvvm.read_ptx_sreg_nctaid_z)
    axis = ir.IntegerAttr(operation.attributes["axis"]).value
    context.set(operation.results[0], readers[axis](context.i32))


@lowering("tile.warps")
def _warps(context: LoweringContext, operation: ir.Operation) -> None:
    first, count = (ir.IntegerAttr(operation.attributes[name]).value * WARP for name in ("first", "count"))
    block_thread, block_threads = context.thread, context.threads
    own = context.add(block_thread, -first) if first else block_thread
    branch = scf.IfOp(arith.cmpi(arith.CmpIPredicate.ult, own, context.integer(count)))
    with ir.InsertionPoint(branch.then_block):
        if "registers" in operation.attributes:
            _set_registers(ir.IntegerAttr(operation.attributes["registers"]).value, block_threads)
        context.role = context.roles + 1
        context.thread, context.threads = own, count
        if "apart" in operation.attributes:
            context.group = warpgroup_number(context)
            context.thread, context.threads = context.remainder(own, WARPGROUP), WARPGROUP
        lower_block(context, operation.regions[0].blocks[0])
        if "ahead" not in operation.attributes:
            context.roles += count // context.threads
        context.thread, context.threads, context.role, context.group = block_thread, block_threads, 0, None
        scf.yield_([])


def _set_registers(registers: int, threads: int) -> None:
    """A role's own number of registers; it takes or gives relative to what the block was launched with."""
    launched = REGISTERS // threads // 8 * 8
    more = registers > launched
    nvvm.setmaxregister(registers, nvvm.SetMaxRegisterAction.increase if more else nvvm.SetMaxRegisterAction.decrease)


@lowering("tile.single")
def _single(context: LoweringContext, operation: ir.Operation) -> None:
    branch = scf.IfOp(arith.cmpi(arith.CmpIPredicate.eq, context.thread, context.integer(0)))
    with ir.InsertionPoint(branch.then_block):
        lower_block(context, operation.regions[0].blocks[0])
        scf.yield_([])


@lowering("tile.group")
def _group(context: LoweringContext, operation: ir.Operation) -> None:
    context.set(operation.results[0], warpgroup_number(context) if context.group is None else context.group)


def warpgroup_number(context: LoweringContext) -> ir.Value:
    """Which group of four warps of the role this is: the same for all lanes, and made so that ptxas knows it.

    Nothing takes a repeated shuffle out of a main loop, so it is made once, at the start of the kernel.
    """
    number = context.divide(context.thread, WARPGROUP)
    every, zero, last = (context.integer(value) for value in (-1, 0, WARP - 1))
    return context.pure(
        "warpgroup", (number,), lambda: nvvm.shfl_sync(context.i32, every, number, zero, last, nvvm.ShflKind.idx)
    )


@lowering("tile.make_barriers")
def _barriers(context: LoweringContext, operation: ir.Operation) -> None:
    count, arrivals = (ir.IntegerAttr(operation.attributes[name]).value for name in ("count", "arrivals"))
    offset = context.allocate_shared(count * BARRIER_BYTES, BARRIER_BYTES)
    branch = scf.IfOp(arith.cmpi(arith.CmpIPredicate.eq, context.thread, context.integer(0)))
    with ir.InsertionPoint(branch.then_block):
        for index in range(count):
            pointer = context.shared_pointer(offset + index * BARRIER_BYTES)
            nvvm.mbarrier_init(pointer, context.integer(arrivals))
        nvvm.fence_mbarrier_init()
        nvvm.fence_proxy(nvvm.ProxyKind.async_shared, space=nvvm.SharedSpace.shared_cta)
        scf.yield_([])
    context.set(operation.results[0], Barriers(offset))


@lowering("tile.cluster_barrier")
def _cluster_barrier(context: LoweringContext, operation: ir.Operation) -> None:
    """ptxas puts a fence of the whole device in front of an arrival that is not relaxed. New barriers have a fence of
    their own, which is enough for them.
    """
    arrive = nvvm.cluster_arrive_relaxed if "relaxed" in operation.attributes else nvvm.cluster_arrive
    arrive()
    nvvm.cluster_wait()


def _pointer(context: LoweringContext, barriers: ir.Value, index: ir.Value) -> ir.Value:
    return barrier_pointer(context, barriers, context.scalar(index))


def barrier_pointer(context: LoweringContext, barriers: ir.Value, number: ir.Value) -> ir.Value:
    """Where the barrier of that number (lowered, i32) of `barriers` (of the tile program) lies in shared memory."""
    found = context.get(barriers)
    assert isinstance(found, Barriers)
    return context.shared_pointer(context.add(context.multiply(number, BARRIER_BYTES), found.offset))


@lowering("tile.expect")
def _expect(context: LoweringContext, operation: ir.Operation) -> None:
    pointer = _pointer(context, operation.operands[0], operation.operands[1])
    nbytes = ir.IntegerAttr(operation.attributes["bytes"]).value
    nvvm.mbarrier_arrive_expect_tx(None, pointer, context.integer(nbytes))


@lowering("tile.arrive")
def _arrive(context: LoweringContext, operation: ir.Operation) -> None:
    """One lane of every warp: the others of the warp have passed the same wait.

    A predicate, not a branch: the next wgmma wants the warp together.
    """
    pointer = _pointer(context, operation.operands[0], operation.operands[1])
    lane = context.remainder(context.thread, WARP)
    assembly = _ARRIVE
    if "blocks" in operation.attributes:
        assembly = _ARRIVE_EVERYWHERE.format(blocks=ir.IntegerAttr(operation.attributes["blocks"]).value)
    address = llvm.ptrtoint(context.i32, pointer)
    llvm.inline_asm(None, [lane, address], assembly, "r,r,~{memory}", has_side_effects=True)


@lowering("tile.await")
def _await(context: LoweringContext, operation: ir.Operation) -> None:
    pointer = _pointer(context, operation.operands[0], operation.operands[1])
    nvvm.mbarrier_try_wait_parity(pointer, context.scalar(operation.operands[2]), context.integer(_TICKS))


@lowering("tile.load_box")
def _load_box(context: LoweringContext, operation: ir.Operation) -> None:
    tile = context.get(operation.operands[0])
    assert isinstance(tile, SharedTile)
    stage, tensor_map = context.scalar(operation.operands[1]), context.scalar(operation.operands[2])
    barrier = _pointer(context, operation.operands[3], operation.operands[4])
    offset = context.multiply(context.scalar(operation.operands[5]), byte_width(tile.element))
    target = context.shared_pointer(context.add(stage_offset(context, tile, stage), offset))
    cluster = llvm.addrspacecast(ir.Type.parse("!llvm.ptr<7>"), target)
    values = [context.scalar(operand) for operand in list(operation.operands)[6:]]
    rank = ir.IntegerAttr(operation.attributes["rank"]).value
    i16 = ir.IntegerType.get_signless(16)
    offsets = [arith.trunci(i16, value) for value in values[rank:]]
    mode = nvvm.TMALoadMode.IM2COL if offsets else nvvm.TMALoadMode.TILE
    mask = None
    if "blocks" in operation.attributes:
        blocks = ir.IntegerAttr(operation.attributes["blocks"]).value
        mask = arith.constant(i16, (1 << blocks) - 1)
    nvvm.cp_async_bulk_tensor_shared_cluster_global(
        cluster, tensor_map, values[:rank], barrier, offsets, multicast_mask=mask, mode=mode
    )

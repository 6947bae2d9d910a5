"""One element combined with what memory holds, while other threads do the same.

In: a kind, an address in global memory, a value of 32 or 64 bits. Out: one atomic instruction where the hardware has
it, else a loop that tries again until nobody was faster.
"""

from __future__ import annotations

from mlir import ir
from mlir.dialects import arith, llvm, scf

from .context import byte_width

_INSTRUCTIONS = {
    ("sum", False): llvm.AtomicBinOp.add,
    ("sum", True): llvm.AtomicBinOp.fadd,
    ("max", False): llvm.AtomicBinOp.max,
    ("umax", False): llvm.AtomicBinOp.umax,
}


def combine_atomically(kind: str, place: ir.Value, value: ir.Value) -> None:
    """memory[place] = kind(memory[place], value), in one step for all threads of the device."""
    instruction = _INSTRUCTIONS.get((kind, isinstance(value.type, ir.FloatType)))
    if instruction is not None:
        llvm.atomicrmw(instruction, place, value, llvm.AtomicOrdering.monotonic, syncscope="device")
        return
    pattern = ir.IntegerType.get_signless(8 * byte_width(value.type))
    truth = ir.IntegerType.get_signless(1)
    loop = scf.WhileOp([pattern], [llvm.load(pattern, place, alignment=byte_width(value.type))])
    attempt = loop.before.blocks.append(pattern)
    with ir.InsertionPoint(attempt):
        expected = attempt.arguments[0]
        wanted = _as_pattern(_product(_as_value(expected, value.type), value), pattern)
        relaxed = llvm.AtomicOrdering.monotonic
        answer = llvm.cmpxchg(place, expected, wanted, relaxed, relaxed, syncscope="device")
        found = llvm.extractvalue(pattern, answer, [0])
        succeeded = llvm.extractvalue(truth, answer, [1])
        failed = arith.xori(succeeded, arith.constant(truth, 1))
        scf.condition(failed, [found])
    again = loop.after.blocks.append(pattern)
    with ir.InsertionPoint(again):
        scf.yield_([again.arguments[0]])


def _product(left: ir.Value, right: ir.Value) -> ir.Value:
    return arith.mulf(left, right) if isinstance(left.type, ir.FloatType) else arith.muli(left, right)


def _as_value(pattern: ir.Value, type_: ir.Type) -> ir.Value:
    return pattern if pattern.type == type_ else arith.bitcast(type_, pattern)


def _as_pattern(value: ir.Value, pattern: ir.Type) -> ir.Value:
    return value if value.type == pattern else arith.bitcast(pattern, value)

"""mbarrier and the cluster barrier.

In: mbarrier.*, barrier.cluster.arrive. Out: calls of the engine's `barrier_*` and `cluster_arrive` routines. Why: the
many spellings (state spaces, default counts, with and without a token) become one form each. Instructions that wait
end a block (`control_flow.is_wait`) and never get here.
"""

from __future__ import annotations

from ..ptx import Address, Discard, Instruction, Operand
from . import operation
from .emitter import Emitter
from .memory import space_of


def _destinations(instruction: Instruction) -> int:
    """A token, predicate or count stands before the address, where there is one."""
    return 0 if instruction.operands and isinstance(instruction.operands[0], Address) else 1


def wait_operands(instruction: Instruction) -> tuple[Operand, Operand, bool]:
    """Of test_wait and try_wait: the address, the token or parity, and whether it is a parity."""
    _, address, token = instruction.operands[:3]
    return address, token, instruction.has("parity")


@operation("mbarrier", destinations=_destinations)
def barrier(instruction: Instruction, emit: Emitter) -> None:
    kind = instruction.modifiers[0]
    handler = _FORMS.get(kind)
    if handler is None:
        emit.unsupported(f"mbarrier.{kind}")
        return
    handler(instruction, emit)


def _place(emit: Emitter, operand: Operand) -> tuple[object, str]:
    space = space_of(emit.instruction, emit, operand)
    assert isinstance(operand, Address)
    return emit.address(operand), space


def _initialise(instruction: Instruction, emit: Emitter) -> None:
    address, space = _place(emit, instruction.operands[0])
    emit.call("barrier_init", [], [address, emit.read(instruction.operands[1], "u32")], space=space)


def _invalidate(instruction: Instruction, emit: Emitter) -> None:
    address, space = _place(emit, instruction.operands[0])
    emit.call("barrier_invalidate", [], [address], space=space)


def _arrive(instruction: Instruction, emit: Emitter) -> None:
    """`state, [addr]{, count}`, or with .expect_tx `state, [addr], bytes` and a count of 1."""
    operands = instruction.operands
    token: Operand = Discard()
    if not isinstance(operands[0], Address):
        token, *rest = operands
    else:
        rest = list(operands)
    address, space = _place(emit, rest[0])
    number, owed = emit.constant("u32", 1), emit.constant("u32", 0)
    if len(rest) > 1:
        value = emit.read(rest[1], "u32")
        number, owed = (number, value) if instruction.has("expect_tx") else (value, owed)
    (result,) = emit.call(
        "barrier_arrive", ["b64"], [address, number, owed], space=space,
        drop=instruction.modifiers[0] == "arrive_drop", no_complete=instruction.has("noComplete"),
    )  # fmt: skip
    emit.write(token, "b64", result)


def _expect(instruction: Instruction, emit: Emitter) -> None:
    address, space = _place(emit, instruction.operands[0])
    routine = {"expect_tx": "barrier_expect_bytes", "complete_tx": "barrier_complete_bytes"}
    nbytes = emit.read(instruction.operands[1], "u32")
    emit.call(routine[instruction.modifiers[0]], [], [address, nbytes], space=space)


def _test(instruction: Instruction, emit: Emitter) -> None:
    place, token, parity = wait_operands(instruction)
    address, space = _place(emit, place)
    value = emit.read(token, "u32" if parity else "b64")
    (answer,) = emit.call("barrier_test", ["pred"], [address, value], space=space, parity=parity)
    emit.write(instruction.operands[0], "pred", answer)


def _pending_count(instruction: Instruction, emit: Emitter) -> None:
    (number,) = emit.call("barrier_pending_count", ["u32"], [emit.read(instruction.operands[1], "b64")])
    emit.write(instruction.operands[0], "u32", number)


_FORMS = {
    "init": _initialise, "inval": _invalidate, "arrive": _arrive, "arrive_drop": _arrive, "expect_tx": _expect,
    "complete_tx": _expect, "test_wait": _test, "pending_count": _pending_count,
}  # fmt: skip

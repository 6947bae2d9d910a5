"""What is known of the memory behind a kernel's arguments, for kernels that wait for the ones in front.

In: a lowered kernel. Out: every load and store says which argument's memory it touches, and that it is no other's. The
promise `noalias` of an argument would say the same, but also that nobody else writes that memory while the kernel runs:
LLVM could then read in front of `griddepcontrol.wait`. Without either, no load moves in front of a store.
"""

from __future__ import annotations

from mlir import ir

_ACCESSES = {"llvm.load": 0, "llvm.store": 1}  # the operand that is the pointer
_DOMAIN = "#llvm.alias_scope_domain<id = distinct[0]<>>"


def scope_accesses(kernel: ir.Operation) -> None:
    """Put `alias_scopes` and `noalias_scopes` on every access of an argument's memory."""
    entry = kernel.regions[0].blocks[0]
    pointers = [argument.arg_number for argument in entry.arguments if str(argument.type) == "!llvm.ptr<1>"]
    # In one text, because distinct attributes of two texts are never the same.
    texts = (f"#llvm.alias_scope<id = distinct[{number + 1}]<>, domain = {_DOMAIN}>" for number in pointers)
    own = dict(zip(pointers, ir.ArrayAttr.parse(f"[{', '.join(texts)}]"), strict=True))
    others = {number: ir.ArrayAttr.get([own[other] for other in pointers if other != number]) for number in pointers}

    def visit(operation: ir.Operation) -> ir.WalkResult:
        if operation.name in _ACCESSES:
            base = _base(operation.operands[_ACCESSES[operation.name]])
            number = ir.BlockArgument(base).arg_number if base.owner == entry else None
            if number in own:
                operation.attributes["alias_scopes"] = ir.ArrayAttr.get([own[number]])
                operation.attributes["noalias_scopes"] = others[number]
        return ir.WalkResult.ADVANCE

    kernel.walk(visit)


def _base(pointer: ir.Value) -> ir.Value:
    """What an address is computed from."""
    while not isinstance(pointer.owner, ir.Block) and pointer.owner.name == "llvm.getelementptr":
        pointer = pointer.owner.operands[0]
    return pointer

"""Pass `approximate-functions`: for 16 bits, exponentials and quotients take short instructions of the processor.

In: fused kernels and the unit's precision. Out: the same, with f32 operations marked ``fastmath<afn>`` where nothing
tells numbers apart that are this close. The exact ones take some 20 instructions, divisions and roots a subroutine
besides: a softmax or SiLU at the speed of memory has no room for that.
"""

from __future__ import annotations

from mlir import ir

from ...dialects.tensors import element_of
from ..unit import Unit, register_pass
from .plan_precision import NARROW
from .rewriting import functions, inner_operations

# Relative errors in f32: a quotient 2 units in the last place, a root 1, an exponential |x| * 2^-23. The narrow types
# that values are stored in have 2^-11 and 2^-8. Tiny exponentials (below 2^-126) are zero.
APPROXIMATED = frozenset({"arith.divf", "math.exp", "math.exp2", "math.sqrt"})
# Where a neighbouring number may give quite another result: the quotient 6 / 3 has to be 2 before it is rounded down.
DISCRETE = frozenset(
    {"math.floor", "math.ceil", "math.round", "math.roundeven", "math.trunc", "arith.fptosi", "arith.fptoui",
     "arith.cmpf", "arith.remf", "arith.bitcast"}
)  # fmt: skip


@register_pass("approximate-functions", requires="kernels", ensures="kernels")
def approximate_functions(unit: Unit) -> None:
    """Mark what lowering may approximate.

    before: %e = math.exp %x : f32;  %y = arith.divf %a, %b : f32;  %i = math.floor %y
    after:  %e = math.exp %x fastmath<afn> : f32, the division as it was, since it is rounded

    With precision f16 and bf16 that is in every kernel; with `model` in those that store floats in 16 bits only.
    """
    with unit.module.context:
        allowed = ir.Attribute.parse("#arith.fastmath<afn>")
        for function in functions(unit.module).values():
            if not may_be_approximate(unit, function):
                continue
            exact: dict[ir.Value, bool] = {}
            for inner in inner_operations(function):
                if inner.name not in APPROXIMATED or str(inner.results[0].type) != "f32":
                    continue
                if not is_told_apart(inner.results[0], exact):
                    inner.attributes["fastmath"] = allowed


def may_be_approximate(unit: Unit, function: ir.Operation) -> bool:
    """Whether functions in this kernel need not be exact to the last bits of f32."""
    return unit.precision in NARROW or (unit.precision == "model" and _stores_halves(function))


def _stores_halves(function: ir.Operation) -> bool:
    """Whether it is a kernel that stores floats, all of them in 16 bits."""
    if "graph.kernel" not in function.attributes:
        return False
    kind = ir.FunctionType(ir.TypeAttr(function.attributes["function_type"]).value)
    stored = {element_of(result) for result in kind.results}
    return not stored.isdisjoint(NARROW) and stored.isdisjoint(("f32", "f64"))


def is_told_apart(value: ir.Value, known: dict[ir.Value, bool]) -> bool:
    """True when the value reaches a discrete operation of its function, or is carried through a loop, which might."""
    if value not in known:
        known[value] = any(
            use.owner.operation.name in DISCRETE or _passes_on(use.owner.operation, known) for use in value.uses
        )
    return known[value]


def _passes_on(user: ir.Operation, known: dict[ir.Value, bool]) -> bool:
    """An operand goes into the operation's results; that of a yield into those of the operation around."""
    results = list(user.results)
    if not results and user.name in ("gpu.yield", "scf.yield", "scf.condition"):
        around = user.parent.operation
        if around.name in ("scf.for", "scf.while"):
            return True
        results = list(around.results)
    return any(is_told_apart(result, known) for result in results)

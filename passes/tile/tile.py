"""The pass `tile`: every kernel function becomes a tile program.

In: @main calling private functions with a kind. Out: `unit.kernels`, one `KernelProgram` a function, or one for each
range of its sizes; functions whose programs differ in sizes only have one name and text together. The functions stay,
because host planning reads their signatures.
"""

from __future__ import annotations

from collections.abc import Mapping

from mlir import ir

from ...runtime.errors import Error, InternalError
from ..graph.rewriting import functions, string
from ..target import find_target
from ..unit import KernelProgram, Unit, register_pass
from .constant_arguments import constant_arguments
from .elements import load_rules
from .programs import PROGRAMS, Request
from .schedule import typical_sizes
from .share_programs import groups_alike, share


@register_pass("tile", requires="kernels", ensures="tile")
def tile(unit: Unit) -> None:
    """Turn every kernel function into a tile program.

    before: func.func private @loop_0(%x: tensor<...>) -> tensor<...> attributes {graph.kernel = "loop"}
    after:  unit.kernels["loop_0"], a func.func over memrefs in the tile dialect
    """
    load_rules()
    constants = constant_arguments(unit.module)
    with unit.module.context, ir.Location.unknown(), typical_sizes(unit.hints):
        kernels = [own for own in functions(unit.module).values() if "graph.kernel" in own.attributes]
        groups = [[own] for own in kernels] if unit.tuning.apart else groups_alike(kernels)
        for group in groups:
            programs = share([_program(unit, function, constants) for function in group])
            for function, program in zip(group, programs, strict=True):
                unit.kernels[string(function, "sym_name")] = program
                unit.kernels.update({own.name: own for own in program.alternatives})
            if unit.on_kernel:
                for own in {own.name: own for made in programs for own in (made, *made.alternatives)}.values():
                    unit.on_kernel(own)


def _program(unit: Unit, function: ir.Operation, constants: Mapping[str, frozenset[int]]) -> KernelProgram:
    """The tile program of one kernel function; `constants` has the arguments that are weights. Raises InternalError for
    a kind that has no program.
    """
    kind, name = string(function, "graph.kernel"), string(function, "sym_name")
    if kind not in PROGRAMS:
        raise InternalError(f"kernel {name}: no tile program for kind {kind!r}; known: {sorted(PROGRAMS)}")
    known = constants.get(name, frozenset())
    try:
        return PROGRAMS[kind](Request(function, name, find_target(unit.target), unit.precision, unit.tuning, known))
    except Error as error:
        raise type(error)(f"{error}\nwhile tiling kernel {name}:\n{function}") from None

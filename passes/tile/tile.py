"""The pass `tile`: every kernel function becomes a tile program.

In: @main calling private functions with a kind. Out: `unit.kernels`, one `KernelProgram` a function, or one for each
range of its sizes; the functions stay, because host planning reads their signatures.
"""

from __future__ import annotations

from mlir import ir

from ...runtime.errors import Error, InternalError
from ..target import find_target
from ..unit import Unit, register_pass
from .elements import load_rules
from .programs import PROGRAMS, Request
from .schedule import typical_sizes


@register_pass("tile", requires="kernels", ensures="tile")
def tile(unit: Unit) -> None:
    """Turn every kernel function into a tile program.

    before: func.func private @loop_0(%x: tensor<...>) -> tensor<...> attributes {graph.kernel = "loop"}
    after:  unit.kernels["loop_0"], a func.func over memrefs in the tile dialect
    """
    load_rules()
    target = find_target(unit.target)
    with unit.module.context, ir.Location.unknown(), typical_sizes(unit.hints):
        for view in unit.module.body.operations:
            function = view.operation
            if function.name != "func.func" or "graph.kernel" not in function.attributes:
                continue
            kind = ir.StringAttr(function.attributes["graph.kernel"]).value
            name = ir.StringAttr(function.attributes["sym_name"]).value
            if kind not in PROGRAMS:
                raise InternalError(f"kernel {name}: no tile program for kind {kind!r}; known: {sorted(PROGRAMS)}")
            try:
                program = PROGRAMS[kind](Request(function, name, target, unit.precision, unit.tuning))
            except Error as error:
                raise type(error)(f"{error}\nwhile tiling kernel {name}:\n{function}") from None
            for own in (program, *program.alternatives):
                unit.kernels[own.name] = own
                if unit.on_kernel:
                    unit.on_kernel(own)

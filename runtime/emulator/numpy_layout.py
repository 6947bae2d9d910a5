"""Where a kernel's variables lie, and in which dtype the NumPy engine keeps each register.

In: a `control_flow.Program`. Out: a `Layout` and a list of dtypes. Why: both are decided once per kernel, before any
code is generated.
"""

from __future__ import annotations

from .control_flow import Program, uses_and_definitions
from .numpy_operations import DTYPES
from .ptx import Instruction, Register

_FLOAT_VOTERS = frozenset({
    "add", "sub", "mul", "mad", "fma", "div", "min", "max", "abs", "neg", "rcp", "sqrt", "rsqrt", "ex2", "lg2", "sin",
    "cos", "tanh", "setp", "copysign", "testp", "ld", "st", "mov", "selp",
})  # fmt: skip


class Layout:
    """Places of variables: shared (dynamic arrays after the static ones), local frame, kernel parameters."""

    def __init__(self, program: Program, addresses: dict[str, int]) -> None:
        self.addresses = addresses
        self.variables = {**program.module.variables, **program.variables}
        self.offsets: dict[str, int] = {}
        sizes = {"shared": 0, "local": 0}
        parameters = {variable.name for variable in program.parameters}
        self.parameter_offsets: dict[str, int] = {}
        self.parameter_bytes = 0
        for variable in program.parameters:
            start = _aligned(self.parameter_bytes, variable.alignment)
            self.parameter_offsets[variable.name] = start
            self.parameter_bytes = start + variable.nbytes
        dynamic = []
        for name, variable in self.variables.items():
            space = "local" if variable.space == "param" else variable.space
            if space not in sizes or name in parameters:
                continue
            if variable.external and variable.nbytes == 0:
                dynamic.append((name, variable))
                continue
            self.offsets[name] = _aligned(sizes[space], variable.alignment)
            sizes[space] = self.offsets[name] + variable.nbytes
        alignment = max((variable.alignment for _, variable in dynamic), default=1)
        sizes["shared"] = _aligned(sizes["shared"], alignment)
        for name, _ in dynamic:
            self.offsets[name] = sizes["shared"]
        self.static_shared, self.local_bytes = sizes["shared"], sizes["local"]


def _aligned(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment


def register_dtypes(program: Program) -> list[str]:
    """The dtype each register is kept in: its own, but untyped ones that mostly hold floats are kept as
    floats.
    """
    votes = dict.fromkeys(program.register_numbers, 0)
    for block in program.blocks:
        for instruction in block.instructions:
            for name, is_float in _votes(instruction):
                votes[name] += 1 if is_float else -1
    dtypes = []
    for name, declared in zip(program.register_numbers, program.register_types, strict=True):
        dtype = DTYPES.get(declared, "u8")
        if declared in ("b32", "b64") and votes[name] > 0:
            dtype = "f" + dtype[1]
        elif dtype[0] == "i":
            dtype = "u" + dtype[1]
        dtypes.append(dtype)
    return dtypes


def _votes(instruction: Instruction) -> list[tuple[str, bool]]:
    opcode, types = instruction.opcode, instruction.types
    if opcode in ("mma", "wgmma") and types:
        used = [*uses_and_definitions(instruction)[1]]
        return [(name, types[0] == "f32") for name in used]
    operands = instruction.operands
    if opcode == "cvt" and len(types) == 2:
        kinds = [kind in ("f32", "f64", "tf32") for kind in types]
    elif opcode in _FLOAT_VOTERS and types:
        if opcode in ("ld", "st", "mov", "selp") and types[-1][0] == "b":
            return []
        kinds = [types[-1] in ("f32", "f64")] * len(operands)
    else:
        kinds = [False] * len(operands)
    return [
        (operand.name, kind) for operand, kind in zip(operands, kinds, strict=False) if isinstance(operand, Register)
    ]

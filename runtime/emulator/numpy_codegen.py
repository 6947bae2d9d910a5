"""Code generation of the NumPy engine: one Python function per basic block.

In: a `control_flow.Program`. Out: a `Compiled`: the functions, and where shared and local variables lie. Why:
interpreting each instruction would cost more than its arithmetic; generated source keeps registers in Python
locals and frees them when dead.

A block function takes (R, T, m, k): register list, chunk, mask of active threads or None, and None or the bit
set of registers that other threads still need. Arithmetic runs for all threads; memory and warp routines obey
m; at the end, registers in k are merged under m and all others simply replaced, so that values shared by all
threads stay scalars through divergent code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from ..errors import DeviceError
from . import numpy_observed
from .control_flow import CARRY, Block, Program, uses_and_definitions
from .isa import table
from .isa.barrier import wait_operands
from .numpy_chunk import Chunk, Mask, Values
from .numpy_layout import Layout, register_dtypes
from .numpy_operations import CONSTANTS, DTYPES, conversion, fma_f32, resolve
from .numpy_outer import OuterProduct, find_outer_products, fma_outer, stack
from .numpy_registers import BlockRegisters
from .numpy_routines import ROUTINES
from .ptx import (
    TYPE_BITS,
    Address,
    Discard,
    Immediate,
    Instruction,
    Negated,
    Operand,
    Register,
    Special,
    Symbol,
    Variable,
)

BlockFunction = Callable[[list[Values], Chunk, Mask, "int | None"], Any]
# Pure conversions worth remembering until their register changes.
_REMEMBERED = frozenset({"f16_to_f32", "bf16_to_f32", "low_half", "high_half"})


@dataclass(slots=True)
class Compiled:
    """A kernel ready to run. `offsets` gives the place of shared and local variables in their memories."""

    program: Program
    functions: list[BlockFunction]
    initial: list[Values]
    offsets: dict[str, int]
    static_shared: int
    local_bytes: int
    parameter_offsets: dict[str, int]
    parameter_bytes: int
    atomics: bool
    source: str


def compile_program(program: Program, addresses: dict[str, int], observed: bool = False) -> Compiled:
    """Generate and compile every block; `addresses` are those of module variables in global memory. The code of an
    `observed` kernel tells its chunk's observer what it does.
    """
    layout = Layout(program, addresses)
    dtypes = register_dtypes(program)
    names: dict[str, Any] = {
        "np": np, "where": np.where, "merge": _merge, "guard": _guard, **CONSTANTS,
        **{name: np.dtype(name) for name in ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8")},
        **ROUTINES, "call_undefined": _call_undefined, "stack": stack, "fma_outer": fma_outer,
    }  # fmt: skip
    if observed:
        names |= numpy_observed.ROUTINES
    lines: list[str] = []
    for block in program.blocks:
        generator = _BlockGenerator(program, block, dtypes, layout, names, observed)
        lines += generator.generate()
    source = "\n".join(lines)
    exec(compile(source, f"<emulated {program.name}>", "exec"), names)
    functions = [names[f"block_{block.number}"] for block in program.blocks]
    initial = [np.zeros((), dtype)[()] for dtype in dtypes]
    return Compiled(
        program, functions, initial, layout.offsets, layout.static_shared, layout.local_bytes,
        layout.parameter_offsets, layout.parameter_bytes,
        any(instruction.opcode in ("atom", "red") for block in program.blocks for instruction in block.instructions),
        source,
    )  # fmt: skip


# Called by generated code.
def _merge(registers: list[Values], needed: int, mask: Mask, values: tuple[tuple[int, Values], ...]) -> None:
    """Store block results; registers that waiting threads still need change under the mask only."""
    for number, value in values:
        if needed >> number & 1:
            old = registers[number]
            if value is not old:
                registers[number] = np.where(mask, value, old)
        else:
            registers[number] = value


def _guard(predicate: Values, mask: Mask) -> tuple[Any, Mask]:
    """For `@p`: (False, _) when no active thread has it, (True, mask) when all have, else (p, p & mask)."""
    if predicate.ndim == 0:
        return bool(predicate), mask
    chosen = predicate if mask is None else predicate & mask
    if not chosen.any():
        return False, mask
    if predicate.all():
        return True, mask
    return predicate, chosen


def _call_undefined(chunk: Chunk, mask: Mask, line: int, *, name: str, count: int) -> tuple[()]:
    thread = 0 if mask is None else int(mask.argmax())
    if name == "__assertfail":
        chunk.fault(line, "device assertion failed", thread)
    chunk.fault(line, f"call of function {name!r}, which has no body in this module", thread)


class _BlockGenerator(BlockRegisters):
    """The `Emitter` of this engine; values are Python expressions."""

    def __init__(
        self, program: Program, block: Block, dtypes: list[str], layout: Layout, names: dict[str, Any], observed: bool
    ) -> None:
        super().__init__(program.register_numbers, dtypes)
        self.program = program
        self.block = block
        self.layout = layout
        self.names = names
        self.observed = observed
        self.mask = "m"
        self.temporaries = 0
        self.instruction = Instruction("", (), (), None, False, 0)

    # The function around the instructions.
    def generate(self) -> list[str]:
        block = self.block
        last_use = self._last_uses()
        semantics = table()
        groups = find_outer_products(block.instructions)
        position = 0
        while position < len(block.instructions):
            instruction = self.instruction = block.instructions[position]
            self.temporaries = 0
            group, end = groups.get(position), position + 1
            found = semantics.get(instruction.opcode)
            if group is not None:
                self._outer_product(group)
                end = group.end
            elif found is None:
                self.unsupported("this instruction")
            else:
                self._instruction(instruction, self._semantics(found.semantics))
            for done in range(position, end):
                for name in last_use.get(done, ()):
                    self._drop_row(int(name[1:]))
                    self._forget(name)
                    self.line(f"{name} = None")
            position = end
        result = self._exit_value()
        self._store_results()
        self.line(f"return {result}")
        header = [f"def block_{block.number}(R, T, m, k):"]
        if self.observed:
            header.append(f" T.observer.executed({block.number}, m)")
        header += [f" r{number} = R[{number}]" for number in sorted(self.loaded)]
        return header + self.lines

    def _last_uses(self) -> dict[int, list[str]]:
        """Registers that die in this block, by the position of their last appearance."""
        final: dict[str, int] = {}
        for position, instruction in enumerate(self.block.instructions):
            for part in uses_and_definitions(instruction):
                final.update(dict.fromkeys(part, position))
        ender = self.block.exit.instruction
        kept = set(uses_and_definitions(ender)[0]) if ender is not None else set()
        by_position: dict[int, list[str]] = {}
        for name, position in final.items():
            number = self.numbers[name]
            if not self.block.live_out >> number & 1 and name not in kept:
                by_position.setdefault(position, []).append(f"r{number}")
        return by_position

    def _instruction(self, instruction: Instruction, semantics: Callable[[Instruction, Any], None]) -> None:
        if instruction.guard is None:
            semantics(instruction, self)
            return
        predicate = self._register(instruction.guard)
        # Whatever the instruction mentions must exist outside the conditional code.
        for part in uses_and_definitions(instruction):
            for name in part:
                self._use(self.numbers[name])
        self.line(f"q, n = guard({'~' if instruction.guard_negated else ''}{predicate}, m)")
        self.line("if q is not False:")
        outside = dict(self.remembered)
        self.indent, self.mask, self.guarded = "  ", "n", True
        start = len(self.lines)
        semantics(instruction, self)
        if len(self.lines) == start:
            self.line("pass")
        self.indent, self.mask, self.guarded = " ", "m", False
        self.remembered = {key: value for key, value in outside.items() if key in self.remembered}

    def _semantics(self, plain: Callable[[Instruction, Any], None]) -> Callable[[Instruction, Any], None]:
        """The semantics, with word to the observer after them where the kernel is observed."""
        call = numpy_observed.call_after(self.instruction) if self.observed else ""
        if not call:
            return plain

        def observed(instruction: Instruction, emit: Any) -> None:
            plain(instruction, emit)
            self.line(call.format(mask=self.mask))

        return observed

    def _exit_value(self) -> str:
        block_exit = self.block.exit
        ender = block_exit.instruction
        if ender is None:
            return "None"
        if block_exit.kind == "branch":
            assert ender.guard is not None
            return ("~" if ender.guard_negated else "") + self._register(ender.guard)
        if block_exit.kind == "switch":
            return self.read(ender.operands[0], "u32")
        if block_exit.kind == "wait":
            return self._wait_value(ender)
        if block_exit.kind == "barrier":
            operands = ender.operands[1:] if ender.has("red") else ender.operands
            parts = [self.read(operand, "u32") for operand in operands if not self._is_predicate(operand)]
            predicates = [self.read(operand, "pred") for operand in operands if self._is_predicate(operand)]
            return f"(({', '.join(parts)}{',' if parts else ''}), {predicates[0] if predicates else None})"
        return "None"

    def _wait_value(self, ender: Instruction) -> str:
        """What `numpy_waits.ready` gets: address and token or parity of mbarrier.try_wait."""
        if ender.opcode != "mbarrier":
            return "()"
        place, token, parity = wait_operands(ender)
        assert isinstance(place, Address)
        return f"({self.address(place)}, {self.read(token, 'u32' if parity else 'b64')})"

    def _is_predicate(self, operand: Operand) -> bool:
        return isinstance(operand, Negated) or self.is_predicate(operand)

    def is_predicate(self, operand: Operand) -> bool:
        return isinstance(operand, Register) and self.dtypes[self.numbers[operand.name]] == "?"

    def _store_results(self) -> None:
        numbers = [number for number in sorted(self.written) if self.block.live_out >> number & 1]
        if not numbers:
            return
        for number in numbers:
            self._use(number)
        self.line("if k is None:")
        self.line(" " + "; ".join(f"R[{number}] = r{number}" for number in numbers))
        self.line("else:")
        self.line(f" merge(R, k, m, ({' '.join(f'({number}, r{number}),' for number in numbers)}))")

    # The Emitter API.
    def unsupported(self, reason: str) -> NoReturn:
        instruction = self.instruction
        raise DeviceError(
            f"emulator: {instruction.name}: {reason} is not supported by the emulator\n  kernel {self.program.name}\n"
            f"  PTX line {instruction.line}: {self.program.module.text(instruction.line)}"
        )

    def read(self, operand: Operand, type: str) -> str:
        dtype = DTYPES.get(type)
        if dtype is None:
            self.unsupported(f"type {type}")
            raise AssertionError
        if isinstance(operand, Register):
            return self._as_dtype(self._register(operand), self.dtypes[self.numbers[operand.name]], dtype)
        if isinstance(operand, Negated):
            return f"(~{self.read(operand.operand, type)})"
        if isinstance(operand, Immediate):
            return self._immediate(operand, dtype)
        if isinstance(operand, Special):
            name = operand.name + ("." + operand.component if operand.component else "")
            kind = {"%clock64": "u8", "%globaltimer": "u8", "%gridid": "u8", "%is_explicit_cluster": "?"}
            return self._as_dtype(f"T.special[{name!r}]", kind.get(operand.name, "u4"), dtype)
        if isinstance(operand, Symbol):
            literal = self._literal(dtype, self._symbol_address(operand.name))
            return f"(T.windows[{dtype!r}] | {literal})" if self._is_shared(operand) else literal
        if isinstance(operand, Address):
            return self.address(operand)
        self.unsupported("this operand")
        raise AssertionError

    def _outer_product(self, group: OuterProduct) -> None:
        """One call for a group of multiply-adds; the results stay rows of one array until somebody wants one."""
        rows, columns = (self._stack("f8", part) for part in (group.rows, group.columns))
        accumulators = self._stack("f4", group.accumulators)
        result = self._new_stack(f"fma_outer(T, {rows}, {columns}, {accumulators})")
        self._assign_rows(result, group.targets, ("stack", "f4"))

    def update(
        self, routine: str, operands: Sequence[Operand], type: str, values: Sequence[str], **static: Any
    ) -> None:
        keywords = "".join(f", {key}={value!r}" for key, value in static.items())
        registers = [operand for operand in operands if isinstance(operand, Register)]
        # What the same routine gave for the same registers just before, or an array of their values.
        key = (routine, *(f"r{self.numbers[register.name]}" for register in registers))
        before = self.remembered.get(key) or self._stack("f4", operands)
        arguments = "".join(f", {value}" for value in (before, *values))
        result = self._new_stack(f"{routine}(T, {self.mask}, {self.instruction.line}{arguments}{keywords})")
        if self.guarded or len(registers) < len(operands):
            for index, operand in enumerate(operands):
                self.write(operand, "f32", f"{result}[{index}]")
        else:
            self._assign_rows(result, registers, (routine,))

    def _immediate(self, operand: Immediate, dtype: str) -> str:
        if dtype == "?":
            return self._literal("?", operand.bits != 0)
        if operand.width and dtype[0] != "f":
            return self._literal(dtype, operand.bits)
        if operand.width:
            value = np.array(operand.bits, f"u{operand.width // 8}").view(f"f{operand.width // 8}")
            return self._literal(dtype, float(value)) if float(value) == float(value) else self._nan(dtype)
        return self._literal(dtype, operand.bits)

    def _nan(self, dtype: str) -> str:
        return self._literal(dtype, float("nan"))

    def _literal(self, dtype: str, number: float) -> str:
        if dtype == "?":
            value: Any = np.bool_(number)
        elif dtype[0] == "f":
            value = np.dtype(dtype).type(number)
        else:
            width = 8 * int(dtype[1])
            value = np.array(int(number) & ((1 << width) - 1), f"u{dtype[1]}").view(dtype)[()]
        key = f"c_{dtype if dtype != '?' else 'p'}_{value.tobytes().hex()}"
        self.names[key] = value
        return key

    def _symbol_address(self, name: str) -> int:
        layout = self.layout
        if name in layout.offsets:
            return layout.offsets[name]
        if name in layout.addresses:
            return layout.addresses[name]
        if name in layout.parameter_offsets:
            return layout.parameter_offsets[name]
        return self.unsupported(f"the address of {name!r}")

    def write(self, operand: Operand, type: str, value: str) -> None:
        if isinstance(operand, Discard):
            return
        if not isinstance(operand, Register):
            self.unsupported("a destination that is not a register")
            raise AssertionError
        number = self.numbers[operand.name]
        if not self.guarded:
            self._drop_row(number)
        name, have, want = f"r{number}", DTYPES[type], self.dtypes[number]
        if have != want:
            if have[1:] == want[1:]:
                value = f"{value}.view({want})"
            elif want[0] == "f":
                value = f"{value}.astype(u{want[1:]}).view({want})"
            else:
                value = f"{value}.astype({want})"
        if self.guarded:
            old = self._use(number)
            temporary = self.bind(value)
            self.line(f"{name} = {temporary} if q is True else where(q, {temporary}, {old})")
        else:
            self.line(f"{name} = {value}")
        self._forget(name)
        self.written.add(number)

    def constant(self, type: str, number: float) -> str:
        return self._literal(DTYPES[type], number)

    def bind(self, value: str) -> str:
        if value.isidentifier():
            return value
        self.temporaries += 1
        name = f"t{self.temporaries}"
        self.line(f"{name} = {value}")
        return name

    def apply(self, operation: str, type: str, *values: str) -> str:
        if operation == "fma" and type == "f32":
            return self._fma_f32(*values)
        try:
            found = resolve(operation, type)
        except KeyError as error:
            self.unsupported(f"operation {error.args[0]}")
            raise AssertionError from None
        if isinstance(found, str):
            return found.format(*values, **DTYPES)
        name = f"f_{operation}_{type}"
        self.names[name] = found
        expression = f"{name}({', '.join(values)})"
        if operation in _REMEMBERED and _is_register(values[0]):
            return self.remember((operation, values[0]), expression, self._sources(values[0]))
        return expression

    def _fma_f32(self, a: str, b: str, c: str) -> str:
        """Factors in f64 are remembered: in a matrix product each is used many times."""
        wide = []
        for value in (a, b):
            if _is_register(value):
                wide.append(self.remember(("f64", value), f"{value}.astype(f8)", self._sources(value)))
            else:
                wide.append(f"{value}.astype(f8)")
        self.names["f_fma_f32"] = fma_f32
        return f"f_fma_f32(T.scratch, {wide[0]}, {wide[1]}, {c})"

    def convert(self, source: str, target: str, value: str) -> str:
        return conversion(source, target).format(value)

    def call(self, routine: str, results: Sequence[str], values: Sequence[str], **static: Any) -> list[str]:
        if routine == "get_carry":
            return [self.read(Register(CARRY), "pred")]
        if routine == "set_carry":
            self.write(Register(CARRY), "pred", values[0])
            return []
        if routine == "mma":
            return self._mma(values, **static)
        names = []
        for _ in results:
            self.temporaries += 1
            names.append(f"t{self.temporaries}")
        keywords = "".join(
            f", {key}={value!r}" for key, value in {**static, "count": static.get("count", len(results))}.items()
        )
        arguments = "".join(f", {value}" for value in values)
        target = f"{', '.join(names)}, = " if names else ""
        self.line(f"{target}{routine}(T, {self.mask}, {self.instruction.line}{arguments}{keywords})")
        return names

    def _mma(
        self, values: Sequence[str], counts: tuple[int, int, int], a: str, b: str, c: str, **options: bool
    ) -> list[str]:
        split = counts[0], counts[0] + counts[1]
        matrices = []
        for routine, type, part in (
            ("fragment_a", a, values[: split[0]]),
            ("fragment_b", b, values[split[0] : split[1]]),
        ):
            expression = f"{routine}(T, {type!r}, ({', '.join(part)},))"
            if all(_is_register(value) for value in part):
                sources = [register for value in part for register in self._sources(value)]
                matrices.append(self.remember((routine, type, *part), expression, sources))
            else:
                matrices.append(self.bind(expression))
        self.temporaries += counts[2]
        names = [f"t{self.temporaries - index}" for index in range(counts[2])]
        accumulators = ", ".join(values[split[1] :])
        arguments = f"T, {self.mask}, {self.instruction.line}, {matrices[0]}, {matrices[1]}, {accumulators}, c={c!r}"
        arguments += "".join(f", {key}={value!r}" for key, value in options.items())
        self.line(f"{', '.join(names)}, = multiply_fragments({arguments})")
        return names

    def address(self, operand: Address) -> str:
        base = operand.base
        if isinstance(base, Register):
            dtype = self.dtypes[self.numbers[base.name]]
            unsigned = f"u{dtype[1:]}"
            value = self.read(base, "u32" if unsigned == "u4" else "u64")
            if not operand.offset:
                return value
            return f"({value} + {self._literal(unsigned, operand.offset)})"
        if isinstance(base, Immediate):
            return self._literal("u8", base.bits + operand.offset)
        if isinstance(base, Symbol):
            return self._literal("u8", self._symbol_address(base.name) + operand.offset)
        return self.unsupported("this address")

    def variable(self, operand: Operand) -> Variable | None:
        return self.layout.variables.get(operand.name) if isinstance(operand, Symbol) else None

    def _is_shared(self, symbol: Symbol) -> bool:
        variable = self.layout.variables.get(symbol.name)
        return variable is not None and variable.space == "shared"

    def parameter_offset(self, name: str) -> int | None:
        return self.layout.parameter_offsets.get(name)


def _is_register(value: str) -> bool:
    """Whether an expression is a register or a remembered conversion of one, whose value outlives the
    instruction.
    """
    return value[0] in "rv" and value[1:].isdigit()


__all__ = ["TYPE_BITS", "BlockFunction", "Compiled", "compile_program"]

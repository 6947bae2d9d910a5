"""Instructions of the fast engine: the `Emitter` that writes LLVM IR for one warp.

In: a program, its layout, the block shape, what is uniform. Out: IR of each instruction, in a `Code`. Why: the table
of instructions in `isa/` is shared by all engines; this is the part that is this engine's own.

A register that all lanes share is a scalar, others are vectors of 32. Between blocks registers live in allocas, which
LLVM turns into SSA values; `values` holds what is known of them inside the current block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from .control_flow import CARRY, Program, uses_and_definitions
from .llvm_fragments import Fragments
from .llvm_groups import Group
from .llvm_module import Module, field_pointer, load_field
from .llvm_operations import apply, convert
from .llvm_routines import ROUTINES
from .llvm_special import special_register
from .llvm_values import BITS, ELEMENTS, IN_PLACE, Code, Pattern, Value, float_of_bits, type_of
from .llvm_warpgroup import multiply
from .numpy_layout import Layout
from .ptx import (
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
from .uniformity import Uniformity

Extents = tuple[int, int, int]


class Unsupported(Exception):
    """Why this engine cannot run a kernel, in one line; the NumPy engine then does."""


class Generator:
    """The `Emitter` of this engine. `mask` holds the lanes that run, None when all do."""

    def __init__(
        self, program: Program, layout: Layout, shape: Extents, module: Module, uniformity: Uniformity,
        expected: dict[int, Pattern],
    ) -> None:  # fmt: skip
        """`expected` are the patterns that varying registers probably follow."""
        self.program = program
        self.layout = layout
        self.shape = shape
        self.module = module
        self.uniformity = uniformity
        self.expected = expected
        self.numbers = program.register_numbers
        self.code = Code(module.declarations, module.wide)
        self.elements = [ELEMENTS.get(type, "i64") for type in program.register_types]
        self.elements = [_storage(element) for element in self.elements]
        self.values: dict[int, Value] = {}
        self.views: dict[tuple[int, str], Value] = {}
        self.written: set[int] = set()
        self.mask: Value | None = None
        self.guard: Value | None = None
        self.partial = False
        self.scalar = False
        self.atomics = False
        self.groups: dict[int, Group] = {}
        self.fragments = Fragments(self.numbers)
        self.tables: dict[tuple[int, ...], str] = {}
        self.instruction = Instruction("", (), (), None, False, 0)

    # Registers.
    def home_type(self, number: int) -> str:
        """Type of the alloca: predicates of lanes are kept as bit masks."""
        if self.uniformity.is_scalar(number):
            return self.elements[number]
        if self.elements[number] == "i1":
            return "i32"
        return type_of(self.elements[number], True)

    def load_home(self, number: int) -> Value:
        """The register as it came into the block."""
        wide = not self.uniformity.is_scalar(number)
        element = self.elements[number]
        loaded = self.code.emit(f"load {self.home_type(number)}, ptr %r{number}", element, wide)
        if wide and element == "i1":
            return self.code.lanes(Value(loaded.text, "i32"))
        return loaded

    def store_home(self, number: int) -> None:
        """Leave the register's value for later blocks; lanes that do not run keep theirs."""
        value = self.code.bits(self.values[number])
        if self.uniformity.is_scalar(number):
            self.code.line(f"store {value.typed}, ptr %r{number}")
            return
        value = self.code.widen(value)
        if self.partial:
            assert self.mask is not None
            value = self.code.select(self.code.lanes(self.mask), value, self.load_home(number))
        if value.element == "i1":
            value = self.code.cast_mask(value)
        self.code.line(f"store {value.typed}, ptr %r{number}")

    def register(self, number: int) -> Value:
        """The current value of a register, in whatever element it was written."""
        found = self.values.get(number)
        if found is None:
            found = self.values[number] = self.load_home(number)
        return found

    def base(self, number: int, element: str) -> Value:
        """Lane 0's value of a register that is kept as such, or the shared value."""
        return self._view(number, element)

    def _view(self, number: int, element: str) -> Value:
        """The register as `element`; conversions are made once per block."""
        value = self.register(number)
        if value.element == element:
            return value
        key = (number, element)
        found = self.views.get(key)
        if found is None:
            if BITS[value.element] == BITS[element]:
                found = self.code.cast("bitcast", value, element)
            else:
                bits = self.code.resize(self.code.bits(value), f"i{BITS[element]}")
                found = self.code.cast("bitcast", bits, element)
            self.views[key] = found
        return found

    def _spread(self, number: int, element: str) -> Value:
        """The value of each lane of a register of which lane 0's is kept."""
        key = (number, "wide " + element)
        found = self.views.get(key)
        if found is None:
            first = self._view(number, self.elements[number])
            pattern = self.uniformity.patterns[number]
            wide = self.code.widen(Value(first.text, first.element, False, pattern))
            found = Value(wide.text, wide.element, True)
            if BITS[found.element] == BITS[element]:
                found = self.code.cast("bitcast", found, element)
            else:
                found = self.code.cast("bitcast", self.code.resize(found, f"i{BITS[element]}"), element)
            self.views[key] = found
        return found

    def begin(self, instruction: Instruction) -> None:
        """What follows belongs to `instruction`. It is computed for lane 0 alone when that tells all lanes."""
        self.instruction = instruction
        defined = uses_and_definitions(instruction)[1]
        self.scalar = bool(defined) and all(self.uniformity.is_scalar(self.numbers[name]) for name in defined)

    def begin_block(self) -> None:
        """Forget values of the block before."""
        self.values.clear()
        self.views.clear()
        self.written.clear()

    # The Emitter API.
    def unsupported(self, reason: str) -> NoReturn:
        raise Unsupported(f"{self.instruction.name} ({reason}, PTX line {self.instruction.line})")

    def read(self, operand: Operand, type: str) -> Value:
        element = ELEMENTS.get(type)
        if element is None:
            self.unsupported(f"type {type}")
        if isinstance(operand, Register):
            number = self.numbers[operand.name]
            if self.scalar or number not in self.uniformity.patterns:
                return self._view(number, element)
            return self._spread(number, element)
        if isinstance(operand, Negated):
            return apply(self.code, "not", type, (self.read(operand.operand, type),))
        if isinstance(operand, Immediate):
            return self._immediate(operand, element)
        if isinstance(operand, Special):
            return self.code.resize(special_register(self, operand), element)
        if isinstance(operand, Symbol):
            return self.code.integer(element, self._symbol_address(operand.name))
        if isinstance(operand, Address):
            return self.address(operand)
        return self.unsupported("this operand")

    def _immediate(self, operand: Immediate, element: str) -> Value:
        if element not in ("float", "double"):
            return self.code.integer(element, operand.bits)
        if not operand.width:
            return self.code.real(element, float(operand.bits))
        have = "float" if operand.width == 32 else "double"
        literal = Value(float_of_bits(operand.bits, have), element)
        if have == "double" and element == "float":
            return self.code.cast("fptrunc", Value(literal.text, "double"), "float")
        return literal

    def _symbol_address(self, name: str) -> int:
        layout = self.layout
        for places in (layout.offsets, layout.addresses, layout.parameter_offsets):
            if name in places:
                return places[name]
        return self.unsupported(f"the address of {name!r}")

    def write(self, operand: Operand, type: str, value: Value) -> None:
        if isinstance(operand, Discard) or value is IN_PLACE:
            return
        if not isinstance(operand, Register):
            self.unsupported("a destination that is not a register")
        number = self.numbers[operand.name]
        want = self.elements[number]
        if BITS[value.element] != BITS[want]:
            value = self.code.resize(self.code.bits(value), want, type[0] == "s")
        if self.guard is not None:
            old = self._view(number, value.element)
            value = self.code.select(self.guard, value, old)
        if self.uniformity.is_scalar(number) and value.wide:
            value = self.code.lane(value, self.first_lane())
        self.values[number] = value
        self.written.add(number)
        for key in [key for key in self.views if key[0] == number]:
            del self.views[key]

    def first_lane(self) -> int | str:
        """A lane that runs."""
        if self.mask is None:
            return 0
        return self.code.intrinsic("cttz", "i32", self.mask, flags="i1 false").text

    def update(
        self, routine: str, operands: Sequence[Operand], type: str, values: Sequence[Value], **static: Any
    ) -> None:
        if routine != "warpgroup_multiply":
            self.unsupported(f"routine {routine}")
        multiply(self, operands, values, **static)

    def constant(self, type: str, number: float) -> Value:
        element = ELEMENTS[type]
        if element in ("float", "double"):
            return self.code.real(element, float(number))
        return self.code.integer(element, int(number))

    def bind(self, value: Value) -> Value:
        return value

    def apply(self, operation: str, type: str, *values: Value) -> Value:
        try:
            return apply(self.code, operation, type, values)
        except KeyError:
            self.unsupported(f"operation {operation} on {type}")

    def convert(self, source: str, target: str, value: Value) -> Value:
        return convert(self.code, source, target, value)

    def call(self, routine: str, results: Sequence[str], values: Sequence[Value], **static: Any) -> list[Value]:
        if routine == "get_carry":
            return [self.read(Register(CARRY), "pred")]
        if routine == "set_carry":
            self.write(Register(CARRY), "pred", values[0])
            return []
        found = ROUTINES.get(routine)
        if found is None or not ELEMENTS.keys() >= {*results, static.get("type", "b32")}:
            self.unsupported(f"routine {routine}")
        return found(self, results, values, **static)

    def is_predicate(self, operand: Operand) -> bool:
        return isinstance(operand, Register) and self.elements[self.numbers[operand.name]] == "i1"

    def address(self, operand: Address) -> Value:
        base = operand.base
        if isinstance(base, Register):
            number = self.numbers[base.name]
            value = self._view(number, "i32" if BITS[self.elements[number]] == 32 else "i64")
            if operand.offset:
                offset = self.code.integer(value.element, operand.offset)
                value = self.code.binary("add", value, offset)
            known = self.uniformity.patterns if self.uniformity.is_scalar(number) else self.expected
            return Value(value.text, value.element, value.wide, known.get(number))
        if isinstance(base, Immediate):
            return self.code.integer("i64", base.bits + operand.offset)
        if isinstance(base, Symbol):
            return self.code.integer("i64", self._symbol_address(base.name) + operand.offset)
        return self.unsupported("this address")

    def variable(self, operand: Operand) -> Variable | None:
        return self.layout.variables.get(operand.name) if isinstance(operand, Symbol) else None

    def parameter_offset(self, name: str) -> int | None:
        return self.layout.parameter_offsets.get(name)

    # For routines.
    def places_of(self, numbers: Sequence[int]) -> str:
        """A table of the places of registers, for a routine that changes them there."""
        self.settle(numbers)
        return self.tables.setdefault(tuple(numbers), f"%table{len(self.tables)}")

    def settle(self, numbers: Sequence[int]) -> None:
        """Have registers in their places, which a routine is about to change: nothing is known of them any more."""
        for number in numbers:
            if number in self.written:
                self.store_home(number)
                self.written.discard(number)
            self.values.pop(number, None)
        changed = frozenset(numbers)
        for key in [key for key in self.views if key[0] in changed]:
            del self.views[key]

    def group(self) -> Group | None:
        """The group of accesses that the current instruction belongs to."""
        return self.groups.get(id(self.instruction))

    def active(self) -> Value:
        """The lanes that execute this instruction, as a bit mask; -1 for all."""
        mask = self.mask if self.mask is not None else self.code.integer("i32", -1)
        if self.guard is None:
            return mask
        if not self.guard.wide:
            return self.code.select(self.guard, mask, self.code.integer("i32", 0))
        return self.code.binary("and", mask, self.code.cast_mask(self.guard))

    def field(self, name: str, element: str) -> Value:
        """A field of the context."""
        return load_field(self.code, name, element)

    def pointer(self, name: str) -> str:
        """Where a field of the context lies."""
        return field_pointer(self.code, name)

    def site(self, space: str, verb: str, nbytes: int) -> int:
        """A number for this access in fault records."""
        return self.module.site(self.instruction.line, space, verb, nbytes)


def _storage(element: str) -> str:
    """Registers are kept as integers."""
    return {"float": "i32", "double": "i64"}.get(element, element)

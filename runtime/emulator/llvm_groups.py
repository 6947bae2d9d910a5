"""Shared-memory accesses of one block that lie at known distances from one register, checked together.

In: a block. Out: for each such access the group it belongs to; the check of a group, and its accesses inline. Why: the
inner loops of matrix products load dozens of rows from one base. All of them are executed, so one comparison for the
whole span is exact: if it fails, some access of the group is wrong, and which one is then found out one by one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .control_flow import Block, uses_and_definitions
from .llvm_checks import check, inside
from .llvm_memory import words_of
from .llvm_module import call, load_field
from .llvm_shuffles import is_one_to_one, load_words, plan, store_words
from .llvm_values import BITS, LANES, Pattern, Value
from .ptx import TYPE_BITS, Address, Instruction, Register, Vector

if TYPE_CHECKING:
    from .llvm_codegen import Generator

_UNIFORM: Pattern = (0,) * LANES


@dataclass(slots=True)
class Member:
    """One access: `low` and `span` are relative to the base register, in bytes; `site` is set with the check."""

    instruction: Instruction
    offset: int
    nbytes: int
    store: bool
    low: int
    span: int
    site: int = -1


@dataclass(slots=True)
class Group:
    """Accesses through one register that does not change in between."""

    base: int
    pattern: Pattern
    members: list[Member] = field(default_factory=list)
    checked: bool = False

    def member(self, instruction: Instruction) -> Member:
        """The access of an instruction."""
        return next(member for member in self.members if member.instruction is instruction)


def find_groups(emit: Generator, block: Block) -> dict[int, Group]:
    """Groups by the identity of their instructions."""
    groups: dict[int, Group] = {}
    current: dict[int, Group] = {}
    for instruction in block.instructions:
        access = _access(emit, instruction)
        if access is not None:
            base, member, pattern = access
            group = current.setdefault(base, Group(base, pattern))
            group.members.append(member)
            groups[id(instruction)] = group
        for name in uses_and_definitions(instruction)[1]:
            current.pop(emit.numbers[name], None)
    return groups


def _access(emit: Generator, instruction: Instruction) -> tuple[int, Member, Pattern] | None:
    """(base register, access, pattern) of a load or store that can be moved in runs."""
    if instruction.opcode not in ("ld", "st") or instruction.guard is not None:
        return None
    if not instruction.has("shared", "shared::cta") or instruction.has("async"):
        return None
    store = instruction.opcode == "st"
    address, value = instruction.operands[:2] if store else instruction.operands[1::-1]
    if not isinstance(address, Address) or not isinstance(address.base, Register):
        return None
    count = len(value.elements) if isinstance(value, Vector) else 1
    nbytes = TYPE_BITS[instruction.type] // 8 * count
    base = emit.numbers[address.base.name]
    if not emit.uniformity.is_scalar(base) or nbytes not in (4, 8, 16) or address.offset % nbytes:
        return None
    pattern = emit.uniformity.patterns.get(base, _UNIFORM)
    found = plan(pattern, nbytes // 4)
    if found is None or (store and not is_one_to_one(pattern)):
        return None
    return base, Member(instruction, address.offset, nbytes, store, address.offset + found.low, found.span), pattern


def check_group(emit: Generator, group: Group) -> None:
    """Once per group, before its first access: all of them lie in shared memory, or the warp ends with a finding."""
    group.checked = True
    code = emit.code
    for member in group.members:
        verb = "store" if member.store else "load"
        member.site = emit.module.site(member.instruction.line, "shared", verb, member.nbytes)
    element = "i32" if BITS[emit.elements[group.base]] == 32 else "i64"
    base = emit.base(group.base, element)
    low = min(member.low for member in group.members)
    span = max(member.low + member.span for member in group.members) - low
    lowest = code.resize(code.binary("add", base, code.integer(element, low)), "i64")
    widest = max(member.nbytes for member in group.members)
    zero = code.integer("i64", 0)
    fits = inside(code, lowest, code.integer("i64", span), zero, load_field(code, "shared_limit", "i64"))
    # Offsets and patterns are multiples of each access's own width, so that the base decides.
    bits = code.binary("and", base, code.integer(element, widest - 1))
    aligned = code.compare("icmp eq", bits, code.integer(element, 0))
    good = code.binary("and", fits, aligned)
    label = code.name()[1:]
    code.line(f"br i1 {good.text}, label %fits{label}, label %wrong{label}")
    code.label(f"wrong{label}")
    for member in group.members:
        offset = code.binary("add", base, code.integer(element, member.offset))
        pattern = None if group.pattern == _UNIFORM else group.pattern
        wide = code.resize(code.widen(Value(offset.text, offset.element, False, pattern)), "i64")
        arguments = f"ptr %context, i32 {member.site}, {wide.typed}, i32 -1, i64 {member.nbytes}"
        call(code, "i32", check(emit.module, "shared"), arguments)
    code.line("ret i32 0")
    code.label(f"fits{label}")


def _pointer(emit: Generator, group: Group, member: Member) -> str:
    code = emit.code
    element = "i32" if BITS[emit.elements[group.base]] == 32 else "i64"
    base = emit.base(group.base, element)
    address = code.resize(code.binary("add", base, code.integer(element, member.offset)), "i64")
    shared = load_field(code, "shared", "ptr")
    return code.emit(f"getelementptr i8, ptr {shared.text}, i64 {address.text}", "ptr", False).text


def load_member(emit: Generator, group: Group) -> list[Value]:
    """The words of the current instruction, one vector (or for a shared address one scalar) each."""
    if not group.checked:
        check_group(emit, group)
    member = group.member(emit.instruction)
    pointer = _pointer(emit, group, member)
    if group.pattern == _UNIFORM:
        _, count = words_of(member.nbytes)
        words = []
        for index in range(count):
            place = emit.code.name()
            emit.code.line(f"{place} = getelementptr i32, ptr {pointer}, i64 {index}")
            words.append(emit.code.emit(f"load i32, ptr {place}", "i32", False))
        return words
    found = plan(group.pattern, member.nbytes // 4)
    assert found is not None
    return load_words(emit.code, pointer, found)


def store_member(emit: Generator, group: Group, words: list[Value]) -> None:
    """Store the words of the current instruction."""
    if not group.checked:
        check_group(emit, group)
    member = group.member(emit.instruction)
    found = plan(group.pattern, member.nbytes // 4)
    assert found is not None
    store_words(emit.code, _pointer(emit, group, member), found, words)

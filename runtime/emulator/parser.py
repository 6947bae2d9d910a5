"""The PTX parser.

In: the text of one PTX module, as LLVM or nvcc write it, inline assembly scopes included. Out: a
`ptx.Module`. Why: registers, labels and variables are resolved to unique names here, so that no engine has to
know about scopes.
"""

from __future__ import annotations

import bisect
import re
from dataclasses import dataclass, field

from ..errors import DeviceError
from .ptx import (
    SPECIAL_REGISTERS,
    TYPE_BITS,
    Address,
    Discard,
    Function,
    Immediate,
    Instruction,
    Label,
    Module,
    Negated,
    Operand,
    Pair,
    Register,
    Special,
    Symbol,
    Variable,
    Vector,
)

_TOKEN = re.compile(
    r"""
      [ \t\r\n]+ | //[^\n]*
    | (?P<number> 0[fF][0-9a-fA-F]{8} | 0[dD][0-9a-fA-F]{16} | 0[xX][0-9a-fA-F]+U?
                | [0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)? | [0-9]+U? )
    | (?P<word> [A-Za-z_$%.][\w$%]*(?:\.[\w$]+|::\w+)* )
    | (?P<string> "[^"]*" )
    | (?P<mark> [][(){}<>,;:@!|+\-=*&~] )
    """,
    re.VERBOSE,
)
_BLOCK_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
# Directives that stand on a line of their own without a semicolon and mean nothing to execution.
_LINE_DIRECTIVE = re.compile(r"^[ \t]*\.(?:file|loc|version|address_size)\b[^\n]*", re.MULTILINE)
_TARGET = re.compile(r"^[ \t]*\.target[ \t]+([\w]+)[^\n]*", re.MULTILINE)
_NUMBERED = re.compile(r"(.*?)(\d+)")
_LINKING = frozenset({".visible", ".extern", ".weak", ".common"})
_SPACES = frozenset({".global", ".const", ".shared", ".local", ".param"})


@dataclass(slots=True)
class _Scope:
    """Names declared inside one pair of braces."""

    number: int
    parent: _Scope | None
    names: dict[str, str] = field(default_factory=dict)
    prefixes: dict[str, tuple[str, int, str]] = field(default_factory=dict)
    labels: set[str] = field(default_factory=set)

    def unique(self, name: str) -> str:
        """The function-wide name of `name` declared here."""
        return f"{name}#{self.number}" if self.number else name


def parse(text: str) -> Module:
    """Parse one module. Raises DeviceError with the line when the text is not PTX that this parser knows."""
    return _Parser(text).module()


def _blank(match: re.Match[str]) -> str:
    return "\n" * match.group().count("\n")


class _Parser:
    def __init__(self, text: str) -> None:
        self.lines = text.splitlines()
        target = _TARGET.search(text)
        self.target = target.group(1) if target else ""
        text = _BLOCK_COMMENT.sub(_blank, text)
        text = _TARGET.sub("", _LINE_DIRECTIVE.sub("", text))
        self.newlines = [match.start() for match in re.finditer("\n", text)]
        self.tokens: list[str] = []
        self.starts: list[int] = []
        position = 0
        for match in _TOKEN.finditer(text):
            if match.start() != position:
                self.starts.append(position)
                self.tokens.append("")
                self.at = len(self.tokens) - 1
                raise self.error(f"unexpected character {text[position]!r}")
            position = match.end()
            if match.lastgroup:
                self.tokens.append(match.group())
                self.starts.append(match.start())
        self.tokens.append("")
        self.starts.append(len(text))
        self.at = 0
        self.functions: dict[str, Function] = {}
        self.variables: dict[str, Variable] = {}
        self.function = Function("", False, 0)
        self.scope = _Scope(0, None)
        self.scope_count = 0
        self.branches: list[tuple[int, _Scope]] = []
        self.tables: dict[str, tuple[tuple[str, ...], _Scope]] = {}

    # Tokens.
    def line(self) -> int:
        return bisect.bisect_left(self.newlines, self.starts[self.at]) + 1

    def error(self, message: str) -> DeviceError:
        line = self.line()
        text = self.lines[line - 1].strip() if line <= len(self.lines) else ""
        return DeviceError(f"emulator: cannot parse PTX: {message}\n  PTX line {line}: {text}")

    def peek(self) -> str:
        return self.tokens[self.at]

    def take(self) -> str:
        token = self.tokens[self.at]
        if not token:
            raise self.error("the module ends in the middle of a statement (truncated PTX?)")
        self.at += 1
        return token

    def accept(self, token: str) -> bool:
        if self.tokens[self.at] == token:
            self.at += 1
            return True
        return False

    def expect(self, token: str) -> None:
        if not self.accept(token):
            raise self.error(f"expected {token!r}, found {self.peek()!r}")

    def integer(self) -> int:
        sign = -1 if self.accept("-") else 1
        token = self.take()
        try:
            return sign * int(token.rstrip("U"), 0)
        except ValueError:
            raise self.error(f"expected an integer, found {token!r}") from None

    # Module level.
    def module(self) -> Module:
        while self.peek():
            linking = set()
            while self.peek() in _LINKING:
                linking.add(self.take())
            token = self.peek()
            if token in (".entry", ".func"):
                self.parse_function()
            elif token in _SPACES:
                variable = self.variable(".extern" in linking)
                self.variables[variable.name] = variable
            elif token == ".section":
                self.skip_section()
            elif token in (".pragma", ".alias"):
                self.skip_statement()
            elif not self.accept(";"):
                raise self.error(f"unknown directive {token!r}")
        return Module(self.functions, self.variables, "\n".join(self.lines), self.target)

    def skip_statement(self) -> None:
        while self.take() != ";":
            pass

    def skip_section(self) -> None:
        while self.take() != "{":
            pass
        while self.take() != "}":
            pass

    def variable(self, external: bool = False) -> Variable:
        """`.shared .align 16 .b8 name[4][8] = {...};` up to and including the semicolon or before a `,`/`)`."""
        line = self.line()
        space, alignment, kind, lanes = self.take()[1:], 0, "b8", 1
        while self.peek().startswith("."):
            directive = self.take()
            if directive == ".align":
                alignment = self.integer()
            elif directive[1:] in TYPE_BITS:
                kind = directive[1:]
            elif directive in (".v2", ".v4"):
                lanes = int(directive[2:])
            elif directive == ".attribute":
                self.parenthesised()
            elif directive not in (".ptr", ".global", ".shared", ".const", ".local"):
                raise self.error(f"unknown variable attribute {directive!r}")
        name = self.take()
        element = max(1, TYPE_BITS[kind] // 8) * lanes
        count, unsized, dimensions = 1, False, False
        while self.accept("["):
            dimensions = True
            if self.accept("]"):
                unsized = True
                continue
            count *= self.integer()
            self.expect("]")
        variable = Variable(
            name, space, kind, 0 if unsized else element * count, alignment or element, external, line=line
        )
        if self.accept("="):
            width = max(1, TYPE_BITS[kind] // 8)
            values = self.initialiser()
            variable.initial = [(index * width, width, value) for index, value in enumerate(values)]
            if unsized or not dimensions:
                variable.nbytes = max(variable.nbytes, len(values) * width)
        if self.peek() == ";":
            self.take()
        return variable

    def parenthesised(self) -> None:
        self.expect("(")
        while self.take() != ")":
            pass

    def initialiser(self) -> list[int | str]:
        if self.accept("{"):
            values: list[int | str] = []
            while not self.accept("}"):
                values.extend(self.initialiser())
                self.accept(",")
            return values
        token = self.peek()
        if token == "-" or token[0].isdigit():
            immediate = self.number()
            return [immediate.bits]
        name = self.take()
        if name == "generic" and self.accept("("):
            name = self.take()
            self.expect(")")
        if self.accept("+"):
            return [f"{name}+{self.integer()}"]
        return [name]

    def parse_function(self) -> None:
        function = self.function = Function("", self.take() == ".entry", self.line())
        self.scope_count = 0
        self.scope = _Scope(0, None)
        self.branches, self.tables = [], {}
        if self.peek() == "(":
            function.results = self.parameters()
        function.name = self.take()
        if self.peek() == "(":
            function.parameters = self.parameters()
        self.performance_directives(function)
        if not self.accept("{"):
            self.accept(";")
            self.functions.setdefault(function.name, function)
            return
        for variable in (*function.parameters, *function.results):
            function.variables[variable.name] = variable
        self.block()
        self.resolve_labels()
        function.defined = True
        self.functions[function.name] = function

    def parameters(self) -> list[Variable]:
        self.expect("(")
        variables = []
        while not self.accept(")"):
            if self.peek() == ".reg":
                raise self.error("functions with .reg parameters are not supported; use .param")
            variables.append(self.variable())
            self.accept(",")
        return variables

    def performance_directives(self, function: Function) -> None:
        while self.peek().startswith("."):
            directive = self.take()
            numbers = [self.integer()] if self.peek()[:1].isdigit() else []
            while numbers and self.accept(","):
                numbers.append(self.integer())
            if directive in (".reqntid", ".maxntid") and not (function.block_required and directive == ".maxntid"):
                x, y, z = (*numbers, 1, 1)[:3]
                function.block_shape = (x, y, z)
                function.block_required = directive == ".reqntid"
            elif directive == ".reqnctapercluster":
                x, y, z = (*numbers, 1, 1)[:3]
                function.cluster_shape = (x, y, z)
            elif directive == ".explicitcluster":
                function.cluster_required = True
            elif directive == ".pragma":
                self.skip_statement()

    # Function bodies.
    def block(self) -> None:
        """Statements up to the closing brace; a nested block opens a scope of names and labels."""
        while not self.accept("}"):
            token = self.peek()
            if token == "{":
                self.take()
                self.scope_count += 1
                self.scope = _Scope(self.scope_count, self.scope)
                self.block()
                assert self.scope.parent is not None
                self.scope = self.scope.parent
            elif token == ".reg":
                self.registers()
            elif token in _SPACES:
                variable = self.variable()
                unique = self.scope.unique(variable.name)
                self.scope.names[variable.name] = unique
                variable.name = unique
                self.function.variables[unique] = variable
            elif token in (".pragma", ".attribute"):
                self.skip_statement()
            elif token == ";":
                self.take()
            elif token and self.tokens[self.at + 1] == ":":
                self.label()
            else:
                self.instruction()

    def registers(self) -> None:
        self.take()
        kind = self.take()[1:]
        if kind not in TYPE_BITS:
            raise self.error(f"unknown register type {kind!r}")
        while True:
            name = self.take()
            if self.accept("<"):
                self.scope.prefixes[name] = (kind, self.integer(), self.scope.unique(name))
                self.expect(">")
            else:
                unique = self.scope.unique(name)
                self.scope.names[name] = unique
                self.function.registers[unique] = kind
            if not self.accept(","):
                break
        self.expect(";")

    def label(self) -> None:
        name = self.take()
        self.take()
        if self.peek() in (".branchtargets", ".calltargets"):
            self.take()
            targets = [self.take()]
            while self.accept(","):
                targets.append(self.take())
            self.expect(";")
            self.tables[name] = (tuple(targets), self.scope)
            return
        if self.peek() == ".callprototype":
            self.skip_statement()
            return
        self.scope.labels.add(name)
        self.function.body.append(Label(self.scope.unique(name)))

    def resolve_labels(self) -> None:
        """Bind branch targets, which may stand after the branch, to the innermost enclosing scope that has
        the label.
        """
        body = self.function.body
        for index, scope in self.branches:
            instruction = body[index]
            assert isinstance(instruction, Instruction)
            target = instruction.operands[-1]
            if isinstance(target, Symbol) and target.name not in self.tables:
                resolved = Symbol(self.find_label(target.name, scope, instruction.line))
                body[index] = Instruction(
                    instruction.opcode, instruction.modifiers, (*instruction.operands[:-1], resolved),
                    instruction.guard, instruction.guard_negated, instruction.line,
                )  # fmt: skip
        for name, (targets, scope) in self.tables.items():
            found = tuple(self.find_label(target, scope, self.function.line) for target in targets)
            self.function.branch_targets[name] = found

    def find_label(self, name: str, scope: _Scope, line: int) -> str:
        current: _Scope | None = scope
        while current is not None:
            if name in current.labels:
                return current.unique(name)
            current = current.parent
        raise DeviceError(
            f"emulator: cannot parse PTX: branch to an unknown label {name!r} in {self.function.name}\n"
            f"  PTX line {line}: {self.lines[line - 1].strip()}"
        )

    def instruction(self) -> None:
        line = self.line()
        guard, negated = None, False
        if self.accept("@"):
            negated = self.accept("!")
            operand = self.named(self.take())
            if not isinstance(operand, Register):
                raise self.error("a guard must be a predicate register")
            guard = operand
        opcode, *modifiers = self.take().split(".")
        operands = []
        while not self.accept(";"):
            operands.append(self.operand())
            if not self.accept(",") and self.peek() not in (";",):
                raise self.error(f"unexpected {self.peek()!r} in an operand list")
        if opcode in ("bra", "brx"):
            self.branches.append((len(self.function.body), self.scope))
        self.function.body.append(Instruction(opcode, tuple(modifiers), tuple(operands), guard, negated, line))

    def operand(self) -> Operand:
        token = self.take()
        if token == "{" or token == "(":
            closing = "}" if token == "{" else ")"
            elements = []
            while not self.accept(closing):
                elements.append(self.operand())
                self.accept(",")
            result: Operand = Vector(tuple(elements))
        elif token == "[":
            return self.address()
        elif token == "!":
            result = Negated(self.operand())
        elif token == "-" or token[0].isdigit():
            self.at -= 1
            result = self.number()
        elif token == "_":
            result = Discard()
        else:
            result = self.named(token)
            if self.accept("+"):
                return Address(result, self.integer())
        if self.accept("|"):
            return Pair(result, self.operand())
        return result

    def address(self) -> Address:
        token = self.peek()
        if token == "-" or token[0].isdigit():
            base: Operand = Immediate(self.integer(), 0)
        else:
            base = self.named(self.take())
        offset = 0
        while self.peek() in ("+", "-"):
            sign = -1 if self.take() == "-" else 1
            offset += sign * self.integer()
        coordinates: tuple[Operand, ...] = ()
        if self.accept(","):
            operand = self.operand()
            coordinates = operand.elements if isinstance(operand, Vector) else (operand,)
        self.expect("]")
        return Address(base, offset, coordinates)

    def number(self) -> Immediate:
        sign = -1 if self.accept("-") else 1
        token = self.take()
        head = token[:2].lower()
        if head == "0f":
            bits = int(token[2:], 16)
            return Immediate(bits ^ 0x80000000 if sign < 0 else bits, 32)
        if head == "0d":
            bits = int(token[2:], 16)
            return Immediate(bits ^ (1 << 63) if sign < 0 else bits, 64)
        if "." in token:
            import struct

            return Immediate(int.from_bytes(struct.pack("<d", sign * float(token)), "little"), 64)
        if len(token) > 1 and token[0] == "0" and token.isdigit():
            return Immediate(sign * int(token, 8), 0)
        try:
            return Immediate(sign * int(token.rstrip("U"), 0), 0)
        except ValueError:
            raise self.error(f"expected a number, found {token!r}") from None

    def named(self, name: str) -> Operand:
        """Resolve a word in the scopes around it: a register, a special register or a symbol."""
        scope: _Scope | None = self.scope
        while scope is not None:
            if name in scope.names:
                unique = scope.names[name]
                return Register(unique) if unique in self.function.registers else Symbol(unique)
            match = _NUMBERED.fullmatch(name) if scope.prefixes else None
            if match and match.group(1) in scope.prefixes:
                kind, count, prefix = scope.prefixes[match.group(1)]
                if int(match.group(2)) < count:
                    unique = prefix + match.group(2)
                    scope.names[name] = unique
                    self.function.registers[unique] = kind
                    return Register(unique)
            scope = scope.parent
        if name[0] == "%":
            head, _, component = name.partition(".")
            if head in SPECIAL_REGISTERS or head.startswith("%envreg"):
                return Special(head, component)
            raise self.error(f"undeclared register {name!r}")
        if name == "WARP_SZ":
            return Immediate(32, 0)
        return Symbol(name)

"""One LLVM module under construction: helper functions, declarations, and the sites that faults name.

In: requests for helpers by name. Out: the texts of modules. Why: routines that many instructions share (vector loads,
checks, matrix products) are functions of their own, each in a module of its own: most kernels find theirs compiled.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .llvm_context import offset
from .llvm_values import Code, Value

REGISTER_CALL = "x86_regcallcc"


def convention(avx512: bool) -> str:
    """The calling convention of helpers: vectors travel in registers, both ways. On hosts with sixteen of 256 bits a
    call would take every one of them and leave LLVM none to bring the values into place, which is a fatal error."""
    return REGISTER_CALL if avx512 else "ccc"


@dataclass(frozen=True, slots=True)
class Site:
    """A memory access of the program, as a fault tells it: `verb` is load, store, atomic, ...."""

    line: int
    space: str
    verb: str
    nbytes: int


@dataclass(frozen=True, slots=True)
class HostCall:
    """A call of a `routine` of the NumPy engine with `static` keywords; NumPy dtypes of operands and results. It must
    survive JSON."""

    routine: str
    operands: list[str]
    results: list[str]
    static: dict[str, Any]


@dataclass(slots=True)
class Module:
    """Functions by name in order of creation; calls of the host by the site they are made at. `wide` says whether the
    host has 512-bit vectors; the sizes are those of a thread's local memory and of the kernel's parameters.
    """

    wide: bool
    local_bytes: int = 0
    parameter_bytes: int = 0
    declarations: dict[str, str] = field(default_factory=dict)
    functions: dict[str, str] = field(default_factory=dict)
    sites: list[Site] = field(default_factory=list)
    helpers: dict[str, str] = field(default_factory=dict)
    cluster_blocks: int = 1
    calls: dict[int, HostCall] = field(default_factory=dict)
    _symbols: dict[str, str] = field(default_factory=dict)
    _prototypes: dict[str, str] = field(default_factory=dict)

    def site(self, line: int, space: str, verb: str, nbytes: int) -> int:
        """The number under which a fault of this access is recorded."""
        self.sites.append(Site(line, space, verb, nbytes))
        return len(self.sites) - 1

    def helper(self, name: str, header: str, build: Callable[[Code], None], attributes: str = "noinline") -> str:
        """The symbol of the helper `name`, built on first request. `header` is `result @(arguments)`.

        The symbol ends in a digest of the text, so that equal helpers of all kernels are one.
        """
        if name not in self._symbols:
            code = Code({}, self.wide)
            build(code)
            body = "\n".join(code.lines)
            signature = f"{convention(self.wide)} {header} {attributes} #0 {{\nentry:\n{body}\n}}\n"
            digest = hashlib.sha256(f"{self.wide} {signature}".encode()).hexdigest()[:16]
            symbol = self._symbols[name] = f"tw_{name}_{digest}"
            self._prototypes[symbol] = f"declare {convention(self.wide)} {_prototype(header, symbol)}"
            definition = "define " + signature.replace("@(", f"@{symbol}(", 1)
            self.helpers[symbol] = self._whole(code.declarations, [definition], symbol)
        return self._symbols[name]

    def text(self) -> str:
        """The module of the kernel itself."""
        return self._whole(self.declarations, list(self.functions.values()))

    def _whole(self, declarations: dict[str, str], functions: list[str], defined: str = "") -> str:
        vectors = 512 if self.wide else 256
        attributes = (
            f'attributes #0 = {{ nounwind alignstack=64 "prefer-vector-width"="{vectors}" '
            f'"min-legal-vector-width"="{vectors}" }}'
        )
        body = "\n".join(functions)
        used = [text for symbol, text in self._prototypes.items() if f" @{symbol}(" in body and symbol != defined]
        return "\n".join([*declarations.values(), *used, body, attributes, ""])


_ARGUMENT = re.compile(r" %\w+(?=[,)])")


def _prototype(header: str, symbol: str) -> str:
    return _ARGUMENT.sub("", header.replace("@(", f"@{symbol}(", 1))


def field_pointer(code: Code, name: str, base: str = "%context") -> str:
    """Address of a context field."""
    pointer = code.name()
    code.line(f"{pointer} = getelementptr i8, ptr {base}, i64 {offset(name)}")
    return pointer


def load_field(code: Code, name: str, element: str) -> Value:
    """A field of the context; `element` may be `ptr`."""
    return code.emit(f"load {element}, ptr {field_pointer(code, name)}", element, False)


def call(code: Code, result: str, name: str, arguments: str) -> str:
    """Call a helper; gives the SSA name of the result (empty for void)."""
    if result == "void":
        code.line(f"call {convention(code.avx512)} void @{name}({arguments})")
        return ""
    found = code.name()
    code.line(f"{found} = call {convention(code.avx512)} {result} @{name}({arguments})")
    return found


def begin_lanes(code: Code, lanes: str, entry: str, latch: str) -> None:
    """The head of a loop over the set bits of `lanes`, entered from block `entry` and again from `latch`: block `one`
    has %lane; with none left it goes to block `end`.
    """
    code.label("lanes")
    code.line(f"%left = phi i32 [ {lanes}, %{entry} ], [ %fewer, %{latch} ]")
    code.line("%empty = icmp eq i32 %left, 0")
    code.line("br i1 %empty, label %end, label %one")
    code.label("one")
    code.declare("llvm.cttz.i32", "declare i32 @llvm.cttz.i32(i32, i1)")
    code.line("%lane = call i32 @llvm.cttz.i32(i32 %left, i1 true)")
    code.line("%lower = sub i32 %left, 1")
    code.line("%fewer = and i32 %left, %lower")

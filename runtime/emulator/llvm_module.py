"""One LLVM module under construction: helper functions, declarations, and the sites that faults name.

In: requests for helpers by name. Out: the module's text. Why: routines that many instructions share (vector loads,
checks, matrix products) are functions of their own: that is both quicker to compile and faster than inlining them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .llvm_context import offset
from .llvm_values import Code, Value

REGISTER_CALL = "x86_regcallcc"
"""The calling convention of helpers: vectors travel in registers, both ways."""


@dataclass(frozen=True, slots=True)
class Site:
    """A memory access of the program, as a fault tells it: `verb` is load, store, atomic, ...."""

    line: int
    space: str
    verb: str
    nbytes: int


@dataclass(slots=True)
class Module:
    """Functions by name in order of creation. `wide` says whether the host has 512-bit vectors; the sizes are those of
    a thread's local memory and of the kernel's parameters.
    """

    wide: bool
    local_bytes: int = 0
    parameter_bytes: int = 0
    declarations: dict[str, str] = field(default_factory=dict)
    functions: dict[str, str] = field(default_factory=dict)
    sites: list[Site] = field(default_factory=list)

    def code(self) -> Code:
        """The body of a new function."""
        return Code(self.declarations)

    def site(self, line: int, space: str, verb: str, nbytes: int) -> int:
        """The number under which a fault of this access is recorded."""
        self.sites.append(Site(line, space, verb, nbytes))
        return len(self.sites) - 1

    def helper(self, name: str, header: str, build: Callable[[Code], None], attributes: str = "noinline") -> str:
        """The function `name`, built on first request. `header` is `result @(arguments)` with `@` for the name."""
        if name not in self.functions:
            self.functions[name] = ""  # reserves the place, since helpers request helpers
            code = self.code()
            build(code)
            signature = header.replace("@", f"@{name}", 1)
            body = "\n".join(code.lines)
            self.functions[name] = (
                f"define internal {REGISTER_CALL} {signature} {attributes} #0 {{\nentry:\n{body}\n}}\n"
            )
        return name

    def text(self) -> str:
        """The whole module."""
        vectors = 512 if self.wide else 256
        attributes = (
            f'attributes #0 = {{ nounwind alignstack=64 "prefer-vector-width"="{vectors}" "min-legal-vector-width"="{vectors}" }}'
        )
        return "\n".join([*self.declarations.values(), *self.functions.values(), attributes, ""])


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
        code.line(f"call {REGISTER_CALL} void @{name}({arguments})")
        return ""
    found = code.name()
    code.line(f"{found} = call {REGISTER_CALL} {result} @{name}({arguments})")
    return found

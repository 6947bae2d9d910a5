"""Calls of the fast engine into the NumPy engine: routines that are rare, or large enough for a call to cost nothing.

In: the generator, a routine's name, values over the lanes. Out: values, as the NumPy engine's routine gives them. Why:
what says in a dozen fields what it copies (tensor copies, their reductions, multicast) stands once, with its checks.

Operands and results travel through the scratch memory of the context, each as 64 bits for each lane; `llvm_host.py` is
the other side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .llvm_context import FAULT_HOST
from .llvm_module import HostCall, Module, call, field_pointer, load_field
from .llvm_values import BITS, ELEMENTS, LANES, Code, Value
from .numpy_operations import DTYPES

if TYPE_CHECKING:
    from .llvm_codegen import Generator

SLOT_BYTES = 8 * LANES
"""One operand or result in the scratch memory."""

_DTYPES = {"i1": "?", "i8": "u1", "i16": "u2", "i32": "u4", "i64": "u8", "float": "f4", "double": "f8"}


def host_call(
    emit: Generator, results: Sequence[str], values: Sequence[Value], routine: str, dtypes: dict[int, str],
    lanes: Value | None = None, **static: Any,
) -> list[Value]:  # fmt: skip
    """Have the host run a routine of the NumPy engine for `lanes`, by default the active ones. `dtypes` are those of
    operands (by position) that their LLVM type does not tell, signed numbers above all."""
    site = register_host_call(emit, results, values, routine, dtypes, **static)
    code = emit.code
    ask_host(emit.module, code, str(site), (lanes or emit.active()).text)
    scratch = emit.field("scratch", "ptr").text
    found = []
    for index, type in enumerate(results):
        element = ELEMENTS[type]
        bits = code.emit(f"load <{LANES} x i64>, ptr {slot(code, scratch, index)}, align 64", "i64", True)
        found.append(code.cast("bitcast", code.resize(bits, f"i{BITS[element]}"), element))
    return found


def register_host_call(
    emit: Generator, results: Sequence[str], values: Sequence[Value], routine: str, dtypes: dict[int, str],
    **static: Any,
) -> int:  # fmt: skip
    """Put the operands of a call into their slots; gives the number of the call."""
    code = emit.code
    operands = [dtypes.get(index, _DTYPES[value.element]) for index, value in enumerate(values)]
    scratch = emit.field("scratch", "ptr").text
    for index, value in enumerate(values):
        wide = code.widen(code.resize(code.bits(value), "i64"))
        code.line(f"store {wide.typed}, ptr {slot(code, scratch, index)}, align 64")
    site = emit.site("", routine, 0)
    emit.module.calls[site] = HostCall(routine, operands, [DTYPES[type] for type in results], static)
    return site


def slot(code: Code, scratch: str, index: int) -> str:
    """Where an operand or result lies in the scratch memory."""
    place = code.name()
    code.line(f"{place} = getelementptr i8, ptr {scratch}, i64 {SLOT_BYTES * index}")
    return place


def ask_host(module: Module, code: Code, site: str, lanes: str) -> None:
    """The call itself, with operands in place."""
    call(code, "void", _helper(module), f"ptr %context, i32 {site}, i32 {lanes}")


def _helper(module: Module) -> str:
    """`(context, site, lanes)`: nothing for no lanes; a finding of the host ends the kernel."""

    def build(code: Code) -> None:
        some = code.compare("icmp ne", Value("%lanes", "i32"), code.integer("i32", 0))
        code.line(f"br i1 {some.text}, label %ask, label %done")
        code.label("ask")
        kind = load_field(code, "fault_kind", "i32")
        sound = code.compare("icmp eq", kind, code.integer("i32", 0))
        code.line(f"br i1 {sound.text}, label %go, label %done")
        code.label("go")
        host = load_field(code, "host", "ptr")
        answer = code.name()
        code.line(f"{answer} = call i32 {host.text}(i32 %site, i32 %lanes)")
        fine = code.compare("icmp eq", Value(answer, "i32"), code.integer("i32", 0))
        code.line(f"br i1 {fine.text}, label %done, label %finding")
        code.label("finding")
        code.line(f"store i32 {FAULT_HOST}, ptr {field_pointer(code, 'fault_kind')}")
        code.line("br label %done")
        code.label("done")
        code.line("ret void")

    return module.helper("host_call", "void @(ptr %context, i32 %site, i32 %lanes)", build)


# Routines.
def _plain(routine: str) -> Callable[..., list[Value]]:
    """A routine whose operands are addresses and other unsigned numbers."""

    def run(emit: Generator, results: Sequence[str], values: Sequence[Value], **static: Any) -> list[Value]:
        return host_call(emit, results, values, routine, {}, **static)

    return run


def _bulk_copy(emit: Generator, results: Sequence[str], values: Sequence[Value], **static: Any) -> list[Value]:
    emit.atomics = emit.atomics or bool(static["operation"])
    return host_call(emit, results, values, "bulk_copy", {}, **static)


def _typed(routine: str, addresses: int) -> Callable[..., list[Value]]:
    """A routine on elements of `type`, which follow some addresses."""

    def run(emit: Generator, results: Sequence[str], values: Sequence[Value], type: str, **static: Any) -> list[Value]:
        elements = dict.fromkeys(range(addresses, len(values)), DTYPES[type])
        return host_call(emit, results, values, routine, elements, type=type, **static)

    return run


load_by_host, store_by_host = _typed("load", 1), _typed("store", 1)
"""Memory of other blocks of a cluster."""


def atomic_by_host(
    emit: Generator, results: Sequence[str], values: Sequence[Value], space: str, type: str, operation: str,
    wanted: bool, lanes: Value | None = None,
) -> list[Value]:  # fmt: skip
    """As `load_by_host`; reductions have no result."""
    static = {"type": type, "space": space, "operation": operation, "wanted": wanted, "lanes": lanes}
    return _typed("atomic", 1)(emit, [type] if wanted else [], values, **static)


def mma_by_host(
    emit: Generator, results: Sequence[str], values: Sequence[Value], counts: tuple[int, int, int], c: str,
    **static: Any,
) -> list[Value]:  # fmt: skip
    """Products that no kernel in a hurry makes."""
    behind = counts[0] + counts[1]
    typed = dict.fromkeys(range(behind, behind + counts[2]), DTYPES["b32" if c == "f16" else c])
    return host_call(emit, results, values, "mma", typed, counts=counts, c=c, **static)


def structured_mma_by_host(
    emit: Generator, results: Sequence[str], values: Sequence[Value], counts: tuple[int, int, int], c: str,
    **static: Any,
) -> list[Value]:  # fmt: skip
    """Sparse and scaled products."""
    behind = counts[0] + counts[1]
    typed = dict.fromkeys(range(behind, behind + counts[2]), DTYPES["b32" if c == "f16" else c])
    return host_call(emit, results, values, "structured_mma", typed, counts=counts, c=c, **static)


HOST_ROUTINES: dict[str, Callable[..., list[Value]]] = {
    **{name: _plain(name) for name in (
        "barrier_invalidate", "barrier_expect_bytes", "barrier_complete_bytes",
        "barrier_pending_count", "copies_arrive", "rank_of_address", "load_byte_matrix", "store_byte_matrix",
    )},
    "structured_mma": structured_mma_by_host,
    "bulk_copy": _bulk_copy, "store_async": _typed("store_async", 2),
}  # fmt: skip
"""By emitter name."""

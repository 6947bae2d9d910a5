"""Loads and stores through generic addresses: each lane may mean another address space.

In: a module and the width of an access. Out: the names of helpers. Why: the windows of the generic space are told apart
while running; nearly always all lanes lie in one of them.
"""

from __future__ import annotations

from .llvm_memory import load_helper, result_type, store_helper, words_of
from .llvm_module import Module, call
from .llvm_values import LANES, Code, Value, type_of
from .memory import LOCAL_WINDOW, PARAMETER_WINDOW, SHARED_WINDOW, WINDOW_BYTES

_STORABLE = (
    ("global", 0, SHARED_WINDOW), ("shared", SHARED_WINDOW, LOCAL_WINDOW), ("local", LOCAL_WINDOW, PARAMETER_WINDOW),
)  # fmt: skip
_SPACES = (*_STORABLE, ("parameter", PARAMETER_WINDOW, PARAMETER_WINDOW + WINDOW_BYTES))
"""(space, first address, first address behind)."""


def _lanes_in(code: Code, address: Value, first: int, behind: int, readable: bool) -> Value:
    """The lanes of %mask whose address lies in a window; what is in none counts as global."""
    offset = code.binary("sub", address, code.integer("i64", first))
    inside = code.cast_mask(code.compare("icmp ult", offset, code.integer("i64", behind - first)))
    if not first:
        highest = code.integer("i64", PARAMETER_WINDOW + WINDOW_BYTES if readable else PARAMETER_WINDOW)
        beyond = code.cast_mask(code.compare("icmp uge", address, highest))
        inside = code.binary("or", inside, beyond)
    return code.binary("and", inside, Value("%mask", "i32"))


def generic_load_helper(module: Module, nbytes: int, address: Value) -> str:
    """`(context, site, addresses, mask)` -> a vector per word."""
    element, count = words_of(nbytes)
    aggregate = result_type(element, count)
    names = [load_helper(module, space, nbytes, address) for space, _, _ in _SPACES]

    def build(code: Code) -> None:
        address = Value("%address", "i64", True)
        totals = [Value("zeroinitializer", element, True)] * count
        for (_, first, behind), name in zip(_SPACES, names, strict=True):
            lanes = _lanes_in(code, address, first, behind, readable=True)
            inner = code.binary("sub", address, code.integer("i64", first))
            found = call(code, aggregate, name, f"ptr %context, i32 %site, {inner.typed}, {lanes.typed}")
            here = code.lanes(lanes)
            for index in range(count):
                text = found
                if count > 1:
                    text = code.name()
                    code.line(f"{text} = extractvalue {aggregate} {found}, {index}")
                totals[index] = code.select(here, Value(text, element, True), totals[index])
        result = "poison"
        if count == 1:
            code.line(f"ret {totals[0].typed}")
            return
        for index, total in enumerate(totals):
            name = code.name()
            code.line(f"{name} = insertvalue {aggregate} {result}, {total.typed}, {index}")
            result = name
        code.line(f"ret {aggregate} {result}")

    header = f"{aggregate} @(ptr %context, i32 %site, <{LANES} x i64> %address, i32 %mask)"
    return module.helper(f"generic_{names[0]}", header, build)


def generic_store_helper(module: Module, nbytes: int, address: Value) -> str:
    """`(context, site, addresses, mask, words...)`."""
    element, count = words_of(nbytes)
    names = [store_helper(module, space, nbytes, address) for space, _, _ in _STORABLE]
    words = "".join(f", {type_of(element, True)} %word{index}" for index in range(count))

    def build(code: Code) -> None:
        address = Value("%address", "i64", True)
        for (_, first, behind), name in zip(_STORABLE, names, strict=True):
            lanes = _lanes_in(code, address, first, behind, readable=False)
            inner = code.binary("sub", address, code.integer("i64", first))
            call(code, "void", name, f"ptr %context, i32 %site, {inner.typed}, {lanes.typed}{words}")
        code.line("ret void")

    header = f"void @(ptr %context, i32 %site, <{LANES} x i64> %address, i32 %mask{words})"
    return module.helper(f"generic_{names[0]}", header, build)

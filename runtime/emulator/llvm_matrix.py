"""Fragments of matrices in the fast engine: ldmatrix, stmatrix, movmatrix; mma.sync is in a file of its own.

In: the generator, addresses or fragments as vectors over the lanes. Out: fragments. Why: with lane = 4g + t a fragment
register is an 8 by 4 block as it stands, so that rows of shared memory are runs of it. Layouts: PTX ISA, section on
ldmatrix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .llvm_checks import check
from .llvm_memory import digest, matches, parameter, result_type, return_words, taken_words
from .llvm_mma import mma
from .llvm_module import Module, call, load_field
from .llvm_shuffles import Plan, arrangement, is_cheap, load_words
from .llvm_values import LANES, Code, Pattern, Value, type_of
from .memory import SHARED_WINDOW

if TYPE_CHECKING:
    from .llvm_codegen import Generator

_WORDS = type_of("i32", True)
_ROW_BYTES = 16


def _mma(emit: Generator, results: Sequence[str], values: Sequence[Value], **form: Any) -> list[Value]:
    _require_whole_warp(emit, "mma.sync")
    return mma(emit, results, values, **form)


def _require_whole_warp(emit: Generator, name: str) -> None:
    from .llvm_routines import require_whole_warp

    require_whole_warp(emit, name)


# ldmatrix, stmatrix, movmatrix
def _transposed(code: Code, words: Value) -> Value:
    """An 8 by 8 block of 16-bit elements, row g in lanes 4g to 4g + 3, transposed."""
    vector = "<64 x i16>"
    source, result = code.name(), code.name()
    code.line(f"{source} = bitcast {words.typed} to {vector}")
    indices = ", ".join(f"i32 {8 * (number % 8) + number // 8}" for number in range(64))
    code.line(f"{result} = shufflevector {vector} {source}, {vector} poison, <64 x i32> <{indices}>")
    return code.emit(f"bitcast {vector} {result} to {_WORDS}", "i32", True)


def _providers(count: int) -> int:
    lanes = 8 * count
    return (1 << lanes) - 1 if lanes < LANES else -1


def _row_plan(pattern: Pattern | None, count: int) -> tuple[Pattern, Plan] | None:
    """How to load the rows when the addresses of the lanes that matter follow the pattern."""
    if pattern is None:
        return None
    rows = pattern[: 8 * count]
    filled = (*rows, *([rows[0]] * (LANES - len(rows))))
    found = arrangement(filled, _ROW_BYTES // 4)
    if found is None:
        return None
    number_of_row = [found.places[0][row] for row in range(8 * count)]
    places = tuple(
        tuple(number_of_row[8 * matrix + lane // 4] + lane % 4 for lane in range(LANES)) for matrix in range(count)
    )
    fragments = Plan(found.runs, places)
    return (filled, fragments) if is_cheap(fragments) else None


def _local_address(code: Code, address: Value) -> Value:
    """Generic addresses must lie in the shared window."""
    if address.element != "i64":
        return code.resize(address, "i64")
    window = code.integer("i64", SHARED_WINDOW)
    first = Value(address.text, address.element, address.wide)
    generic = code.compare("icmp uge", first, window)
    inner = code.select(generic, code.binary("sub", first, window), first)
    return Value(inner.text, inner.element, inner.wide, address.pattern)


def _fast_rows(code: Code, address: Value, pattern: Pattern, found: Plan, count: int, transposed: bool) -> None:
    """Load all rows as runs, when the pattern holds and all of it is inside; else goes on at `slow`."""
    if count < 4 and address.wide:
        # Only the providers' addresses matter: let the others follow the first lane.
        provides = code.lanes(code.integer("i32", _providers(count)))
        address = code.select(provides, address, code.lane(address, 0))
    first, same = matches(code, address, pattern)
    aligned = code.compare(
        "icmp eq", code.binary("and", first, code.integer("i64", _ROW_BYTES - 1)), code.integer("i64", 0)
    )
    limit = load_field(code, "shared_limit", "i64")
    lowest = code.binary("add", first, code.integer("i64", found.low))
    begins = code.compare("icmp ult", lowest, limit)
    ends = code.compare("icmp uge", code.binary("sub", limit, lowest), code.integer("i64", found.span))
    whole = code.compare("icmp eq", Value("%mask", "i32"), code.integer("i32", -1))
    good = code.binary("and", code.binary("and", same, aligned), code.binary("and", begins, ends))
    good = code.binary("and", good, whole)
    base = load_field(code, "shared", "ptr")
    pointer = code.emit(f"getelementptr i8, ptr {base.text}, i64 {first.text}", "ptr", False)
    code.line(f"br i1 {good.text}, label %fast, label %slow")
    code.label("fast")
    loaded = load_words(code, pointer.text, found)
    return_words(code, [_transposed(code, words) for words in loaded] if transposed else loaded)
    code.label("slow")


def _slow_rows(module: Module, code: Code, address: Value, count: int, transposed: bool) -> None:
    """Row by row; rows whose access is wrong read the beginning of shared memory, after the fault is noted."""
    code.line(f"%wanted = and i32 %mask, {_providers(count)}")
    good = call(code, "i32", check(module, "shared"),
                f"ptr %context, i32 %site, {address.typed}, i32 %wanted, i64 {_ROW_BYTES}")  # fmt: skip
    safe = code.select(code.lanes(Value(good, "i32")), address, code.integer("i64", 0))
    base = load_field(code, "shared", "ptr")
    results = []
    for matrix in range(count):
        words = []
        for row in range(8):
            where = code.lane(safe, 8 * matrix + row)
            pointer, name = code.name(), code.name()
            code.line(f"{pointer} = getelementptr i8, ptr {base.text}, i64 {where.text}")
            code.line(f"{name} = load <4 x i32>, ptr {pointer}, align 16")
            words.append(name)
        results.append(_concatenated(code, words))
    return_words(code, [_transposed(code, words) for words in results] if transposed else results)


def _concatenated(code: Code, rows: list[str]) -> Value:
    """Eight rows of four words, one after the other."""
    width = 4
    while len(rows) > 1:
        indices = ", ".join(f"i32 {index}" for index in range(2 * width))
        pairs = []
        for low, high in zip(rows[0::2], rows[1::2], strict=True):
            name = code.name()
            code.line(
                f"{name} = shufflevector <{width} x i32> {low}, <{width} x i32> {high}, <{2 * width} x i32> <{indices}>"
            )
            pairs.append(name)
        rows, width = pairs, 2 * width
    return Value(rows[0], "i32", True)


def _load_matrix(
    emit: Generator, results: Sequence[str], values: Sequence[Value], count: int, transposed: bool, **others: object
) -> list[Value]:
    if others:
        emit.unsupported("this form of ldmatrix")
    _require_whole_warp(emit, "ldmatrix")
    code = emit.code
    given = values[0] if values[0].pattern is not None else code.widen(values[0])
    known = _row_plan(given.pattern, count)
    address = _local_address(code, given)

    def build(body: Code) -> None:
        inside = parameter(address)
        if known is not None:
            _fast_rows(body, inside, known[0], known[1], count, transposed)
        _slow_rows(emit.module, body, body.widen(inside), count, transposed)

    tail = "" if known is None else f"_{digest(known[0])}"
    if not address.wide:
        tail += "_at"
    header = f"{result_type('i32', count)} @(ptr %context, i32 %site, {address.type} %address, i32 %mask)"
    name = emit.module.helper(f"ldmatrix_{count}{'_t' if transposed else ''}{tail}", header, build)
    site = emit.site("shared", "ldmatrix", _ROW_BYTES)
    found = call(
        code, result_type("i32", count), name, f"ptr %context, i32 {site}, {address.typed}, {emit.active().typed}"
    )
    return taken_words(code, found, "i32", count)


def _store_matrix(
    emit: Generator, results: Sequence[str], values: Sequence[Value], count: int, transposed: bool, **others: object
) -> list[Value]:
    if others:
        emit.unsupported("this form of stmatrix")
    _require_whole_warp(emit, "stmatrix")
    code = emit.code
    matrices = len(values) - 1

    def build(body: Code) -> None:
        address = Value("%address", "i64", True)
        body.line(f"%wanted = and i32 %mask, {_providers(matrices)}")
        good = call(body, "i32", check(emit.module, "shared"),
                    f"ptr %context, i32 %site, {address.typed}, i32 %wanted, i64 {_ROW_BYTES}")  # fmt: skip
        body.line(f"%none = icmp eq i32 {good}, 0")
        body.line(f"%all = icmp eq i32 {good}, {_providers(matrices)}")
        body.line("br i1 %all, label %store, label %done")
        body.label("store")
        base = load_field(body, "shared", "ptr")
        for matrix in range(matrices):
            words = Value(f"%x{matrix}", "i32", True)
            words = _transposed(body, words) if transposed else words
            for row in range(8):
                indices = ", ".join(f"i32 {4 * row + word}" for word in range(4))
                part, pointer = body.name(), body.name()
                body.line(f"{part} = shufflevector {words.typed}, {words.type} poison, <4 x i32> <{indices}>")
                where = body.lane(address, 8 * matrix + row)
                body.line(f"{pointer} = getelementptr i8, ptr {base.text}, i64 {where.text}")
                body.line(f"store <4 x i32> {part}, ptr {pointer}, align 16")
        body.line("br label %done")
        body.label("done")
        body.line("ret void")

    arguments = "".join(f", {_WORDS} %x{index}" for index in range(matrices))
    header = f"void @(ptr %context, i32 %site, <{LANES} x i64> %address, i32 %mask{arguments})"
    name = emit.module.helper(f"stmatrix_{matrices}{'_t' if transposed else ''}", header, build)
    address = _local_address(code, code.widen(values[0]))
    site = emit.site("shared", "stmatrix", _ROW_BYTES)
    rest = "".join(f", {code.widen(code.bits(value)).typed}" for value in values[1:])
    call(code, "void", name, f"ptr %context, i32 {site}, {address.typed}, {emit.active().typed}{rest}")
    return []


def _transpose_matrix(emit: Generator, results: Sequence[str], values: Sequence[Value]) -> list[Value]:
    return [_transposed(emit.code, emit.code.widen(emit.code.bits(values[0])))]


MATRIX_ROUTINES: dict[str, Callable[..., list[Value]]] = {
    "mma": _mma, "load_matrix": _load_matrix, "store_matrix": _store_matrix, "transpose_matrix": _transpose_matrix,
}  # fmt: skip
"""By emitter name."""

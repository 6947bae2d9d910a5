"""Tensor-core routines of the fast engine: ldmatrix, stmatrix, movmatrix and mma.sync.

In: the generator, fragments as vectors over the lanes. Out: fragments. Why: with lane = 4g + t a fragment register is
an 8 by 4 block as it stands, so A is spread over the columns by shuffles inside 128 bits, and B by loads that repeat
128 bits; both cost less than the multiplications. Layouts: PTX ISA, section on mma.m16n8k16 and its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .llvm_checks import check
from .llvm_memory import digest, matches, parameter, result_type
from .llvm_module import Module, call, load_field
from .llvm_operations import apply
from .llvm_shuffles import HALF, Plan, halves, joined, load_words, plan
from .llvm_values import LANES, Code, Pattern, Value, constant_vector, type_of
from .memory import SHARED_WINDOW

if TYPE_CHECKING:
    from .llvm_codegen import Generator

_WORDS = type_of("i32", True)
_ROW_BYTES = 16
_ELEMENTS_PER_WORD = {"f16": 2, "bf16": 2, "tf32": 1, "s8": 4, "u8": 4}


# mma.sync
def _widened(code: Code, type: str, register: Value, element: int) -> Value:
    """Element number `element` of a packed register as f32; exact for every type."""
    if type == "tf32":
        return code.cast("bitcast", code.binary("and", register, code.integer("i32", 0xFFFFE000)), "float")
    if type == "bf16":
        kept = (
            code.binary("and", register, code.integer("i32", 0xFFFF0000))
            if element
            else code.binary("shl", register, code.integer("i32", 16))
        )
        return code.cast("bitcast", kept, "float")
    if type == "f16":
        moved = code.binary("lshr", register, code.integer("i32", 16)) if element else register
        return apply(code, "f16_to_f32", "b16", (code.resize(moved, "i16"),))
    top = code.binary("shl", register, code.integer("i32", 24 - 8 * element))
    byte = code.binary("ashr" if type == "s8" else "lshr", top, code.integer("i32", 24))
    return code.cast("sitofp", byte, "float")


def _spread_within_four(code: Code, value: Value, column: int) -> Value:
    """In each group of four lanes, the value of lane `column` of the group."""
    indices = constant_vector("i32", [lane // 4 * 4 + column for lane in range(HALF)])
    vector = f"<{HALF} x float>"
    name = code.name()
    code.line(f"{name} = shufflevector {vector} {value.text}, {vector} poison, <{HALF} x i32> {indices}")
    return Value(name, "float")


def _store_columns(code: Code, scratch: str, place: int, value: Value, second: int) -> None:
    """Of B (lane 4n + t' holds row t', column n): for each row the columns 2t + second, t = 0..3, one row after the
    other, at `scratch[place]` (in pieces of 16 floats)."""
    indices = constant_vector("i32", [4 * (2 * t + second) + row for row in range(4) for t in range(4)])
    name, pointer = code.name(), code.name()
    code.line(f"{name} = shufflevector {value.typed}, {value.type} poison, <{HALF} x i32> {indices}")
    code.line(f"{pointer} = getelementptr i8, ptr {scratch}, i64 {place * 64}")
    code.line(f"store <{HALF} x float> {name}, ptr {pointer}, align 64")


def _repeated(code: Code, scratch: str, place: int, row: int) -> Value:
    """Four floats of `scratch`, repeated over 16 lanes."""
    pointer, four, name = code.name(), code.name(), code.name()
    code.line(f"{pointer} = getelementptr i8, ptr {scratch}, i64 {place * 64 + row * 16}")
    code.line(f"{four} = load <4 x float>, ptr {pointer}, align 16")
    indices = constant_vector("i32", [lane % 4 for lane in range(HALF)])
    code.line(f"{name} = shufflevector <4 x float> {four}, <4 x float> poison, <{HALF} x i32> {indices}")
    return Value(name, "float")


def _multiply_add(code: Code, a: Value, b: Value, total: Value | None) -> Value:
    vector = f"<{HALF} x float>"
    name = code.name()
    if total is None:
        code.line(f"{name} = fmul {vector} {a.text}, {b.text}")
        return Value(name, "float")
    function = f"llvm.fma.v{HALF}f32"
    code.declare(function, f"declare {vector} @{function}({vector}, {vector}, {vector})")
    code.line(f"{name} = call {vector} @{function}({vector} {a.text}, {vector} {b.text}, {vector} {total.text})")
    return Value(name, "float")


def _product(code: Code, a: Sequence[Value], b: Sequence[Value], a_type: str, b_type: str) -> list[Value]:
    """The four vectors of D = A B in f32: rows g then g + 8, each with columns 2t and 2t + 1."""
    scratch = load_field(code, "scratch", "ptr").text
    count = _ELEMENTS_PER_WORD[b_type]
    for register, value in enumerate(b):
        for element in range(count):
            wide = _widened(code, b_type, value, element)
            for second in (0, 1):
                _store_columns(code, scratch, (register * count + element) * 2 + second, wide, second)
    totals: dict[tuple[int, int, int], Value] = {}
    for register in range(len(b)):
        for element in range(count):
            rows = [halves(code, _widened(code, a_type, a[2 * register + below], element)) for below in (0, 1)]
            place = (register * count + element) * 2
            for column in range(4):
                right = [_repeated(code, scratch, place + second, column) for second in (0, 1)]
                for below in (0, 1):
                    for part in (0, 1):
                        left = _spread_within_four(code, rows[below][part], column)
                        for second in (0, 1):
                            key = (below, second, part)
                            totals[key] = _multiply_add(code, left, right[second], totals.get(key))
    return [joined(code, totals[below, second, 0], totals[below, second, 1]) for below in (0, 1) for second in (0, 1)]


def _finish(code: Code, products: list[Value], accumulators: Sequence[Value], type: str) -> list[Value]:
    """D + C, with C added last; as integers for s32, rounded once more for f16."""
    if type == "s32":
        return [
            code.binary("add", code.cast("fptosi", product, "i32"), accumulator)
            for product, accumulator in zip(products, accumulators, strict=True)
        ]
    if type == "f32":
        totals = [
            code.binary("fadd", product, code.cast("bitcast", accumulator, "float"))
            for product, accumulator in zip(products, accumulators, strict=True)
        ]
        return [code.bits(total) for total in totals]
    results = []
    for row, packed in enumerate(accumulators):
        halves_of_row = []
        for second, part in enumerate(("low_half", "high_half")):
            old = apply(code, "f16_to_f32", "b16", (apply(code, part, "b32", (packed,)),))
            total = code.binary("fadd", products[2 * row + second], old)
            halves_of_row.append(apply(code, "f32_to_f16", "f32", (total,)))
        results.append(apply(code, "pack_halves", "b16", (halves_of_row[0], halves_of_row[1])))
    return results


def _mma(
    emit: Generator, results: Sequence[str], values: Sequence[Value], counts: tuple[int, int, int], a: str, b: str,
    c: str, **others: bool,
) -> list[Value]:  # fmt: skip
    if any(others.values()) or a not in _ELEMENTS_PER_WORD or b not in _ELEMENTS_PER_WORD:
        emit.unsupported("this form of mma")
    _require_whole_warp(emit, "mma.sync")
    code = emit.code

    def build(body: Code) -> None:
        names = [Value(f"%x{index}", "i32", True) for index in range(sum(counts))]
        first, second = counts[0], counts[0] + counts[1]
        products = _product(body, names[:first], names[first:second], a, b)
        _return(body, _finish(body, products, names[second:], c))

    arguments = "".join(f", {_WORDS} %x{index}" for index in range(sum(counts)))
    header = f"{result_type('i32', counts[2])} @(ptr %context{arguments})"
    name = emit.module.helper(f"mma_{'_'.join(map(str, counts))}_{a}_{b}_{c}", header, build)
    given = "".join(f", {code.widen(code.bits(value)).typed}" for value in values)
    found = call(code, result_type("i32", counts[2]), name, f"ptr %context{given}")
    parts = _taken(code, found, counts[2])
    return [code.cast("bitcast", part, "float") for part in parts] if c == "f32" else parts


def _taken(code: Code, aggregate: str, count: int) -> list[Value]:
    if count == 1:
        return [Value(aggregate, "i32", True)]
    kind = result_type("i32", count)
    return [code.emit(f"extractvalue {kind} {aggregate}, {index}", "i32", True) for index in range(count)]


def _return(code: Code, values: Sequence[Value]) -> None:
    if len(values) == 1:
        code.line(f"ret {values[0].typed}")
        return
    aggregate, text = result_type("i32", len(values)), "poison"
    for index, value in enumerate(values):
        name = code.name()
        code.line(f"{name} = insertvalue {aggregate} {text}, {value.typed}, {index}")
        text = name
    code.line(f"ret {aggregate} {text}")


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
    found = plan(filled, _ROW_BYTES // 4)
    if found is None:
        return None
    number_of_row = [found.places[0][row] for row in range(8 * count)]
    places = tuple(
        tuple(number_of_row[8 * matrix + lane // 4] + lane % 4 for lane in range(LANES)) for matrix in range(count)
    )
    return filled, Plan(found.runs, places)


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
    _return(code, [_transposed(code, words) for words in loaded] if transposed else loaded)
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
    _return(code, [_transposed(code, words) for words in results] if transposed else results)


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
    return _taken(code, found, count)


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

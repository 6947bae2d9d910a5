"""cp.async of the fast engine: from global to shared memory, at once.

In: a module, the bytes per lane, and the patterns that both addresses are expected to follow. Out: the name of a
helper. Why: a warp copies a few rows; when the patterns hold each row is a few wide moves.
"""

from __future__ import annotations

from .llvm_atomics import each_lane
from .llvm_checks import ADDRESSES, check, inside, range_of
from .llvm_memory import contiguous, digest, matches, parameter, prefetch
from .llvm_module import Module, call, load_field
from .llvm_values import LANES, Code, Pattern, Value

_MOST_RUNS = 16


def _runs(target: Pattern, source: Pattern, nbytes: int) -> list[tuple[int, int, int]]:
    """(target offset, source offset, bytes) of lanes that follow each other on both sides."""
    runs: list[tuple[int, int, int]] = []
    for to, origin in zip(target, source, strict=True):
        if runs:
            start, begin, length = runs[-1]
            if start + length == to and begin + length == origin:
                runs[-1] = (start, begin, length + nbytes)
                continue
        runs.append((to, origin, nbytes))
    return runs


def copy_helper(module: Module, nbytes: int, target: Value, source: Value, sized: bool) -> str:
    """`(context, site, targets, sources, mask[, sizes])`; the next site is that of the write."""
    patterns = target.pattern or contiguous(nbytes), source.pattern or contiguous(nbytes)
    runs = _runs(*patterns, nbytes)

    def build(code: Code) -> None:
        places = parameter(target, "%target"), parameter(source, "%source")
        code.line(f"%targets = alloca {ADDRESSES}")
        code.line(f"%sources = alloca {ADDRESSES}")
        code.line(f"%sizes = alloca <{LANES} x i32>")
        if len(runs) <= _MOST_RUNS:
            _fast(code, places, patterns, runs, nbytes, sized)
        code.line("br label %prepare")
        code.label("prepare")
        _slow(module, code, places, nbytes, sized)

    key = digest((patterns, target.type, source.type))
    sizes = f", <{LANES} x i32> %size" if sized else ""
    header = f"void @(ptr %context, i32 %site, {target.type} %target, {source.type} %source, i32 %mask{sizes})"
    return module.helper(f"copy_{nbytes}{'_sized' if sized else ''}_{key}", header, build)


def _fast(
    code: Code, places: tuple[Value, Value], patterns: tuple[Pattern, Pattern], runs: list[tuple[int, int, int]],
    nbytes: int, sized: bool,
) -> None:  # fmt: skip
    """Move whole runs when every lane copies all its bytes and both patterns hold."""
    condition = code.compare("icmp eq", Value("%mask", "i32"), code.integer("i32", -1))
    pointers = []
    for space, address, pattern, part in zip(("shared", "global"), places, patterns, (0, 1), strict=True):
        first, same = matches(code, address, pattern)
        first = code.resize(first, "i64")
        aligned = code.compare(
            "icmp eq", code.binary("and", first, code.integer("i64", nbytes - 1)), code.integer("i64", 0)
        )
        low, high = min(run[part] for run in runs), max(run[part] + run[2] for run in runs)
        lowest = code.binary("add", first, code.integer("i64", low))
        fits = inside(code, lowest, code.integer("i64", high - low), *range_of(code, space))
        condition = code.binary("and", condition, code.binary("and", same, code.binary("and", aligned, fits)))
        base = load_field(code, "shared" if space == "shared" else "arena", "ptr")
        pointers.append(code.emit(f"getelementptr i8, ptr {base.text}, i64 {first.text}", "ptr", False))
    if sized:
        enough = code.compare("icmp uge", Value("%size", "i32", True), code.integer("i32", nbytes))
        all_of_it = code.compare("icmp eq", code.cast_mask(enough), code.integer("i32", -1))
        condition = code.binary("and", condition, all_of_it)
    code.line(f"br i1 {condition.text}, label %fast, label %other")
    code.label("fast")
    _prefetch_next(code, pointers[1].text, runs)
    for to, origin, length in runs:
        for done in range(0, length, 64):
            count = min(64, length - done) // 4
            read, write, value = code.name(), code.name(), code.name()
            code.line(f"{read} = getelementptr i8, ptr {pointers[1].text}, i64 {origin + done}")
            code.line(f"{write} = getelementptr i8, ptr {pointers[0].text}, i64 {to + done}")
            code.line(f"{value} = load <{count} x i32>, ptr {read}, align 4")
            code.line(f"store <{count} x i32> {value}, ptr {write}, align 4")
    code.line("ret void")
    code.label("other")


def _prefetch_next(code: Code, source: str, runs: list[tuple[int, int, int]]) -> None:
    """Ask for what the next warp is likely to copy here: as far from this warp's rows as those are from the last's. An
    asynchronous copy hides how long memory takes; one that is made at once must have it at hand.

    The last address is kept in the record of the allocation that the write touched, which shared memory has no use for.
    """
    table = load_field(code, "recent", "ptr")
    write, slot, last, distance, ahead = (code.name() for _ in range(5))
    code.line(f"{write} = add i32 %site, 1")
    code.line(f"{slot} = getelementptr [2 x i64], ptr {table.text}, i32 {write}")
    code.line(f"{last} = load i64, ptr {slot}")
    now = code.emit(f"ptrtoint ptr {source} to i64", "i64", False)
    code.line(f"store {now.typed}, ptr {slot}")
    code.line(f"{distance} = sub {now.typed}, {last}")
    code.line(f"{ahead} = getelementptr i8, ptr {source}, i64 {distance}")
    for _, origin, length in runs:
        for done in range(0, length, 64):
            prefetch(code, ahead, origin + done)


def _slow(module: Module, code: Code, places: tuple[Value, Value], nbytes: int, sized: bool) -> None:
    """Lane by lane: `size` bytes, zeros behind them. Bytes beyond `size` are neither read nor checked."""
    target, source = (code.resize(code.widen(place), "i64") for place in places)
    full = code.integer("i32", -1)
    if sized:
        whole = code.compare("icmp uge", Value("%size", "i32", True), code.integer("i32", nbytes))
        full = code.cast_mask(whole)
    reading = code.binary("and", full, Value("%mask", "i32"))
    read = call(code, "i32", check(module, "global"),
                f"ptr %context, i32 %site, {source.typed}, {reading.typed}, i64 {nbytes}")  # fmt: skip
    code.line("%write_site = add i32 %site, 1")
    write = call(code, "i32", check(module, "shared"),
                 f"ptr %context, i32 %write_site, {target.typed}, i32 %mask, i64 {nbytes}")  # fmt: skip
    code.line(f"store {target.typed}, ptr %targets")
    code.line(f"store {source.typed}, ptr %sources")
    arena, shared = load_field(code, "arena", "ptr"), load_field(code, "shared", "ptr")
    if sized:
        code.line(f"store <{LANES} x i32> %size, ptr %sizes")
    code.line("br label %entry_of_loop")
    code.label("entry_of_loop")
    code.line("br label %lanes")
    _lane_loop(module, code, read, write, arena, shared, nbytes, sized)


def _lane_loop(
    module: Module, code: Code, read: str, write: str, arena: Value, shared: Value, nbytes: int, sized: bool
) -> None:
    vector = f"<{nbytes // 4} x i32>"

    def body() -> None:
        code.line("%target_at = getelementptr i64, ptr %targets, i32 %lane")
        code.line("%source_at = getelementptr i64, ptr %sources, i32 %lane")
        code.line("%to = load i64, ptr %target_at")
        code.line("%from = load i64, ptr %source_at")
        code.line(f"%write_to = getelementptr i8, ptr {shared.text}, i64 %to")
        code.line(f"%read_from = getelementptr i8, ptr {arena.text}, i64 %from")
        code.line("%bit = shl i32 1, %lane")
        code.line(f"%reads = and i32 {read}, %bit")
        code.line("%may_read = icmp ne i32 %reads, 0")
        code.line("br i1 %may_read, label %move, label %clear")
        code.label("move")
        code.line(f"%content = load {vector}, ptr %read_from, align 4")
        code.line(f"store {vector} %content, ptr %write_to, align 4")
        code.line("br label %moved")
        code.label("clear")
        code.line(f"store {vector} zeroinitializer, ptr %write_to, align 4")
        if sized:
            _partial_bytes(module, code, nbytes)
        code.line("br label %moved")
        code.label("moved")

    each_lane(code, write, body)
    code.lines = [line.replace("%entry ]", "%entry_of_loop ]") for line in code.lines]
    code.line("ret void")


def _partial_bytes(module: Module, code: Code, nbytes: int) -> None:
    """Of a lane that copies some of its bytes only: each byte checked on its own."""
    code.line("%size_at = getelementptr i32, ptr %sizes, i32 %lane")
    code.line("%mine = load i32, ptr %size_at")
    code.line(f"%less = icmp ult i32 %mine, {nbytes}")
    code.line("%count = select i1 %less, i32 %mine, i32 0")
    code.line("br label %bytes")
    code.label("bytes")
    code.line("%index = phi i32 [ 0, %clear ], [ %after, %byte_done ]")
    code.line("%more = icmp ult i32 %index, %count")
    code.line("br i1 %more, label %byte, label %bytes_done")
    code.label("byte")
    code.line("%wide_index = zext i32 %index to i64")
    code.line("%byte_address = add i64 %from, %wide_index")
    wide = code.widen(Value("%byte_address", "i64"))
    good = call(code, "i32", check(module, "global"), f"ptr %context, i32 %site, {wide.typed}, i32 %bit, i64 1")
    code.line(f"%byte_fine = icmp ne i32 {good}, 0")
    code.line("br i1 %byte_fine, label %byte_move, label %byte_done")
    code.label("byte_move")
    code.line("%byte_from = getelementptr i8, ptr %read_from, i64 %wide_index")
    code.line("%byte_to = getelementptr i8, ptr %write_to, i64 %wide_index")
    code.line("%byte_value = load i8, ptr %byte_from")
    code.line("store i8 %byte_value, ptr %byte_to")
    code.line("br label %byte_done")
    code.label("byte_done")
    code.line("%after = add i32 %index, 1")
    code.line("br label %bytes")
    code.label("bytes_done")

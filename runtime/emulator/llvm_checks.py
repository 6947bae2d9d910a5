"""Bounds and alignment checks of the fast engine.

In: addresses over lanes, the lanes that matter, the width. Out: the lanes whose access is right; the first wrong access
is recorded in the context and skipped. Why: an unchecked wild access would end the Python process.

Each memory instruction remembers the allocation it touched last, so that a check is usually two comparisons; only when
that misses is the sorted table of allocations searched.
"""

from __future__ import annotations

from .llvm_context import FAULT_ACCESS, SPACES
from .llvm_module import Module, call, field_pointer, load_field
from .llvm_values import LANES, Code, Value

ADDRESSES = f"<{LANES} x i64>"


def recent_range(code: Code) -> tuple[Value, Value, str]:
    """(start, bytes) of the allocation that instruction %site touched last, and the address of that record."""
    table = load_field(code, "recent", "ptr")
    slot = code.name()
    code.line(f"{slot} = getelementptr [2 x i64], ptr {table.text}, i32 %site")
    start = code.emit(f"load i64, ptr {slot}", "i64", False)
    second = code.name()
    code.line(f"{second} = getelementptr i8, ptr {slot}, i64 8")
    return start, code.emit(f"load i64, ptr {second}", "i64", False), slot


def range_of(code: Code, space: str) -> tuple[Value, Value]:
    """(start, bytes) of the memory that an access to `space` may touch, as far as is known without a search."""
    if space == "shared":
        return code.integer("i64", 0), load_field(code, "shared_limit", "i64")
    start, size, _ = recent_range(code)
    return start, size


def inside(code: Code, address: Value, nbytes: Value, start: Value, size: Value) -> Value:
    """Whether [address, address + nbytes) lies in [start, start + size), without overflow."""
    relative = code.binary("sub", address, start)
    begins = code.compare("icmp ult", relative, size)
    ends = code.compare("icmp uge", code.binary("sub", size, relative), nbytes)
    return code.binary("and", begins, ends)


def fault(module: Module) -> str:
    """`fault(context, site, addresses, lanes, space)`: record the first finding of the launch."""

    def build(code: Code) -> None:
        kind = load_field(code, "fault_kind", "i32")
        first = code.compare("icmp eq", kind, code.integer("i32", 0))
        code.line(f"br i1 {first.text}, label %record, label %done")
        code.label("record")
        for name, value in (
            ("fault_kind", f"i32 {FAULT_ACCESS}"), ("fault_site", "i32 %site"), ("fault_lanes", "i32 %lanes"),
            ("fault_space", "i32 %space"), ("fault_address", f"{ADDRESSES} %address"),
        ):  # fmt: skip
            alignment = ", align 8" if name == "fault_address" else ""
            code.line(f"store {value}, ptr {field_pointer(code, name)}{alignment}")
        warp = load_field(code, "warp", "i32")
        code.line(f"store {warp.typed}, ptr {field_pointer(code, 'fault_warp')}")
        code.line("br label %done")
        code.label("done")
        code.line("ret void")

    return module.helper(
        "fault",
        f"void @(ptr %context, i32 %site, {ADDRESSES} %address, i32 %lanes, i32 %space)",
        build,
        "noinline cold",
    )


def search(module: Module) -> str:
    """`search(context, site, address, nbytes)`: whether some allocation holds the bytes; remembers it for %site."""

    def build(code: Code) -> None:
        table, count = load_field(code, "table", "ptr"), load_field(code, "table_count", "i64")
        code.line("br label %loop")
        code.label("loop")
        # The number of allocations that start at or below the address, by bisection.
        code.line("%low = phi i64 [ 0, %entry ], [ %next_low, %step ]")
        code.line(f"%high = phi i64 [ {count.text}, %entry ], [ %next_high, %step ]")
        code.line("%more = icmp ult i64 %low, %high")
        code.line("br i1 %more, label %step, label %found")
        code.label("step")
        code.line("%sum = add i64 %low, %high")
        code.line("%middle = lshr i64 %sum, 1")
        code.line(f"%entry_at = getelementptr [2 x i64], ptr {table.text}, i64 %middle")
        code.line("%start_there = load i64, ptr %entry_at")
        code.line("%below = icmp ule i64 %start_there, %address")
        code.line("%after = add i64 %middle, 1")
        code.line("%next_low = select i1 %below, i64 %after, i64 %low")
        code.line("%next_high = select i1 %below, i64 %high, i64 %middle")
        code.line("br label %loop")
        code.label("found")
        code.line("%none = icmp eq i64 %low, 0")
        code.line("br i1 %none, label %outside, label %verify")
        code.label("verify")
        code.line("%index = sub i64 %low, 1")
        code.line(f"%record = getelementptr [2 x i64], ptr {table.text}, i64 %index")
        code.line("%start = load i64, ptr %record")
        code.line("%end_at = getelementptr i8, ptr %record, i64 8")
        code.line("%end = load i64, ptr %end_at")
        code.line("%size = sub i64 %end, %start")
        values = (Value("%address", "i64"), Value("%nbytes", "i64"), Value("%start", "i64"), Value("%size", "i64"))
        right = inside(code, *values)
        code.line(f"br i1 {right.text}, label %remember, label %outside")
        code.label("remember")
        _, _, slot = recent_range(code)
        code.line(f"store i64 %start, ptr {slot}")
        second = code.name()
        code.line(f"{second} = getelementptr i8, ptr {slot}, i64 8")
        code.line(f"store i64 %size, ptr {second}")
        code.line("ret i1 true")
        code.label("outside")
        code.line("ret i1 false")

    return module.helper("search", "i1 @(ptr %context, i32 %site, i64 %address, i64 %nbytes)", build)


def check(module: Module, space: str) -> str:
    """`check_<space>(context, site, addresses, mask, nbytes)`: the lanes of the mask whose access is right."""

    def build(code: Code) -> None:
        address, nbytes = Value("%address", "i64", True), Value("%nbytes", "i64")
        low_bits = code.binary("and", address, code.binary("sub", nbytes, code.integer("i64", 1)))
        aligned = code.compare("icmp eq", low_bits, code.integer("i64", 0))
        fixed = {"local": module.local_bytes, "parameter": module.parameter_bytes}
        if space in fixed:
            start, size = code.integer("i64", 0), code.integer("i64", fixed[space])
        else:
            start, size = range_of(code, space)
        right = code.binary("and", aligned, inside(code, address, nbytes, start, size))
        good = code.cast_mask(right)
        bad = code.binary("and", Value("%mask", "i32"), code.binary("xor", good, code.integer("i32", -1)))
        none = code.compare("icmp eq", bad, code.integer("i32", 0))
        code.line(f"%store = alloca {ADDRESSES}")
        code.line(f"br i1 {none.text}, label %fine, label %slow")
        code.label("fine")
        code.line("ret i32 %mask")
        code.label("slow")
        if space != "global":
            code.line(f"%wrong = and i32 {bad.text}, -1")
            code.line("br label %report")
        else:
            _search_lanes(module, code, bad, code.cast_mask(aligned))
        code.label("report")
        found = f"ptr %context, i32 %site, {ADDRESSES} %address, i32 %wrong, i32 {SPACES.index(space)}"
        call(code, "void", fault(module), found)
        code.line("%kept = xor i32 %wrong, -1")
        code.line("%rest = and i32 %mask, %kept")
        code.line("ret i32 %rest")

    return module.helper(
        f"check_{space}", f"i32 @(ptr %context, i32 %site, {ADDRESSES} %address, i32 %mask, i64 %nbytes)", build
    )


def _search_lanes(module: Module, code: Code, bad: Value, aligned: Value) -> None:
    """Look the lanes of `bad` up one by one; goes on at `report` with %wrong, or returns the mask."""
    code.line(f"store {ADDRESSES} %address, ptr %store")
    code.line("br label %lanes")
    code.label("lanes")
    code.line(f"%left = phi i32 [ {bad.text}, %slow ], [ %fewer, %looked ]")
    code.line("%wrong = phi i32 [ 0, %slow ], [ %more_wrong, %looked ]")
    code.line("%empty = icmp eq i32 %left, 0")
    code.line("br i1 %empty, label %end, label %look")
    code.label("look")
    code.declare("llvm.cttz.i32", "declare i32 @llvm.cttz.i32(i32, i1)")
    code.line("%lane = call i32 @llvm.cttz.i32(i32 %left, i1 true)")
    code.line("%bit = shl i32 1, %lane")
    code.line("%fewer = xor i32 %left, %bit")
    code.line("%at = getelementptr i64, ptr %store, i32 %lane")
    code.line("%one = load i64, ptr %at")
    found = call(code, "i1", search(module), "ptr %context, i32 %site, i64 %one, i64 %nbytes")
    code.line(f"%is_aligned = and i32 {aligned.text}, %bit")
    code.line("%fits = icmp ne i32 %is_aligned, 0")
    code.line(f"%is_right = and i1 {found}, %fits")
    code.line("br label %looked")
    code.label("looked")
    code.line("%with = or i32 %wrong, %bit")
    code.line("%more_wrong = select i1 %is_right, i32 %wrong, i32 %with")
    code.line("br label %lanes")
    code.label("end")
    code.line("%no_fault = icmp eq i32 %wrong, 0")
    code.line("br i1 %no_fault, label %fine, label %report")

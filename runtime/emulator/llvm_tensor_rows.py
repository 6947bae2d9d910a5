"""One row of a tensor copy of the fast engine, between global memory and its swizzled place in shared memory.

In: a module, the direction. Out: the name of a helper. Why: a box is rows, and nearly all time of a copy goes into
them, most of which lie wholly inside their tensor, and in one line of the swizzle.
"""

from __future__ import annotations

from .llvm_module import Module, load_field
from .llvm_operands import emit as line
from .llvm_values import Code

_PIECE = 16
_LINE_BYTES = 128
"""What the swizzle turns pieces within."""


def row_helper(module: Module, loading: bool) -> str:
    """`(context, shared memory, start there, phases of the swizzle, bytes, place in global memory, first, last)`: bytes
    from `first` to `last` are copied; of a load the others become zero."""
    source, target = ("outside", "inside") if loading else ("inside", "outside")

    def build(code: Code) -> None:
        arena = load_field(code, "arena", "ptr").text
        code.line(f"%row = getelementptr i8, ptr {arena}, i64 %place")
        _whole_row(code, source, target)
        code.line("br label %piece")
        code.label("piece")
        code.line("%at = phi i64 [ 0, %pieces ], [ %after, %done ]")
        code.line("%plain = add i64 %start, %at")
        swizzle = line(code, f"and i64 {line(code, 'lshr i64 %plain, 7')}, %phases")
        inner = line(code, f"xor i64 %plain, {line(code, f'shl i64 {swizzle}, 4')}")
        code.line(f"%inside = getelementptr i8, ptr %shared, i64 {inner}")
        code.line("%outside = getelementptr i8, ptr %row, i64 %at")
        code.line(f"%after = add i64 %at, {_PIECE}")
        begins, ends = line(code, "icmp uge i64 %at, %first"), line(code, "icmp ule i64 %after, %last")
        code.line(f"br i1 {line(code, f'and i1 {begins}, {ends}')}, label %whole, label %edge")
        code.label("whole")
        code.line(f"%bytes = load <{_PIECE} x i8>, ptr %{source}, align 1")
        code.line(f"store <{_PIECE} x i8> %bytes, ptr %{target}, align 1")
        code.line("br label %done")
        code.label("edge")
        if loading:
            code.line(f"store <{_PIECE} x i8> zeroinitializer, ptr %inside, align 16")
        _bytes_of_edge(code, source, target)
        code.label("done")
        code.line("%more = icmp ult i64 %after, %nbytes")
        code.line("br i1 %more, label %piece, label %end")
        code.label("end")
        code.line("ret void")

    numbers = ", ".join(f"i64 %{name}" for name in ("start", "phases", "nbytes", "place", "first", "last"))
    return module.helper(
        f"{'load' if loading else 'store'}_row", f"void @(ptr %context, ptr %shared, {numbers})", build
    )  # fmt: skip


def _bytes_of_edge(code: Code, source: str, target: str) -> None:
    """Of a piece that lies inside in part: byte by byte; goes on at `done`."""
    code.line("br label %byte")
    code.label("byte")
    code.line("%index = phi i64 [ 0, %edge ], [ %next, %stepped ]")
    code.line("%here = add i64 %at, %index")
    above, below = line(code, "icmp uge i64 %here, %first"), line(code, "icmp ult i64 %here, %last")
    code.line(f"br i1 {line(code, f'and i1 {above}, {below}')}, label %one, label %stepped")
    code.label("one")
    code.line(f"%one_from = getelementptr i8, ptr %{source}, i64 %index")
    code.line(f"%one_to = getelementptr i8, ptr %{target}, i64 %index")
    code.line("%value = load i8, ptr %one_from")
    code.line("store i8 %value, ptr %one_to")
    code.line("br label %stepped")
    code.label("stepped")
    code.line("%next = add i64 %index, 1")
    code.line(f"%more_bytes = icmp ult i64 %next, {_PIECE}")
    code.line("br i1 %more_bytes, label %byte, label %done")


def _whole_row(code: Code, source: str, target: str) -> None:
    """A row inside the tensor in one line of the swizzle, as most are, is moved four pieces at a time; else goes on at
    `pieces`."""
    conditions = [
        line(code, text) for text in ("icmp eq i64 %first, 0", "icmp eq i64 %last, %nbytes",
                                      f"icmp ule i64 %nbytes, {_LINE_BYTES}")
    ]  # fmt: skip
    low = line(code, f"or i64 {line(code, f'and i64 %start, {_LINE_BYTES - 1}')}, "
               f"{line(code, f'and i64 %nbytes, {4 * _PIECE - 1}')}")  # fmt: skip
    good = line(code, f"icmp eq i64 {low}, 0")
    for condition in conditions:
        good = line(code, f"and i1 {good}, {condition}")
    code.line(f"br i1 {good}, label %plain_row, label %pieces")
    code.label("plain_row")
    phase = line(code, f"and i64 {line(code, 'lshr i64 %start, 7')}, %phases")
    turned = line(code, f"shl i64 {phase}, 4")
    code.line("%line = getelementptr i8, ptr %shared, i64 %start")
    code.line("br label %four")
    code.label("four")
    code.line("%begin = phi i64 [ 0, %plain_row ], [ %behind, %four ]")
    for index in range(4):
        here = line(code, f"add i64 %begin, {_PIECE * index}")
        swizzled = line(code, f"xor i64 {here}, {turned}")
        places = {
            "inside": line(code, f"getelementptr i8, ptr %line, i64 {swizzled}"),
            "outside": line(code, f"getelementptr i8, ptr %row, i64 {here}"),
        }
        moved = line(code, f"load <{_PIECE} x i8>, ptr {places[source]}, align 1")
        code.line(f"store <{_PIECE} x i8> {moved}, ptr {places[target]}, align 1")
    code.line(f"%behind = add i64 %begin, {4 * _PIECE}")
    code.line("%further = icmp ult i64 %behind, %nbytes")
    code.line("br i1 %further, label %four, label %end")
    code.label("pieces")

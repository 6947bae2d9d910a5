"""Clusters on the fast engine: barrier.cluster.arrive, whether the wait for it is over, and whose memory a warp reads.

In: the generator, the lanes that arrive, wait or read. Out: counts in the context, and in the warp's record which of
its lanes have arrived since which generation. Why: every kernel in clusters begins and ends with it, in all its warps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .llvm_checks import ADDRESSES
from .llvm_context import FAULT_SWITCH
from .llvm_mbarrier import cluster_pointer
from .llvm_module import Module, field_pointer, load_field
from .llvm_values import Code, Value
from .memory import RANK_SHIFT

if TYPE_CHECKING:
    from .llvm_codegen import Generator

RECORD_LANES, RECORD_GENERATION = 8, 12
"""Bytes into a warp's record."""


def arrive(emit: Generator, results: Sequence[str], values: Sequence[Value], **static: Any) -> list[Value]:
    """barrier.cluster.arrive: the last living thread of the cluster begins the next generation."""
    code, lanes = emit.code, emit.active()
    generation = emit.field("cluster_generation", "i32")
    since, there = _record(emit, RECORD_GENERATION), _record(emit, RECORD_LANES)
    same = code.compare("icmp eq", since, generation)
    there = code.select(same, there, code.integer("i32", 0))
    _refuse(emit, code.binary("and", there, lanes), "barrier.cluster.arrive twice without a wait")
    _set_record(emit, RECORD_LANES, code.binary("or", there, lanes))
    _set_record(emit, RECORD_GENERATION, generation)
    count = code.intrinsic("ctpop", "i32", lanes)
    arrived = code.binary("add", emit.field("cluster_arrived", "i32"), count)
    some = code.compare("icmp ne", count, code.integer("i32", 0))
    all_here = code.compare("icmp uge", arrived, emit.field("cluster_expected", "i32"))
    complete = code.binary("and", some, all_here)
    arrived = code.select(complete, code.integer("i32", 0), arrived)
    code.line(f"store {arrived.typed}, ptr {field_pointer(code, 'cluster_arrived')}")
    generation = code.binary("add", generation, code.resize(complete, "i32"))
    code.line(f"store {generation.typed}, ptr {field_pointer(code, 'cluster_generation')}")
    return []


def generations_over(emit: Generator, lanes: Value) -> Value:
    """Of `lanes` those whose generation is complete: all or none."""
    code = emit.code
    missing = code.binary("and", lanes, code.binary("xor", _record(emit, RECORD_LANES), code.integer("i32", -1)))
    _refuse(emit, missing, "barrier.cluster.wait without an arrive before")
    over = code.compare("icmp ne", _record(emit, RECORD_GENERATION), emit.field("cluster_generation", "i32"))
    return code.select(over, lanes, code.integer("i32", 0))


def _record(emit: Generator, start: int) -> Value:
    place = emit.code.name()
    emit.code.line(f"{place} = getelementptr i8, ptr %record, i64 {start}")
    return emit.code.emit(f"load i32, ptr {place}", "i32", False)


def _set_record(emit: Generator, start: int, value: Value) -> None:
    place = emit.code.name()
    emit.code.line(f"{place} = getelementptr i8, ptr %record, i64 {start}")
    emit.code.line(f"store {value.typed}, ptr {place}")


def _refuse(emit: Generator, lanes: Value, what: str) -> None:
    """A finding when any lane is wrong."""
    from .llvm_routines import record_fault

    code = emit.code
    some = code.compare("icmp ne", lanes, code.integer("i32", 0))
    label = code.name()[1:]
    code.line(f"br i1 {some.text}, label %wrong{label}, label %right{label}")
    code.label(f"wrong{label}")
    record_fault(emit, FAULT_SWITCH, emit.site("", what, 0), lanes)
    code.line(f"br label %right{label}")
    code.label(f"right{label}")


def block_helper(module: Module, nbytes: int) -> str:
    """`(context, addresses, mask)` -> the shared memory of the one block that a whole warp reads `nbytes` a lane of,
    within it and aligned; null otherwise.
    """

    def build(code: Code) -> None:
        address = Value("%address", "i64", True)
        rank = code.integer("i64", RANK_SHIFT)
        first = code.lane(address, 0)
        offsets = code.binary("and", address, code.widen(code.integer("i64", (1 << RANK_SHIFT) - 1)))
        alike = code.compare(
            "icmp eq", code.binary("lshr", address, code.widen(rank)), code.widen(code.binary("lshr", first, rank))
        )
        low = code.binary("and", offsets, code.widen(code.integer("i64", nbytes - 1)))
        aligned = code.compare("icmp eq", low, code.widen(code.integer("i64", 0)))
        limit = load_field(code, "shared_limit", "i64")
        size = code.integer("i64", nbytes)
        last = code.widen(code.binary("sub", limit, size))
        inside = code.compare("icmp ule", offsets, last)
        lanes = code.cast_mask(code.binary("and", code.binary("and", alike, aligned), inside))
        every = code.binary("and", lanes, Value("%mask", "i32"))
        whole = code.compare("icmp eq", every, code.integer("i32", -1))
        enough = code.compare("icmp uge", limit, size)
        found = cluster_pointer(code, module, first.text)
        sound = code.binary("and", code.binary("and", whole, enough), Value(found.sound, "i1"))
        code.line(f"ret {code.select(sound, Value(found.base, 'ptr'), Value('null', 'ptr')).typed}")

    return module.helper(f"block_of_{nbytes}", f"ptr @(ptr %context, {ADDRESSES} %address, i32 %mask)", build)

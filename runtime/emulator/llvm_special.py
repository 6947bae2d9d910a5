"""Special registers of the fast engine.

In: a special register and the block shape. Out: its value. Why: the block shape is known when a kernel is compiled, so
that thread numbers are constants plus a multiple of the warp's number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .llvm_values import LANES, Code, Value, constant_vector
from .ptx import Special

if TYPE_CHECKING:
    from .llvm_codegen import Generator

_LANES = np.arange(LANES, dtype=np.uint64)
_BITS = np.uint64(1) << _LANES
_LANE_TABLES = {
    "%laneid": _LANES, "%lanemask_eq": _BITS, "%lanemask_lt": _BITS - np.uint64(1),
    "%lanemask_le": _BITS * np.uint64(2) - np.uint64(1),
    "%lanemask_ge": np.uint64(0xFFFFFFFF) - (_BITS - np.uint64(1)),
    "%lanemask_gt": np.uint64(0xFFFFFFFF) - (_BITS * np.uint64(2) - np.uint64(1)),
}  # fmt: skip
_CLOCKS = ("%clock", "%clock_hi", "%clock64", "%globaltimer", "%globaltimer_lo", "%globaltimer_hi")
_FIXED = {"%nwarpid": 64, "%gridid": 0, "%smid": 0, "%nsmid": 1}


def special_register(emit: Generator, operand: Special) -> Value:
    """The value of `%tid.x` and its kin, as i32 (i64 for clocks)."""
    code, name = emit.code, operand.name
    axis = "xyz".find(operand.component) if operand.component else 0
    if name == "%tid":
        return thread_number(code, emit.shape, axis, emit.field("warp", "i32"), emit.scalar)
    if name == "%ntid":
        return code.integer("i32", emit.shape[axis])
    if name in ("%ctaid", "%nctaid"):
        pointer = emit.pointer("block" if name == "%ctaid" else "grid")
        place = code.name()
        code.line(f"{place} = getelementptr i32, ptr {pointer}, i64 {axis}")
        return code.emit(f"load i32, ptr {place}", "i32", False)
    if name == "%laneid" and emit.scalar:
        return code.integer("i32", 0)
    if name in _LANE_TABLES:
        numbers = [int(number) for number in _LANE_TABLES[name]]
        return Value(constant_vector("i32", numbers), "i32", True)
    if name == "%warpid":
        return emit.field("warp", "i32")
    if name in _CLOCKS:
        code.declare("llvm.readcyclecounter", "declare i64 @llvm.readcyclecounter()")
        return code.emit("call i64 @llvm.readcyclecounter()", "i64", False)
    if name in ("%total_smem_size", "%aggr_smem_size"):
        return code.resize(emit.field("shared_limit", "i64"), "i32")
    if name == "%dynamic_smem_size":
        return emit.field("dynamic_bytes", "i32")
    if "cluster" in name:
        return _of_cluster(emit, name, axis)
    if name in _FIXED:
        return code.integer("i32", _FIXED[name])
    return emit.unsupported(f"special register {name}")


def _of_cluster(emit: Generator, name: str, axis: int) -> Value:
    """%clusterid and its kin. Without clusters every block is a cluster of its own."""
    code, shape = emit.code, emit.program.cluster_shape or (1, 1, 1)
    rank = emit.field("rank", "i32")
    if name == "%is_explicit_cluster":
        return code.integer("i1", shape != (1, 1, 1))
    if name == "%cluster_ctarank":
        return rank
    if name == "%cluster_nctarank":
        return code.integer("i32", shape[0] * shape[1] * shape[2])
    if name == "%cluster_nctaid":
        return code.integer("i32", shape[axis])
    if name == "%cluster_ctaid":
        below = (1, shape[0], shape[0] * shape[1])[axis]
        row = code.binary("udiv", rank, code.integer("i32", below))
        return code.binary("urem", row, code.integer("i32", shape[axis]))
    whole = special_register(emit, Special("%ctaid" if name == "%clusterid" else "%nctaid", "xyz"[axis]))
    return code.binary("udiv", whole, code.integer("i32", shape[axis]))


def thread_number(code: Code, shape: tuple[int, int, int], axis: int, warp: Value, first_only: bool) -> Value:
    """%tid along an axis, of all lanes or the first only; lanes beyond the block repeat its last thread."""
    x, y, z = shape
    if shape[axis] == 1:
        return code.integer("i32", 0)
    first = code.binary("mul", warp, code.integer("i32", LANES))
    lanes = Value(constant_vector("i32", range(LANES)), "i32", True)
    linear = first if first_only else code.binary("add", lanes, first)
    if x * y * z % LANES and not first_only:
        linear = code.intrinsic("umin", "i32", linear, code.integer("i32", x * y * z - 1))
    below = (1, x, x * y)[axis]
    if below > 1:
        linear = code.binary("udiv", linear, code.integer("i32", below))
    if axis == 2 or below * shape[axis] == x * y * z:
        return linear
    return code.binary("urem", linear, code.integer("i32", shape[axis]))

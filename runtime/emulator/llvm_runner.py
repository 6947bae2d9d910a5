"""The runner of the fast engine: a function that takes blocks of a launch through all their warps.

In: sizes of the kernel's records, the shape of its clusters. Out: IR of `run(context, first, behind)`. Why: warps are
called in turn until each has ended; with nobody able to go on, the block is deadlocked. All of it is host code, so that
a launch of one small block costs microseconds.

The blocks of a cluster run together, as one block with that many times the warps: what `first` and `behind` count are
clusters. In a round where nobody could go on `hurry` is set: lanes that wait for others of their warp then do without.
When for some rounds nobody did but those who spin on memory, the function returns, so that other blocks may write what
these wait for; it is called again with `turn` set in the context.
"""

from __future__ import annotations

from .llvm_barriers import RECORD_ENDED, RECORD_PLACE, Record
from .llvm_context import (
    BARRIER_BYTES,
    BARRIERS,
    BLOCKED,
    ENDED,
    FAULT_DEADLOCK,
    HURRIED,
    NEW,
    PAUSES,
    offset,
)
from .llvm_module import REGISTER_CALL
from .llvm_values import LANES

DONE, FOUND, SPINS = range(3)
"""What the function returns: all blocks have ended; the context holds a finding; the threads of a block spin."""
_PATIENCE = 32
"""Rounds in which nobody but spinning warps goes on, before other blocks have their turn."""


def runner(
    symbol: str, record: Record, threads: int, local_bytes: int, sites: int, cluster: tuple[int, int, int]
) -> str:  # fmt: skip
    """The text of the function `symbol`. `sites` is the number of memory instructions; what each of them touched last
    is forgotten at the start, as allocations may have changed."""
    warps = -(-threads // LANES)
    blocks = cluster[0] * cluster[1] * cluster[2]
    text = _RUNNER
    for name in ("stop", "grid", "block", "shared", "shared_base", "shared_limit", "local", "local_base", "warps",
                 "warp", "rank", "hurry", "turn", "fault_kind", "barriers", "block_number", "recent",
                 "cluster_arrived", "cluster_expected", "cluster_generation"):  # fmt: skip
        text = text.replace(f"<{name}>", str(offset(name)))
    for name, number in (
        ("symbol", symbol), ("call", REGISTER_CALL), ("record_bytes", record.nbytes),
        ("header_bytes", record.header_bytes), ("warp_count", warps), ("warp_frame", local_bytes * LANES),
        ("all_warps", warps * blocks), ("blocks", blocks), ("all_threads", threads * blocks),
        ("last_warp", warps - 1), ("last_threads", threads - LANES * (warps - 1)), ("lanes", LANES),
        ("all_frames", local_bytes * LANES * warps * blocks), ("place", RECORD_PLACE),
        ("barrier_bytes", BARRIER_BYTES * BARRIERS), ("all_barriers", BARRIER_BYTES * BARRIERS * blocks),
        ("recent_bytes", 16 * sites), ("cluster_x", cluster[0]), ("cluster_y", cluster[1]), ("cluster_z", cluster[2]),
        ("cluster_xy", cluster[0] * cluster[1]),
        ("ended", RECORD_ENDED), ("ENDED", ENDED), ("BLOCKED", BLOCKED), ("DEADLOCK", FAULT_DEADLOCK),
        ("PAUSES", PAUSES), ("NEW", NEW), ("HURRIED", HURRIED), ("PATIENCE", _PATIENCE), ("DONE", DONE),
        ("FOUND", FOUND), ("SPINS", SPINS),
        ("grid_y", offset("grid") + 4), ("block_y", offset("block") + 4), ("block_z", offset("block") + 8),
    ):  # fmt: skip
        text = text.replace(f"${name}$", str(number))
    return text


DECLARATION = "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)"

_RUNNER = """
define i32 @$symbol$(ptr %context, i32 %first, i32 %behind) #0 {
entry:
  %grid_x_at = getelementptr i8, ptr %context, i64 <grid>
  %grid_y_at = getelementptr i8, ptr %context, i64 $grid_y$
  %grid_x = load i32, ptr %grid_x_at
  %grid_y = load i32, ptr %grid_y_at
  %block_x_at = getelementptr i8, ptr %context, i64 <block>
  %block_y_at = getelementptr i8, ptr %context, i64 $block_y$
  %block_z_at = getelementptr i8, ptr %context, i64 $block_z$
  %number_at = getelementptr i8, ptr %context, i64 <block_number>
  %warp_at = getelementptr i8, ptr %context, i64 <warp>
  %kind_at = getelementptr i8, ptr %context, i64 <fault_kind>
  %rank_at = getelementptr i8, ptr %context, i64 <rank>
  %arrived_at = getelementptr i8, ptr %context, i64 <cluster_arrived>
  %expected_at = getelementptr i8, ptr %context, i64 <cluster_expected>
  %generation_at = getelementptr i8, ptr %context, i64 <cluster_generation>
  %hurry_at = getelementptr i8, ptr %context, i64 <hurry>
  %barriers_at = getelementptr i8, ptr %context, i64 <barriers>
  %barriers = load ptr, ptr %barriers_at
  %local_at = getelementptr i8, ptr %context, i64 <local>
  store i32 0, ptr %kind_at
  %recent_at = getelementptr i8, ptr %context, i64 <recent>
  %recent = load ptr, ptr %recent_at
  call void @llvm.memset.p0.i64(ptr %recent, i8 0, i64 $recent_bytes$, i1 false)
  %stop_at = getelementptr i8, ptr %context, i64 <stop>
  %stop = load ptr, ptr %stop_at
  %shared_at = getelementptr i8, ptr %context, i64 <shared>
  %shared_base_at = getelementptr i8, ptr %context, i64 <shared_base>
  %shared_base = load ptr, ptr %shared_base_at
  %limit_at = getelementptr i8, ptr %context, i64 <shared_limit>
  %limit = load i64, ptr %limit_at
  %limit_more = add i64 %limit, 127
  %stride = and i64 %limit_more, -128
  %shared_bytes = mul i64 %stride, $blocks$
  %warps_at = getelementptr i8, ptr %context, i64 <warps>
  %warps = load ptr, ptr %warps_at
  %frames_at = getelementptr i8, ptr %context, i64 <local_base>
  %frames = load ptr, ptr %frames_at
  %across = udiv i32 %grid_x, $cluster_x$
  %down = udiv i32 %grid_y, $cluster_y$
  %turn_at = getelementptr i8, ptr %context, i64 <turn>
  br label %blocks
blocks:
  %block = phi i32 [ %first, %entry ], [ %next_block, %block_done ]
  %some = icmp ult i32 %block, %behind
  br i1 %some, label %ask, label %all_done
ask:
  %last = load atomic i32, ptr %stop monotonic, align 4
  %wanted = icmp ule i32 %block, %last
  br i1 %wanted, label %begin, label %all_done
begin:
  %cluster_column = urem i32 %block, %across
  %cluster_rows = udiv i32 %block, %across
  %cluster_row = urem i32 %cluster_rows, %down
  %cluster_layer = udiv i32 %cluster_rows, %down
  %first_x = mul i32 %cluster_column, $cluster_x$
  %first_y = mul i32 %cluster_row, $cluster_y$
  %first_z = mul i32 %cluster_layer, $cluster_z$
  %first_number = mul i32 %block, $blocks$
  store i32 %first_number, ptr %number_at
  %turn_given = load i32, ptr %turn_at
  store i32 $NEW$, ptr %turn_at
  %in_a_hurry = icmp eq i32 %turn_given, $HURRIED$
  %hurry_first = zext i1 %in_a_hurry to i32
  %is_new = icmp eq i32 %turn_given, $NEW$
  br i1 %is_new, label %fresh, label %sweep
fresh:
  store i32 0, ptr %arrived_at
  store i32 0, ptr %generation_at
  store i32 $all_threads$, ptr %expected_at
  call void @llvm.memset.p0.i64(ptr %shared_base, i8 0, i64 %shared_bytes, i1 false)
  call void @llvm.memset.p0.i64(ptr %frames, i8 0, i64 $all_frames$, i1 false)
  call void @llvm.memset.p0.i64(ptr %barriers, i8 0, i64 $all_barriers$, i1 false)
  br label %clear
clear:
  %cleared = phi i64 [ 0, %fresh ], [ %clear_next, %clear ]
  %clear_offset = mul i64 %cleared, $record_bytes$
  %clear_record = getelementptr i8, ptr %warps, i64 %clear_offset
  call void @llvm.memset.p0.i64(ptr %clear_record, i8 0, i64 $header_bytes$, i1 false)
  %clear_next = add i64 %cleared, 1
  %clear_more = icmp ult i64 %clear_next, $all_warps$
  br i1 %clear_more, label %clear, label %sweep
sweep:
  %hurry = phi i32 [ 0, %clear ], [ %hurry_first, %begin ], [ %hurry_next, %again ], [ %hurry, %spinning ]
  %idle = phi i32 [ 0, %clear ], [ 0, %begin ], [ 0, %again ], [ %idle_more, %spinning ]
  store i32 %hurry, ptr %hurry_at
  br label %warp
warp:
  %number = phi i64 [ 0, %sweep ], [ %next_number, %warp_done ]
  %left = phi i32 [ 0, %sweep ], [ %left_now, %warp_done ]
  %moved = phi i1 [ false, %sweep ], [ %moved_now, %warp_done ]
  %spins = phi i1 [ false, %sweep ], [ %spins_now, %warp_done ]
  %record_offset = mul i64 %number, $record_bytes$
  %record = getelementptr i8, ptr %warps, i64 %record_offset
  %ended_at = getelementptr i8, ptr %record, i64 $ended$
  %has_ended = load i32, ptr %ended_at
  %over = icmp ne i32 %has_ended, 0
  br i1 %over, label %warp_done, label %turn
turn:
  %number32 = trunc i64 %number to i32
  %own_number = urem i32 %number32, $warp_count$
  %rank = udiv i32 %number32, $warp_count$
  store i32 %own_number, ptr %warp_at
  store i32 %rank, ptr %rank_at
  %rank_x = urem i32 %rank, $cluster_x$
  %rank_rows = udiv i32 %rank, $cluster_x$
  %rank_y = urem i32 %rank_rows, $cluster_y$
  %rank_z = udiv i32 %rank, $cluster_xy$
  %x = add i32 %first_x, %rank_x
  %y = add i32 %first_y, %rank_y
  %z = add i32 %first_z, %rank_z
  store i32 %x, ptr %block_x_at
  store i32 %y, ptr %block_y_at
  store i32 %z, ptr %block_z_at
  %rank64 = zext i32 %rank to i64
  %shared_offset = mul i64 %rank64, %stride
  %shared = getelementptr i8, ptr %shared_base, i64 %shared_offset
  store ptr %shared, ptr %shared_at
  %barrier_offset = mul i64 %rank64, $barrier_bytes$
  %own_barriers = getelementptr i8, ptr %barriers, i64 %barrier_offset
  store ptr %own_barriers, ptr %barriers_at
  %frame_offset = mul i64 %number, $warp_frame$
  %frame = getelementptr i8, ptr %frames, i64 %frame_offset
  store ptr %frame, ptr %local_at
  %place_at = getelementptr i8, ptr %record, i64 $place$
  %place = load i32, ptr %place_at
  %outcome = call $call$ i32 @warp(ptr %context, ptr %record, i32 %place)
  %kind = load i32, ptr %kind_at
  %sound = icmp eq i32 %kind, 0
  br i1 %sound, label %judge, label %finding
judge:
  %ends = icmp eq i32 %outcome, $ENDED$
  %ends32 = zext i1 %ends to i32
  store i32 %ends32, ptr %ended_at
  br i1 %ends, label %fewer, label %counted
fewer:
  %is_last = icmp eq i32 %own_number, $last_warp$
  %own_threads = select i1 %is_last, i32 $last_threads$, i32 $lanes$
  %expected_before = load i32, ptr %expected_at
  %expected = sub i32 %expected_before, %own_threads
  store i32 %expected, ptr %expected_at
  %arrived = load i32, ptr %arrived_at
  %some_arrived = icmp ne i32 %arrived, 0
  %enough = icmp uge i32 %arrived, %expected
  %released = and i1 %some_arrived, %enough
  %still_arrived = select i1 %released, i32 0, i32 %arrived
  store i32 %still_arrived, ptr %arrived_at
  %generation = load i32, ptr %generation_at
  %released32 = zext i1 %released to i32
  %generation_now = add i32 %generation, %released32
  store i32 %generation_now, ptr %generation_at
  br label %counted
counted:
  %waits = xor i32 %ends32, 1
  %left_more = add i32 %left, %waits
  %stands = icmp eq i32 %outcome, $BLOCKED$
  %pauses = icmp eq i32 %outcome, $PAUSES$
  %idles = or i1 %stands, %pauses
  %progressed = xor i1 %idles, true
  %moved_more = or i1 %moved, %progressed
  %spins_more = or i1 %spins, %pauses
  br label %warp_done
warp_done:
  %left_now = phi i32 [ %left, %warp ], [ %left_more, %counted ]
  %moved_now = phi i1 [ %moved, %warp ], [ %moved_more, %counted ]
  %spins_now = phi i1 [ %spins, %warp ], [ %spins_more, %counted ]
  %next_number = add i64 %number, 1
  %more = icmp ult i64 %next_number, $all_warps$
  br i1 %more, label %warp, label %swept
swept:
  %none_left = icmp eq i32 %left_now, 0
  br i1 %none_left, label %block_done, label %unfinished
unfinished:
  %still = xor i1 %moved_now, true
  %only_spins = and i1 %spins_now, %still
  br i1 %only_spins, label %spinning, label %again
spinning:
  %idle_more = add i32 %idle, 1
  %impatient = icmp uge i32 %idle_more, $PATIENCE$
  br i1 %impatient, label %leave, label %sweep
leave:
  store ptr %barriers, ptr %barriers_at
  ret i32 $SPINS$
again:
  %hurry_next = select i1 %moved_now, i32 0, i32 1
  %hurried = icmp ne i32 %hurry, 0
  %hope = xor i1 %hurried, true
  %goes_on = or i1 %moved_now, %hope
  br i1 %goes_on, label %sweep, label %deadlock
deadlock:
  store i32 $DEADLOCK$, ptr %kind_at
  br label %finding
block_done:
  %next_block = add i32 %block, 1
  br label %blocks
finding:
  store ptr %barriers, ptr %barriers_at
  ret i32 $FOUND$
all_done:
  store ptr %barriers, ptr %barriers_at
  ret i32 $DONE$
}
"""

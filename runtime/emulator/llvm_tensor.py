"""Tensor copies of the fast engine: boxes loaded into shared memory, and stored from there.

In: a tensor map in the emulator's encoding, coordinates, for a load an mbarrier. Out: rows copied to or from their
swizzled places; of a load zeros where the box lies outside the tensor, and the mbarrier told. Why: pipelines copy boxes
all the time, and the host serves one thread at a time. Whatever is not in order (no map, bounds, no mbarrier) is left
to the host, which tells the fault.

The rows of a box follow each other like the digits of a counter: dimension 1 fastest, each from its start by its step
to its end. In im2col mode the digits are pixels of a bounding box, and offsets are added where they are read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..tensor_map import ELEMENT_BYTES, SWIZZLE_BYTES
from .llvm_atomics import each_lane
from .llvm_calls import SLOT_BYTES, ask_host, host_call, register_host_call
from .llvm_checks import recent_range, search
from .llvm_mbarrier import bytes_arrived, cluster_pointer
from .llvm_module import Module, call, load_field
from .llvm_operands import emit as line
from .llvm_tensor_rows import row_helper
from .llvm_values import Code, Value
from .memory import PARAMETER_WINDOW, RANK_SHIFT, SHARED_WINDOW
from .tensor_map import BODY_START, MAGIC, TENSOR_MAP_BYTES

if TYPE_CHECKING:
    from .llvm_codegen import Generator

_EXTENTS, _STRIDES, _BOX, _STEPS = (BODY_START + offset for offset in (8, 28, 60, 70))
_LOWER, _UPPER, _CHANNELS, _PIXELS = (BODY_START + offset for offset in (75, 81, 87, 89))
_RANK, _TYPE, _SWIZZLE, _FILL, _IM2COL = 4, 5, 6, 8, 9
_PIECE = 16
_SHARED_ALIGNMENT = 128


def copy_boxes(
    emit: Generator, results: Sequence[str], values: Sequence[Value], rank: int, offsets: int, mode: str,
    loading: bool, multicast: bool, operation: str,
) -> list[Value]:  # fmt: skip
    """cp.async.bulk.tensor; reductions, and stores of pixels, are the host's."""
    signed = dict.fromkeys(range(2, 2 + rank), "i4")
    static: dict[str, Any] = {
        "rank": rank, "offsets": offsets, "mode": mode, "loading": loading, "multicast": multicast,
        "operation": operation,
    }  # fmt: skip
    pixels = mode.startswith("im2col")
    if operation or (pixels and not loading):
        emit.atomics = emit.atomics or bool(operation)
        return host_call(emit, results, values, "tensor_copy", signed, **static)
    site = register_host_call(emit, results, values, "tensor_copy", signed, **static)
    form = _Form(emit.module, rank, offsets, pixels, multicast, loading)
    name = emit.module.helper(form.lanes_name, "void @(ptr %context, i32 %site, i32 %active)", form.build_lanes)
    call(emit.code, "void", name, f"ptr %context, i32 {site}, {emit.active().typed}")
    return []


class _Form:
    """The helpers for one rank, mode and direction."""

    def __init__(
        self, module: Module, rank: int, offsets: int, im2col: bool, multicast: bool, loading: bool
    ) -> None:  # fmt: skip
        self.module = module
        self.loading = loading
        self.rank = rank
        self.offsets = offsets
        self.im2col = im2col
        self.multicast = multicast

    @property
    def lanes_name(self) -> str:
        """Of the helper for all lanes."""
        return f"{self._verb}_boxes_{self.rank}_{self.offsets}_{int(self.im2col)}{int(self.multicast)}"

    @property
    def _verb(self) -> str:
        return "load" if self.loading else "store"

    # All lanes.
    def build_lanes(self, code: Code) -> None:
        """Operands lie in the scratch memory, where the host finds them too."""
        one = self.module.helper(
            f"{self._verb}_box_{self.rank}_{int(self.im2col)}",
            "i1 @(ptr %context, i32 %site, i64 %map, i64 %target, i64 %barrier, ptr %numbers)", self.build,
        )  # fmt: skip
        code.line(f"%numbers = alloca [{self.rank + self.offsets + 1} x i64]")
        code.line("br label %lanes")
        each_lane(code, "%active", lambda: self._lane(code, one))
        code.line("ret void")

    def _lane(self, code: Code, one: str) -> None:
        scratch = load_field(code, "scratch", "ptr").text
        count = 2 + self.rank + self.offsets + self.loading + self.multicast
        values = []
        for index in range(count):
            place = line(code, f"getelementptr i8, ptr {scratch}, i64 {SLOT_BYTES * index}")
            place = line(code, f"getelementptr i64, ptr {place}, i32 %lane")
            values.append(line(code, f"load i64, ptr {place}, align 8"))
        for index in range(self.rank + self.offsets):
            place = line(code, f"getelementptr i64, ptr %numbers, i64 {index}")
            # Coordinates are signed, offsets are not.
            narrow = line(code, f"trunc i64 {values[2 + index]} to i32")
            extension = "sext" if index < self.rank else "zext"
            code.line(f"store i64 {line(code, f'{extension} i32 {narrow} to i64')}, ptr {place}")
        barrier = values[2 + self.rank + self.offsets] if self.loading else "0"
        given = f"ptr %context, i32 %site, i64 {values[0]}"
        code.line("%bit = shl i32 1, %lane")
        if not self.multicast:
            found = call(code, "i1", one, f"{given}, i64 {values[1]}, i64 {barrier}, ptr %numbers")
            code.line(f"br i1 {found}, label %fine, label %strange")
        else:
            self._everywhere(code, one, given, values[1], barrier, values[-1])
        code.label("strange")
        ask_host(self.module, code, "%site", "%bit")
        code.line("br label %fine")
        code.label("fine")

    def _everywhere(self, code: Code, one: str, given: str, target: str, barrier: str, mask: str) -> None:
        """To the same places of all blocks of the mask. Where one copy is not in order none of them is, or it is a
        fault, so that it does not matter that the host begins again."""
        blocks = self.module.cluster_blocks
        beyond = line(code, f"icmp uge i64 {mask}, {1 << blocks}")
        code.line(f"br i1 {beyond}, label %strange, label %rank0")
        for rank in range(blocks):
            code.label(f"rank{rank}")
            wanted = line(code, f"trunc i64 {line(code, f'lshr i64 {mask}, {rank}')} to i1")
            code.line(f"br i1 {wanted}, label %copy{rank}, label %rank{rank + 1}")
            code.label(f"copy{rank}")
            places = [line(code, f"and i64 {place}, {(1 << RANK_SHIFT) - 1}") for place in (target, barrier)]
            named = (rank + 1) << RANK_SHIFT
            to, told = (line(code, f"or i64 {place}, {named}") for place in places)
            found = call(code, "i1", one, f"{given}, i64 {to}, i64 {told}, ptr %numbers")
            code.line(f"br i1 {found}, label %rank{rank + 1}, label %strange")
        code.label(f"rank{blocks}")
        code.line("br label %fine")

    # One box.
    def build(self, code: Code) -> None:
        """Whether the copy was in order, and has been made."""
        code.line(f"%positions = alloca [{self.rank} x i64]")
        map_pointer = _map_pointer(self.module, code)
        self._check_map(code, map_pointer)
        element, pitch, row_bytes = self._sizes(code, map_pointer)
        low, high = self._inner(code, map_pointer, element)
        rows = self._rows(code, map_pointer)
        target = cluster_pointer(code, self.module, _without_window(code, "%target"))
        nbytes = line(code, f"mul i64 {rows}, {row_bytes}")
        room = line(code, f"mul i64 {rows}, {pitch}")
        end = line(code, f"add i64 {target.offset}, {room}")
        limit = load_field(code, "shared_limit", "i64").text
        fits = line(code, f"icmp ule i64 {end}, {limit}")
        low_bits = line(code, f"and i64 {target.offset}, {_SHARED_ALIGNMENT - 1}")
        aligned = line(code, f"icmp eq i64 {low_bits}, 0")
        good = line(code, f"and i1 {line(code, f'and i1 {fits}, {aligned}')}, {target.sound}")
        code.line(f"br i1 {good}, label %begin, label %no")
        code.label("begin")
        self._start(code)
        code.line("br label %row")
        code.label("row")
        code.line("%number = phi i64 [ 0, %begin ], [ %next, %counted ]")
        source, inside = self._source(code, map_pointer, element)
        first = line(code, f"select i1 {inside}, i64 {low}, i64 0")
        last = line(code, f"select i1 {inside}, i64 {high}, i64 0")
        self._check_source(code, source, first, last)
        phases = self._phases(code, map_pointer)
        start = line(code, f"add i64 {target.offset}, {line(code, f'mul i64 %number, {pitch}')}")
        copy = row_helper(self.module, self.loading)
        call(code, "void", copy, f"ptr %context, ptr {target.base}, i64 {start}, i64 {phases}, i64 {row_bytes}, "
             f"i64 {source}, i64 {first}, i64 {last}")  # fmt: skip
        self._count(code, map_pointer)
        code.label("counted")
        code.line("%next = add i64 %number, 1")
        code.line(f"%more = icmp ult i64 %next, {rows}")
        code.line("br i1 %more, label %row, label %told")
        code.label("told")
        fine = "true"
        if self.loading:
            fine = bytes_arrived(code, self.module, _without_window(code, "%barrier"), nbytes)
        code.line(f"ret i1 {fine}")
        code.label("no")
        code.line("ret i1 false")

    def _check_map(self, code: Code, place: str) -> None:
        """Goes on where it is a map of this rank and mode, filled with zeros."""
        conditions = []
        for start, kind, wanted in (
            (0, "i32", int.from_bytes(MAGIC, "little")), (_RANK, "i8", self.rank), (_FILL, "i8", 0),
            (_IM2COL, "i8", int(self.im2col)),
        ):  # fmt: skip
            conditions.append(line(code, f"icmp eq {kind} {_load(code, place, start, kind)}, {wanted}"))
        good = conditions[0]
        for condition in conditions[1:]:
            good = line(code, f"and i1 {good}, {condition}")
        code.line(f"br i1 {good}, label %known, label %no")
        code.label("known")

    def _sizes(self, code: Code, place: str) -> tuple[str, str, str]:
        """Bytes of an element, from row to row in shared memory, and of a row."""
        packed = sum(size << 4 * index for index, size in enumerate(ELEMENT_BYTES.values()))
        element = _nibble(code, packed, _load_wide(code, place, _TYPE, "i8"))
        packed = sum(span // _PIECE << 4 * index for index, span in enumerate(SWIZZLE_BYTES.values()))
        span = line(code, f"shl i64 {_nibble(code, packed, _load_wide(code, place, _SWIZZLE, 'i8'))}, 4")
        count = _load_wide(code, place, _CHANNELS if self.im2col else _BOX, "i16")
        row = line(code, f"mul i64 {count}, {element}")
        dense = line(code, f"icmp eq i64 {span}, 0")
        return element, line(code, f"select i1 {dense}, i64 {row}, i64 {span}"), row

    def _phases(self, code: Code, place: str) -> str:
        """One less than the pieces of a swizzle's span."""
        packed = sum(max(span // _PIECE - 1, 0) << 4 * index for index, span in enumerate(SWIZZLE_BYTES.values()))
        return _nibble(code, packed, _load_wide(code, place, _SWIZZLE, "i8"))

    def _extent(self, code: Code, place: str, axis: int) -> str:
        return line(code, f"add i64 {_load_wide(code, place, _EXTENTS + 4 * axis, 'i32')}, 1")

    def _step(self, code: Code, place: str, axis: int) -> str:
        return _load_wide(code, place, _STEPS + axis, "i8")

    def _inner(self, code: Code, place: str, element: str) -> tuple[str, str]:
        """Bytes of a row from the first to behind the last that lie inside the tensor."""
        start = _number(code, 0)
        count = _load_wide(code, place, _CHANNELS if self.im2col else _BOX, "i16")
        low = _extreme(code, "smax", line(code, f"sub i64 0, {start}"), "0")
        high = _extreme(code, "smin", line(code, f"sub i64 {self._extent(code, place, 0)}, {start}"), count)
        some = line(code, f"icmp slt i64 {low}, {high}")
        low, high = (line(code, f"select i1 {some}, i64 {edge}, i64 0") for edge in (low, high))
        return line(code, f"mul i64 {low}, {element}"), line(code, f"mul i64 {high}, {element}")

    def _rows(self, code: Code, place: str) -> str:
        if self.im2col:
            return _load_wide(code, place, _PIXELS, "i16")
        rows = "1"
        for axis in range(1, self.rank):
            rows = line(code, f"mul i64 {rows}, {self._count_along(code, place, axis)}")
        return rows

    def _count_along(self, code: Code, place: str, axis: int) -> str:
        """Elements that a box takes along an axis, by the map's step."""
        box, step = _load_wide(code, place, _BOX + 2 * axis, "i16"), self._step(code, place, axis)
        more = line(code, f"sub i64 {line(code, f'add i64 {box}, {step}')}, 1")
        return line(code, f"udiv i64 {more}, {step}")

    # The counter.
    def _position(self, code: Code, axis: int) -> str:
        return line(code, f"getelementptr i64, ptr %positions, i64 {axis}")

    def _start(self, code: Code) -> None:
        for axis in range(1, self.rank):
            code.line(f"store i64 {_number(code, axis)}, ptr {self._position(code, axis)}")

    def _source(self, code: Code, place: str, element: str) -> tuple[str, str]:
        """(global address of the row's first element, whether the row lies inside)."""
        address = _load(code, place, BODY_START, "i64")
        address = line(code, f"add i64 {address}, {line(code, f'mul i64 {_number(code, 0)}, {element}')}")
        inside = "true"
        for axis in range(1, self.rank):
            at = line(code, f"load i64, ptr {self._position(code, axis)}")
            if axis <= self.offsets:
                at = line(code, f"add i64 {at}, {_number(code, self.rank + axis - 1)}")
            within = line(code, f"icmp ult i64 {at}, {self._extent(code, place, axis)}")
            inside = line(code, f"and i1 {inside}, {within}")
            stride = _load(code, place, _STRIDES + 8 * (axis - 1), "i64")
            address = line(code, f"add i64 {address}, {line(code, f'mul i64 {at}, {stride}')}")
        return address, inside

    def _count(self, code: Code, place: str) -> None:
        """The next row; goes to `counted`."""
        for axis in range(1, self.rank):
            position = self._position(code, axis)
            moved = line(code, f"load i64, ptr {position}")
            moved = line(code, f"add i64 {moved}, {self._step(code, place, axis)}")
            code.line(f"store i64 {moved}, ptr {position}")
            if axis == self.rank - 1:
                break
            if self.im2col:
                reset = self._corner(code, place, _LOWER, axis)
                upper = self._corner(code, place, _UPPER, axis)
                end = line(code, f"add i64 {self._extent(code, place, axis)}, {upper}")
            else:
                reset = _number(code, axis)
                span = f"mul i64 {self._count_along(code, place, axis)}, {self._step(code, place, axis)}"
                end = line(code, f"add i64 {reset}, {line(code, span)}")
            below = line(code, f"icmp slt i64 {moved}, {end}")
            code.line(f"br i1 {below}, label %counted, label %carry{axis}")
            code.label(f"carry{axis}")
            code.line(f"store i64 {reset}, ptr {position}")
        code.line("br label %counted")

    @staticmethod
    def _corner(code: Code, place: str, start: int, axis: int) -> str:
        corner = _load(code, place, start + 2 * (axis - 1), "i16")
        return line(code, f"sext i16 {corner} to i64")

    def _check_source(self, code: Code, source: str, first: str, last: str) -> None:
        """Goes on where the row's bytes lie in one allocation, mostly that of the row before."""
        start, size, _ = recent_range(code)
        begin, length = line(code, f"add i64 {source}, {first}"), line(code, f"sub i64 {last}, {first}")
        relative = line(code, f"sub i64 {begin}, {start.text}")
        near = line(code, f"icmp ult i64 {relative}, {size.text}")
        left = line(code, f"sub i64 {size.text}, {relative}")
        known = line(code, f"and i1 {near}, {line(code, f'icmp uge i64 {left}, {length}')}")
        nothing = line(code, f"icmp eq i64 {length}, 0")
        code.line(f"br i1 {line(code, f'or i1 {known}, {nothing}')}, label %right, label %search")
        code.label("search")
        found = call(code, "i1", search(self.module), f"ptr %context, i32 %site, i64 {begin}, i64 {length}")
        code.line(f"br i1 {found}, label %right, label %no")
        code.label("right")


# Words of a map, and numbers.
def _map_pointer(module: Module, code: Code) -> str:
    """Where the bytes of the map lie, a kernel parameter or in global memory; goes to `no` where neither holds it."""
    start = line(code, f"sub i64 %map, {PARAMETER_WINDOW}")
    is_parameter = line(code, f"icmp ult i64 {start}, {max(module.parameter_bytes - TENSOR_MAP_BYTES + 1, 0)}")
    aligned = line(code, f"icmp eq i64 {line(code, 'and i64 %map, 63')}, 0")
    code.line(f"br i1 {aligned}, label %placed, label %no")
    code.label("placed")
    parameter = line(code, f"getelementptr i8, ptr {load_field(code, 'parameters', 'ptr').text}, i64 {start}")
    code.line(f"br i1 {is_parameter}, label %found, label %global")
    code.label("global")
    held = call(code, "i1", search(module), f"ptr %context, i32 %site, i64 %map, i64 {TENSOR_MAP_BYTES}")
    place = line(code, f"getelementptr i8, ptr {load_field(code, 'arena', 'ptr').text}, i64 %map")
    code.line(f"br i1 {held}, label %found, label %no")
    code.label("found")
    return line(code, f"phi ptr [ {parameter}, %placed ], [ {place}, %global ]")


def _load(code: Code, place: str, start: int, kind: str) -> str:
    return line(code, f"load {kind}, ptr {line(code, f'getelementptr i8, ptr {place}, i64 {start}')}, align 1")


def _load_wide(code: Code, place: str, start: int, kind: str) -> str:
    return line(code, f"zext {kind} {_load(code, place, start, kind)} to i64")


def _nibble(code: Code, packed: int, index: str) -> str:
    """Four bits of a constant."""
    moved = line(code, f"lshr i64 {packed}, {line(code, f'shl i64 {index}, 2')}")
    return line(code, f"and i64 {moved}, 15")


def _number(code: Code, index: int) -> str:
    """A coordinate, or behind them an offset."""
    return line(code, f"load i64, ptr {line(code, f'getelementptr i64, ptr %numbers, i64 {index}')}")


def _extreme(code: Code, name: str, a: str, b: str) -> str:
    return code.intrinsic(name, "i64", Value(a, "i64"), Value(b, "i64")).text


def _without_window(code: Code, address: str) -> str:
    """A generic address in the shared window as a shared one."""
    generic = line(code, f"icmp uge i64 {address}, {SHARED_WINDOW}")
    inner = line(code, f"sub i64 {address}, {SHARED_WINDOW}")
    return line(code, f"select i1 {generic}, i64 {inner}, i64 {address}")


def _nothing(emit: Generator, results: Sequence[str], values: Sequence[Value], **static: Any) -> list[Value]:
    """Copies that are made at once are never waited for."""
    return []


TENSOR_ROUTINES: dict[str, Callable[..., list[Value]]] = {
    "tensor_copy": copy_boxes, "bulk_commit": _nothing, "bulk_wait": _nothing,
}  # fmt: skip
"""By emitter name."""

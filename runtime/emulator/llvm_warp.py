"""Exchanges between the lanes of a warp: shuffle, vote, match, redux, activemask, elect.

In: the generator, values. Out: values. Why: a warp is one vector, so a shuffle by constants is a permutation that the
host does in an instruction or two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .llvm_calls import host_call
from .llvm_module import begin_lanes, call
from .llvm_values import ELEMENTS, LANES, Code, Value, constant_vector, type_of
from .numpy_operations import DTYPES

if TYPE_CHECKING:
    from .llvm_codegen import Generator

_WORDS = type_of("i32", True)


def _source_lanes(mode: str, offset: int, clamp: int) -> tuple[list[int], list[bool]]:
    """Source lane of each lane, and whether it is in range, by the formula of the PTX manual."""
    offset, limit, segment = offset & 31, clamp & 31, clamp >> 8 & 31
    sources, inside = [], []
    for lane in range(LANES):
        highest = (lane & segment) | (limit & ~segment)
        if mode == "up":
            source, fits = lane - offset, lane - offset >= highest
        elif mode == "down":
            source, fits = lane + offset, lane + offset <= highest
        elif mode == "bfly":
            source, fits = lane ^ offset, lane ^ offset <= highest
        else:
            source = (lane & segment) | (offset & ~segment)
            fits = source <= highest
        sources.append(source if fits else lane)
        inside.append(fits)
    return sources, inside


def _shuffle(
    emit: Generator, results: Sequence[str], values: Sequence[Value], mode: str, with_predicate: bool
) -> list[Value]:
    """shfl: reading a lane that does not run gives its last value."""
    value, offset, clamp = values
    code = emit.code
    value = code.bits(value)
    if offset.is_literal and clamp.is_literal:
        sources, inside = _source_lanes(mode, int(offset.text), int(clamp.text))
        moved = value
        if value.wide:
            indices = constant_vector("i32", sources)
            moved = code.emit(
                f"shufflevector {value.typed}, {value.type} poison, <{LANES} x i32> {indices}", "i32", True
            )
        if not with_predicate:
            return [moved]
        bits = sum(1 << lane for lane, fits in enumerate(inside) if fits)
        return [moved, code.lanes(code.integer("i32", bits))]
    name = _shuffle_helper(emit, mode)
    arguments = ", ".join(code.widen(part).typed for part in (value, offset, clamp))
    found = call(code, f"{{ {_WORDS}, i32 }}", name, arguments)
    moved = code.emit(f"extractvalue {{ {_WORDS}, i32 }} {found}, 0", "i32", True)
    if not with_predicate:
        return [moved]
    return [moved, code.lanes(code.emit(f"extractvalue {{ {_WORDS}, i32 }} {found}, 1", "i32", False))]


def _shuffle_helper(emit: Generator, mode: str) -> str:
    """`(value, offset, clamp)` -> (moved, lanes in range), all computed while running."""

    def build(code: Code) -> None:
        value, offset, clamp = (Value(f"%{name}", "i32", True) for name in ("value", "offset", "clamp"))
        lane = Value(constant_vector("i32", range(LANES)), "i32", True)
        low = code.integer("i32", 31)
        offset = code.binary("and", offset, low)
        limit = code.binary("and", clamp, low)
        segment = code.binary("and", code.binary("lshr", clamp, code.integer("i32", 8)), low)
        outside = code.binary("xor", segment, code.integer("i32", -1))
        lowest = code.binary("and", lane, segment)
        highest = code.binary("or", lowest, code.binary("and", limit, outside))
        if mode == "idx":
            source = code.binary("or", lowest, code.binary("and", offset, outside))
        else:
            source = code.binary({"up": "sub", "down": "add", "bfly": "xor"}[mode], lane, offset)
        fits = code.compare("icmp sge" if mode == "up" else "icmp sle", source, highest)
        source = code.binary("and", code.select(fits, source, lane), low)
        code.line(f"%store = alloca {_WORDS}")
        code.line(f"store {value.typed}, ptr %store")
        places = code.emit(f"getelementptr i32, ptr %store, {source.typed}", "ptr", True)
        name = f"llvm.masked.gather.v{LANES}i32.v{LANES}p0"
        code.declare(name, f"declare {_WORDS} @{name}(<{LANES} x ptr>, i32, <{LANES} x i1>, {_WORDS})")
        moved = code.emit(
            f"call {_WORDS} @{name}({places.typed}, i32 4, <{LANES} x i1> splat (i1 true), {_WORDS} poison)",
            "i32", True,
        )  # fmt: skip
        inside = code.cast_mask(fits)
        code.line(f"%first = insertvalue {{ {_WORDS}, i32 }} poison, {moved.typed}, 0")
        code.line(f"%both = insertvalue {{ {_WORDS}, i32 }} %first, {inside.typed}, 1")
        code.line(f"ret {{ {_WORDS}, i32 }} %both")

    header = f"{{ {_WORDS}, i32 }} @({_WORDS} %value, {_WORDS} %offset, {_WORDS} %clamp)"
    return emit.module.helper(f"shuffle_{mode}", header, build)


def _participants(emit: Generator, members: Value) -> Value:
    """Which lanes take part: the active ones that the member mask names."""
    members = emit.code.lane(members, emit.first_lane())
    active = emit.active()
    if members.is_literal and int(members.text) == -1:
        return active
    return emit.code.binary("and", active, members)


def _ballot(emit: Generator, predicate: Value, part: Value) -> Value:
    return emit.code.binary("and", emit.code.cast_mask(predicate), part)


def _vote(emit: Generator, results: Sequence[str], values: Sequence[Value], mode: str) -> list[Value]:
    code = emit.code
    part = _participants(emit, values[1])
    ballot = _ballot(emit, values[0], part)
    if mode == "ballot":
        return [ballot]
    some = code.compare("icmp ne", ballot, code.integer("i32", 0))
    every = code.compare("icmp eq", ballot, part)
    if mode == "uni":
        none = code.compare("icmp eq", ballot, code.integer("i32", 0))
        return [code.binary("or", every, none)]
    return [every if mode == "all" else some]


def _match(emit: Generator, results: Sequence[str], values: Sequence[Value], mode: str) -> list[Value]:
    """match.any: the lanes with my value. match.all: all participants if their values agree, else 0 and false."""
    code = emit.code
    value = code.widen(code.bits(values[0]))
    part = _participants(emit, values[1])
    found = call(code, _WORDS, _match_helper(emit, value.element), f"{value.typed}, {part.typed}")
    lanes = Value(found, "i32", True)
    if mode == "any":
        return [lanes, code.integer("i1", 1)]
    agree = code.compare("icmp eq", lanes, part)
    outside = code.binary("xor", part, code.integer("i32", -1))
    everyone = code.cast_mask(agree)
    whole = code.binary("or", everyone, outside)
    agreed = code.compare("icmp eq", whole, code.integer("i32", -1))
    return [code.select(agreed, part, code.integer("i32", 0)), agreed]


def _match_helper(emit: Generator, element: str) -> str:
    """`(values, participants)` -> for each participant the participants with its value, for others 0."""

    def build(code: Code) -> None:
        vector = type_of(element, True)
        code.line(f"%values_at = alloca {vector}")
        code.line(f"%answers = alloca {_WORDS}")
        code.line(f"store {vector} %value, ptr %values_at")
        code.line(f"store {_WORDS} zeroinitializer, ptr %answers")
        code.line("br label %lanes")
        begin_lanes(code, "%part", "entry", "one")
        code.line(f"%mine_at = getelementptr {element}, ptr %values_at, i32 %lane")
        mine = code.emit(f"load {element}, ptr %mine_at", element, False)
        same = code.cast_mask(code.compare("icmp eq", Value("%value", element, True), mine))
        answer = code.binary("and", same, Value("%part", "i32"))
        code.line("%answer_at = getelementptr i32, ptr %answers, i32 %lane")
        code.line(f"store {answer.typed}, ptr %answer_at")
        code.line("br label %lanes")
        code.label("end")
        code.line(f"%all = load {_WORDS}, ptr %answers")
        code.line(f"ret {_WORDS} %all")

    return emit.module.helper(f"match_{element}", f"{_WORDS} @({type_of(element, True)} %value, i32 %part)", build)


def _redux(
    emit: Generator, results: Sequence[str], values: Sequence[Value], mode: str, nan: bool, absolute: bool
) -> list[Value]:
    code, signed = emit.code, results[0][0] == "s"
    part = _participants(emit, values[1])
    neutral = {"min": 0x7FFFFFFF if signed else -1, "max": -0x80000000 if signed else 0, "and": -1}.get(mode, 0)
    filled = code.select(code.lanes(part), code.widen(values[0]), code.integer("i32", neutral))
    name = ("s" if signed else "u") + mode if mode in ("min", "max") else mode
    function = f"llvm.vector.reduce.{name}.v{LANES}i32"
    code.declare(function, f"declare i32 @{function}({_WORDS})")
    return [code.emit(f"call i32 @{function}({filled.typed})", "i32", False)]


def _active_mask(emit: Generator, results: Sequence[str], values: Sequence[Value]) -> list[Value]:
    return [emit.active()]


def _elect(emit: Generator, results: Sequence[str], values: Sequence[Value]) -> list[Value]:
    code = emit.code
    part = _participants(emit, values[0])
    leader = code.intrinsic("cttz", "i32", part, flags="i1 false")
    leader = code.binary("and", leader, code.integer("i32", LANES - 1))
    lowest = code.binary("and", part, code.binary("sub", code.integer("i32", 0), part))
    return [leader, code.lanes(lowest)]


def _by_members(routine: str, compiled: Callable[..., list[Value]]) -> Callable[..., list[Value]]:
    """`compiled`; or, where lanes of a warp may name different members or the values are floats, a call of the host."""

    def run(emit: Generator, results: Sequence[str], values: Sequence[Value], **static: Any) -> list[Value]:
        if values[-1].wide or ELEMENTS[results[0]] == "float":
            typed = {0: DTYPES[results[0]]} if routine == "redux" else {}
            return host_call(emit, results, values, routine, typed, **static)
        return compiled(emit, results, values, **static)

    return run


WARP_ROUTINES: dict[str, Callable[..., list[Value]]] = {
    "shuffle": _shuffle, "active_mask": _active_mask,
    **{name: _by_members(name, compiled) for name, compiled in (
        ("vote", _vote), ("match", _match), ("redux", _redux), ("elect", _elect),
    )},
}  # fmt: skip
"""By emitter name."""

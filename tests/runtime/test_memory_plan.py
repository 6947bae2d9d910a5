"""Arena plans: nothing alive at the same time may share a byte."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runtime.engines import affine, branching

from tilewright.runtime.manifest import align
from tilewright.runtime.memory_plan import ALIGNMENT, Lifetime, lifetimes, plan_arena

SPANS = st.lists(st.tuples(st.integers(0, 5000), st.integers(-1, 30), st.integers(0, 12)), max_size=40).map(
    lambda rows: [
        Lifetime(f"b{i}", size, first, first + length) for i, (size, first, length) in enumerate(rows)
    ]
)


@settings(max_examples=150, deadline=None)
@given(SPANS)
def test_plans_are_sound(spans: list[Lifetime]) -> None:
    plan = plan_arena(spans)
    for index, one in enumerate(spans):
        start = plan.offsets[one.name]
        assert start % ALIGNMENT == 0 and start + one.nbytes <= plan.nbytes
        for other in spans[index + 1 :]:
            if one.nbytes and other.nbytes and one.overlaps(other):
                second = plan.offsets[other.name]
                assert start + one.nbytes <= second or second + other.nbytes <= start
    assert plan.nbytes <= sum(align(span.nbytes, ALIGNMENT) for span in spans)
    assert plan == plan_arena(reversed(spans))  # the order they are given in does not matter


def test_memory_is_used_again() -> None:
    chain = [Lifetime(f"b{i}", 1000, i, i + 1) for i in range(50)]
    assert plan_arena(chain).nbytes == 2 * 1024  # two alive at a time, each aligned up to 1024


def test_the_smallest_gap_is_taken() -> None:
    # At instruction 1 the gaps left by `a` (1024 bytes) and `c` (512) are free; the new one of 512 takes the second.
    spans = [
        Lifetime("a", 1024, 0, 0),
        Lifetime("b", 1536, 0, 1),
        Lifetime("c", 512, 0, 0),
        Lifetime("d", 1280, 0, 1),
    ]
    plan = plan_arena([*spans, Lifetime("e", 512, 1, 1)])
    assert plan.nbytes == plan_arena(spans).nbytes == sum(span.nbytes for span in spans)


def test_lifetimes_of_an_engine() -> None:
    spans = {span.name: (span.first, span.last) for span in lifetimes(affine().manifest, {"n": 5})}
    # x is also an output: it must live to the end; weights are not in the arena.
    assert spans == {"x": (-1, 4), "y": (-1, 0), "t0": (0, 1), "t1": (1, 2), "t2": (2, 3), "z": (3, 4)}
    assert {span.nbytes for span in lifetimes(affine().manifest, {"n": 5})} == {80}
    spans = {span.name: (span.first, span.last) for span in lifetimes(branching().manifest, {"n": 5})}
    # launch 0, if 1, then 2, else 3: z is written in both branches.
    assert spans == {"x": (-1, 2), "c": (0, 1), "z": (2, 4)}

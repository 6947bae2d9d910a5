"""Random host programs: whatever shares memory with whatever, a session answers as numpy does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runtime.engines import ADD, launch, ptx, shape
from tests.runtime.fake_device import FakeDevice

from tilewright.runtime.engine import Engine
from tilewright.runtime.manifest import Buffer, Manifest, SymbolSource, TensorBinding
from tilewright.runtime.program import Copy, Instruction, Program
from tilewright.runtime.session import Session

# Each step adds two earlier values, given by their distance back, or copies one.
STEPS = st.lists(st.tuples(st.booleans(), st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=25)


def random_engine(steps: list[tuple[bool, int, int]], outputs: set[int]) -> Engine:
    """Values v0 (the input), v1, ...; those in `outputs` are returned."""
    program: list[Instruction] = []
    lives: dict[str, list[int]] = {}
    for index, (copies, *distances) in enumerate(steps):
        left, right = (f"v{max(index + 1 - distance, 0)}" for distance in distances)
        target = f"v{index + 1}"
        instruction = Copy(left, target) if copies else launch("add", "n", left, right, target, "(n)")
        program.append(instruction)
        for name in instruction.buffers:
            lives.setdefault(name, []).append(index)
    buffers = [Buffer("v0", "f32", shape("n"), "input")]
    for index in range(1, len(steps) + 1):
        name = f"v{index}"
        buffer = Buffer(name, "f32", shape("n"), "temporary", first=lives[name][0], last=lives[name][-1])
        if index in outputs:
            buffer = replace(buffer, kind="output", first=None, last=None)
        buffers.append(buffer)
    manifest = Manifest(
        target="sm_80",
        precision="strict",
        model="random",
        symbols={"n": SymbolSource("v0", 0)},
        inputs=(TensorBinding("v0", "f32", shape("n"), "v0"),),
        outputs=tuple(TensorBinding(f"v{i}", "f32", shape("n"), f"v{i}") for i in sorted(outputs)),
        buffers=tuple(buffers),
        kernels=(ADD,),
        program=Program(tuple(program)),
    )
    return Engine.build(manifest, {"add": ptx("add")}, {}, [])


@settings(max_examples=80, deadline=None)
@given(STEPS, st.sets(st.integers(0, 25), min_size=1), st.integers(0, 200))
def test_sessions_answer_as_numpy(steps: list[tuple[bool, int, int]], wanted: set[int], size: int) -> None:
    outputs = {index % (len(steps) + 1) for index in wanted}
    x = np.arange(size, dtype=np.float32)
    values = [x]
    for copies, one, other in steps:
        left, right = values[max(len(values) - one, 0)], values[max(len(values) - other, 0)]
        values.append(left if copies else left + right)
    with Session(random_engine(steps, outputs), FakeDevice()) as session:
        for _ in range(2):
            for name, result in session.run({"v0": x}).items():
                np.testing.assert_array_equal(result, values[int(name[1:])])

"""Programs with a part on the host: calls, downloads and uploads, and what a damaged file may not ask for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.runtime.engines import shape
from tests.runtime.fake_device import FakeDevice

from tilewright.runtime.engine import Engine
from tilewright.runtime.errors import InternalError, ModelError
from tilewright.runtime.host_functions import HostCall, known_functions, run_host_function
from tilewright.runtime.manifest import Buffer, Equality, Manifest, SymbolSource, TensorBinding
from tilewright.runtime.program import Call, Copy, Download, Fetch, Keep, Program, Upload


def manifest() -> Manifest:
    """y = the different elements of x: f32[n], and s = t, strings that are only handed on."""
    return Manifest(
        target="sm_80",
        precision="strict",
        model="unique",
        symbols={"n": SymbolSource("x", 0)},
        inputs=(TensorBinding("x", "f32", shape("n"), "x"), TensorBinding("t", "string", shape(2), "t")),
        outputs=(
            TensorBinding("y", "f32", shape("u"), "y"),
            TensorBinding("c", "i64", shape("u"), "counts"),
            TensorBinding("s", "string", shape(2), "s"),
        ),
        buffers=(
            Buffer("x", "f32", shape("n"), "input"),
            Buffer("t", "string", shape(2), "input"),
            *(Buffer(name, "object", (), "temporary", 0, 4) for name in ("h", "h0", "h1", "h2", "h3")),
            Buffer("y", "f32", shape("u"), "output"),
            Buffer("counts", "i64", shape("u"), "output"),
            Buffer("s", "string", shape(2), "output"),
        ),
        kernels=(),
        program=Program(
            (
                Download("x", "h", shape("n")),
                Call("unique", ("h",), ("h0", "h1", "h2", "h3"), {"axis": None, "sorted": True}, symbols=("u",)),
                Upload("h0", "y"),
                Upload("h3", "counts"),
                Copy("t", "s"),
            )
        ),
    )


def engine(changed: Manifest | None = None) -> Engine:
    return Engine.build(changed or manifest(), {}, {}, [])


@pytest.mark.parametrize("checked", [False, True])
def test_a_size_that_the_host_finds(checked: bool, tmp_path: Any) -> None:
    engine().save(tmp_path / "unique.tw")
    with Engine.load(tmp_path / "unique.tw").session(FakeDevice(), checked=checked) as session:
        for values in ([3, 1, 3, 2], [5, 5], [1, 2, 3, 4, 5, 6], []):
            x = np.array(values, np.float32)
            results = session.run({"x": x, "t": np.array(["a", "ß"])})
            wanted, counts = np.unique(x, return_counts=True)
            np.testing.assert_array_equal(results["y"], wanted)
            np.testing.assert_array_equal(results["c"], counts)
            assert results["s"].tolist() == ["a", "ß"]


def test_programs_survive_a_round_trip() -> None:
    program = manifest().program
    assert Program.from_json(program.to_json()) == program
    assert program.returns_to_host and program.bound_symbols == {"u"}


def keeping(last: Any) -> Manifest:
    """y = x twice, as a sequence that the host holds, and q = that sequence."""
    joined = {"rank": 1, "axis": 0, "stack": True, "axes": [0], "operator": "Loop"}
    instructions = (
        Keep("x", "h", shape("n")),
        Call("sequence", ("h", "h"), ("h0",)),
        Call("joined_sizes", ("h0",), (), joined, symbols=("k", "m")),
        Upload("h0", "y"),
        last,
    )
    return Manifest(
        target="sm_80",
        precision="strict",
        model="kept",
        symbols={"n": SymbolSource("x", 0)},
        inputs=(TensorBinding("x", "f32", shape("n"), "x"),),
        outputs=(TensorBinding("y", "f32", shape("k", "m"), "y"), TensorBinding("q", "sequence", (), "q")),
        buffers=(
            Buffer("x", "f32", shape("n"), "input"),
            *(Buffer(name, "object", (), "temporary", 0, 4) for name in ("h", "h0")),
            Buffer("y", "f32", shape("k", "m"), "output"),
            Buffer("q", "sequence", (), "output"),
        ),
        kernels=(),
        program=Program(instructions),
    )


@pytest.mark.parametrize("checked", [False, True])
def test_values_that_keep_tensors_on_the_device(checked: bool, tmp_path: Any) -> None:
    """Their memory serves again; what is fetched is of the host."""
    engine(keeping(Fetch("h0", "q"))).save(tmp_path / "kept.tw")
    device = FakeDevice()
    allocated = []
    with Engine.load(tmp_path / "kept.tw").session(device, checked=checked) as session:
        for values in ([1, 2, 3], [], [4], [1, 2, 3], [], [4]):
            x = np.array(values, np.float32)
            results = session.run({"x": x})
            np.testing.assert_array_equal(results["y"], [x, x])
            assert all(isinstance(item, np.ndarray) for item in results["q"])
            np.testing.assert_array_equal(results["q"], [x, x])
            allocated.append(len(device.memory))
    assert allocated[:3] == allocated[3:] and not device.memory


def test_profiles_show_calls() -> None:
    with engine().session(FakeDevice()) as session:
        _, timings = session.profile({"x": np.ones(2, np.float32), "t": np.array(["", ""])})
    assert [timing.kernel for timing in timings] == ["host unique"]


def test_found_sizes_are_compared() -> None:
    equality = Equality(shape("u")[0], shape("n")[0])
    with engine(replace(manifest(), equalities=(equality,))).session(FakeDevice()) as session:
        strings = np.array(["", ""])
        assert session.run({"x": np.array([1, 2], np.float32), "t": strings})["y"].tolist() == [1, 2]
        with pytest.raises(ModelError, match="the model needs u == n"):
            session.run({"x": np.array([1, 1], np.float32), "t": strings})


def test_wrong_inputs_on_the_host() -> None:
    with engine().session(FakeDevice()) as session:
        with pytest.raises(ModelError, match="wanted: strings"):
            session.run({"x": np.ones(1, np.float32), "t": np.ones(2)})
        with pytest.raises(ModelError, match="has the shape"):
            session.run({"x": np.ones(1, np.float32), "t": np.array([["a"]])})


def changed(position: int, instruction: Any) -> Manifest:
    """The manifest with another instruction at that place."""
    instructions = list(manifest().program.instructions)
    instructions[position] = instruction
    return replace(manifest(), program=Program(tuple(instructions)))


DAMAGED: dict[str, tuple[int, Any, str]] = {
    "unknown function": (1, Call("eval", ("h",), ("h0",), symbols=("u",)), "no host function 'eval'"),
    "device buffer": (1, Call("sizes", ("x",), (), symbols=("u",)), "'x' is no host value"),
    "download of a host value": (0, Download("h", "h1", shape("n")), "is a host value"),
    "upload to an input": (2, Upload("h0", "x"), "it writes the input buffer"),
    "unknown symbol": (0, Download("x", "h", shape("m")), "unknown symbol 'm'"),
    "keep of a host value": (0, Keep("h", "h1", shape("n")), "is a host value"),
    "fetch of a tensor": (4, Fetch("x", "s"), "'x' is no host value"),
    "copy to the host": (4, Copy("x", "s"), "between the device and the host"),
    "nowhere": (2, Upload("gone", "y"), "there is no buffer 'gone'"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damage_is_refused(case: str, tmp_path: Any) -> None:
    position, instruction, message = DAMAGED[case]
    with pytest.raises((ModelError, InternalError), match=message):
        engine(changed(position, instruction)).save(tmp_path / "damaged.tw")
        Engine.load(tmp_path / "damaged.tw")


def test_a_size_used_before_it_is_found() -> None:
    program = manifest().program.instructions
    early = replace(manifest(), program=Program((program[0], program[2], program[1], *program[3:])))
    with engine(early).session(FakeDevice()) as session, pytest.raises(ModelError, match="before it is found"):
        session.run({"x": np.ones(1, np.float32), "t": np.array(["", ""])})


def test_functions_are_found_by_folder() -> None:
    assert {"sizes", "unique", "string_concat", "sequence_at"} <= set(known_functions())
    with pytest.raises(ModelError, match="no host function 'nothing else'"):
        run_host_function("nothing else", HostCall([]), 0, 0)


def test_attributes_that_no_compiler_writes() -> None:
    with pytest.raises(ModelError, match="host function 'strings' cannot take these values"):
        run_host_function("strings", HostCall([], {"shape": [1]}), 1, 0)


def test_functions_that_give_something_else_are_our_bug() -> None:
    with pytest.raises(InternalError, match="2 values and 0 sizes are wanted"):
        run_host_function("sequence", HostCall([1]), 2, 0)


@pytest.mark.parametrize(
    ("target", "sizes", "allow", "expected"),
    [
        ([0, -1], (3, 4), 0, [3, 4]),
        ([2, -1, 2], (3, 4), 0, [2, 3, 2]),
        ([0, 5], (0, 9), 1, [0, 5]),
        ([12], (3, 4), 0, [12]),
    ],
)
def test_reshape_sizes(target: list[int], sizes: tuple[int, ...], allow: int, expected: list[int]) -> None:
    call = HostCall([np.array(target)], {"allowzero": allow}, sizes)
    assert run_host_function("reshape_sizes", call, 0, len(expected))[1] == expected


def test_reshape_sizes_that_do_not_fit() -> None:
    with pytest.raises(ModelError, match="Reshape of"):
        run_host_function("reshape_sizes", HostCall([np.array([5, -1])], {}, (3, 4)), 0, 2)


@pytest.mark.parametrize(("start", "end", "step"), [(1, 4, 1), (-3, 99, 2), (99, -99, -1), (4, 4, 1), (-1, 0, -2)])
def test_slice_bounds(start: int, end: int, step: int) -> None:
    values = np.arange(6)
    call = HostCall([np.array([start]), np.array([end])], {"steps": [step]}, (6,))
    first, count = run_host_function("slice_bounds", call, 0, 2)[1]
    assert [first + step * place for place in range(count)] == values[start:end:step].tolist()


def test_strings() -> None:
    texts = np.array(["Übel  mood", "a-b"], dtype=object)
    call = HostCall([texts], {"case_change_action": "LOWER", "stopwords": ["MOOD"]})
    (normalised,), (count,) = run_host_function("string_normalizer", call, 1, 1)
    assert normalised.tolist() == ["ubel ", "a-b"] and count == 2
    (parts, counts), (longest,) = run_host_function("string_split", HostCall([texts], {"delimiter": "-"}), 2, 1)
    assert parts.tolist() == [["Übel  mood", ""], ["a", "b"]] and counts.tolist() == [1, 2] and longest == 2
    with pytest.raises(ModelError, match="RegexFullMatch with the pattern"):
        run_host_function("regex_full_match", HostCall([texts], {"pattern": "("}), 1, 0)

"""Loops, branches and sequences whose sizes only a run knows: values that grow with every turn, rows that are collected
until a condition ends the loop, sequences of as many tensors as the data say. On the emulator, against onnxruntime.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest

import tilewright
from tilewright.compiler.frontend import import_model
from tilewright.passes.graph.interpret import interpret
from tilewright.runtime.errors import ModelError
from tilewright.runtime.program import Download, Fetch, Keep

Array = np.ndarray[Any, Any]
Runs = list[dict[str, Any]]


def parsed(text: str, opset: int = 20) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : {opset}]> {text}')


def compared(got: Any, want: Any) -> None:
    if isinstance(want, list):
        assert len(got) == len(want)
        for pair in zip(got, want, strict=True):
            compared(*pair)
        return
    assert got.shape == want.shape or got.size == want.size == 0  # the shape of nothing is not known to onnxruntime
    if want.dtype.kind in "biuO":
        np.testing.assert_array_equal(got.ravel(), want.ravel())
    else:
        np.testing.assert_allclose(got.ravel(), want.ravel(), rtol=1e-6, atol=1e-6)  # a rounding or two of f32


def same_as_onnxruntime(model: onnx.ModelProto, runs: Runs) -> tilewright.Engine:
    """Every output of every run, from the emulator with buffers apart and shared, and from the interpreter."""
    reference = onnxruntime.InferenceSession(model.SerializeToString())
    names = [output.name for output in reference.get_outputs()]
    unit, engine = import_model(model), tilewright.compile(model)
    with engine.session("emulator", checked=True) as apart, engine.session("emulator") as shared:
        for fed in runs:
            wanted = dict(zip(names, reference.run(None, fed), strict=True))
            for results in (apart.run(fed), shared.run(fed), interpret(unit, fed)):
                for name in names:
                    compared(results[name], wanted[name])
    return engine


# Loops --------------------------------------------------------------------------------------------------------------
COLLECTING = """g (float[n] x, float limit) => (float[n] last, float[m,n] rows, int64[m] numbers) {
  yes = Constant <value = bool {1}> ()
  last, rows, numbers = Loop (TRIPS, yes, x) <body = b (int64 i, bool go, float[n] a)
      => (bool again, float[n] next, float[n] row, int64 number) {
    next = Add (a, x)
    row = Mul (next, x)
    number = Identity (i)
    sum = ReduceSum <keepdims = 0> (next)
    again = Less (sum, limit)
  }>
}"""


@pytest.mark.parametrize("trips", ['""', "most"])
def test_rows_are_collected_until_a_condition_ends_the_loop(trips: str) -> None:
    """Without a trip count, and with one of which the memory for all rows could not be had."""
    text = COLLECTING.replace("TRIPS", trips)
    text = text.replace("yes =", f"most = Constant <value_int = {2**63 - 1}> ()\n  yes =", 1)
    x = np.array([1.0, 2.0, 0.5], np.float32)
    runs: Runs = [{"x": x, "limit": np.array(limit, np.float32)} for limit in (40, 0, 100)]
    engine = same_as_onnxruntime(parsed(text), runs)
    transfers = [item for _, item in engine.program.flatten() if isinstance(item, Download | Keep)]
    assert {type(item) for item in transfers} == {Keep}  # rows never leave the device


def test_a_loop_that_never_starts_collects_nothing() -> None:
    model = parsed("""g (float[n] x, bool yes) => (float[m,n] rows) {
      rows = Loop ("", yes) <body = b (int64 i, bool go) => (bool again, float[n] row) {
        row = Neg (x)
        three = Constant <value_int = 3> ()
        again = Less (i, three)
      }>
    }""")
    same_as_onnxruntime(model, [{"x": np.ones(4, np.float32), "yes": np.array(yes)} for yes in (True, False)])


@pytest.mark.parametrize("dtype", ["float", "float16", "double", "bfloat16", "int8", "uint16", "uint64", "bool"])
def test_rows_of_every_element_type(dtype: str) -> None:
    model = parsed(f"""g ({dtype}[3] x, int64 trips) => ({dtype}[m,3] rows) {{
      rows = Loop (trips, "") <body = b (int64 i, bool go) => (bool again, {dtype}[3] row) {{
        row = Identity (x)
        again = Identity (go)
      }}>
    }}""")
    kinds = {"float": np.float32, "double": np.float64, "bfloat16": ml_dtypes.bfloat16, "bool": np.bool_}
    x = np.array([1, 0, 3]).astype(kinds.get(dtype, dtype))
    with tilewright.compile(model).session("emulator") as session:
        for trips in (3, 0):
            rows = session.run({"x": x, "trips": np.array(trips)})["rows"]
            np.testing.assert_array_equal(rows, np.broadcast_to(x, (trips, 3)))
            assert rows.dtype == x.dtype


def test_a_value_that_grows_with_every_turn() -> None:
    """As exporters write generation: tokens are added to what there is, and read again in the next turn."""
    model = parsed("""g (float[n,4] x, float[4,4] w, int64 trips, float limit) => (float[m,4] y, float[k] sums) {
      y, sums = Loop (trips, "", x) <body = b (int64 i, bool go, float[p,4] a)
          => (bool again, float[q,4] longer, float sum) {
        zero = Constant <value = int64[1] {0}> ()
        mean = ReduceMean <keepdims = 1> (a, zero)
        next = MatMul (mean, w)
        longer = Concat <axis = 0> (a, next)
        sum = ReduceSum <keepdims = 0> (longer)
        again = Less (sum, limit)
      }>
    }""")
    rng = np.random.default_rng(2)

    def fed(rows: int, trips: int, limit: float) -> dict[str, Any]:
        x, w = (rng.uniform(0.1, 0.5, shape).astype(np.float32) for shape in ((rows, 4), (4, 4)))
        return {"x": x, "w": w, "trips": np.array(trips), "limit": np.array(limit, np.float32)}

    same_as_onnxruntime(model, [fed(2, 6, 1e9), fed(1, 0, 1e9), fed(3, 40, 9.0)])


def test_two_values_that_grow_together_and_a_loop_inside() -> None:
    """Their sizes are found at once, and compared in every turn."""
    model = parsed("""g (float[n] x, int64 trips) => (float[m] y, float[k] z) {
      y, z = Loop (trips, "", x, x) <body = b (int64 i, bool go, float[p] a, float[p] c)
          => (bool again, float[q] longer, float[q] other) {
        sum = Add (a, c)
        longer = Loop (i, "", sum) <body = inner (int64 j, bool on, float[r] d) => (bool more, float[s] e) {
          more = Identity (on)
          zero = Constant <value = int64[1] {0}> ()
          one = Constant <value = int64[1] {1}> ()
          head = Slice (d, zero, one)
          e = Concat <axis = 0> (d, head)
        }>
        other = Neg (longer)
        again = Identity (go)
      }>
    }""")
    x = np.array([1.0, -2.0], np.float32)
    same_as_onnxruntime(model, [{"x": x, "trips": np.array(trips)} for trips in (4, 0, 1)])


def test_rows_of_sizes_that_are_found_in_the_turns() -> None:
    """All turns give as many; turns that differ are an error, also where they are written down one after the other."""
    text = """g (float[n] x, float limit, int64 turns) => (int64[m,1,k] rows) {
      rows = Loop ("", "") <body = b (int64 i, bool go) => (bool again, int64[1,k] row) {
        number = Cast <to = 1> (i)
        shifted = Add (x, number)
        large = Greater (shifted, limit)
        row = NonZero (large)
        again = Less (i, turns)
      }>
    }"""
    known = text.replace(", int64 turns)", ")").replace("again =", "turns = Constant <value_int = 2> () again =")
    x = np.array([10.0, 0.0, 20.0, -4.0], np.float32)
    turns = {"turns": np.array(2)}
    same_as_onnxruntime(parsed(text), [{"x": x, "limit": np.array(5, np.float32), **turns}])
    cases = ((text, turns, "Loop: tensors of different shapes"), (known, {}, "do not fit together"))
    for model, more, message in cases:
        with tilewright.compile(parsed(model)).session("emulator") as session, pytest.raises(ModelError, match=message):
            session.run({"x": x, "limit": np.array(-2.5, np.float32), **more})


# Branches -----------------------------------------------------------------------------------------------------------
def test_branches_of_different_sizes() -> None:
    model = parsed("""g (bool c, float[n] x) => (float[k] y) {
      y = If (c) <then_branch = t () => (float[a] p) { z = NonZero (x) f = Cast <to = 1> (z)
                    all = Constant <value = int64[1] {-1}> () p = Reshape (f, all) },
                  else_branch = e () => (float[b] q) { q = Concat <axis = 0> (x, x) }>
    }""")
    x = np.array([1.0, 0.0, 3.0], np.float32)
    same_as_onnxruntime(model, [{"c": np.array(c), "x": x} for c in (True, False)])


def test_branches_of_different_sequences_and_optionals() -> None:
    """A branch decides how many tensors there are, and whether there is one at all."""
    model = optional_model()
    x = np.array([1.0, 0.0, 3.0], np.float32)
    same_as_onnxruntime(model, [{"c": np.array(c), "x": x} for c in (True, False)])


def optional_model() -> onnx.ModelProto:
    """The parser reads no optional types: made by hand."""
    helper, kind = onnx.helper, onnx.TensorProto
    tensor = helper.make_tensor_type_proto(kind.FLOAT, ["p"])
    sequence, maybe = helper.make_sequence_type_proto(tensor), helper.make_optional_type_proto(tensor)

    def branch(name: str, nodes: list[onnx.NodeProto], output: onnx.TypeProto) -> onnx.GraphProto:
        return helper.make_graph(nodes, name, [], [helper.make_value_info(nodes[-1].output[0], output)])

    many = branch("many", [helper.make_node("SequenceConstruct", ["x", "x", "x"], ["u"])], sequence)
    one = [helper.make_node("Neg", ["x"], ["minus"]), helper.make_node("SequenceConstruct", ["minus"], ["v"])]
    some = branch("some", [helper.make_node("Optional", ["x"], ["a"])], maybe)
    none = branch("none", [helper.make_node("Optional", [], ["b"], type=tensor)], maybe)
    nodes = [
        helper.make_node("If", ["c"], ["s"], then_branch=many, else_branch=branch("one", one, sequence)),
        helper.make_node("SequenceLength", ["s"], ["count"]),
        helper.make_node("ConcatFromSequence", ["s"], ["y"], axis=0),
        helper.make_node("If", ["c"], ["o"], then_branch=some, else_branch=none),
        helper.make_node("OptionalHasElement", ["o"], ["there"]),
    ]
    given = [helper.make_tensor_value_info("c", kind.BOOL, []), helper.make_tensor_value_info("x", kind.FLOAT, ["n"])]
    wanted = [
        helper.make_tensor_value_info("count", kind.INT64, []),
        helper.make_tensor_value_info("y", kind.FLOAT, ["k"]),
        helper.make_tensor_value_info("there", kind.BOOL, []),
    ]
    graph = helper.make_graph(nodes, "optionals", given, wanted)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


# Sequences ----------------------------------------------------------------------------------------------------------
def test_a_sequence_that_a_loop_fills_and_empties() -> None:
    """Inserted at the end and in front, erased, read at a position that the data say, and joined along two axes."""
    model = parsed("""g (float[2,n] x, int64 trips, int64 at)
        => (float[2,k] wide, float[c,2,n] high, float[2,n] one, int64 count) {
      empty = SequenceEmpty ()
      filled = Loop (trips, "", empty) <body = b (int64 i, bool go, seq(float[2,n]) s)
          => (bool again, seq(float[2,n]) t) {
        number = Cast <to = 1> (i)
        row = Add (x, number)
        front = Constant <value_int = 0> ()
        half = SequenceInsert (s, row)
        t = SequenceInsert (half, x, front)
        again = Identity (go)
      }>
      less = SequenceErase (filled, at)
      count = SequenceLength (less)
      one = SequenceAt (less, at)
      wide = ConcatFromSequence <axis = 1> (less)
      high = ConcatFromSequence <axis = 0, new_axis = 1> (less)
    }""")
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    engine = same_as_onnxruntime(model, [{"x": x, "trips": np.array(3), "at": np.array(at)} for at in (0, 3, -2)])
    assert not any(isinstance(item, Fetch) for _, item in engine.program.flatten())
    with engine.session("emulator") as session, pytest.raises(ModelError, match="SequenceErase at 9 of a sequence of"):
        session.run({"x": x, "trips": np.array(3), "at": np.array(9)})


def test_tensors_of_different_sizes_one_after_the_other() -> None:
    """The parts of a split that the data say, put together again along the same axis, and each of them read."""
    for axis in (0, 1):
        model = parsed(f"""g (float[a,b,c] x, int64[p] sizes, int64 at)
            => (float[a,b,c] y, float[d,e,f] part, int64 n) {{
          parts = SplitToSequence <axis = {axis}> (x, sizes)
          n = SequenceLength (parts)
          part = SequenceAt (parts, at)
          y = ConcatFromSequence <axis = {axis}> (parts)
        }}""")
        x = np.arange(6 * 6 * 6, dtype=np.float32).reshape(6, 6, 6)
        same_as_onnxruntime(model, [
            {"x": x, "sizes": np.array(sizes), "at": np.array(at)} for sizes, at in (([1, 3, 2], 1), ([2, 4], -1))
        ])  # fmt: skip


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("given", [False, True])
def test_equal_parts_of_a_dimension_that_is_not_known(given: bool, keepdims: int) -> None:
    split = "two = Constant <value_int = 2> () parts = SplitToSequence <axis = 1> (x, two)"
    if not given:
        split = f"parts = SplitToSequence <axis = 1, keepdims = {keepdims}> (x)"
    model = parsed(f"""g (float[2,n] x) => (seq(float) parts, int64 count) {{
      {split}
      count = SequenceLength (parts)
    }}""")
    same_as_onnxruntime(model, [{"x": np.arange(2 * n, dtype=np.float32).reshape(2, n)} for n in (5, 2)])


def test_a_sequence_that_is_an_input() -> None:
    """Mapped, with a second one and a tensor beside it, and read at a position from data; none, too."""
    model = parsed("""g (seq(float[n]) s, seq(float[n]) t, float w, int64 at)
        => (seq(float) u, float[k] one, int64 count) {
      u = SequenceMap <body = b (float[n] x, float[n] y, float v) => (float[n] z) {
        p = Mul (x, v)
        z = Add (p, y)
      }> (s, t, w)
      one = SequenceAt (s, at)
      count = SequenceLength (u)
    }""")
    rng = np.random.default_rng(5)
    s, t = ([rng.normal(size=size).astype(np.float32) for size in (3, 1, 4)] for _ in range(2))
    same_as_onnxruntime(model, [{"s": s, "t": t, "w": np.array(2, np.float32), "at": np.array(at)} for at in (0, -1)])


def test_a_position_from_data_in_a_sequence_that_is_known() -> None:
    model = parsed("""g (float[2] x, float[3] y, int64 at) => (float[k] z, seq(float) more) {
      s = SequenceConstruct (x, y)
      z = SequenceAt (s, at)
      more = SequenceInsert (s, y, at)
    }""")
    x, y = np.array([1.0, 2.0], np.float32), np.array([3.0, 4.0, 5.0], np.float32)
    same_as_onnxruntime(model, [{"x": x, "y": y, "at": np.array(at)} for at in (0, 1, -1)])


def test_strings_in_a_sequence_of_a_loop() -> None:
    model = parsed("""g (string[n] x, int64 trips) => (seq(string[n]) out) {
      first = SequenceConstruct (x)
      out = Loop (trips, "", first) <body = b (int64 i, bool go, seq(string[n]) s) => (bool again, seq(string[n]) t) {
        last = Constant <value_int = -1> ()
        before = SequenceAt (s, last)
        longer = StringConcat (before, x)
        t = SequenceInsert (s, longer)
        again = Identity (go)
      }>
    }""")
    x = np.array(["a", "bc"], object)
    with tilewright.compile(model).session("emulator") as session:
        got = session.run({"x": x, "trips": np.array(2)})["out"]
    compared(got, [x, x + x, x + x + x])

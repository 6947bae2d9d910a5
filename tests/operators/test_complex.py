"""Complex numbers: every operator that ONNX lets have them, compared with onnx's reference evaluator or with numpy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx.defs
import onnx.parser
import pytest
from mlir import ir
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

import tilewright
from tilewright.compiler.frontend import import_model
from tilewright.compiler.frontend.complex_numbers import supported_operators
from tilewright.dialects import verify
from tilewright.passes.graph.interpret import interpret
from tilewright.runtime.errors import ModelError, UnsupportedError

Array = np.ndarray[Any, Any]
OPSET = 26


def numbers(*shape: int, kind: str = "complex64", seed: int = 1) -> Array:
    """Small whole numbers, some of them zero or equal."""
    draw = np.random.default_rng(seed)
    return (draw.integers(-3, 4, shape) + 1j * draw.integers(-3, 4, shape)).astype(kind)


X, IMAGE = numbers(4, 6), numbers(1, 4, 4, 6)


@dataclass
class Case:
    """A node with inputs; `wanted` where the reference evaluator cannot tell. Complex inputs are those of the model."""

    operator: str
    inputs: list[Array]
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1
    wanted: Callable[..., list[Array]] | None = None
    opset: int = OPSET


def integers(*values: int) -> Array:
    return np.array(values, np.int64)


def floats(*values: float) -> Array:
    return np.array(values, np.float32)


def one_hot(places: Array, _: Array, values: Array) -> list[Array]:
    return [values[(places == [[0], [1], [2]]) * 1]]


ROWS = integers(3, 0, 1, 2, 3, 0).reshape(1, 6)
PAIR = np.array([1 - 1j, 2 + 3j], np.complex64)
TRUTH = np.random.default_rng(2).random((4, 6)) < 0.5
GRID = np.random.default_rng(3).uniform(-1, 1, (1, 3, 2, 2)).astype(np.float32)


def by_parts(case: Case) -> list[Array]:
    """Linear operators of both parts, by the reference evaluator."""
    split = [[getattr(x, part) if x.dtype.kind == "c" else x for x in case.inputs] for part in ("real", "imag")]
    real, imaginary = (reference(Case(case.operator, given, case.attributes)) for given in split)
    return [one + 1j * two for one, two in zip(real, imaginary, strict=True)]


CASES = [
    Case("BitCast", [X], {"to": TensorProto.INT64}, wanted=lambda x: [x.view(np.int64)]),
    Case("BitCast", [X], {"to": TensorProto.DOUBLE}, wanted=lambda x: [x.view(np.float64)]),
    Case("CenterCropPad", [X, integers(3, 8)]),
    Case("Col2Im", [numbers(1, 4, 9), integers(4, 4), integers(2, 2)], wanted=by_parts),
    Case("Compress", [X, np.array([1, 0, 0, 1], bool)], {"axis": 0}),
    Case("Concat", [X, X * 2], {"axis": -1}),
    Case("DepthToSpace", [IMAGE], {"blocksize": 2}),
    Case("Expand", [X[:, :1], integers(2, 4, 3)]),
    Case("Flatten", [IMAGE], {"axis": 2}),
    Case("Gather", [X, integers(2, -1)], {"axis": 1}),
    Case("GatherElements", [X, integers(0, 1, 2, 3, 0, 1).reshape(1, 6)], {"axis": 0}),
    Case("GatherND", [X, integers(1, 2, 3, 0).reshape(2, 2)]),
    Case("GridSample", [IMAGE, GRID], {"mode": "linear", "align_corners": 1}, wanted=by_parts),
    Case("Identity", [X]),
    Case("NonZero", [X]),
    Case("OneHot", [integers(0, 2, 1), integers(3), PAIR], {"axis": 0}, wanted=one_hot),
    Case("Pad", [X, integers(1, 0, 0, 2), np.array(2 - 1j, np.complex64)], {"mode": "constant"}),
    Case("Reshape", [X, integers(3, -1)]),
    Case("Resize", [IMAGE, floats(), floats(1, 1, 2, 0.5)], {"mode": "linear"}, wanted=by_parts),
    Case("ReverseSequence", [X, integers(1, 2, 3, 4, 1, 2)]),
    Case("Scatter", [X, ROWS, X[:1] * 5], opset=9, wanted=lambda *given: reference(Case("ScatterElements", [*given]))),
    Case("ScatterElements", [X, ROWS, X[:1] * 5], {"reduction": "add"}),
    Case("ScatterND", [X, integers(2, 0).reshape(2, 1), X[:2] * 5]),
    Case("Shape", [X]),
    Case("Size", [X]),
    Case("Slice", [X, integers(3, 1), integers(-(2**62), 6), integers(0, 1), integers(-1, 2)]),
    Case("SpaceToDepth", [IMAGE], {"blocksize": 2}),
    Case("Split", [X, integers(1, 5)], {"axis": 1}, outputs=2),
    Case("Squeeze", [X[:, :1], integers(1)]),
    Case("TensorScatter", [numbers(2, 4, 3), numbers(2, 1, 3, seed=4), integers(2, 0)]),
    Case("Tile", [X, integers(2, 1)]),
    Case("Transpose", [X]),
    Case("Trilu", [X], {"upper": 0}),
    Case("Unique", [X], {}, outputs=4),
    Case("Unique", [np.tile(X, (2, 1))], {"axis": 0}, outputs=4),
    Case("Unsqueeze", [X, integers(0, 3)]),
    Case("Upsample", [IMAGE, floats(1, 1, 2, 2)], wanted=lambda x, _: [x.repeat(2, 2).repeat(2, 3)], opset=9),
    Case("Where", [TRUTH, X, X * 2]),
]  # fmt: skip
WITH_KERNELS = ("BitCast", "NonZero", "Resize", "Slice", "Transpose")
ELSEWHERE = {
    *("Constant", "If", "Loop", "Scan", "RandomNormalLike", "RandomUniformLike", "Optional", "OptionalGetElement"),
    *("OptionalHasElement", "ConcatFromSequence", "SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase"),
    *("SequenceInsert", "SequenceLength", "SequenceMap", "SplitToSequence"),
}


def model_of(case: Case) -> onnx.ModelProto:
    """The node alone; complex inputs and truths are inputs with free sizes, the others constants."""
    names = [f"i{place}" for place in range(len(case.inputs))]
    outputs = [f"o{place}" for place in range(case.outputs)]
    node = helper.make_node(case.operator, names, outputs, **case.attributes)
    free = [(name, value) for name, value in zip(names, case.inputs, strict=True) if value.dtype.kind == "c"]
    kept = [onnx.numpy_helper.from_array(value, name) for name, value in zip(names, case.inputs, strict=True)]
    shapes = {name: [f"{name}_{axis}" if size > 1 else size for axis, size in enumerate(x.shape)] for name, x in free}
    graph = helper.make_graph(
        [node],
        case.operator,
        [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), shapes[n]) for n, x in free],
        [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in outputs],
        [tensor for tensor in kept if tensor.name not in shapes],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", case.opset)])


def reference(case: Case) -> list[Array]:
    (node,) = model_of(case).graph.node
    function = helper.make_function("f", "f", node.input, node.output, [node], [helper.make_opsetid("", case.opset)])
    return list(ReferenceEvaluator(function).run(None, dict(zip(node.input, case.inputs, strict=True)), attributes={}))


def interpreted(model: onnx.ModelProto, given: dict[str, Array]) -> dict[str, Array]:
    """By the interpreter of the graph level, which has the parts of complex numbers as a last dimension."""
    unit = import_model(model)
    parts = {name: np.stack([value.real, value.imag], -1) for name, value in given.items()}
    with unit.module.context:
        verify(unit.module)
        signs = [ir.DictAttr(item) for item in unit.module.body.operations[0].attributes["res_attrs"]]
    found = interpret(unit, parts).items()
    return {
        name: result.view(sign["graph.complex"].value)[..., 0] if "graph.complex" in sign else result
        for (name, result), sign in zip(found, signs, strict=True)
    }


def run(model: onnx.ModelProto, given: dict[str, Any]) -> dict[str, Any]:
    """By the emulator."""
    with tilewright.compile(model).session("emulator") as session:
        return session.run(given)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.operator)
def test_operator(case: Case) -> None:
    if case.wanted is None or case.wanted is by_parts:
        wanted = (case.wanted or reference)(case)
    else:
        wanted = case.wanted(*case.inputs)
    given = {f"i{n}": x for n, x in enumerate(case.inputs) if x.dtype.kind == "c"}
    results = (run if case.operator in WITH_KERNELS else interpreted)(model_of(case), given)
    for result, expected in zip(results.values(), wanted, strict=True):
        assert result.dtype == expected.dtype
        # Only interpolation rounds: sums of four products of numbers up to 3, in f32.
        np.testing.assert_allclose(result, expected, atol=1e-5 if case.wanted is by_parts else 0)


def test_all_operators_of_the_standard_are_covered() -> None:
    def takes(schema: Any) -> bool:
        return any("complex" in text for rule in schema.type_constraints for text in rule.allowed_type_strs)

    schemas = onnx.defs.get_all_schemas_with_history()
    listed = {schema.name for schema in schemas if schema.domain == "" and takes(schema)}
    assert listed == supported_operators()
    assert listed == {case.operator for case in CASES} | ELSEWHERE


# Constants, sequences, control flow -----------------------------------------------------------------------
def graph_model(text: str) -> onnx.ModelProto:
    """A model in onnx's text format."""
    return onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {OPSET}]> {text}')


def test_constants_and_both_sizes_of_complex_numbers() -> None:
    node = helper.make_node("Concat", ["x", "w"], ["y"], axis=0)
    constant = numbers(2, 3, kind="complex128", seed=5)
    graph = helper.make_graph(
        [node],
        "constant",
        [helper.make_tensor_value_info("x", TensorProto.COMPLEX128, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.COMPLEX128, None)],
        [onnx.numpy_helper.from_array(constant, "w")],
    )
    x = numbers(4, 3, kind="complex128") * np.pi
    results = run(helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)]), {"x": x})
    np.testing.assert_array_equal(results["y"], np.concatenate([x, constant]))


def test_bits_become_complex_numbers() -> None:
    x = numbers(3, 2)
    model = graph_model("g (int64[n, 2] x) => (complex64[n, 2] y) { y = BitCast <to = 14> (x) }")
    results = run(model, {"x": x.view(np.int64)})
    np.testing.assert_array_equal(results["y"], x)


@pytest.mark.parametrize("kind", ["known", "held"])
def test_sequences_and_optionals(kind: str) -> None:
    inputs = "seq(complex64[2]) s, complex64[2] x" if kind == "held" else "complex64[2] x, complex64[2] z"
    first = "" if kind == "held" else "e = SequenceEmpty <dtype = 14> ()  s = SequenceInsert (e, z)"
    model = graph_model(
        f"""g ({inputs})
        => (seq(complex64[2]) r, complex64[2] last, int64 count, complex64[n, 2] all, bool has, complex64[2] got) {{
        {first}
        r = SequenceInsert (s, x)
        at = Constant <value_int = -1> ()
        last = SequenceAt (r, at)
        count = SequenceLength (r)
        all = ConcatFromSequence <axis = 0, new_axis = 1> (r)
        o = Optional (x)
        has = OptionalHasElement (o)
        got = OptionalGetElement (o)
        }}"""
    )
    z, x = numbers(2, seed=7), numbers(2, seed=8)
    results = run(model, {"s": [z], "x": x} if kind == "held" else {"z": z, "x": x})
    for result, wanted in zip(results["r"], [z, x], strict=True):
        assert result.dtype == np.complex64
        np.testing.assert_array_equal(result, wanted)
    np.testing.assert_array_equal(results["last"], x)
    np.testing.assert_array_equal(results["all"], np.stack([z, x]))
    np.testing.assert_array_equal(results["got"], x)
    assert (results["count"], results["has"]) == (2, True)


def test_split_to_sequence_and_map() -> None:
    model = graph_model(
        """g (complex64[4, 6] x) => (complex64[6, 4] y) {
        s = SplitToSequence <axis = 0> (x)
        t = SequenceMap <body = b (complex64[1, 6] i) => (complex64[6, 1] o) { o = Transpose (i) }> (s)
        y = ConcatFromSequence <axis = 1> (t)
        }"""
    )
    np.testing.assert_array_equal(run(model, {"x": X})["y"], X.T)


def test_branches() -> None:
    model = graph_model(
        """g (bool c, complex64[n, 2] x) => (complex64[n, 2] y, float[n] f) {
        y, f = If (c) <
          then_branch = a () => (complex64[n, 2] u, float[n] one)
            { u = Identity (x) one = Constant <value_floats = [1.0, 2.0, 3.0]> () },
          else_branch = b () => (complex64[n, 2] v, float[n] two)
            { v = Concat <axis = 0> (x) two = Constant <value_floats = [4.0, 5.0, 6.0]> () }
        >
        }"""
    )
    x = numbers(3, 2)
    for truth, first in ((True, 1.0), (False, 4.0)):
        results = run(model, {"c": np.array(truth), "x": x})
        np.testing.assert_array_equal(results["y"], x)
        assert results["f"][0] == first


@pytest.mark.parametrize("trips", ["Constant <value_int = 3> ()", "Identity (m)"])
def test_loops(trips: str) -> None:
    """Unrolled, and as a loop of the program: what is carried grows, what is collected is stacked."""
    model = graph_model(
        f"""g (int64 m, complex64[k] x) => (complex64[a] y, complex64[b, 2] rows) {{
        t = {trips}
        go = Constant <value_ints = [1]> ()
        start = Cast <to = 9> (go)
        here = Squeeze (start)
        y, rows = Loop (t, here, x)
        <body = b (int64 i, bool c, complex64[q] v) => (bool d, complex64[r] w, complex64[2] row) {{
          d = Identity (c)
          w = Concat <axis = 0> (v, x)
          ends = Constant <value_ints = [0, -1]> ()
          row = Gather (w, ends)
        }}>
        }}"""
    )
    x = numbers(2)
    results = run(model, {"m": np.array(3, np.int64), "x": x})
    np.testing.assert_array_equal(results["y"], np.tile(x, 4))
    np.testing.assert_array_equal(results["rows"], np.stack([x[[0, -1]]] * 3))


def test_scans() -> None:
    model = graph_model(
        """g (complex64[2] s, float[3, 2] f, complex64[2, 3] x)
        => (complex64[2] last, float[3, 2] g, complex64[2, 3] y) {
        last, g, y = Scan <
          num_scan_inputs = 2, scan_input_axes = [0, 1], scan_input_directions = [0, 1], scan_output_axes = [0, 1],
          body = b (complex64[2] before, float[2] a, complex64[2] now)
          => (complex64[2] after, float[2] twice, complex64[2] out)
          { after = Identity (now) twice = Add (a, a) out = Identity (before) }> (s, f, x)
        }"""
    )
    s, x = numbers(2, seed=3), numbers(2, 3)
    f = np.arange(6, dtype=np.float32).reshape(3, 2)
    results = run(model, {"s": s, "f": f, "x": x})
    np.testing.assert_array_equal(results["last"], x[:, 0])
    np.testing.assert_array_equal(results["g"], 2 * f)
    np.testing.assert_array_equal(results["y"], np.stack([s, x[:, 2], x[:, 1]], 1))


def test_random_numbers_like_complex_ones_are_real() -> None:
    for operator in ("RandomNormalLike", "RandomUniformLike"):
        model = graph_model(f"g (complex64[n, 2] x) => (float[n, 2] y) {{ y = {operator} <dtype = 1> (x) }}")
        result = interpreted(model, {"x": numbers(30, 2)})["y"]
        assert (result.dtype, result.shape) == (np.float32, (30, 2))
        assert len(np.unique(result)) > 50


# Callers ----------------------------------------------------------------------------------------------------
def test_inputs_are_checked_as_the_caller_has_them() -> None:
    model = graph_model("g (complex64[n, 2] x) => (complex64[2, n] y) { y = Transpose (x) }")
    with tilewright.compile(model).session("emulator") as session:
        assert str(session.inputs[0]) == "x: complex64[n, 2]"
        with pytest.raises(ModelError, match="'x' is an array of f32\n  wanted: x: complex64"):
            session.run({"x": np.zeros((3, 2), np.float32)})
        with pytest.raises(ModelError, match=r"'x' has the shape \[3, 4\]: dimension 1 should be 2"):
            session.run({"x": np.zeros((3, 4), np.complex64)})
        swapped = numbers(3, 2).astype(">c8")  # the other byte order
        result = session.run({"x": swapped[:, ::-1]}, device_outputs=True)["y"]
        np.testing.assert_array_equal(result.numpy(), swapped[:, ::-1].T)
        np.testing.assert_array_equal(np.from_dlpack(result), swapped[:, ::-1].T)


def test_what_complex_numbers_cannot_do_names_the_node() -> None:
    for text, message in (
        ("y = ScatterElements <reduction = \"mul\"> (x, i, x)", "reduction 'mul' of complex64"),
        ("y = SequenceErase (x)", "SequenceErase of a tensor"),
    ):
        model = graph_model(f"g (complex64[2] x, int64[2] i) => (complex64[2] y) {{ {text} }}")
        with pytest.raises((UnsupportedError, ModelError), match=message):
            tilewright.compile(model)

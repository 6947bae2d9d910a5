"""The walk over the graph: errors that name every node, control flow, functions, constants, aliases."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from tests.frontend.building import model, operations, run, signature

from tilewright.compiler.frontend import import_model, registered_operators
from tilewright.runtime.errors import UnsupportedError


def test_all_unsupported_nodes_at_once() -> None:
    text = """m (float[1,4,n] x) => (float[a,b,c] y) {
        [first] t = Det(x)
        [second] u = Relu(x)
        [third] v = CumSum(u, axes)
        [fourth] w = Det(u)
        [after] y = Abs(v)
    }"""
    with pytest.raises(UnsupportedError) as caught:
        import_model(model(text, axes=np.array([0, 1])))
    assert str(caught.value) == "\n".join(
        [
            "unsupported: Det of matrices 4 x n",
            "  node 'first' (Det, opset 18), input f32[1,4,n]",
            "  node 'fourth' (Det, opset 18), input f32[1,4,n]",
            "  supported: static square ones up to 8",
            "unsupported: CumSum with several axes",
            "  node 'third' (CumSum, opset 18), input f32[1,4,n], i64[2]",
            "  supported: one axis",
        ]
    )


def test_unsupported_mode_says_what_is_supported() -> None:
    source = model("m (float[1,1,4,4] x) => (float[a,b,c,d] y) { [up] y = Resize<mode=\"magic\">(x, , s) }",
                   s=np.array([1, 1, 2, 2], np.float32))  # fmt: skip
    with pytest.raises(
        UnsupportedError, match=r"unsupported: Resize mode 'magic'\n  node 'up'.*\n  supported: nearest, linear, cubic"
    ):
        import_model(source)


def branches(condition: str) -> onnx.ModelProto:
    text = f"""m (float[n] x, bool c) => (float[n] y) {{
        {condition}
        y = If (k) <then_branch = yes () => (float[n] a) {{ two = Constant<value_float=2.0>() a = Mul(x, two) }},
                    else_branch = no () => (float[n] b) {{ b = Neg(x) }}>
    }}"""
    return model(text)


def test_if_becomes_scf_if() -> None:
    unit = import_model(branches("k = Identity(c)"))
    assert operations(unit)["scf.if"] == 1 and operations(unit)["tensor.extract"] == 1
    x = np.array([1.0, -3.0], np.float32)
    np.testing.assert_array_equal(run(unit, x=x, c=np.array(True))["y"], 2 * x)
    np.testing.assert_array_equal(run(unit, x=x, c=np.array(False))["y"], -x)


@pytest.mark.parametrize(("value", "sign"), [(1, 2.0), (0, -1.0)])
def test_if_on_a_constant_is_inlined(value: int, sign: float) -> None:
    unit = import_model(branches(f"i = Constant<value_int={value}>() k = Cast<to=9>(i)"))
    assert "scf.if" not in operations(unit)
    x = np.array([1.0, -3.0], np.float32)
    np.testing.assert_array_equal(run(unit, x=x, c=np.array(True))["y"], sign * x)


def test_if_on_a_shape_is_decided() -> None:
    unit = import_model(branches("s = Size(x) o = Constant<value_int=-1>() k = Greater(s, o)"))
    assert "scf.if" not in operations(unit)


def test_local_functions_are_inlined() -> None:
    text = """<ir_version: 8, opset_import: ["" : 18, "local" : 1]>
    m (float[n] x) => (float[n] y) { y = local.twice_and<slope=3.0>(x) }
    <domain: "local", opset_import: ["" : 18]>
    twice_and <slope> (a) => (b) { t = Add(a, a) b = LeakyRelu<alpha: float = @slope>(t) }"""
    unit = import_model(onnx.parser.parse_model(text))
    x = np.array([1.0, -1.0], np.float32)
    np.testing.assert_allclose(run(unit, x=x)["y"], [2.0, -6.0])


def test_operators_without_importer_use_onnx_function_bodies() -> None:
    assert ("", "CenterCropPad") not in registered_operators()
    source = model("m (float[n,8] x) => (float[a,b] y) { y = CenterCropPad<axes=[1]>(x, s) }", s=np.array([4]))
    x = np.arange(16, dtype=np.float32).reshape(2, 8)
    np.testing.assert_array_equal(run(import_model(source), x=x)["y"], x[:, 2:6])


def test_outputs_that_are_inputs_or_constants() -> None:
    text = "m (float[n] x) => (float[n] x2, float[2] k, float[n] d) { x2 = Identity(x) k = Identity(c) d = Dropout(x) }"
    unit = import_model(model(text, c=np.array([1.0, 2.0], np.float32)))
    x = np.array([4.0], np.float32)
    results = run(unit, x=x)
    np.testing.assert_array_equal(results["x2"], x)
    np.testing.assert_array_equal(results["d"], x)
    np.testing.assert_array_equal(results["k"], [1.0, 2.0])


def test_constants_fold_and_unused_ones_vanish() -> None:
    text = "m (float[n,4] x) => (float[n,4] y) { t = Transpose(w) s = Sqrt(t) q = Squeeze(s) y = Mul(x, q) }"
    unit = import_model(model(text, w=np.full((4, 1), 9.0, np.float32), unused=np.zeros(100000, np.float32)))
    assert operations(unit)["graph.map"] == 1 and not list(unit.weights)
    np.testing.assert_array_equal(run(unit, x=np.ones((2, 4), np.float32))["y"], np.full((2, 4), 3.0))


def test_large_casts_of_constants_stay_in_the_graph() -> None:
    """int8 weights stay int8 in the engine; the cast fuses into their user."""
    weight = np.arange(-128, 128, dtype=np.int8).repeat(2048).reshape(512, 1024)
    unit = import_model(
        model("m (float[n,512] x) => (float[n,1024] y) { f = Cast<to=1>(w) y = MatMul(x, f) }", w=weight)
    )
    assert operations(unit)["graph.map"] == 1 and unit.weights.get("w").dtype == np.int8


def test_node_names_are_locations() -> None:
    unit = import_model(model("m (float[n] x) => (float[n] y) { [my_node] y = Relu(x) }"))
    text = unit.module.operation.get_asm(enable_debug_info=True)
    assert 'loc("my_node")' in text


def test_old_broadcast_attributes() -> None:
    source = model("m (float[2,3,4] x) => (float[2,3,4] y) { y = Add<broadcast=1, axis=1>(x, b) }", opset=6,
                   b=np.array([1.0, 2.0, 3.0], np.float32))  # fmt: skip
    result = run(import_model(source), x=np.zeros((2, 3, 4), np.float32))["y"]
    np.testing.assert_array_equal(result[0, :, 0], [1.0, 2.0, 3.0])


def test_softmax_before_opset_13_is_over_all_trailing_dimensions() -> None:
    x = np.random.default_rng(3).normal(size=(2, 3, 4)).astype(np.float32)
    result = run(import_model(model("m (float[2,3,4] x) => (float[2,3,4] y) { y = Softmax(x) }", opset=11)), x=x)["y"]
    # exp and a sum of 12 terms in f32
    np.testing.assert_allclose(result.sum(axis=(1, 2)), [1.0, 1.0], rtol=1e-6)
    assert "3x4" in signature(import_model(model("m (float[2,3,4] x) => (float[2,3,4] y) { y = Softmax(x) }")))


def test_sequences_are_resolved() -> None:
    text = """m (float[6,k] x) => (float[a,k] y) {
        parts = SplitToSequence<axis=0>(x, two) last = SequenceAt(parts, minus)
        more = SequenceInsert(parts, last) y = ConcatFromSequence<axis=0>(more)
    }"""
    unit = import_model(model(text, two=np.array(2), minus=np.array(-1)))
    x = np.arange(12, dtype=np.float32).reshape(6, 2)
    np.testing.assert_array_equal(run(unit, x=x)["y"], np.concatenate([x, x[4:]]))


def test_loops_of_known_length_are_unrolled() -> None:
    text = """m (float[n] x) => (float[n] y, float[a,n] all) {
        y, all = Loop (three, , x) <body = step (int64 i, bool c, float[n] v) => (bool going, float[n] w,
        float[n] seen) {     going = Identity(c) f = Cast<to=1>(i) w = Add(v, f) seen = Mul(w, w)
        }>
    }"""
    unit = import_model(model(text, three=np.array(3)))
    results = run(unit, x=np.array([1.0, -2.0], np.float32))
    np.testing.assert_array_equal(results["y"], [4.0, 1.0])
    np.testing.assert_array_equal(results["all"], [[1.0, 4.0], [4.0, 1.0], [16.0, 1.0]])


def test_loop_of_unknown_length() -> None:
    text = """m (float[n] x, int64 k) => (float[n] y) {
        y = Loop (k, , x) <body = step (int64 i, bool c, float[n] v) => (bool going, float[n] w) {
            going = Identity(c) w = Neg(v)
        }>
    }"""
    unit = import_model(model(text))
    x = np.array([1.0, -2.0], np.float32)
    for count in (0, 1, 4):
        np.testing.assert_array_equal(run(unit, x=x, k=np.array(count))["y"], x if count % 2 == 0 else -x)


def test_loop_of_unknown_length_that_collects() -> None:
    text = """m (float[n] x, int64 k) => (float[n] y, float[a,n] all) {
        y, all = Loop (k, , x) <body = step (int64 i, bool c, float[n] v) => (bool going, float[n] w, float[n] seen) {
            going = Identity(c) w = Neg(v) seen = Identity(v)
        }>
    }"""
    unit = import_model(model(text))
    x = np.array([1.0, -2.0], np.float32)
    for count in (0, 1, 4):
        signs = np.array([1, -1, 1, -1][:count], np.float32)
        np.testing.assert_array_equal(run(unit, x=x, k=np.array(count))["all"], signs.reshape(-1, 1) * x)

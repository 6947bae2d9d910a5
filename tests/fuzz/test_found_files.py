"""Damaged models that random ones showed: each ended in an error of ours once, and is now refused with a reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper

from tilewright.compiler.frontend import import_model
from tilewright.runtime.errors import ModelError


def parsed(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model('<ir_version: 10, opset_import: ["": 18, "own": 1]> m ' + text)


def recursive() -> onnx.ModelProto:
    model = parsed("(float[n] x) => (float[n] y) { y = own.Again(x) }")
    body = [helper.make_node("Again", ["a"], ["b"], domain="own")]
    model.functions.append(helper.make_function("own", "Again", ["a"], ["b"], body, model.opset_import))
    return model


def strings() -> onnx.ModelProto:
    model = parsed("(float[n] x) => (float[n] y) { y = Relu(x) }")
    model.graph.initializer.append(TensorProto(name="s", data_type=TensorProto.STRING, dims=[2], string_data=[b"one"]))
    return model


def null_in_path() -> onnx.ModelProto:
    model = parsed("(float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Add(x, w) }")
    tensor = model.graph.initializer[0]
    tensor.ClearField("float_data")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="a\0b")
    return model


FOUND: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "a function that calls itself": (recursive, "not valid: Cycle"),
    "fewer strings than the shape says": (strings, "'s' of strings is damaged"),
    "a null byte in a path": (null_in_path, "no file has the name"),
    "a condition of floats": (
        lambda: parsed(
            "(float[1] c, float[2] x) => (float[2] y) { y = If (c) <then_branch = t () => (float[2] a) { a = Neg(x) }, "
            "else_branch = e () => (float[2] b) { b = Relu(x) }> }"
        ),
        "If takes bools",
    ),
    "two types where ONNX asks for one": (
        lambda: parsed("(float[n] x, int64[n] z) => (float[n] y) { y = Clip(x, z) }"),
        "Clip takes both of one type",
    ),
    "an output twice": (
        lambda: parsed("(float[n] x) => (float[n] y, float[n] y) { y = Relu(x) }"),
        "an output twice: y",
    ),
    "updates of another rank": (
        lambda: parsed("(float[7,1] x, int64[2] i, float[2] u) => (float[7,1] y) { y = ScatterElements (x, i, u) }"),
        r"inputs of ranks \[2, 1, 1\]",
    ),
    "statistics of different sizes": (
        lambda: parsed(
            "(float[1,2,3] x) => (float[1,2,3] y) <float[2] s = {1, 2}, float[3] v = {1, 2, 3}> "
            "{ y = BatchNormalization (x, s, s, s, v) }"
        ),
        "mean and variance of different sizes",
    ),
    "integers joined with booleans": (
        lambda: parsed("(int64[n] x, bool[n] z) => (int64[a] y) { y = Concat <axis=0> (x, z) }"),
        "Concat takes both of one type",
    ),
    "a logical operator of floats": (
        lambda: parsed("(float[n] x) => (float[n] y) { y = Or(x, x) }"),
        "input 0 is f32\n  Or takes bools",
    ),
    "an axis that is not there": (
        lambda: parsed("(float[n,3] x, int64[3] s) => (float[n,3] y) { y = ReverseSequence <time_axis=4> (x, s) }"),
        "axis 4 of a tensor of rank 2",
    ),
    "channels of a vector": (
        lambda: parsed("(float[3] x, float[3] s) => (float[3] y) { y = InstanceNormalization(x, s, s) }"),
        "for a tensor of rank 1",
    ),
    "a body without the value that it carries": (
        lambda: parsed(
            "(int64 n, bool c, float x) => (float y) { y = Loop (n, c, x) "
            "<body = b (int64 i, bool k, float s) => (bool g) { g = Identity(k) }> }"
        ),
        "body of a Loop that carries 1 values has 2 outputs or more",
    ),
    "a tile that no memory holds": (
        lambda: parsed(
            "(float[2] x) => (int32[a] y) <int32[2] c = {7, 4}, int64[2] r = {268435456, 1}> { y = Tile(c, r) }"
        ),
        "Tile",
    ),
    "a dimension that no index reaches": (
        lambda: parsed("(float[1099511627776] x) => (float[a] y) { y = Relu(x) }"),
        "dimensions of 0 to 2147483647",
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_found_models(name: str, tmp_path: Path) -> None:
    make, message = FOUND[name]
    path = tmp_path / "model.onnx"
    path.write_bytes(make().SerializeToString())
    with pytest.raises(ModelError, match=message):
        import_model(path)


@pytest.mark.parametrize("name", [b"an_input", b"weights"])
def test_text_that_is_not_utf8(name: bytes) -> None:
    model = parsed("(float[2] an_input) => (float[2] y) <float[2] weights = {1, 2}> { y = Add(an_input, weights) }")
    with pytest.raises(ModelError, match="UTF-8"):
        import_model(model.SerializeToString().replace(name, b"\xff" + name[1:]))

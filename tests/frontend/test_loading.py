"""Files are untrusted: damaged, hostile and unusual ones give clear errors or work; nothing outside the
folder is read.
"""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.frontend.building import model, operations, run

from tilewright.compiler.frontend import import_model
from tilewright.runtime.errors import Error, ModelError, UnsupportedError

TEXT = "m (float[n,64] x) => (float[n,32] y) { t = MatMul(x, w) y = Add(t, b) }"
RNG = np.random.default_rng(7)
WEIGHT, BIAS = RNG.normal(size=(64, 32)).astype(np.float32), RNG.normal(size=32).astype(np.float32)


def example() -> onnx.ModelProto:
    return model(TEXT, w=WEIGHT, b=BIAS)


def check(unit_source: object) -> None:
    unit = import_model(unit_source)  # type: ignore[arg-type]
    x = RNG.normal(size=(3, 64)).astype(np.float32)
    # One float32 matmul of depth 64.
    np.testing.assert_allclose(run(unit, x=x)["y"], x @ WEIGHT + BIAS, rtol=1e-5, atol=1e-5)


def test_model_bytes_and_file(tmp_path: Path) -> None:
    source = example()
    check(source)
    check(source.SerializeToString())
    path = tmp_path / "näme with space.onnx"
    onnx.save(source, path)
    check(path)
    check(str(path))


def test_external_data_is_mapped(tmp_path: Path) -> None:
    onnx.save(example(), tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0, location="weights.bin")
    check(tmp_path / "m.onnx")


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "link.bin", "", "missing.bin"])
def test_external_data_stays_in_the_folder(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(64 * 32 * 4))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    source = example()
    tensor = source.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    (folder / "m.onnx").write_bytes(source.SerializeToString())
    with pytest.raises(ModelError, match="external data"):
        import_model(folder / "m.onnx")


@pytest.mark.parametrize(("key", "value"), [("offset", "-4"), ("offset", "8300"), ("length", "12"), ("offset", "x")])
def test_external_data_out_of_range(tmp_path: Path, key: str, value: str) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(example(), path, save_as_external_data=True, size_threshold=0, location="w.bin")
    source = onnx.load(path, load_external_data=False)
    entries = source.graph.initializer[-1].external_data
    for entry in list(entries):
        if entry.key == key:
            entries.remove(entry)
    entry = entries.add()
    entry.key, entry.value = key, value
    path.write_bytes(source.SerializeToString())
    with pytest.raises(ModelError, match="tensor 'b'"):
        import_model(path)


def test_external_data_without_a_folder() -> None:
    source = example()
    source.graph.initializer[0].ClearField("raw_data")
    source.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    with pytest.raises(ModelError, match="did not come from a file"):
        import_model(source)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "not an ONNX model"), (b"\x00" * 40, "not an ONNX model"), (b"PK\x03\x04 zip", "not an ONNX model")],
)
def test_not_a_model(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    for source in (path, content):
        with pytest.raises(ModelError, match=message):
            import_model(source)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot read .*No such file"):
        import_model(tmp_path / "missing.onnx")
    with pytest.raises(ModelError, match="cannot read"):
        import_model(tmp_path)


def test_every_truncation_is_a_model_error(tmp_path: Path) -> None:
    data = example().SerializeToString()
    path = tmp_path / "m.onnx"
    for length in [*range(0, 200, 7), *range(200, len(data), 997)]:
        path.write_bytes(data[:length])
        with pytest.raises(Error):
            unit = import_model(path)
            for handle in unit.weights:
                unit.weights.get(handle)
            raise ModelError("cut where nothing was missing")


def test_flipped_bytes_never_give_a_traceback(tmp_path: Path) -> None:
    data = example().SerializeToString()
    generator = random.Random(1)
    head = len(data) - WEIGHT.nbytes
    for _ in range(60):
        damaged = bytearray(data)
        for _ in range(3):
            position = generator.randrange(len(damaged))
            damaged[position if generator.random() < 0.3 else min(position, generator.randrange(head))] ^= (
                1 << generator.randrange(8)
            )
        with contextlib.suppress(Error):
            import_model(bytes(damaged))


def test_wrong_size_of_raw_data() -> None:
    source = example()
    source.graph.initializer[0].raw_data = source.graph.initializer[0].raw_data[:-4]
    with pytest.raises(ModelError, match=r"tensor 'w' has 8188 bytes of data; its shape \[64, 32\] needs 8192"):
        import_model(source)


def test_initializers_that_are_also_inputs() -> None:
    source = example()
    source.ir_version = 3
    source.graph.input.append(onnx.helper.make_tensor_value_info("w", 1, [64, 32]))
    source.graph.input.append(onnx.helper.make_tensor_value_info("b", 1, [32]))
    check(source)


def test_newer_opset() -> None:
    source = example()
    source.opset_import[0].version = 9999
    with pytest.raises(UnsupportedError, match="unsupported: opset 9999"):
        import_model(source)


def test_nodes_in_any_order() -> None:
    """As onnxruntime's converter to float16 leaves them; what a branch captures counts, too."""
    source = model(
        """m (float[n] x, bool c) => (float[n] y) {
            a = Relu(x)
            b = Neg(a)
            t = If(c) <
                then_branch = p () => (float[n] u) { u = Abs(b) },
                else_branch = q () => (float[n] v) { v = Exp(b) }
            >
            y = Add(t, a)
        }"""
    )
    nodes = list(source.graph.node)
    del source.graph.node[:]
    source.graph.node.extend(nodes[index] for index in (3, 2, 0, 1))
    x = np.array([-1.5, 2.0, 3.0], np.float32)
    found = run(import_model(source), x=x, c=np.array(True))["y"]
    np.testing.assert_array_equal(found, 2 * np.maximum(x, 0))
    assert [node.op_type for node in source.graph.node] == ["Add", "If", "Relu", "Neg"]  # the user's stays as it is


def test_cyclic_graph_is_a_model_error() -> None:
    source = model("m (float[n] x) => (float[n] y) { y = Relu(x) }")
    source.graph.node[0].input[0] = "y"
    with pytest.raises(ModelError, match="not valid"):
        import_model(source)


def test_huge_constant_of_shape_takes_no_memory() -> None:
    big = np.array([1 << 20, 1 << 20], np.int64)
    unit = import_model(model("m (float[n] x) => (float[n] y) { t = ConstantOfShape(s) y = Relu(x) }", s=big))
    assert operations(unit)["graph.map"] == 2 and not list(unit.weights)


def test_odd_names_reach_locations() -> None:
    source = model("m (float[n] x) => (float[n] y) { y = Relu(x) }")
    source.graph.node[0].name = 'we/ird "name" \\ with\nnewline'
    source.graph.input[0].name = source.graph.node[0].input[0] = "in/put:0"
    unit = import_model(source)
    assert unit.symbols["n"].input == "in/put:0"
    run(unit, **{"in/put:0": np.zeros(2, np.float32)})

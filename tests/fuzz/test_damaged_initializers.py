"""Initializers of every element type whose data does not fit their shape, inside the file and outside of it.

Floats of 8 and 4 bits, packed integers and complex numbers, too. Each is refused by a ModelError that names the tensor.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from tilewright.compiler.frontend import import_model
from tilewright.compiler.frontend.tensors_of_file import COMPLEX_TYPES, ELEMENT_TYPES, stored_bytes
from tilewright.runtime.dtypes import COMPLEX, DTYPES
from tilewright.runtime.errors import ModelError

SHAPE = (3, 5)  # an odd number of elements: the last byte of packed ones is half empty
KINDS = {**ELEMENT_TYPES, **COMPLEX_TYPES}
NUMBERS = (TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2FNUZ, TensorProto.FLOAT8E8M0, TensorProto.FLOAT4E2M1)


def model_of(tensor: TensorProto) -> onnx.ModelProto:
    node = helper.make_node("Identity", ["w"], ["y"])
    output = helper.make_tensor_value_info("y", tensor.data_type, None)
    graph = helper.make_graph([node], "narrow", [], [output], [tensor])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 25)], ir_version=13)


def size_of(kind: int) -> int:
    """Bytes of a tensor of `SHAPE`."""
    return stored_bytes((DTYPES | COMPLEX)[KINDS[kind]], SHAPE)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: KINDS[kind])
def test_bytes_in_the_file(kind: int) -> None:
    size = size_of(kind)
    for length, good in ((size, True), (size - 1, False), (size + 1, False), (0, False), (2 * size, False)):
        tensor = TensorProto(name="w", data_type=kind, dims=SHAPE, raw_data=bytes(length))
        if good:
            import_model(model_of(tensor))
            continue
        with pytest.raises(ModelError, match=r"'w'|tensor name: w"):
            import_model(model_of(tensor))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: KINDS[kind])
def test_bytes_outside_of_the_file(kind: int, tmp_path: Path) -> None:
    size = size_of(kind)
    path = tmp_path / "model.onnx"
    for length, entry, good in ((size, size, True), (size - 1, size, False), (size, size - 1, False)):
        tensor = TensorProto(name="w", data_type=kind, dims=SHAPE, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", "w.bin"), ("offset", "0"), ("length", str(entry))):
            tensor.external_data.add(key=key, value=value)
        (tmp_path / "w.bin").write_bytes(bytes(length))
        onnx.save(model_of(tensor), path)
        if good:
            import_model(path)
            continue
        with pytest.raises(ModelError, match="'w'"):
            import_model(path)


@pytest.mark.parametrize("kind", NUMBERS, ids=lambda kind: KINDS[kind])
def test_numbers_in_the_file(kind: int) -> None:
    """What is written as numbers, one a byte, or one for two elements: too few, too many, larger than a byte."""
    count = size_of(kind)
    for numbers in ([0] * (count - 1), [0] * (count + 1), [1 << 20] * count, [-1] * count):
        tensor = TensorProto(name="w", data_type=kind, dims=SHAPE, int32_data=numbers)
        try:
            import_model(model_of(tensor))
        except ModelError as error:
            assert "'w'" in str(error) or "tensor name: w" in str(error)
        else:
            assert len(numbers) == count  # of numbers that are too large the low bits are taken

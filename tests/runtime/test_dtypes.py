"""The table of element types."""

from __future__ import annotations

import numpy as np
import pytest

from tilewright.runtime.dtypes import DTYPES, dtype, from_numpy, raw_bytes
from tilewright.runtime.errors import ModelError


@pytest.mark.parametrize("name", DTYPES)
def test_names_and_numpy_agree(name: str) -> None:
    row = dtype(name)
    assert row.name == name and from_numpy(row.numpy) is row and row.bytes == row.numpy.itemsize
    array = np.zeros((2, 3), row.numpy)
    array[0, 1] = 1
    data = raw_bytes(array.T)
    np.testing.assert_array_equal(data.view(row.numpy).reshape(3, 2), array.T)
    assert raw_bytes(array.reshape(-1)[:1].reshape(())).nbytes == row.bytes


def test_other_byte_order() -> None:
    array = np.array([1.0, 2.0], ">f4")
    assert from_numpy(array.dtype).name == "f32"
    np.testing.assert_array_equal(raw_bytes(array).view("<f4"), [1.0, 2.0])


def test_unknown_types() -> None:
    with pytest.raises(ModelError, match="unknown element type 'f7'\n  supported: f32"):
        dtype("f7")
    with pytest.raises(ModelError, match=r"numpy dtype datetime64\[s\] are not supported"):
        from_numpy(np.dtype("datetime64[s]"))

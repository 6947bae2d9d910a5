"""Pass `lay-out-weights`: rounding to tf32."""

from __future__ import annotations

import numpy as np

from tilewright.passes.graph.lay_out_weights import nearest_tf32


def test_nearest_tf32() -> None:
    """Ten bits of mantissa remain, no number moves further than half of the last, and what is no number stays."""
    values = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    found = nearest_tf32(values)
    assert not (found.view(np.uint32) & 0x1FFF).any()
    assert (np.abs(found.astype(np.float64) - values) <= np.abs(values) * 2.0**-11).all()
    special = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0], np.float32)
    np.testing.assert_array_equal(nearest_tf32(special), special)
    assert nearest_tf32(np.float32([1 + 2**-11]))[0] == np.float32(1 + 2**-10)  # ties go away from zero

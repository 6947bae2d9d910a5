"""Impossible attributes and sizes: `python -m benchmarks.fuzz nodes` damages all node cases (docs/fuzzing.md)."""

from __future__ import annotations

import onnx
import onnx.parser
import pytest
from benchmarks.fuzz.damaged_nodes import judge_node

from tilewright.compiler.frontend import import_model
from tilewright.runtime.errors import ModelError, UnsupportedError

FIRST = 1_000_003  # beyond the seeds of the recorded run; other cases each time, as neighbours are of one operator
STEP = 37


@pytest.mark.parametrize("seed", range(FIRST, FIRST + 50 * STEP, STEP))
def test_damaged_nodes_are_refused_or_compiled(seed: int) -> None:
    verdict = judge_node(seed)
    assert verdict.kind in ("compiled", "refused"), verdict.message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("y = Cast <to = 24, round_mode = \"sideways\"> (x)", "round_mode 'sideways'"),
        ("y = Split <num_outputs = 2147483647> (x)", "Split into 2147483647 parts has 1 outputs"),
        ("z = Cast <to = 7> (x) a = Constant <value_ints = [0, 1]> () y = Slice (x, z, a)", "of different lengths"),
        ("s = Constant <value_ints = [1, 2]> () y = CenterCropPad <axes = [0, 1, 0]> (x, s)", "do not fit together"),
        (
            "k = Constant <value_int = 2147483648> () c = Constant <value_ints = [3, 1]> () y, i = TopK (c, k)",
            "a tensor of shape",
        ),
        ("l = Constant <value_int = 0> () y = DFT (x, l)", "DFT of length 0"),
        ("l = Constant <value_int = 0> () y = STFT (x, l, , l)", "STFT with frame_step 0"),
        ("y = ArgMax <axis = \"first\"> (x)", "Mismatched attribute type"),
    ],
)
def test_found(body: str, message: str) -> None:
    """What the run found: tracebacks, an allocation without bound, and errors that named no node."""
    header = '<ir_version: 10, opset_import: ["" : 24]> g (float[2, 4] x) => (float y)'
    model = onnx.parser.parse_model(f"{header} {{ {body} }}")
    with pytest.raises((ModelError, UnsupportedError), match=message) as caught:
        import_model(model)
    assert "\n  node '" in str(caught.value)


def test_attributes_that_are_no_text() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 24]> g (float[2, 4] x) => (float y) { y = Gelu <approximate = "a"> (x) }'
    )
    model.graph.node[0].attribute[0].s = b"\xff\xfe"
    with pytest.raises(ModelError, match="'approximate' is not UTF-8 text\n  node 'y'"):
        import_model(model)

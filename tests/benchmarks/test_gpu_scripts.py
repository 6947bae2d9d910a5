"""What runs on a GPU only, tried on the emulator: an engine without weights, the check of a bundle, the report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from benchmarks import gpu_bundle, report
from benchmarks.gpu_models import Case
from onnx import TensorProto, helper, numpy_helper

import tilewright
from tilewright.runtime.hollow import KEPT_BYTES, load_hollow, save_hollow

ROOT = Path(__file__).parents[2]


def two_layers() -> onnx.ModelProto:
    """A product with a weight large enough to be left out, and a bias small enough to be kept."""
    random = np.random.default_rng(0)
    weights = {"w": random.normal(0.5, 2.0, (96, 128)).astype(np.float32), "b": random.random(128, np.float32)}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["product"]), helper.make_node("Add", ["product", "b"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "layers",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 96])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 128])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_a_hollow_engine_has_the_same_kernels_and_weights_alike(tmp_path: Path) -> None:
    engine = tilewright.compile(two_layers())
    save_hollow(engine, tmp_path / "layers.hollow")
    again = load_hollow(tmp_path / "layers.hollow")
    assert {name: again.ptx(name) for name in again.kernels} == {name: engine.ptx(name) for name in engine.kernels}
    kinds = set()
    for (buffer, weight), (_, other) in zip(engine.weights(), again.weights(), strict=True):
        array, made = np.asarray(weight), np.asarray(other)
        assert made.shape == array.shape and made.dtype == array.dtype
        kinds.add(kept := array.nbytes <= KEPT_BYTES)
        if kept:
            np.testing.assert_array_equal(made, array, buffer.name)
        else:  # 12,288 draws: the mean is within 0.02 and the deviation within 0.013, one sigma; five are allowed
            assert abs(made.mean() - array.mean()) < 0.1 and abs(made.std() - array.std()) < 0.07
    assert kinds == {True, False}
    x = np.ones((3, 96), np.float32)
    with again.session("emulator") as session:
        assert np.isfinite(session.run({"x": x})["y"]).all()


def test_shapes_go_by_the_names_of_inputs(tmp_path: Path) -> None:
    onnx.save(two_layers(), tmp_path / "layers.onnx")
    case = Case("layers", {"batch": 5})
    assert case.slug == "layers-batch5" and case.shapes(tmp_path / "layers.onnx") == {"x": (5, 96)}


def test_a_bundle_is_checked_and_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_bundle, "PRECISIONS", ("strict",))
    bundle, out = tmp_path / "bundle", tmp_path / "gpu-check.json"
    bundle.mkdir()
    cases = gpu_bundle.add_models(bundle, ["bert-small-dynamo"], "sm_90a", 48)
    (bundle / "cases.json").write_text(json.dumps({"target": "sm_90a", "cases": cases}))
    command = ["benchmarks/gpu_check.py", str(bundle), "--device", "emulator", "--out", str(out)]
    environment = os.environ | {"PYTHONPATH": f"{ROOT / '.pkg'}{os.pathsep}{ROOT}"}
    checked = subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    records = json.loads(out.read_text())["cases"]
    assert records and all(record["right"] for record in records)
    print("\n".join(report.answer_lines(json.loads(out.read_text()))))
    assert f"{len(records)} of {len(records)} answers right." in capsys.readouterr().out


def test_the_report_compares_with_the_fastest_peer() -> None:
    peers = {"slow": {"seconds": 4e-6}, "fast": {"seconds": 3e-6}, "absent": {"skipped": "no such kernel"}}
    right = {
        "family": "matmul", "name": "a", "flops": 2e6, "bytes": 0, "right": True, "ours": {"seconds": 2e-6},
        "peers": peers,
    }  # fmt: skip
    wrong = right | {"name": "b", "right": False}
    failed = {"family": "matmul", "name": "c", "right": False, "failed": "out of memory\nmore"}
    results = {"ceilings": {"copy": 3e12, "cublas f16": 2e12}, "workloads": [right, wrong, failed]}
    text = "\n".join(report.kernel_tables(results))
    assert "| a | 2.0 | 1 TFLOP/s | 50% | fast 3.0 | 1.50 |" in text
    assert "| b **WRONG** |" in text and "| c | failed: out of memory |" in text
    assert "Geometric mean 1.50, least 1.50, of 1; goal 1.0." in text  # a wrong answer has no speed

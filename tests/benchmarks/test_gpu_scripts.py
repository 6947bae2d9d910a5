"""What runs on a GPU only, tried on the emulator: an engine without weights, the check of a bundle, results that a cut
leaves whole, the report.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from benchmarks import gpu_bundle, gpu_models, report
from benchmarks.gpu_models import Case
from benchmarks.gpu_results import OUT_OF_TIME, OutOfTime, Results, is_cut, time_limit
from benchmarks.gpu_worker import Notes
from benchmarks.quantised_workloads import EVERY
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


def test_whole_models_get_inputs_of_their_types(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    ids, table = numpy_helper.from_array(np.eye(7, 16, dtype=np.float16), "table"), ["table", "input_ids"]
    graph = helper.make_graph(
        [helper.make_node("Gather", table, ["words"]), helper.make_node("Mul", ["words", "x"], ["y"])],
        "words",
        [
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", 3]),
            helper.make_tensor_value_info("x", TensorProto.FLOAT16, [16]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, None)],
        [ids],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    engine = tilewright.compile(model, shapes={"input_ids": (2, 3), "x": (16,)})
    case = Case("words", {"batch": 2})
    save_hollow(engine, tmp_path / "models" / f"{case.slug}.hollow")
    assert [(own.dtype, own.shape) for own in gpu_models.inputs_of(tmp_path, case)] == [("i8", (2, 3)), ("f2", (16,))]
    record = gpu_models.ours(tmp_path, case, "emulator", Notes())
    assert record["model"] == "words" and record["ours"]["seconds"] > 0
    assert len(record["slowest"]) == record["launches"] == len(engine.program.launches)


def test_results_go_on_after_a_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, head = tmp_path / "gpu.json", {"environment": {"device": "a GPU"}}

    def begin(resume: bool, device: str = "a GPU") -> Results:
        return Results(path, "workloads", ("family", "name"), {"environment": {"device": device}}, resume)

    results = Results(path, "workloads", ("family", "name"), head, resume=True)  # there is nothing yet
    results.add({"family": "matmul", "name": "a", "right": True, "error": 1e-4})
    results.add({"family": "matmul", "name": "b", "right": False, "failed": "out of memory"})
    cut = {"family": "matmul", "name": "c", "peers": {"torch": {"skipped": OUT_OF_TIME}}}
    results.add(cut)
    results.add(cut)  # in the place of the one before
    results.leave_out("matmul d")
    written = path.read_text()
    with monkeypatch.context() as patched:  # a cut in the middle of writing
        patched.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            results.add({"family": "matmul", "name": "e"})
    assert path.read_text() == written
    assert json.loads(written)["left out"] == ["matmul d: out of time"]
    again = begin(resume=True)
    assert [record["name"] for record in again.records] == ["a", "c"] and is_cut(again.records[1])
    assert again.find({"family": "matmul", "name": "b"}) is None  # what failed is tried again
    again.add({"family": "matmul", "name": "d", "right": False, "error": 0.5})  # an answer, and a wrong one
    assert len(begin(resume=True).records) == 3
    other = {"environment": {"device": "a GPU", "bundle": "with a correction"}}
    assert [own["name"] for own in Results(path, "workloads", ("name",), other, resume=True).records] == ["a", "c"]
    assert begin(resume=False).records == begin(resume=True, device="another").records == []


def test_a_peer_that_takes_too_long_is_left() -> None:
    def swallows() -> None:  # as compilers do that try many candidates
        for _ in range(3):
            with contextlib.suppress(Exception):
                time.sleep(5)

    start = time.monotonic()
    with pytest.raises(OutOfTime), time_limit(0.05):
        swallows()
    assert time.monotonic() - start < 5
    attempted = gpu_models.attempt(lambda: pytest.fail("not run"), deadline=start - 1)
    assert attempted == {"skipped": OUT_OF_TIME}


def test_every_family_has_a_peer_and_a_place_in_the_check() -> None:
    peers, makefile = (ROOT / "benchmarks" / "gpu_peers.py").read_text(), (ROOT / "Makefile").read_text()
    for family in {workload.family for workload in EVERY}:
        assert f'"{family}": Peer(' in peers
        assert f'"{family}"' in makefile or f" {family}" in makefile, family


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


def test_plots_show_every_ratio_and_the_goal(tmp_path: Path) -> None:
    peers = {"torch": {"seconds": 3e-6}}
    work = {"family": "gated matmul", "name": "1x2 <3>", "right": True, "ours": {"seconds": 2e-6}, "peers": peers}
    model = {"model": "unet", "sizes": {"batch": 1}, "ours": {"seconds": 4e-6}, "peers": peers, "launches": 3}
    environment = {"device": "a GPU & more"}
    report.plot({"environment": environment, "workloads": [work]}, tmp_path)
    report.plot({"environment": environment, "models": [model]}, tmp_path)
    for file, texts in {"gated-matmul": {"1x2 <3>", "1.50"}, "models": {"unet batch=1", "0.75"}}.items():
        drawing = ElementTree.parse(tmp_path / f"{file}.svg")
        assert texts < {element.text for element in drawing.iter("{http://www.w3.org/2000/svg}text")}
        assert len(list(drawing.iter("{http://www.w3.org/2000/svg}line"))) == 2
    table = list(report.model_table({"models": [model]}))
    assert "| 0.75 |" in table[2] and "goal 1.2" in table[3]

"""The pipeline as a whole: the Python API, dumps that re-enter, overrides, caches, determinism, errors of a
stage.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from tests.command_line import models

import tilewright
from tilewright.compiler import pipeline
from tilewright.compiler.api import compile_fully, compile_with
from tilewright.compiler.backend.kernel import CompiledKernel, KernelJob
from tilewright.compiler.backend.workers import WorkerPool
from tilewright.compiler.command_line import main
from tilewright.compiler.compilation import Compilation, Options, Progress
from tilewright.compiler.dumps import HEADER, without_locations
from tilewright.compiler.pipeline import STAGES, find_pass, run_pipeline, stage_index
from tilewright.compiler.reentry import reenter
from tilewright.compiler.verification import compare_kernels, compare_nodes, expose_temporaries
from tilewright.runtime.device import open_device


@pytest.fixture(scope="module")
def dump(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dump")
    tilewright.compile(models.perceptron(), target="sm_80", dump=folder)
    return folder


def softmax_reference(x: np.ndarray) -> np.ndarray:
    r = np.maximum(x.astype(np.float64) + np.linspace(-1, 1, 10, dtype=np.float32), 0)
    e = np.exp(r - r.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_compile_and_run() -> None:
    engine = tilewright.compile(models.softmax(), target="sm_80")
    with engine.session("emulator") as session:
        for rows in (1, 7, 33):
            x = np.random.default_rng(rows).standard_normal((rows, 10)).astype(np.float32)
            y = session.run({"x": x})["y"]
            assert np.abs(y - softmax_reference(x)).max() < 1e-6  # float32, sums of ten terms
    assert len(engine.program.launches) == 1
    assert engine.program.launches[0].nodes == ("Add_1", "Relu_2", "Softmax_3")


def test_fixed_shapes_are_checked() -> None:
    engine = tilewright.compile(models.softmax(), target="sm_80", shapes={"x": (3, 10)})
    assert not engine.symbols
    with engine.session("emulator") as session, pytest.raises(tilewright.ModelError, match="x"):
        session.run({"x": np.zeros((4, 10), np.float32)})


def test_same_model_same_bytes(tmp_path: Path) -> None:
    """Whatever the order of sets, the number of workers and the folder."""
    code = """
import sys, tilewright
tilewright.compile("model.onnx", target="sm_80", cache=False, jobs=int(sys.argv[1])).save("model.tw")
"""
    made = []
    for jobs in (1, 2):
        folder = tmp_path / f"with {jobs}"
        folder.mkdir()
        onnx.save(models.perceptron(), folder / "model.onnx")
        environment = {**os.environ, "PYTHONHASHSEED": str(jobs)}
        command = [sys.executable, "-c", code, str(jobs)]
        subprocess.run(command, check=True, timeout=120, cwd=folder, env=environment)
        made.append((folder / "model.tw").read_bytes())
    assert made[0] == made[1]


def test_second_compilation_comes_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path / "cache"))
    path, options = tmp_path / "model.onnx", Options(target="sm_80")
    onnx.save(models.softmax(), path)
    first, compilation = compile_with(path, options)
    assert compilation is not None and not list(path.parent.glob("*.partial"))
    second, nothing = compile_with(path, options)
    assert nothing is None
    assert second.manifest == first.manifest
    assert compile_with(path, Options(target="sm_80", precision="tf32"))[1] is not None
    assert compile_with(path, Options(target="sm_80", shapes={"x": (3, 10)}))[1] is not None
    _, other = compile_with(path, Options(target="sm_80", cached=False))
    assert other is not None
    (damaged,) = [
        file for file in (tmp_path / "cache" / "engines").rglob("*.tw") if file.samefile(second.path or "")
    ]
    damaged.write_bytes(damaged.read_bytes()[:-50])
    assert compile_with(path, options)[1] is not None
    damaged.unlink()
    damaged.mkdir()  # which can neither be read nor removed as a file
    assert compile_with(path, options)[1] is not None


def test_a_cached_engine_needs_no_compiler(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(models.softmax(), path)
    code = (
        "import sys, tilewright; tilewright.compile(sys.argv[1], target='sm_80'); "
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'mlir', 'onnx', 'click', 'rich'}))"
    )
    command = [sys.executable, "-c", code, str(path)]
    subprocess.run(command, check=True, timeout=120)
    assert subprocess.run(command, check=True, timeout=120, capture_output=True, text=True).stdout == "[]\n"


def test_changed_external_data_is_another_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "model.onnx"
    onnx.save(models.perceptron(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    options = Options(target="sm_80")
    assert compile_with(path, options)[1] is not None
    assert compile_with(path, options)[1] is None
    data = bytearray((tmp_path / "weights.bin").read_bytes())
    data[0] ^= 1
    (tmp_path / "weights.bin").write_bytes(bytes(data))
    assert compile_with(path, options)[1] is not None


def test_dump_has_every_stage(dump: Path) -> None:
    rows = [line.split("\t") for line in (dump / "index.tsv").read_text().splitlines()]
    assert rows[0] == ["number", "pass", "milliseconds", "operations", "changed"]
    assert [row[1] for row in rows[1:]] == [stage.name for stage in STAGES]
    graphs = [stage for stage in STAGES if stage.level == "graph"]
    for number, stage in enumerate(graphs, start=1):
        text = (dump / f"{number:02d}-graph.{stage.name}.mlir").read_text()
        assert text.startswith(HEADER)
        assert "#loc" not in text
    assert 'loc("Gemm_1")' in (dump / "01-graph.import.mlir").read_text()
    assert list(dump.glob("*-gpu.lower.*.mlir")) and list(dump.glob("*-ptx.emit.*.ptx"))
    assert len(list((dump / "weights").iterdir())) >= 2


def test_every_graph_dump_reenters_and_ends_the_same(dump: Path) -> None:
    end = stage_index("deduplicate-kernels")
    last = STAGES[end]
    want = without_locations((dump / f"{end + 1:02d}-graph.{last.name}.mlir").read_text())
    for number in range(1, end + 1):
        (file,) = dump.glob(f"{number:02d}-graph.*.mlir")
        assert without_locations(reenter(file, str(number + 1), last.name)) == want


def test_a_tile_dump_reenters(dump: Path) -> None:
    number = stage_index("pipeline") + 1
    file = min(dump.glob(f"{number:02d}-tile.pipeline.*.mlir"))
    name = file.name.split(".")[2]
    want = next(dump.glob(f"*-ptx.emit.{name}.ptx")).read_text()
    assert reenter(file, "lower", "emit", target="sm_80") == want
    assert "gpu.module" in reenter(file, "lower", "lower", target="sm_80")


def test_override_replaces_what_a_stage_made(dump: Path, tmp_path: Path) -> None:
    number = stage_index("simplify-planned") + 1
    name = f"{number:02d}-graph.simplify-planned.mlir"
    text = (dump / name).read_text()
    assert "arith.maximumf" in text
    (tmp_path / name).write_text(text.replace("arith.maximumf", "arith.minimumf"))
    engine = tilewright.compile(models.perceptron(), target="sm_80", dump=tmp_path / "d", override=tmp_path)
    x = np.random.default_rng(0).standard_normal((3, 12)).astype(np.float32)
    weights = [
        onnx.numpy_helper.to_array(item).astype(np.float64) for item in models.perceptron().graph.initializer
    ]
    want = np.minimum(x @ weights[0] + weights[1], 0) @ weights[2]
    with engine.session("emulator") as session:
        got = session.run({"x": x})["y"]
    assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()  # float32 sums of 24 products


def test_every_kernel_that_fails_is_named_with_its_nodes(dump: Path, tmp_path: Path) -> None:
    number = stage_index("pipeline") + 1
    edited, broken = tmp_path / "edited", tmp_path / "d"
    edited.mkdir()
    files = sorted(dump.glob(f"{number:02d}-tile.pipeline.*.mlir"))
    for file in files:
        (edited / file.name).write_text("func.func @broken( {")
    with pytest.raises(tilewright.InternalError) as caught:
        tilewright.compile(models.perceptron(), target="sm_80", dump=broken, override=edited)
    message = str(caught.value)
    assert message.startswith(
        "stage 'emit': kernel 'dot_0' for sm_80 does not compile\n  ONNX nodes: 'Gemm_1'"
    )
    assert "the tile program does not parse" in message and "'MatMul_3'" in message
    folders = sorted((broken / "failures").iterdir())
    assert [folder.name.split("-")[0] for folder in folders] == [file.name.split(".")[2] for file in files]
    for folder in folders:
        assert f"repro: tilewright replay {folder}" in message


def test_progress_is_told() -> None:
    events: list[Progress] = []
    tilewright.compile(models.softmax(), target="sm_80", cache=False, progress=events.append)
    assert events[0].stage == "import"
    assert {event.stage for event in events} == {stage.name for stage in STAGES}
    assert max(event.done for event in events) == 1


def test_workers_begin_while_other_kernels_are_tiled(monkeypatch: pytest.MonkeyPatch) -> None:
    stages: list[Progress] = []
    given: list[tuple[str, str]] = []
    submit = WorkerPool.submit

    def watched(pool: WorkerPool, job: KernelJob, folder: Path | None = None) -> Future[CompiledKernel]:
        given.append((stages[-1].stage, job.name))
        return submit(pool, job, folder)

    monkeypatch.setattr(WorkerPool, "submit", watched)
    options = Options("sm_80", cached=False)
    early = compile_fully(models.perceptron(), options, stages.append)
    assert [stage for stage, _ in given] == ["tile"] * len(early.kernels)
    given.clear()
    late = Compilation(options, models.perceptron(), stages.append)
    run_pipeline(late)
    assert [stage for stage, _ in given] == ["lower"] * len(late.kernels)
    assert early.kernels == late.kernels


def test_a_compilation_that_fails_leaves_the_workers_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting: list[Future[CompiledKernel]] = []

    def never(pool: WorkerPool, job: KernelJob, folder: Path | None = None) -> Future[CompiledKernel]:
        waiting.append(Future())
        return waiting[-1]

    def broken(_: Compilation) -> None:
        raise tilewright.UnsupportedError("no host")

    monkeypatch.setattr(WorkerPool, "submit", never)
    table = tuple(pipeline.Stage("plan-host", "host", broken) if item.name == "plan-host" else item for item in STAGES)
    monkeypatch.setattr(pipeline, "STAGES", table)
    with pytest.raises(tilewright.UnsupportedError, match="no host"):
        tilewright.compile(models.perceptron(), target="sm_80", cache=False)
    assert waiting and all(future.cancelled() for future in waiting)


def test_stage_names() -> None:
    assert stage_index("import") == stage_index("1") == stage_index("01") == 0
    with pytest.raises(
        tilewright.ModelError, match=r"there is no stage 'fuze'\n  stages: import, multiply-integers,"
    ):
        stage_index("fuze")
    with pytest.raises(tilewright.ModelError, match="comes after"):
        run_pipeline(Compilation(Options()), "fuse", "import")
    with pytest.raises(tilewright.InternalError, match="there is no pass 'nothing'"):
        find_pass("nothing")


def test_every_stage_without_a_function_is_a_registered_pass() -> None:
    for stage in STAGES:
        if stage.run is None:
            assert find_pass(stage.transform or stage.name).summary


def test_a_pass_is_whole_whoever_loads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its decorator registers it in the middle of its file: another thread must not run it before the end is there."""
    (tmp_path / "slow_pass.py").write_text(
        "import time\nfrom tilewright.compiler.pipeline import PASSES\n"
        "PASSES['slow'] = 'a pass'\ntime.sleep(0.3)\nhelper = 1\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(pipeline, "_modules", lambda: {"slow": "slow_pass"})
    monkeypatch.delitem(sys.modules, "slow_pass", raising=False)
    monkeypatch.setattr(pipeline, "PASSES", {})
    other = threading.Thread(target=pipeline.find_pass, args=("slow",))
    other.start()
    while "slow" not in pipeline.PASSES:
        time.sleep(0.01)
    assert pipeline.find_pass("slow") == "a pass" and sys.modules["slow_pass"].helper == 1
    other.join()


def test_a_failing_pass_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Compilation) -> None:
        raise ValueError("seven is not eight")

    table = tuple(pipeline.Stage("fuse", "graph", broken) if item.name == "fuse" else item for item in STAGES)
    monkeypatch.setattr(pipeline, "STAGES", table)
    with pytest.raises(
        tilewright.InternalError,
        match=r"stage 'fuse' failed: ValueError: seven is not eight\n  at .*test_pipeline.py",
    ):
        tilewright.compile(models.softmax(), cache=False)


def test_a_failing_compilation_can_be_replayed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(_: Compilation) -> None:
        raise ValueError("seven is not eight")

    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path))
    table = tuple(pipeline.Stage("fuse", "graph", broken) if item.name == "fuse" else item for item in STAGES)
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "STAGES", table)
        with pytest.raises(tilewright.InternalError) as caught:
            tilewright.compile(models.softmax(), cache=False, shapes={"x": (3, 10)})
    (folder,) = (tmp_path / "failures").iterdir()
    assert str(caught.value).endswith(f"\n  repro: tilewright replay {folder}")
    assert "graph.reduce" in (folder / "module.mlir").read_text()
    assert "seven is not eight" in (folder / "message.txt").read_text()
    result = CliRunner().invoke(main, ["replay", str(folder)])
    assert result.output == f"{folder}/model.onnx compiles for sm_90a: 1 kernels\n"


@pytest.mark.parametrize("index", [0, 1, -1])
def test_what_a_slice_drops_is_not_stored(index: int) -> None:
    """A slice after a contraction was once fused into it, and the rows it drops overwrote those it keeps."""
    weight = np.random.default_rng(0).standard_normal((4, 3, 3)).astype(np.float32)
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w"], ["c"], name="Conv_1", pads=[1, 1]),
        onnx.helper.make_node("Gather", ["c", "i"], ["y"], name="Gather_2", axis=2),
    ]
    model = models.make(nodes, {"x": [1, 3, 5]}, {"y": [1, 4]}, {"w": weight, "i": np.array(index, np.int64)})
    x = np.random.default_rng(1).standard_normal((1, 3, 5)).astype(np.float32)
    padded = np.pad(x[0].astype(np.float64), ((0, 0), (1, 1)))
    want = np.stack([(weight * padded[:, at : at + 3]).sum((1, 2)) for at in range(5)])[index]
    with tilewright.compile(model, target="sm_80").session("emulator") as session:
        got = session.run({"x": x})["y"]
    assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()  # float32 sums of nine products


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "sm_12"}, "unknown target 'sm_12'\n  known: sm_80, sm_86"),
        ({"precision": "exact"}, "unknown precision 'exact'\n  known: model, strict, tf32, f16, bf16"),
        ({"shapes": {"x": (-1, 10)}}, "shape of 'x': -1 is no size"),
        ({"shapes": {"x": (1.5, 10)}}, "shape of 'x': 1.5 is no size\n  supported: integers, names"),
        ({"shapes": {"x": (True, 10)}}, "shape of 'x': True is no size"),
        ({"shapes": {"x": (2**40, 10)}}, "a tensor of shape [1099511627776, 10]\n  supported: dimensions of 0 to"),
        ({"hints": {"n": 1.5}}, "hint n=1.5: a typical size is at least 1, an integer"),
        ({"shapes": {"x": "2x10"}}, "shape of 'x': '2x10' is none\n  supported: a sequence of integers and names"),
        ({"shapes": {"x": 2}}, "shape of 'x': 2 is none"),
        ({"shapes": [(2, 10)]}, "shapes are given as a list\n  supported: a mapping from names"),
        ({"hints": ["n"]}, "hints are given as a list\n  supported: a mapping from names"),
        ({"override": "none"}, "there is no folder none with edited dumps"),
        ({"operators": "none.py"}, "there is no file of operators none.py"),
        ({"jobs": 0}, "0 worker processes\n  supported: an integer, at least 1"),
        ({"source": None}, "a NoneType is no model\n  supported: a path, bytes, an onnx.ModelProto"),
        ({"source": models.softmax().graph}, "a GraphProto is no model"),
    ],
)
def test_wrong_options(options: dict, message: str) -> None:
    with pytest.raises(tilewright.ModelError) as caught:
        tilewright.compile(**{"source": models.softmax(), **options})
    assert str(caught.value).startswith(message)


def test_sizes_may_be_integers_of_numpy() -> None:
    engine = tilewright.compile(models.softmax(), target="sm_80", shapes={"x": tuple(np.array([3, 10]))})
    assert not engine.symbols
    hints = {"n": np.int64(7)}
    assert tilewright.compile(models.softmax(), target="sm_80", hints=hints).symbols


def test_all_unsupported_nodes_at_once() -> None:
    with pytest.raises(tilewright.UnsupportedError) as caught:
        tilewright.compile(models.unsupported())
    assert "'find_1'" in str(caught.value) and "'rank_3'" in str(caught.value)


def test_layers_are_compared_with_numpy(tmp_path: Path) -> None:
    from tilewright.compiler.api import compile_fully

    path, options = tmp_path / "model.onnx", Options(target="sm_80")
    onnx.save(models.perceptron(), path)
    x = np.random.default_rng(1).standard_normal((4, 12)).astype(np.float32)
    compilation = compile_fully(path, options)
    kernels = compare_kernels(compilation, open_device("emulator"), {"x": x})
    assert kernels and all(item.holds(1e-5) for item in kernels)  # float32 sums of 24 products
    assert compilation.engine is not None
    exposed = expose_temporaries(compilation.engine)
    assert len(exposed.outputs) == 1 + sum(
        buffer.kind == "temporary" for buffer in compilation.engine.buffers
    )
    wrong = {"h": np.zeros((4, 24), np.float32)}
    nodes = compare_nodes(path, options, {"x": x}, wrong, {"Gemm_1": ("h",)})
    assert [item.holds(1e-5) for item in nodes] == [False]


def test_onnx_backend() -> None:
    x = np.random.default_rng(0).standard_normal((3, 10)).astype(np.float32)
    backend = tilewright.onnx_backend
    assert backend.supports_device("CPU") and not backend.supports_device("TPU:0")
    (y,) = backend.run_model(models.softmax(), [x], target="sm_80")
    assert np.abs(y - softmax_reference(x)).max() < 1e-6  # float32, sums of ten terms
    node = onnx.helper.make_node("Mul", ["a", "b"], ["c"])
    (c,) = backend.run_node(node, [x, x], opset_version=17, target="sm_80")
    assert np.array_equal(c, x * x)
    assert backend.is_compatible(models.softmax(), target="sm_80")
    assert not backend.is_compatible(models.unsupported())

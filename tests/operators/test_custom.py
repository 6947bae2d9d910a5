"""Operators that users bring along: what they compute, where they show, and what is said when they are wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

import tilewright
from tilewright import ModelError, UnsupportedError, custom
from tilewright.compiler.command_line import main
from tilewright.compiler.frontend import import_model
from tilewright.passes.graph.interpret import interpret
from tilewright.runtime.sanitizing import sanitize

DOMAIN = "com.example.tests"
KERNEL = """
.version 8.0
.target sm_80
.address_size 64
// y[i] = x[i] * i, a block of 8 x 4 threads a row of 32
.visible .entry ramp(.param .u64 x, .param .u64 y, .param .u32 rows)
{
  .reg .b32 %r<6>;
  .reg .b64 %d<5>;
  .reg .f32 %f<4>;
  ld.param.u64 %d1, [x];
  ld.param.u64 %d2, [y];
  mov.u32 %r1, %tid.y;
  mov.u32 %r2, %tid.x;
  mad.lo.s32 %r3, %r1, 8, %r2;
  mov.u32 %r4, %ctaid.x;
  mad.lo.s32 %r5, %r4, 32, %r3;
  mul.wide.u32 %d3, %r5, 4;
  add.s64 %d1, %d1, %d3;
  add.s64 %d2, %d2, %d3;
  ld.global.f32 %f1, [%d1];
  cvt.rn.f32.u32 %f2, %r3;
  mul.f32 %f3, %f1, %f2;
  st.global.f32 [%d2], %f3;
  ret;
}
"""
RAMP = np.arange(32, dtype=np.float32)
X = np.random.default_rng(3).standard_normal((3, 32)).astype(np.float32)


def model(body: str, given: str = "float[n,32] x", wanted: str = "float[n,32] y") -> onnx.ModelProto:
    """A model with the nodes of `body`, in which `my.` stands for the domain."""
    text = body.replace("my.", f"{DOMAIN}.")
    head = f'<ir_version: 9, opset_import: ["" : 20, "{DOMAIN}" : 1]>'
    return onnx.parser.parse_model(f"{head} g ({given}) => ({wanted}) {{ {text} }}")


def run(source: onnx.ModelProto, **inputs: Any) -> dict[str, Any]:
    """On the emulator, with every buffer an allocation of its own."""
    with tilewright.compile(source).session("emulator", checked=True) as session:
        return session.run(inputs or {"x": X})


def ramp(node: custom.Node) -> list[custom.Tensor]:
    """x times the column's number."""
    x = node.input(0)
    return custom.Kernel(KERNEL, (8, 4)).launch(node, [x], [custom.Result("f32", x.shape)], [x.shape[0]], [x.shape[0]])


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    custom.operator("Ramp", domain=DOMAIN)(ramp)
    yield
    for name in ("Ramp", "Other"):
        custom.unregister(name, domain=DOMAIN)


def other(function: Any) -> onnx.ModelProto:
    """A model of one operator `Other` that this function compiles."""
    custom.operator("Other", domain=DOMAIN)(function)
    return model("y = my.Other(x)")


def test_a_kernel_between_others() -> None:
    results = run(model("a = Relu(x) b = my.Ramp(a) y = Neg(b)"))
    np.testing.assert_array_equal(results["y"], -(np.maximum(X, 0) * RAMP))


def test_no_rows_launch_nothing() -> None:
    assert run(model("y = my.Ramp(x)"), x=X[:0])["y"].shape == (0, 32)


def test_equal_kernels_are_one() -> None:
    engine = tilewright.compile(model("a = my.Ramp(x) y = my.Ramp(a)"))
    assert [kernel.kind for kernel in engine.kernels.values()] == ["custom"]
    assert [launch.nodes for launch in engine.program.launches] == [("a",), ("y",)]
    assert engine.kernels["custom_0_ramp"].block == (8, 4, 1)
    assert ".entry custom_0_ramp(" in engine.ptx("custom_0_ramp")


@pytest.mark.parametrize("precision", ["strict", "f16"])
def test_layouts_and_narrow_storage_leave_it_alone(precision: str) -> None:
    source = model("a = my.Ramp(x) b = MatMul(a, w) c = my.Ramp(b) y = Relu(c)", "float[n,32] x, float[32,32] w")
    weight = np.eye(32, dtype=np.float32) * 2  # exact in half precision
    x = X.round(1).astype(np.float16).astype(np.float32)
    with tilewright.compile(source, precision=precision).session("emulator", checked=True) as session:
        got = session.run({"x": x, "w": weight})["y"]
    want = np.maximum(x * RAMP * 2 * RAMP, 0)
    # Half precision rounds what it multiplies, x * RAMP, to 11 bits.
    np.testing.assert_allclose(got, want, rtol=0 if precision == "strict" else 2**-11)


def test_in_a_branch() -> None:
    branch = "y = If (c) <then_branch = g1 () => (float[n,32] a) { a = my.Ramp(x) }, "
    branch += "else_branch = g2 () => (float[n,32] b) { b = Neg(x) }>"
    source = model(branch, "float[n,32] x, bool c")
    np.testing.assert_array_equal(run(source, x=X, c=np.array(True))["y"], X * RAMP)
    np.testing.assert_array_equal(run(source, x=X, c=np.array(False))["y"], -X)


def test_the_interpreter_runs_the_kernel() -> None:
    results = interpret(import_model(model("a = Relu(x) y = my.Ramp(a)")), {"x": X})
    np.testing.assert_array_equal(results["y"], np.maximum(X, 0) * RAMP)


def test_results_that_start_as_a_copy() -> None:
    """The kernel changes the first row only: what it does not write is what the result began with."""

    def first_row(node: custom.Node) -> list[custom.Tensor]:
        x = node.input(0)
        result = custom.Result("f32", x.shape, initial=x)
        return custom.Kernel(KERNEL, (8, 4)).launch(node, [x], [result], [1], [1])

    want = X.copy()
    want[0] *= RAMP
    np.testing.assert_array_equal(run(other(first_row))["y"], want)


def test_decomposition_into_onnx_and_scalars() -> None:
    def body(node: custom.Node) -> list[custom.Tensor]:
        doubled = node.map([node.input(0)], lambda x: (x * 2).tanh())
        total = node.apply("ReduceSum", [doubled, np.array([1])], keepdims=1)
        return node.apply("Div", [doubled, node.apply("Add", [*total, 100.0])[0]])

    doubled = np.tanh(2 * X.astype(np.float64))
    want = doubled / (doubled.sum(1, keepdims=True) + 100)
    # tanh and a sum of 32 numbers below 1 in float32, divided by about 100.
    np.testing.assert_allclose(run(other(body))["y"], want, atol=1e-7)


def test_the_sanitizer_sees_it() -> None:
    engine = tilewright.compile(model("y = my.Ramp(x)"))
    assert not sanitize(engine, [{"x": X}])[1].findings

    def unwritten(node: custom.Node) -> list[custom.Tensor]:
        x = node.input(0)
        return custom.Kernel(KERNEL, (8, 4)).launch(node, [x], [custom.Result("f32", x.shape)], [1], [1])

    findings = sanitize(tilewright.compile(other(unwritten)), [{"x": X}])[1].findings
    assert "buffer y" in str(findings[0]) and "never written" in str(findings[0])


def test_file_of_operators(tmp_path: Path) -> None:
    file, path = tmp_path / "mine.py", tmp_path / "model.onnx"
    file.write_text(
        "from tilewright import custom\n"
        f"@custom.operator('Other', domain='{DOMAIN}')\n"
        "def twice(node):\n    return node.map([node.input(0)], lambda x: x + x)\n"
    )
    onnx.save(model("y = my.Other(x)"), path)
    result = CliRunner().invoke(main, ["compile", str(path), "--operators", str(file), "-o", str(tmp_path / "m.tw")])
    assert result.exit_code == 0, result.output
    assert len(tilewright.load(tmp_path / "m.tw").kernels) == 1
    tilewright.compile(path, operators=[file])  # the same file may register again


def failing(text: str, folder: Path) -> str:
    """The message when the operators in a file with this text are loaded."""
    file = folder / "mine.py"
    file.write_text(text)
    with pytest.raises(ModelError) as caught:
        custom.load_operators(file)
    return str(caught.value)


def test_files_that_are_wrong(tmp_path: Path) -> None:
    assert "registers no operator" in failing("x = 1\n", tmp_path)
    message = failing("\nx = 1 / 0\n", tmp_path)
    assert "ZeroDivisionError" in message and "mine.py:2" in message
    with pytest.raises(ModelError, match="there is no file"):
        custom.load_operators(tmp_path / "none.py")
    twice = f"from tilewright import custom\n@custom.operator('Ramp', domain='{DOMAIN}')\ndef ramp(node): pass\n"
    assert "registered twice" in failing(twice, tmp_path)
    with pytest.raises(ModelError, match="ONNX's own"):
        custom.operator("Relu", domain="")


def test_operators_that_are_not_registered() -> None:
    with pytest.raises(UnsupportedError, match=f"registered in '{DOMAIN}': Ramp"):
        tilewright.compile(model("y = my.Slope(x)"))
    elsewhere = model("y = my.Ramp(x)")
    elsewhere.graph.node[0].domain = elsewhere.opset_import[1].domain = "org.example"
    with pytest.raises(UnsupportedError, match=f"Ramp is registered in domain '{DOMAIN}'"):
        tilewright.compile(elsewhere)


def launching(kernel: str = KERNEL, block: Any = (8, 4), sizes: int = 1, results: int = 1, dtype: str = "f32") -> Any:
    """An operator function that launches a kernel, rightly unless told otherwise."""

    def function(node: custom.Node) -> list[custom.Tensor]:
        x = node.input(0)
        made = [custom.Result(dtype, x.shape)] * results
        return custom.Kernel(kernel, block).launch(node, [x], made, [x.shape[0]], [1] * sizes)

    return function


def raising(_: custom.Node) -> None:
    raise KeyError("a mistake")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (launching(results=0, sizes=2), "lacks results: dtype and shape"),
        (launching(sizes=2), r"3 parameters \(.u64, .u64, .u32\); its launch gives 4 arguments"),
        (launching(sizes=0, results=2), "is .u32, its argument 'output 1'"),
        (launching(block=(64, 32)), "a block of"),
        (launching(KERNEL.replace("sm_80", "sm_100")), r"PTX for sm_100 and the model is compiled for sm_90a"),
        (launching(KERNEL.replace("sm_80", "sm_80a")), r"PTX for sm_80a"),
        (launching(KERNEL + KERNEL), "has one entry; this has 2: ramp, ramp"),
        (launching("nothing"), "this has 0: none"),
        (launching(KERNEL.replace("mul.f32", "mul.f31")), r"(?s)ONNX nodes: 'y'.*ptxas rejects.*mul.f31"),
        (launching(dtype="float"), "writes 'float'"),
        (lambda node: None, "returns NoneType as output 0"),
        (lambda node: [], "returns 0 outputs, the node has 1"),
        (raising, r"(?s)failed: KeyError: 'a mistake'.*test_custom.py:\d+"),
    ],
)
def test_operators_that_are_wrong(function: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        tilewright.compile(other(function))


# CUDA C++ -------------------------------------------------------------------------------------------------
def stand_in(folder: Path, script: str) -> None:
    """An nvcc that does what `script` says: nothing here needs the real one."""
    path = folder / "nvcc"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_kernels_in_cuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "ramp.ptx").write_text(KERNEL)
    to_its_place = f'while [ "$1" != -o ]; do shift; done; cp {tmp_path}/ramp.ptx "$2"'
    stand_in(tmp_path, f'echo "$*" > {tmp_path}/words; {to_its_place}')
    kernel = custom.Kernel.from_cuda("__global__ void ramp() {}", (8, 4), architecture="sm_90a", options=["-O1"])
    assert kernel.name == "ramp" and kernel.ptx == KERNEL
    assert (tmp_path / "words").read_text().startswith("-ptx -arch=sm_90a -O1 -o ")


def test_cuda_that_does_not_compile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(ModelError, match=r"needs nvcc, which is not on PATH\n  supported everywhere: kernels in PTX"):
        custom.compile_cuda("")
    stand_in(tmp_path, "echo 'kernel.cu(1): error: what' >&2; exit 2")
    with pytest.raises(ModelError, match=r"nvcc rejects the kernel:\nkernel.cu\(1\): error: what"):
        custom.compile_cuda("what")
    stand_in(tmp_path, "exit 0")
    with pytest.raises(ModelError, match=r"nvcc wrote no PTX"):
        custom.compile_cuda("", options=["--dryrun"])

"""Kernels that differ in sizes only are one: the answers of onnxruntime, how many kernels there are, and what stays apart."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, parser

import tilewright
from tilewright.compiler.api import compile_fully
from tilewright.compiler.compilation import Options
from tilewright.passes.tile.share_programs import share
from tilewright.passes.unit import KernelProgram
from tilewright.runtime.sanitizing import sanitize
from tilewright.runtime.symbolic import ONE
from tilewright.runtime.tuning import Tuning

LAYERS = 4
GROWTH = 16


def dense_block() -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A dense block: each layer reads what all those in front of it made, and adds channels of its own."""
    random = np.random.default_rng(3)
    lines, arrays = [], {}
    for number in range(LAYERS):
        channels = 32 + GROWTH * number
        lines.append(f"p{number} = Conv(x{number}, w{number}) r{number} = Relu(p{number})")
        lines.append(f"y{number} = Conv <pads = [1, 1, 1, 1]> (r{number}, v{number})")
        lines.append(f"x{number + 1} = Concat <axis = 1> (x{number}, y{number})")
        arrays[f"w{number}"] = random.standard_normal((32, channels, 1, 1)).astype(np.float32) / 8
        arrays[f"v{number}"] = random.standard_normal((GROWTH, 32, 3, 3)).astype(np.float32) / 16
    signature = f"(float[1, 32, 6, 6] x0) => (float[1, {32 + GROWTH * LAYERS}, 6, 6] x{LAYERS})"
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> g {signature} {{ {" ".join(lines)} }}')
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    return model, {"x0": random.standard_normal((1, 32, 6, 6)).astype(np.float32)}


# Sums of 288 products of numbers near one in another order: some 1e-6 in f32, and 2^-11 for each rounding in f16.
@pytest.mark.parametrize(("precision", "target", "tolerance"), [("strict", "sm_80", 2e-5), ("f16", "sm_90a", 2e-2)])
def test_layers_of_a_dense_block_share_kernels(precision: str, target: str, tolerance: float) -> None:
    model, inputs = dense_block()
    engine = tilewright.compile(model, target=target, precision=precision)
    launches = [launch.kernel for launch in engine.program.launches if launch.kernel.startswith("dot")]
    assert len(launches) == 2 * LAYERS
    # Convolutions over windows are one kernel but for the last, whose result leaves the model: they differ in where it
    # lies, or in nothing where it is stored in boxes. The others have rows of other lengths.
    assert len(set(launches)) <= LAYERS + 2
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (want,) = session.run(None, inputs)
    outputs, report = sanitize(engine, [inputs])
    assert not report.findings
    np.testing.assert_allclose(outputs[0][f"x{LAYERS}"], want, rtol=0, atol=tolerance * np.abs(want).max())


def test_kernels_that_are_timed_stay_apart() -> None:
    """The tuner tells kernels by their names, and problems by kernels."""
    model, _ = dense_block()
    tuning = Tuning("sm_80", apart=True)
    engine = compile_fully(model, Options(target="sm_80", tuning=tuning)).engine
    assert engine is not None
    launches = [launch.kernel for launch in engine.program.launches]
    assert len(set(launches)) == len(launches)
    assert tuning.key() != Tuning("sm_80").key()


def program(name: str, body: str) -> KernelProgram:
    text = f"module {{\n  func.func @{name}(%arg0: memref<?xf32>) {{\n{body}    return\n  }}\n}}\n"
    return KernelProgram(name, text, "loop", (ONE, ONE, ONE), 32, [("output", 0)])


def stored(operation: str, value: int) -> str:
    return f"""    %0 = "tile.program_id"() {{axis = 0 : i64}} : () -> index
    %c{value} = arith.constant {value} : index
    %1 = {operation} %0, %c{value} : index
    %c7 = arith.constant 7 : index
    %2 = arith.addi %1, %c7 : index
"""


def test_an_offset_becomes_an_argument() -> None:
    """A constant that happens to equal another in one of the programs does not keep them apart."""
    first, second, third = share([program(f"k{own}", stored("arith.addi", own)) for own in (5, 7, 9)])
    assert first.name == second.name == third.name == "k5"
    assert first.text == second.text == third.text
    assert "func.func @k5(%arg0: memref<?xf32>, %size0: index) {" in first.text
    assert "%1 = arith.addi %0, %size0 : index" in first.text
    assert "arith.constant 5" not in first.text and "arith.constant 7" in first.text
    assert [own.arguments[1:] for own in (first, second, third)] == [[("symbol", str(own))] for own in (5, 7, 9)]


def test_equal_programs_take_no_argument_more() -> None:
    first, second = share([program(f"k{own}", stored("arith.addi", 5)) for own in (0, 1)])
    assert second.text == first.text == program("k0", stored("arith.addi", 5)).text
    assert second.arguments == [("output", 0)]


@pytest.mark.parametrize("operation", ["arith.divui", "arith.remui"])
def test_divisors_stay_constants(operation: str) -> None:
    programs = [program(f"k{own}", stored(operation, own)) for own in (5, 9)]
    assert share(programs) == programs


def loop(high: int, factor: int) -> str:
    return f"""    %c0 = arith.constant 0 : index
    %c{high} = arith.constant {high} : index
    %c64 = arith.constant 64 : index
    scf.for %arg1 = %c0 to %c{high} step %c64 {{
      %c{factor}_0 = arith.constant {factor} : index
      %0 = arith.muli %arg1, %c{factor}_0 : index
    }}
"""


def test_bounds_of_long_loops_become_arguments() -> None:
    names = [own.name for own in share([program(f"k{own}", loop(own, 3)) for own in (128, 192, 256, 320)])]
    assert names == ["k128", "k192", "k256", "k256"]


def test_factors_inside_loops_stay_constants() -> None:
    assert [own.name for own in share([program(f"k{own}", loop(512, own)) for own in (3, 5)])] == ["k3", "k5"]

"""Few rows times weights of four bits: words of eight weights, against numpy in float64 and by what ptxas makes of them.

Weights are inputs of the models, so that nothing can be computed beforehand; every run is watched by the sanitizer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

import tilewright
from tilewright.compiler.backend.assemble import assemble, disassemble
from tilewright.passes.target import find_target
from tilewright.runtime.emulator.device import EmulatorDevice
from tilewright.runtime.emulator.observer import Order
from tilewright.runtime.emulator.sanitizer import Sanitizer
from tilewright.runtime.engine import Engine
from tilewright.runtime.session import Session

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Case:
    """A MatMulNBits of four bits: `zeros` is "" (8), packed or float; the result is passed on through `behind`."""

    rows: int = 1
    columns: int = 256
    depth: int = 512
    block: int = 32
    zeros: str = ""
    dtype: str = "float16"
    bias: bool = False
    behind: str = ""
    groups: bool = False

    @property
    def blocks(self) -> int:
        return -(-self.depth // self.block)


def arrays_of(case: Case) -> dict[str, Array]:
    generator = np.random.default_rng(case.columns)
    arrays = {
        "x": generator.standard_normal((case.rows, case.depth)).astype(case.dtype),
        "b": generator.integers(0, 256, (case.columns, case.blocks, case.block // 2)).astype(np.uint8),
        "scales": generator.uniform(0.01, 0.1, case.columns * case.blocks).astype(case.dtype),
    }
    if case.zeros == "packed":
        arrays["zeros"] = generator.integers(0, 256, case.columns * -(-case.blocks // 2)).astype(np.uint8)
    elif case.zeros == "float":
        arrays["zeros"] = generator.uniform(4, 12, case.columns * case.blocks).astype(case.dtype)
    if case.groups:
        arrays["groups"] = generator.integers(0, case.blocks, case.depth).astype(np.int32)
    if case.bias:
        arrays["bias"] = generator.standard_normal(case.columns).astype(case.dtype)
    return arrays


def model_of(case: Case, arrays: dict[str, Array]) -> onnx.ModelProto:
    names = ["x", "b", "scales", "zeros", "groups", "bias"]
    inputs = [name if name in arrays else "" for name in names]
    sizes = {"K": case.depth, "N": case.columns, "bits": 4, "block_size": case.block}
    nodes = [helper.make_node("MatMulNBits", inputs, ["p"], domain="com.microsoft", **sizes)]
    nodes.append(helper.make_node(case.behind or "Identity", ["p"], ["y"]))
    given_ = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in arrays.items()
    ]
    wanted = [helper.make_tensor_value_info("y", helper.np_dtype_to_tensor_dtype(np.dtype(case.dtype)), None)]
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(helper.make_graph(nodes, "nbits", given_, wanted), ir_version=9, opset_imports=opsets)


def expected(case: Case, arrays: dict[str, Array]) -> Array:
    """By definition, in float64."""
    fields = (arrays["b"].reshape(case.columns, -1, 1) >> np.array([0, 4])) & 15
    place = arrays["groups"] if case.groups else np.arange(case.depth) // case.block
    zeros: Any = 8.0
    if case.zeros == "packed":
        packed = arrays["zeros"].reshape(case.columns, -1, 1)
        zeros = ((packed >> np.array([0, 4])) & 15).reshape(case.columns, -1)[:, place]
    elif case.zeros == "float":
        zeros = arrays["zeros"].astype(np.float64).reshape(case.columns, -1)[:, place]
    scales = arrays["scales"].astype(np.float64).reshape(case.columns, -1)[:, place]
    weights = (fields.reshape(case.columns, -1)[:, : case.depth] - zeros) * scales
    result = arrays["x"].astype(np.float64) @ weights.T
    if case.bias:
        result = result + arrays["bias"].astype(np.float64)
    return np.maximum(result, 0) if case.behind == "Relu" else result


def verify(case: Case, target: str = "sm_90a", precision: str = "model") -> Engine:
    """Compile, run under the sanitizer, compare; returns the engine."""
    arrays = arrays_of(case)
    engine = tilewright.compile(model_of(case, arrays), target=target, precision=precision)
    sanitizer = Sanitizer(Order("random", 3))
    with Session(engine, EmulatorDevice(instrument=sanitizer), checked=True) as session:
        got = session.run(arrays)["y"].astype(np.float64)
    assert not sanitizer.findings
    want = expected(case, arrays)
    # Weights are exact and sums f32: a few hundred roundings of 2^-24, which mostly cancel. In f16 the result is rounded
    # to 11 bits, with a bias twice, or x is where that is the precision, and for tensor cores each weight.
    tolerance = 3e-6 if case.dtype == "float32" and precision == "model" else 2**-10 if case.rows <= 4 else 2**-9
    np.testing.assert_allclose(got, want, rtol=0, atol=np.abs(want).max() * tolerance)
    return engine


def is_packed(engine: Engine) -> bool:
    """One kernel, which chooses bytes of words and uses no tensor cores."""
    texts = [engine.ptx(name) for name in engine.kernels]
    return len(texts) == 1 and "prmt" in texts[0] and "mma" not in texts[0]


CASES = {
    "one row": Case(),
    "zero points": Case(zeros="packed"),
    "zero points that are no integers": Case(zeros="float"),
    "odd columns, blocks of 16": Case(rows=3, columns=253, depth=272, block=16),
    "k ends within a block and a word": Case(rows=2, columns=260, depth=300, zeros="packed"),
    "k ends within an access": Case(rows=4, columns=256, depth=264, block=16),
    "f32, eight rows, blocks of 128": Case(rows=8, columns=264, depth=384, block=128, dtype="float32", zeros="packed"),
    "blocks of 256, bias and Relu": Case(rows=2, depth=512, block=256, bias=True, behind="Relu"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_against_float64(case: Case) -> None:
    assert is_packed(verify(case))


@pytest.mark.parametrize("rows", [1, 4])
def test_a_model_in_f32_at_another_precision(rows: int) -> None:
    """Its weights are cast behind what unpacks them."""
    assert is_packed(verify(Case(rows=rows, dtype="float32", zeros="packed"), precision="f16"))


@settings(max_examples=4, deadline=None, derandomize=True)
@given(
    rows=st.integers(1, 4), columns=st.sampled_from([256, 301, 320]), depth=st.sampled_from([256, 264, 270, 320, 352]),
    block=st.sampled_from([16, 32, 64, 128]), zeros=st.sampled_from(["", "packed", "float"]),
    dtype=st.sampled_from(["float16", "float32"]), bias=st.booleans(), target=st.sampled_from(["sm_80", "sm_90a"]),
)  # fmt: skip
def test_shapes_blocks_and_zero_points(target: str, **parts: Any) -> None:
    assert is_packed(verify(Case(**parts), target))


@pytest.mark.parametrize(("kind", "bits"), [("int4", 16), ("uint4", 32), ("uint4", 16)])
def test_dequantised_weights(kind: str, bits: int) -> None:
    """DequantizeLinear of weights [k, columns] with blocks along k: the engine has them turned, two along k a byte."""
    depth, columns, block = 288, 260, 32
    generator = np.random.default_rng(bits)
    low = -8 if kind == "int4" else 0
    q = generator.integers(low, low + 16, (depth, columns))
    zeros = generator.integers(low, low + 16, (depth // block, columns))
    scales = generator.uniform(0.01, 0.1, zeros.shape).astype(f"float{bits}")
    x = generator.standard_normal((2, depth)).astype(scales.dtype)
    element = helper.np_dtype_to_tensor_dtype(scales.dtype)
    small = getattr(onnx.TensorProto, kind.upper())
    constants = [helper.make_tensor(name, small, own.shape, own.ravel()) for name, own in (("q", q), ("z", zeros))]
    constants.append(onnx.numpy_helper.from_array(scales, "s"))
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], axis=0, block_size=block),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    tensors = [helper.make_tensor_value_info(*own) for own in (("x", element, (2, depth)), ("y", element, (2, columns)))]
    graph = helper.make_graph(nodes, "dequantised", tensors[:1], tensors[1:], constants)
    engine = tilewright.compile(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]), target="sm_90a")
    sanitizer = Sanitizer(Order("random", 3))
    with Session(engine, EmulatorDevice(instrument=sanitizer), checked=True) as session:
        got = session.run({"x": x})["y"].astype(np.float64)
    assert is_packed(engine) and not sanitizer.findings
    spread = [np.repeat(part.astype(np.float64), block, 0) for part in (zeros, scales)]
    want = x.astype(np.float64) @ ((q - spread[0]) * spread[1])
    tolerance = 3e-6 if bits == 32 else 2**-10  # as above
    np.testing.assert_allclose(got, want, rtol=0, atol=np.abs(want).max() * tolerance)


@pytest.mark.parametrize("case", [Case(rows=5), Case(groups=True, dtype="float32"), Case(rows=5, groups=True), Case(columns=64, depth=64)])
def test_what_has_another_program(case: Case) -> None:
    """Rows for tensor cores, a scale for each k by an index, and weights too few."""
    assert not is_packed(verify(case))


MORE_ROWS = [
    ("sm_80", Case(rows=20, columns=253, depth=328, block=16, zeros="packed")), ("sm_90a", Case(rows=5)),
]  # fmt: skip


@pytest.mark.parametrize(("target", "case"), MORE_ROWS)
def test_more_rows_read_words_on_the_way_to_tensor_cores(target: str, case: Case) -> None:
    engine = verify(case, target)
    assembly = assemble(engine.ptx("dot_0"), find_target(target), keep_cubin=True)
    text = disassemble(assembly.cubin)
    assert "HMMA" in text and (case.zeros or "LDG.E.U8" not in text)  # bytes are zero points then


def test_rows_known_at_run_time_have_a_kernel_for_few() -> None:
    """Exported with a dynamic batch: two kernels, of whose grids one is empty."""
    case = Case(rows=5, zeros="packed")
    arrays = arrays_of(case)
    model = model_of(case, arrays)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    engine = tilewright.compile(model, target="sm_90a", hints={"batch": 2})
    assert "prmt" in engine.ptx("dot_0_few") and "mma" in engine.ptx("dot_0")
    want = expected(case, arrays)
    with Session(engine, EmulatorDevice(), checked=True) as session:
        for rows in (1, 2, 5):
            got = session.run({**arrays, "x": arrays["x"][:rows]})["y"].astype(np.float64)
            # As above: tensor cores multiply weights that were rounded to 11 bits.
            np.testing.assert_allclose(got, want[:rows], rtol=0, atol=np.abs(want).max() * 2**-9)


def test_strict_rounds_every_weight() -> None:
    """As the model does in f16; in f32 there is nothing to round."""
    assert not is_packed(verify(Case(), precision="strict"))
    assert is_packed(verify(replace(Case(), dtype="float32"), precision="strict"))


@pytest.mark.parametrize(("target", "rows"), [("sm_80", 1), ("sm_90a", 4)])
def test_what_ptxas_makes_of_it(target: str, rows: int) -> None:
    """4096 x 4096: 16 bytes an access but for the scales, the first products behind four of them at least, no spills, no move
    of a constant for each weight, no conversion of integers.
    """
    case = Case(rows=rows, columns=4096, depth=4096)
    engine = tilewright.compile(model_of(case, arrays_of(case)), target=target)
    (name,) = engine.kernels
    assembly = assemble(engine.ptx(name), find_target(target), keep_cubin=True)
    assert (assembly.spills, assembly.warnings) == (0, ())
    text = disassemble(assembly.cubin)
    words = text.split()
    loads = [word.removesuffix(".CONSTANT") for word in words if word.startswith("LDG")]
    assert set(loads) == {"LDG.E.128", "LDG.E.U16"}
    assert 2 * loads.count("LDG.E.128") > len(loads)
    before = text[: text.index("FFMA")]
    assert before.count("LDG.E.128") >= 4
    assert not [word for word in words if word.startswith("I2F")]
    assert words.count("MOV") < 16 < words.count("PRMT")

"""Matrix multiplications against numpy in float64 (integers: int64), static and dynamic, on the emulator."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlir import ir
from tests.passes.dot.harness import Array, Kernel, compile_kernel

from tilewright.dialects import graph_builder as graph
from tilewright.dialects.tensors import shape_of
from tilewright.runtime.emulator.observer import Instrument

NUMPY: dict[str, Any] = {
    "f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16, "f64": np.float64,
    "i32": np.int32, "i8": np.int8, "ui8": np.uint8, "i64": np.int64,
}  # fmt: skip
RESULT = {"f16": "f32", "bf16": "f32", "i8": "i32", "ui8": "i32"}
# Operands are exact in the reference, so what is left is the accumulation: relative to the largest result,
# K (at most a few hundred here) roundings of f32 at worst, usually far fewer; of f64 alike; integers are exact.
TOLERANCE = {"f32": 3e-6, "f16": 3e-6, "bf16": 3e-6, "f64": 1e-14}


def random(generator: np.random.Generator, shape: list[int], element: str) -> Array:
    if element[0] in "iu":
        return generator.integers(0 if element[0] == "u" else -100, 100, shape).astype(NUMPY[element])
    return generator.standard_normal(shape).astype(NUMPY[element])


@dataclass
class Case:
    """One product: batch dimensions of both operands, sizes, which of them are symbols."""

    element: str = "f32"
    left_batch: tuple[int, ...] = ()
    right_batch: tuple[int, ...] = ()
    sizes: dict[str, int] = field(default_factory=lambda: {"m": 5, "n": 6, "k": 7})
    dynamic: frozenset[str] = frozenset()
    transposes: tuple[bool, bool] = (False, False)
    pipeline: bool = True
    precision: str = ""


def verify(case: Case, epilogue: str = "", target: str = "sm_80", instrument: Instrument | None = None) -> Kernel:
    """Compile, run and compare; returns the kernel."""
    generator = np.random.default_rng(0)
    m, n, k = ((name if name in case.dynamic else case.sizes[name]) for name in "mnk")
    left = [*case.left_batch, *((k, m) if case.transposes[0] else (m, k))]
    right = [*case.right_batch, *((n, k) if case.transposes[1] else (k, n))]
    result = RESULT.get(case.element, case.element)

    def make(a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        product = graph.matmul(a, b, *case.transposes, element=result)
        if case.precision:
            product.owner.attributes["precision"] = ir.StringAttr.get(case.precision)
        if epilogue == "bias":
            return graph.map([product, c], lambda x, y: x + y)
        if epilogue == "transpose":
            rank = len(shape_of(product))
            return graph.transpose(product, [*range(rank - 2), rank - 1, rank - 2])
        return product

    kernel = compile_kernel([(left, case.element), (right, case.element), ([n], result)], make, target, case.pipeline)
    arrays = [
        random(generator, [case.sizes.get(str(size), size) for size in shape], element)  # type: ignore[call-overload]
        for shape, element in ((left, case.element), (right, case.element), ([n], result))
    ]
    wide = np.int64 if result[0] == "i" else np.float64
    a, b, c = (array.astype(wide) for array in arrays)
    expected = (a.swapaxes(-1, -2) if case.transposes[0] else a) @ (b.swapaxes(-1, -2) if case.transposes[1] else b)
    if epilogue == "bias":
        expected = expected + c
    if epilogue == "transpose":
        expected = expected.swapaxes(-1, -2)
    symbols = {str(value): case.sizes[str(value)] for kind, value in kernel.program.arguments if kind == "symbol"}
    (found,) = kernel.run(arrays, instrument, **symbols)
    if result[0] == "i":
        np.testing.assert_array_equal(found, expected)
        return kernel
    # tf32 keeps 10 bits of the operands: 2**-11 of each product.
    tolerance = 2**-10 if case.precision == "tf32" else TOLERANCE[case.element]
    scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
    np.testing.assert_allclose(found / scale, expected / scale, rtol=0, atol=tolerance)
    return kernel


SIZES = st.sampled_from([1, 2, 3, 7, 16, 17, 33, 64, 70, 130])
BATCHES = st.sampled_from([((), ()), ((3,), (3,)), ((2, 3), ()), ((), (4,)), ((2, 1), (1, 3)), ((1,), (2,))])


@settings(max_examples=14, deadline=None, derandomize=True)
@given(
    sizes=st.tuples(SIZES, SIZES, SIZES),
    batches=BATCHES,
    dynamic=st.frozensets(st.sampled_from("mnk")),
    transposes=st.tuples(st.booleans(), st.booleans()),
    epilogue=st.sampled_from(["", "bias", "transpose"]),
    pipeline=st.booleans(),
)
def test_any_shape(
    sizes: tuple[int, int, int],
    batches: tuple[tuple[int, ...], tuple[int, ...]],
    dynamic: frozenset[str],
    transposes: tuple[bool, bool],
    epilogue: str,
    pipeline: bool,
) -> None:
    named = dict(zip("mnk", sizes, strict=True))
    verify(Case("f32", *batches, named, dynamic, transposes, pipeline), epilogue)


@pytest.mark.parametrize("transposes", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("element,precision", [("f16", ""), ("bf16", ""), ("f32", "tf32")])
def test_tensor_cores(element: str, precision: str, transposes: tuple[bool, bool]) -> None:
    """Every operand orientation takes another way into the fragments."""
    verify(Case(element, sizes={"m": 70, "n": 48, "k": 40}, transposes=transposes, precision=precision))
    verify(Case(element, sizes={"m": 33, "n": 17, "k": 9}, transposes=transposes, precision=precision))


@pytest.mark.parametrize("element", ["f64", "i32", "i64", "i8", "ui8"])
def test_other_types(element: str) -> None:
    verify(Case(element, sizes={"m": 19, "n": 36, "k": 21}, dynamic=frozenset("m")), "bias")


@pytest.mark.parametrize("element,precision", [("f32", ""), ("f16", ""), ("f32", "tf32"), ("f64", ""), ("i32", "")])
def test_long_depth_is_split_among_warps(element: str, precision: str) -> None:
    """Too few tiles to fill a GPU: groups of warps share k and their sums are combined."""
    for sizes in ({"m": 33, "n": 47, "k": 300}, {"m": 5, "n": 64, "k": 512}):
        kernel = verify(Case(element, sizes=sizes, precision=precision), "bias")
        assert "tile.combine" in kernel.simple_text


def test_no_depth_gives_zeros() -> None:
    verify(Case(sizes={"m": 3, "n": 4, "k": 0}, dynamic=frozenset("k")), "bias")


def test_no_rows_launches_nothing() -> None:
    verify(Case(sizes={"m": 0, "n": 4, "k": 8}, dynamic=frozenset("m")))


def test_prologue_is_computed_on_the_way() -> None:
    """Weight-only int8: the right operand is a conversion and a scale per column."""
    generator = np.random.default_rng(1)

    def make(a: ir.Value, weight: ir.Value, scale: ir.Value) -> ir.Value:
        return graph.matmul(a, graph.map([weight, scale], lambda w, s: w.cast("f32") * s))

    kernel = compile_kernel([(("n", 48), "f32"), ((48, 36), "i8"), ((1, 36), "f32")], make)
    assert "tile.fill" in kernel.simple_text
    a, weight = random(generator, [9, 48], "f32"), random(generator, [48, 36], "i8")
    scale = random(generator, [1, 36], "f32")
    (found,) = kernel.run([a, weight, scale], n=9)
    expected = a.astype(np.float64) @ (weight.astype(np.float32) * scale).astype(np.float64)
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-6 * np.abs(expected).max())

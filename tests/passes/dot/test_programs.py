"""The IR of contraction programs before and after pipelining, and what ptxas makes of them."""

from __future__ import annotations

import pytest
from mlir import ir
from tests.passes.dot.harness import Kernel, compile_kernel
from tests.support.filecheck import check

from tilewright.dialects import create_context
from tilewright.dialects import graph_builder as graph
from tilewright.passes.target import find_target
from tilewright.passes.tile.pipeline import pipelined
from tilewright.passes.tile.schedule import Problem, tiled_candidates
from tilewright.runtime.errors import UnsupportedError
from tilewright.runtime.symbolic import expression

TARGETS = ("sm_80", "sm_89", "sm_90a", "sm_100")


def linear(element: str = "f32", precision: str = "", rows: int | str = "m", columns: int = 256) -> Kernel:
    """relu(A x B + bias) with a depth of 96."""

    def make(a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        product = graph.matmul(a, b, element="f32")
        if precision:
            product.owner.attributes["precision"] = ir.StringAttr.get(precision)
        return graph.map([product, c], lambda x, y: (x + y).maximum(0.0))

    return compile_kernel([((rows, 96), element), ((96, columns), element), ((columns,), "f32")], make)


def test_simple_loop() -> None:
    check(
        linear(rows=4096, columns=4096).simple_text,
        """
        CHECK: tile.schedule = {{.*}}instruction = "fma"
        CHECK: "tile.allocate"() {stages = 1 : i64} {{.*}}f32, "shared<rows, line=20>">
        CHECK: scf.for
        CHECK-NEXT: "tile.copy"
        CHECK: {vector = 4 : i64}
        CHECK: "tile.copy"
        CHECK: {vector = 4 : i64}
        CHECK-NEXT: "tile.commit"
        CHECK-NEXT: "tile.wait"() {pending = 0 : i64}
        CHECK-NEXT: "tile.barrier"
        CHECK-NEXT: "tile.dot"
        CHECK-NEXT: "tile.barrier"
        CHECK: "tile.map"
        CHECK: "tile.element"
        CHECK: arith.maximumf
        CHECK: "tile.store"
        """,
    )


def test_pipelined_loop() -> None:
    kernel = linear(rows=4096, columns=4096)
    with create_context(), ir.Location.unknown():
        text = pipelined(kernel.simple_text)
    assert text is not None
    check(
        text,
        """
        CHECK: "tile.allocate"() {stages = 3 : i64}
        CHECK: "tile.allocate"() {stages = 3 : i64}
        CHECK: scf.for
        CHECK: scf.if
        CHECK: "tile.copy"
        CHECK: "tile.copy"
        CHECK: "tile.commit"
        CHECK: loop_annotation
        CHECK: scf.for
        CHECK-NEXT: "tile.wait"() {pending = 1 : i64}
        CHECK-NEXT: "tile.barrier"
        CHECK: scf.if
        CHECK: "tile.copy"
        CHECK: "tile.copy"
        CHECK: "tile.commit"
        CHECK-NEXT: "tile.dot"
        CHECK-NOT: "tile.barrier"
        CHECK: scf.yield
        """,
    )


def test_one_step_is_left_alone() -> None:
    kernel = compile_kernel([((64, 16), "f32"), ((16, 64), "f32")], graph.matmul)
    assert "pinned" in kernel.simple_text
    with create_context(), ir.Location.unknown():
        assert pipelined(kernel.simple_text) is None


@pytest.mark.parametrize("element,precision", [("f32", ""), ("f32", "tf32"), ("f16", ""), ("bf16", "")])
@pytest.mark.parametrize("rows", [2048, "m"])
def test_no_spills_on_any_target(element: str, precision: str, rows: int | str) -> None:
    """Large tiles are the ones short of registers."""
    kernel = linear(element, precision, rows, 2048)
    for target in TARGETS:
        assembly = kernel.assemble(target)
        assert assembly.spills == 0, f"{target}: {assembly}"


def test_instructions_that_were_meant() -> None:
    assert "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32" in linear("f16").ptx
    assert "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32" in linear("bf16").ptx
    assert "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32" in linear(precision="tf32").ptx
    strict = linear().ptx
    assert "mma.sync" not in strict and "cp.async.cg.shared.global" in strict and "ld.shared.v4" in strict


def test_mixed_floats_and_integers_are_unsupported() -> None:
    with pytest.raises(UnsupportedError, match="f32 with i32"):
        compile_kernel([((4, 8), "f32"), ((8, 4), "i32")], lambda a, b: graph.matmul(a, b))


@pytest.mark.parametrize("rows,columns", [(1, 1000), (7, 5), (4096, 4096), (49, 2048), (3136, 64)])
@pytest.mark.parametrize("instruction", ["fma", "m16n8k16.f16"])
def test_schedules_fit_the_problem(rows: int, columns: int, instruction: str) -> None:
    target = find_target("sm_80")
    size = 4 if instruction == "fma" else 2
    problem = Problem(*map(expression, (1, rows, columns, 512)), size)
    schedule = tiled_candidates(problem, instruction, target)[0]
    shared = sum(schedule.block[:2]) * (schedule.block[2] + 8) * size * schedule.stages
    assert shared <= target.shared_per_block
    if rows * columns >= 4096 * 4096:
        assert schedule.block[:2] == (128, 128)
    if rows <= 8:
        assert schedule.block[0] <= 16

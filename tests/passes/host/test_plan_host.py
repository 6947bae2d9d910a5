"""Host planning on hand-written graphs of kernel calls: aliases, outputs in place, branches, lifetimes, tied
dimensions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mlir import ir

from tilewright import InternalError
from tilewright.compiler.backend.kernel import CompiledKernel
from tilewright.compiler.dumps import parse_unit
from tilewright.compiler.package import package
from tilewright.dialects import verify
from tilewright.passes.host.constraints import solve
from tilewright.passes.host.plan_host import plan_host
from tilewright.passes.unit import KernelProgram, Unit
from tilewright.runtime.engine import Engine
from tilewright.runtime.program import Copy, If, Launch
from tilewright.runtime.symbolic import expression, parse

T = 'tensor<?x10xf32, ["n", "10"]>'
FUNCTION = f"""
  func.func private @loop_0(%a: {T}, %b: tensor<10xf32>) -> {T} attributes {{graph.kernel = "loop", graph.nodes = ["Add_1"]}} {{
    return %a : {T}
  }}
"""
CALL = f"func.call @loop_0(%VALUE, %w) : ({T}, tensor<10xf32>) -> {T}"


def planned(
    body: str,
    inputs: str = f'%x: {T} {{graph.name = "x"}}',
    outputs: str = f'{T} {{graph.name = "y"}}',
    attributes: str = "",
) -> Unit:
    """A unit whose @main has `body`, after plan-host. `%w` is a weight."""
    text = f"""module {{
      {FUNCTION}
      func.func @main({inputs}) -> ({outputs}) attributes {{graph.symbols = ["n"]{attributes}}} {{
        %w = "graph.weight"() {{handle = "bias"}} : () -> tensor<10xf32>
        {body}
      }}
    }}"""
    unit = parse_unit(text)
    unit.weights.discard("bias")
    unit.weights.add("bias", np.arange(10, dtype=np.float32))
    one = expression(1)
    arguments: list[tuple[str, int | str]] = [("input", 0), ("input", 1), ("output", 0), ("symbol", "10*n")]
    unit.kernels["loop_0"] = KernelProgram(
        "loop_0", "", "loop", (parse("(10*n + 127)//128"), one, one), 128, arguments
    )
    plan_host(unit)
    assert unit.host is not None
    with unit.module.context:
        verify(unit.host)
    return unit


def packaged(unit: Unit) -> Engine:
    """The engine, with a kernel that is never run."""
    parameters = ("pointer", "pointer", "pointer", "i32")
    kernel = CompiledKernel("loop_0", ".visible .entry loop_0()", 128, 0, 8, 0, parameters)
    with unit.module.context:
        return package(unit, {"loop_0": kernel}, {})


def call(value: str) -> str:
    return CALL.replace("VALUE", value)


def buffers(engine: Engine) -> dict[str, tuple[Any, ...]]:
    return {buffer.name: (buffer.kind, buffer.first, buffer.last) for buffer in engine.buffers}


def test_chain_writes_its_output_in_place() -> None:
    engine = packaged(planned(f"%1 = {call('x')}\n %2 = {call('1')}\n %3 = {call('2')}\n return %3 : {T}"))
    first, second, third = engine.program.launches
    assert [launch.buffers for launch in (first, second, third)] == [
        ("x", "bias", "b0"),
        ("b0", "bias", "b1"),
        ("b1", "bias", "y"),
    ]
    assert buffers(engine) == {
        "x": ("input", None, None),
        "y": ("output", None, None),
        "bias": ("weight", None, None),
        "b0": ("temporary", 0, 1),
        "b1": ("temporary", 1, 2),
    }
    assert [str(extent) for extent in first.grid] == ["(10*n + 127)//128", "1", "1"]
    assert [str(value) for value in first.expressions[3:]] == ["10*n"]
    assert first.nodes == ("Add_1",)
    assert engine.symbols["n"].to_json() == {"input": "x", "axis": 0}


def test_reshape_is_an_alias() -> None:
    flat = 'tensor<?xf32, ["10*n"]>'
    body = f"""%1 = {call("x")}
      %2 = "graph.reshape"(%1) : ({T}) -> {flat}
      %3 = "graph.reshape"(%2) : ({flat}) -> {T}
      %4 = {call("3")}
      %5 = "graph.reshape"(%4) : ({T}) -> {flat}
      return %5 : {flat}"""
    engine = packaged(planned(body, outputs=f'{flat} {{graph.name = "y"}}'))
    assert [launch.buffers[2] for launch in engine.program.launches] == ["b0", "y"]
    assert [str(extent) for extent in engine.buffers[1].shape] == ["10*n"]


def test_outputs_that_are_inputs_weights_or_twice_the_same_are_copied() -> None:
    outputs = f'{T} {{graph.name = "x"}}, tensor<10xf32> {{graph.name = "w"}}, {T} {{graph.name = "y"}}, {T} {{graph.name = "z"}}'
    body = f"%1 = {call('x')}\n return %x, %w, %1, %1 : {T}, tensor<10xf32>, {T}, {T}"
    engine = packaged(planned(body, outputs=outputs))
    assert [item for item in engine.program.instructions if isinstance(item, Copy)] == [
        Copy("x", "x.1"),
        Copy("bias", "w"),
        Copy("y", "z"),
    ]
    assert [(binding.name, binding.buffer) for binding in engine.outputs] == [
        ("x", "x.1"), ("w", "w"), ("y", "y"), ("z", "z"),
    ]  # fmt: skip


def test_branches_write_the_same_buffer() -> None:
    inputs = f'%x: {T} {{graph.name = "x"}}, %c: tensor<i1> {{graph.name = "c"}}'
    body = f"""%1 = {call("x")}
      %flag = tensor.extract %c[] : tensor<i1>
      %2 = scf.if %flag -> {T} {{
        %3 = {call("1")}
        %4 = {call("3")}
        scf.yield %4 : {T}
      }} else {{
        scf.yield %1 : {T}
      }}
      %5 = {call("2")}
      return %5 : {T}"""
    engine = packaged(planned(body, inputs=inputs))
    launch, branch, last = engine.program.instructions
    assert isinstance(launch, Launch) and isinstance(branch, If) and isinstance(last, Launch)
    assert branch.condition == "c"
    result = last.buffers[0]
    assert branch.then[1].buffers[2] == result
    assert branch.otherwise == (Copy(launch.buffers[2], result),)
    found = buffers(engine)
    # flattened: 0 launch, 1 if, 2 and 3 then, 4 else, 5 last launch
    assert found[launch.buffers[2]] == ("temporary", 0, 4)
    assert found[branch.then[0].buffers[2]] == ("temporary", 2, 3)
    assert found[result] == ("temporary", 3, 5)


def test_workspace_lives_for_one_launch() -> None:
    unit = planned(f"%1 = {call('x')}\n return %1 : {T}")
    program = unit.kernels["loop_0"]
    program.workspaces.append(("i32", (parse("n"),)))
    program.arguments.append(("workspace", 0))
    plan_host(unit)
    with unit.module.context:
        assert 'element = "i32", first = 0 : i64, kind = "temporary", last = 0 : i64, name = "w"' in str(
            unit.host
        )


def test_semaphores_are_zero_once_and_serve_all_kernels() -> None:
    unit = planned(f"%1 = {call('x')}\n %2 = {call('1')}\n return %2 : {T}")
    unit.kernels["loop_0"].arguments.append(("semaphores", 20))
    plan_host(unit)
    with unit.module.context:
        text = str(unit.host)
    assert 'element = "i32", first = 0 : i64, kind = "temporary", last = 2 : i64, name = "semaphores", shape = ["20"]' in text
    assert text.count("host.fill") == 1 and text.index("host.fill") < text.index("host.launch")


def test_tied_dimensions_become_one_symbol() -> None:
    other = 'tensor<?x10xf32, ["m", "10"]>'
    inputs = f'%x: {T} {{graph.name = "x"}}, %z: {other} {{graph.name = "z"}}'
    body = f"%1 = {call('x')}\n return %1, %z : {T}, {other}"
    outputs = f'{T} {{graph.name = "y"}}, {other} {{graph.name = "u"}}'
    engine = packaged(planned(body, inputs, outputs, ', graph.constraints = [["n", "m"]]'))
    assert [[str(extent) for extent in binding.shape] for binding in engine.inputs] == [
        ["n", "10"],
        ["n", "10"],
    ]
    assert set(engine.symbols) == {"n"}


@pytest.mark.parametrize(
    ("pairs", "expected", "unsolved"),
    [
        ([("n", "m")], {"m": "n"}, 0),
        ([("n", "m + 1")], {"m": "n - 1"}, 0),
        ([("n", "m"), ("m", "k")], {"m": "n", "k": "n"}, 0),
        ([("2*n", "m + k")], {"k": "2*n - m"}, 0),
        ([("n", "n")], {}, 0),
        ([("n*m", "k*k")], {}, 1),
        ([("n//2", "3")], {}, 1),
    ],
)
def test_solving_equalities(pairs: list[tuple[str, str]], expected: dict[str, str], unsolved: int) -> None:
    substitution, left = solve(["n", "m", "k"], [(parse(a), parse(b)) for a, b in pairs])
    assert substitution == {name: parse(value) for name, value in expected.items()}
    assert len(left) == unsolved


def test_foreign_operations_are_named() -> None:
    body = f'%1 = "graph.transpose"(%x) {{permutation = array<i64: 0, 1>}} : ({T}) -> {T}\n return %1 : {T}'
    with pytest.raises(InternalError, match=r"'graph\.transpose' is left in @main after fusion"):
        planned(body)


def test_small_constants_become_weights() -> None:
    c = "tensor<2xbf16>"
    body = f'%k = "graph.constant"() {{value = dense<[1.0, -2.5]> : {c}}} : () -> {c}\n %1 = {call("x")}\n return %1, %k : {T}, {c}'
    engine = packaged(planned(body, outputs=f'{T} {{graph.name = "y"}}, {c} {{graph.name = "k"}}'))
    arrays = {buffer.name: array for buffer, array in engine.weights()}
    assert arrays["constant"].astype(np.float32).tolist() == [1.0, -2.5]


def test_module_without_main() -> None:
    unit = parse_unit("module {}")
    with pytest.raises(InternalError, match="the module has no @main"):
        plan_host(unit)
    assert isinstance(unit.module, ir.Module)

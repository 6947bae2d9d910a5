"""From the host program and the compiled kernels to an engine.

In: a module of the `host` dialect, the kernels ptxas accepted, the weights. Out: an `Engine` in memory, which
saves itself as the file of docs/engine-format.md. The weights stay where they are (memory maps, functions)
until the engine is saved or run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from mlir import ir

from ..passes.unit import Unit
from ..runtime.engine import Engine
from ..runtime.errors import InternalError
from ..runtime.launch_arguments import Argument, BufferArgument, ExpressionArgument, Im2colArgument, TensorMapArgument
from ..runtime.manifest import Buffer, Equality, KernelDescription, Manifest, SymbolSource, TensorBinding
from ..runtime.program import Call, Copy, Download, Fetch, Fill, If, Instruction, Keep, Launch, Loop, Program, Upload
from ..runtime.symbolic import ZERO, Expression, parse
from .backend.kernel import CompiledKernel


def package(unit: Unit, kernels: Mapping[str, CompiledKernel], dumps: Mapping[str, str]) -> Engine:
    """The engine of a unit after `plan-host`. `kernels` by name; `dumps` are the IR members kept in the
    engine, by member name.

    Raises InternalError when the parts do not fit together.
    """
    if unit.host is None:
        raise InternalError("there is no host program to package")
    buffers, bindings, handles = _declarations(unit.host)
    names = {declaration: buffer.name for declaration, buffer in buffers.items()}
    program = Program(_instructions(unit.host.body, names))
    used = list(dict.fromkeys(launch.kernel for launch in program.launches))
    manifest = Manifest(
        target=unit.target,
        precision=unit.precision,
        model=unit.model_name,
        symbols=_symbols(unit.host),
        inputs=tuple(bindings["input"]),
        outputs=tuple(bindings["output"]),
        buffers=tuple(buffers.values()),
        kernels=tuple(_description(unit, kernels[name]) for name in used),
        program=program,
        equalities=_equalities(unit.host),
        notes=tuple(unit.notes),
    )
    weights = [(lambda handle=handle: unit.weights.get(handle)) for handle in handles]
    return Engine.build(manifest, {name: kernels[name].ptx for name in used}, dumps, weights)


def _description(unit: Unit, kernel: CompiledKernel) -> KernelDescription:
    program = next(item for item in unit.kernels.values() if item.name == kernel.name)
    return KernelDescription(
        name=kernel.name,
        block=program.given.block if program.given else (kernel.block, 1, 1),
        shared_bytes=kernel.shared_bytes,
        registers=kernel.registers,
        spills=kernel.spills,
        dynamic_shared=".extern .shared" in kernel.ptx,
        parameters=kernel.parameters,
        nodes=tuple(program.nodes),
        kind=program.kind,
    )


def _declarations(
    module: ir.Module,
) -> tuple[dict[ir.Value, Buffer], dict[str, list[TensorBinding]], list[str]]:
    """(buffers by value, bindings of inputs and outputs in order, weight handles in order)."""
    buffers: dict[ir.Value, Buffer] = {}
    bindings: dict[str, list[TensorBinding]] = {"input": [], "output": []}
    handles = []
    for operation in module.body.operations:
        if operation.operation.name != "host.declare":
            continue
        kind, name = _text(operation, "kind"), _text(operation, "name")
        element, shape = _text(operation, "element"), _expressions(operation, "shape")
        temporary = kind == "temporary"
        buffers[operation.results[0]] = Buffer(
            name=name,
            dtype=element,
            shape=shape,
            kind=kind,
            first=_integer(operation, "first") if temporary else None,
            last=_integer(operation, "last") if temporary else None,
        )
        if kind in bindings:
            is_complex = "complex" in operation.operation.attributes
            bindings[kind].append(TensorBinding(_text(operation, "binding"), element, shape, name, is_complex))
        elif kind == "weight":
            handles.append(_text(operation, "handle"))
    return buffers, bindings, handles


def weight_handles(module: ir.Module) -> list[str]:
    """The handles of the weights that a host program uses, in the engine's order."""
    return _declarations(module)[2]


def _instructions(block: ir.Block, names: Mapping[ir.Value, str]) -> tuple[Instruction, ...]:
    result: list[Instruction] = []
    for operation in block.operations:
        kind = operation.operation.name
        if kind in ("host.declare", "gpu.yield"):
            continue
        reader = _READERS.get(kind)
        if reader is None:
            raise InternalError(f"'{kind}' is no instruction of the host program")
        result.append(reader(operation, names))
    return tuple(result)


def _launch(operation: Any, names: Mapping[ir.Value, str]) -> Launch:
    grid = _expressions(operation, "grid")
    arguments: list[Argument] = []
    for item in ir.ArrayAttr(operation.attributes["arguments"]):
        if isinstance(item, ir.IntegerAttr):
            arguments.append(BufferArgument(names[operation.operands[item.value]]))
        elif isinstance(item, ir.DictAttr):
            arguments.append(_tensor_map(item, operation, names))
        else:
            arguments.append(ExpressionArgument(parse(ir.StringAttr(item).value)))
    nodes = tuple(ir.StringAttr(item).value for item in ir.ArrayAttr(operation.attributes["nodes"]))
    return Launch(_text(operation, "kernel"), (grid[0], grid[1], grid[2]), tuple(arguments), nodes)


def _tensor_map(item: ir.DictAttr, operation: Any, names: Mapping[ir.Value, str]) -> TensorMapArgument:
    def values(key: str) -> tuple[Expression, ...]:
        return tuple(parse(ir.StringAttr(part).value) for part in ir.ArrayAttr(item[key]))

    def numbers(key: str) -> tuple[int, ...]:
        return tuple(ir.DenseI64ArrayAttr(item[key]))

    im2col = None
    if "column" in item:
        im2col = Im2colArgument(numbers("lower_corner"), values("upper_corner"), *numbers("column"))
    return TensorMapArgument(
        buffer=names[operation.operands[ir.IntegerAttr(item["buffer"]).value]],
        data_type=ir.StringAttr(item["data_type"]).value,
        shape=values("shape"),
        strides=values("strides"),
        swizzle=ir.StringAttr(item["swizzle"]).value,
        box=numbers("box"),
        element_strides=numbers("element_strides"),
        im2col=im2col,
        offset=parse(ir.StringAttr(item["offset"]).value) if "offset" in item else ZERO,
    )


def _copy(operation: Any, names: Mapping[ir.Value, str]) -> Copy:
    return Copy(names[operation.operands[0]], names[operation.operands[1]])


def _fill(operation: Any, names: Mapping[ir.Value, str]) -> Fill:
    return Fill(names[operation.operands[0]], _integer(operation, "byte"))


def _if(operation: Any, names: Mapping[ir.Value, str]) -> If:
    then, otherwise = (_instructions(region.blocks[0], names) for region in operation.regions)
    return If(names[operation.operands[0]], then, otherwise)


def _loop(operation: Any, names: Mapping[ir.Value, str]) -> Loop:
    return Loop(names[operation.operands[0]], _instructions(operation.regions[0].blocks[0], names))


def _download(operation: Any, names: Mapping[ir.Value, str]) -> Download:
    return Download(names[operation.operands[0]], names[operation.operands[1]], _expressions(operation, "shape"))


def _upload(operation: Any, names: Mapping[ir.Value, str]) -> Upload:
    return Upload(names[operation.operands[0]], names[operation.operands[1]])


def _keep(operation: Any, names: Mapping[ir.Value, str]) -> Keep:
    return Keep(names[operation.operands[0]], names[operation.operands[1]], _expressions(operation, "shape"))


def _fetch(operation: Any, names: Mapping[ir.Value, str]) -> Fetch:
    return Fetch(names[operation.operands[0]], names[operation.operands[1]])


def _call(operation: Any, names: Mapping[ir.Value, str]) -> Call:
    buffers = [names[value] for value in operation.operands]
    count = _integer(operation, "inputs")
    return Call(
        function=_text(operation, "function"),
        inputs=tuple(buffers[:count]),
        outputs=tuple(buffers[count:]),
        attributes=json.loads(_text(operation, "options")),
        sizes=_expressions(operation, "sizes"),
        symbols=tuple(str(symbol) for symbol in _expressions(operation, "symbols")),
        nodes=tuple(ir.StringAttr(item).value for item in ir.ArrayAttr(operation.attributes["nodes"])),
    )


_READERS: dict[str, Callable[[Any, Mapping[ir.Value, str]], Instruction]] = {
    "host.launch": _launch,
    "host.copy": _copy,
    "host.fill": _fill,
    "host.if": _if,
    "host.loop": _loop,
    "host.download": _download,
    "host.upload": _upload,
    "host.keep": _keep,
    "host.fetch": _fetch,
    "host.call": _call,
}


def _equalities(module: ir.Module) -> tuple[Equality, ...]:
    pairs = ir.ArrayAttr(module.operation.attributes["host.equalities"])
    return tuple(
        Equality(*(parse(ir.StringAttr(side).value) for side in ir.ArrayAttr(pair))) for pair in pairs
    )


def _symbols(module: ir.Module) -> dict[str, SymbolSource]:
    sources = ir.DictAttr(module.operation.attributes["host.symbols"])
    result = {}
    for index in range(len(sources)):
        named = sources[index]
        pair = ir.ArrayAttr(named.attr)
        result[str(named.name)] = SymbolSource(ir.StringAttr(pair[0]).value, ir.IntegerAttr(pair[1]).value)
    return result


def _text(operation: Any, name: str) -> str:
    return str(ir.StringAttr(operation.attributes[name]).value)


def _integer(operation: Any, name: str) -> int:
    return int(ir.IntegerAttr(operation.attributes[name]).value)


def _expressions(operation: Any, name: str) -> tuple[Expression, ...]:
    return tuple(parse(ir.StringAttr(item).value) for item in ir.ArrayAttr(operation.attributes[name]))

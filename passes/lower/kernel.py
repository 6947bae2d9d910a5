"""Lowering of one tile program to a GPU module of scalars, ready for NVVM and PTX.

In: the text of a module with one `func.func` in the tile dialect, and a target. Out: `LoweredKernel`: the text of a
module holding one `gpu.module` with an `llvm.func` kernel, its dynamic shared memory and its block size. The kernel
shell is `llvm.func`, because `gpu.func` rejects grid constants and bare pointers (codegen notes).
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from functools import cache

from mlir import ir
from mlir.dialects import llvm, nvvm

from ...dialects import create_context
from ...runtime.errors import InternalError
from ..target import Target
from .alias_scopes import scope_accesses
from .context import LoweringContext, Memory
from .control import lower_block

_WRITES = {  # operands that are written
    "tile.store": (1,),
    "tile.atomic": (1,),
    "tile.sort": (0, 1),
    "tile.publish": (1, 2),
    "tile.collect": (2,),
}
_BY_VALUE = "llvm.byval = !llvm.array<128 x i8>"  # a tensor map


@dataclass(frozen=True)
class LoweredKernel:
    """One kernel below the tile level."""

    name: str
    module: ir.Module
    shared_bytes: int  # dynamic shared memory of a launch
    block: int  # threads of a block

    @property
    def module_text(self) -> str:
        """The module as text."""
        return str(self.module)


@cache
def _shared_context() -> ir.Context:
    return create_context()


@cache
def _load_rules() -> None:
    package = importlib.import_module(__package__ or "")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")


def lower_kernel(text: str, target: Target) -> LoweredKernel:
    """Lower the tile program in `text`. Raises InternalError for IR without a rule."""
    _load_rules()
    context = _shared_context()
    with context, ir.Location.unknown():
        try:
            module = ir.Module.parse(text)
        except ir.MLIRError as error:
            raise InternalError(f"the tile program does not parse:\n{error}") from None
        function = next(op.operation for op in module.body.operations if op.operation.name == "func.func")
        return _lower_function(function, target)


def _lower_function(function: ir.Operation, target: Target) -> LoweredKernel:
    name = ir.StringAttr(function.attributes["sym_name"]).value
    threads = ir.IntegerAttr(function.attributes["tile.threads"]).value
    body = function.regions[0].blocks[0]
    shell = ir.Module.parse(_shell_text(name, function, threads, target))
    gpu_module = shell.body.operations[0]
    kernel = next(op for op in gpu_module.regions[0].blocks[0].operations if op.operation.name == "llvm.func").operation
    if "tile.minimum_blocks" in function.attributes:
        # A main loop lives in registers: ptxas otherwise guesses an occupancy, and was seen to spill with 64 registers
        # where 110 did without. What is bound by memory has no such attribute and keeps the guess.
        kernel.attributes["nvvm.minctasm"] = function.attributes["tile.minimum_blocks"]
    if "tile.cluster" in function.attributes:
        blocks = ir.IntegerAttr(function.attributes["tile.cluster"]).value
        kernel.attributes["nvvm.cluster_dim"] = ir.DenseI32ArrayAttr.get([blocks, 1, 1])
    block = kernel.regions[0].blocks[0]
    block.operations[0].operation.erase()  # the placeholder return
    lowering = LoweringContext(target, threads)
    with ir.InsertionPoint(block), function.location:
        lowering.shared_base = llvm.mlir_addressof(ir.Type.parse("!llvm.ptr<3>"), "shared_memory")
        lowering.start(nvvm.read_ptx_sreg_tid_x(lowering.i32))
        for argument, parameter in zip(body.arguments, block.arguments, strict=True):
            if isinstance(argument.type, ir.MemRefType):
                lowering.set(argument, Memory(parameter, ir.MemRefType(argument.type).element_type))
            else:
                lowering.set(argument, parameter)
        lower_block(lowering, body)
        llvm.ReturnOp()
        if _is_dependent(function):
            scope_accesses(kernel)
    return LoweredKernel(name, shell, lowering.shared_bytes, threads)


def _is_dependent(function: ir.Operation) -> bool:
    """Whether the kernel waits for the kernels in front of it."""
    return any(view.operation.name == "tile.await_previous" for view in function.regions[0].blocks[0].operations)


def _written_arguments(function: ir.Operation) -> set[int]:
    """Numbers of the memref arguments that the program writes."""
    written: set[int] = set()

    def visit(operation: ir.Operation) -> ir.WalkResult:
        for position in _WRITES.get(operation.name, ()):
            written.add(ir.BlockArgument(operation.operands[position]).arg_number)
        return ir.WalkResult.ADVANCE

    function.walk(visit)
    return written


def _shell_text(name: str, function: ir.Operation, threads: int, target: Target) -> str:
    # With a wait for the kernels before, an argument may be written while this kernel runs already: nothing is promised
    # of it that would let a read move in front of the wait or take the cache that is not coherent (alias_scopes.py).
    dependent = _is_dependent(function)
    written = _written_arguments(function)
    parameters = []
    for number, argument in enumerate(function.regions[0].blocks[0].arguments):
        if isinstance(argument.type, ir.MemRefType):
            promises = "llvm.noalias, " if number in written else "llvm.noalias, llvm.readonly, "
            parameters.append(f"%a{number}: !llvm.ptr<1> {{{'' if dependent else promises}llvm.align = 16 : i64}}")
        elif str(argument.type).startswith("!tile.tensor_map"):
            parameters.append(f"%a{number}: !llvm.ptr {{{_BY_VALUE}, llvm.align = 64 : i64, nvvm.grid_constant}}")
        else:
            parameters.append(f"%a{number}: i32")
    return f"""module attributes {{gpu.container_module}} {{
  gpu.module @kernels [#nvvm.target<chip = "{target.chip}", features = "{target.ptx}", O = 3>] {{
    llvm.mlir.global external @shared_memory() {{addr_space = 3 : i32, alignment = 1024 : i64}} : !llvm.array<0 x i8>
    llvm.func @{name}({", ".join(parameters)})
        attributes {{nvvm.kernel, nvvm.reqntid = array<i32: {threads}, 1, 1>}} {{
      llvm.return
    }}
  }}
}}"""

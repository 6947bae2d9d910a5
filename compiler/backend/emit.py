"""From a lowered kernel to PTX text, in this process.

In: a module with one `gpu.module` in LLVM/NVVM dialects, and the target. Out: the PTX that LLVM's NVPTX back
end writes. It exists to keep the MLIR passes that work (docs/architecture.md) in one place; a mistake in
the IR may abort the process, which is why compiler/backend/workers.py runs it in another one.
"""

from __future__ import annotations

from functools import lru_cache

from mlir import ir
from mlir.dialects import gpu
from mlir.passmanager import PassManager

from ...dialects.context import create_context
from ...passes.target import Target
from ...runtime.errors import InternalError
from .llvm import bitcode_to_ptx
from .origins import mark_origins

PIPELINE = (
    "builtin.module(gpu.module(convert-scf-to-cf,convert-gpu-to-nvvm{use-bare-ptr-memref-call-conv=1},"
    "convert-nvvm-to-llvm,convert-to-llvm,reconcile-unrealized-casts),{locations}"
    "gpu-module-to-binary{format=llvm})"
)
# Locations become `.loc` directives, and nothing else of debug information.
LOCATIONS = "ensure-debug-info-scope-on-llvm-func{emission-kind=DebugDirectivesOnly},"


@lru_cache(maxsize=1)
def shared_context() -> ir.Context:
    """The MLIR context of this process for kernels: loading the dialects takes longer than a small kernel."""
    return create_context()


def emit_ptx(source: ir.Module | str, target: Target, program: str = "") -> str:
    """PTX of the one `gpu.module` in `source`, which is used up when it is a module. With the tile `program` that it
    was lowered from, comments say where each operation begins (origins.py). Raises InternalError with MLIR's
    diagnostics.
    """
    context = shared_context() if isinstance(source, str) else source.context
    with context, ir.Location.unknown():
        try:
            module = ir.Module.parse(source) if isinstance(source, str) else source
        except ir.MLIRError as error:
            raise _rejected(error) from None
        ptx = bitcode_to_ptx(module_bitcode(module, target, located=bool(program)), target)
        return mark_origins(ptx, program) if program else ptx


def module_bitcode(module: ir.Module, target: Target, located: bool = False) -> bytes:
    """LLVM bitcode of the one `gpu.module` in `module`, which is used up; `located` keeps the lines that operations
    come from. Raises InternalError."""
    try:
        _set_target(module, target)
        module.operation.verify()
        manager = PassManager.parse(PIPELINE.replace("{locations}", LOCATIONS if located else ""))
        manager.enable_verifier(False)  # between upstream's own passes; what comes in was verified
        manager.run(module.operation)
    except ir.MLIRError as error:
        raise _rejected(error) from None
    for operation in module.body.operations:
        if operation.operation.name == "gpu.binary":
            objects = ir.ArrayAttr(operation.operation.attributes["objects"])
            return bytes(gpu.ObjectAttr(objects[0]).object)
    raise InternalError("MLIR wrote no LLVM IR for the kernel")


def _rejected(error: ir.MLIRError) -> InternalError:
    return InternalError(f"MLIR rejects the lowered kernel:\n{error}")


def _set_target(module: ir.Module, target: Target) -> None:
    attribute = ir.Attribute.parse(f'#nvvm.target<chip="{target.chip}", features="{target.ptx}", O=0>')
    found = [operation for operation in module.body.operations if operation.operation.name == "gpu.module"]
    if len(found) != 1:
        raise InternalError(f"a lowered kernel is one gpu.module, not {len(found)}")
    found[0].operation.attributes["targets"] = ir.ArrayAttr.get([attribute])

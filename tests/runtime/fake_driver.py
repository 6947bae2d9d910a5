"""A CUDA driver that is not there: the functions of `cuda.bindings.driver` that the runtime calls, over host
memory.

In: driver calls, and the number of the call that shall fail. Out: their effects, and a record of everything
not given back.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from tests.runtime.kernels import KERNELS


class Status(int):
    """A CUresult: 0 is success."""

    fault = "CUDA_ERROR_INJECTED"

    @property
    def name(self) -> str:
        return "CUDA_SUCCESS" if self == 0 else self.fault


OK, BAD = Status(0), Status(999)
GIVE_BACK = (
    "cuMemFree", "cuModuleUnload", "cuStreamDestroy", "cuGraphDestroy", "cuGraphExecDestroy", "cuEventDestroy",
)  # fmt: skip


class FakeDriver:
    """`fail_at` is the number, from 0, of the call that returns an error (or raises one, with `raises`); or every call
    of the name `failing` returns the error `fault`.
    """

    CUdevice_attribute = SimpleNamespace(
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR="major",
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR="minor",
    )
    CUstream_flags = SimpleNamespace(CU_STREAM_NON_BLOCKING=1)
    CUevent_flags = SimpleNamespace(CU_EVENT_DEFAULT=0)
    CUjit_option = SimpleNamespace(CU_JIT_ERROR_LOG_BUFFER=5, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES=6)
    CUfunction_attribute = SimpleNamespace(
        CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES=8, CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT=9
    )
    CUstreamCaptureMode = SimpleNamespace(CU_STREAM_CAPTURE_MODE_RELAXED=2)
    CUlaunchAttributeID = SimpleNamespace(CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION=6)
    CUlaunchAttribute = CUlaunchAttributeValue = CUlaunchConfig = SimpleNamespace

    def __init__(self, fail_at: int = -1, raises: bool = False, capability: tuple[int, int] = (9, 0)) -> None:
        self.fail_at = fail_at
        self.raises = raises
        self.capability = capability
        self.calls: list[str] = []
        self.live: dict[Any, str] = {}  # handle -> what it is
        self.memory: dict[int, Any] = {}
        self.pushed = 0
        self.recording: list[Callable[[], None]] | None = None
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.shared: dict[str, int] = {}
        self.next = 1000
        self.finalising = 1 << 30  # number of the first call made by a finaliser
        self.failing, self.fault = "", BAD

    def __getattribute__(self, name: str) -> Any:
        value = object.__getattribute__(self, name)
        if not name.startswith("cu") or name == "cuGetErrorString":
            return value

        def call(*arguments: Any) -> Any:
            number = len(self.calls)
            self.calls.append(name)
            if name == self.failing:
                return (self.fault, None)
            if number != self.fail_at:
                return value(*arguments)
            if name.startswith(GIVE_BACK):
                self.live.pop(arguments[0], None)  # given back as far as anybody can
            if name == "cuDevicePrimaryCtxRelease":
                self.live.pop("context")
            if name == "cuCtxPopCurrent":
                self.pushed -= 1
            if name == "cuStreamEndCapture":
                self.recording = None
            if self.raises:
                raise RuntimeError(f"{name} is not in this driver\nsecond line")
            return (BAD, None)

        return call

    def handle(self, what: str) -> int:
        self.next += 1
        self.live[self.next] = what
        return self.next

    def do(self, effect: Callable[[], None]) -> tuple[Status]:
        if self.recording is not None:
            self.recording.append(effect)
        else:
            effect()
        return (OK,)

    def cuGetErrorString(self, status: Status) -> tuple[Status, bytes]:
        return OK, b"a failure for the test"

    def cuInit(self, flags: int) -> tuple[Status]:
        return (OK,)

    def cuDriverGetVersion(self) -> tuple[Status, int]:
        return OK, 13000

    def cuDeviceGetCount(self) -> tuple[Status, int]:
        return OK, 1

    def cuDeviceGet(self, ordinal: int) -> tuple[Status, str]:
        return OK, "device"

    def cuDeviceGetAttribute(self, attribute: str, device: str) -> tuple[Status, int]:
        return OK, self.capability[attribute == "minor"]

    def cuDeviceGetName(self, length: int, device: str) -> tuple[Status, bytes]:
        return OK, b"Fake GPU\0\0\0"

    def cuDeviceTotalMem(self, device: str) -> tuple[Status, int]:
        return OK, 8 << 30

    def cuDevicePrimaryCtxRetain(self, device: str) -> tuple[Status, str]:
        self.live["context"] = "context"
        return OK, "context"

    def cuDevicePrimaryCtxRelease(self, device: str) -> tuple[Status]:
        assert device == "device"
        del self.live["context"]
        return (OK,)

    def cuCtxPushCurrent(self, context: str) -> tuple[Status]:
        assert context == "context"
        self.pushed += 1
        return (OK,)

    def cuCtxPopCurrent(self) -> tuple[Status, str]:
        self.pushed -= 1
        return OK, "context"

    def cuCtxSynchronize(self) -> tuple[Status]:
        return (OK,)

    def cuStreamCreate(self, flags: int) -> tuple[Status, int]:
        return OK, self.handle("stream")

    def cuStreamSynchronize(self, stream: int) -> tuple[Status]:
        assert self.recording is None
        return (OK,)

    def cuStreamDestroy(self, stream: int) -> tuple[Status]:
        del self.live[stream]
        return (OK,)

    def cuMemAlloc(self, nbytes: int) -> tuple[Status, int]:
        block = np.full(nbytes + 256, 0xAB, np.uint8)
        address = -(-block.ctypes.data // 256) * 256
        self.memory[address] = block
        self.live[address] = "memory"
        return OK, address

    def cuMemFree(self, address: int) -> tuple[Status]:
        del self.live[address], self.memory[address]
        return (OK,)

    def cuMemHostAlloc(self, nbytes: int, flags: int) -> tuple[Status, int]:
        block = np.empty(nbytes, np.uint8)
        address = block.ctypes.data
        self.memory[address], self.live[address] = block, "page-locked memory"
        return OK, address

    def cuMemFreeHost(self, address: int) -> tuple[Status]:
        del self.live[address], self.memory[address]
        return (OK,)

    def cuMemcpyHtoDAsync(self, target: int, source: int, nbytes: int, stream: int) -> tuple[Status]:
        assert self.recording is None and stream in self.live
        ctypes.memmove(target, source, nbytes)
        return (OK,)

    def cuMemcpyDtoHAsync(self, target: int, source: int, nbytes: int, stream: int) -> tuple[Status]:
        assert self.recording is None and stream in self.live
        ctypes.memmove(target, source, nbytes)
        return (OK,)

    def cuMemcpyDtoDAsync(self, target: int, source: int, nbytes: int, stream: int) -> tuple[Status]:
        return self.do(lambda: ctypes.memmove(target, source, nbytes) and None)

    def cuMemsetD8Async(self, address: int, byte: int, nbytes: int, stream: int) -> tuple[Status]:
        return self.do(lambda: ctypes.memset(address, byte, nbytes) and None)

    def cuModuleLoadDataEx(
        self, image: bytes, count: int, options: list[int], values: list[Any]
    ) -> tuple[Status, int | None]:
        assert image.endswith(b"\0") and count == 2
        if b"bad" in image:
            values[0][:24] = b"ptxas error : line 5 bad"
            return BAD, None
        return OK, self.handle("module")

    def cuModuleGetFunction(self, module: int, name: bytes) -> tuple[Status, str]:
        assert self.live[module] == "module"
        return OK, name.decode()

    def cuModuleUnload(self, module: int) -> tuple[Status]:
        del self.live[module]
        return (OK,)

    def cuFuncSetAttribute(self, function: str, attribute: int, value: int) -> tuple[Status]:
        if attribute == 8:
            self.shared[function] = value
        else:
            assert (attribute, value) == (9, 100)
        return (OK,)

    def cuLaunchKernel(self, function: str, *arguments: Any) -> tuple[Status]:
        return self.launch(function, *arguments)

    def launch(self, function: str, *arguments: Any) -> tuple[Status]:
        assert len(arguments) == 10 and min(arguments[:6]) > 0
        assert arguments[6] <= max(self.shared.get(function, 0), 48 * 1024)
        values, types = arguments[8]
        assert all(t in (ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64) for t in types)
        return self.do(lambda: KERNELS[function](self.view, values))

    def cuLaunchKernelEx(self, early: SimpleNamespace, function: str, *arguments: Any) -> tuple[Status]:
        (attribute,) = early.attrs
        assert (attribute.id, attribute.value.programmaticStreamSerializationAllowed, early.numAttrs) == (6, 1, 1)
        sizes = [getattr(early, f"{what}Dim{axis}") for what in ("grid", "block") for axis in "XYZ"]
        return self.launch(function, *sizes, early.sharedMemBytes, early.hStream, *arguments)

    @staticmethod
    def view(address: int, element: type, count: int) -> np.ndarray:
        size = count * np.dtype(element).itemsize
        return np.frombuffer((ctypes.c_uint8 * size).from_address(address), np.uint8).view(element)

    def cuEventCreate(self, flags: int) -> tuple[Status, int]:
        return OK, self.handle("event")

    def cuEventRecord(self, event: int, stream: int) -> tuple[Status]:
        assert self.live[event] == "event" and stream in self.live
        return (OK,)

    def cuStreamWaitEvent(self, stream: int, event: int, flags: int) -> tuple[Status]:
        assert self.live[event] == "event" and self.live[stream] == "stream"
        return (OK,)

    def cuEventSynchronize(self, event: int) -> tuple[Status]:
        assert self.live[event] == "event" and self.recording is None
        return (OK,)

    def cuEventElapsedTime(self, first: int, last: int) -> tuple[Status, float]:
        assert self.live[first] == self.live[last] == "event"
        return OK, 0.25

    def cuEventDestroy(self, event: int) -> tuple[Status]:
        del self.live[event]
        return (OK,)

    def cuStreamBeginCapture(self, stream: int, mode: int) -> tuple[Status]:
        self.recording = []
        return (OK,)

    def cuStreamEndCapture(self, stream: int) -> tuple[Status, int]:
        graph = self.handle("graph")
        self.graphs[graph], self.recording = self.recording or [], None
        return OK, graph

    def cuGraphDestroy(self, graph: int) -> tuple[Status]:
        del self.live[graph]
        return (OK,)

    def cuGraphInstantiate(self, graph: int, flags: int) -> tuple[Status, int]:
        executable = self.handle("executable graph")
        self.graphs[executable] = self.graphs[graph]
        return OK, executable

    def cuGraphLaunch(self, executable: int, stream: int) -> tuple[Status]:
        assert self.live[executable] == "executable graph"
        for effect in self.graphs[executable]:
            effect()
        return (OK,)

    def cuGraphExecDestroy(self, executable: int) -> tuple[Status]:
        del self.live[executable]
        return (OK,)

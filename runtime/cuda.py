"""The CUDA device: memory, kernels and graphs of one NVIDIA GPU, through the driver API.

In: PTX, addresses and launches. Out: the same done on the GPU; every driver call is checked and a failure is
a DeviceError that names it. It exists as the one place that knows the driver, which is passed in, so that
tests can make any call fail.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from .cuda_errors import describe
from .cuda_launch import (
    LEAST_CAPABILITY,
    LEAST_DRIVER,
    StreamOrder,
    dependent_configuration,
    waits_for_previous,
)
from .cuda_staging import Staging
from .cuda_tensor_map import encode
from .device import Extents, LaunchArgument, release_all
from .errors import DeviceError
from .tensor_map import TensorMap

_STATIC_SHARED_LIMIT = 48 * 1024  # bytes of dynamic shared memory that need no permission
_LOG_BYTES = 8192
_ARGUMENT_TYPES = {"pointer": ctypes.c_void_p, "i32": ctypes.c_int32, "i64": ctypes.c_int64}
_TARGET = re.compile(r"^\s*\.target\s+sm_(\d+)([af]?)", re.MULTILINE)


class CudaKernel:
    """A kernel function in a loaded module; `shared_limit` is the dynamic shared memory it may use so far, in
    bytes. One that `waits` for those before it may be launched while they run.
    """

    def __init__(self, name: str, function: Any, waits: bool = False) -> None:
        self.name = name
        self.function = function
        self.waits = waits
        self.shared_limit = _STATIC_SHARED_LIMIT


class CudaGraph:
    """An instantiated CUDA graph."""

    def __init__(self, device: CudaDevice, executable: Any) -> None:
        self._device = device
        self._executable = executable

    def launch(self) -> None:
        """Start the graph on the device's stream."""
        self._device.launch_graph(self._executable)

    def close(self) -> None:
        """Destroy it; a second call does nothing."""
        executable, self._executable = self._executable, None
        if executable is not None:
            self._device.destroy_graph(executable)


class CudaDevice:
    """One GPU, in its primary context, which other libraries share, with a stream of its own."""

    name = "cuda"

    def __init__(self, driver: Any = None, ordinal: int = 0) -> None:
        """Open GPU number `ordinal`. `driver` is `cuda.bindings.driver` unless a test passes its own."""
        self._driver = _import_driver() if driver is None else driver
        self.ordinal = ordinal
        self.description = ""
        self._device: Any = None
        self._context: Any = None
        self._stream: Any = None
        self._copies: Any = None  # the stream of uploads that go ahead, with the event that tells when they are done
        self._copied: Any = None
        self._staging = Staging(self._call)
        self._capability = (0, 0)
        self._order = StreamOrder()
        self._has_dependent_launch = False
        self._modules: list[Any] = []
        self._graphs: list[Any] = []
        self._allocations: set[int] = set()
        self._closed = False
        try:
            self._open()
        except DeviceError:
            with contextlib.suppress(DeviceError):
                self.close()
            raise

    def _open(self) -> None:
        self._call("cuInit", 0)
        count = self._call("cuDeviceGetCount")
        if self.ordinal >= count:
            raise DeviceError(f"CUDA: there is no GPU number {self.ordinal}; {count} found")
        device = self._call("cuDeviceGet", self.ordinal)
        attributes = self._driver.CUdevice_attribute
        major = self._call(
            "cuDeviceGetAttribute", attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device
        )
        minor = self._call(
            "cuDeviceGetAttribute", attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device
        )
        self._capability = (int(major), int(minor))
        recent = int(self._call("cuDriverGetVersion")) >= LEAST_DRIVER
        self._has_dependent_launch = recent and self._capability >= LEAST_CAPABILITY
        name = bytes(self._call("cuDeviceGetName", 256, device)).split(b"\0")[0].decode(errors="replace")
        memory = self._call("cuDeviceTotalMem", device)
        self.description = f"{name}, compute capability {major}.{minor}, {memory / 2**30:.0f} GiB"
        self._context = self._call("cuDevicePrimaryCtxRetain", device)
        self._device = device
        with self._active():
            self._stream = self._new_stream()

    def _new_stream(self) -> Any:
        """Non-blocking, so that capturing it does not forbid other libraries their default stream."""
        return self._call("cuStreamCreate", int(self._driver.CUstream_flags.CU_STREAM_NON_BLOCKING))

    # Calling the driver -----------------------------------------------------------------------------------
    def _call(self, name: str, *arguments: Any) -> Any:
        """One driver call: its result, or all its results as a tuple. Raises DeviceError naming the call."""
        try:
            status, *values = getattr(self._driver, name)(*arguments)
        except Exception as error:  # the bindings raise when the driver library or a function of it is absent
            first_line = next(iter(str(error).splitlines()), type(error).__name__)
            raise DeviceError(f"CUDA: {name} cannot be called: {first_line}") from error
        if int(status) != 0:
            raise DeviceError(f"CUDA: {name} failed: {describe(self._driver, status)}")
        self._order.note(name)
        return values[0] if len(values) == 1 else tuple(values)

    @contextlib.contextmanager
    def _active(self) -> Iterator[None]:
        """Make our context the calling thread's, and give it back its own afterwards."""
        if self._context is None:
            raise DeviceError("CUDA: the device is closed")
        self._call("cuCtxPushCurrent", self._context)
        try:
            yield
        except BaseException:
            with contextlib.suppress(DeviceError):
                self._call("cuCtxPopCurrent")
            raise
        self._call("cuCtxPopCurrent")

    def _call_all(self, calls: Sequence[tuple[str, Any]]) -> None:
        """Release resources: every call is made, whatever the others do; the first failure is raised at the
        end.
        """
        pushed = False

        def push() -> None:
            nonlocal pushed
            self._call("cuCtxPushCurrent", self._context)
            pushed = True

        def pop() -> None:
            if pushed:
                self._call("cuCtxPopCurrent")

        release_all([push, *(partial(self._call, *call) for call in calls), pop])

    # Memory -----------------------------------------------------------------------------------------------
    def allocate(self, nbytes: int) -> int:
        """Device memory, 256-byte aligned. Raises DeviceError when there is not enough."""
        address = 0
        try:
            with self._active():
                address = int(self._call("cuMemAlloc", max(nbytes, 1)))
                self._allocations.add(address)
        except DeviceError as error:
            with contextlib.suppress(DeviceError):
                self.free(address)
            raise DeviceError(f"{error}\n  while allocating {nbytes:,} bytes") from error
        return address

    def free(self, address: int) -> None:
        """Free memory; after `close`, the last one also gives the context back."""
        if address not in self._allocations:
            return
        self._allocations.discard(address)
        releases: list[Callable[[], None]] = [lambda: self._call_all([("cuMemFree", address)])]
        if self._closed and not self._allocations:
            releases.append(self._release)
        release_all(releases)

    def upload(self, address: int, array: np.ndarray[Any, Any]) -> None:
        """Copy a C-contiguous array to the device, behind what is already in the stream."""
        if array.nbytes:
            with self._active():
                self._staging.upload(address, array, self._stream)

    def upload_ahead(self, address: int, array: np.ndarray[Any, Any]) -> None:
        """Copy a C-contiguous array to the device, beside what is in the stream."""
        if array.nbytes:
            with self._active():
                if self._copies is None:
                    self._copies = self._new_stream()
                self._staging.upload(address, array, self._copies, ahead=True)

    def order_uploads(self) -> None:
        """What comes into the stream from now on waits for the uploads that went ahead."""
        if self._copies is None:
            return
        with self._active():
            if self._copied is None:
                self._copied = self._call("cuEventCreate", int(self._driver.CUevent_flags.CU_EVENT_DEFAULT))
            self._call("cuEventRecord", self._copied, self._copies)
            self._call("cuStreamWaitEvent", self._stream, self._copied, 0)

    def download(self, address: int, array: np.ndarray[Any, Any]) -> None:
        """Fill a C-contiguous array from the device and wait for it."""
        if array.nbytes:
            with self._active():
                self._call("cuMemcpyDtoHAsync", array.ctypes.data, address, array.nbytes, self._stream)
                self._call("cuStreamSynchronize", self._stream)

    def copy(self, target: int, source: int, nbytes: int) -> None:
        """Copy within the device, in the stream."""
        if nbytes:
            with self._active():
                self._call("cuMemcpyDtoDAsync", target, source, nbytes, self._stream)

    def fill(self, address: int, byte: int, nbytes: int) -> None:
        """Set bytes, in the stream."""
        if nbytes:
            with self._active():
                self._call("cuMemsetD8Async", address, byte, nbytes, self._stream)

    # Kernels ----------------------------------------------------------------------------------------------
    def load(self, name: str, ptx: str) -> CudaKernel:
        """JIT the PTX of one kernel. The DeviceError of a failure carries the driver's log."""
        self._check_target(name, ptx)
        options = self._driver.CUjit_option
        log = bytearray(_LOG_BYTES)
        keys = [options.CU_JIT_ERROR_LOG_BUFFER, options.CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES]
        try:
            with self._active():
                image = ptx.encode() + b"\0"
                module = self._call("cuModuleLoadDataEx", image, len(keys), keys, [log, _LOG_BYTES])
                self._modules.append(module)
                function = self._call("cuModuleGetFunction", module, name.encode())
                return CudaKernel(name, function, waits_for_previous(ptx))
        except DeviceError as error:
            text = bytes(log).split(b"\0")[0].decode(errors="replace").strip()
            detail = "".join(f"\n  {line}" for line in text.splitlines())
            raise DeviceError(f"{error}\n  while loading kernel {name!r}{detail}") from error

    def _check_target(self, name: str, ptx: str) -> None:
        """Architecture-specific PTX (`sm_90a`) runs on that architecture only, plain PTX on it and later
        ones.
        """
        found = _TARGET.search(ptx)
        if found is None:
            return
        number, suffix = int(found[1]), found[2]
        own = self._capability[0] * 10 + self._capability[1]
        same_family = own // 10 == number // 10 and own >= number
        if {"a": own == number, "f": same_family}.get(suffix, own >= number):
            return
        raise DeviceError(
            f"kernel {name!r} was compiled for sm_{number}{suffix} and this GPU is sm_{own}\n"
            f"  GPU: {self.description}\n"
            f"  compile the model again with --target sm_{own}, or run it on the emulator"
        )

    def tensor_map(self, description: TensorMap) -> bytes:
        """A CUtensorMap, encoded by the driver."""
        with self._active():
            return encode(self._call, self._driver, description)

    def may_begin_early(self, kernel: CudaKernel) -> bool:
        """Whether a launch of this kernel, put into the stream now, may begin before the work in front has ended."""
        return kernel.waits and self._has_dependent_launch and self._order.after_kernel

    def launch(
        self,
        kernel: CudaKernel,
        grid: Extents,
        block: Extents,
        shared_bytes: int,
        arguments: Sequence[LaunchArgument],
    ) -> None:
        """Put a launch into the stream. Right behind another one, a kernel that waits itself may begin early."""
        # Bytes go as a structure, whose own type says how long it is.
        values = tuple(_structure(value) if isinstance(value, bytes) else value for _, value in arguments)
        types = tuple(None if kind == "bytes" else _ARGUMENT_TYPES[kind] for kind, _ in arguments)
        with self._active():
            if shared_bytes > kernel.shared_limit:
                self._permit(kernel, shared_bytes)
            parameters = (values, types) if values else 0
            if self.may_begin_early(kernel):
                early = dependent_configuration(self._driver, grid, block, shared_bytes, self._stream)
                self._call("cuLaunchKernelEx", early, kernel.function, parameters, 0)
                return
            self._call(
                "cuLaunchKernel", kernel.function, *grid, *block, shared_bytes, self._stream, parameters, 0
            )

    def _permit(self, kernel: CudaKernel, shared_bytes: int) -> None:
        """Let a kernel have that much shared memory. Of what a multiprocessor divides between it and the first-level
        cache, most is asked for: as many blocks fit as can, and kernels in a row agree on the division.
        """
        attributes, all_shared = self._driver.CUfunction_attribute, 100  # percent
        for attribute, value in (
            (attributes.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, shared_bytes),
            (attributes.CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT, all_shared),
        ):
            self._call("cuFuncSetAttribute", kernel.function, attribute, value)
        kernel.shared_limit = shared_bytes

    def synchronize(self) -> None:
        """Wait for the stream; faults of earlier launches are raised here."""
        with self._active():
            self._call("cuStreamSynchronize", self._stream)

    def time(self, body: Callable[[], None]) -> float:
        """Run `body` and wait: seconds between two events of the stream, one before and one after what it starts."""
        with self._active():
            events: list[Any] = []
            try:
                flags = int(self._driver.CUevent_flags.CU_EVENT_DEFAULT)
                for _ in range(2):
                    events.append(self._call("cuEventCreate", flags))
                self._call("cuEventRecord", events[0], self._stream)
                body()
                self._call("cuEventRecord", events[1], self._stream)
                self._call("cuEventSynchronize", events[1])
                milliseconds = self._call("cuEventElapsedTime", events[0], events[1])
            except BaseException:
                with contextlib.suppress(DeviceError):
                    self._call_all([("cuEventDestroy", event) for event in events])
                raise
            self._call_all([("cuEventDestroy", event) for event in events])
        return float(milliseconds) / 1e3

    @property
    def capability(self) -> tuple[int, int]:
        """The compute capability, such as (9, 0)."""
        return self._capability

    @property
    def stream_handle(self) -> int:
        """The stream's address, for DLPack producers that order their work before ours."""
        return int(self._stream)

    def wait_for(self, stream: int | None) -> None:
        """Wait for another library's stream (a CUstream address, 1 and 2 are the default ones), or for all of
        them.
        """
        with self._active():
            if stream is None:
                self._call("cuCtxSynchronize")
            else:
                self._call("cuStreamSynchronize", stream)

    # Graphs -----------------------------------------------------------------------------------------------
    def capture(self, body: Callable[[], None]) -> CudaGraph | None:
        """Record what `body` puts into the stream, without running it."""
        # Relaxed: memory that Python happens to free meanwhile does not break the capture.
        mode = self._driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
        with self._active():
            self._call("cuStreamBeginCapture", self._stream, mode)
            try:
                body()
            except BaseException:
                with contextlib.suppress(DeviceError):
                    self._call("cuGraphDestroy", self._call("cuStreamEndCapture", self._stream))
                raise
            graph = self._call("cuStreamEndCapture", self._stream)
            try:
                executable = self._call("cuGraphInstantiate", graph, 0)
                self._graphs.append(executable)
            finally:
                self._call("cuGraphDestroy", graph)
        return CudaGraph(self, executable)

    def launch_graph(self, executable: Any) -> None:
        """Start an instantiated graph on the stream."""
        if executable is None:
            raise DeviceError("CUDA: the graph is closed")
        with self._active():
            self._call("cuGraphLaunch", executable, self._stream)

    def destroy_graph(self, executable: Any) -> None:
        """Destroy an instantiated graph."""
        if executable in self._graphs:
            self._graphs.remove(executable)
            self._call_all([("cuGraphExecDestroy", executable)])

    # Closing ----------------------------------------------------------------------------------------------
    def close(self) -> None:
        """Give everything back. Results still held by callers keep the context until the last of them is
        gone.
        """
        if self._closed:
            return
        self._closed = True
        if not self._allocations:
            self._release()

    def _release(self) -> None:
        if self._context is None:
            return
        calls = [("cuGraphExecDestroy", graph) for graph in self._graphs]
        calls += [("cuModuleUnload", module) for module in self._modules]
        calls += [("cuEventDestroy", self._copied)] if self._copied is not None else []
        calls += [("cuStreamDestroy", stream) for stream in (self._copies, self._stream) if stream is not None]
        calls += self._staging.releases()
        self._graphs, self._modules, self._stream, self._copies, self._copied = [], [], None, None, None
        release_context = partial(self._call, "cuDevicePrimaryCtxRelease", self._device)
        try:
            release_all([partial(self._call_all, calls), release_context])
        finally:
            self._context = None


def _structure(data: bytes) -> ctypes.Structure:
    """A ctypes structure that holds `data`."""

    class Parameter(ctypes.Structure):
        _fields_ = [("data", ctypes.c_ubyte * len(data))]

    return Parameter.from_buffer_copy(data)


def _import_driver() -> Any:
    try:
        from cuda.bindings import driver
    except ImportError as error:
        raise DeviceError(f"CUDA: cuda-bindings cannot be imported: {error}") from error
    return driver

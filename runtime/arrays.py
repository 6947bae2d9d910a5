"""Arrays at the border of a session: whatever a caller gives, and results that stay on the device.

In: numpy arrays, and anything with DLPack or `__cuda_array_interface__`. Out: host arrays or device addresses
for the session, and `DeviceArray` for the caller. It exists so that GPU memory of other libraries is used in
place, without a copy.
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from . import dlpack
from .cuda import CudaDevice
from .device import Device
from .dlpack import ForeignMemory
from .dtypes import COMPLEX, DType, from_numpy
from .errors import DeviceError, ModelError

Array = np.ndarray[Any, Any]


class Allocation:
    """Device memory that is given back when nobody refers to it any more."""

    def __init__(self, device: Device, nbytes: int) -> None:
        self.device = device
        self.address = device.allocate(max(nbytes, 1))

    def __del__(self, finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        address = getattr(self, "address", 0)
        if address and not finalizing():
            with contextlib.suppress(DeviceError):  # nobody is there to be told
                self.device.free(address)


class DeviceArray:
    """A result that was left on the device: `shape`, `dtype` (a numpy dtype), DLPack, `numpy()`.

    On the emulator, whose memory is the host's, it holds a numpy array. It stays valid after later runs and
    after the session is closed.
    """

    def __init__(self, element: DType, shape: tuple[int, ...], storage: Allocation | Array) -> None:
        self._element = element
        self._storage = storage
        self.shape = shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The element type as numpy sees it."""
        return self._element.numpy

    @property
    def nbytes(self) -> int:
        """Size of the elements in bytes."""
        return math.prod(self.shape) * self._element.bytes

    def numpy(self) -> Array:
        """A copy on the host."""
        if not isinstance(self._storage, Allocation):
            return np.array(self._storage)
        result: Array = np.empty(self.shape, self.dtype)
        if result.nbytes:
            self._storage.device.download(self._storage.address, result)
        return result

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        array = self.numpy()
        return array if dtype is None else array.astype(dtype)

    def __dlpack_device__(self) -> tuple[int, int]:
        if isinstance(self._storage, Allocation) and isinstance(self._storage.device, CudaDevice):
            return (dlpack.CUDA, self._storage.device.ordinal)
        return (dlpack.CPU, 0)

    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: Any = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        # Results are complete before `run` returns, so no stream has to wait for another.
        place = self.__dlpack_device__()
        if dl_device is not None and tuple(dl_device) != place:
            raise BufferError(f"the array is on DLPack device {place}; use numpy() for a copy on the host")
        storage = self._storage
        if isinstance(storage, Allocation):
            if copy:
                raise BufferError("the array is lent without a copy only")
            return dlpack.lend(storage.address, self._element, self.shape, place, storage)
        storage = storage.copy() if copy else storage
        return dlpack.lend(storage.ctypes.data, self._element, self.shape, place, storage)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        if self.__dlpack_device__()[0] != dlpack.CUDA or not isinstance(self._storage, Allocation):
            raise AttributeError("__cuda_array_interface__: the array is not in CUDA memory")
        if self._element.name == "bf16":
            raise AttributeError("__cuda_array_interface__ has no bfloat16: use DLPack")
        address = self._storage.address
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (address, False),
            "version": 3,
            "strides": None,
            "stream": None,
        }

    def __repr__(self) -> str:
        kind = "cuda" if self.__dlpack_device__()[0] == dlpack.CUDA else "host"
        return f"DeviceArray({self._element.name}{list(self.shape)}, {kind})"


def accept(value: Any, device: Device, what: str) -> Array | ForeignMemory:
    """The value as a host array, or as memory of `device` where it is there already.

    Raises ModelError, starting with `what`, for anything that is no array or lives on another device.
    """
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value)
    try:
        if hasattr(value, "__dlpack__") and hasattr(value, "__dlpack_device__"):
            return _accept_dlpack(value, device, what)
        if hasattr(value, "__cuda_array_interface__"):
            return _accept_cuda_interface(value.__cuda_array_interface__, device, what, value)
        array = np.asarray(value)
    except ModelError:
        raise
    except Exception as error:  # foreign code may raise anything
        raise ModelError(f"{what}: {type(value).__name__} cannot be used as an array: {error}") from error
    if array.dtype == object:
        raise ModelError(f"{what}: {type(value).__name__} is no array")
    return array


def _cuda_device(device: Device, what: str, ordinal: int | None) -> CudaDevice:
    if not isinstance(device, CudaDevice):
        raise ModelError(
            f"{what} is in CUDA memory and the session runs on the {device.name}: copy it to the host first"
        )
    if ordinal is not None and ordinal != device.ordinal:
        raise ModelError(f"{what} is on CUDA device {ordinal} and the session on device {device.ordinal}")
    return device


def _accept_dlpack(value: Any, device: Device, what: str) -> Array | ForeignMemory:
    kind, ordinal = value.__dlpack_device__()
    if kind in (dlpack.CPU, dlpack.CUDA_HOST):
        return view(dlpack.read(value.__dlpack__()))
    if kind in (dlpack.CUDA, dlpack.CUDA_MANAGED):
        owner = _cuda_device(device, what, ordinal if kind == dlpack.CUDA else None)
        # The producer makes our stream wait for its own work on the array.
        return dlpack.read(value.__dlpack__(stream=owner.stream_handle))
    raise ModelError(f"{what} is on a device that tilewright cannot reach (DLPack device type {int(kind)})")


def _accept_cuda_interface(interface: dict[str, Any], device: Device, what: str, owner: Any) -> ForeignMemory:
    target = _cuda_device(device, what, None)
    if interface.get("mask") is not None:
        raise ModelError(f"{what}: masked arrays are not supported")
    element = from_numpy(np.dtype(interface["typestr"]))
    shape = tuple(int(extent) for extent in interface["shape"])
    strides = interface.get("strides") or dlpack.contiguous_strides(shape, element.bytes)
    stream = interface.get("stream")
    if stream is not None:
        target.wait_for(int(stream))
    elif int(interface.get("version", 0)) < 3:
        target.wait_for(None)  # before version 3 the producer's stream is unknown
    address = int(interface["data"][0] or 0)
    return ForeignMemory(address, element, shape, tuple(int(step) for step in strides), owner)


def view(memory: ForeignMemory) -> Array:
    """Host memory of another library as a numpy array over the same bytes, which keeps its owner alive."""
    if 0 in memory.shape:
        return np.empty(memory.shape, memory.dtype.numpy)
    return np.asarray(_HostMemory(memory)).view(memory.dtype.numpy)


class _HostMemory:
    """Lets numpy see foreign memory through the array interface, as integers of the same size (bfloat16 has
    no code), complex numbers as such.
    """

    def __init__(self, memory: ForeignMemory) -> None:
        self.memory = memory
        size = memory.dtype.bytes
        kind = memory.dtype.numpy.str if memory.dtype.name in COMPLEX else f"<u{size}" if size > 1 else "|u1"
        self.__array_interface__ = {
            "version": 3,
            "shape": memory.shape,
            "typestr": kind,
            "data": (memory.address, True),
            "strides": memory.strides,
        }


def is_contiguous(memory: ForeignMemory) -> bool:
    """True when the elements stand in C order without gaps; strides of dimensions of extent 1 or less do not
    count.
    """
    wanted = dlpack.contiguous_strides(memory.shape, memory.dtype.bytes)
    pairs = zip(memory.shape, memory.strides, wanted, strict=True)
    return 0 in memory.shape or all(extent == 1 or own == step for extent, own, step in pairs)


def gather(memory: ForeignMemory, device: Device) -> Array:
    """A host copy of device memory with any strides: the whole span is read, then viewed."""
    if 0 in memory.shape:
        return np.empty(memory.shape, memory.dtype.numpy)
    reach = [(extent - 1) * step for extent, step in zip(memory.shape, memory.strides, strict=True)]
    low, high = sum(min(step, 0) for step in reach), sum(max(step, 0) for step in reach)
    span = np.empty(high - low + memory.dtype.bytes, np.uint8)
    device.download(memory.address + low, span)
    host = ForeignMemory(span.ctypes.data - low, memory.dtype, memory.shape, memory.strides, span)
    return np.ascontiguousarray(view(host))

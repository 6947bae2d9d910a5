"""What a failed call of the CUDA driver means.

In: the status of a call. Out: its name and text, and for those that users meet, what to do. Faults of kernels are told
by whatever call comes next, and leave the process without its GPU: that has to be said.
"""

from __future__ import annotations

from typing import Any

_FAULT = (
    "a kernel that was launched before has failed, and this process cannot use the GPU any longer\n"
    "  the same run on the emulator names the kernel and the access: tilewright run --device emulator"
)
_LOST = "the GPU is gone from this process (reset, unplugged or taken away); start the process anew"
HINTS = {
    "CUDA_ERROR_OUT_OF_MEMORY": "memory is full: nvidia-smi tells who else uses the GPU's; smaller inputs need less",
    "CUDA_ERROR_ILLEGAL_ADDRESS": _FAULT,
    "CUDA_ERROR_MISALIGNED_ADDRESS": _FAULT,
    "CUDA_ERROR_ILLEGAL_INSTRUCTION": _FAULT,
    "CUDA_ERROR_HARDWARE_STACK_ERROR": _FAULT,
    "CUDA_ERROR_LAUNCH_FAILED": _FAULT,
    "CUDA_ERROR_LAUNCH_TIMEOUT": "a kernel ran longer than the GPU that drives a display allows",
    "CUDA_ERROR_DEVICE_UNAVAILABLE": "the GPU is taken: another process may use it alone (exclusive mode)",
    "CUDA_ERROR_CONTEXT_IS_DESTROYED": _LOST,
    "CUDA_ERROR_ECC_UNCORRECTABLE": _LOST,
    "CUDA_ERROR_NVLINK_UNCORRECTABLE": _LOST,
    "CUDA_ERROR_NO_DEVICE": "there is no NVIDIA GPU here, or CUDA_VISIBLE_DEVICES hides it",
    "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH": "libcuda and the driver in the kernel differ: restart the machine",
}


def describe(driver: Any, status: Any) -> str:
    """A status by name, with the driver's text and, on a line of its own, what it means for the user."""
    name = getattr(status, "name", str(status))
    hint = f"\n  {HINTS[name]}" if name in HINTS else ""
    try:
        code, text = driver.cuGetErrorString(status)
        return f"{name}: {bytes(text).decode()}{hint}" if int(code) == 0 else f"{name}{hint}"
    except Exception:  # the description of an error must not hide it
        return f"{name}{hint}"

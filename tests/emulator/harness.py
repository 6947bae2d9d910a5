"""Runs PTX on the emulator from tests.

In: PTX text, NumPy arrays, scalars. Out: the arrays after the launch. Why: allocation, upload and download are the
same everywhere.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tilewright.runtime.emulator.device import EmulatorDevice
from tilewright.runtime.emulator.policy import VARIABLE

CUDA = Path(__file__).parent / "cuda"


class Runner:
    """A device and the kernels of one PTX text."""

    def __init__(self, ptx: str, engine: str | None = None, refusals: bool = False) -> None:
        """`engine` as in `EmulatorDevice`; by default the environment decides (conftest.py sets it). `refusals`: the
        fast engine may lack what the kernels need."""
        self.ptx = ptx
        self.refusals = refusals
        self.device = EmulatorDevice(engine=engine)

    @classmethod
    def of(cls, stem: str, engine: str | None = None) -> Runner:
        """The PTX that nvcc made of cuda/<stem>.cu."""
        return cls((CUDA / f"{stem}.ptx").read_text(), engine)

    def __call__(
        self,
        name: str,
        *arguments: Any,
        grid: Sequence[int] = (1,),
        block: Sequence[int] = (32,),
        shared: int = 0,
    ) -> list[Any]:
        """Launch; arrays go by pointer and come back changed, ints as i32, np.int64 as i64."""
        kernel = self.device.load(name, self.ptx)
        packed: list[tuple[str, int]] = []
        pointers = []
        for argument in arguments:
            if isinstance(argument, np.ndarray):
                address = self.device.allocate(argument.nbytes)
                self.device.upload(address, argument)
                pointers.append((address, argument))
                packed.append(("pointer", address))
            else:
                packed.append(("i64" if isinstance(argument, np.int64) else "i32", int(argument)))
        gx, gy, gz = (*grid, 1, 1)[:3]
        bx, by, bz = (*block, 1, 1)[:3]
        self.device.launch(kernel, (gx, gy, gz), (bx, by, bz), shared, packed)
        refused = [choice.reason for choice in kernel.choices.values() if choice.engine == "refused"]
        assert self.refusals or not refused, refused
        results = []
        for address, array in pointers:
            result = np.empty_like(array)
            self.device.download(address, result)
            self.device.free(address)
            results.append(result)
        return results


_LOADS = {1: "b8", 2: "b16", 4: "b32", 8: "b64"}


def instruction_kernel(body: str, inputs: Sequence[str], output: str, registers: str = "") -> str:
    """PTX of a kernel `k` that runs `body` once per thread on registers %a, %b, %c (types `inputs`) and stores %d.

    `pred` outputs are stored as 0 or 1 of 32 bits.
    """
    sizes = {"8": 1, "16": 2, "32": 4, "64": 8, "f16x2": 4, "bf16x2": 4, "bf16": 2, "pred": 4}

    def size(type: str) -> int:
        return sizes.get(type) or sizes[type.lstrip("usbf")]

    declared = {8: "b16", 16: "b16", 32: "b32", 64: "b64"}
    lines = [".version 8.0", ".target sm_90", ".address_size 64", ".visible .entry k("]
    lines.append(", ".join(f".param .u64 p{index}" for index in range(len(inputs) + 1)) + ") {")
    lines.append(".reg .b64 %rd<20>; .reg .b32 %t; .reg .pred %p, %q; " + registers)
    for letter, type in zip("abc", inputs, strict=False):
        lines.append(f".reg .{declared[8 * size(type)]} %{letter};")
    lines.append(f".reg .{'pred' if output == 'pred' else declared[8 * size(output)]} %d;")
    lines.append("mov.u32 %t, %ctaid.x; mad.lo.u32 %t, %t, 32, 0; ")
    lines.append(".reg .b32 %lane; mov.u32 %lane, %tid.x; add.u32 %t, %t, %lane;")
    for index, (letter, type) in enumerate(zip("abc", inputs, strict=False)):
        lines.append(f"ld.param.u64 %rd0, [p{index}]; mad.wide.u32 %rd1, %t, {size(type)}, %rd0;")
        lines.append(f"ld.global.{_LOADS[size(type)]} %{letter}, [%rd1];")
    lines.append(body)
    lines.append(f"ld.param.u64 %rd0, [p{len(inputs)}]; mad.wide.u32 %rd1, %t, {size(output)}, %rd0;")
    if output == "pred":
        lines.append(".reg .b32 %flag; selp.u32 %flag, 1, 0, %d; st.global.b32 [%rd1], %flag;")
    else:
        lines.append(f"st.global.{_LOADS[size(output)]} [%rd1], %d;")
    lines.append("ret; }")
    return "\n".join(lines)


@functools.lru_cache(maxsize=64)
def _runner(body: str, inputs: tuple[str, ...], output: str, engine: str) -> Runner:
    return Runner(instruction_kernel(body, inputs, output), engine)


def apply_instruction(
    body: str, inputs: Sequence[str], output: str, arrays: Sequence[Any], dtype: str
) -> Any:
    """Run `body` on equally long arrays (padded to whole warps here); gives the output as `dtype`."""
    length = len(arrays[0])
    padded = -(-length // 32) * 32
    runner = _runner(body, tuple(inputs), output, os.environ.get(VARIABLE, "auto"))
    given = [np.resize(array, padded) for array in arrays]
    result = np.zeros(padded, "u4" if output == "pred" else dtype)
    *_, answer = runner("k", *given, result, grid=(padded // 32,))
    return answer[:length].astype(bool) if output == "pred" else answer[:length]

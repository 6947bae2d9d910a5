"""The CUDA device over the real cuda-bindings, with a stand-in for the driver library that a C compiler makes
here.

It shows that every argument reaches C as meant; it says nothing about a GPU.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMPILER = shutil.which("cc")

SCRIPT = """
import ctypes
from tests.runtime.test_cuda import whole_life
from tilewright.runtime.cuda import CudaDevice
from tilewright.runtime.errors import DeviceError

whole_life(None)
device = CudaDevice()
print(device.description)
for action in (
    lambda: device.load("add", "bad"), lambda: device.allocate(1 << 40), lambda: device.wait_for(1)
):
    try:
        action()
    except DeviceError as error:
        print(error)
device.close()
print("alive:", ctypes.CDLL("libcuda.so.1").stand_in_live())
"""

EXPECTED = """\
Stand-in, compute capability 9.0, 8 GiB
CUDA: cuModuleLoadDataEx failed: CUDA_ERROR_INVALID_PTX: some error
  while loading kernel 'add'
  ptxas error : this PTX is bad
CUDA: cuMemAlloc failed: CUDA_ERROR_OUT_OF_MEMORY: out of memory
  memory is full: nvidia-smi tells who else uses the GPU's; smaller inputs need less
  while allocating 1,099,511,627,776 bytes
CUDA: cuStreamSynchronize failed: CUDA_ERROR_INVALID_HANDLE: some error
alive: 0
"""


MAPS = """
import numpy as np
from tilewright.runtime.cuda import CudaDevice
from tilewright.runtime.tensor_map import Im2col, TensorMap

device = CudaDevice()
tiled = TensorMap("bfloat16", 4096, (64, 48), (128,), (32, 16), (1, 2), "64b", "128b", "nan")
im2col = TensorMap(
    "float32", 256, (16, 9, 7, 2), (64, 576, 4032), (), (1, 2, 2, 1), "none", im2col=Im2col((-1, -2), (3, -4), 16, 40)
)
out = np.zeros(16, "u8")
for made in (tiled, im2col):
    data = device.tensor_map(made)
    kernel = device.load("peek", ".target sm_90 // peek")
    device.launch(kernel, (1, 1, 1), (128, 1, 1), 0, [("bytes", data), ("pointer", out.ctypes.data)])
    assert out.tobytes() == data
    print(*(f"{word:x}" for word in out.tolist()))
device.close()
"""

EARLY = """
import ctypes
import numpy as np
from tilewright.runtime.cuda import CudaDevice

device = CudaDevice()
out = np.zeros(16, "u8")
kernel = device.load("peek", ".target sm_90 // peek\\n griddepcontrol.wait;")
told = []
for _ in range(3):
    told.append(device.may_begin_early(kernel))
    device.launch(kernel, (1, 1, 1), (128, 1, 1), 64, [("bytes", bytes(range(128))), ("pointer", out.ctypes.data)])
    assert out.tobytes() == bytes(range(128))
device.fill(out.ctypes.data, 0xFF, 64)
device.wait_for(None)
assert out.tobytes() == bytes([255] * 64) + bytes(range(64, 128))
told.append(device.may_begin_early(kernel))
print("early:", told, ctypes.CDLL("libcuda.so.1").stand_in_early())
device.close()
"""

EARLY_EXPECTED = "early: [False, True, True, False] 2\n"  # behind a launch each, and none behind a fill

# Type, rank, address, interleave, swizzle, promotion, fill; extent, step and stride of each dimension; box; the rest.
MAPS_EXPECTED = """\
9 2 1000 0 2 2 1 800100000040 200000030 0 0 0 100020 0 0 0
7 4 100 0 0 0 0 400100000010 2400200000009 fc00200000007 100000002 0 0 fcfe03ff 2800000010 0
"""


TALKS = [("session", SCRIPT, EXPECTED), ("maps", MAPS, MAPS_EXPECTED), ("early", EARLY, EARLY_EXPECTED)]


@pytest.mark.skipif(COMPILER is None or sys.platform != "linux", reason="needs a C compiler on Linux")
@pytest.mark.parametrize(("name", "script", "expected"), TALKS, ids=[name for name, *_ in TALKS])
def test_arguments_reach_the_driver(tmp_path: Path, name: str, script: str, expected: str) -> None:
    source = Path(__file__).with_name("libcuda_stand_in.c")
    library = tmp_path / "libcuda.so.1"
    subprocess.run([str(COMPILER), "-shared", "-fPIC", "-o", library, source], check=True, timeout=60)
    environment = os.environ | {"LD_LIBRARY_PATH": str(tmp_path), "PYTHONPATH": f"{ROOT}:{ROOT / '.pkg'}"}
    command = [sys.executable, "-c", script]
    finished = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (finished.stdout, finished.stderr) == (expected, "")

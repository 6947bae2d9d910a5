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
  while allocating 1,099,511,627,776 bytes
CUDA: cuStreamSynchronize failed: CUDA_ERROR_INVALID_HANDLE: some error
alive: 0
"""


@pytest.mark.skipif(COMPILER is None or sys.platform != "linux", reason="needs a C compiler on Linux")
def test_arguments_reach_the_driver(tmp_path: Path) -> None:
    source = Path(__file__).with_name("libcuda_stand_in.c")
    library = tmp_path / "libcuda.so.1"
    subprocess.run([str(COMPILER), "-shared", "-fPIC", "-o", library, source], check=True, timeout=60)
    environment = os.environ | {"LD_LIBRARY_PATH": str(tmp_path), "PYTHONPATH": f"{ROOT}:{ROOT / '.pkg'}"}
    command = [sys.executable, "-c", SCRIPT]
    finished = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (finished.stdout, finished.stderr) == (EXPECTED, "")

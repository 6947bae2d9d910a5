"""The instruction table fills itself on first use, which may be that of several threads."""

from __future__ import annotations

import subprocess
import sys

SECOND_THREAD = """
import importlib, threading, time
from tilewright.runtime.emulator import isa

def slow(name, import_module=importlib.import_module):
    module = import_module(name)
    time.sleep(0.03)
    return module

importlib.import_module = slow
first = threading.Thread(target=isa.table)
first.start()
time.sleep(0.1)  # some of its modules are there, and some are not
seen = len(isa.table())
first.join()
print(seen == len(isa.table()) > 0)
"""


def test_a_second_thread_sees_the_whole_table() -> None:
    """Where two sessions were opened at once, one was told that `cvt` is not supported."""
    result = subprocess.run([sys.executable, "-c", SECOND_THREAD], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (0, "True\n"), result.stderr

"""How many bytes a thread has asked memory for when it first waits for one of them, read from SASS.

In: nvdisasm's text of a kernel. Out: bytes. Why: a kernel that memory bounds reaches its bandwidth only with enough of
it on the way (Little's law: bandwidth times latency), and the table shows which kernels cannot.
"""

from __future__ import annotations

import re

from tilewright.runtime.gpus import Gpu

LATENCY = 700e-9
"""Seconds of a load from DRAM, about: an assumption, not measured here."""
_LINE = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\d+\s+)?([A-Z0-9_.]+)([^;]*)")
_REGISTER = re.compile(r"\bR(\d+)\b")
_WIDTHS = {"128": 16, "64": 8, "U16": 2, "S16": 2, "U8": 1, "S8": 1}


def bytes_in_flight(sass: str) -> int:
    """The most bytes that one thread has loaded, or copied by cp.async, before an instruction needs one of them. Code
    is read from top to bottom, so what a loop asks for on behalf of its next turn is not counted: a lower bound.
    """
    waiting: dict[int, int] = {}  # registers to bytes
    copied = most = 0
    for opcode, operands in _LINE.findall(sass):
        name, *parts = opcode.split(".")
        registers = [int(number) for number in _REGISTER.findall(operands)]
        if name == "DEPBAR":
            copied = 0
        elif any(register in waiting for register in (registers[1:] if name == "LDG" else registers)):
            waiting = {}  # loads come back in order, nearly
        width = next((_WIDTHS[part] for part in parts if part in _WIDTHS), 4)
        if name == "LDG" and registers:
            for register in range(registers[0], registers[0] + -(-width // 4)):
                waiting[register] = min(width, 4)
        elif name == "LDGSTS":
            copied += width
        most = max(most, sum(waiting.values()) + copied)
    return most


def needed(gpu: Gpu) -> float:
    """Bytes that each multiprocessor must have in flight for the card's bandwidth."""
    return gpu.bandwidth * 1e9 * LATENCY / gpu.multiprocessors

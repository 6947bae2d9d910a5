"""Kernels that somebody wrote in PTX: nothing to tile, only the record that the later stages want.

In: a function without a body that says what to launch (dialects/given_kernel.py). Out: its `KernelProgram`, whose
text is the PTX with the entry renamed, since an engine names kernels uniquely.
"""

from __future__ import annotations

import re

from ...dialects.given_kernel import KIND, is_tensor, read
from ..unit import KernelProgram, LaunchItem
from .programs import Request, nodes_of, tile_program


@tile_program(KIND)
def custom(request: Request) -> KernelProgram:
    """The program of a given kernel."""
    given = read(request.function)
    block = given.block
    return KernelProgram(
        name=request.name,
        text=renamed(given.ptx, given.entry, request.name),
        kind=KIND,
        grid=given.grid,
        block=block[0] * block[1] * block[2],
        arguments=[_item(argument) for argument in given.arguments],
        nodes=nodes_of(request.function),
        prepared=given.preparations,
        given=given,
    )


def renamed(ptx: str, entry: str, name: str) -> str:
    """The PTX with its entry called `name`."""
    return re.sub(rf"(\.entry\s+){re.escape(entry)}(?![\w$])", lambda found: found.group(1) + name, ptx, count=1)


def _item(argument: str) -> LaunchItem:
    if not is_tensor(argument):
        return ("symbol", argument)
    kind, number = argument.split()
    return (kind, int(number))

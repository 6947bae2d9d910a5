"""A kernel that spills because ptxas guessed an occupancy is assembled again with leave to use more registers."""

from __future__ import annotations

from tilewright.compiler.backend.assemble import Assembly
from tilewright.compiler.backend.kernel import _without_spills

PTX = ".visible .entry k(\n\t.param .u32 n\n)\n.reqntid 128, 1, 1\n{\n\tret;\n}\n"


def assembled(spills: int) -> Assembly:
    return Assembly(registers=80, spills=spills, stack_bytes=0, shared_bytes=0, warnings=())


def test_relaxed_when_it_helps() -> None:
    ptx, assembly = _without_spills(PTX, assembled(96), lambda text: assembled(0 if ".minnctapersm 1" in text else 96))
    assert ".reqntid 128, 1, 1\n.minnctapersm 1\n{" in ptx
    assert assembly.spills == 0


def test_left_alone_when_it_does_not() -> None:
    assert _without_spills(PTX, assembled(96), lambda text: assembled(96)) == (PTX, assembled(96))


def test_not_assembled_twice_without_need() -> None:
    def fail(text: str) -> Assembly:
        raise AssertionError("assembled again")

    assert _without_spills(PTX, assembled(0), fail) == (PTX, assembled(0))
    asked = PTX.replace("1, 1\n", "1, 1\n.minnctapersm 1\n")
    assert _without_spills(asked, assembled(8), fail) == (asked, assembled(8))

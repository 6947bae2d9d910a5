"""Bytes in flight, on SASS as nvdisasm prints it."""

from __future__ import annotations

import pytest
from benchmarks.in_flight import bytes_in_flight, needed

from tilewright.runtime.gpus import gpu_of_target

_LOAD = "/*0000*/ LDG.E.128 R{0}, desc[UR4][R{1}.64] ;"
_TWO = [_LOAD.format(8, 2), _LOAD.format(12, 2)]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["/*0000*/ IADD3 R1, R2, R3, RZ ;"], 0),
        (_TWO, 32),
        ([_TWO[0], "/*0010*/ FADD R1, R11, R3 ;", _TWO[1]], 16),  # the last register of the first load
        ([_TWO[0], "/*0010*/ FADD R1, R2, R3 ;", _TWO[1]], 32),
        ([_LOAD.format(8, 2), _LOAD.format(2, 8)], 16),  # the address is what was loaded
        (["/*0000*/ @!P0 LDG.E.U16 R4, desc[UR4][R2.64] ;", "/*0010*/ @P1 LDG.E R5, desc[UR4][R2.64+0x2] ;"], 6),
        (["/*0000*/ LDGSTS.E.BYPASS.128 [R3], desc[UR4][R6.64] ;"] * 3 + ["/*0010*/ LDGDEPBAR ;"], 48),
        ([*(["/*0000*/ LDGSTS.E.BYPASS.128 [R3], desc[UR4][R6.64] ;", "/*0010*/ DEPBAR.LE SB0, 0x0 ;"] * 2)], 16),
    ],
)
def test_loads_before_the_first_use(lines: list[str], expected: int) -> None:
    assert bytes_in_flight("\n".join(lines)) == expected


def test_what_an_h100_needs() -> None:
    assert 17_000 < needed(gpu_of_target("sm_90a")) < 18_500  # 3.35 TB/s times 700 ns over 132 multiprocessors

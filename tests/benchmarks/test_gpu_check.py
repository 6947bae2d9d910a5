"""The check of a bundle on a GPU, with a device that stops working between two stages: each of them finds out."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks.gpu_check import LATER, ONE_BY_ONE, SHARING, check_shape, main
from benchmarks.gpu_ladder import RUNGS
from benchmarks.gpu_worker import Notes

import tilewright
from tilewright.runtime.emulator.device import EmulatorDevice
from tilewright.runtime.measuring import Measurement
from tilewright.runtime.session import Session

STAGES = (ONE_BY_ONE, *LATER)


class FailingDevice(EmulatorDevice):
    """Passes for a GPU; from the stage `dead_from` on its kernels do nothing."""

    name = "cuda"

    def __init__(self, notes: Notes, dead_from: str) -> None:
        super().__init__()
        self._notes = notes
        self._dead = STAGES[STAGES.index(dead_from) :] if dead_from else ()

    def launch(self, *arguments) -> None:  # type: ignore[no-untyped-def]
        if self._notes.stage not in self._dead:
            super().launch(*arguments)


@pytest.mark.parametrize("dead_from", [*STAGES, ""])
def test_a_stage_whose_kernels_do_nothing_is_wrong(dead_from: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "measure", lambda *_: Measurement((1e-6,), 1, True))
    rung = next(own for own in RUNGS if own.name == "wgmma")
    inputs, expected = rung.case()
    engine, notes = tilewright.compile(rung.model(), target="sm_90a", precision=rung.precision), Notes()
    with (
        engine.session(FailingDevice(notes, dead_from), checked=True) as checked,
        engine.session(FailingDevice(notes, dead_from)) as plain,
    ):
        record = check_shape(checked, plain, inputs, expected, rung.tolerance, notes)
    assert record["wrong"] == list(STAGES[STAGES.index(dead_from) :] if dead_from else ())
    assert record["right"] == (not dead_from) == ("seconds" in record)
    assert np.isinf(record["difference"]) or dead_from in ("", SHARING)


def test_a_folder_without_a_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", str(tmp_path)])
    with pytest.raises(SystemExit, match="holds no bundle: `make gpu-bundle` writes one"):
        main()

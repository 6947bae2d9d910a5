"""The ladder of engines that a GPU is tried with first: it needs all that kernels may, one thing after the other."""

from __future__ import annotations

import numpy as np
from benchmarks.gpu_ladder import FEATURES, RUNGS, features

import tilewright

EMULATED = ("mma-sync", "wgmma-two-panels", "f16-TN", "e4m3-NT", "split-cluster", "pixels-stride", "decode")


def test_every_feature_has_a_rung_and_answers_are_right() -> None:
    needed: list[str] = []
    for rung in RUNGS:
        engine = tilewright.compile(rung.model(), target=rung.target or "sm_90a", precision=rung.precision)
        found = features(map(engine.ptx, engine.kernels))
        assert not found or rung.target or "may begin early" in found, rung.name
        needed += found
        if rung.name not in EMULATED:
            continue
        inputs, expected = rung.case()
        with engine.session("emulator", checked=True) as session:
            for name, result in session.run(inputs).items():
                wanted = expected[name].astype(np.float64)
                gap = np.abs(result.astype(np.float64) - wanted).max()
                assert result.dtype == expected[name].dtype
                assert gap <= rung.tolerance * np.abs(wanted).max(), rung.name
    assert set(needed) == set(FEATURES)
    assert len({rung.name for rung in RUNGS}) == len(RUNGS)

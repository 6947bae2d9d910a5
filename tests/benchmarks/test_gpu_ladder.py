"""The ladder of engines that a GPU is tried with first: it needs all that kernels may, one thing after the other."""

from __future__ import annotations

import numpy as np
from benchmarks.gpu_ladder import FEATURES, RUNGS, features
from onnx import numpy_helper

import tilewright

CHAINS = ("in-a-row", "in-a-row-multicast")
EMULATED = ("mma-sync", "wgmma-two-panels", "f16-TN", "e4m3-NT", "split-cluster", "pixels-stride", "decode", *CHAINS)


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


def test_chains_are_kernels_in_a_row_that_fetch_weights_early() -> None:
    for rung in (own for own in RUNGS if own.name in CHAINS):
        engine = tilewright.compile(rung.model(), target="sm_90a", precision=rung.precision)
        launched = [launch.kernel for launch in engine.program.launches]
        needs = [features([engine.ptx(kernel)]) for kernel in launched]
        assert len(launched) == 3 and all("weights before the wait" in own for own in needs), rung.name
        clustered = ["multicast" in own for own in needs]
        assert clustered == ([True, False, True] if rung.name.endswith("multicast") else [False] * 3)
        blocks = [launch.grid[0].evaluate({}) for launch in engine.program.launches]
        assert blocks == ([132, 104, 132] if rung.name.endswith("multicast") else [32] * 3)
        inputs, expected = rung.case()
        product = inputs["a"].astype(np.float64)
        for weight in rung.model().graph.initializer:
            product = product @ numpy_helper.to_array(weight).astype(np.float64)
            assert np.abs(product).max() < 2048  # exact in f16
        np.testing.assert_array_equal(expected["y"], product)

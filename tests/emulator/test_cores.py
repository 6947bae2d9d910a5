"""Several cores: the same answers and the same findings as one."""

from __future__ import annotations

import numpy as np
import pytest
from tests.emulator.harness import Runner

from tilewright.runtime.emulator.device import EmulatorDevice
from tilewright.runtime.errors import DeviceError


def _runner(stem: str, cores: int) -> Runner:
    runner = Runner.of(stem)
    runner.device = EmulatorDevice(cores=cores)
    return runner


def test_same_answers() -> None:
    random = np.random.default_rng(0)
    a = random.standard_normal((512, 16)).astype("f4")
    b = random.standard_normal((16, 512)).astype("f4")
    answers = [
        _runner("sgemm", cores)(
            "sgemm", a, b, np.zeros((512, 512), "f4"), 512, 512, 16, grid=(4, 4), block=(256,)
        )[2]
        for cores in (1, 2, 5)
    ]
    assert (answers[0] == answers[1]).all() and (answers[0] == answers[2]).all()


def test_same_finding() -> None:
    texts = set()
    for cores in (1, 4, 4, 4):
        runner = _runner("faults", cores)
        with pytest.raises(DeviceError) as caught:
            runner("overrun", np.zeros(256 * 64, "f4"), 5000, grid=(64,), block=(256,))
        message = str(caught.value)
        texts.add(message[message.index("\n  block") :])
        # The device goes on working.
        x = np.zeros(512, "f4")
        assert (runner("overrun", x, 0, grid=(2,), block=(256,))[0] == 1).all()
        runner.device.close()
    assert len(texts) == 1

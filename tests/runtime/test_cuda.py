"""The CUDA device over a driver in which any one call fails."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from tests.runtime.engines import affine, affine_result
from tests.runtime.fake_driver import FakeDriver, Status

from tilewright.runtime import cuda_staging
from tilewright.runtime.cuda import CudaDevice
from tilewright.runtime.errors import DeviceError
from tilewright.runtime.session import Session

X = np.arange(12, dtype=np.float32).reshape(3, 4)


def whole_life(driver: Any) -> None:
    """A session from opening to closing: direct run, capture, replay, a larger shape, inputs copied ahead, results
    left on the device.
    """
    with Session(affine(), CudaDevice(driver)) as session:
        for x in (X, X, X, np.tile(X, (50, 1)), X):
            result = session.run({"x": x, "y": x})["z"]
            np.testing.assert_array_equal(result, affine_result(x, x))
        kept = session.run({"x": X, "y": X}, device_outputs=True)
        with patch.object(cuda_staging, "DIRECT", 16):  # bytes; more go through page-locked memory
            for result in session.run_each([{"x": X, "y": X}] * 2):
                np.testing.assert_array_equal(result["z"], affine_result(X, X))
        _, timings = session.profile({"x": X, "y": X})
        assert [timing.seconds for timing in timings] == [0.25e-3] * 3
        measurement = session.measure([{"x": X, "y": X}, {"x": X + 1, "y": X}], seconds=1e-3)
        assert measurement.captured and measurement.runs == 8  # its clock says 0.25 ms for two
        assert measurement.median == 0.25e-3 / 8
    np.testing.assert_array_equal(kept["z"].numpy(), affine_result(X, X))
    if driver is not None:
        driver.finalising = len(driver.calls)


def calls_of_a_life() -> list[str]:
    driver = FakeDriver()
    whole_life(driver)
    return driver.calls


CALLS = calls_of_a_life()


def test_a_life_without_failures_gives_everything_back() -> None:
    driver = FakeDriver()
    whole_life(driver)
    assert not driver.live and driver.pushed == 0
    for name in ("cuGraphLaunch", "cuFuncSetAttribute", "cuMemcpyDtoDAsync", "cuMemFree", "cuMemFreeHost"):
        assert name in driver.calls


@pytest.mark.parametrize("raises", [False, True])
def test_every_call_fails_in_turn(raises: bool) -> None:
    for number, name in enumerate(CALLS):
        driver = FakeDriver(fail_at=number, raises=raises)
        message = ""
        try:
            whole_life(driver)
        except DeviceError as error:
            message = str(error)
        # A failure in the finaliser of a result that outlives its session has nobody to be told.
        assert name in message or number >= driver.finalising, f"call {number} ({name}): {message!r}"
        assert not driver.live, f"call {number} ({name}) leaks {driver.live}"
        assert driver.pushed == 0, f"call {number} ({name})"


FAULTS = {
    "cuMemAlloc": ("CUDA_ERROR_OUT_OF_MEMORY", r"memory is full(.|\n)*while allocating [\d,]+ bytes"),
    "cuLaunchKernel": ("CUDA_ERROR_LAUNCH_FAILED", r"cannot use the GPU any longer(.|\n)*in kernel 'add', grid"),
    "cuGraphInstantiate": ("CUDA_ERROR_OUT_OF_MEMORY", "memory is full"),
    "cuStreamSynchronize": ("CUDA_ERROR_ILLEGAL_ADDRESS", r"launched before has failed(.|\n)*--device emulator"),
    "cuGraphLaunch": ("CUDA_ERROR_ECC_UNCORRECTABLE", "gone from this process"),
    "cuMemHostAlloc": ("CUDA_ERROR_OUT_OF_MEMORY", r"while locking [\d,]+ bytes of the host's memory"),
}


@pytest.mark.parametrize("call", FAULTS)
def test_faults_say_what_they_mean(call: str) -> None:
    name, message = FAULTS[call]
    driver = FakeDriver()
    driver.fault = Status(700)
    driver.fault.fault = name
    with Session(affine(), CudaDevice(driver)) as session, patch.object(cuda_staging, "DIRECT", 16 << 10):
        session.run({"x": X, "y": X})
        driver.failing = call
        large = np.tile(X, (500, 1))
        with pytest.raises(DeviceError, match=rf"CUDA: {call} failed: {name}: (.|\n)*{message}"):
            for x in (X, X, large):  # a capture, a replay, memory of another size
                session.run({"x": x, "y": x})
        driver.failing = ""
    assert not driver.live, driver.live


def test_the_log_of_the_jit_is_shown() -> None:
    driver = FakeDriver()
    device = CudaDevice(driver)
    with pytest.raises(DeviceError, match=r"(?s)cuModuleLoadDataEx.*kernel 'k'.*ptxas error : line 5 bad"):
        device.load("k", "bad")
    device.close()
    assert not driver.live


@pytest.mark.parametrize(
    ("target", "capability", "runs"),
    [
        ("sm_80", (9, 0), True),
        ("sm_90", (8, 9), False),
        ("sm_90a", (9, 0), True),
        ("sm_90a", (10, 0), False),
        ("sm_100f", (10, 3), True),
        ("sm_100f", (12, 0), False),
    ],
)
def test_targets(target: str, capability: tuple[int, int], runs: bool) -> None:
    device = CudaDevice(FakeDriver(capability=capability))
    ptx = f".version 8.0\n.target {target}\n"
    if runs:
        assert device.load("k", ptx).name == "k"
    else:
        with pytest.raises(DeviceError, match=f"compiled for {target} and this GPU is sm_"):
            device.load("k", ptx)
    device.close()


def test_no_such_gpu() -> None:
    with pytest.raises(DeviceError, match="there is no GPU number 3; 1 found"):
        CudaDevice(FakeDriver(), ordinal=3)


def test_use_after_closing() -> None:
    device = CudaDevice(FakeDriver())
    device.close()
    device.close()
    with pytest.raises(DeviceError, match="the device is closed"):
        device.allocate(16)


def test_a_failing_body_ends_the_capture() -> None:
    driver = FakeDriver()
    device = CudaDevice(driver)

    def body() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        device.capture(body)
    device.synchronize()
    device.close()
    assert not driver.live

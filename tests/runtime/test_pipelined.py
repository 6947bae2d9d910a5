"""Inputs on their way to the device: through page-locked pieces, and ahead of the run that takes them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from tests.runtime.engines import affine, affine_result
from tests.runtime.fake_device import FakeDevice
from tests.runtime.fake_driver import OK, FakeDriver, Status

from tilewright.runtime import cuda_staging
from tilewright.runtime.cuda import CudaDevice
from tilewright.runtime.errors import ModelError
from tilewright.runtime.session import Session


class LateDriver(FakeDriver):
    """Copies from page-locked memory happen as late as a GPU may make them: when something waits for their stream."""

    def __init__(self) -> None:
        super().__init__()
        self.queues: dict[int, list[Callable[[], Any]]] = {}
        self.recorded: dict[int, int] = {}  # event: stream

    def flush(self, stream: int | None) -> None:
        for copy in self.queues.pop(stream or 0, []):
            copy()

    def cuMemcpyHtoDAsync(self, target: int, source: int, nbytes: int, stream: int) -> tuple[Status]:
        locked = [address for address, what in self.live.items() if what == "page-locked memory"]
        if any(address <= source < address + len(self.memory[address]) for address in locked):
            self.queues.setdefault(stream, []).append(lambda: ctypes.memmove(target, source, nbytes))
            return (OK,)
        self.flush(stream)  # what is not page-locked is copied within the call, after what the stream has
        return super().cuMemcpyHtoDAsync(target, source, nbytes, stream)

    def cuMemcpyDtoHAsync(self, target: int, source: int, nbytes: int, stream: int) -> tuple[Status]:
        self.flush(stream)
        return super().cuMemcpyDtoHAsync(target, source, nbytes, stream)

    def cuEventRecord(self, event: int, stream: int) -> tuple[Status]:
        self.recorded[event] = stream
        return super().cuEventRecord(event, stream)

    def cuEventSynchronize(self, event: int) -> tuple[Status]:
        self.flush(self.recorded.get(event))
        return super().cuEventSynchronize(event)

    def cuStreamWaitEvent(self, stream: int, event: int, flags: int) -> tuple[Status]:
        self.flush(self.recorded[event])
        return super().cuStreamWaitEvent(stream, event, flags)

    def cuStreamSynchronize(self, stream: int) -> tuple[Status]:
        self.flush(stream)
        return super().cuStreamSynchronize(stream)

    def launch(self, function: str, *arguments: Any) -> tuple[Status]:
        self.flush(arguments[7])
        return super().launch(function, *arguments)

    def cuGraphLaunch(self, executable: int, stream: int) -> tuple[Status]:
        self.flush(stream)
        return super().cuGraphLaunch(executable, stream)


class LockedDriver(LateDriver):
    """The caller's memory is page-locked as well."""

    def cuMemcpyHtoDAsync(self, target: int, source: int, nbytes: int, stream: int) -> tuple[Status]:
        self.queues.setdefault(stream, []).append(lambda: ctypes.memmove(target, source, nbytes))
        return (OK,)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_staging, "PIECE", 1000)
    monkeypatch.setattr(cuda_staging, "DIRECT", 64)


@pytest.mark.parametrize("nbytes", [64, 65, 1000, 1001, 4000, 12_345])
def test_pieces_arrive_whole(nbytes: int) -> None:
    driver = LateDriver()
    device = CudaDevice(driver)
    given = np.random.default_rng(nbytes).integers(0, 256, nbytes, np.uint8)
    sent, address, back = given.copy(), device.allocate(nbytes), np.empty_like(given)
    device.upload(address, sent)
    sent[:] = 0  # the caller's memory is no longer needed
    device.download(address, back)
    np.testing.assert_array_equal(back, given)
    assert driver.calls.count("cuMemcpyHtoDAsync") == (1 if nbytes <= 64 else -(-nbytes // 1000))
    device.free(address)
    device.close()
    assert not driver.live and driver.pushed == 0


def test_locked_memory_of_the_caller_may_change() -> None:
    device = CudaDevice(LockedDriver())
    given = np.arange(64, dtype=np.uint8)
    sent, address, back = given.copy(), device.allocate(64), np.empty_like(given)
    device.upload_ahead(address, sent)
    sent[:] = 0
    device.order_uploads()
    device.download(address, back)
    np.testing.assert_array_equal(back, given)
    device.free(address)
    device.close()


def batches(*sizes: int) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    return [{name: rng.standard_normal((size, 4)).astype(np.float32) for name in "xy"} for size in sizes]


SIZES = (3, 3, 200, 200, 200, 200, 3, 900, 0, 3)


@pytest.mark.parametrize("on_gpu", [False, True])
def test_results_come_in_order(on_gpu: bool) -> None:
    driver = LateDriver()
    device: Any = CudaDevice(driver) if on_gpu else FakeDevice()
    given = batches(*SIZES)
    with Session(affine(), device) as session:
        count = 0
        for inputs, results in zip(given, session.run_each(iter(given)), strict=True):
            np.testing.assert_array_equal(results["z"], affine_result(**inputs))
            count += 1
        assert count == len(SIZES)
        np.testing.assert_array_equal(session.run(given[0])["z"], affine_result(**given[0]))
    assert not driver.live


def test_inputs_travel_while_the_batch_before_is_computed() -> None:
    driver = LateDriver()
    given = batches(*[100] * 6)
    with Session(affine(), CudaDevice(driver)) as session:
        runs = session.run_each(given)
        for _ in range(4):
            next(runs)
        del driver.calls[:]
        next(runs)
        started, read = driver.calls.index("cuGraphLaunch"), driver.calls.index("cuMemcpyDtoHAsync")
        assert "cuStreamWaitEvent" in driver.calls[:started], "a run waits for its own inputs"
        assert "cuMemcpyHtoDAsync" not in driver.calls[:started]
        assert "cuMemcpyHtoDAsync" in driver.calls[started:read], "those of the next go beside it"
        runs.close()  # early
    assert not driver.live


def test_threads_share_a_session() -> None:
    driver = LateDriver()
    given = batches(*[50] * 8)
    with Session(affine(), CudaDevice(driver)) as session:

        def several(_: int) -> None:
            for inputs, results in zip(given, session.run_each(given), strict=True):
                np.testing.assert_array_equal(results["z"], affine_result(**inputs))
                np.testing.assert_array_equal(session.run(inputs)["z"], affine_result(**inputs))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(several, range(4)))
    assert not driver.live and driver.pushed == 0


def test_a_wrong_batch_is_told_in_its_turn() -> None:
    device = FakeDevice()
    good, bad = batches(3)[0], {"x": np.zeros((2, 4), np.float32)}
    with Session(affine(), device) as session:
        before = set(device.memory)
        runs = session.run_each([good, bad, good])
        np.testing.assert_array_equal(next(runs)["z"], affine_result(**good))
        with pytest.raises(ModelError, match="input 'y' is missing"):
            next(runs)
        assert len(device.memory) <= len(before) + 1, "the inputs' memory is given back; the arena stays"

        def source() -> Iterator[dict[str, np.ndarray]]:
            yield good
            raise KeyError("the caller's own")

        runs = session.run_each(source())
        next(runs)
        with pytest.raises(KeyError, match="the caller's own"):
            next(runs)
        assert list(session.run_each([])) == []

"""Launches that begin before the kernel in front has ended: only of kernels that wait, only right behind a kernel."""

from __future__ import annotations

import pytest
from tests.runtime.fake_driver import FakeDriver

from tilewright.runtime.cuda import CudaDevice, CudaKernel

PLAIN, WAITS = ".target sm_90a\n// scale", ".target sm_90a\n// scale\n\tgriddepcontrol.wait;\n"
EARLY = "cuLaunchKernelEx"


def launch(device: CudaDevice, kernel: CudaKernel, data: int) -> str:
    """Scale one row by itself; the name of the call that did it."""
    arguments = [("pointer", data)] * 3 + [("i32", 1)]
    device.launch(kernel, (1, 1, 1), (128, 1, 1), 0, arguments)
    calls: list[str] = device._driver.calls
    return next(name for name in reversed(calls) if name.startswith("cuLaunchKernel"))


def opened(capability: tuple[int, int] = (9, 0), version: int = 13000) -> CudaDevice:
    driver = FakeDriver(capability=capability)
    object.__setattr__(driver, "cuDriverGetVersion", lambda: (0, version))
    return CudaDevice(driver)


def test_only_a_kernel_that_waits_begins_early() -> None:
    device = opened()
    plain, waits = device.load("scale", PLAIN), device.load("scale", WAITS)
    data = device.allocate(16)
    assert launch(device, waits, data) != EARLY  # nothing is in front of it
    assert launch(device, plain, data) != EARLY
    assert launch(device, waits, data) == EARLY
    assert launch(device, waits, data) == EARLY
    device.copy(data, data, 16)
    assert launch(device, waits, data) != EARLY  # copies are waited for as ever
    device.free(data)
    device.close()


def test_a_graph_has_such_launches_too() -> None:
    device = opened()
    waits = device.load("scale", WAITS)
    data = device.allocate(16)
    launch(device, waits, data)
    names: list[str] = []
    graph = device.capture(lambda: names.extend(launch(device, waits, data) for _ in range(3)))
    assert graph is not None and names == ["cuLaunchKernel", EARLY, EARLY]  # the first has no kernel before it
    graph.launch()
    assert launch(device, waits, data) != EARLY
    graph.close()
    device.free(data)
    device.close()


@pytest.mark.parametrize(("capability", "version"), [((8, 0), 13000), ((9, 0), 12020)])
def test_older_cards_and_drivers_have_none(capability: tuple[int, int], version: int) -> None:
    device = opened(capability, version)
    waits = device.load("scale", WAITS.replace("sm_90a", "sm_80"))
    data = device.allocate(16)
    assert [launch(device, waits, data) for _ in range(2)] == ["cuLaunchKernel"] * 2
    device.free(data)
    device.close()

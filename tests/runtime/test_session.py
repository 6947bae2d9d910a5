"""Sessions on a fake device and on the CUDA device over a fake driver."""

from __future__ import annotations

import copy
import pickle
import threading
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tests.runtime.engines import WEIGHT, affine, affine_result, branching, launch, scalars
from tests.runtime.fake_device import FakeDevice
from tests.runtime.fake_driver import FakeDriver

from tilewright.runtime import dlpack, manifest
from tilewright.runtime.arrays import DeviceArray
from tilewright.runtime.cuda import CudaDevice
from tilewright.runtime.device import Device
from tilewright.runtime.dtypes import dtype
from tilewright.runtime.engine import Engine
from tilewright.runtime.errors import DeviceError, ModelError
from tilewright.runtime.program import Program
from tilewright.runtime.session import Session


@pytest.fixture(params=["emulator", "cuda"])
def device(request: pytest.FixtureRequest) -> Device:
    return FakeDevice() if request.param == "emulator" else CudaDevice(FakeDriver())


def random(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {name: generator.standard_normal((rows, 4)).astype(np.float32) for name in ("x", "y")}


def test_several_shapes_and_repeated_runs(device: Device) -> None:
    with Session(affine(), device) as session:
        for rows in (3, 3, 3, 100, 3, 100, 100, 1, 3, 3):
            inputs = random(rows, rows)
            results = session.run(inputs)
            # The fakes compute with numpy in the same order, so that nothing may differ.
            np.testing.assert_array_equal(results["z"], affine_result(**inputs))
            np.testing.assert_array_equal(results["x again"], inputs["x"])


def test_checked_sessions(device: Device) -> None:
    with Session(affine(), device, checked=True) as session:
        for rows in (3, 3, 5, 0, 3):
            inputs = random(rows)
            np.testing.assert_array_equal(session.run(inputs)["z"], affine_result(**inputs))


def test_checked_sessions_show_what_was_never_written() -> None:
    engine = affine()
    reads_early = launch("add", "1", "x", "t0", "t0", "(4*n)")
    program = Program((reads_early, *engine.program.instructions[1:]))
    manifest = replace(engine.manifest, program=program)
    silly = Engine.build(
        manifest, {name: engine.ptx(name) for name in engine.kernels}, {}, [WEIGHT, WEIGHT[:3]]
    )
    with silly.session(FakeDevice(), checked=True) as session:
        assert np.isnan(session.run(random(2))["z"]).all()


def test_description() -> None:
    with Session(affine(), FakeDevice()) as session:
        assert [str(item) for item in session.inputs] == ["x: f32[n, 4]", "y: f32[n, 4]"]
        assert session.inputs[0].shape == ("n", 4)
        assert [item.name for item in session.outputs] == ["z", "x again"]


def test_inputs_need_not_be_contiguous_or_native(device: Device) -> None:
    inputs = random(6)
    given = {"x": np.asfortranarray(inputs["x"]), "y": inputs["y"].astype(">f4")}
    with Session(affine(), device) as session:
        np.testing.assert_array_equal(session.run(given)["z"], affine_result(**inputs))
        unaligned = np.frombuffer(b"." + inputs["y"].tobytes(), np.uint8)[1:].view(np.float32).reshape(6, 4)
        for strided in (
            {name: array[::2] for name, array in inputs.items()},
            {name: array[::-1, ::-1] for name, array in inputs.items()},
            {"x": np.broadcast_to(np.float32(3), (6, 4)), "y": unaligned},
        ):
            np.testing.assert_array_equal(session.run(strided)["z"], affine_result(**strided))


def test_empty_tensors_launch_nothing() -> None:
    device = FakeDevice()
    with Session(affine(), device) as session:
        results = session.run(random(0))
        assert results["z"].shape == (0, 4) and device.launches == []


def test_scalars(device: Device) -> None:
    with Session(scalars(), device) as session:
        results = session.run({"x": np.float64(2.5), "flag": np.array(False)})
        assert results["y"].shape == () and results["y"] == 2.5
        assert results["inverse"].dtype == np.bool_ and results["inverse"]


def test_branches(device: Device) -> None:
    with Session(branching(), device) as session:
        x = np.array([1, 2, 3], np.float32)
        for _ in range(3):
            np.testing.assert_array_equal(session.run({"x": x})["z"], 2 * x)
            np.testing.assert_array_equal(session.run({"x": -x})["z"], 0 * x)


WRONG: dict[str, tuple[Any, str]] = {
    "no names": (np.zeros((2, 4), np.float32), "given as a ndarray, not as arrays by name\n  inputs: x: f32"),
    "missing": ({"x": np.zeros((2, 4), np.float32)}, "input 'y' is missing"),
    "unknown": (random(2) | {"q": 1}, "the model has no input 'q'"),
    "dtype": (random(2) | {"y": np.zeros((2, 4))}, "input 'y' is an array of f64"),
    "rank": (random(2) | {"x": np.zeros(4, np.float32)}, r"input 'x' has the shape \[4\]"),
    "static": (
        {name: np.zeros((2, 5), np.float32) for name in ("x", "y")},
        "dimension 1 should be 4",
    ),
    "symbol": (random(2) | {"y": np.zeros((3, 4), np.float32)}, r"should be 2 \(n, n = 2 from input 'x'\)"),
    "object": (random(2) | {"x": object()}, "input 'x': object is no array"),
    "complex": (random(2) | {"x": np.zeros((2, 4), np.complex64)}, "input 'x' is an array of complex64"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_inputs(case: str, device: Device) -> None:
    inputs, message = WRONG[case]
    with Session(affine(), device) as session:
        with pytest.raises(ModelError, match=message):
            session.run(inputs)
        np.testing.assert_array_equal(session.run(random(2))["z"], affine_result(**random(2)))


def test_closing() -> None:
    device = FakeDevice()
    session = Session(affine(), device)
    session.run(random(2))
    session.close()
    session.close()
    assert not device.memory and device.closed == 1
    with pytest.raises(DeviceError, match="the session is closed"):
        session.run(random(2))


def test_out_of_memory_leaves_the_session_usable() -> None:
    device = FakeDevice(capacity=1 << 16)
    with Session(affine(), device) as session:
        session.run(random(2))
        with pytest.raises(DeviceError, match="out of memory"):
            session.run(random(10000))
        np.testing.assert_array_equal(session.run(random(2))["z"], affine_result(**random(2)))
    assert not device.memory


def test_argument_that_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "MOST_ELEMENTS", 2**62)  # or the tensors would be refused first
    device = FakeDevice()
    with Session(affine(), device) as session:
        # The plan is made before memory is asked for, so that no such array needs to exist.
        with pytest.raises(DeviceError, match=r"argument 4\*n = 4294967296 does not fit i32\n  nodes: Add_1"):
            session._plan({"n": 2**30})
        assert device.launches == []


def test_a_session_is_not_copied(device: Device) -> None:
    """The copy would free the device's memory under the session when it is collected."""
    with Session(affine(), device) as session:
        for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="a session holds a device and cannot be copied or pickled"):
                attempt(session)


def test_threads_take_turns(device: Device) -> None:
    failures: list[object] = []
    with Session(affine(), device) as session:

        def work(rows: int) -> None:
            inputs = random(rows, rows)
            for _ in range(10):
                if not np.array_equal(session.run(inputs)["z"], affine_result(**inputs)):
                    failures.append(rows)

        threads = [threading.Thread(target=work, args=(rows,)) for rows in (1, 2, 7, 30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures


def test_profile(device: Device) -> None:
    with Session(affine(), device) as session:
        results, timings = session.profile(random(5))
        np.testing.assert_array_equal(results["z"], affine_result(**random(5)))
        assert [timing.kernel for timing in timings] == ["add", "scale", "add"]
        assert timings[0].nodes == ("Add_1",) and all(timing.seconds > 0 for timing in timings)


def test_measure(device: Device) -> None:
    with Session(affine(), device) as session:
        measurement = session.measure([random(5), random(5)], seconds=1e-3)
        assert measurement.median > 0 and measurement.best <= measurement.median and measurement.runs % 2 == 0
        assert measurement.spread >= 0
        np.testing.assert_array_equal(session.run(random(5))["z"], affine_result(**random(5)))
        with pytest.raises(ModelError, match="the same shapes"):
            session.measure([random(5), random(6)])


# Arrays of other libraries --------------------------------------------------------------------------------


class OnDevice:
    """An array that pretends to be in CUDA memory: with the fake driver, that is host memory."""

    def __init__(self, array: np.ndarray, stream: int | None = None) -> None:
        self.array = array
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (array.ctypes.data, False),
            "strides": array.strides,
            "version": 3,
            "stream": stream,
        }


class Lending:
    """A DLPack producer."""

    def __init__(self, array: np.ndarray, element: str, device: tuple[int, int]) -> None:
        self.array, self.element, self.device = array, element, device
        self.streams: list[object] = []

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    def __dlpack__(self, stream: object = None) -> object:
        self.streams.append(stream)
        array = self.array
        return dlpack.lend(array.ctypes.data, dtype(self.element), array.shape, self.device, array)


def aligned(array: np.ndarray, shift: int = 0) -> np.ndarray:
    """A copy at an address that is `shift` past a multiple of 256."""
    room = np.empty(array.nbytes + 512, np.uint8)
    start = -room.ctypes.data % 256 + shift
    result = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    result[...] = array
    return result


def test_cuda_arrays_are_used_in_place() -> None:
    driver = FakeDriver()
    with Session(affine(), CudaDevice(driver)) as session:
        inputs = {name: aligned(array) for name, array in random(8).items()}
        for _ in range(4):
            driver.calls.clear()
            results = session.run({name: OnDevice(array, stream=1) for name, array in inputs.items()})
            np.testing.assert_array_equal(results["z"], affine_result(**inputs))
            assert "cuMemcpyHtoDAsync" not in driver.calls
            inputs["x"] += 1
        assert driver.calls.count("cuGraphLaunch") == 1 and "cuLaunchKernel" not in driver.calls
        # Other pointers must not meet the graph of the first ones.
        others = {name: aligned(array) for name, array in random(8, seed=5).items()}
        results = session.run({name: OnDevice(array) for name, array in others.items()})
        np.testing.assert_array_equal(results["z"], affine_result(**others))


@pytest.mark.parametrize("kind", ["misaligned", "strided", "reversed"])
def test_cuda_arrays_that_need_a_copy(kind: str) -> None:
    inputs = random(8)
    x = {
        "misaligned": lambda: aligned(inputs["x"], shift=4),
        "strided": lambda: np.repeat(inputs["x"], 2, axis=0)[::2],
        "reversed": lambda: np.ascontiguousarray(inputs["x"][::-1, ::-1])[::-1, ::-1],
    }[kind]()
    with Session(affine(), CudaDevice(FakeDriver())) as session:
        results = session.run({"x": OnDevice(x), "y": OnDevice(inputs["y"])})
        np.testing.assert_array_equal(results["z"], affine_result(**inputs))


def test_dlpack_inputs() -> None:
    driver = FakeDriver()
    device = CudaDevice(driver)
    inputs = {name: aligned(array) for name, array in random(8).items()}
    with Session(affine(), device) as session:
        x = Lending(inputs["x"], "f32", (dlpack.CUDA, 0))
        driver.calls.clear()
        results = session.run({"x": x, "y": Lending(inputs["y"], "f32", (dlpack.CPU, 0))})
        np.testing.assert_array_equal(results["z"], affine_result(**inputs))
        assert x.streams == [device.stream_handle] and driver.calls.count("cuMemcpyHtoDAsync") == 1
        with pytest.raises(ModelError, match="input 'x' is on CUDA device 1 and the session on device 0"):
            session.run({"x": Lending(inputs["x"], "f32", (dlpack.CUDA, 1)), "y": inputs["y"]})
        with pytest.raises(ModelError, match="DLPack device type 10"):
            session.run({"x": Lending(inputs["x"], "f32", (10, 0)), "y": inputs["y"]})
    assert not dlpack._lent  # every capsule was given back
    with (
        Session(affine(), FakeDevice()) as session,
        pytest.raises(ModelError, match="in CUDA memory and the session runs on the emulator"),
    ):
        session.run({"x": Lending(inputs["x"], "f32", (dlpack.CUDA, 0)), "y": inputs["y"]})


def test_device_outputs(device: Device) -> None:
    inputs = random(3)
    session = Session(affine(), device)
    first = session.run(inputs, device_outputs=True)
    session.run(random(3, seed=7))  # must not touch earlier results
    chained = session.run({"x": first["z"], "y": inputs["y"]})
    expected = affine_result(**inputs)
    np.testing.assert_array_equal(chained["z"], affine_result(expected, inputs["y"]))
    session.close()
    assert isinstance(first["z"], DeviceArray) and first["z"].shape == (3, 4)
    np.testing.assert_array_equal(first["z"].numpy(), expected)  # outlives the session
    np.testing.assert_array_equal(np.asarray(first["z"]), expected)


def test_device_outputs_are_freed_with_their_last_user() -> None:
    driver = FakeDriver()
    session = Session(affine(), CudaDevice(driver))
    result = session.run(random(3), device_outputs=True)["z"]
    interface = result.__cuda_array_interface__
    assert interface["shape"] == (3, 4) and interface["data"][0] in driver.memory
    capsule = result.__dlpack__(stream=None)
    assert result.__dlpack_device__() == (dlpack.CUDA, 0)
    session.close()
    del result, interface
    assert sorted(set(driver.live.values())) >= ["context", "memory"]
    del capsule
    assert not driver.live and driver.pushed == 0


def test_host_results_through_dlpack() -> None:
    with Session(affine(), FakeDevice()) as session:
        result = session.run(random(3), device_outputs=True)["z"]
        assert not hasattr(result, "__cuda_array_interface__")
        np.testing.assert_array_equal(np.from_dlpack(result), affine_result(**random(3)))


def test_bfloat16_through_dlpack() -> None:
    values = np.array([1.5, -2, 0.25], ml_dtypes.bfloat16)
    lent = dlpack.read(Lending(values, "bf16", (dlpack.CPU, 0)).__dlpack__())
    assert lent.dtype.name == "bf16" and lent.shape == (3,) and lent.strides == (2,)


def test_graphs_are_bounded() -> None:
    driver = FakeDriver()
    with Session(affine(), CudaDevice(driver)) as session:
        for rows in range(30, 0, -1):
            for _ in range(3):
                session.run(random(rows))
        assert list(driver.live.values()).count("executable graph") == 16
    assert not driver.live

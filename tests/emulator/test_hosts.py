"""The fast engine on both kinds of host: with vectors of 512 bits, and with AVX2, FMA and F16C only."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from tests.emulator import test_warp
from tests.emulator.harness import Runner, instruction_kernel

from tilewright.runtime.emulator.llvm_library import Host, Unavailable, library
from tilewright.runtime.emulator.policy import VARIABLE

_LEAST = Host("haswell", "+avx2,+fma,+f16c")


@pytest.fixture(params=["this", "least"])
def host(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Code is generated for this host, or for the least that the engine runs on (which every better one can run)."""
    try:
        found = library()
    except Unavailable as reason:
        pytest.skip(f"no LLVM engine: {reason}")
    if request.param == "least":
        monkeypatch.setattr(found, "host", _LEAST)
    monkeypatch.setenv(VARIABLE, "llvm")
    yield request.param


@pytest.mark.parametrize("host", ["least"], indirect=True)
@pytest.mark.usefixtures("host")
@pytest.mark.parametrize(("shape", "type", "accumulator"), test_warp.FORMS)
def test_matrix_products(shape: str, type: str, accumulator: str) -> None:
    test_warp.test_mma(shape, type, accumulator)


@pytest.mark.parametrize("host", ["least"], indirect=True)
@pytest.mark.usefixtures("host")
def test_a_kernel_of_cuda() -> None:
    random = np.random.default_rng(1)
    a = random.integers(-8, 9, (64, 96)).astype("f2")
    b = random.integers(-8, 9, (96, 128)).astype("f2")
    c = np.zeros((64, 128), "f4")
    found = Runner.of("hgemm", "llvm")("hgemm", a, b, c, 64, 128, 96, grid=(2, 1), block=(128,))[2]
    # Sums of small whole numbers are exact.
    assert (found == a.astype("f4") @ b.astype("f4")).all()


def _numbers(seed: int) -> np.ndarray:
    """Few enough bits that NumPy's f64 holds every exact sum of two products, or of two numbers."""
    random = np.random.default_rng(seed)
    values = np.ldexp(random.integers(-(1 << 22), 1 << 22, 256), random.integers(-6, 3, 256)).astype("f4")
    values[:5] = [0.0, -0.0, np.inf, -np.inf, np.nan]
    return random.permutation(values)


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("mode", ["rm", "rp", "rz"])
@pytest.mark.parametrize("opcode", ["fma", "add", "sub", "mul", "div", "rcp", "sqrt"])
def test_directed_rounding(opcode: str, mode: str) -> None:
    count = {"fma": 3, "rcp": 1, "sqrt": 1}.get(opcode, 2)
    arrays = [_numbers(seed) for seed in range(count)]
    registers = ", ".join(["%d", "%a", "%b", "%c"][: count + 1])
    text = instruction_kernel(f"{opcode}.{mode}.f32 {registers};", ["f32"] * count, "f32")
    one, other = (
        Runner(text, engine)("k", *arrays, np.zeros(256, "f4"), grid=(8,))[-1] for engine in ("numpy", "llvm")
    )
    # Both round an exact or nearly exact result once; quotients and roots of these never lie within 2^-53 of an f32.
    np.testing.assert_array_equal(one, other)


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("suffix", ["", ".ftz"])
def test_powers_of_two(suffix: str) -> None:
    x = np.concatenate([np.linspace(-160, 135, 4000), [np.inf, -np.inf, np.nan, 1e-45, 3.4e38, -3.4e38]]).astype("f4")
    x = np.resize(x, 4096)
    text = instruction_kernel(f"ex2.approx{suffix}.f32 %d, %a;", ["f32"], "f32")
    found = Runner(text, "llvm")("k", x, np.zeros(4096, "f4"), grid=(128,))[-1]
    with np.errstate(over="ignore"):
        exact = np.exp2(x.astype("f8")).astype("f4")
    if suffix:
        exact[np.abs(exact) < 2.0**-126] = 0
        found = np.where(exact == 0, np.where(found <= 2.0**-126, 0, found), found)
    finite = np.isfinite(exact)
    np.testing.assert_array_equal(found[~finite], exact[~finite])
    # 1.5 ulp of the polynomial (docs/emulator.md), rounded up; half of the least number where results are subnormal.
    error = np.abs(found[finite].astype("f8") - exact[finite])
    assert (error <= 2 * np.spacing(exact[finite]).astype("f8")).all()

"""The fast engine on both kinds of host: with vectors of 512 bits, and with AVX2, FMA and F16C only."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from fractions import Fraction

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


_SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0], "f4")


def _numbers(seed: int) -> np.ndarray:
    """Numbers far from each other, numbers near each other, and combinations of special ones."""
    random = np.random.default_rng(seed)
    far = np.ldexp(random.integers(-(1 << 24), 1 << 24, 256), random.integers(-60, 40, 256))
    near = np.ldexp(random.integers(-(1 << 24), 1 << 24, 256), random.integers(-30, -20, 256))
    special = np.tile(np.repeat(_SPECIAL, len(_SPECIAL) ** seed), 512)[:256]
    return np.concatenate([far, near, special]).astype("f4")


def _rounded(exact: Fraction, mode: str) -> float:
    """The f32 on the side of `exact` that `mode` asks for."""
    down = np.float32(float(exact))
    while Fraction(float(down)) > exact:
        down = np.nextafter(down, np.float32(-np.inf))
    while Fraction(float(np.nextafter(down, np.float32(np.inf)))) <= exact:
        down = np.nextafter(down, np.float32(np.inf))
    up = down if Fraction(float(down)) == exact else np.nextafter(down, np.float32(np.inf))
    return float(up if mode == "rp" or (mode == "rz" and exact < 0) else down)


_EXACT: dict[str, Callable[..., Fraction]] = {
    "fma": lambda a, b, c: a * b + c, "add": operator.add, "sub": operator.sub, "mul": operator.mul,
}  # fmt: skip


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("mode", ["rm", "rp", "rz"])
@pytest.mark.parametrize("opcode", ["fma", "add", "sub", "mul", "div", "rcp", "sqrt"])
def test_directed_rounding(opcode: str, mode: str) -> None:
    count = {"fma": 3, "rcp": 1, "sqrt": 1}.get(opcode, 2)
    arrays = [_numbers(seed) for seed in range(count)]
    registers = ", ".join(["%d", "%a", "%b", "%c"][: count + 1])
    text = instruction_kernel(f"{opcode}.{mode}.f32 {registers};", ["f32"] * count, "f32")
    one, other = (
        Runner(text, engine)("k", *arrays, np.zeros(768, "f4"), grid=(24,))[-1] for engine in ("numpy", "llvm")
    )
    np.testing.assert_array_equal(one, other)
    number = ~np.isnan(one)
    np.testing.assert_array_equal(np.signbit(one[number]), np.signbit(other[number]))
    if opcode in _EXACT:
        operands = zip(*(array[:512].tolist() for array in arrays), strict=True)
        for values, got in zip(operands, one[:512].tolist(), strict=True):
            assert got == _rounded(_EXACT[opcode](*map(Fraction, values)), mode), values


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

"""Tests of what both engines do run on both."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tilewright.runtime.emulator.llvm_library import Unavailable, library
from tilewright.runtime.emulator.policy import VARIABLE

ON_BOTH_ENGINES = frozenset({
    "test_atomics", "test_blackwell", "test_cluster", "test_cooperative", "test_cores", "test_faults", "test_floats",
    "test_hopper", "test_integers", "test_kernels", "test_low_precision", "test_mbarrier", "test_outer_products",
    "test_resident", "test_tensor_copies", "test_warp", "test_warp_matrix", "test_wgmma", "test_wide",
})  # fmt: skip
"""Modules whose every test runs once per engine; kernels that the fast engine lacks run on NumPy there too."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Add the engine as a parameter."""
    if metafunc.module.__name__.rpartition(".")[2] in ON_BOTH_ENGINES:
        metafunc.fixturenames.append("engine")
        metafunc.parametrize("engine", ["numpy", "llvm"], indirect=True)


@pytest.fixture
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Devices that the test opens use this engine."""
    if request.param == "llvm":
        try:
            library()
        except Unavailable as reason:
            pytest.skip(f"no LLVM engine: {reason}")
    monkeypatch.setenv(VARIABLE, request.param)
    yield request.param

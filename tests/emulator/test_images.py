"""Compiled code as images: references of every kind resolved, whatever the place, and code that the system refuses."""

from __future__ import annotations

import ctypes

import pytest

from tilewright.runtime.emulator import llvm_loader
from tilewright.runtime.emulator.llvm_image import Image, image
from tilewright.runtime.emulator.llvm_library import Unavailable, library
from tilewright.runtime.emulator.llvm_loader import Loader
from tilewright.runtime.errors import DeviceError, InternalError

CALLER = """
declare i32 @twice(i32)
declare i64 @strlen(ptr)
@text = private constant [6 x i8] c"hello\\00"
define i32 @caller(i32 %x) {
  %choice = and i32 %x, 7
  switch i32 %choice, label %other [
    i32 0, label %a i32 1, label %b i32 2, label %c i32 3, label %d i32 4, label %e
  ]
a: ret i32 100
b: ret i32 211
c: ret i32 325
d: ret i32 439
e:
  %n = call i64 @strlen(ptr @text)
  %small = trunc i64 %n to i32
  ret i32 %small
other:
  %y = call i32 @twice(i32 %x)
  ret i32 %y
}
"""
TWICE = "define i32 @twice(i32 %x) {\n  %y = add i32 %x, %x\n  ret i32 %y\n}\n"


@pytest.fixture
def images() -> dict[str, bytes]:
    """Of a function with a jump table, a constant, and calls of another image and of the C library."""
    try:
        found = library()
    except Unavailable as reason:
        pytest.skip(f"no LLVM engine: {reason}")
    return {name: image(found.compile(text), name).to_bytes() for name, text in (("caller", CALLER), ("twice", TWICE))}


@pytest.mark.parametrize("together", [True, False])
def test_code_runs_wherever_it_is(images: dict[str, bytes], together: bool) -> None:
    loader = Loader()
    if together:
        loader.load(images)
    else:
        loader.load({"twice": images["twice"]})
        loader.load({"filler" + "x" * count: images["twice"] for count in range(3)})
        loader.load(images)
    caller = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(loader.addresses["caller"])
    assert [caller(value) for value in (0, 1, 2, 3, 4, 5, 15)] == [100, 211, 325, 439, 5, 10, 30]


def test_bytes_and_back(images: dict[str, bytes]) -> None:
    found = Image.from_bytes(images["caller"])
    assert found.to_bytes() == images["caller"]
    assert sorted(found.names) == ["strlen", "twice"]
    assert Image.from_bytes(images["twice"]).names == ()


def test_variables_are_refused() -> None:
    try:
        content = library().compile("@kept = global i32 7\ndefine ptr @f() {\n  ret ptr @kept\n}\n")
    except Unavailable as reason:
        pytest.skip(f"no LLVM engine: {reason}")
    with pytest.raises(InternalError, match="section of type 0x1 and flags 0x3"):
        image(content, "f")


def test_unknown_functions_are_named(images: dict[str, bytes]) -> None:
    with pytest.raises(InternalError, match="needs 'twice'"):
        Loader().load({"caller": images["caller"]})


def test_a_system_that_refuses_code(images: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        """A C library whose mprotect fails."""

        def mprotect(self, *_: object) -> int:
            """As a hardened system does."""
            return -1

    loader = Loader()
    monkeypatch.setattr(llvm_loader, "_libc", Refusing())
    with pytest.raises(DeviceError, match="TILEWRIGHT_EMULATOR=numpy"):
        loader.load({"twice": images["twice"]})
    assert not loader.addresses

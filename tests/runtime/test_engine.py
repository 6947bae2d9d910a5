"""Engine files: the same bytes each time, and every damage is a ModelError."""

from __future__ import annotations

import builtins
import contextlib
import errno
import hashlib
import io
import json
import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.runtime.engines import WEIGHT, affine, branching, scalars
from tests.runtime.fake_device import FakeDevice

from tilewright.runtime.archive import Member, write
from tilewright.runtime.engine import Engine, load
from tilewright.runtime.errors import DeviceError, InternalError, ModelError
from tilewright.runtime.manifest import Buffer
from tilewright.runtime.session import Session
from tilewright.runtime.symbolic import parse


@pytest.fixture
def path(tmp_path: Path) -> Path:
    affine().save(tmp_path / "affine.tw")
    return tmp_path / "affine.tw"


def test_round_trip(path: Path) -> None:
    engine = load(path)
    assert engine.manifest.to_json() | {"sha256": {}} == affine().manifest.to_json()
    assert list(engine.kernels) == ["add", "scale"] and ".entry add" in engine.ptx("add")
    assert engine.ir_stages == ("01-graph.import", "02-graph.fuse")
    assert engine.ir("graph.fuse") == engine.ir("fuse") == engine.ir("02") == "module { }\n"
    weights = {buffer.name: array for buffer, array in engine.weights()}
    np.testing.assert_array_equal(weights["w"], WEIGHT)
    np.testing.assert_array_equal(weights["u"], np.ones(3))
    assert all(array.ctypes.data % 256 == 0 and not array.flags.writeable for array in weights.values())
    assert str(engine) == "Engine('affine', sm_80, strict, 3 launches, 2 kernels)"
    with Session(engine, FakeDevice()) as session:
        session.run({name: np.ones((2, 4), np.float32) for name in ("x", "y")})


@pytest.mark.parametrize("make", [affine, branching, scalars])
def test_bytes_are_the_same_every_time(make: Callable[[], Engine], tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in ("1.tw", "2.tw", "3.tw"))
    make().save(first)
    make().save(second)
    load(first).save(third)
    assert first.read_bytes() == second.read_bytes() == third.read_bytes()
    with zipfile.ZipFile(first) as archive:
        assert archive.testzip() is None and archive.namelist()[0] == "manifest.json"
        assert all(info.date_time[0] == 1980 for info in archive.infolist())


def test_bytes_are_the_same_in_every_python(tmp_path: Path) -> None:
    """zipfile writes other headers since Python 3.13; the digest is what 3.10, 3.11 and 3.13 write."""
    path = tmp_path / "archive"
    pieces = [memoryview(b"one"), memoryview(b"two")]
    members = [Member("a/b", lambda: pieces), Member("weights.bin", lambda: [memoryview(bytes(1000))])]
    write(path, members)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest == "b42a9dbd866f63f690e307d6b24677b2c58397da9dd4753106a3077206ee73ea"
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None and archive.read("a/b") == b"onetwo"


def test_an_engine_may_replace_the_file_it_is_mapped_from(path: Path) -> None:
    engine = load(path)
    before = path.read_bytes()
    engine.save(path)
    assert path.read_bytes() == before and [p.name for p in path.parent.iterdir()] == [path.name]


def test_unknown_names(path: Path) -> None:
    engine = load(path)
    with pytest.raises(ModelError, match=r"no kernel 'q'\n  kernels: add, scale"):
        engine.ptx("q")
    with pytest.raises(ModelError, match=r"no IR dump 'q'\n  stages: 01-graph.import, 02-graph.fuse"):
        engine.ir("q")
    with pytest.raises(ModelError, match=r"unknown device 'tpu'\n  supported: auto, cuda, emulator"):
        engine.session("tpu")
    for nothing in (None, 0):
        with pytest.raises(ModelError, match=rf"{nothing} is no device\n  supported: auto, cuda, emulator, an"):
            engine.session(nothing)


def test_inconsistent_parts_are_our_bug() -> None:
    manifest = affine().manifest
    with pytest.raises(InternalError, match="kernel 'scale' is only in one of manifest and members"):
        Engine.build(manifest, {"add": ""}, {}, [WEIGHT, np.ones(3, np.float32)])
    kernels = {"add": "", "scale": ""}
    with pytest.raises(InternalError, match="1 arrays for 2 weight buffers"):
        Engine.build(manifest, kernels, {}, [WEIGHT])
    with pytest.raises(InternalError, match=r"weight 'u' is f32\[3\], not an array float64\[3\]"):
        Engine.build(manifest, kernels, {}, [WEIGHT, np.ones(3)])


# Damage ---------------------------------------------------------------------------------------------------


def test_not_an_engine(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot read the engine file .*: No such file"):
        load(tmp_path / "absent.tw")
    with pytest.raises(ModelError, match="cannot read the engine file"):
        load(tmp_path)
    for content in (b"", b"PK", b"not a zip file at all" * 10):
        (tmp_path / "x.tw").write_bytes(content)
        with pytest.raises(ModelError, match="not an engine file, or a truncated one"):
            load(tmp_path / "x.tw")


def test_every_truncation_is_refused(path: Path) -> None:
    data = path.read_bytes()
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        with pytest.raises(ModelError):
            load(path)


def test_flipped_bytes_are_refused_or_harmless(path: Path) -> None:
    """Any byte may change: the file is refused, or what is read is what was written (padding, unused zip
    fields).
    """
    data = path.read_bytes()
    whole = contents(load(path))
    generator = random.Random(1)
    for position in generator.sample(range(len(data)), 600):
        damaged = bytearray(data)
        damaged[position] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        with contextlib.suppress(ModelError):
            assert contents(load(path)) == whole


def contents(engine: Engine) -> Any:
    """Everything an engine says, as comparable values."""
    texts = [engine.ptx(name) for name in engine.kernels] + [engine.ir(name) for name in engine.ir_stages]
    return engine.manifest.to_json(), texts, [array.tobytes() for _, array in engine.weights()]


def rewrite(path: Path, change: Callable[[dict[str, Any], dict[str, bytes]], None]) -> None:
    """Change manifest and members of an engine file, with right checksums, as somebody hostile would."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(members.pop("manifest.json"))
    change(manifest, members)
    for name in manifest["sha256"].keys() & members.keys():
        manifest["sha256"][name] = hashlib.sha256(members[name]).hexdigest()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        for name, data in members.items():
            archive.writestr(name, data)


def at(*keys: Any, value: Any) -> Callable[[dict[str, Any], dict[str, bytes]], None]:
    """Set one value deep in the manifest."""

    def change(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
        place: Any = manifest
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return change


def add_member(name: str) -> Callable[[dict[str, Any], dict[str, bytes]], None]:
    def change(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
        members[name] = b"x"
        manifest["sha256"][name] = "filled in by rewrite"

    return change


HUGE = 2**63
DAMAGE = {
    "newer format": (at("format", value=2), "the engine has format 2; this tilewright reads up to 1"),
    "unknown key": (at("extra", value=1), "manifest: unknown key 'extra'"),
    "missing key": (lambda m, _: m.pop("program"), "key 'program' is missing"),
    "not an object": (at("inputs", value=3), "'inputs' must be a list"),
    "complex of no parts": (at("inputs", 0, "complex", value=True), "complex numbers of f32"),
    "unknown dtype": (at("inputs", 0, "dtype", value="f7"), "'dtype' is 'f7'; known are f32"),
    "shape text": (at("inputs", 0, "shape", 0, value="n ** 9"), "not a symbolic integer"),
    "shape code": (at("inputs", 0, "shape", 0, value="__import__('os')"), "not a symbolic integer"),
    "long expression": (
        at("buffers", 0, "shape", 0, value="n+" * 5000 + "1"),
        "an expression of 10001 characters",
    ),
    "deep expression": (
        at("buffers", 0, "shape", 0, value="(" * 900 + "n" + ")" * 900),
        "not a symbolic integer",
    ),
    "exploding expression": (
        at("buffers", 0, "shape", 0, value="*".join(["(n+a+b+c+d)"] * 40)),
        "not a symbolic integer",
    ),
    "unbound symbol": (at("buffers", 4, "shape", 0, value="q"), "unknown symbol 'q'"),
    "symbol elsewhere": (at("symbols", "n", "axis", value=1), "dimension 1 of input 'x' is not n"),
    "symbol source": (at("symbols", "n", "input", value="w"), "there is no input 'w'"),
    "negative offset": (at("buffers", 2, "offset", value=-256), "-256 is outside"),
    "huge offset": (at("buffers", 2, "offset", value=HUGE), "is outside"),
    "offset out of range": (at("buffers", 2, "offset", value=2**40), "weights.bin has"),
    "overlapping weights": (at("buffers", 3, "offset", value=0), "it overlaps another weight"),
    "unaligned weight": (at("buffers", 3, "offset", value=300), "not a multiple of 256"),
    "weight size": (at("buffers", 2, "nbytes", value=1 << 20), "1048576 bytes for a shape of 16 bytes"),
    "huge weight": (at("buffers", 2, "shape", 0, value=str(HUGE)), "kernels number elements with 32 bits"),
    "symbolic weight": (at("buffers", 2, "shape", 0, value="n"), "is not constant"),
    "unknown buffer": (at("program", 0, "arguments", 0, value={"buffer": "q"}), "there is no buffer 'q'"),
    "both kinds of argument": (
        at("program", 0, "arguments", 0, value={"buffer": "x", "expression": "n"}),
        "either a buffer, an expression or a tensor map",
    ),
    "tensor map without a stride": (
        at("program", 0, "arguments", 0, value={"tensor_map": {
            "buffer": "x", "data_type": "float16", "shape": ["8", "n"], "strides": [], "box": [8, 8], "swizzle": "none",
        }}),
        "a stride less",
    ),
    "argument type": (
        at("program", 0, "arguments", 0, value={"expression": "n"}),
        "should be of type pointer",
    ),
    "argument count": (at("program", 0, "arguments", value=[]), "0 arguments for 4 parameters of 'add'"),
    "unknown kernel": (at("program", 0, "kernel", value="q"), "there is no kernel 'q'"),
    "unknown operation": (at("program", 0, "op", value="exec"), "'op' is 'exec'; known are launch"),
    "fill byte": (
        at("program", 0, value={"op": "fill", "target": "t0", "byte": 256}),
        "256 is outside 0 .. 255",
    ),
    "write to weight": (
        at("program", 0, value={"op": "fill", "target": "w", "byte": 0}),
        "it writes the weight buffer",
    ),
    "condition": (at("program", 0, value={"op": "if", "condition": "x", "then": []}), "is f32, not i1"),
    "lifetime": (
        at("buffers", 4, "last", value=0),
        "instruction 1: it uses buffer 't0' outside its lifetime 0 .. 0",
    ),
    "no lifetime": (at("buffers", 4, "last", value=None), "a temporary needs 'first' and 'last'"),
    "long lifetime": (at("buffers", 4, "last", value=10**9), "impossible lifetime"),
    "block": (at("kernels", 0, "block", value=[1024, 2, 1]), "a block of 1024 x 2 x 1 threads"),
    "same kernel twice": (lambda m, _: m["kernels"].append(m["kernels"][0]), "two kernels are called 'add'"),
    "output buffer": (at("outputs", 0, "buffer", value="q"), "there is no buffer 'q'"),
    "input buffer": (at("inputs", 0, "buffer", value="z"), "its buffer 'z' is of kind output"),
    "missing member": (lambda _, members: members.pop("weights.bin"), "member 'weights.bin' is missing"),
    "unlisted member": (lambda m, _: m["sha256"].pop("weights.bin"), "unknown member 'weights.bin'"),
    "path traversal": (
        add_member("kernels/../../etc/passwd.ptx"),
        "may not be called 'kernels/../../etc/passwd.ptx'",
    ),
    "absolute path": (add_member("/etc/passwd"), "may not be called '/etc/passwd'"),
    "surplus kernel": (add_member("kernels/q.ptx"), "kernel 'q' is only in one of manifest and members"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage(case: str, path: Path) -> None:
    change, message = DAMAGE[case]
    rewrite(path, change)
    with pytest.raises(ModelError) as caught:
        load(path)
    assert message in str(caught.value)


def test_wrong_hash(path: Path) -> None:
    rewrite(path, lambda manifest, members: None)
    load(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["kernels/add.ptx"] += b"// tampered\n"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    with pytest.raises(ModelError, match=r"member 'kernels/add\.ptx' is not what was written"):
        load(path)


def test_compressed_and_doubled_members(path: Path, recwarn: Any) -> None:
    data = path.read_bytes()
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ir/09-bomb.x.mlir", b"0" * 10**6)
    with pytest.raises(ModelError, match="is compressed or encrypted"):
        load(path)
    path.write_bytes(data)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("weights.bin", b"")
    with pytest.raises(ModelError, match=r"two members are called 'weights\.bin'"):
        load(path)


@pytest.mark.parametrize(
    "text", [b"[" * 100000, b"{}", b"\xff", b"[1]", b"{", b'{"format": 1e3}', b"9" * 5000]
)
def test_manifests_that_are_none(text: bytes, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.tw", "w") as archive:
        archive.writestr("manifest.json", text)
    with pytest.raises(ModelError):
        load(tmp_path / "x.tw")


# Saving ---------------------------------------------------------------------------------------------------


class FullDisk(io.FileIO):
    """A file on a disk that takes `room` more bytes."""

    room = 3000

    def write(self, data: Any) -> int:
        FullDisk.room -= len(data)
        if FullDisk.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


def test_full_disk_keeps_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()
    engine = load(path)
    for room in range(0, len(before), 500):
        FullDisk.room = room
        with monkeypatch.context() as patch:
            patch.setattr(builtins, "open", lambda file, mode: FullDisk(file, mode.replace("b", "")))
            with pytest.raises(ModelError, match=r"cannot write the engine file .*: No space left on device"):
                engine.save(path)
        assert path.read_bytes() == before and len(list(path.parent.iterdir())) == 1


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot write the engine file .*: No such file or directory"):
        affine().save(tmp_path / "absent" / "x.tw")


def test_sessions_name_why_a_device_was_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    from tilewright.runtime import device

    def no_gpu() -> Any:
        raise DeviceError("CUDA: cuInit cannot be called: no driver\n  more")

    monkeypatch.setattr(device, "_open_cuda", no_gpu)
    monkeypatch.setattr(device, "_open_emulator", FakeDevice)
    with affine().session() as session:
        assert session.device_reason == "no CUDA GPU can be used: CUDA: cuInit cannot be called: no driver"
    with pytest.raises(DeviceError, match="cuInit"):
        affine().session("cuda")
    monkeypatch.setattr(device, "_open_emulator", no_gpu)
    with pytest.raises(DeviceError, match=r"(?s)no device can be opened\n  cuda: .*\n  emulator: "):
        affine().session()


def test_a_tensor_with_more_elements_than_kernels_can_number() -> None:
    buffer = Buffer("b", "f32", (parse("n"), parse("65536")), "temporary", first=0, last=1)
    assert buffer.size({"n": 32767}) == 32767 * 65536 * 4
    with pytest.raises(ModelError, match="kernels number elements with 32 bits"):
        buffer.size({"n": 32768})

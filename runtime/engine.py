"""An engine: kernels, host program and weights of one compiled model, in a file or in memory.

In: the path of an engine file, or the parts the compiler made. Out: an `Engine` that opens sessions, is
inspected and is saved. It exists so that everything after compiling needs this one object and no compiler.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from . import archive
from .checks import check
from .device import Device, choose_device
from .dtypes import raw_bytes
from .errors import InternalError, ModelError
from .manifest import Buffer, KernelDescription, Manifest, SymbolSource, TensorBinding
from .program import Program

if TYPE_CHECKING:
    from .session import Session

Array: TypeAlias = np.ndarray[Any, Any]
Weight: TypeAlias = Array | Callable[[], Array]

MANIFEST = "manifest.json"
WEIGHTS = "weights.bin"
_LARGEST_MANIFEST = 1 << 28  # bytes; real ones have a few hundred kilobytes
_MEMBER_NAME = re.compile(
    r"kernels/[A-Za-z0-9_$][A-Za-z0-9_$.-]*\.ptx"
    r"|ir/[A-Za-z0-9_$][A-Za-z0-9_$.-]*\.mlir|weights\.bin"
)
_CHUNK = 1 << 24


class Engine:
    """A compiled model. `manifest` describes it; PTX, IR dumps and weights are given by name."""

    manifest: Manifest
    path: Path | None

    def __init__(
        self,
        manifest: Manifest,
        kernels: Mapping[str, str],
        ir: Mapping[str, str],
        weights: Iterable[Weight],
        path: Path | None = None,
    ) -> None:
        self.manifest = manifest
        self.path = path
        self._kernels = dict(kernels)
        self._ir = dict(ir)
        self._weights = tuple(weights)

    @classmethod
    def build(
        cls, manifest: Manifest, kernels: Mapping[str, str], ir: Mapping[str, str], weights: Iterable[Weight]
    ) -> Engine:
        """An engine in memory, from what the compiler made.

        `kernels` maps kernel names to PTX and `ir` member names (`ir/03-graph.fuse.mlir`) to text. `weights`
        are arrays, memory maps or functions that make an array, in the order of the weight buffers of
        `manifest`, whose offsets are filled in here. Raises InternalError when the parts do not fit together.
        """
        manifest = replace(manifest.with_weight_offsets(), sha256={})
        engine = cls(manifest, kernels, ir, weights)
        try:
            check(manifest)
            engine._check_members(set(engine._texts()))
        except ModelError as error:
            raise InternalError(f"the compiler made an inconsistent engine\n  {error}") from error
        if len(engine._weights) != len(manifest.weights):
            raise InternalError(f"{len(engine._weights)} arrays for {len(manifest.weights)} weight buffers")
        for buffer, weight in zip(manifest.weights, engine._weights, strict=True):
            if not callable(weight):
                _check_array(buffer, weight)
        return engine

    # Reading ----------------------------------------------------------------------------------------------
    @classmethod
    def load(cls, path: str | Path, trusted: bool = False) -> Engine:
        """Open an engine file; weights stay memory-mapped. Raises ModelError unless the file is sound.

        `trusted` leaves out the digests of members, for a file that this process has just written.
        """
        path = Path(path)
        source = archive.Archive(path)
        members = source.members
        manifest = _read_manifest(members)
        if not source.is_sound(MANIFEST):
            raise ModelError(f"damaged engine: {MANIFEST} is not what was written (wrong checksum)")
        check(manifest)
        for name, digest in manifest.sha256.items():
            if name not in members:
                raise ModelError(f"damaged engine: member {name!r} is missing")
            if not trusted and hashlib.sha256(members[name]).hexdigest() != digest:
                raise ModelError(f"damaged engine: member {name!r} is not what was written (wrong sha256)")
        surplus = members.keys() - manifest.sha256.keys() - {MANIFEST}
        if surplus:
            raise ModelError(f"damaged engine: unknown member {sorted(surplus)[0]!r}")
        texts = {name: _text(name, view) for name, view in members.items() if name not in (MANIFEST, WEIGHTS)}
        kernels = {name[8:-4]: text for name, text in texts.items() if name.startswith("kernels/")}
        ir = {name: text for name, text in texts.items() if name.startswith("ir/")}
        engine = cls(manifest, kernels, ir, _mapped_weights(manifest, members), path)
        engine._check_members(set(members) - {MANIFEST})
        return engine

    def _check_members(self, names: set[str]) -> None:
        for name in sorted(names):
            if not _MEMBER_NAME.fullmatch(name):
                raise ModelError(f"damaged engine: a member may not be called {name!r}")
        wanted = set(self.kernels)
        if wanted != set(self._kernels):
            kernel = sorted(wanted ^ set(self._kernels))[0]
            raise ModelError(f"damaged engine: kernel {kernel!r} is only in one of manifest and members")

    # Writing ----------------------------------------------------------------------------------------------
    def save(self, path: str | Path) -> None:
        """Write the engine file, the same bytes for the same engine, replacing `path` at the end in one go.

        Weights are streamed one by one. Raises ModelError when the file cannot be written, and leaves what
        stood there.
        """
        members = [archive.Member(name, _whole(text.encode())) for name, text in self._texts().items()]
        if self.manifest.weights:
            members.append(archive.Member(WEIGHTS, self._weight_chunks))
        digests = {member.name: _digest(member.chunks()) for member in members}
        manifest = replace(self.manifest, sha256=digests)
        text = json.dumps(manifest.to_json(), ensure_ascii=False, separators=(",", ":")) + "\n"
        archive.write(Path(path), [archive.Member(MANIFEST, _whole(text.encode())), *members])

    def _texts(self) -> dict[str, str]:
        kernels = {f"kernels/{name}.ptx": text for name, text in sorted(self._kernels.items())}
        return kernels | dict(sorted(self._ir.items()))

    def _weight_chunks(self) -> Iterator[memoryview]:
        position = 0
        for buffer, array in self.weights():
            offset = buffer.offset or 0
            yield memoryview(bytes(offset - position))
            data = raw_bytes(array).data
            for start in range(0, len(data), _CHUNK):
                yield data[start : start + _CHUNK]
            position = offset + len(data)

    # Looking ----------------------------------------------------------------------------------------------
    @property
    def target(self) -> str:
        """The GPU target the kernels are for, such as `sm_90a`."""
        return self.manifest.target

    @property
    def precision(self) -> str:
        """model, strict, tf32, f16 or bf16."""
        return self.manifest.precision

    @property
    def model(self) -> str:
        """The model's name."""
        return self.manifest.model

    @property
    def inputs(self) -> tuple[TensorBinding, ...]:
        """The model's inputs in order."""
        return self.manifest.inputs

    @property
    def outputs(self) -> tuple[TensorBinding, ...]:
        """The model's outputs in order."""
        return self.manifest.outputs

    @property
    def symbols(self) -> dict[str, SymbolSource]:
        """Symbolic dimensions, and where each is read."""
        return self.manifest.symbols

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """Every buffer of the host program."""
        return self.manifest.buffers

    @property
    def kernels(self) -> dict[str, KernelDescription]:
        """Kernels by name."""
        return self.manifest.kernel_table()

    @property
    def program(self) -> Program:
        """The host program."""
        return self.manifest.program

    def ptx(self, kernel: str) -> str:
        """The PTX of a kernel. Raises ModelError for an unknown name."""
        if kernel not in self._kernels:
            raise ModelError(f"the engine has no kernel {kernel!r}\n  kernels: {', '.join(self._kernels)}")
        return self._kernels[kernel]

    @property
    def ir_stages(self) -> tuple[str, ...]:
        """Names of the IR dumps in pipeline order, such as `03-graph.fuse`."""
        return tuple(name[len("ir/") : -len(".mlir")] for name in sorted(self._ir))

    def ir(self, stage: str) -> str:
        """The IR dump of a stage, given its name, its number, or its level and stage. Raises ModelError."""
        for name in self.ir_stages:
            number, _, rest = name.partition("-")
            if stage in (name, number, rest, rest.partition(".")[2]):
                return self._ir[f"ir/{name}.mlir"]
        raise ModelError(
            f"the engine has no IR dump {stage!r}\n  stages: {', '.join(self.ir_stages) or 'none'}"
        )

    def weights(self) -> Iterator[tuple[Buffer, Array]]:
        """(buffer, array) one by one, in the order of weights.bin; read-only views where mapped."""
        for buffer, weight in zip(self.manifest.weights, self._weights, strict=True):
            array = weight() if callable(weight) else weight
            _check_array(buffer, array)
            yield buffer, array

    def session(self, device: str | Device = "auto", checked: bool = False) -> Session:
        """Open a session: kernels loaded and weights uploaded, ready to run. Raises DeviceError.

        `device` is auto, cuda, emulator or an open device, which the session then closes. `checked` finds
        more mistakes of kernels, at a price; see `Session`.
        """
        from .session import Session

        if not isinstance(device, str):
            if not hasattr(device, "launch"):
                raise ModelError(f"{device!r} is no device\n  supported: auto, cuda, emulator, an open device")
            return Session(self, device, checked=checked)
        choice = choose_device(device)
        return Session(self, choice.device, choice.reason, checked)

    def __repr__(self) -> str:
        launches = len(self.program.launches)
        counts = f"{launches} launches, {len(self.kernels)} kernels"
        return f"Engine({self.model!r}, {self.target}, {self.precision}, {counts})"


def load(path: str | Path) -> Engine:
    """Open an engine file. Raises ModelError unless the file is sound."""
    return Engine.load(path)


def _read_manifest(members: Mapping[str, memoryview]) -> Manifest:
    view = members.get(MANIFEST)
    if view is None:
        raise ModelError(f"not an engine file: it has no {MANIFEST}")
    if len(view) > _LARGEST_MANIFEST:
        raise ModelError(f"damaged engine: {MANIFEST} has {len(view)} bytes")
    try:
        value = json.loads(bytes(view))
    except (ValueError, RecursionError, MemoryError) as error:
        raise ModelError(f"damaged engine: {MANIFEST} is not JSON: {error}") from error
    return Manifest.from_json(value)


def _mapped_weights(manifest: Manifest, members: Mapping[str, memoryview]) -> list[Array]:
    view = members.get(WEIGHTS, memoryview(b""))
    if len(view) != manifest.weight_bytes:
        raise ModelError(
            f"damaged engine: {WEIGHTS} has {len(view)} bytes, {manifest.weight_bytes} are described"
        )
    arrays = []
    for buffer in manifest.weights:
        offset, nbytes = buffer.offset or 0, buffer.nbytes or 0
        shape = [extent.evaluate({}) for extent in buffer.shape]
        arrays.append(
            np.frombuffer(view[offset : offset + nbytes], dtype=buffer.element.numpy).reshape(shape)
        )
    return arrays


def _check_array(buffer: Buffer, array: Array) -> None:
    if array.nbytes != buffer.nbytes or array.dtype.newbyteorder("=") != buffer.element.numpy:
        wanted = f"{buffer.dtype}[{', '.join(map(str, buffer.shape))}]"
        raise InternalError(
            f"weight {buffer.name!r} is {wanted}, not an array {array.dtype}{list(array.shape)}"
        )


def _text(name: str, view: memoryview) -> str:
    try:
        return bytes(view).decode()
    except UnicodeDecodeError as error:
        raise ModelError(f"damaged engine: member {name!r} is not text") from error


def _whole(data: bytes) -> archive.Chunks:
    return lambda: (memoryview(data),)


def _digest(chunks: Iterable[memoryview]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()

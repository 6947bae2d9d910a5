"""From a program to the code of its warp function: the compiler of the fast engine.

In: a program, the addresses of global variables, the block shape. Out: a `Translation`: code and what is needed
to launch it and to tell its faults. Why: the result depends on nothing else, so that it can be kept on disk.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..cache import Cache, make_key
from .affine import Affine
from .control_flow import Program
from .kernel_facts import KernelFacts, kernel_facts
from .latches import with_single_latches
from .llvm_codegen import Extents, Generator, Unsupported
from .llvm_control import Control
from .llvm_image import image
from .llvm_library import Library
from .llvm_module import Module, Site
from .llvm_patterns import expected_addresses
from .llvm_runner import DECLARATION, runner
from .numpy_layout import Layout
from .spins import YIELD, with_yields
from .uniformity import analyse

CACHE_SECTION = "emulator"
_SOURCES = frozenset((
    "uniformity.py", "affine.py", "control_flow.py", "latches.py", "spins.py", "parser.py", "ptx.py", "numpy_layout.py",
    "numpy_small_floats.py", "kernel_facts.py", "memory.py", "tensor_map.py",
))  # fmt: skip
"""What decides how PTX is translated, besides llvm_*.py and the folder isa."""


@dataclass(frozen=True, slots=True)
class Translation:
    """Code of one kernel for one block shape: `images` (as bytes) are its own, under `symbol`, and those of the
    helpers that it calls, directly or not. `sites` is the text of a list of fields of a `Site` each, read only where a
    fault is told; `barriers` are (block number, PTX line, arrives only) in slot order; `waits` (PTX line, opcode,
    modifiers, bytes from the start of a record to what is kept of the wait); `calls` the fields of a `HostCall` by the
    number of its site; sizes in bytes, one record per warp."""

    images: dict[str, bytes]
    symbol: str
    facts: KernelFacts
    sites: str
    site_count: int
    barriers: tuple[tuple[int, int, bool], ...]
    waits: list[list[Any]]
    calls: dict[str, dict[str, Any]]
    record_bytes: int
    local_bytes: int
    atomics: bool

    @property
    def spins(self) -> bool:
        """Whether warps may wait for memory that others write, in a loop."""
        return any(opcode == YIELD for _, opcode, _, _ in self.waits)

    def site(self, number: int) -> Site:
        """What the memory access of this number is."""
        return Site(*json.loads(self.sites)[number])

    def to_bytes(self) -> bytes:
        """For the cache."""
        head = {one.name: getattr(self, one.name) for one in fields(self)}
        head["images"] = [[symbol, len(data)] for symbol, data in self.images.items()]
        head["facts"] = asdict(self.facts)
        sites = head.pop("sites").encode()
        head["site_bytes"] = len(sites)
        text = json.dumps(head).encode()
        return b"".join((len(text).to_bytes(4, "little"), text, sites, *self.images.values()))

    @classmethod
    def from_bytes(cls, data: bytes) -> Translation:
        """The inverse of `to_bytes`. Raises ValueError for anything else."""
        length = int.from_bytes(data[:4], "little")
        try:
            head = json.loads(data[4 : 4 + length])
            barriers = tuple((block, line, arrives) for block, line, arrives in head.pop("barriers"))
            facts = KernelFacts.from_dictionary(head.pop("facts"))
            images, place = {}, 4 + length + head.pop("site_bytes")
            sites = data[4 + length : place].decode()
            for symbol, nbytes in head.pop("images"):
                images[symbol] = data[place : place + nbytes]
                place += nbytes
            return cls(images=images, barriers=barriers, facts=facts, sites=sites, **head)
        except (TypeError, KeyError) as error:
            raise ValueError(f"not a translation: {error}") from error


@functools.cache
def engine_version() -> str:
    """A digest of everything that decides how PTX is translated: of the text of files, kept in the cache under their
    sizes and times, since reading them takes longer than linking twenty kernels."""
    folder = Path(__file__).parent
    found = [entry for entry in os.scandir(folder) if entry.name in _SOURCES or entry.name.startswith("llvm_")]
    found += [entry for entry in os.scandir(folder / "isa") if entry.name.endswith(".py")]
    found.sort(key=lambda entry: entry.path)
    statuses = [entry.stat() for entry in found]
    key = make_key(*(f"{entry.path} {status.st_size} {status.st_mtime_ns}"
                     for entry, status in zip(found, statuses, strict=True)))  # fmt: skip
    cache = Cache()
    kept = cache.get(CACHE_SECTION, key)
    if kept is not None:
        return kept.decode()
    digest = hashlib.sha256(b"".join(Path(entry.path).read_bytes() for entry in found)).hexdigest()
    cache.put(CACHE_SECTION, key, digest.encode())
    return digest


def write_module(
    program: Program, addresses: dict[str, int], shape: Extents, symbol: str, wide: bool
) -> tuple[str, Module, Control, bool]:
    """(LLVM IR, its module, its control flow, whether there are atomics). Raises Unsupported."""
    layout = Layout(program, addresses)
    local_bytes = -(-layout.local_bytes // 16) * 16
    module = Module(wide, local_bytes, layout.parameter_bytes)
    cluster = program.cluster_shape or (1, 1, 1)
    module.cluster_blocks = cluster[0] * cluster[1] * cluster[2]
    uniformity = analyse(program, Affine(shape, layout.offsets))
    emit = Generator(program, layout, shape, module, uniformity, expected_addresses(program, layout, shape))
    control = Control(emit)
    warp = control.generate()
    module.declarations["llvm.memset"] = DECLARATION
    module.functions["warp"] = warp
    threads = shape[0] * shape[1] * shape[2]
    module.functions["run"] = runner(symbol, control.waits.record, threads, local_bytes, len(module.sites), cluster)
    return module.text(), module, control, emit.atomics


def translate(
    program: Program, addresses: dict[str, int], shape: Extents, symbol: str, library: Library,
    helper: Callable[[str, str], bytes],
) -> Translation:  # fmt: skip
    """Compile for the host; `helper` gives the image of a helper by its symbol and its IR. Raises Unsupported where an
    instruction is missing."""
    program = with_single_latches(with_yields(program))
    wide = all(map(library.host.has, ("avx512f", "avx512bw", "avx512dq")))
    try:
        text, module, control, atomics = write_module(program, addresses, shape, symbol, wide)
    except (AssertionError, IndexError, ValueError, KeyError, TypeError) as error:
        # The NumPy engine has accepted the kernel: it is a form that only this engine does not know.
        raise Unsupported(f"a form of operands ({type(error).__name__}: {error})") from error
    barriers = []
    for number in control.waits.barriers:
        ender = program.blocks[number].exit.instruction
        assert ender is not None
        barriers.append((number, ender.line, ender.has("arrive")))
    facts = kernel_facts(program, Layout(program, addresses))
    sites = json.dumps([[site.line, site.space, site.verb, site.nbytes] for site in module.sites])
    images = {symbol: image(library.compile(text), symbol).to_bytes()}
    images.update((name, helper(name, text)) for name, text in module.helpers.items())
    return Translation(
        images, symbol, facts, sites, len(module.sites), tuple(barriers),
        control.waits.waits.told(), {str(site): asdict(wanted) for site, wanted in module.calls.items()},
        control.waits.record.nbytes, module.local_bytes, atomics,
    )  # fmt: skip

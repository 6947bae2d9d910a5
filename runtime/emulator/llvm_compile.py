"""From a program to the object file of its warp function: the compiler of the fast engine.

In: a program, the addresses of global variables, the block shape. Out: a `Translation`: object code and what is needed
to launch it and to tell its faults. Why: the result depends on nothing else, so that it can be kept on disk.
"""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .affine import Affine
from .control_flow import Program
from .kernel_facts import KernelFacts, kernel_facts
from .latches import with_single_latches
from .llvm_codegen import Extents, Generator, Unsupported
from .llvm_control import Control
from .llvm_library import Library
from .llvm_module import Module, Site
from .llvm_patterns import expected_addresses
from .llvm_runner import DECLARATION, runner
from .numpy_layout import Layout
from .spins import YIELD, with_yields
from .uniformity import analyse

_SOURCES = (
    "llvm_*.py", "isa/*.py", "uniformity.py", "affine.py", "control_flow.py", "latches.py", "spins.py", "parser.py",
    "ptx.py", "numpy_layout.py", "numpy_small_floats.py", "kernel_facts.py", "memory.py",
    "tensor_map.py",
)  # fmt: skip

@dataclass(frozen=True, slots=True)
class Translation:
    """Object code of one kernel for one block shape. `helpers` are the symbols that it calls, directly or not;
    `sites` is the text of a list of fields of a `Site` each, read only where a fault is told; `barriers` are (block
    number, PTX line, arrives only) in slot order; `waits` (PTX line, opcode, modifiers, bytes from the start of a
    record to what is kept of the wait); `calls` the fields of a `HostCall` by the number of its site; sizes in bytes,
    one record per warp."""

    content: bytes
    symbol: str
    helpers: tuple[str, ...]
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
        head = asdict(self)
        del head["content"]
        text = json.dumps(head).encode()
        return len(text).to_bytes(4, "little") + text + self.content

    @classmethod
    def from_bytes(cls, data: bytes) -> Translation:
        """The inverse of `to_bytes`. Raises ValueError for anything else."""
        length = int.from_bytes(data[:4], "little")
        try:
            head = json.loads(data[4 : 4 + length])
            barriers = tuple((block, line, arrives) for block, line, arrives in head.pop("barriers"))
            facts = KernelFacts.from_dictionary(head.pop("facts"))
            helpers = tuple(head.pop("helpers"))
            return cls(
                content=data[4 + length :], barriers=barriers, facts=facts, helpers=helpers, **head
            )  # fmt: skip
        except (TypeError, KeyError) as error:
            raise ValueError(f"not a translation: {error}") from error


@functools.cache
def engine_version() -> str:
    """A digest of everything that decides how PTX is translated."""
    folder = Path(__file__).parent
    digest = hashlib.sha256()
    for pattern in _SOURCES:
        for path in sorted(folder.glob(pattern)):
            digest.update(path.read_bytes())
    return digest.hexdigest()


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
    program: Program, addresses: dict[str, int], shape: Extents, symbol: str, library: Library
) -> tuple[Translation, dict[str, str]]:
    """Compile for the host; also gives the IR of each helper. Raises Unsupported where an instruction is missing."""
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
    translation = Translation(
        library.compile(text), symbol, tuple(module.helpers), facts, sites, len(module.sites), tuple(barriers),
        control.waits.waits.told(), {str(site): asdict(wanted) for site, wanted in module.calls.items()},
        control.waits.record.nbytes, module.local_bytes, atomics,
    )  # fmt: skip
    return translation, module.helpers

"""The sanitizer: an instrument of the emulated device that finds what a GPU would hide.

In: launches and host transfers of a device. Out: findings: races in shared memory and between blocks, missing waits
and proxy fences, reads of memory that nobody wrote, and faults. Why: such kernels give right answers on a good day,
and nobody finds them on a bad one.
"""

from __future__ import annotations

from dataclasses import replace

from ..errors import DeviceError
from .memory import GlobalMemory
from .numpy_chunk import Chunk, Launch
from .numpy_codegen import Compiled
from .observer import Instrument, Observer, Order
from .sanitizer_chunk import ChunkSanitizer
from .sanitizer_findings import FAULT, RACE, UNWRITTEN, Access, Finding, Findings
from .sanitizer_global import Contents, GlobalShadow, unwritten
from .sanitizer_kernel import KernelFacts
from .sanitizer_registers import UNFENCED, register_faults

_SHADOW_BYTES = 1 << 25
"""About how much shadow a chunk may have: it should stay in the cache."""
_RECORD_BYTES = 8


class Sanitizer(Instrument):
    """Watches one device. `findings` holds what was found since it was made, `launches` how many launches were
    watched.
    """

    def __init__(self, order: Order | None = None, delayed: bool = True) -> None:
        """`order` of warps and blocks; `delayed`: asynchronous copies arrive as late as they may."""
        self.order = order or Order()
        self.delayed = delayed
        self.findings = Findings()
        self.launches = 0
        self.kernels: set[str] = set()
        self._memory: GlobalMemory | None = None
        self._contents: Contents | None = None
        self._facts: dict[int, KernelFacts] = {}
        self._kernel = ""
        self._current: KernelFacts | None = None
        self._shadow: GlobalShadow | None = None

    # The device.
    def attach(self, memory: GlobalMemory) -> None:
        self._memory, self._contents = memory, Contents(memory)

    def defined(self, address: int, nbytes: int) -> None:
        if self._contents is not None:
            self._contents.define(address, nbytes)

    def forgotten(self, address: int, nbytes: int) -> None:
        if self._contents is not None:
            self._contents.forget(address, nbytes)

    def copied(self, target: int, source: int, nbytes: int) -> None:
        if self._contents is not None:
            self._contents.copy(target, source, nbytes)

    def downloaded(self, address: int, nbytes: int) -> None:
        if self._contents is None or self._memory is None:
            return
        finding = unwritten(self._contents, self._memory, address, nbytes)
        if finding is not None and not self.findings.seen(("", UNWRITTEN, finding.what, 0, 0), 1):
            self.findings.add(("", UNWRITTEN, finding.what, 0, 0), finding)

    # Launches.
    def begin(self, compiled: Compiled, launch: Launch) -> int:
        assert self._memory is not None and self._contents is not None
        facts = self._facts.get(id(compiled))
        if facts is None:
            facts = self._facts[id(compiled)] = KernelFacts.of(compiled.program)
            self._check_registers(compiled, facts, launch)
        self._current, self._kernel = facts, launch.kernel
        blocks = launch.grid[0] * launch.grid[1] * launch.grid[2]
        warps = -(-(launch.block[0] * launch.block[1] * launch.block[2]) // 32)
        clusters = launch.cluster != (1, 1, 1)
        self._shadow = GlobalShadow(self._memory, self._contents, facts, blocks, warps, clusters, self.findings)
        self.launches += 1
        self.kernels.add(launch.kernel)
        cells = launch.shared_bytes // facts.shared_granule + 1
        return max(1, _SHADOW_BYTES // (cells * _RECORD_BYTES * (warps + 1)))

    def _check_registers(self, compiled: Compiled, facts: KernelFacts, launch: Launch) -> None:
        """What follows from the instructions alone: registers and wgmma."""
        for fault in register_faults(compiled.program):
            key = (launch.kernel, RACE, fault.kind, fault.line, fault.earlier)
            if self.findings.seen(key, 1):
                continue
            access = Access("uses it", "every thread", fault.line, facts.describe(fault.line))
            earlier = Access("works on it", "every thread", fault.earlier, facts.describe(fault.earlier))
            what = f"register {fault.register} is used while a wgmma may still work on it: no wgmma.wait_group between"
            if fault.kind == UNFENCED:
                what = f"register {fault.register} is handed to wgmma without a wgmma.fence after it was written"
                earlier = replace(earlier, verb="wrote it")
            self.findings.add(
                key, Finding(RACE, launch.kernel, what, access, earlier if fault.earlier else None)
            )

    def observe(self, chunk: Chunk) -> Observer:
        assert self._current is not None and self._shadow is not None
        return ChunkSanitizer(chunk, self._current, self._shadow, self.findings)

    def finish(self, error: DeviceError | None) -> None:
        if error is not None:
            what = str(error).removeprefix("emulator: ")
            key = (self._kernel, FAULT, what.split("\n")[0], 0, 0)
            if not self.findings.seen(key, 1):
                self.findings.add(key, Finding(FAULT, self._kernel, what))
        self._shadow = self._current = None

"""A loaded kernel: parsed, translated and compiled only as far as it is needed.

In: PTX text, the engines, the policy, the cache. Out: launches on one of the engines. Why: a kernel found in the cache
costs a millisecond; one that is launched once on a few threads should not wait for a compiler.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ..cache import Cache, make_key
from ..device import LaunchArgument
from .control_flow import Program, build, mentioned_symbols
from .kernel_facts import Extents, KernelFacts, Packing, kernel_facts
from .llvm_codegen import Unsupported
from .llvm_compile import CACHE_SECTION, Translation, engine_version, translate
from .llvm_engine import Kernel, LlvmEngine
from .llvm_image import image
from .numpy_chunk import Launch
from .numpy_engine import Compiled, NumpyEngine
from .numpy_layout import Layout
from .parser import parse
from .policy import Choice, Policy
from .ptx import Module


@dataclass(slots=True)
class Engines:
    """What the kernels of one device share. `fast` is None where it cannot run."""

    policy: Policy
    numpy: NumpyEngine
    fast: LlvmEngine | None
    cache: Cache
    place_variables: Callable[[Module], dict[str, int]]
    observed: bool


@dataclass(slots=True)
class EmulatedKernel:
    """A kernel that `EmulatorDevice.load` made; opaque to callers. `cluster` is what its launches ask for, where its
    PTX does not. `choices` tells for each block shape which engine runs it, and why; `checked` is the grid, block and
    shared memory that was last found to be allowed, `latest` the last launch, which is used again when nothing differs
    from it, `arguments` what it was given; `packing` is how arguments become bytes."""

    name: str
    ptx: str
    engines: Engines
    cluster: Extents | None = None
    module: Module = field(init=False)
    facts: KernelFacts = field(init=False)
    choices: dict[Extents, Choice] = field(default_factory=dict)
    checked: tuple[Extents, Extents, int] | None = None
    latest: Launch | None = None
    arguments: tuple[LaunchArgument, ...] = ()
    packing: Packing | None = None
    _program: Program | None = None
    _addresses: dict[str, int] = field(default_factory=dict)
    _compiled: Compiled | None = None
    _fast: dict[Extents, Kernel] = field(default_factory=dict)
    _seconds: float = 0.0

    def __post_init__(self) -> None:
        """Look into the cache; parse where there is nothing. Raises DeviceError for PTX that cannot run."""
        found = self._cached("") if self.engines.fast is not None else None
        if found is not None and found.facts.block_shape is not None:
            self.facts = found.facts
            self.module = Module({}, {}, self.ptx, "")
            self._link(found, found.facts.block_shape, "its compiled code was in the cache")
            return
        program = self.program
        self.facts = kernel_facts(program, Layout(program, self._addresses))
        shape = self.facts.block_shape
        choice = self.engines.policy.choose(program, 1, 0.0)
        if choice.engine == "llvm" and self.facts.block_required and shape is not None:
            self._compile(shape, choice.reason)
        if not self._fast:
            self.compiled  # noqa: B018 - what no engine can run is found while loading

    @property
    def program(self) -> Program:
        """The parsed kernel."""
        if self._program is None:
            self.module = parse(self.ptx)
            if self.cluster is not None and self.name in self.module.functions:
                self.module.functions[self.name].cluster_shape = self.cluster
            self._program = build(self.module, self.name)
            kept = {name for name, variable in self.module.variables.items() if variable.space in ("global", "const")}
            # Addresses would tie the compiled code to this device, so that it could not be kept in the cache.
            if kept & mentioned_symbols(self._program):
                self._addresses = self.engines.place_variables(self.module)
        return self._program

    @property
    def compiled(self) -> Compiled:
        """The kernel as the NumPy engine runs it."""
        if self._compiled is None:
            program = self.program
            self._compiled = self.engines.numpy.compile(program, self._addresses, self.engines.observed)
        return self._compiled

    def launch(self, launch: Launch) -> None:
        """Run to the end on the engine that the policy chooses. Raises DeviceError for findings."""
        kernel = self._fast.get(launch.block) or self._compile_if_wanted(launch)
        if kernel is not None:
            assert self.engines.fast is not None
            self.engines.fast.run(kernel, launch)
            return
        start = time.perf_counter()
        self.engines.numpy.run(self.compiled, launch)
        self._seconds += time.perf_counter() - start

    def prepare(self, shape: Extents) -> None:
        """Have the fast engine's code for one block shape, whatever the policy would say, if it can be had."""
        if self.engines.fast is not None and shape not in self._fast:
            self._compile(shape, "asked for")

    def _compile_if_wanted(self, launch: Launch) -> Kernel | None:
        """The kernel for the fast engine, if the policy says so and it can be translated."""
        old = self.choices.get(launch.block)
        if self.engines.fast is None or (old is not None and old.engine == "refused"):
            return None
        x, y, z = launch.grid
        threads = x * y * z * launch.block[0] * launch.block[1] * launch.block[2]
        choice = self.engines.policy.choose(self.program, threads, self._seconds)
        self.choices[launch.block] = choice
        if choice.engine != "llvm":
            return None
        return self._compile(launch.block, choice.reason)

    def _compile(self, shape: Extents, reason: str) -> Kernel | None:
        fixed = self.facts.block_shape == shape and self.facts.block_required
        found = None if fixed else self._cached(str(shape))
        if found is None:
            try:
                found = self._translate(shape, "" if fixed else str(shape))
            except Unsupported as error:
                self.choices[shape] = Choice("refused", f"the LLVM engine lacks it: {error}")
                return None
        return self._link(found, shape, reason)

    def _translate(self, shape: Extents, part: str) -> Translation:
        program = self.program
        key = self._key(part)
        assert self.engines.fast is not None
        library = self.engines.fast.library
        found = translate(program, self._addresses, shape, "run_" + key[:32], library, self._helper)
        if not self._addresses:
            self.engines.cache.put(CACHE_SECTION, key, found.to_bytes())
            self.engines.cache.trim()
        return found

    def _helper(self, symbol: str, text: str) -> bytes:
        """The image of a helper, from the cache or compiled."""
        assert self.engines.fast is not None
        library, cache = self.engines.fast.library, self.engines.cache
        key = make_key("image", library.host.key, symbol)
        content = cache.get(CACHE_SECTION, key)
        if content is None:
            content = image(library.compile(text), symbol).to_bytes()
            cache.put(CACHE_SECTION, key, content)
        return content

    def _link(self, translation: Translation, shape: Extents, reason: str) -> Kernel:
        assert self.engines.fast is not None
        self.choices[shape] = Choice("llvm", reason)
        kernel = self._fast[shape] = Kernel(translation, shape)
        return kernel

    def _key(self, part: str) -> str:
        """Everything that a translation depends on; `part` is the block shape where PTX does not fix it."""
        assert self.engines.fast is not None
        host = self.engines.fast.library.host.key
        part = f"{part} {self.cluster}" if self.cluster is not None else part
        return make_key(engine_version(), host, self.name, part, repr(sorted(self._addresses.items())), self.ptx)

    def _cached(self, part: str) -> Translation | None:
        cache = self.engines.cache
        content = cache.get(CACHE_SECTION, self._key(part))
        if content is None:
            return None
        try:
            return Translation.from_bytes(content)
        except ValueError:
            return None

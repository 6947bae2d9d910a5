"""A session: an engine on a device, ready to run.

In: arrays by input name. Out: arrays by output name, on the host or left on the device. It exists to do once
what needs doing once (kernels, weights), once per shape what depends on the shape (plan, graph), and the rest
with as little as possible per run.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType, TracebackType
from typing import Any, NoReturn

import numpy as np

from .arrays import Allocation, Array, DeviceArray, accept, gather, is_contiguous
from .binding import HostValue, TensorSpecification, Value, bind, check_equalities, check_names, describe, parts_of
from .device import Device, Graph, Kernel, release_all
from .dlpack import ForeignMemory
from .dtypes import COMPLEX, COMPLEX_OF, HOST_TYPES, dtype, raw_bytes
from .engine import Engine
from .errors import DeviceError, ModelError
from .execution import KernelTiming, Planner, Run, Step
from .manifest import TensorBinding, evaluate_shape
from .measuring import Measurement, measure
from .memory import SessionMemory
from .memory_plan import ArenaPlan, lifetimes, plan_arena
from .pipelined import run_each
from .program import Call

_SHAPES_KEPT = 64  # plans; small
_GRAPHS_KEPT = 16  # captured graphs, some hundred kilobytes of device memory each
_POINTER_ALIGNMENT = 16  # bytes; the widest access of a kernel


@dataclass(frozen=True)
class ShapePlan:
    """What depends on the shape only: sizes, places and prepared instructions."""

    symbols: dict[str, int]
    sizes: dict[str, int]
    arena: ArenaPlan
    planner: Planner
    steps: tuple[Step, ...]


ShapeKey = tuple[int, ...]
GraphKey = tuple[ShapeKey, tuple[tuple[str, int], ...]]


class Session:
    """Runs an engine. A context manager; safe to use from several threads, which take turns.

    `inputs` and `outputs` describe the tensors, `device` is what runs them, and `device_reason` says why that
    one.
    """

    def __init__(
        self, engine: Engine, device: Device, device_reason: str = "passed in", checked: bool = False
    ) -> None:
        """Load kernels and upload weights; the session owns `device` and closes it. Raises DeviceError.

        `checked` is for tests of kernels: every buffer is an allocation of its own, so that the emulator
        checks each one's bounds, and full of NaN before each run.
        """
        self.device = device
        self.device_reason = device_reason
        self.inputs: list[TensorSpecification] = [describe(binding) for binding in engine.inputs]
        self.outputs: list[TensorSpecification] = [describe(binding) for binding in engine.outputs]
        self._manifest = engine.manifest
        self._memory = SessionMemory(device, checked)
        self._kernels: dict[str, Kernel] = {}
        self._plans: OrderedDict[ShapeKey, ShapePlan] = OrderedDict()
        self._graphs: OrderedDict[GraphKey, Graph | None] = OrderedDict()  # None: run once, not captured yet
        self._captures = not engine.program.returns_to_host
        self._lock = threading.RLock()
        self._open = True
        try:
            for name in engine.kernels:
                self._kernels[name] = device.load(name, engine.ptx(name))
            self._memory.upload_weights(engine.weights(), engine.manifest.weight_bytes)
        except BaseException:
            with contextlib.suppress(DeviceError):
                self.close()
            raise

    def __reduce__(self) -> NoReturn:
        """Two sessions with one device would free it under each other."""
        raise TypeError("a session holds a device and cannot be copied or pickled; open another: Engine.session")

    # Running ----------------------------------------------------------------------------------------------
    def run(self, inputs: Mapping[str, Any], device_outputs: bool = False) -> dict[str, Any]:
        """Compute every output.

        `inputs` maps names to numpy arrays or anything with DLPack or `__cuda_array_interface__`; arrays
        already on the GPU are used in place. Results are numpy arrays, or `DeviceArray`s with
        `device_outputs`. Raises ModelError for wrong inputs and DeviceError for faults of the device.
        """
        return self._run(inputs, device_outputs, None)

    def run_each(self, batches: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Array]]:
        """`run` for each of `batches` in turn, as an iterator of results.

        While one is computed, the arrays of the next are copied to the device: there is device memory for the inputs of
        two. Raises what `run` raises, when it is that batch's turn.
        """
        return run_each(self, self._manifest, batches)

    def profile(self, inputs: Mapping[str, Any]) -> tuple[dict[str, Array], list[KernelTiming]]:
        """(outputs, the time of each launch in order). Launches run one by one, so that the sum exceeds a
        plain run.
        """
        timings: list[KernelTiming] = []
        return self._run(inputs, False, timings), timings

    def time_launches(self, inputs: Mapping[str, Any], launches: int) -> list[KernelTiming]:
        """The time of each launch, done `launches` times in a row, which hides what starting one costs. Results are
        dropped: a kernel that changes a buffer in place has done so several times.
        """
        timings: list[KernelTiming] = []
        self._run(inputs, False, timings, launches)
        return timings

    def measure(self, inputs: Mapping[str, Any] | Sequence[Mapping[str, Any]], seconds: float = 0.5) -> Measurement:
        """How long a run takes on the device, without copying inputs and outputs, over about `seconds`.

        Several `inputs` of the same shapes take turns: with more bytes than the GPU's cache holds, it cannot keep them.
        Raises what `run` raises.
        """
        with self._lock:
            self._check_open()
            sets = [inputs] if isinstance(inputs, Mapping) else inputs
            copies: list[int] = []
            try:
                prepared = [self._prepare(values, copies) for values in sets]
                if len({key for key, _ in prepared}) != 1:
                    raise ModelError("measure: all inputs must have the same shapes")
                measurement = measure(self.device, [body for _, body in prepared], self._captures, seconds)
            except BaseException:
                with contextlib.suppress(DeviceError):  # the first error is the one to tell
                    release_all([self.device.synchronize, *(partial(self.device.free, copy) for copy in copies)])
                raise
            release_all([self.device.synchronize, *(partial(self.device.free, copy) for copy in copies)])
            return measurement

    def _prepare(self, inputs: Mapping[str, Any], copies: list[int]) -> tuple[ShapeKey, Callable[[], None]]:
        """(shape, what starts a run) for inputs that stay on the device; those of the host are copied to memory of
        their own, whose addresses are added to `copies`.
        """
        values = self.accept(inputs)
        plan = self._plan(bind(self._manifest, values))
        addresses, _ = self._place_inputs(plan, values)
        for binding in self._manifest.inputs:
            value = values[binding.name]
            if isinstance(value, np.ndarray) and value.size:
                address = self.device.allocate(value.nbytes)
                copies.append(address)
                addresses[binding.buffer] = address
                self.device.upload(address, raw_bytes(value))

        def start() -> None:
            self._run_of(plan, addresses, values, None).execute(plan.steps)

        return tuple(plan.symbols.values()), start

    def _run(
        self,
        inputs: Mapping[str, Any],
        device_outputs: bool,
        timings: list[KernelTiming] | None,
        launches: int = 1,
    ) -> dict[str, Any]:
        with self._lock:
            return self._run_values(self.accept(inputs), device_outputs, timings, launches)

    def accept(self, inputs: Mapping[str, Any]) -> dict[str, Value]:
        """The inputs as the program takes them, by name. Raises ModelError."""
        with self._lock:
            self._check_open()
            check_names(self._manifest, inputs)
            return {binding.name: self._accept(binding, inputs[binding.name]) for binding in self._manifest.inputs}

    def exclusively(self, action: Callable[[], None]) -> None:
        """Do something with the device while no other thread does."""
        with self._lock:
            action()

    def run_uploaded(
        self, values: Mapping[str, Value], uploaded: Mapping[str, int], meanwhile: Callable[[], None] | None
    ) -> dict[str, Array]:
        """`run` with inputs that `accept` gave, some of them `uploaded` ahead: addresses by buffer. `meanwhile` is
        called when the run has been started.
        """
        with self._lock:
            self._check_open()
            self.device.order_uploads()
            return self._run_values(values, False, None, 1, uploaded, meanwhile)

    def _run_values(
        self,
        values: Mapping[str, Value],
        device_outputs: bool,
        timings: list[KernelTiming] | None,
        launches: int,
        uploaded: Mapping[str, int] = MappingProxyType({}),
        meanwhile: Callable[[], None] | None = None,
    ) -> dict[str, Any]:
        plan = self._plan(bind(self._manifest, values))
        try:
            addresses, external = self._place_inputs(plan, values, uploaded)
            run = self._run_of(plan, addresses, values, timings, launches)
            self._execute(plan, run, external)
            if meanwhile is not None:
                meanwhile()
            results = {
                binding.name: self._collect(binding, run, plan.sizes, device_outputs)
                for binding in self._manifest.outputs
            }
        except BaseException:
            # Arrays lent by the caller may be in use until the device is done.
            with contextlib.suppress(DeviceError):
                self.device.synchronize()
            raise
        self.device.synchronize()
        return results

    def _accept(self, binding: TensorBinding, value: Any) -> Value:
        if binding.dtype in HOST_TYPES:
            return HostValue.of(binding.dtype, value, f"input {binding.name!r}")
        accepted = accept(value, self.device, f"input {binding.name!r}")
        return parts_of(binding, accepted) if binding.complex else accepted

    def _plan(self, symbols: dict[str, int]) -> ShapePlan:
        key = tuple(symbols.values())
        plan = self._plans.get(key)
        if plan is None:
            spans = lifetimes(self._manifest, symbols)
            planner = Planner(self._manifest, self._kernels, symbols)
            steps = planner.prepare(self._manifest.program.instructions)
            sizes = {span.name: span.nbytes for span in spans}
            plan = self._plans[key] = ShapePlan(symbols, sizes, plan_arena(spans), planner, steps)
            while len(self._plans) > _SHAPES_KEPT:
                self._plans.popitem(last=False)
        self._plans.move_to_end(key)
        return plan

    def _place_inputs(
        self, plan: ShapePlan, values: Mapping[str, Value], uploaded: Mapping[str, int] = MappingProxyType({})
    ) -> tuple[dict[str, int], dict[str, int]]:
        """(address of every buffer, those of them that are not the session's), with host inputs uploaded."""
        if self._memory.needs_move(plan.arena):
            self._drop_graphs()
        addresses, moved = self._memory.place(plan.arena, plan.sizes)
        if moved:
            self._drop_graphs()
        external = dict(uploaded)
        for binding in self._manifest.inputs:
            value = values[binding.name]
            if isinstance(value, HostValue) or binding.buffer in uploaded:
                continue
            if isinstance(value, ForeignMemory):
                if (
                    is_contiguous(value)
                    and value.address % _POINTER_ALIGNMENT == 0
                    and plan.sizes[binding.buffer]
                ):
                    external[binding.buffer] = value.address
                    continue
                self._stage(value, addresses[binding.buffer], plan.sizes[binding.buffer])
            elif value.size:
                self.device.upload(addresses[binding.buffer], raw_bytes(value))
        return addresses | external, external

    def _stage(self, value: ForeignMemory, address: int, nbytes: int) -> None:
        """Copy device memory that kernels cannot use in place: strided or not aligned."""
        if not nbytes:
            return
        if is_contiguous(value):
            self.device.copy(address, value.address, nbytes)
        else:
            self.device.upload(address, raw_bytes(gather(value, self.device)))

    def _run_of(
        self,
        plan: ShapePlan,
        addresses: dict[str, int],
        values: Mapping[str, Value],
        timings: list[KernelTiming] | None,
        launches: int = 1,
    ) -> Run:
        given = {binding.buffer: values[binding.name] for binding in self._manifest.inputs}
        held = {name: value.value for name, value in given.items() if isinstance(value, HostValue)}
        late = partial(self._place_late, plan.sizes.keys())
        return Run(self.device, plan.planner, addresses, held, late, self._memory.kept, timings, launches)

    def _place_late(self, placed: Container[str], call: Call, symbols: Mapping[str, int]) -> dict[str, int]:
        """Addresses of the buffers whose sizes this call has decided, in memory that belongs to the call."""
        check_equalities(self._manifest, symbols, since=call.symbols)
        own = set(call.symbols)
        table = self._manifest.buffer_table()
        spans = [span for span in lifetimes(self._manifest, symbols, placed) if table[span.name].symbols & own]
        return self._memory.place_late(call.symbols[0], plan_arena(spans), {span.name: span.nbytes for span in spans})

    def _execute(self, plan: ShapePlan, run: Run, external: Mapping[str, int]) -> None:
        def direct() -> None:
            run.execute(plan.steps)

        if not self._captures or run.timings is not None or not plan.steps:
            direct()
            return
        key = (tuple(plan.symbols.values()), tuple(sorted(external.items())))
        if key not in self._graphs:
            direct()
            self._keep_graph(key, None)
            return
        graph = self._graphs[key] or self._capture(key, direct)
        self._graphs.move_to_end(key)
        if graph is None:
            direct()
        else:
            graph.launch()

    def _capture(self, key: GraphKey, body: Callable[[], None]) -> Graph | None:
        graph = self.device.capture(body)
        if graph is None:
            self._captures = False
        self._graphs[key] = graph
        return graph

    def _keep_graph(self, key: GraphKey, graph: Graph | None) -> None:
        self._graphs[key] = graph
        while len(self._graphs) > _GRAPHS_KEPT:
            _, oldest = self._graphs.popitem(last=False)
            if oldest is not None:
                oldest.close()

    def _collect(
        self, binding: TensorBinding, run: Run, sizes: Mapping[str, int], device_outputs: bool
    ) -> Any:
        if binding.dtype in HOST_TYPES:
            return run.values[binding.buffer]
        element = COMPLEX[COMPLEX_OF[binding.dtype]] if binding.complex else dtype(binding.dtype)
        shape = evaluate_shape(binding.shape, run.planner.symbols, f"output {binding.name!r}")
        shape = shape[:-1] if binding.complex else shape
        address = run.addresses[binding.buffer]
        nbytes = int(np.prod(shape, dtype=object)) * element.bytes
        if nbytes > sizes.get(binding.buffer, nbytes):
            raise ModelError(f"damaged engine: output {binding.name!r} is larger than its buffer")
        if device_outputs and self.device.name == "cuda":
            allocation = Allocation(self.device, nbytes)
            self.device.copy(allocation.address, address, nbytes)
            return DeviceArray(element, shape, allocation)
        result = np.empty(shape, element.numpy)
        if nbytes:
            self.device.download(address, result)
        return DeviceArray(element, shape, result) if device_outputs else result

    # Closing ----------------------------------------------------------------------------------------------
    def _check_open(self) -> None:
        if not self._open:
            raise DeviceError("the session is closed")

    def _drop_graphs(self) -> None:
        graphs, self._graphs = self._graphs, OrderedDict()
        release_all(graph.close for graph in graphs.values() if graph is not None)

    def close(self) -> None:
        """Free everything on the device; a second call does nothing. The first failure is raised last."""
        with self._lock:
            if not self._open:
                return
            self._open = False
            self._plans.clear()
            release_all((self._drop_graphs, self._memory.close, self.device.close))

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        with contextlib.suppress(DeviceError):  # the first error is the one to tell
            self.close()

    def __del__(self, finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if getattr(self, "_open", False) and not finalizing():
            with contextlib.suppress(DeviceError):
                self.close()

    def __repr__(self) -> str:
        inputs, outputs = "; ".join(map(str, self.inputs)), "; ".join(map(str, self.outputs))
        return f"Session({inputs} -> {outputs}, on {self.device.name})"

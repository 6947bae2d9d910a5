"""Does the compiled model answer what the ONNX model means? Compared at three places, so that a wrong answer
says where it began.

In: a model, inputs, a device. Out: comparisons of outputs with onnxruntime, of every ONNX node as imported
with onnxruntime, and of every compiled kernel with the numpy interpreter of the graph level. The second finds
mistakes of the importer, the third those of code generation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from mlir import ir

from ..passes.graph.interpret import interpret
from ..runtime.device import Device
from ..runtime.engine import Engine
from ..runtime.errors import InternalError, ModelError
from ..runtime.launch_arguments import BufferArgument
from ..runtime.manifest import TensorBinding
from ..runtime.program import Launch
from .compilation import Compilation, Options
from .package import package
from .pipeline import STAGES, run_pipeline

Array = np.ndarray[Any, Any]
IR_VERSION = (
    10  # of the ONNX file format: the newest that every onnxruntime we allow reads; nodes mean the same
)


@dataclass(frozen=True)
class Comparison:
    """One tensor against its reference. `difference` and `largest` are the largest absolute difference and
    reference value.

    `problem` says why the two cannot be compared, such as another shape.
    """

    name: str
    nodes: tuple[str, ...]
    dtype: str
    shape: tuple[int, ...]
    difference: float = 0.0
    largest: float = 0.0
    problem: str = ""

    @property
    def relative(self) -> float:
        """The largest difference in units of the largest reference value."""
        return self.difference / self.largest if self.largest else self.difference

    def holds(self, tolerance: float) -> bool:
        """True when the two agree; integers must be equal."""
        return not self.problem and self.relative <= tolerance


def compare(name: str, got: Array, want: Array, nodes: Iterable[str] = ()) -> Comparison:
    """Compare two arrays. NaN and infinities must stand at the same places."""
    base = Comparison(name, tuple(nodes), str(got.dtype), tuple(got.shape))
    if got.shape != want.shape:
        return replace(base, problem=f"shape {list(got.shape)}, expected {list(want.shape)}")
    if got.dtype != want.dtype:
        return replace(base, problem=f"dtype {got.dtype}, expected {want.dtype}")
    if want.dtype.kind in "USO":
        return replace(base, problem="" if np.array_equal(got, want) else "different text")
    left, right = got.astype(np.float64), want.astype(np.float64)
    finite = np.isfinite(right)
    if (
        not np.array_equal(left[~finite], right[~finite], equal_nan=True)
        or not np.isfinite(left[finite]).all()
    ):
        return replace(base, problem="NaN or infinity at other places")
    if not finite.any():
        return base
    difference = float(np.abs(left[finite] - right[finite]).max())
    return replace(base, difference=difference, largest=float(np.abs(right[finite]).max()))


class Reference:
    """The model on onnxruntime's CPU provider, or on onnx's reference evaluator where that is not
    installed.
    """

    def __init__(self, path: Path, layers: bool = False) -> None:
        """Load `path`; with `layers` every node's outputs are kept. Raises ModelError."""
        self.path = path
        try:
            import onnxruntime
        except ImportError:
            from onnx.reference import ReferenceEvaluator

            self.name = f"onnx {onnx.__version__} reference evaluator"
            self._evaluator: Any = ReferenceEvaluator(str(path))
            self.names = list(self._evaluator.output_names)
            self.nodes: dict[str, tuple[str, ...]] = {}
            return
        self.name = f"onnxruntime {onnxruntime.__version__}"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        self.nodes, source = _prepare(path, layers)
        try:
            self._evaluator = onnxruntime.InferenceSession(
                source, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions have no common base of their own
            raise ModelError(f"onnxruntime rejects the model: {error}") from None
        self.names = [item.name for item in self._evaluator.get_outputs()]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name. Raises ModelError when the reference cannot run these inputs."""
        try:
            values = self._evaluator.run(None, dict(inputs))
        except Exception as error:  # as above
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in inputs.items())
            raise ModelError(f"{self.name} does not run {shapes}: {error}") from None
        return dict(zip(self.names, values, strict=True))


def _prepare(path: Path, layers: bool) -> tuple[dict[str, tuple[str, ...]], bytes | str]:
    """(outputs of every top-level node, the model as onnxruntime can read it, with them as graph outputs)."""
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's and the file system's
        raise ModelError(f"cannot read {path}: {error}") from None
    if not layers and model.ir_version <= IR_VERSION:
        return {}, str(path)
    model = onnx.load(str(path))
    model.ir_version = min(model.ir_version, IR_VERSION)
    known = {value.name for value in model.graph.output}
    nodes = {}
    for node in model.graph.node if layers else ():
        outputs = tuple(name for name in node.output if name)
        nodes[node.name or (outputs[0] if outputs else "")] = outputs
        for name in outputs:
            if name not in known:
                known.add(name)
                model.graph.output.append(onnx.ValueInfoProto(name=name))
    return nodes, model.SerializeToString()


def compare_outputs(
    engine: Engine, device: Device, inputs: Mapping[str, Array], want: Mapping[str, Array]
) -> list[Comparison]:
    """The engine's outputs on `device` against the reference's. The session closes the device."""
    with engine.session(device, checked=True) as session:
        got = session.run(inputs)
    return [compare(name, array, np.asarray(want[name])) for name, array in got.items() if name in want]


def compare_nodes(
    source: Any,
    options: Options,
    inputs: Mapping[str, Array],
    want: Mapping[str, Array],
    nodes: Mapping[str, tuple[str, ...]],
) -> list[Comparison]:
    """Every ONNX node as imported, in numpy, against the reference's value of it.

    A node is compared when the last operation that carries its name has the shape and dtype of its first
    output; what the importer folded away or replaced by shape arithmetic is not there to be compared.
    """
    compilation = Compilation(replace(options, dump=None, override=None), source)
    run_pipeline(compilation, STAGES[0].name, STAGES[0].name)
    seen: dict[str, Array] = {}

    def trace(operation: ir.Operation, results: list[Array]) -> None:
        for name in location_names(operation.location):
            if len(results) == 1:
                seen[name] = results[0]

    interpret(compilation.unit, inputs, trace)
    found = []
    for node, outputs in nodes.items():
        if node not in seen or not outputs or outputs[0] not in want:
            continue
        got, expected = seen[node], np.asarray(want[outputs[0]])
        if got.shape == expected.shape and got.dtype == expected.dtype:
            found.append(compare(outputs[0], got, expected, (node,)))
    return found


def compare_kernels(
    compilation: Compilation, device: Device, inputs: Mapping[str, Array]
) -> list[Comparison]:
    """Every tensor that a kernel writes on `device` against the numpy interpreter on the same fused graph, in
    program order.
    """
    unit = compilation.unit
    engine = expose_temporaries(package(unit, compilation.kernels, {}))
    traced: dict[int, list[Array]] = {}
    calls: dict[Any, int] = {}

    def count(operation: ir.Operation) -> ir.WalkResult:
        if operation.name == "func.call":
            calls[operation] = len(calls)
        return ir.WalkResult.ADVANCE

    unit.module.operation.walk(count)

    def trace(operation: ir.Operation, results: list[Array]) -> None:
        if operation.name == "func.call":
            traced[calls[operation]] = results

    interpret(unit, inputs, trace)
    with engine.session(device, checked=True) as session:
        got = session.run(inputs)
    names = {binding.buffer: binding.name for binding in engine.outputs}
    found = []
    for index, launch in enumerate(engine.program.launches):
        if index not in traced:
            continue  # in the branch of an if that was not taken
        for buffer, want in zip(_written(compilation, launch), traced[index], strict=True):
            array = got[names[buffer]]
            found.append(compare(f"{launch.kernel}: {buffer}", array.reshape(want.shape), want, launch.nodes))
    return found


def expose_temporaries(engine: Engine) -> Engine:
    """The same engine with every temporary as an output of its own, named after its buffer, so that it can be
    read after a run.
    """
    manifest = engine.manifest
    buffers, outputs = [], list(manifest.outputs)
    taken = {binding.name for binding in outputs}
    for buffer in manifest.buffers:
        if buffer.kind == "temporary":
            name = f"buffer {buffer.name}"
            assert name not in taken
            outputs.append(TensorBinding(name, buffer.dtype, buffer.shape, buffer.name))
            buffer = replace(buffer, kind="output", first=None, last=None)
        buffers.append(buffer)
    exposed = replace(manifest, buffers=tuple(buffers), outputs=tuple(outputs), sha256={})
    kernels = {name: engine.ptx(name) for name in engine.kernels}
    return Engine.build(exposed, kernels, {}, [array for _, array in engine.weights()])


def _written(compilation: Compilation, launch: Launch) -> list[str]:
    """The buffers of a kernel function's results, in their order."""
    program = next(item for item in compilation.unit.kernels.values() if item.name == launch.kernel)
    written: dict[int, str] = {}
    for (kind, item), argument in zip(program.arguments, launch.arguments, strict=True):
        if kind == "output":
            if not isinstance(argument, BufferArgument):
                raise InternalError(f"an output of kernel {launch.kernel!r} is not a buffer")
            written[int(str(item))] = argument.buffer
    return [written[index] for index in sorted(written)]


def location_names(location: ir.Location) -> list[str]:
    """The ONNX node names in a location."""
    if location.is_a_name():
        return [location.name_str]
    if location.is_a_fused():
        return [name for item in location.locations for name in location_names(item)]
    return []

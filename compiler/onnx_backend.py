"""tilewright as a backend of the `onnx` package: `onnx.backend.test` and other tools can run models on it.

In: a ModelProto or a node, and inputs in order. Out: outputs in order. Device "CPU" is the emulator, "CUDA" a
GPU. Inputs whose value decides a rank or a size (axes, target shapes) are made constants when they are known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.backend.base import Backend, BackendRep, Device, DeviceType, namedtupledict

from ..runtime.device import open_device
from ..runtime.engine import Engine
from ..runtime.errors import Error, ModelError, UnsupportedError
from ..runtime.session import Session
from .api import compile

_DEVICES = {DeviceType.CPU: "emulator", DeviceType.CUDA: "cuda"}
Array = np.ndarray[Any, Any]


class TilewrightRep(BackendRep):
    """A compiled model with its session.

    A model that needs the values of some inputs to be compiled is compiled when a run gives them, and again
    when they change; `specialised` names those inputs. `engine` and `session` are those of the last values.
    """

    def __init__(self, model: onnx.ModelProto, device: str, options: Mapping[str, Any]) -> None:
        self._model = model
        self._device = device
        self._options = dict(options)
        self._values: dict[str, Any] = {}
        self._names = _input_names(model)
        self.specialised: tuple[str, ...] = ()
        self.engine: Engine | None = None
        self.session: Session | None = None
        try:
            self._compile({})
        except UnsupportedError as error:
            if not error.inputs:
                raise
            self.specialised = error.inputs

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Outputs in order, as a named tuple. `inputs` are arrays in order, one array, or arrays by name."""
        named = self._named(inputs)
        session = self._session_for(named)
        free = {name: value for name, value in named.items() if name not in self.specialised}
        for name in self.specialised:
            free.update(_leaves(name, named[name]) if name in named else {})
        results = session.run(free)
        names = [item.name for item in session.outputs]
        result: tuple[Any, ...] = namedtupledict("Outputs", names)(*(results[name] for name in names))
        return result

    def _named(self, inputs: Any) -> dict[str, Any]:
        if isinstance(inputs, Mapping):
            return {name: _as_value(value) for name, value in inputs.items()}
        values = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
        if len(values) > len(self._names):
            raise ModelError(f"the model has {len(self._names)} inputs, and {len(values)} arrays are given")
        return {name: _as_value(value) for name, value in zip(self._names, values, strict=False)}

    def _session_for(self, named: Mapping[str, Any]) -> Session:
        """The open session, or a new one when the values that it was compiled for have changed."""
        while self.session is None or self._values != _contents(named, self.specialised):
            constants = {name: named[name] for name in self.specialised if name in named}
            try:
                self._compile(constants)
            except UnsupportedError as error:
                needed = set(error.inputs) - set(self.specialised)
                if not needed or not needed <= named.keys():
                    raise
                self.specialised += tuple(sorted(needed))
        return self.session

    def _compile(self, constants: Mapping[str, Any]) -> None:
        self.close()
        model = _with_constants(self._model, constants) if constants else self._model
        self.engine = compile(model, **self._options)
        self.session = self.engine.session(self._device)
        self._values = _contents(constants, self.specialised)

    def close(self) -> None:
        """Free what the session holds on the device."""
        if self.session is not None:
            self.session.close()
            self.session = None


def _input_names(model: onnx.ModelProto) -> list[str]:
    initialised = {tensor.name for tensor in model.graph.initializer}
    return [value.name for value in model.graph.input if value.name not in initialised]


def _as_value(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return list(value)
    return value if value is None else np.asarray(value)


def _leaves(name: str, value: Any) -> dict[str, Array]:
    """The tensors of a sequence, each an input of its own in the specialised model."""
    return {f"{name}.{place}": np.asarray(item) for place, item in enumerate(value)} if isinstance(value, list) else {}


def _contents(named: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """What a specialised model depends on: values of tensors, dtypes and shapes of the tensors of a sequence."""
    found: dict[str, Any] = {}
    for name in names:
        if name in named:
            value = named[name]
            if isinstance(value, list):
                found[name] = [(leaf.dtype, leaf.shape) for leaf in _leaves(name, value).values()]
            elif value is not None and value.dtype != object:
                found[name] = (value.dtype, value.shape, value.tobytes())
            else:
                found[name] = value if value is None else (value.shape, value.tolist())
    return found


def _with_constants(model: onnx.ModelProto, constants: Mapping[str, Any]) -> onnx.ModelProto:
    """The model with some inputs decided: a tensor by its value, an optional by whether it holds something, a
    sequence by how many tensors of which shapes it has; those become inputs.
    """
    helper = onnx.helper
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    kept = [value for value in copy.graph.input if value.name not in constants]
    del copy.graph.input[:]
    copy.graph.input.extend(kept)
    nodes = []
    for name, value in constants.items():
        if value is None:
            nodes.append(helper.make_node("Optional", [], [name], type=_optional_type(model, name)))
        elif isinstance(value, list):
            for leaf, array in _leaves(name, value).items():
                kind = helper.np_dtype_to_tensor_dtype(array.dtype)
                copy.graph.input.append(helper.make_tensor_value_info(leaf, kind, array.shape))
            if value:
                nodes.append(helper.make_node("SequenceConstruct", list(_leaves(name, value)), [name]))
            else:
                nodes.append(helper.make_node("SequenceEmpty", [], [name], dtype=_element_of_sequence(model, name)))
        else:
            copy.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    nodes += copy.graph.node
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy


def _element_of_sequence(model: onnx.ModelProto, name: str) -> int:
    declared = next(value.type for value in model.graph.input if value.name == name)
    inner = declared.optional_type.elem_type if declared.HasField("optional_type") else declared
    return int(inner.sequence_type.elem_type.tensor_type.elem_type)


def _optional_type(model: onnx.ModelProto, name: str) -> onnx.TypeProto:
    declared = next(value.type for value in model.graph.input if value.name == name)
    inner: onnx.TypeProto = declared.optional_type.elem_type if declared.HasField("optional_type") else declared
    return inner


class TilewrightBackend(Backend):
    """The five functions of `onnx.backend.base.Backend`."""

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        """True when the model compiles."""
        try:
            compile(model, **kwargs)
        except Error:
            return False
        return True

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> TilewrightRep:
        """Compile and open a session. `kwargs` are those of `tilewright.compile`."""
        super().prepare(model, device)
        return TilewrightRep(model, _DEVICES[Device(device).type], kwargs)

    @classmethod
    def run_model(cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any) -> tuple[Any, ...]:
        """Prepare and run once."""
        representation = cls.prepare(model, device, **kwargs)
        try:
            return representation.run(inputs)
        finally:
            representation.close()

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[Any, tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """Run one node as a model of its own. Its opset is `opset_version`, or the newest."""
        super().run_node(node, inputs, device, outputs_info)
        values = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
        named = dict(zip([name for name in node.input if name], map(np.asarray, values), strict=True))
        version = kwargs.pop("opset_version", onnx.defs.onnx_opset_version())
        return cls.run_model(_model_of(node, named, int(version)), named, device, **kwargs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """True for CPU, and for CUDA where a GPU can be opened."""
        name = device.split(":")[0]
        kind = getattr(DeviceType, name, None)
        if kind != DeviceType.CUDA:
            return kind in _DEVICES
        try:
            open_device("cuda").close()
        except Error:
            return False
        return True


def _model_of(node: onnx.NodeProto, inputs: Mapping[str, Array], version: int) -> onnx.ModelProto:
    helper = onnx.helper
    values = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in inputs.items()
    ]
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
    graph = helper.make_graph([node], "node", values, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(node.domain, version)])
    return onnx.shape_inference.infer_shapes(model)


is_compatible = TilewrightBackend.is_compatible
prepare = TilewrightBackend.prepare
run_model = TilewrightBackend.run_model
run_node = TilewrightBackend.run_node
supports_device = TilewrightBackend.supports_device

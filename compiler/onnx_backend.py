"""tilewright as a backend of the `onnx` package: `onnx.backend.test` and other tools can run models on it.

In: a ModelProto or a node, and inputs in order. Out: outputs in order. Device "CPU" is the emulator, "CUDA" a
GPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.backend.base import Backend, BackendRep, Device, DeviceType, namedtupledict

from ..runtime.device import open_device
from ..runtime.errors import Error, ModelError
from ..runtime.session import Session
from .api import compile

_DEVICES = {DeviceType.CPU: "emulator", DeviceType.CUDA: "cuda"}
Array = np.ndarray[Any, Any]


class TilewrightRep(BackendRep):
    """A compiled model with its session."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Outputs in order, as a named tuple. `inputs` are arrays in order, one array, or arrays by name."""
        specifications = self.session.inputs
        if isinstance(inputs, Mapping):
            named = dict(inputs)
        else:
            values = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
            if len(values) > len(specifications):
                raise ModelError(
                    f"the model has {len(specifications)} inputs, and {len(values)} arrays are given"
                )
            named = {
                item.name: np.asarray(value) for item, value in zip(specifications, values, strict=False)
            }
        results = self.session.run(named)
        names = [item.name for item in self.session.outputs]
        result: tuple[Any, ...] = namedtupledict("Outputs", names)(*(results[name] for name in names))
        return result


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
        return TilewrightRep(compile(model, **kwargs).session(_DEVICES[Device(device).type]))

    @classmethod
    def run_model(
        cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any
    ) -> tuple[Any, ...]:
        """Prepare and run once."""
        representation = cls.prepare(model, device, **kwargs)
        try:
            return representation.run(inputs)
        finally:
            representation.session.close()

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

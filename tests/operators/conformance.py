"""onnx's own node test cases, run through our importer and the graph interpreter.

In: the cases that ship with the onnx package. Out: for one case, how far our outputs are from the expected
ones; it needs no kernel, so it measures the frontend alone.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
from mlir import ir
from onnx.backend.test.case.node import collect_testcases

from tilewright.compiler.frontend import import_model
from tilewright.dialects import verify
from tilewright.passes.graph.interpret import interpret


@lru_cache(maxsize=1)
def cases() -> dict[str, Any]:
    """Every node test case by name."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return {case.name: case for case in collect_testcases(None)}


def operator_of(case: Any) -> tuple[str, str]:
    """(domain, operator) of a case's only node; the first one's where there are several."""
    node = case.model.graph.node[0]
    return ("" if node.domain == "ai.onnx" else node.domain), node.op_type


def as_array(value: Any) -> Any:
    """Expected values come as arrays, tensors, or lists for sequences."""
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def frozen(model: onnx.ModelProto, inputs: list[Any]) -> onnx.ModelProto:
    """The model with all its inputs but the first floating-point one (or the first) as constants.

    Test cases pass shapes, axes and sizes as run-time inputs; real models compute them from shapes or hold
    them.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    arrays = [as_array(item) for item in inputs]
    floats = [position for position, array in enumerate(arrays) if array.dtype.kind not in "iub"]
    sizes = [array.size for array in arrays]
    kept = max(
        range(len(arrays)), key=lambda i: (i in floats and sizes[i] != 1, sizes[i] > 1, i in floats, -i), default=-1
    )
    if (not floats and len(arrays) == 1) or model.graph.node[0].op_type == "Range" or "range" in model.graph.name:
        kept = -1
    for position, (value, array) in enumerate(zip(model.graph.input, arrays, strict=False)):
        if position != kept:
            copy.graph.initializer.append(onnx.numpy_helper.from_array(array, value.name))
    return copy


def run_case(case: Any, freeze: bool = False, free: bool = False) -> None:
    """Import, verify, interpret and compare every data set. Raises AssertionError, or what the import
    raises.
    """
    names = [value.name for value in case.model.graph.input]
    outputs = [value.name for value in case.model.graph.output]
    for inputs, expected in case.data_sets:
        model = dynamic(case.model) if free else case.model
        unit = import_model(frozen(model, inputs) if freeze else model)
        with unit.module.context:
            verify(unit.module)
        given = {name: np.asarray(as_array(item)) for name, item in zip(names, inputs, strict=False)}
        main = unit.module.body.operations[0]
        taken = {ir.StringAttr(ir.DictAttr(item)["graph.name"]).value for item in main.attributes["arg_attrs"]}
        results = interpret(unit, {name: array for name, array in given.items() if name in taken})
        for name, wanted in zip(outputs, expected, strict=True):
            compare(results[name], np.asarray(as_array(wanted)), case.rtol, case.atol)


def compare(actual: Any, wanted: Any, rtol: float, atol: float) -> None:
    """The tolerances are the test case's own. Raises AssertionError."""
    if wanted is None or isinstance(wanted, (list, tuple)):
        assert type(actual) is type(wanted) or (isinstance(actual, list) and isinstance(wanted, list)), (actual, wanted)
        for one, two in zip(actual or (), wanted or (), strict=True):
            compare(one, np.asarray(as_array(two)), rtol, atol)
        return
    if wanted.dtype.kind in "OSUT":
        assert actual.shape == wanted.shape, (actual.shape, wanted.shape)
        assert [str(item) for item in actual.ravel()] == [
            item.decode() if isinstance(item, bytes) else str(item) for item in wanted.ravel()
        ]
        return
    assert actual.dtype == wanted.dtype, (actual.dtype, wanted.dtype)
    assert actual.shape == wanted.shape, (actual.shape, wanted.shape)
    if wanted.dtype.kind in "biu":
        np.testing.assert_array_equal(actual, wanted)
        return
    # Narrow results may differ by a few roundings of the last place (2^-8 and 2^-11 relative): cases with several
    # operators round in between, and not always where we do.
    rtol = max(rtol, {"bfloat16": 2.0**-6, "float16": 2.0**-9}.get(wanted.dtype.name, 0.0))
    # What cancels to nearly zero carries the rounding of its terms: f32 sums are good to 1e-6 of the largest element.
    finite = np.abs(wanted.astype(np.float64))[np.isfinite(wanted.astype(np.float64))]
    atol = max(atol, 1e-6 * finite.max()) if finite.size else atol
    np.testing.assert_allclose(actual.astype(np.float64), wanted.astype(np.float64), rtol=rtol, atol=atol)


def dynamic(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with every dimension of every input free."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for value in copy.graph.input:
        for axis, dimension in enumerate(value.type.tensor_type.shape.dim):
            if dimension.dim_value != 1:  # a dimension of 1 may be there to be stretched
                dimension.dim_param = f"{value.name}_{axis}"
    return copy

"""The host's part: values that are no tensors of a device, and functions of them.

In: tensors or host values. Out: the other, or the call of a function of runtime/host_functions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mlir import ir

from ...runtime.symbolic import ExpressionLike
from .operations import attribute, build, expressions


def object_type() -> ir.Type:
    """The type of a host value."""
    return ir.Type.parse("!graph.object")


def download(tensor: ir.Value) -> ir.Value:
    """The whole tensor as a host value."""
    return ir.Operation.create("graph.download", results=[object_type()], operands=[tensor]).result


def upload(value: ir.Value, shape: Sequence[ExpressionLike], element: str) -> ir.Value:
    """The host value, which must be an array of that element type and shape or a list of as many elements, as a tensor."""
    return build("upload", shape, element, [value])


def keep(tensor: ir.Value) -> ir.Value:
    """A copy of the whole tensor on the device, as a host value that holds it."""
    return ir.Operation.create("graph.keep", results=[object_type()], operands=[tensor]).result


def fetch(value: ir.Value) -> ir.Value:
    """The host value with what it keeps on the device brought to the host."""
    return ir.Operation.create("graph.fetch", results=[object_type()], operands=[value]).result


def host(
    function: str,
    values: Sequence[ir.Value],
    results: int,
    options: Mapping[str, Any] | None = None,
    sizes: Sequence[ExpressionLike] = (),
    symbols: Sequence[str] = (),
) -> ir.Operation:
    """A call of a function of runtime/host_functions; its results are host values."""
    attributes = {
        "function": function,
        "options": json.dumps(dict(options or {}), sort_keys=True),
        "sizes": expressions(sizes),
        "symbols": tuple(symbols),
    }
    return ir.Operation.create(
        "graph.host",
        results=[object_type()] * results,
        operands=list(values),
        attributes={key: attribute(value) for key, value in attributes.items()},
    )

"""The `graph` dialect: whole tensors, a compact core to which every ONNX operator decomposes.

In: builtin tensor types whose dynamic dimensions are named by the type's encoding (``tensor<?x3xf32, ["n", "3"]>``).
Out: operation definitions. Pointwise work of any kind is one operation, `graph.map`, with a scalar body; whatever
moves data says how in attributes.
"""

from __future__ import annotations

from .definition import OperationDefinition

NAME = "graph"
TYPES: dict[str, tuple[str, ...]] = {"object": ()}  # a value on the host: strings, a sequence, a downloaded or kept tensor

REDUCTIONS = ("sum", "product", "max", "min")
LAYOUTS = ("channels_first", "channels_last")

_WINDOW = {
    "strides": "integers",
    "pads": "expressions",  # begin of every spatial dimension, then end of every one, as in ONNX
    "dilations": "integers",
    "layout": "string",
}

OPERATIONS = (
    OperationDefinition(
        "graph.weight", "A constant tensor kept outside the IR, by handle.", (), ("output",), {"handle": "string"}
    ),
    OperationDefinition("graph.constant", "A small constant (16 elements at most).", (), ("output",), {"value": "any"}),
    # Pointwise ----------------------------------------------------------------------------------------------
    OperationDefinition(
        "graph.map",
        "Every element of the result is what the scalar body yields (gpu.yield) at that position.",
        (),
        ("output",),
        regions=1,
    ),
    OperationDefinition(
        "graph.element",
        "In a map: the captured tensor's element at the current position, broadcast as numpy does (right-aligned, 1 stretches).",
        ("tensor",),
        ("element",),
    ),
    OperationDefinition(
        "graph.element_at",
        "In a map: the captured tensor's element at the given i64 indices, one a dimension, in bounds and not negative.",
        ("tensor", "indices*"),
        ("element",),
    ),
    OperationDefinition(
        "graph.index", "In a map: the current position along `axis`, i64.", (), ("index",), {"axis": "integer"}
    ),
    OperationDefinition(
        "graph.dimension", "In a map: the value of a symbolic integer, i64.", (), ("value",), {"expression": "string"}
    ),
    # Data movement ------------------------------------------------------------------------------------------
    OperationDefinition(
        "graph.reshape", "The same elements in row-major order, in the result's shape.", ("input",), ("output",)
    ),
    OperationDefinition(
        "graph.transpose",
        "output dimension d is input dimension permutation[d].",
        ("input",),
        ("output",),
        {"permutation": "integers"},
    ),
    OperationDefinition("graph.broadcast", "Stretch to the result's shape as numpy does.", ("input",), ("output",)),
    OperationDefinition(
        "graph.slice",
        "output[i] = input[starts + i*steps] in every dimension.",
        ("input",),
        ("output",),
        {"starts": "expressions", "steps": "integers"},
    ),
    OperationDefinition(
        "graph.concatenate",
        "The tensors that the region yields (gpu.yield), one after the other along `axis`.",
        (),
        ("output",),
        {"axis": "integer"},
        regions=1,
    ),
    OperationDefinition(
        "graph.join",
        "Like a concatenation, of parts that their kernels have written into the result's memory: it costs nothing. With `place`, "
        "[shape, low], the result itself lies in another join's, of that shape, from position `low` on.",
        (),
        ("output",),
        {"axis": "integer"},
        {"place": "any"},
        regions=1,
    ),
    OperationDefinition(
        "graph.pad",
        "input placed at offset `low` in the result (may be negative: cropping); the rest is the 0-d tensor `value`.",
        ("input", "value"),
        ("output",),
        {"low": "expressions"},
    ),
    # Reductions ---------------------------------------------------------------------------------------------
    OperationDefinition(
        "graph.reduce",
        "Reduce over `axes`, which stay as size 1. Floats narrower than f32 accumulate in f32.",
        ("input",),
        ("output",),
        {"kind": "string", "axes": "integers"},
    ),
    OperationDefinition(
        "graph.scan",
        "Running `kind` (as of reduce) along `axis`; `exclusive` leaves the element itself out, `reverse` runs from the end.",
        ("input",),
        ("output",),
        {"kind": "string", "axis": "integer", "exclusive": "integer", "reverse": "integer"},
    ),
    OperationDefinition(
        "graph.sort",
        "Positions (i32) along the last axis of unsigned keys, ordered by their keys inside every run of `run` elements, or of all for 0. Of "
        "equal keys the first comes first.",
        ("keys",),
        ("places",),
        {"run": "integer"},
    ),
    OperationDefinition(
        "graph.scatter",
        "`initial`, or zeros, with each element of `updates` combined at its place: `places`, of the same shape, holds flat positions in the "
        "result (i64), negative ones for nowhere. Kinds: sum, product (of floats in no fixed order), max.",
        ("places", "updates", "initial?"),
        ("output",),
        {"kind": "string"},
    ),
    OperationDefinition(
        "graph.pool",
        "Reduce over windows. `include_padding`=1 divides an average by the whole window. Padding is the neutral element.",
        ("input",),
        ("output",),
        {"kind": "string", "kernel": "integers", "include_padding": "integer", **_WINDOW},
    ),
    # Contractions -------------------------------------------------------------------------------------------
    OperationDefinition(
        "graph.matmul",
        "[..., M, K] x [..., K, N] -> [..., M, N], batch dimensions broadcast; a transposed operand is [..., K, M] or [..., N, K]. "
        "Accumulates in f32 (floats) or i32 (8-bit integers); the result has the result type's element.",
        ("left", "right"),
        ("output",),
        {"transpose_left": "integer", "transpose_right": "integer"},
    ),
    OperationDefinition(
        "graph.convolution",
        "Cross-correlation. channels_first: input [N, C, spatial...], weight [O, C/groups, kernel...]; "
        "channels_last: input [N, spatial..., C], weight [kernel..., C/groups, O].",
        ("input", "weight"),
        ("output",),
        {"groups": "integer", **_WINDOW},
    ),
    OperationDefinition(
        "graph.convolution_transpose",
        "Gradient of the convolution with respect to its input. channels_first: weight [C, O/groups, kernel...]; "
        "channels_last: weight [kernel..., C, O/groups]. The result type has the output size.",
        ("input", "weight"),
        ("output",),
        {"groups": "integer", **_WINDOW},
    ),
    # The host's part (docs/host-operations.md) ---------------------------------------------------------------
    OperationDefinition("graph.download", "The whole tensor as a host value.", ("tensor",), ("value",)),
    OperationDefinition(
        "graph.upload",
        "The host value as a tensor: an array of the result's element type and shape, or a list of arrays one after the "
        "other. What the value keeps on the device is copied there.",
        ("value",),
        ("tensor",),
    ),
    OperationDefinition(
        "graph.keep", "A copy of the tensor on the device, held by a host value: it lives as long.", ("tensor",), ("value",)
    ),
    OperationDefinition("graph.fetch", "The host value with arrays in place of what it keeps on the device.", ("kept",), ("value",)),
    OperationDefinition(
        "graph.host",
        "A function of runtime/host_functions on host values. `options` is a JSON object, `sizes` are evaluated for it, and "
        "it binds `symbols`, which what follows may use.",
        ("values*",),
        ("results*",),
        {"function": "string", "options": "string", "sizes": "expressions", "symbols": "expressions"},
    ),
    # Recurrence: one direction, input already multiplied by W and biased ------------------------------------
    OperationDefinition(
        "graph.lstm",
        "gates [T, N, 4*H] (i, o, f, c in ONNX order, X*W^T + biases), recurrence [4*H, H], h0, c0 [N, H], peepholes [3*H] "
        "-> Y [T, N, H], Y_h, Y_c [N, H]. `reverse`=1 runs from the last step.",
        ("gates", "recurrence", "h0", "c0", "peepholes"),
        ("y", "y_h", "y_c"),
        {"reverse": "integer"},
    ),
    OperationDefinition(
        "graph.gru",
        "gates [T, N, 3*H] (z, r, h), recurrence [3*H, H], recurrence bias [3*H], h0 [N, H] -> Y [T, N, H], Y_h [N, H].",
        ("gates", "recurrence", "bias", "h0"),
        ("y", "y_h"),
        {"reverse": "integer", "linear_before_reset": "integer"},
    ),
)

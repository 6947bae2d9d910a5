"""The `host` dialect: the program that the runtime interprets, one operation an instruction.

In: buffers as `!host.buffer` values. Out: operation definitions; compiler/package.py turns them into the JSON of
docs/interfaces.md. It exists so that what the host does is inspected and tested like everything else.
"""

from __future__ import annotations

from .definition import OperationDefinition

NAME = "host"
TYPES: dict[str, tuple[str, ...]] = {"buffer": ()}

OPERATIONS = (
    OperationDefinition(
        "host.declare",
        "A buffer: kind input, output, weight or temporary; `shape` is symbolic, `element` a dtype name. An input or output says in "
        "`binding` what the model calls it and in `complex` the type of its complex numbers, whose parts are the last dimension, a weight its `handle`, a temporary the instructions of its `first` write and `last` use.",
        (),
        ("buffer",),
        {"name": "string", "kind": "string", "element": "string", "shape": "expressions"},
        {"binding": "string", "complex": "string", "handle": "string", "first": "integer", "last": "integer"},
    ),
    OperationDefinition(
        "host.launch",
        "Launch `kernel` on `grid`. `arguments` is the kernel's parameter list: an integer i stands for the i-th buffer operand, a "
        "string for a symbolic integer, a dictionary for a tensor map over a buffer. `nodes` are the ONNX nodes.",
        ("buffers*",),
        (),
        {"kernel": "string", "grid": "expressions", "arguments": "any", "nodes": "any"},
    ),
    OperationDefinition("host.copy", "Device to device, whole buffer.", ("source", "target"), ()),
    OperationDefinition(
        "host.download", "The whole device buffer as a host value, an array of `shape`.", ("source", "target"), (), {"shape": "expressions"}
    ),
    OperationDefinition("host.upload", "The host value to the device buffer.", ("source", "target"), ()),
    OperationDefinition(
        "host.keep",
        "The whole device buffer to memory that the host value holds, an array of `shape`.",
        ("source", "target"),
        (),
        {"shape": "expressions"},
    ),
    OperationDefinition("host.fetch", "The host value with what it keeps on the device brought to the host.", ("source", "target"), ()),
    OperationDefinition(
        "host.call",
        "A function of runtime/host_functions; the first `inputs` buffers are read, the others written. `options` is a JSON "
        "object, `sizes` are evaluated for it, `symbols` are what it binds.",
        ("buffers*",),
        (),
        {
            "function": "string",
            "inputs": "integer",
            "options": "string",
            "sizes": "expressions",
            "symbols": "expressions",
            "nodes": "any",
        },
    ),
    OperationDefinition("host.fill", "Set every byte.", ("target",), (), {"byte": "integer"}),
    OperationDefinition(
        "host.loop",
        "Read the one-byte condition back to the host and run the region, again and again, until it is 0.",
        ("condition",),
        (),
        regions=1,
    ),
    OperationDefinition(
        "host.if",
        "Read the one-byte condition back to the host and run the first region or the second.",
        ("condition",),
        (),
        regions=2,
    ),
)

"""Ways to damage a model: bytes cut, flipped, mixed; fields of the protobuf made impossible, huge, cyclic or hostile.

In: a valid model and random numbers. Out: the bytes of a file. A row of `BYTES` or `FIELDS` is one kind of damage.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import onnx
from onnx import AttributeProto, TensorProto, helper

HUGE = (
    -1,
    0,
    1,
    7,
    255,
    1 << 16,
    (1 << 31) - 1,
    1 << 31,
    -(1 << 31),
    1 << 40,
    (1 << 62) + 1,
    (1 << 63) - 1,
    -(1 << 63),
)
PATHS = (
    "../../../../etc/passwd",
    "/etc/passwd",
    "missing.bin",
    "",
    "model.onnx",
    "a/../../x",
    "\x00",
    "/dev/zero",
    "x" * 5000,
)
WORDS = (
    "",
    "\x00",
    "NOTSET",
    "nearest",
    "SAME_UPPER",
    "%s%n",
    "é" * 300,
    "../x",
    "i,j->k",
    "ij,jk->",
    "...->",
    "constant",
)

Random = random.Random


# Bytes -------------------------------------------------------------------------------------------------------------
def truncate(data: bytes, other: bytes, rng: Random) -> bytes:
    """An end is missing."""
    return data[: rng.randrange(len(data))]


def flip_bits(data: bytes, other: bytes, rng: Random) -> bytes:
    """A few bits, rather in the front."""
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 2, 4, 16))):
        limit = len(damaged) if rng.random() < 0.5 else min(len(damaged), 2000)
        damaged[rng.randrange(limit)] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def overwrite(data: bytes, other: bytes, rng: Random) -> bytes:
    """A stretch of zeros, ones or noise."""
    begin = rng.randrange(len(data))
    length = rng.choice((1, 4, 10, 60))
    piece = rng.choice((b"\x00" * length, b"\xff" * length, rng.randbytes(length)))
    return data[:begin] + piece + data[begin + length :]


def remove(data: bytes, other: bytes, rng: Random) -> bytes:
    """A stretch is missing."""
    begin = rng.randrange(len(data))
    return data[:begin] + data[begin + rng.choice((1, 3, 17, 100)) :]


def repeat(data: bytes, other: bytes, rng: Random) -> bytes:
    """A stretch comes twice, or a piece many times."""
    begin = rng.randrange(len(data))
    end = min(len(data), begin + rng.choice((1, 10, 200, 3000)))
    return data[:end] + data[begin:end] * rng.choice((1, 2, 50)) + data[end:]


def splice(data: bytes, other: bytes, rng: Random) -> bytes:
    """The front of one file and the back of another; protobuf takes two whole ones for a merged model."""
    if rng.random() < 0.3:
        return data + other
    return data[: rng.randrange(len(data))] + other[rng.randrange(len(other)) :]


BYTES: tuple[Callable[[bytes, bytes, Random], bytes], ...] = (
    truncate,
    flip_bits,
    flip_bits,
    overwrite,
    remove,
    repeat,
    splice,
)


# Fields ------------------------------------------------------------------------------------------------------------
def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)


def _graph(model: onnx.ModelProto, rng: Random) -> onnx.GraphProto:
    return rng.choice(list(_graphs(model.graph)))


def _node(model: onnx.ModelProto, rng: Random) -> onnx.NodeProto:
    nodes = [node for graph in _graphs(model.graph) for node in graph.node]
    return rng.choice(nodes) if nodes else model.graph.node.add()


def _tensor(model: onnx.ModelProto, rng: Random) -> onnx.TensorProto:
    tensors = [tensor for graph in _graphs(model.graph) for tensor in graph.initializer]
    return rng.choice(tensors) if tensors else model.graph.initializer.add()


def _names(model: onnx.ModelProto) -> list[str]:
    found = ["", "nowhere"]
    for graph in _graphs(model.graph):
        found += [value.name for value in (*graph.input, *graph.output)] + [tensor.name for tensor in graph.initializer]
        found += [name for node in graph.node for name in (*node.input, *node.output)]
    return found


def tensor_sizes(model: onnx.ModelProto, rng: Random) -> None:
    """An initializer's shape is not that of its data."""
    tensor = _tensor(model, rng)
    if tensor.dims and rng.random() < 0.7:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(HUGE)
    else:
        tensor.dims.extend(rng.choices(HUGE, k=rng.choice((1, 2, 70))))


def value_sizes(model: onnx.ModelProto, rng: Random) -> None:
    """A declared shape is impossible or huge."""
    graph = _graph(model, rng)
    values = [*graph.input, *graph.output, *graph.value_info]
    if not values:
        return
    shape = rng.choice(values).type.tensor_type.shape
    for dimension in rng.sample(list(shape.dim), min(len(shape.dim), rng.randint(1, 2))):
        if rng.random() < 0.7:
            dimension.dim_value = rng.choice(HUGE)
        else:
            dimension.dim_param = rng.choice(("n", "", "n n", "-1", "n*m", "9" * 400, "%d", "min"))
    if not shape.dim:
        shape.dim.add().dim_value = rng.choice(HUGE)


def tensor_type(model: onnx.ModelProto, rng: Random) -> None:
    """Another element type, existing or not."""
    _tensor(model, rng).data_type = rng.choice((*range(28), 99, -1))


def value_type(model: onnx.ModelProto, rng: Random) -> None:
    """A declared value of another type: another element, a sequence, an optional, none."""
    graph = _graph(model, rng)
    values = [*graph.input, *graph.output]
    if not values:
        return
    kind = rng.choice(values).type
    if rng.random() < 0.7:
        kind.tensor_type.elem_type = rng.choice((*range(28), 99, -1))
    elif rng.random() < 0.5:
        kind.sequence_type.elem_type.tensor_type.elem_type = rng.choice((0, 1, 7, 8))
    else:
        kind.Clear()


def edge(model: onnx.ModelProto, rng: Random) -> None:
    """An input or output of a node has another name: cycles, missing values, two producers."""
    node = _node(model, rng)
    names = node.input if rng.random() < 0.7 else node.output
    if names:
        names[rng.randrange(len(names))] = rng.choice(_names(model))


def arity(model: onnx.ModelProto, rng: Random) -> None:
    """Inputs or outputs too many or too few."""
    node = _node(model, rng)
    names = node.input if rng.random() < 0.6 else node.output
    if names and rng.random() < 0.5:
        del names[rng.randrange(len(names)) :]
    else:
        names.extend(rng.choices(_names(model), k=rng.choice((1, 2, 40))))


def operator(model: onnx.ModelProto, rng: Random) -> None:
    """Another operator, or one that does not exist."""
    node = _node(model, rng)
    if rng.random() < 0.85:
        node.op_type = rng.choice(_operators())
    else:
        node.domain = rng.choice(("com.microsoft", "ai.onnx", "ai.onnx.ml", "x", "\x00"))


def _operators() -> list[str]:
    known = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    return [*sorted(known), "", "Nothing", "a\nb"]


def attribute(model: onnx.ModelProto, rng: Random) -> None:
    """An attribute is missing, of another type, or of an impossible value."""
    nodes = [node for graph in _graphs(model.graph) for node in graph.node if node.attribute]
    if not nodes:
        return
    node = rng.choice(nodes)
    chosen = rng.choice(list(node.attribute))
    way = rng.random()
    if way < 0.15:
        node.attribute.remove(chosen)
    elif way < 0.3:
        chosen.type = rng.randint(0, 15)
    elif chosen.type == AttributeProto.INT:
        chosen.i = rng.choice(HUGE)
    elif chosen.type == AttributeProto.INTS:
        numbers = list(chosen.ints) + rng.choices(HUGE, k=rng.choice((0, 0, 1, 3)))
        if numbers:
            numbers[rng.randrange(len(numbers))] = rng.choice(HUGE)
        del chosen.ints[:]
        chosen.ints.extend(numbers[: rng.choice((0, 1, 99))])
    elif chosen.type == AttributeProto.FLOAT:
        chosen.f = rng.choice((float("nan"), float("inf"), -float("inf"), -1.0, 0.0, 1e38))
    elif chosen.type == AttributeProto.STRING:
        chosen.s = rng.choice((*(word.encode() for word in WORDS), b"\xff\xfe"))
    elif chosen.type == AttributeProto.TENSOR:
        chosen.t.dims.append(rng.choice(HUGE))
    elif chosen.type == AttributeProto.GRAPH:
        del chosen.g.output[rng.randint(0, max(0, len(chosen.g.output) - 1)) :]


def added_attribute(model: onnx.ModelProto, rng: Random) -> None:
    """An attribute that the operator has, or has not, with any value."""
    node = _node(model, rng)
    schema = onnx.defs.get_schema(node.op_type) if onnx.defs.has(node.op_type) else None
    name = rng.choice([*(schema.attributes if schema else ()), "nothing", "axis"])
    value = rng.choice((rng.choice(HUGE), [rng.choice(HUGE), 1], 0.5, "text", [1.5], ["a", "b"]))
    node.attribute.append(helper.make_attribute(name, value))


def numbers(model: onnx.ModelProto, rng: Random) -> None:
    """Integers of an initializer (axes, shapes, pads, indices) become extreme."""
    found = [
        tensor
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.INT64 and tensor.raw_data and len(tensor.raw_data) <= 800
    ]
    if not found:
        return
    tensor = rng.choice(found)
    values = [
        int.from_bytes(tensor.raw_data[at : at + 8], "little", signed=True) for at in range(0, len(tensor.raw_data), 8)
    ]
    values[rng.randrange(len(values))] = rng.choice(HUGE)
    tensor.raw_data = b"".join(value.to_bytes(8, "little", signed=True) for value in values)


def stored_data(model: onnx.ModelProto, rng: Random) -> None:
    """Data too short, too long, twice, or in a field of another type."""
    tensor = _tensor(model, rng)
    way = rng.randrange(4)
    if way == 0:
        tensor.raw_data = tensor.raw_data[: rng.randrange(len(tensor.raw_data) + 1)]
    elif way == 1:
        tensor.raw_data += rng.randbytes(rng.choice((1, 7, 64)))
    elif way == 2:
        tensor.float_data.extend([1.0] * rng.choice((1, 50)))
    else:
        tensor.ClearField("raw_data")
        tensor.int64_data.extend(rng.choices(HUGE, k=3))


def external_data(model: onnx.ModelProto, rng: Random) -> None:
    """Data in a file that is elsewhere, missing, or shorter than claimed."""
    tensor = _tensor(model, rng)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (
        ("location", rng.choice(PATHS)),
        ("offset", str(rng.choice((*HUGE, "x", "")))),
        ("length", str(rng.choice((*HUGE, "1e3")))),
    ):
        if rng.random() < 0.8:
            tensor.external_data.add(key=key, value=value)


def opsets(model: onnx.ModelProto, rng: Random) -> None:
    """Another opset: old, new, none, two."""
    if rng.random() < 0.2:
        del model.opset_import[:]
    elif rng.random() < 0.3:
        model.opset_import.add(domain=rng.choice(("", "ai.onnx", "x")), version=rng.choice(HUGE))
    elif model.opset_import:
        model.opset_import[0].version = rng.choice((*range(30), *HUGE))


def lists(model: onnx.ModelProto, rng: Random) -> None:
    """Inputs, outputs, initializers or nodes are missing, doubled or in another order."""
    graph = _graph(model, rng)
    items = rng.choice((graph.input, graph.output, graph.initializer, graph.node))
    if not items:
        return
    place = rng.randrange(len(items))
    way = rng.random()
    if way < 0.4:
        del items[place]
    elif way < 0.7:
        items.append(items[place])
    else:
        shuffled = list(items)
        rng.shuffle(shuffled)
        copies = [type(item).FromString(item.SerializeToString()) for item in shuffled]
        del items[:]
        items.extend(copies)


def names(model: onnx.ModelProto, rng: Random) -> None:
    """Odd names of nodes and values."""
    odd = rng.choice(("", "\x00", "a\nb", '"', "%0", "é\u202e", "x" * 10000, "../../y", "{}", "nul\x00"))
    if rng.random() < 0.5:
        _node(model, rng).name = odd
        return
    old = rng.choice(_names(model))
    for graph in _graphs(model.graph):
        for node in graph.node:
            for edges in (node.input, node.output):
                for place, name in enumerate(edges):
                    if name == old:
                        edges[place] = odd
        for value in (*graph.input, *graph.output, *graph.initializer):
            value.name = odd if value.name == old else value.name


def nesting(model: onnx.ModelProto, rng: Random) -> None:
    """Graphs in graphs in graphs."""
    inner = helper.make_graph([helper.make_node("Identity", [rng.choice(_names(model))], ["deep"])], "deepest", [], [])
    inner.output.append(helper.make_tensor_value_info("deep", TensorProto.FLOAT, None))
    for depth in range(rng.choice((2, 8, 20, 30))):
        node = helper.make_node(
            "If", [rng.choice(_names(model))], ["deep"], then_branch=inner, else_branch=inner if depth < 3 else None
        )
        inner = helper.make_graph([node], f"depth{depth}", [], list(inner.output))
    model.graph.node.extend(inner.node)


def functions(model: onnx.ModelProto, rng: Random) -> None:
    """A function that calls itself, or one of an operator's name."""
    domain = rng.choice(("own", "", "ai.onnx"))
    name = rng.choice(("Again", "Relu", "Add"))
    called = rng.choice(("Again", "Relu", "Nothing"))
    body = [helper.make_node(called, ["a"], ["b"], domain=domain)]
    made = helper.make_function(
        domain, name, ["a"], ["b"], body, [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    )
    model.functions.append(made)
    model.opset_import.add(domain="own", version=1)
    node = _node(model, rng)
    node.op_type, node.domain = name, domain


def growth(model: onnx.ModelProto, rng: Random) -> None:
    """A small node that asks for a huge tensor."""
    size = rng.choice((1 << 20, 1 << 28, 1 << 33, 1 << 45))
    shape = helper.make_tensor("grown_shape", TensorProto.INT64, [2], [size, rng.choice((1, 64, 1 << 20))])
    model.graph.initializer.append(shape)
    source = rng.choice(_names(model))
    kinds = {
        "ConstantOfShape": ["grown_shape"],
        "Expand": [source, "grown_shape"],
        "Tile": [source, "grown_shape"],
        "RandomUniform": [],
        "Pad": [source, "grown_shape"],
        "Reshape": [source, "grown_shape"],
    }
    kind = rng.choice(sorted(kinds))
    attributes = {"shape": [size, 64]} if kind == "RandomUniform" else {}
    model.graph.node.append(helper.make_node(kind, kinds[kind], ["grown"], **attributes))
    model.graph.output.append(helper.make_tensor_value_info("grown", TensorProto.FLOAT, None))


FIELDS: tuple[Callable[[onnx.ModelProto, Random], None], ...] = (
    *(
        tensor_sizes,
        value_sizes,
        tensor_type,
        value_type,
        edge,
        edge,
        arity,
        operator,
        operator,
        attribute,
        attribute,
        attribute,
    ),
    *(added_attribute, numbers, numbers, stored_data, external_data, opsets, lists, names, nesting, functions, growth),
)

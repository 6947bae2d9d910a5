"""One of onnx's node cases with an attribute, or a constant that decides sizes, that is impossible.

In: a seed. Out: a `Verdict` as of a damaged file: it compiles, or an error that names the node refuses it. Cases follow
each other, so that as many seeds as there are cases damage every one of them once.
"""

from __future__ import annotations

import contextlib
import random
import time
import warnings
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
from onnx import helper
from onnx.backend.test.case.node import collect_testcases

from .damage import HUGE, WORDS, attribute, numbers
from .damaged_files import compiled_or_refused
from .differential import LONGEST, Verdict

NODES = 1  # to be raised when seeds come to mean other nodes
WHOLE_EACH = 40  # one in so many is compiled to kernels, the others up to the host program
LARGEST = 64  # elements of an input that becomes a constant


@lru_cache(maxsize=1)
def node_cases() -> list[Any]:
    """All of onnx's node cases."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return list(collect_testcases(None))


def damaged_node(seed: int) -> tuple[onnx.ModelProto, str]:
    """The model of a seed, and what was done to it."""
    cases = node_cases()
    case, rng = cases[seed % len(cases)], random.Random(f"node {seed}")
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    constants = _with_constants(model, case) if rng.random() < 0.5 else 0
    if constants and rng.random() < 0.7:
        numbers(model, rng)
        return model, f"{case.name}: numbers"
    if model.graph.node[0].attribute and rng.random() < 0.6:
        with contextlib.suppress(ValueError, TypeError):  # protobuf does not take everything
            attribute(model, rng)
            return model, f"{case.name}: attribute"
    return model, f"{case.name}: {_added(model, rng)}"


def _with_constants(model: onnx.ModelProto, case: Any) -> int:
    """Small integer inputs (axes, shapes, pads) become constants; how many there were."""
    found = 0
    for value, given in zip(list(model.graph.input), case.data_sets[0][0], strict=False):
        array = onnx.numpy_helper.to_array(given) if isinstance(given, onnx.TensorProto) else given
        if isinstance(array, np.ndarray) and array.dtype == np.int64 and array.size <= LARGEST:
            model.graph.initializer.append(onnx.numpy_helper.from_array(array, value.name))
            found += 1
    return found


def _added(model: onnx.ModelProto, rng: random.Random) -> str:
    """An attribute of the operator's own, set to something impossible of any kind."""
    node = model.graph.node[0]
    known = onnx.defs.has(node.op_type, node.domain)
    schema = onnx.defs.get_schema(node.op_type, domain=node.domain) if known else None
    name = rng.choice([*(schema.attributes if schema else ()), "axis"])
    kind = int(schema.attributes[name].type) if schema and name in schema.attributes else onnx.AttributeProto.INT
    values: dict[int, Any] = {
        onnx.AttributeProto.INT: rng.choice(HUGE),
        onnx.AttributeProto.INTS: rng.choices(HUGE, k=rng.choice((1, 2, 9))),
        onnx.AttributeProto.FLOAT: rng.choice((float("nan"), float("inf"), -1.0, 0.0)),
        onnx.AttributeProto.FLOATS: [rng.choice((float("nan"), -1.0))],
        onnx.AttributeProto.STRING: rng.choice(WORDS),
    }
    chosen = kind if rng.random() < 0.8 else rng.choice(list(values))
    for place in reversed([place for place, item in enumerate(node.attribute) if item.name == name]):
        del node.attribute[place]
    node.attribute.append(helper.make_attribute(name, values.get(chosen, "text")))
    return f"{name} = {values.get(chosen, 'text')}"


def judge_node(seed: int) -> Verdict:
    """Compile the model of a seed, and tell what came of it."""
    model, done = damaged_node(seed)
    started = time.process_time()
    kind, message = compiled_or_refused(model, whole=seed % WHOLE_EACH == 0)
    if kind == "refused" and not _is_named(message, model):
        kind = "nameless"
    seconds = round(time.process_time() - started, 3)
    return Verdict(kind, f"[{done}] {message}"[:LONGEST], seconds, (model.graph.node[0].op_type,))


def _is_named(message: str, model: onnx.ModelProto) -> bool:
    """Whether an error says which node, input or initializer is at fault."""
    names = {name for node in model.graph.node for name in (node.op_type, node.name, *node.output) if name}
    names |= {item.name for item in (*model.graph.initializer, *model.graph.input)}
    return "node '" in message or any(name in message for name in names)

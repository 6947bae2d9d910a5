"""What types the standard lets a node take, checked before the node is imported.

In: a node with its inputs. Out: nothing, or a ModelError that names the input. Importers build scalar code for the
types they were promised; a logical operator on floats would else fail in MLIR. Only kinds of types are checked
(floats, integers, those of 8 and 4 bits, bools), so that bfloat16 at an old opset, which exporters write, still passes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import onnx.defs

from ...runtime.errors import ModelError
from .node import Node

_KINDS = {
    **dict.fromkeys(("float", "double", "bfloat", "f", "bf"), "floats"),
    **dict.fromkeys(("int", "uint", "i", "ui"), "integers"),
    **dict.fromkeys(("bool", "i1"), "bools"),
}
_NUMBER = re.compile(
    r"(?:tensor\()?(bool|i1(?!\d)|double|bfloat|float|uint|int|bf|ui|f|i)(?P<narrow>8[eE]\w*|4[eE]\w*|[24](?!\w))?(?:\d+)?\)?"
)


@dataclass(frozen=True)
class Rule:
    """An input of an operator: the name of its type in the standard, empty where it is nobody else's, and the kinds of
    types that it may have, none where it may be a string or a sequence.
    """

    type_name: str
    kinds: frozenset[str]


def check_types(node: Node) -> None:
    """Raises ModelError for an input of a kind that the operator does not take, and for two types where it has one."""
    rules = _rules(node.domain, node.operator, node.version)
    seen: dict[str, str] = {}
    for place, tensor in enumerate(node.inputs if rules else []):
        if tensor is None:
            continue
        rule, kind = rules[min(place, len(rules) - 1)], _kind(tensor.dtype)
        if kind and rule.kinds and kind not in rule.kinds:
            taken = " or ".join(sorted(rule.kinds))
            raise ModelError(f"input {place} is {tensor.dtype}\n  {node.operator} takes {taken}")
        first = seen.setdefault(rule.type_name, tensor.dtype) if rule.type_name else tensor.dtype
        if first != tensor.dtype:
            raise ModelError(f"inputs are {first} and {tensor.dtype}\n  {node.operator} takes both of one type")


@lru_cache(maxsize=512)
def _rules(domain: str, operator: str, version: int) -> tuple[Rule, ...]:
    """One rule an input; none where onnx does not know the operator. The last holds for further inputs."""
    if not onnx.defs.has(operator, version, domain):
        return ()
    schema = onnx.defs.get_schema(operator, version, domain)
    allowed = {item.type_param_str: item.allowed_type_strs for item in schema.type_constraints}
    rules = []
    for formal in schema.inputs:
        kinds = {_kind(text) for text in allowed.get(formal.type_str, [formal.type_str])}
        name = formal.type_str if formal.is_homogeneous else ""
        rules.append(Rule(name, frozenset(kinds) if all(kinds) else frozenset()))
    if rules and not schema.inputs[-1].is_homogeneous:  # variadic inputs of any types
        rules[-1] = Rule("", frozenset())
    return tuple(rules)


def _kind(text: str) -> str:
    """Of a type as the standard writes it or as we do; empty for strings, sequences and what else there is."""
    found = _NUMBER.fullmatch(text)
    if found is None:
        return ""
    return ("narrow " if found["narrow"] else "") + _KINDS[found[1]]

"""Attention over entries that stand behind one another without padding (com.microsoft).

In: the tokens of all entries, [tokens, hidden], where each entry begins and where each token stood in the padded batch.
Out: products and a softmax over entries of one length, of which only each one's own keys count; the tokens that are
there are taken out of the result. The keys past an entry's end are never read (passes/tile/attention_scores.py).
"""

from __future__ import annotations

from mlir import ir

from ....dialects import graph_builder as build
from ....dialects.scalar import Scalar
from ....runtime.symbolic import Expression
from ..errors import Unsupported
from ..node import Node
from ..registry import onnx_operator
from ..tensor import Tensor
from .attention import Scores, attention_of, join_heads, only, plus, scaled
from .contrib import DOMAIN
from .matrix import product_of


@onnx_operator("PackedMultiHeadAttention", domain=DOMAIN)
def packed_multi_head_attention(node: Node) -> ir.Value:
    """Query, key and value [tokens, hidden], a bias for the three side by side, offsets [N, S], starts [N + 1]."""
    if not node.has(1) or not node.has(2) or node.rank(0) != 2:
        raise Unsupported("PackedMultiHeadAttention of packed queries, keys and values", "three tensors")
    parts = [node.input(place) for place in range(3)]
    return _attention(node, parts, node.optional(3), node.input(4), node.input(5), node.optional(6))


@onnx_operator("PackedAttention", domain=DOMAIN)
def packed_attention(node: Node) -> ir.Value:
    """Input [tokens, width] and the weights of the projection to queries, keys and values, with their bias."""
    projected = node.tensor(product_of(node, node.input(0), node.input(1), node.dtype(0)))
    tokens, width = projected.shape
    sizes = [Expression.constant(size) for size in node.get("qkv_hidden_sizes") or []] or [width // 3] * 3
    starts = [Expression.constant(0), sizes[0], sizes[0] + sizes[1]]
    parts = [
        node.tensor(build.slice(projected.value, [0, start], [tokens, size]))
        for start, size in zip(starts, sizes, strict=True)
    ]
    return _attention(node, parts, node.optional(2), node.input(3), node.input(4), node.optional(5))


def _attention(
    node: Node, parts: list[Tensor], bias: Tensor | None, offsets: Tensor, starts: Tensor, added: Tensor | None
) -> ir.Value:
    batch, steps = offsets.shape
    query, key, value = (
        _by_entries(node, part, starts, (batch, steps)) for part in (_biased(node, parts, bias) if bias else parts)
    )
    scores = Scores([scaled(float(node.get("scale", 0.0)) or None, build.shape_of(query)[3])])
    if added is not None:
        scores.changes.append(plus(added))
    scores.changes.append(only(lambda: build.index(3).lt(_start(starts, 1) - _start(starts, 0))))
    joined = join_heads(attention_of(node, query, key, value, scores))
    width = build.shape_of(joined)[2]
    padded = build.reshape(joined, [batch * steps, width])
    flat = build.reshape(offsets.value, [batch * steps])

    def body() -> Scalar:
        place = build.element_at(flat, [build.index(0)]).cast("i64")
        return build.element_at(padded, [place, build.index(1)])

    return node.map([], body, shape=[parts[0].shape[0], width])


def _biased(node: Node, parts: list[Tensor], bias: Tensor) -> list[Tensor]:
    """Each part plus its piece of one vector."""
    found, start = [], Expression.constant(0)
    for part in parts:
        piece = build.slice(bias.value, [start], [part.shape[1]])
        found.append(node.tensor(node.map([part, piece], lambda x, b: x + b)))
        start = start + part.shape[1]
    return found


def _start(starts: Tensor, following: int) -> Scalar:
    """The first token of this entry, or of one after it."""
    return build.element_at(starts.value, [build.index(0) + following]).cast("i64")


def _by_entries(node: Node, part: Tensor, starts: Tensor, padded: tuple[Expression, Expression]) -> ir.Value:
    """[tokens, hidden] -> [N, heads, S, size]; past an entry's end stand tokens of others."""
    heads = int(node.get("num_heads"))
    tokens, hidden = part.shape
    size = hidden // heads

    def body() -> Scalar:
        row = (_start(starts, 0) + build.index(2)).clip(0, build.dimension(tokens) - 1)
        return build.element_at(part.value, [row, build.index(1) * build.dimension(size) + build.index(3)])

    return node.map([], body, shape=[padded[0], Expression.constant(heads), padded[1], size])

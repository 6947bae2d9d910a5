"""onnxruntime's attention operators (com.microsoft).

In: queries, keys and values with heads in the last dimension, masks, biases and caches. Out: products, maps and a
softmax in the form that fusion turns into one attention kernel (passes/graph/attention_rules.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mlir import ir

from ....dialects import graph_builder as build
from ....dialects.scalar import Scalar
from ....runtime.symbolic import Expression
from ..errors import Unsupported
from ..node import Node
from ..registry import onnx_operator
from ..tensor import Tensor
from .attention import (
    Change,
    Scores,
    attention_of,
    capped,
    causal,
    join_heads,
    only,
    plus,
    repeated,
    scaled,
    split_heads,
)
from .contrib import DOMAIN
from .matrix import product_of, shifted, zero_of

MASKED = -10000.0  # what onnxruntime adds to a masked score unless the node says otherwise


def masking(node: Node, mask: Tensor) -> Change:
    """A mask of the keys: lengths [N], or ones and zeros [N, keys] or [N, queries, keys]."""
    filtered = float(node.get("mask_filter_value", MASKED))
    table = mask.value
    if mask.rank not in (1, 2, 3):
        raise Unsupported(f"{node.operator} with a mask of rank {mask.rank}", "[N], [N, keys], [N, queries, keys]")

    def change(score: Scalar) -> Scalar:
        if mask.rank == 1:
            kept = build.index(3).lt(build.element_at(table, [build.index(0)]).cast("i64"))
        else:
            middle = [build.index(2)] if mask.rank == 3 else []
            kept = build.element_at(table, [build.index(0), *middle, build.index(3)]).ne(0)
        return kept.select(score, score + filtered)

    return Change(change)


def _scale(node: Node, query: ir.Value) -> Change:
    return scaled(float(node.get("scale", 0.0)) or None, build.shape_of(query)[3])


def _after_past(node: Node, past: Tensor | None, new: ir.Value) -> ir.Value:
    return new if past is None else build.concatenate([past.value, new], 2, node.unify)


@onnx_operator("MultiHeadAttention", domain=DOMAIN)
def multi_head_attention(node: Node) -> list[ir.Value | None]:
    """Query [N, S, hidden], key and value [N, T, hidden] or [N, heads, T, size]; caches go in front of them."""
    heads = int(node.get("num_heads"))
    if not node.has(1) or not node.has(2) or node.rank(0) != 3:
        raise Unsupported("MultiHeadAttention of packed queries, keys and values", "three tensors")
    parts = _with_bias(node, [node.input(place) for place in range(3)], node.optional(3))
    query, key, value = (
        part.value if part.rank == 4 else split_heads(node, part, heads) for part in map(node.tensor, parts)
    )
    past = build.shape_of(node.value(6))[2] if node.has(6) else 0
    key, value = _after_past(node, node.optional(6), key), _after_past(node, node.optional(7), value)
    scores = Scores([_scale(node, query)])
    if node.has(5):
        scores.changes.append(plus(node.input(5)))
    if node.has(4):
        scores.changes.append(masking(node, node.input(4)))
    if node.get("unidirectional", 0):
        scores.changes.append(causal(past))
    return [join_heads(attention_of(node, query, key, value, scores)), key, value]


def _with_bias(node: Node, parts: Sequence[Tensor], bias: Tensor | None) -> list[Tensor | ir.Value]:
    """Each part plus its piece of one bias vector."""
    if bias is None:
        return list(parts)
    result: list[Tensor | ir.Value] = []
    start = Expression.constant(0)
    for part in parts:
        width = part.shape[2]
        piece = build.slice(bias.value, [start], [width])
        result.append(node.map([part, piece], lambda x, b: x + b))
        start = start + width
    return result


@onnx_operator("Attention", domain=DOMAIN)
def attention(node: Node) -> list[ir.Value | None]:
    """Projection of the input to queries, keys and values by one matrix, then attention."""
    projected = product_of(node, node.input(0), node.input(1), node.dtype(0))
    if node.has(2):
        projected = node.map([projected, node.input(2)], lambda x, b: x + b)
    return _projected_attention(node, projected, node.optional(3), node.optional(4), node.optional(5))


@onnx_operator("QAttention", domain=DOMAIN)
def quantised_attention(node: Node) -> list[ir.Value | None]:
    """The same with the projection in 8-bit integers: input, weight, bias, their scales, mask, zero points, past."""
    x, weight = node.input(0), node.input(1)
    first = shifted(node, x, zero_of(node, 6, x.rank, 1))
    second = shifted(node, weight, zero_of(node, 7, weight.rank, 1))
    scales = [node.reshaped(tensor, []) if tensor.size == 1 else tensor for tensor in (node.input(3), node.input(4))]

    def body(v: Scalar, a: Scalar, b: Scalar, bias: Scalar) -> Scalar:
        return (v.cast("f32") * (a.cast("f32") * b.cast("f32")) + bias.cast("f32")).cast(bias.dtype)

    projected = node.map([product_of(node, first, second, "i32"), *scales, node.input(2)], body)
    return _projected_attention(node, projected, node.optional(5), node.optional(8), None)


def _projected_attention(
    node: Node, projected: ir.Value, mask: Tensor | None, past: Tensor | None, bias: Tensor | None
) -> list[ir.Value | None]:
    heads = int(node.get("num_heads"))
    batch, steps, width = build.shape_of(projected)
    sizes = [Expression.constant(size) for size in node.get("qkv_hidden_sizes") or []] or [width // 3] * 3
    start, parts = Expression.constant(0), []
    for size in sizes:
        piece = build.slice(projected, [0, 0, start], [batch, steps, size])
        parts.append(split_heads(node, piece, heads))
        start = start + size
    query, key, value = parts
    length: Expression | int = 0
    if past is not None:
        length = past.shape[3]
        key, value = (
            build.concatenate([_half(past, number), part], 2, node.unify) for number, part in ((0, key), (1, value))
        )
    scores = Scores([_scale(node, query)] + ([plus(bias)] if bias is not None else []))
    if mask is not None:
        scores.changes.append(masking(node, mask))
    if node.get("unidirectional", 0):
        scores.changes.append(causal(length))
    result = join_heads(attention_of(node, query, key, value, scores))
    if not node.wants(1):
        return [result, None]
    return [result, build.concatenate([build.expand_dimensions(part, [0]) for part in (key, value)], 0, node.unify)]


def _half(past: Tensor, number: int) -> ir.Value:
    """Keys (0) or values (1) of a cache [2, N, heads, steps, size]."""
    piece = build.slice(past.value, [number, 0, 0, 0, 0], [1, *past.shape[1:]])
    return build.remove_dimensions(piece, [0])


# Rotary embeddings and grouped queries ----------------------------------------------------------------------
def rotated(
    node: Node, value: ir.Value, cosines: Tensor, sines: Tensor, position: Callable[[], Scalar], interleaved: bool
) -> ir.Value:
    """[N, heads, steps, size] turned by the angles of each step's position; only as many elements as tables have."""
    size = build.shape_of(value)[3]
    half = cosines.shape[1].as_constant()
    if half is None:
        raise Unsupported(f"{node.operator} with tables of dynamic width", "a static width")

    def body() -> Scalar:
        places = [build.index(axis) for axis in range(4)]
        element = places[3]
        inside = element.lt(2 * half)
        if interleaved:
            angle, first = element / 2, element.remainder(2).eq(0)
            partner = first.select(element + 1, element - 1)
        else:
            first = element.lt(half)
            angle = first.select(element, element - half)
            partner = first.select(element + half, element - half)
        row = position().clip(0, build.dimension(cosines.shape[0]) - 1)
        angle, partner = (item.clip(0, limit - 1) for item, limit in ((angle, half), (partner, build.dimension(size))))
        own, other = (build.element_at(value, [*places[:3], at]).cast("f32") for at in (element, partner))
        cosine, sine = (build.element_at(table.value, [row, angle]).cast("f32") for table in (cosines, sines))
        turned = own * cosine + first.select(-other, other) * sine
        return inside.select(turned, own).cast(build.element_of(value))

    return node.map([], body, shape=build.shape_of(value))


@onnx_operator("RotaryEmbedding", domain=DOMAIN)
def rotary_embedding(node: Node) -> ir.Value:
    """Input [N, steps, hidden] or [N, heads, steps, size]; positions [N, steps], or [1], the first one."""
    x, places, cosines = node.input(0), node.input(1), node.input(2)
    size = int(node.get("rotary_embedding_dim", 0)) or (2 * (cosines.shape[1].as_constant() or 0))
    heads = int(node.get("num_heads", 0)) or (x.shape[-1].as_constant() or 0) // max(size, 1)
    value = x.value if x.rank == 4 else split_heads(node, x, heads)

    def position() -> Scalar:
        if places.size == 1:
            first = build.element_at(node.reshaped(places, [1]).value, [0]).cast("i64")
            return first + build.index(2)
        return build.element_at(places.value, [build.index(0), build.index(2)]).cast("i64")

    result = rotated(node, value, cosines, node.input(3), position, bool(node.get("interleaved", 0)))
    return result if x.rank == 4 else join_heads(result)


@onnx_operator("GroupQueryAttention", domain=DOMAIN)
def group_query_attention(node: Node) -> list[ir.Value]:
    """Causal attention in which several query heads share a key head; new keys follow each entry's past ones."""
    heads, groups = int(node.get("num_heads")), int(node.get("kv_num_heads"))
    query, key, value = _grouped(node, heads, groups)
    steps, lengths = build.shape_of(query)[2], node.input(5)
    ends = node.reshaped(lengths, [build.product(lengths.shape)]).value

    def before() -> Scalar:
        """Keys of this entry that came before this call."""
        return build.element_at(ends, [build.index(0)]).cast("i64") + 1 - build.dimension(steps)

    if node.get("do_rotary", 0):
        turn = bool(node.get("rotary_interleaved", 0))
        query, key = (
            rotated(node, part, node.input(7), node.input(8), lambda: before() + build.index(2), turn)
            for part in (query, key)
        )
    key, value = (_cached(node, node.optional(place), new, before) for place, new in ((3, key), (4, value)))
    scores = Scores([_scale(node, query)])
    cap, window = float(node.get("softcap", 0.0)), int(node.get("local_window_size", -1))
    if cap:
        scores.changes.append(capped(cap))

    def seen() -> Scalar:
        last = before() + build.index(2)
        kept = build.index(3).le(last)
        if window > 0:
            kept = kept & build.index(3).gt(last - window)
        return kept

    scores.changes.append(only(seen))
    shared = [repeated(part, heads // groups) for part in (key, value)]
    return [join_heads(attention_of(node, query, shared[0], shared[1], scores)), key, value]


def _grouped(node: Node, heads: int, groups: int) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Queries, keys and values by heads, also where they come in one tensor."""
    if node.has(1) and node.has(2):
        counts = (heads, groups, groups)
        parts = [split_heads(node, node.input(place), count) for place, count in enumerate(counts)]
        return parts[0], parts[1], parts[2]
    whole = split_heads(node, node.input(0), heads + 2 * groups)
    batch, _, steps, size = build.shape_of(whole)
    starts = ((0, heads), (heads, groups), (heads + groups, groups))
    pieces = [build.slice(whole, [0, start, 0, 0], [batch, count, steps, size]) for start, count in starts]
    return pieces[0], pieces[1], pieces[2]


def _cached(node: Node, past: Tensor | None, new: ir.Value, before: Callable[[], Scalar]) -> ir.Value:
    """Past keys or values of each entry, then the new ones, [N, heads, past + steps, size]."""
    if past is None:
        return new
    batch, heads, steps, size = build.shape_of(new)

    def body() -> Scalar:
        places = [build.index(axis) for axis in range(4)]
        count, here = before(), places[2]
        old = here.minimum(build.dimension(past.shape[2]) - 1).maximum(0)
        fresh = (here - count).clip(0, build.dimension(steps) - 1)
        kept, added = (
            build.element_at(table, [*places[:2], at, places[3]]) for table, at in ((past.value, old), (new, fresh))
        )
        return here.lt(count).select(kept, added)

    if past.shape[2] == 0:
        return new
    return node.map([], body, shape=[batch, heads, past.shape[2] + steps, size])

"""Queries, keys and values as tensor maps: boxes of some tokens of one head.

In: the address of an operand as a function of batch, token and element of the head. Out: a `Heads`, which knows its
tensor map and the coordinates of a tile. It exists because heads lie in memory in many ways (heads before tokens or
after them, packed projections, one head of keys for several of queries): whatever of the address is neither token nor
element becomes further dimensions of the map.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlir import ir

from ...dialects.tensors import element_of, rank_of, scalar_type, shape_of
from ...runtime.symbolic import ONE, ZERO, Expression, Operation
from ..lower.context import byte_width
from ..lower.dot_layouts import SharedLayout
from ..unit import BoxedTensor
from .attention_scores import constant_number
from .boxes import DATA_TYPES, LINE_BYTES, line_length
from .builder import TileBuilder
from .contraction import Place, PlaceFunction
from .elements import MOVEMENT_RULES, Indices
from .tile_types import ACCESS_BYTES

MOST_DIMENSIONS = 5  # of a tensor map
_TOKEN, _DEPTH = "%head_token", "%head_depth"


@dataclass(frozen=True)
class Outer:
    """A dimension beside tokens and elements: coordinate of a batch, extent, stride in elements."""

    coordinate: Expression
    extent: Expression
    stride: Expression


@dataclass(frozen=True)
class Heads:
    """One operand: [tokens, size] of every batch, elements of a head side by side."""

    source: int  # number of the kernel's input
    element: str
    tokens: Expression
    size: Expression
    stride: Expression  # from a token to the next, in elements
    outer: tuple[Outer, ...]
    scale: float  # constant factors that are left out

    def layout(self, turned: bool) -> SharedLayout:
        """Lines of 128 swizzled bytes along the head; `turned` where tokens are the columns of the shared tile."""
        return SharedLayout("columns" if turned else "rows", line_length(self.element), LINE_BYTES)

    def boxed(self, tokens: int) -> BoxedTensor:
        """The tensor map for boxes of `tokens` tokens and one line of elements."""
        size = byte_width(scalar_type(self.element))
        return BoxedTensor(
            ("input", self.source),
            DATA_TYPES[self.element],
            (self.size, self.tokens, *(own.extent for own in self.outer)),
            tuple(stride * size for stride in (self.stride, *(own.stride for own in self.outer))),
            f"{LINE_BYTES}b",
            (line_length(self.element), tokens, *(1 for _ in self.outer)),
        )

    def load(
        self,
        builder: TileBuilder,
        target: tuple[ir.Value, ir.Value, ir.Value, ir.Value],
        token: Expression,
        tokens: int,
        width: int,
    ) -> None:
        """Copies of `width` elements (padded to lines) of `tokens` tokens from `token` on; `target` is the shared tile,
        its map, the barriers and the stage, which is also the barrier's number.
        """
        tile, tensor_map, barriers, stage = target
        line = line_length(self.element)
        for first in range(0, width, line):
            coordinates = (Expression.constant(first), token, *(own.coordinate for own in self.outer))
            values = [builder.index(value) for value in (Expression.constant(first * tokens), *coordinates)]
            ir.Operation.create(
                "tile.load_box",
                operands=[tile, stage, tensor_map, barriers, stage, *values],
                attributes={"rank": ir.IntegerAttr.get(ir.IntegerType.get_signless(64), len(coordinates))},
            )

    def tile_bytes(self, tokens: int, width: int) -> int:
        """Bytes that arrive for a tile."""
        return tokens * -(-width // line_length(self.element)) * LINE_BYTES


def find_heads(
    builder: TileBuilder, place: PlaceFunction, batch: Expression, tokens: Expression, size: Expression, turned: bool
) -> Heads | None:
    """The operand whose element is at ``place(batch, token, depth)`` (``place(batch, depth, token)`` if `turned`), or
    None when copies in boxes cannot bring it. Constant factors and conversions on the way from memory are left out:
    exporters scale queries and keys each by a root, and the scores can be scaled instead.
    """
    builder.extents.update({_TOKEN: tokens, _DEPTH: size})
    token, depth = Expression.symbol(_TOKEN), Expression.symbol(_DEPTH)
    found = place(batch, depth, token) if turned else place(batch, token, depth)
    tensor, indices, scale = unscaled_source(builder, found)
    if tensor is None or found.conditions or element_of(tensor) not in DATA_TYPES:
        return None
    source = builder.inputs[ir.BlockArgument(tensor).arg_number]
    offset = builder.offset(source, indices)
    stride, step = offset.coefficient(_TOKEN), offset.coefficient(_DEPTH)
    if stride is None or step is None or step != 1 or {_TOKEN, _DEPTH} & stride.symbols:
        return None
    outer = _outer(builder, offset - token * stride - depth, batch)
    access = ACCESS_BYTES // byte_width(scalar_type(source.element))
    if tokens == 1:  # any stride will do
        stride = size.ceil_divide(access) * access
    if outer is None or len(outer) + 2 > MOST_DIMENSIONS:
        return None
    strides = [stride, *(own.stride for own in outer)]
    if not all(own.divisible_by(access) and own != 0 for own in strides):
        return None
    return Heads(builder.inputs.index(source), source.element, tokens, size, stride, tuple(outer), scale)


def unscaled_source(builder: TileBuilder, place: Place) -> tuple[ir.Value | None, Indices, float]:
    """The argument that an element comes from by data movement, constant factors and conversions (None if not so), the
    place in it, and the product of the factors.
    """
    tensor, indices, scale = place.tensor, place.indices, 1.0
    while not isinstance(tensor.owner, ir.Block):
        operation = tensor.owner
        if operation.name in MOVEMENT_RULES:
            tensor, indices = operation.operands[0], MOVEMENT_RULES[operation.name](builder, operation, indices)
            continue
        found = _scaled_source(tensor)
        if found is None:
            return None, indices, scale
        tensor, scale = found[0], scale * found[1]
        indices = indices[len(indices) - rank_of(tensor) :]
    return tensor, indices, scale


def _scaled_source(value: ir.Value) -> tuple[ir.Value, float] | None:
    """(tensor, factor) of a map that multiplies a tensor of its shape, maybe without dimensions of size 1 in front, by
    constants and converts it.
    """
    if isinstance(value.owner, ir.Block) or value.owner.name != "graph.map":
        return None
    block = value.owner.regions[0].blocks[0]
    scalar, factor = block.operations[len(block.operations) - 1].operation.operands[0], 1.0
    while not isinstance(scalar.owner, ir.Block):
        operation = scalar.owner
        if operation.name == "graph.element":
            tensor = operation.operands[0]
            more = rank_of(value) - rank_of(tensor)
            same = shape_of(value) == (ONE,) * more + shape_of(tensor)
            return (tensor, factor) if same else None
        numbers = [constant_number(operand) for operand in operation.operands]
        if operation.name in ("arith.extf", "arith.truncf"):
            scalar = operation.operands[0]
        elif operation.name == "arith.mulf" and numbers.count(None) == 1:
            place = numbers.index(None)
            scalar, factor = operation.operands[place], factor * (numbers[1 - place] or 0.0)
        elif operation.name == "arith.divf" and numbers[0] is None and numbers[1]:
            scalar, factor = operation.operands[0], factor / numbers[1]
        else:
            return None
    return None


def _outer(builder: TileBuilder, rest: Expression, batch: Expression) -> list[Outer] | None:
    """The part of the address that a batch decides, as dimensions: one for every different function of the batch, and
    one of two elements for a constant.
    """
    strides: dict[str | Operation | None, Expression] = {}
    for monomial, factor in rest.ordered_terms:
        own = [atom for atom in monomial if _symbols(atom) & batch.symbols]
        if len(own) > 1:
            return None
        others = list(monomial)
        for atom in own:
            others.remove(atom)
        key = own[0] if own else None
        strides[key] = strides.get(key, ZERO) + Expression({tuple(others): factor})
    found = []
    for key, stride in strides.items():
        coordinate = ONE if key is None else Expression({(key,): 1})
        extent = Expression.constant(2) if key is None else _extent(builder, key)
        if extent is None:
            return None
        found.append(Outer(coordinate, extent, stride))
    return found


def _symbols(atom: str | Operation) -> frozenset[str]:
    return frozenset({atom}) if isinstance(atom, str) else atom.left.symbols | atom.right.symbols


def _extent(builder: TileBuilder, atom: str | Operation) -> Expression | None:
    """How many values a function of the batch has, from zero on."""
    if isinstance(atom, str):
        return builder.extents.get(atom)
    if atom.kind == "mod":
        return atom.right
    inner = atom.left.ordered_terms
    if atom.kind != "floordiv" or len(inner) != 1 or len(inner[0][0]) != 1 or inner[0][1] != 1:
        return None
    extent = _extent(builder, inner[0][0][0])
    return None if extent is None else extent.ceil_divide(atom.right)

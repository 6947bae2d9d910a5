"""Words of weights of four bits: where eight neighbours along k lie in memory as one aligned word.

In: an operand of a contraction as a function of k, which a map makes of packed fields. Out: the address of a word, or
None where its fields are no neighbours. A word is one access, where each of its fields alone would be one of a byte.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from ...runtime.symbolic import ZERO, Expression, product
from ..graph.packed_fields import BITS, PackedFields, byte_reads, packed_fields
from .contraction import Place
from .elements import Address, ElementEmitter

WORD_BYTES = 4
FIELDS = 8 * WORD_BYTES // BITS  # of a word
BYTE_FIELDS = 8 // BITS

WeightAt: TypeAlias = Callable[[Expression], Place]  # k -> place


def fields_along(weight: WeightAt) -> PackedFields | None:
    """How the weights are made of fields that are packed along k."""
    if not byte_reads(weight(ZERO).tensor):
        return None
    probe = Expression.symbol("%probe_depth")
    place = weight(probe)
    axes = [axis for axis, index in enumerate(place.indices) if index == probe]
    return packed_fields(place.tensor, axes[0]) if len(axes) == 1 else None


def word_address(emitter: ElementEmitter, fields: PackedFields, weight: WeightAt, word: Expression) -> Address | None:
    """Where a word begins, in bytes; None where its bytes are no neighbours in memory."""
    found = []
    for number in range(FIELDS):
        address = emitter.address(fields.bytes, weight(word * FIELDS + number).indices)
        if address is None or address.inside or address.argument.place is not None:
            return None
        found.append(address)
    first = found[0]
    together = all(own.offset - first.offset == number // BYTE_FIELDS for number, own in enumerate(found))
    end = product(first.argument.shape) - first.offset - WORD_BYTES
    inside = end.is_nonnegative(emitter.builder.extents) and first.offset.divisible_by(WORD_BYTES)
    return first if together and inside else None

"""Symbols of a model: names of dynamic dimensions, sizes that the user fixed, and what must hold at run time.

In: the declared shapes of the model's inputs and the `shapes` option. Out: symbolic shapes, where each
symbol is read at run time, and the constraints that two sizes are equal which the model implies without
saying so.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import onnx

from ...dialects.tensors import Shape
from ...passes.unit import SymbolSource
from ...runtime.errors import ModelError
from ...runtime.symbolic import Expression, expression
from .errors import Unsupported

RESERVED = {"max", "min"}
ANONYMOUS = {"None", "-1"}  # exporters write these, and "?", for dimensions that are not the same one
Shapes = Mapping[str, Sequence[int | str]]


@dataclass
class Constraints:
    """Pairs of sizes that must be equal at run time."""

    pairs: list[tuple[Expression, Expression]] = field(default_factory=list)
    found: set[str] = field(default_factory=set)  # symbols that only a run finds

    def unify(self, left: Expression, right: Expression) -> Expression:
        """The size to go on with where two must be equal. Raises Unsupported when they cannot be."""
        if left == right:
            return left
        gap = (left - right).as_constant()
        if gap is not None:
            raise ModelError(f"sizes {left} and {right} do not fit together")
        kept, other = sorted((left, right), key=self._complexity)
        if (kept, other) not in self.pairs and (other, kept) not in self.pairs:
            self.pairs.append((kept, other))
        return kept

    def take(self, count: int) -> list[tuple[Expression, Expression]]:
        """What was recorded after the first `count` pairs; it is no longer recorded here."""
        taken = self.pairs[count:]
        del self.pairs[count:]
        return taken

    def _complexity(self, size: Expression) -> tuple[bool, bool, int]:
        """Constants are the simplest sizes, then what the inputs' shapes say, then short expressions; of equally
        simple ones the first is kept.
        """
        return size.as_constant() is None, bool(size.symbols & self.found), len(str(size))


class Dimensions:
    """Gives every dynamic dimension of the inputs a symbol."""

    def __init__(self) -> None:
        self.sources: dict[str, SymbolSource] = {}
        self._identifiers: dict[str, str] = {}  # dim_param -> symbol
        self._fixed: dict[str, Expression] = {}  # symbol -> what the user made of it

    def identifier(self, text: str) -> str:
        """A Python identifier for a dimension's name, the same for the same name."""
        if text not in self._identifiers:
            base = re.sub(r"\W", "_", text, flags=re.ASCII) or "d"
            if base[0].isdigit() or keyword.iskeyword(base) or base in RESERVED:
                base = f"_{base}"
            name, number = base, 1
            while name in self._identifiers.values():
                name, number = f"{base}_{number}", number + 1
            self._identifiers[text] = name
        return self._identifiers[text]

    def shapes(self, inputs: Sequence[onnx.ValueInfoProto], given: Shapes | None) -> list[Shape]:
        """The symbolic shape of every input. Raises ModelError where `given` does not fit the model."""
        wanted = dict(given or {})
        names = [value.name for value in inputs]
        unknown = [name for name in wanted if name not in names]
        if unknown:
            raise ModelError(f"the model has no input {unknown[0]!r}\n  inputs: {', '.join(names)}")
        declared = [self._declared(value, wanted.get(value.name)) for value in inputs]
        for value, shape in zip(inputs, declared, strict=True):
            if value.name in wanted:
                self._fix(value.name, shape, wanted[value.name])
        result = [tuple(size.substitute(self._fixed) for size in shape) for shape in declared]
        for name, shape in zip(names, result, strict=True):
            for axis, size in enumerate(shape):
                symbol = size.as_symbol()
                if symbol is not None:
                    self.sources.setdefault(symbol, SymbolSource(name, axis))
        free = {symbol for shape in result for size in shape for symbol in size.symbols} - self.sources.keys()
        if free:
            raise ModelError(
                f"no input dimension is exactly the symbol {sorted(free)[0]!r}: it cannot be read at run time"
            )
        return result

    def _declared(self, value: onnx.ValueInfoProto, given: Sequence[int | str] | None) -> Shape:
        if value.type.WhichOneof("value") != "tensor_type":
            return ()  # sequences and optionals have no shape of their own
        tensor = value.type.tensor_type
        if not tensor.HasField("shape"):
            if given is None:
                raise Unsupported(f"input '{value.name}' of unknown rank", f"--shape {value.name}=...")
            return tuple(Expression.symbol(self.identifier(f"{value.name}_{axis}")) for axis in range(len(given)))
        shape = []
        for axis, dimension in enumerate(tensor.shape.dim):
            if dimension.HasField("dim_value") and dimension.dim_value >= 0:
                shape.append(Expression.constant(dimension.dim_value))
            else:
                text = dimension.dim_param.strip()
                anonymous = text in ANONYMOUS or not re.search(r"\w", text)
                shape.append(Expression.symbol(self.identifier(f"{value.name}_{axis}" if anonymous else text)))
        return tuple(shape)

    def _fix(self, name: str, shape: Shape, given: Sequence[int | str]) -> None:
        if len(given) != len(shape):
            raise ModelError(f"input '{name}' has {len(shape)} dimensions; {len(given)} are given")
        for axis, (size, wish) in enumerate(zip(shape, given, strict=True)):
            try:
                new = expression(wish).substitute(self._fixed)
            except ValueError as error:
                raise ModelError(f"input '{name}', axis {axis}: {error}") from None
            if (new.as_constant() or 0) < 0:
                raise ModelError(f"input '{name}', axis {axis}: a size cannot be {new}")
            current = size.substitute(self._fixed)
            symbol = current.as_symbol()
            if symbol is not None and new != current:
                self._fixed = {key: old.substitute({symbol: new}) for key, old in self._fixed.items()}
                self._fixed[symbol] = new
            elif new != current:
                raise ModelError(f"input '{name}', axis {axis}: the model has {current}, {new} is given")

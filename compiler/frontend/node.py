"""One ONNX node as its importer sees it: inputs with what is known about them, attributes, and helpers that
build.

In: the node's protobuf and its input tensors. Out: `Node`, the only argument of the functions in
compiler/frontend/operators.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from mlir import ir

from ...dialects import graph_builder as build
from ...dialects.scalar import Scalar
from ...dialects.tensors import Shape
from ...runtime.dtypes import from_numpy
from ...runtime.errors import ModelError
from ...runtime.symbolic import Expression, maximum
from .errors import Unsupported
from .tensor import Array, Ratio, Tensor

if TYPE_CHECKING:
    from .importer import Importer, Scope

MOST_FOUND = 64  # sizes that a run reads from one tensor


class Node:
    """`operator` at opset `version` with `inputs` (None where an optional one is left out) and
    `attributes`.
    """

    def __init__(
        self,
        importer: Importer,
        name: str,
        operator: str,
        domain: str,
        version: int,
        inputs: list[Tensor | None],
        attributes: dict[str, Any],
        outputs: list[str],
    ) -> None:
        self.importer = importer
        self.name = name
        self.operator = operator
        self.domain = domain
        self.version = version
        self.inputs = inputs
        self.attributes = attributes
        self.outputs = outputs
        self.proto: onnx.NodeProto
        self.scope: Scope

    # Inputs -------------------------------------------------------------------------------------------------
    def has(self, position: int) -> bool:
        """True when that input is given."""
        return position < len(self.inputs) and self.inputs[position] is not None

    def wants(self, position: int) -> bool:
        """True when that output is used by name."""
        return position < len(self.outputs) and bool(self.outputs[position])

    def input(self, position: int) -> Tensor:
        """An input that must be there. Raises ModelError."""
        tensor = self.inputs[position] if position < len(self.inputs) else None
        if tensor is None:
            raise ModelError(f"node '{self.name}' ({self.operator}) lacks its input {position}")
        return tensor

    def optional(self, position: int) -> Tensor | None:
        return self.inputs[position] if position < len(self.inputs) else None

    @property
    def sources(self) -> frozenset[str]:
        """The model inputs that the node's inputs are computed from."""
        return frozenset().union(*(tensor.sources for tensor in self.inputs if tensor is not None))

    def value(self, position: int) -> ir.Value:
        return self.input(position).value

    def shape(self, position: int = 0) -> Shape:
        return self.input(position).shape

    def dtype(self, position: int = 0) -> str:
        return self.input(position).dtype

    def rank(self, position: int = 0) -> int:
        return self.input(position).rank

    def constant(self, position: int) -> Array | None:
        """The input's value when it is a constant of the model."""
        tensor = self.optional(position)
        return tensor.array() if tensor is not None and tensor.is_constant else None

    def sizes(
        self, position: int, meaning: str, function: str = "sizes", given: Sequence[Expression] = ()
    ) -> list[Expression]:
        """The input's value as symbolic integers, none of them negative where it depends on data: then the host
        finds them in every run, with a function of runtime/host_functions that also gets the sizes `given`.

        Raises Unsupported when there is no telling how many they are.
        """
        known = self.input(position).known()
        if known is not None:
            return [self._integer(item, meaning) for item in known.ravel()]
        count = self.computed(position, meaning).size or 0
        options = {"operator": self.operator, "allowzero": int(self.get("allowzero", 0))}
        found = self.found(function, [self.input(position)], count, options=options, sizes=given)
        return self.or_known(position, found)

    def or_known(self, position: int, found: Sequence[Expression]) -> list[Expression]:
        """Sizes found in a run, replaced by those that are known while compiling; 0 and -1 mean something else."""
        elements = self.input(position).partly_known()
        flat = [None] * len(found) if elements is None else list(elements.flat)
        known = [item if isinstance(item, Expression) and _is_size(item) else None for item in flat]
        return [size if item is None else item for item, size in zip(known, found, strict=True)]

    def computed(self, position: int, meaning: str) -> Tensor:
        """An input of a few integers that depend on data. Raises Unsupported for other tensors."""
        tensor = self.input(position)
        if tensor.size is None or tensor.size > MOST_FOUND or tensor.dtype not in ("i32", "i64"):
            what = f"{self.operator} with {meaning} computed from data"
            raise Unsupported(what, f"up to {MOST_FOUND} integers, or constants", tensor.sources)
        return tensor

    def _integer(self, item: Expression | Ratio, meaning: str) -> Expression:
        if isinstance(item, Ratio) and item.denominator == 1:
            return item.numerator
        if isinstance(item, Ratio):
            raise ModelError(f"node '{self.name}' ({self.operator}): {meaning} must be integers")
        return item

    def integers(self, position: int, meaning: str) -> list[int]:
        """The input's value as Python integers. Raises Unsupported when it is not constant."""
        tensor = self.input(position)
        known = tensor.known()
        values = [] if known is None else [self._integer(item, meaning).as_constant() for item in known.ravel()]
        if known is None or None in values:
            what = (
                f"{self.operator} with {meaning} computed from data"
                if known is None
                else f"{self.operator} with dynamic {meaning}"
            )
            raise Unsupported(what, f"constant {meaning}", tensor.sources)
        return [value for value in values if value is not None]

    # Attributes ---------------------------------------------------------------------------------------------
    def get(self, name: str, default: Any = None) -> Any:
        """An attribute: int, float, str, list, Tensor-able proto or graph."""
        return self.attributes.get(name, default)

    def axis(self, value: int, rank: int) -> int:
        """A non-negative axis. Raises ModelError when it is out of range."""
        if not -rank <= value < max(rank, 1):
            raise ModelError(f"node '{self.name}' ({self.operator}): axis {value} of a tensor of rank {rank}")
        return value % rank if rank else 0

    def same_rank(self, *positions: int) -> None:
        """Raises ModelError where inputs that lie over each other have different ranks."""
        ranks = [self.rank(position) for position in positions]
        if len(set(ranks)) > 1:
            raise ModelError(f"inputs of ranks {ranks}, which have to be equal")

    def axes(self, values: Sequence[int], rank: int) -> list[int]:
        """Non-negative sorted axes without repetition."""
        return sorted({self.axis(int(value), rank) for value in values})

    def axes_input(self, position: int, default: Sequence[int] | None = None) -> list[int] | None:
        """Axes from the attribute `axes` (older opsets) or from an input (newer ones); None where neither is
        given.
        """
        if "axes" in self.attributes:
            return [int(value) for value in self.attributes["axes"]]
        if self.has(position):
            return self.integers(position, "axes")
        return list(default) if default is not None else None

    # Building -----------------------------------------------------------------------------------------------
    @property
    def unify(self) -> build.Unify:
        """Says which of two sizes that must be equal to keep; records the constraint."""
        return self.importer.constraints.unify

    def map(
        self,
        inputs: Sequence[Tensor | ir.Value],
        function: Callable[..., Scalar],
        shape: Sequence[Expression] | None = None,
        element: str | None = None,
    ) -> ir.Value:
        """`graph_builder.map` over tensors; one-element constants become literals of the body."""
        tensors = [self.tensor(item) for item in inputs]
        result_shape = build.broadcast_shapes([item.shape for item in tensors], self.unify) if shape is None else shape
        captured = [item for item in tensors if not item.is_literal]

        def body(*scalars: Scalar) -> Scalar:
            given = iter(scalars)
            return function(*[item.scalar() if item.is_literal else next(given) for item in tensors])

        return build.map([item.value for item in captured], body, shape=result_shape, element=element)

    def tensor(self, item: Tensor | ir.Value) -> Tensor:
        """The tensor itself, or one for an IR value."""
        return item if isinstance(item, Tensor) else Tensor.of_value(self.importer.materialiser, item)

    def apply(
        self,
        operator: str,
        inputs: Sequence[Tensor | ir.Value | Array | float | None],
        outputs: int = 1,
        domain: str = "",
        version: int = 0,
        **attributes: Any,
    ) -> list[Tensor]:
        """The outputs of an ONNX operator on these inputs (None where one is left out); numbers and arrays are
        constants.

        It is that of the newest opset unless `version` says otherwise.
        """
        names = [f"i{position}" if item is not None else "" for position, item in enumerate(inputs)]
        results = [f"o{position}" for position in range(outputs)]
        proto = onnx.helper.make_node(operator, names, results, self.name, domain=domain, **attributes)
        given = [None if item is None else self._given(item) for item in inputs]
        opset = version or (1 if domain else onnx.defs.onnx_opset_version())
        made = self.importer.apply(proto, given, self, opset)
        return [tensor for tensor in made[:outputs] if tensor is not None]

    def _given(self, item: Tensor | ir.Value | Array | float) -> Tensor:
        if isinstance(item, (Tensor, ir.Value)):
            return self.tensor(item)
        array = np.asarray(item, np.float32 if isinstance(item, float) else None)
        return self.literal(array, from_numpy(array.dtype).name)

    def host(
        self,
        function: str,
        inputs: Sequence[Tensor],
        results: int = 1,
        options: Mapping[str, Any] | None = None,
        sizes: Sequence[Expression] = (),
        symbols: Sequence[str] = (),
    ) -> list[ir.Value]:
        """Host values from a function of runtime/host_functions; tensors among the inputs are downloaded."""
        call = build.host(function, [tensor.object for tensor in inputs], results, options, sizes, symbols)
        self.importer.materialiser.binders.update(dict.fromkeys(symbols, call))
        return list(call.results)

    def found(self, function: str, inputs: Sequence[Tensor], count: int, **arguments: Any) -> list[Expression]:
        """`count` sizes that a host function finds during the run."""
        if not count:
            return []
        symbols = self.importer.fresh_symbols(self.operator, count)
        self.host(function, inputs, 0, symbols=symbols, **arguments)
        return [Expression.symbol(symbol) for symbol in symbols]

    def on_host(self, value: ir.Value, dtype: str, shape: Sequence[Expression] = ()) -> Tensor:
        """The tensor of a host value: strings of a shape, a sequence or an optional."""
        return Tensor(self.importer.materialiser, dtype, tuple(shape), name=self.name, value=value)

    def literal(self, array: Array, dtype: str) -> Tensor:
        """A constant made by the importer."""
        return Tensor.of_array(self.importer.materialiser, array, dtype, name=self.name)

    def symbolic(self, known: Array, dtype: str) -> Tensor:
        """A tensor whose value is an object array of expressions."""
        shape = tuple(Expression.constant(size) for size in known.shape)
        return Tensor(self.importer.materialiser, dtype, shape, name=self.name, known=known)

    def reshaped(self, tensor: Tensor | ir.Value, shape: Sequence[Expression | int]) -> Tensor:
        """The tensor in another shape; constants stay constants."""
        given = self.tensor(tensor)
        wanted = build.expressions(shape)
        sizes = [size.as_constant() for size in wanted]
        if given.is_constant and None not in sizes:
            target = tuple(size for size in sizes if size is not None)
            materialiser = self.importer.materialiser
            return Tensor(
                materialiser, given.dtype, wanted, name=given.name, loader=lambda: given.array().reshape(target)
            )
        return self.tensor(build.reshape(given.value, wanted))

    def per_channel(self, tensor: Tensor, rank: int, axis: int = 1) -> Tensor:
        """A vector of one value a channel, shaped to broadcast against a tensor of that rank. Raises ModelError."""
        if rank <= axis or tensor.rank != 1:
            raise ModelError(f"values for each channel of rank {tensor.rank}, for a tensor of rank {rank}")
        shape: list[Expression | int] = [1] * (rank - axis)
        shape[0] = tensor.shape[0]
        return self.reshaped(tensor, shape)

    def assume_nonnegative(self, size: Expression) -> Expression:
        """The size itself; a constraint is recorded when it is not provably >= 0."""
        return size if size.is_nonnegative() else self.unify(size, maximum(size, 0))


def _is_size(item: Expression) -> bool:
    constant = item.as_constant()
    return item.is_nonnegative() if constant is None else constant > 0

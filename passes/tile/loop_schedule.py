"""How the elements of a pointwise kernel are shared by threads.

In: the size of the result and what the kernel reads. Out: schedules, the predicted one first; the others have more or
fewer vectors a thread and threads a block, and are there for a tuning to choose from.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...dialects.tensors import element_of, shape_of
from ...runtime.symbolic import Expression, product
from .builder import bytes_of
from .programs import Request

THREADS = 128
WIDE = 16  # bytes of one access
UNROLLS = (1, 2, 4, 8)  # vectors of a thread
BLOCKS = 108 * 4  # that a card has work with: smaller results get more threads, not more work for each
_HEAVY = ("graph.pool", "graph.convolution", "graph.convolution_transpose", "graph.reduce")


@dataclass(frozen=True)
class LoopProblem:
    """`elements` of the result, the types of inputs and results, how many operations the body has."""

    elements: Expression
    reads: str
    writes: str
    operations: int


@dataclass(frozen=True)
class Schedule:
    """A thread computes `unroll` vectors of `vector` neighbours."""

    vector: int
    unroll: int
    threads: int = THREADS

    @property
    def columns(self) -> int:
        """Elements of a block."""
        return self.threads * self.vector * self.unroll


def loop_problem(request: Request) -> LoopProblem:
    """What a tuning knows the kernel by."""
    block = request.function.regions[0].blocks[0]
    reads, writes = ("+".join(map(element_of, values)) for values in (list(block.arguments), request.returned))
    elements = product(list(shape_of(request.returned[0])))
    return LoopProblem(elements, reads, writes, len(request.operations))


def loop_schedules(request: Request, total: Expression) -> list[Schedule]:
    """Every schedule for a result of `total` elements, the predicted one first."""
    vector = _vector_width(request, total)
    predicted = Schedule(vector, _unroll(request, total, vector))
    others = [Schedule(vector, unroll, threads) for threads in (THREADS, 2 * THREADS) for unroll in UNROLLS]
    if _is_heavy(request):
        others = [other for other in others if other.unroll == 1]
    return list(dict.fromkeys([predicted, *others]))


def _is_heavy(request: Request) -> bool:
    return any(operation.name in _HEAVY for operation in request.operations)


def _vector_width(request: Request, total: Expression) -> int:
    """The widest vector that divides the result and keeps the stores within 16 bytes each."""
    widest = max(bytes_of(element_of(value)) for value in request.returned)
    width = min(WIDE // widest, 4) if _is_heavy(request) else WIDE // widest
    while width > 1 and not total.divisible_by(width):
        width //= 2
    return max(1, width)


def _unroll(request: Request, total: Expression, vector: int) -> int:
    """Vectors per thread: more loads in flight for large, cheap kernels."""
    size = total.as_constant()
    if _is_heavy(request) or (size is not None and size < BLOCKS * THREADS * vector):
        return 1
    return 2 if vector * 2 <= 8 else 1

"""What a file of custom operators imports: `from tilewright import custom`.

In: nothing. Out: the decorator `operator`, `Kernel` and `Result` for kernels of one's own, and for decompositions
the builders of the graph level. One name for each thing that docs/custom-operators.md explains.
"""

from __future__ import annotations

from ..dialects import graph_builder as graph
from ..dialects.scalar import Scalar
from ..runtime.symbolic import Expression
from .custom_operators import load_operators, operator, unregister
from .frontend.custom_kernel import Kernel, Result, compile_cuda
from .frontend.errors import Unsupported
from .frontend.node import Node
from .frontend.tensor import Tensor

__all__ = [
    "Expression",
    "Kernel",
    "Node",
    "Result",
    "Scalar",
    "Tensor",
    "Unsupported",
    "compile_cuda",
    "graph",
    "load_operators",
    "operator",
    "unregister",
]

"""A kernel of the user's, in PTX or CUDA C++, and how an operator launches it.

In: source text and launch geometry. Out: `Kernel`, checked as far as its text tells, whose `launch` builds the call
in the graph. PTX is the contract: CUDA C++ goes through nvcc where the user has it.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlir import ir

from ...dialects import given_kernel
from ...dialects import graph_builder as build
from ...dialects.given_kernel import GivenKernel
from ...dialects.tensors import tensor_type
from ...passes.target import find_target
from ...runtime.dtypes import DTYPES
from ...runtime.errors import ModelError
from ...runtime.symbolic import ONE, Expression, ExpressionLike, expression
from .node import Node
from .tensor import Tensor

LARGEST_BLOCK = 1024  # threads
NVCC_SECONDS = 120

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_ENTRY = re.compile(r"\.entry\s+([\w$]+)\s*(?:\(([^)]*)\))?")
_PARAMETER = re.compile(r"\.param\s+(?:\.align\s+\d+\s+)?\.(\w+)")
_TARGET = re.compile(r"^\s*\.target\s+sm_(\d+)([af]?)", re.MULTILINE)
_REQUIRED = re.compile(r"\.reqntid\s+(\d+)(?:\s*,\s*(\d+))?(?:\s*,\s*(\d+))?")
_WIDTHS = {"u64": 64, "s64": 64, "b64": 64, "u32": 32, "s32": 32, "b32": 32}


@dataclass(frozen=True)
class Result:
    """What a kernel writes: an element type ("f32"), a shape, and what it holds before the launch.

    Without `initial` the kernel has to write every element. A number from 0 to 255 fills every byte; a tensor of the
    same type and shape is copied, for kernels that change a part of it.
    """

    dtype: str
    shape: Sequence[ExpressionLike]
    initial: int | Tensor | None = None


class Kernel:
    """One kernel. `block` is the number of threads, up to three extents; `shared_bytes` the dynamic shared memory."""

    def __init__(self, ptx: str, block: int | Sequence[int], shared_bytes: int = 0) -> None:
        """Raises ModelError for text that is not one kernel, and for a block that CUDA does not have."""
        plain = _COMMENT.sub("", ptx)
        entries = _ENTRY.findall(plain)
        if len(entries) != 1:
            found = ", ".join(name for name, _ in entries) or "none"
            raise ModelError(f"the PTX of a custom kernel has one entry; this has {len(entries)}: {found}")
        self.name, parameters = entries[0]
        self.parameters: tuple[str, ...] = tuple(_PARAMETER.findall(parameters))
        self.ptx = ptx
        extents = (block,) if isinstance(block, int) else tuple(block)
        if not 1 <= len(extents) <= 3 or min(extents) < 1 or math.prod(extents) > LARGEST_BLOCK:
            raise ModelError(f"kernel '{self.name}': a block of {extents} threads\n  supported: 1 to {LARGEST_BLOCK}")
        self.block = (*extents, 1, 1)[:3]
        self.shared_bytes = shared_bytes
        required = _REQUIRED.search(plain)
        if required and tuple(int(extent or 1) for extent in required.groups()) != self.block:
            raise ModelError(f"kernel '{self.name}' requires its block ({required.group(0)}), not {self.block}")
        version = _TARGET.search(plain)
        if version is None:
            raise ModelError(f"the PTX of kernel '{self.name}' has no .target sm_...")
        self.architecture = (int(version.group(1)), version.group(2))

    @staticmethod
    def from_file(path: str | os.PathLike[str], block: int | Sequence[int], shared_bytes: int = 0) -> Kernel:
        """The kernel of a `.ptx` file. Raises ModelError."""
        try:
            return Kernel(Path(path).read_text(), block, shared_bytes)
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"cannot read the kernel {os.fspath(path)}: {error}") from None

    @staticmethod
    def from_cuda(
        source: str,
        block: int | Sequence[int],
        shared_bytes: int = 0,
        architecture: str = "sm_80",
        options: Sequence[str] = (),
    ) -> Kernel:
        """The kernel of CUDA C++ source, by the nvcc on PATH. Raises ModelError with its messages."""
        return Kernel(compile_cuda(source, architecture, options), block, shared_bytes)

    def launch(
        self,
        node: Node,
        inputs: Sequence[Tensor | ir.Value],
        results: Sequence[Result],
        grid: Sequence[ExpressionLike],
        sizes: Sequence[ExpressionLike] = (),
    ) -> list[Tensor]:
        """Build the launch; returns its results.

        The kernel's parameters are the addresses of `inputs`, then of `results`, then the integers `sizes`; `grid` has
        up to three extents. Sizes may be symbolic. Raises ModelError when that does not fit the kernel.
        """
        if not results:
            raise ModelError(f"the launch of kernel '{self.name}' lacks results: dtype and shape of what it writes")
        self._check_target(node)
        operands = [node.tensor(item) for item in inputs]
        arguments = [f"input {number}" for number in range(len(operands))]
        arguments += [f"output {number}" for number in range(len(results))]
        arguments += [str(expression(size)) for size in sizes]
        prepared = []
        for number, result in enumerate(results):
            if isinstance(result.initial, Tensor):
                prepared.append(f"{number} copy {len(operands)}")
                operands.append(self._initial(number, result, result.initial))
            elif result.initial is not None:
                prepared.append(f"{number} fill {int(result.initial) & 255}")
        given = GivenKernel(
            entry=self.name,
            ptx=self.ptx,
            grid=self._grid(grid),
            block=(self.block[0], self.block[1], self.block[2]),
            shared_bytes=self.shared_bytes,
            arguments=tuple(arguments),
            parameters=self._kinds(arguments),
            prepared=tuple(prepared),
        )
        return [node.tensor(value) for value in _call(node, given, operands, results)]

    def _initial(self, number: int, result: Result, tensor: Tensor) -> Tensor:
        shape = build.expressions(result.shape)
        if tensor.dtype != result.dtype or tensor.shape != shape:
            wanted = f"{result.dtype}[{', '.join(map(str, shape))}]"
            given = f"{tensor.dtype}[{', '.join(map(str, tensor.shape))}]"
            raise ModelError(f"result {number} of kernel '{self.name}' is {wanted}; its initial value is {given}")
        return tensor

    def _grid(self, grid: Sequence[ExpressionLike]) -> tuple[Expression, Expression, Expression]:
        if not 1 <= len(grid) <= 3:
            raise ModelError(f"the grid of kernel '{self.name}' has {len(grid)} extents, not one to three")
        extents = [*build.expressions(grid), ONE, ONE]
        return extents[0], extents[1], extents[2]

    def _kinds(self, arguments: Sequence[str]) -> tuple[str, ...]:
        """The manifest's kind of every parameter. Raises ModelError when the arguments do not fit the parameters."""
        if len(arguments) != len(self.parameters):
            parameters = ", ".join(f".{parameter}" for parameter in self.parameters) or "none"
            raise ModelError(
                f"kernel '{self.name}' has {len(self.parameters)} parameters ({parameters}); its launch gives "
                f"{len(arguments)} arguments ({', '.join(arguments)})"
            )
        kinds = []
        for position, (argument, parameter) in enumerate(zip(arguments, self.parameters, strict=True)):
            is_tensor = given_kernel.is_tensor(argument)
            width = _WIDTHS.get(parameter)
            if width is None or (is_tensor and width != 64):
                what = f"parameter {position} of kernel '{self.name}' is .{parameter}, its argument '{argument}'"
                raise ModelError(f"{what}\n  supported: 64 bits for a tensor's address, 32 or 64 for a size")
            kinds.append("pointer" if is_tensor else f"i{width}")
        return tuple(kinds)

    def _check_target(self, node: Node) -> None:
        """PTX runs on its own architecture and later ones, but with the suffix a (or f) on that one (or family)."""
        target = find_target(node.importer.unit.target)
        number, suffix = self.architecture
        own = target.capability[0] * 10 + target.capability[1]
        name = f"sm_{number}{suffix}"
        fits = {"": number <= own, "a": name == target.name, "f": number // 10 == own // 10 and number <= own}[suffix]
        if not fits:
            raise ModelError(
                f"kernel '{self.name}' is PTX for {name} and the model is compiled for {target.name}\n"
                f"  use: --target {name}, or PTX for an architecture up to sm_{own}"
            )


def _call(
    node: Node, kernel: GivenKernel, operands: Sequence[Tensor], results: Sequence[Result]
) -> list[ir.Value]:
    """Declare the kernel under a fresh name and call it."""
    for result in results:
        if result.dtype not in DTYPES:
            raise ModelError(f"kernel '{kernel.entry}' writes '{result.dtype}'\n  known: {', '.join(DTYPES)}")
    values = [tensor.value for tensor in operands]
    types = [tensor_type(result.shape, result.dtype) for result in results]
    module = node.importer.unit.module
    number = len(module.body.operations) - 1  # besides @main there are only such kernels yet
    name = f"{given_kernel.KIND}_{number}_{kernel.entry}"
    function_type = ir.FunctionType.get([value.type for value in values], types)
    function = given_kernel.declare(module, name, kernel, function_type)
    function.attributes["graph.nodes"] = ir.ArrayAttr.get([ir.StringAttr.get(node.name)])
    return given_kernel.call(function, values)


def compile_cuda(source: str, architecture: str = "sm_80", options: Sequence[str] = ()) -> str:
    """PTX of CUDA C++ source, by the nvcc on PATH. Raises ModelError with its messages."""
    compiler = shutil.which("nvcc")
    if compiler is None:
        raise ModelError("CUDA C++ needs nvcc, which is not on PATH\n  supported everywhere: kernels in PTX")
    with tempfile.TemporaryDirectory(prefix="tilewright-") as folder:
        file, output = Path(folder, "kernel.cu"), Path(folder, "kernel.ptx")
        file.write_text(source)
        command = [compiler, "-ptx", f"-arch={architecture}", *options, "-o", str(output), str(file)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=NVCC_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ModelError(f"nvcc cannot be run: {error}") from None
        if done.returncode:
            raise ModelError(f"nvcc rejects the kernel:\n{(done.stderr or done.stdout).strip()}")
        if not output.exists():  # options may ask for something else
            raise ModelError(f"nvcc wrote no PTX; it was called with\n  {' '.join(command[1:])}")
        return output.read_text()

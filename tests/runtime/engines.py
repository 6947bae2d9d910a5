"""Small engines over the kernels of kernels.py.

In: nothing. Out: engines in memory, each with what one part of the runtime has to deal with.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tilewright.runtime.engine import Engine
from tilewright.runtime.launch_arguments import BufferArgument, ExpressionArgument
from tilewright.runtime.manifest import Buffer, KernelDescription, Manifest, SymbolSource, TensorBinding
from tilewright.runtime.program import Copy, Fill, If, Launch, Program
from tilewright.runtime.symbolic import parse

WEIGHT = np.array([1.0, -2.0, 0.5, 4.0], np.float32)


def ptx(name: str) -> str:
    """PTX that parses and does nothing; the fakes run the Python function of the same name."""
    return f".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry {name}()\n{{\n  ret;\n}}\n"


def shape(*extents: int | str) -> tuple[Any, ...]:
    """A symbolic shape from integers and text."""
    return tuple(parse(str(extent)) for extent in extents)


def launch(kernel: str, grid: str, *arguments: str) -> Launch:
    """A launch; arguments in parentheses are expressions, others buffers."""
    parsed = tuple(
        ExpressionArgument(parse(text[1:-1])) if text.startswith("(") else BufferArgument(text)
        for text in arguments
    )
    return Launch(kernel, shape(grid, 1, 1), parsed, (f"{kernel.title()}_1",))


def kernel(name: str, *parameters: str, shared_bytes: int = 0) -> KernelDescription:
    """The description of a kernel of kernels.py."""
    return KernelDescription(
        name,
        (128, 1, 1),
        shared_bytes=shared_bytes,
        registers=16,
        parameters=parameters,
        nodes=(f"{name}_node",),
    )


ADD = kernel("add", "pointer", "pointer", "pointer", "i32")
SCALE = kernel("scale", "pointer", "pointer", "pointer", "i32", shared_bytes=64 * 1024)
IS_POSITIVE = kernel("is_positive", "pointer", "pointer", "i32")


def affine() -> Engine:
    """z = 2 * (x + y) * w with x, y: f32[n, 4]; a weight, reused memory, and x itself as a second output."""
    manifest = Manifest(
        target="sm_80",
        precision="strict",
        model="affine",
        symbols={"n": SymbolSource("x", 0)},
        inputs=(
            TensorBinding("x", "f32", shape("n", 4), "x"),
            TensorBinding("y", "f32", shape("n", 4), "y"),
        ),
        outputs=(
            TensorBinding("z", "f32", shape("n", 4), "z"),
            TensorBinding("x again", "f32", shape("n", 4), "x"),
        ),
        buffers=(
            Buffer("x", "f32", shape("n", 4), "input"),
            Buffer("y", "f32", shape("n", 4), "input"),
            Buffer("w", "f32", shape(4), "weight"),
            Buffer("u", "f32", shape(3), "weight"),
            Buffer("t0", "f32", shape("n", 4), "temporary", first=0, last=1),
            Buffer("t1", "f32", shape("n", 4), "temporary", first=1, last=2),
            Buffer("t2", "f32", shape("n", 4), "temporary", first=2, last=3),
            Buffer("z", "f32", shape("n", 4), "output"),
        ),
        kernels=(ADD, SCALE),
        program=Program(
            (
                launch("add", "(4*n + 127)//128", "x", "y", "t0", "(4*n)"),
                launch("scale", "n", "t0", "w", "t1", "(n)"),
                Copy("t1", "t2"),
                launch("add", "(4*n + 127)//128", "t2", "t2", "z", "(4*n)"),
            )
        ),
    )
    kernels = {"add": ptx("add"), "scale": ptx("scale")}
    ir = {"ir/01-graph.import.mlir": "module {}\n", "ir/02-graph.fuse.mlir": "module { }\n"}
    return Engine.build(manifest, kernels, ir, [WEIGHT, lambda: np.ones(3, np.float32)])


def affine_result(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """What `affine` computes, in the same order of roundings."""
    scaled = (x + y) * WEIGHT
    return scaled + scaled


def branching() -> Engine:
    """z = x + x if sum(x) > 0 else 0, for x: f32[n]."""
    manifest = Manifest(
        target="sm_80",
        precision="strict",
        model="branching",
        symbols={"n": SymbolSource("x", 0)},
        inputs=(TensorBinding("x", "f32", shape("n"), "x"),),
        outputs=(TensorBinding("z", "f32", shape("n"), "z"),),
        buffers=(
            Buffer("x", "f32", shape("n"), "input"),
            Buffer("c", "i1", (), "temporary", first=0, last=1),
            Buffer("z", "f32", shape("n"), "output"),
        ),
        kernels=(ADD, IS_POSITIVE),
        program=Program(
            (
                launch("is_positive", "1", "x", "c", "(n)"),
                If("c", (launch("add", "1", "x", "x", "z", "(n)"),), (Fill("z", 0),)),
            )
        ),
    )
    return Engine.build(manifest, {name: ptx(name) for name in ("add", "is_positive")}, {}, [])


def scalars() -> Engine:
    """y = x for a 0-d f64, and inverse = not flag for a 0-d bool."""
    names = {"x": "f64", "flag": "i1", "y": "f64", "inverse": "i1"}
    manifest = Manifest(
        target="sm_80",
        precision="strict",
        model="scalars",
        symbols={},
        inputs=tuple(TensorBinding(name, names[name], (), name) for name in ("x", "flag")),
        outputs=tuple(TensorBinding(name, names[name], (), name) for name in ("y", "inverse")),
        buffers=tuple(
            Buffer(name, element, (), "input" if name in ("x", "flag") else "output")
            for name, element in names.items()
        ),
        kernels=(kernel("cast_bytes", "pointer", "pointer", "pointer", "pointer"),),
        program=Program((launch("cast_bytes", "1", "x", "flag", "y", "inverse"),)),
    )
    return Engine.build(manifest, {"cast_bytes": ptx("cast_bytes")}, {}, [])

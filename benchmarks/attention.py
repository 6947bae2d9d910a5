"""Is every attention of exported models found? The softmaxes over scores in a file beside the attention kernels.

In: ONNX files, or folders of them, such as `benchmarks.export_models --small DIR` writes. Out: a table with a row a
file that has attention; an error when a layer is missing. Nothing is compiled beyond fusion, so that it takes seconds.

    python -m benchmarks.attention tests/models/graphs [DIR ...] [--precision f16]
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import onnx
from tests.support.seeded_weights import fill

import tilewright
from tilewright.compiler.compilation import Compilation, Options
from tilewright.compiler.pipeline import run_pipeline

FOLLOWED = ("Cast", "Dropout", "Identity", "IsNaN", "Where")  # between a softmax and the product with the values


def attention_nodes(model: onnx.ModelProto) -> int:
    """Attention operators, and softmaxes whose result a product multiplies, in the graph and its functions."""
    graphs = [model.graph, *model.functions]
    return sum(_is_attention(node, list(graph.node)) for graph in graphs for node in graph.node)


def _is_attention(node: onnx.NodeProto, nodes: list[onnx.NodeProto]) -> bool:
    if node.op_type.endswith("Attention"):
        return True
    names = set(node.output)
    if node.op_type != "Softmax":
        return False
    for reader in nodes:  # in the order of computation
        if not names & set(reader.input):
            continue
        if reader.op_type == "MatMul" and reader.input[0] in names:
            return True
        if reader.op_type in FOLLOWED:
            names |= set(reader.output)
    return False


def attention_kernels(model: onnx.ModelProto, precision: str = "strict", target: str = "sm_90a") -> int:
    """Launches of attention kernels in the program of a model."""
    compilation = Compilation(Options(target=target, precision=precision), model)
    run_pipeline(compilation, last="deduplicate-kernels")
    return len(re.findall(r"call @attention_\d+\(", str(compilation.unit.module)))


def files_of(places: list[Path]) -> Iterator[Path]:
    """The ONNX files at and in some places."""
    for place in places:
        yield from sorted(place.glob("*.onnx")) if place.is_dir() else [place]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("places", nargs="+", type=Path, metavar="FILE|DIR")
    parser.add_argument("--precision", default="strict")
    parser.add_argument("--target", default="sm_90a")
    options = parser.parse_args()
    missed = 0
    for path in files_of(options.places):
        model = onnx.load(path)
        wanted = attention_nodes(model)
        if not wanted:
            continue
        try:
            found = attention_kernels(fill(model), options.precision, options.target)
        except tilewright.Error as error:
            print(f"{path.stem:34} {wanted:3} in the file, not compiled: {str(error).splitlines()[0]}", flush=True)
            missed += 1
            continue
        missed += found != wanted
        state = "" if found == wanted else "   MISSED"
        print(f"{path.stem:34} {wanted:3} in the file, {found:3} kernels{state}", flush=True)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()

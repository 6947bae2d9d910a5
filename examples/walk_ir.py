"""Walk one fused kernel through every level of the compiler: graph, tile, LLVM, PTX.

    python examples/walk_ir.py [--output FOLDER]

The model is made here: a matrix product with bias, ReLU and a scale, which must become one kernel.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import tilewright

LINES = 60  # of each dump; the files have the rest
COLUMNS = 140


def model() -> onnx.ModelProto:
    """y = 0.5 * relu(x @ w + b), x of any number of rows."""
    generator = np.random.default_rng(0)
    weights = {
        "w": generator.standard_normal((64, 96)).astype(np.float32),
        "b": generator.standard_normal(96).astype(np.float32),
        "half": np.array(0.5, np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"], name="product"),
        helper.make_node("Add", ["product", "b"], ["sum"], name="bias"),
        helper.make_node("Relu", ["sum"], ["positive"], name="relu"),
        helper.make_node("Mul", ["positive", "half"], ["y"], name="scale"),
    ]
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 96])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


def changed(folder: Path) -> list[Path]:
    """The dumps in order, without those of stages that left the IR as it was."""
    with (folder / "index.tsv").open(newline="") as lines:
        rows = csv.DictReader(lines, delimiter="\t")
        unchanged = {row["number"] for row in rows if row["changed"] == "no"}
    dumps = [path for path in sorted(folder.iterdir()) if path.suffix in (".mlir", ".ptx")]
    return [path for path in dumps if path.name[:2] not in unchanged or "-tile." in path.name]


def show(path: Path) -> None:
    """Print the beginning of one dump, long lines shortened."""
    lines = [line for line in path.read_text().splitlines() if line.strip()]
    print(f"\n{'=' * 8} {path.name} ({len(lines)} lines) {'=' * 8}")
    print("\n".join(line if len(line) <= COLUMNS else line[: COLUMNS - 1] + "…" for line in lines[:LINES]))
    if len(lines) > LINES:
        print(f"... {len(lines) - LINES} more lines in {path}")


def main() -> None:
    """Compile with dumps, print each level, run, and check the answer."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, help="where the dumps go; default: a temporary folder")
    folder = parser.parse_args().output or Path(tempfile.mkdtemp(prefix="tilewright-walk-"))
    layer = model()
    engine = tilewright.compile(layer, dump=folder)
    for path in changed(folder):
        show(path)
    print(f"\nall dumps: {folder}, what each pass did: {folder / 'index.tsv'}")

    x = np.random.default_rng(1).standard_normal((5, 64)).astype(np.float32)
    with engine.session() as session:
        y = session.run({"x": x})["y"]
        names = ", ".join(engine.kernels)
        print(f"kernels: {names}; run on {session.device.description}")
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in layer.graph.initializer}
    expected = 0.5 * np.maximum(x @ weights["w"] + weights["b"], 0)
    print(f"largest difference from numpy: {np.abs(y - expected).max():.1e}")


if __name__ == "__main__":
    main()

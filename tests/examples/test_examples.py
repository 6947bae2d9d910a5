"""Every script in examples/ runs as a newcomer runs it, and prints the right answers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
GRAPH = "tests/models/graphs/unet-small-dynamo.onnx"
# What the output of each script must contain; every script of the folder must stand here.
EXPECTED: dict[str, tuple[list[str], list[str]]] = {
    "file_types.py": (
        ["Makefile", "examples/models.py", GRAPH, "--output", "{folder}"],
        ["makefile", "python", "onnx", "magika.tw", "IR dumps"],
    ),
    "read_text.py": (["Hello 42"], ["read  'Hello 42'"]),
    "embed_sentences.py": (
        ["A cat sleeps.", "A kitten naps.", "Taxes rise."],
        # The cosines that onnxruntime's answers give.
        ["0.711  'A cat sleeps.' and 'A kitten naps.'", "0.083  'A cat sleeps.' and 'Taxes rise.'"],
    ),
    "walk_ir.py": (["--output", "{folder}"], ["tile.dot", ".visible .entry", "kernels: "]),
    "custom_operators.py": ([], ["custom_0_histogram (custom)", "softmax agrees: True", "histogram agrees: True"]),
    "models.py": (["magika"], ["model.onnx"]),
}


def run(script: str, folder: Path) -> str:
    """Run one script with its arguments and return what it printed."""
    arguments = [argument.format(folder=folder) for argument in EXPECTED[script][0]]
    command = [sys.executable, str(ROOT / "examples" / script), *arguments]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def test_every_script_is_listed() -> None:
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == set(EXPECTED)


@pytest.mark.parametrize("script", EXPECTED)
def test_example(script: str, tmp_path: Path) -> None:
    output = run(script, tmp_path)
    missing = [text for text in EXPECTED[script][1] if text not in output]
    assert not missing, output


def test_a_file_that_is_missing_is_told_before_the_work(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "examples" / "file_types.py"), str(tmp_path / "none")]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (finished.returncode, finished.stdout) == (2, "")
    assert finished.stderr.endswith(f"error: cannot read {tmp_path}/none: No such file or directory\n")

"""docs/operators.md from the registered importers and the recorded conformance run.

In: the registry and benchmarks/results/conformance.json. Out: the page's text: for every operator its opsets, element
types, where it runs and how many of onnx's cases pass.
"""

from __future__ import annotations

import json
from typing import Any

import onnx.defs
from tests.style.sources import ROOT

RESULTS = ROOT / "benchmarks" / "results" / "conformance.json"
LEFT_OUT = ROOT / "tests" / "conformance" / "left_out.tsv"
HEAD = """\
# Operators

Written by `make docs` from the registered importers and from the last `make conformance`: {passed} of onnx {version}'s
{cases} node cases pass through `tilewright.onnx_backend` on the emulator ({percent:.2f} %); the others stand with their
reasons in [a reviewed list](../tests/conformance/expected_failures.tsv). Operators that ONNX defines by a function body
need no importer; they are inlined. What an operator does not support of its modes and types is said by the error when
something asks for it.

"Host" means that a step of the operator runs on the host inside the program ([host operations](host-operations.md));
where "device" stands too, kernels do the work and the host finds sizes. Opsets are those at which the operator changed,
types those that its passing cases have.

"""
TAIL = """\
## Complex numbers
complex64 and complex128 are element types of inputs, outputs, constants, sequences and optionals, of every operator
that ONNX lets have them ({complex}); others refuse them with an UnsupportedError that names the node. Callers have
numpy's complex arrays. DFT and STFT have complex numbers as a last dimension of 2. Kernels see the real and the
imaginary parts ([decision 33](decisions.md)).

## Random numbers
RandomNormal, RandomUniform, their Like forms, Bernoulli, Multinomial and Dropout in training draw from Philox4x32-10:
an element's number follows from its position and the seed, so that an engine draws the same in every run. A node
without a `seed` has one made of its name.

## What onnxruntime's optimisers write
Models after its graph optimiser at the extended level and after its optimiser of transformers compile, and answer as
what they were made from ([test_optimised.py](../tests/models/test_optimised.py)). MoE and QMoE compute every expert for
every row and keep what the router chose. At the highest level, its optimiser for CPUs puts channels in blocks of a size
that is not in the file: such models are refused.

## What is left out
The mean of no elements is NaN here and 0 in onnxruntime; ONNX calls it undefined. Operators without an importer:

| operator | why |
|---|---|
{rows}
"""
SHORT = {"float": "f32", "float16": "f16", "bfloat16": "bf16", "double": "f64", "bool": "bool", "string": "string"}


def page() -> str:
    """The whole text."""
    from tilewright.compiler.frontend.complex_numbers import supported_operators
    from tilewright.compiler.frontend.registry import registered_operators

    results = json.loads(RESULTS.read_text())
    imported = {_full(domain, name) for domain, name in registered_operators()}
    names: dict[str, set[str]] = {}
    for domain, name in registered_operators():
        names.setdefault(domain, set()).add(name)
    for full in results["operators"]:
        domain, _, name = full.rpartition(".")
        names.setdefault(domain, set()).add(name)
    percent = 100 * results["passed"] / results["cases"]
    text = HEAD.format(passed=results["passed"], version=results["onnx"], cases=results["cases"], percent=percent)
    for domain in sorted(names):
        rows = [_row(domain, name, results["operators"], imported) for name in sorted(names[domain])]
        text += f"## {domain or 'ai.onnx'} ({len(rows)})\n\n"
        text += "| operator | opsets | types | runs on | cases passed |\n|---|---|---|---|---|\n"
        text += "\n".join(rows) + "\n\n"
    rows = "\n".join(f"| {domain}.{name} | {why} |" for domain, name, why in left_out())
    return text + TAIL.format(rows=rows, complex=", ".join(sorted(supported_operators())))


def left_out() -> list[list[str]]:
    """Domain, name and reason of every operator of the reviewed list."""
    lines = LEFT_OUT.read_text().splitlines()
    return [line.split("\t") for line in lines if not line.startswith("#")]


def _full(domain: str, name: str) -> str:
    return f"{domain}.{name}" if domain else name


def _row(domain: str, name: str, results: dict[str, Any], imported: set[str]) -> str:
    found = results.get(_full(domain, name))
    versions = sorted({schema.since_version for schema in _history(domain, name)})
    opsets = ", ".join(map(str, versions)) or "1"
    types = ", ".join(sorted({SHORT.get(kind, kind) for kind in found["types"]})) if found else ""
    places = [place for place in ("device", "host") if found and found[place]]
    how = " and ".join(places) or ("compile time" if found and found["passed"] else "")
    if _full(domain, name) not in imported:
        how += ", inlined" if how else "inlined"
    passed = f"{found['passed']} of {found['cases']}" if found else ""
    return f"| {name} | {opsets} | {types} | {how} | {passed} |"


def _history(domain: str, name: str) -> list[Any]:
    return [
        schema for schema in onnx.defs.get_all_schemas_with_history() if schema.name == name and schema.domain == domain
    ]

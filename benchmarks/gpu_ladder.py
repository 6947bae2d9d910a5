"""The ladder: small engines, each of which needs one thing of a GPU that those before it do not.

In: the builders of benchmarks/workloads.py. Out: `RUNGS`, models with the target that they are compiled for, and
`features`, what the PTX of a kernel needs. Why: where something about the hardware was misread, the first rung that
fails says what within seconds, before large models fail for the same reason. Expected answers are onnxruntime's.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
from benchmarks.workloads import PERIOD, VARIANTS, WORKLOADS, model
from onnx import helper

_BUILDERS = {work.family: work.build for work in (*VARIANTS, *WORKLOADS)}
_POINTWISE = next(work.build for work in WORKLOADS if work.name.startswith("silu"))
_ROWS = next(work.build for work in WORKLOADS if work.name.startswith("Softmax"))

_UNKNOWN = ("bf16", "e4m3")
_TERMS = 16  # of three products in a row: a deviation of 90 where inputs have one of 1.4

# What a kernel needs, by what its PTX has. Where a rung fails, these are the suspects.
FEATURES = {
    "cp.async": r"\bcp\.async\.c[ag]\.",
    "ldmatrix": r"\bldmatrix\.",
    "mma.sync": r"\bmma\.sync\.",
    "boxes": r"cp\.async\.bulk\.tensor\.\S*\.global\.tile",
    "pixels": r"cp\.async\.bulk\.tensor\.\S*\.im2col",
    "multicast": r"multicast::cluster",
    "wgmma": r"wgmma\.mma_async",
    "wgmma, left across": r"wgmma\.mma_async[^;]*, 1, 1, 1, \d;",
    "wgmma, right across": r"wgmma\.mma_async[^;]*, 1, 1, (\d, )?1;",
    "wgmma, left in registers": r"wgmma\.mma_async\S* \{[^}]*\}, \{",
    "registers by role": r"setmaxnreg",
    "stmatrix": r"\bstmatrix\.",
    "stores in boxes": r"cp\.async\.bulk\.tensor\.\S*\.global\.shared::cta",
    "cluster": r"\.reqnctapercluster",
    "memory of other blocks": r"ld\.shared::cluster",
    "flags between blocks": r"ld\.acquire\.gpu",
    "may begin early": r"griddepcontrol\.wait",
    "weights before the wait": r"cp\.async\.bulk\.tensor[\s\S]*griddepcontrol\.wait",
}


def features(texts: Iterable[str]) -> list[str]:
    """What kernels need, of their PTX."""
    kernels = list(texts)
    return [name for name, pattern in FEATURES.items() if any(re.search(pattern, ptx) for ptx in kernels)]


@dataclass(frozen=True)
class Rung:
    """One engine. `parameters` are those of `build`; the `target` is that of the bundle unless it says another."""

    name: str
    build: Any
    parameters: tuple[Any, ...]
    precision: str = "f16"
    target: str = ""
    tolerance: float = 1e-2  # of the largest output: results in f16, intermediate ones of the reference too

    def model(self) -> onnx.ModelProto:
        """The model."""
        built: onnx.ModelProto = self.build(*self.parameters)
        return built

    def case(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Inputs and expected outputs. The inputs are small whole numbers, so that products are exact."""
        known = self
        if self.parameters[0] in _UNKNOWN:  # to onnxruntime; numbers and sums are the same in f16
            known = replace(self, parameters=("f16", *self.parameters[1:]))
        inputs, outputs = self._numbers(), [_element(output) for output in self.model().graph.output]
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(known.model().SerializeToString(), options)
        given = {own.name: inputs[own.name].astype(_element(own)) for own in known.model().graph.input}
        results = zip(session.get_outputs(), session.run(None, given), outputs, strict=True)
        return inputs, {output.name: result.astype(element) for output, result, element in results}

    def _numbers(self) -> dict[str, np.ndarray]:
        random = np.random.default_rng(0)
        found = {}
        for given in self.model().graph.input:
            shape = [size.dim_value for size in given.type.tensor_type.shape.dim]
            numbers = random.integers(0 if _element(given).kind == "u" else -2, 3, shape)
            found[given.name] = numbers.astype(_element(given))
        return found


def _element(value: onnx.ValueInfoProto) -> np.dtype:
    return onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)


def _typed(
    kind: str, left: tuple[int, ...], right: tuple[int, ...], *turned: bool, stored: bool = False, name: str = ""
) -> Rung:
    order = "".join("T" if flag else "N" for flag in turned)
    precision = kind if kind in ("bf16", "tf32") else "f16"
    # Sums of whole numbers below 2048 are exact in f16; those with weights, which go up to 120, in f32 and i32.
    tolerance = Rung.tolerance if stored and kind == "f16" else 0
    parameters = (kind, left, right, turned, stored)
    return Rung(name or f"{kind}-{order}", _BUILDERS["typed matmul"], parameters, precision, tolerance=tolerance)


def _of(family: str, name: str, *parameters: Any, target: str = "") -> Rung:
    tolerance = 0 if family == "matmul" else Rung.tolerance  # whole numbers again
    return Rung(name, _BUILDERS[family], parameters, target=target, tolerance=tolerance)


def _chain(rows: int, *widths: int) -> onnx.ModelProto:
    """Products with one weight after the other, a kernel each: weights of the next are fetched while this one runs.

    Weights are -1, 0 and 1, about `_TERMS` of them in a column not 0, so that all results are below 2048 and exact.
    """
    random = np.random.default_rng(0)
    nodes, weights, names = [], {}, ["a", *(f"x{step}" for step in range(1, len(widths) - 1)), "y"]
    for step, shape in enumerate(itertools.pairwise(widths)):
        numbers = random.choice((-1, 1), PERIOD) * (random.random(PERIOD) < _TERMS / shape[0])
        weights[f"w{step}"] = np.resize(numbers.astype(np.float16), shape)
        nodes.append(helper.make_node("MatMul", [names[step], f"w{step}"], [names[step + 1]], f"product {step}"))
    return model(nodes, {"a": (rows, widths[0])}, (rows, widths[-1]), weights)


RUNGS = (
    Rung("pointwise", _POINTWISE, (64, 512)),
    _of("transpose", "transpose", (192, 256), (1, 0)),
    Rung("softmax", _ROWS, ("Softmax", 32, 1024)),
    _of("depthwise", "depthwise", 1, 64, 14, 3, 1),
    _of("matmul", "row", 1, 256, 256),
    _of("matmul", "mma-sync", 128, 128, 128, target="sm_80"),
    _typed("f16", (128, 128), (128, 128), False, True),
    _of("matmul", "wgmma", 64, 64, 64),
    _of("matmul", "wgmma-two-panels", 128, 256, 64),
    _typed("f16", (128, 128), (128, 128), True, False),
    _of("matmul", "few-rows", 16, 256, 256),
    _of("matmul", "edges", 130, 520, 264),
    _typed("bf16", (128, 128), (128, 128), False, True),
    _typed("tf32", (128, 128), (128, 128), False, False, stored=True),
    _typed("s8", (128, 128), (128, 128), False, False, stored=True),
    _typed("e4m3", (128, 128), (128, 128), False, True),
    Rung("softmax-cluster", _ROWS, ("Softmax", 8, 32768)),
    _of("sum", "sum-cluster", (512, 128), (0,)),
    _of("matmul", "split-cluster", 128, 64, 1024),
    _of("matmul", "roles", 1408, 1792, 2048),
    _of("matmul", "multicast", 777, 1336, 512),
    _typed("f16", (777, 512), (512, 1336), False, False, stored=True, name="multicast-weights"),
    # 32 blocks a kernel on the 132 multiprocessors of an H100: those of the next begin while these run. In the other
    # rung, clusters that take the whole card, then 104 blocks without clusters, then clusters again.
    Rung("in-a-row", _chain, (128, 128, 128, 128, 128), tolerance=0),
    Rung("in-a-row-multicast", _chain, (777, 512, 1336, 512, 1336), tolerance=0),
    _of("matmul", "shared-tiles", 896, 1408, 2048),
    _of("matmul + epilogue", "residual-boxes", 256, 512, 128),
    _of("convolution", "pixels", 1, 64, 14, 64, 3, 1),
    _of("convolution", "pixels-stride", 1, 64, 15, 64, 3, 2),
    _of("convolution", "first-layer", 1, 3, 32, 64, 7, 2),
    _of("attention", "attention", 1, 2, 256, 256, 64, False),
    _of("attention", "attention-causal", 1, 2, 256, 256, 128, True),
    _of("attention", "decode", 1, 2, 1, 512, 64, False),
)

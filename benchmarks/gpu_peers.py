"""What torch does with the work of benchmarks/quantised_workloads.py's EVERY: the answer in float64, the fastest ways.

In: a workload's family and parameters, and tensors by input name. Out: `PEERS`, a row a family: the reference and the
competitors by name. It exists so that our kernels are timed beside cuBLAS, cuDNN, the attention kernels that torch
ships, and torch.compile, on the same tensors in the same run. Needs torch, on a GPU for all but trying it out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from benchmarks.gpu_quantised_peers import (
    Extras,
    by_columns,
    byte_convolution,
    dequantised,
    exact_four_bits,
    feed_forward,
    four_bits,
    four_bits_extras,
    int4_product,
    scaled,
    typed,
)
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

Tensors = Mapping[str, torch.Tensor]
Function = Callable[[Tensors], torch.Tensor]
COMPILED = "torch.compile"


@dataclass(frozen=True)
class Peer:
    """`function(parameters, tensors)`, run as it is and, with `compiled`, also through torch.compile; `others` are ways
    to the same result that torch does not take by itself. `extras` are tensors that they find laid out already, made of
    those of one set; `exact` is the reference where it is not `function` in float64.
    """

    function: Callable[[tuple[Any, ...], Tensors], torch.Tensor]
    compiled: bool = False
    by_heads: bool = False  # the reference goes head by head: its scores in float64 would not fit together
    others: Callable[[tuple[Any, ...]], dict[str, Function]] = lambda parameters: {}
    extras: Callable[[tuple[Any, ...], Tensors], Extras] = lambda parameters, tensors: {}
    exact: Callable[[tuple[Any, ...], Tensors], torch.Tensor] | None = None

    def competitors(self, parameters: tuple[Any, ...]) -> dict[str, Function]:
        """Ways to compute the workload, by name."""
        plain = partial(self.function, parameters)
        found: dict[str, Function] = {"torch": plain, **self.others(parameters)}
        if self.compiled:
            # CUDA graphs are ours to capture, for every competitor alike.
            found[COMPILED] = torch.compile(plain, mode="max-autotune-no-cudagraphs", dynamic=False)
        return found

    def reference(self, parameters: tuple[Any, ...], tensors: Tensors) -> torch.Tensor:
        """The result in float64; of bytes in their steps, not rounded."""
        if self.exact is not None:
            return self.exact(parameters, tensors)
        with sdpa_kernel(SDPBackend.MATH):
            if not self.by_heads:
                return self.function(parameters, {name: tensor.double() for name, tensor in tensors.items()})
            heads = range(tensors["q"].shape[1])
            parts = ({name: tensor[:, head : head + 1].double() for name, tensor in tensors.items()} for head in heads)
            return torch.cat([self.function(parameters, part) for part in parts], 1)


def _matmul(parameters: tuple[Any, ...], tensors: Tensors) -> torch.Tensor:
    return tensors["a"] @ tensors["b"]


def _fused(parameters: tuple[Any, ...], tensors: Tensors) -> torch.Tensor:
    product = tensors["a"] @ tensors["b"] + tensors["bias"]
    return functional.gelu(product, approximate="tanh") + tensors["residual"]


def _normalised(parameters: tuple[Any, ...], tensors: Tensors) -> torch.Tensor:
    total = tensors["a"] @ tensors["b"] + tensors["bias"] + tensors["residual"]
    normal = functional.layer_norm(total, total.shape[-1:], tensors["scale"], tensors["shift"])
    return functional.gelu(normal @ tensors["c"], approximate="tanh")


def _gated(parameters: tuple[Any, ...], tensors: Tensors) -> torch.Tensor:
    return functional.silu(tensors["a"] @ tensors["gate"]) * (tensors["a"] @ tensors["up"])


def _convolution(parameters: tuple[Any, ...], tensors: Tensors) -> torch.Tensor:
    kernel, stride, *groups = parameters[4:]
    image = tensors["x"].permute(0, 3, 1, 2)  # a view: channels-last
    weights = tensors["w"].contiguous(memory_format=torch.channels_last)
    result = functional.conv2d(image, weights, tensors["b"], stride, kernel // 2, 1, *groups)
    return torch.relu_(result).permute(0, 2, 3, 1)


def _fused_convolution(parameters: tuple[Any, ...], tensors: Tensors) -> torch.Tensor:
    """cuDNN's own fusion with bias and activation."""
    kernel, stride, *groups = parameters[4:]
    image = tensors["x"].permute(0, 3, 1, 2)
    weights = tensors["w"].contiguous(memory_format=torch.channels_last)
    steps, pads, apart = [stride] * 2, [kernel // 2] * 2, (groups or [1])[0]
    result = torch.cudnn_convolution_relu(image, weights, tensors["b"], steps, pads, [1, 1], apart)
    return result.permute(0, 2, 3, 1)


def _depthwise(parameters: tuple[Any, ...], tensors: Tensors) -> torch.Tensor:
    _, channels, _, kernel, stride = parameters
    image = tensors["x"].permute(0, 3, 1, 2)
    weights = tensors["w"].contiguous(memory_format=torch.channels_last)
    result = functional.conv2d(image, weights, tensors["b"], stride, kernel // 2, groups=channels)
    return functional.relu6(result).permute(0, 2, 3, 1)


def _attention(parameters: tuple[Any, ...], tensors: Tensors) -> torch.Tensor:
    return functional.scaled_dot_product_attention(
        tensors["q"], tensors["k"], tensors["v"], is_causal=parameters[-1]
    )


def _grouped(parameters: tuple[Any, ...], tensors: Tensors) -> torch.Tensor:
    return functional.scaled_dot_product_attention(tensors["q"], tensors["k"], tensors["v"], enable_gqa=True)


def _with_backend(backend: SDPBackend, parameters: tuple[Any, ...], tensors: Tensors) -> torch.Tensor:
    with sdpa_kernel(backend):
        return _attention(parameters, tensors)


def _backends(parameters: tuple[Any, ...]) -> dict[str, Function]:
    names = {"flash": "FLASH_ATTENTION", "cudnn": "CUDNN_ATTENTION", "efficient": "EFFICIENT_ATTENTION"}
    return {name: partial(_with_backend, getattr(SDPBackend, value), parameters) for name, value in names.items()}


def _softmax(tensors: Tensors) -> torch.Tensor:
    return torch.softmax(tensors["x"], -1)


def _layer_norm(tensors: Tensors) -> torch.Tensor:
    x = tensors["x"]
    return functional.layer_norm(x, x.shape[-1:], tensors["scale"], tensors["shift"])


def _rms_norm(tensors: Tensors) -> torch.Tensor:
    x = tensors["x"]
    return functional.rms_norm(x, x.shape[-1:], tensors["scale"], 1e-5)


def _silu_add(tensors: Tensors) -> torch.Tensor:
    return functional.silu(tensors["x"]) + tensors["z"]


def _group_norm(parameters: tuple[Any, ...], tensors: Tensors) -> torch.Tensor:
    return functional.silu(functional.group_norm(tensors["x"], parameters[-1], tensors["scale"], tensors["shift"]))


def _transpose(parameters: tuple[Any, ...], tensors: Tensors) -> torch.Tensor:
    return tensors["x"].permute(parameters[1]).contiguous()


def _sum(parameters: tuple[Any, ...], tensors: Tensors) -> torch.Tensor:
    return tensors["x"].sum(parameters[1], keepdim=True)


_MEMORY = {"Softmax": _softmax, "LayerNormalization": _layer_norm, "RMSNormalization": _rms_norm}


def _memory(parameters: tuple[Any, ...], tensors: Tensors) -> torch.Tensor:
    return _MEMORY.get(parameters[0], _silu_add)(tensors)


def _fused_by_cudnn(parameters: tuple[Any, ...]) -> dict[str, Function]:
    return {"cudnn fused": partial(_fused_convolution, parameters)}


def _int4_product(parameters: tuple[Any, ...]) -> dict[str, Function]:
    return {"torch int4": partial(int4_product, parameters)}


PEERS = {
    "matmul": Peer(_matmul),
    "matmul + epilogue": Peer(_fused, compiled=True),
    "matmul + norm": Peer(_normalised, compiled=True),
    "gated matmul": Peer(_gated, compiled=True),
    "convolution": Peer(_convolution, others=_fused_by_cudnn),
    "depthwise": Peer(_depthwise, compiled=True),
    "attention": Peer(_attention, others=_backends, by_heads=True),
    "attention decode": Peer(_attention, others=_backends, by_heads=True),
    "grouped decode": Peer(_grouped, compiled=True),
    "memory": Peer(_memory, compiled=True),
    "group norm": Peer(_group_norm, compiled=True),
    "transpose": Peer(_transpose, compiled=True),
    "sum": Peer(_sum, compiled=True),
    "typed matmul": Peer(typed, extras=by_columns),
    "int4 matmul": Peer(four_bits, others=_int4_product, extras=four_bits_extras, exact=exact_four_bits),
    "scaled e4m3 matmul": Peer(scaled, extras=by_columns),
    "QDQ matmul": Peer(feed_forward, compiled=True),
    "QDQ convolution": Peer(byte_convolution, compiled=True, extras=dequantised),
}

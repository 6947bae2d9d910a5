"""What torch does with products in types other than f16, and with quantised work: functions for gpu_peers.py.

In: parameters of a workload, tensors by input name. Out: `typed`, `feed_forward`, ... that compute the result, exactly
where they are given float64; and what a peer may lay out once, as compilers do with weights (`Extras`). It exists
because torch has such products under their own names (_int_mm, _scaled_mm, _weight_int4pack_mm), each with its rules.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import torch
from benchmarks.quantised_workloads import BLOCK
from torch.nn import functional

Tensors = Mapping[str, torch.Tensor]
Extras = dict[str, torch.Tensor]
EIGHT_BITS = (torch.float8_e4m3fn, torch.float8_e5m2)
_TILES = 8  # of k inside one piece of packed int4 weights


def typed(parameters: tuple[Any, ...], tensors: Tensors) -> torch.Tensor:
    """cuBLAS in the type of the operands: TF32 for f32, _int_mm for bytes, _scaled_mm for 8-bit floats."""
    a, b = (tensors[name].mT if turned else tensors[name] for name, turned in zip("ab", parameters[3], strict=True))
    if a.dtype == torch.int8:
        return torch._int_mm(a, b)
    if a.dtype in EIGHT_BITS:
        one = tensors["one"]
        return torch._scaled_mm(a, tensors["b by columns"], scale_a=one, scale_b=one, out_dtype=torch.float16)
    return a @ b


def by_columns(parameters: tuple[Any, ...], tensors: Tensors) -> Extras:
    """The right operand as _scaled_mm wants it: columns one after another."""
    b = tensors["b"]
    if b.dtype not in EIGHT_BITS:
        return {}
    extras = {"b by columns": b.mT.contiguous().mT, "one": torch.ones((), device=b.device)}
    if "b scales" in tensors:
        rows = parameters[0]
        extras["row scales"] = tensors["x scale"].float().expand(rows, 1).contiguous()
        extras["column scales"] = tensors["b scales"].float()[None].contiguous()
    return extras


def scaled(parameters: tuple[Any, ...], tensors: Tensors) -> torch.Tensor:
    """Scales of rows and columns inside _scaled_mm, whose result is then bf16; it does not quantise again."""
    a, b = tensors["a"], tensors["b"]
    if a.dtype in EIGHT_BITS:
        scales = {"scale_a": tensors["row scales"], "scale_b": tensors["column scales"]}
        return torch._scaled_mm(a, tensors["b by columns"], out_dtype=torch.bfloat16, **scales)
    result = (a @ b) * tensors["b scales"] * tensors["x scale"]
    return result / tensors["y scale"] if parameters[-1] else result


def _to_bytes(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """In steps of `scale`; rounded to bytes but for float64, which is the reference."""
    steps = (x / scale).clamp(-128, 127)
    return steps if x.dtype == torch.float64 else steps.round().to(torch.int8)


def _rounded(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return (x / scale).round().clamp(-128, 127) * scale


def feed_forward(parameters: tuple[Any, ...], tensors: Tensors) -> torch.Tensor:
    """Bytes to bytes."""
    *_, activation, rounded = parameters
    a, b, scale = tensors["a"], tensors["b"], tensors["y scale"]
    product = torch._int_mm(a, b) if a.dtype == torch.int8 else a @ b
    x = product * (tensors["b scales"] * tensors["x scale"])
    x = (_rounded(x, scale) if rounded else x) + tensors["bias"]
    if activation:
        x = functional.gelu(_rounded(x, scale) if rounded else x)
    return _to_bytes(x, scale)


def dequantised(parameters: tuple[Any, ...], tensors: Tensors) -> Extras:
    """The weights of a convolution in f16."""
    weights = tensors["w"] * tensors["w scales"][:, None, None, None]
    return {"w f16": weights.half().contiguous(memory_format=torch.channels_last), "bias f16": tensors["bias"].half()}


def byte_convolution(parameters: tuple[Any, ...], tensors: Tensors) -> torch.Tensor:
    """In f16: torch has no convolution of bytes on a GPU."""
    kernel, stride = parameters[-2:]
    x, scale = tensors["x"].permute(0, 3, 1, 2), tensors["x scale"]
    if x.dtype == torch.float64:
        weights, bias, image = tensors["w"] * tensors["w scales"][:, None, None, None], tensors["bias"], x * scale
    else:
        weights, bias, image = tensors["w f16"], tensors["bias f16"], x.half() * scale.half()
    result = torch.relu(functional.conv2d(image, weights, bias, stride, kernel // 2)).permute(0, 2, 3, 1)
    return _to_bytes(result, tensors["y scale"])


def four_bits(parameters: tuple[Any, ...], tensors: Tensors) -> torch.Tensor:
    """With the weights in f16, four times their size."""
    return tensors["a"] @ tensors["weights"].T


def exact_four_bits(parameters: tuple[Any, ...], tensors: Tensors) -> torch.Tensor:
    """The reference."""
    return tensors["a"].double() @ _weights(parameters, tensors).T


def _numbers(parameters: tuple[Any, ...], tensors: Tensors) -> torch.Tensor:
    """[columns, depth], 0 to 15."""
    _, columns, depth = parameters
    packed = tensors["b"].reshape(columns, depth // 2)
    return torch.stack([packed & 15, packed >> 4], -1).reshape(columns, depth)


def _weights(parameters: tuple[Any, ...], tensors: Tensors) -> torch.Tensor:
    _, columns, depth = parameters
    numbers = _numbers(parameters, tensors).reshape(columns, depth // BLOCK, BLOCK).double() - 8
    return (numbers * tensors["scales"].double().reshape(columns, -1, 1)).reshape(columns, depth)


def four_bits_extras(parameters: tuple[Any, ...], tensors: Tensors) -> Extras:
    """The weights in f16, and where torch can as its own int4 product wants them."""
    _, columns, depth = parameters
    extras = {"weights": _weights(parameters, tensors).half()}
    numbers = _numbers(parameters, tensors)
    with contextlib.suppress(RuntimeError, NotImplementedError):  # of a GPU only
        pairs = (numbers[:, ::2] << 4 | numbers[:, 1::2]).to(torch.uint8)
        extras["packed"] = torch._convert_weight_to_int4pack(pairs.contiguous(), _TILES)
        scales = tensors["scales"].reshape(columns, depth // BLOCK).T
        extras["scales and zeros"] = torch.stack([scales, torch.zeros_like(scales)], -1).bfloat16().contiguous()
        extras["a bf16"] = tensors["a"].bfloat16()
    return extras


def int4_product(parameters: tuple[Any, ...], tensors: Tensors) -> torch.Tensor:
    """torch's int4 product, in bf16; its left operand is always that of the first set."""
    if "packed" not in tensors:
        raise RuntimeError("torch has an int4 product on a GPU only")
    return torch._weight_int4pack_mm(tensors["a bf16"], tensors["packed"], BLOCK, tensors["scales and zeros"])

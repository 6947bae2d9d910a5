"""The architectures of benchmarks/export_models.py in JAX: what XLA makes of them, timed beside our engines.

In: torch's modules, whose weights are taken by name, and their inputs. Out: for each case a function for `jax.jit` with
its arguments, and its time. Written as one would for speed: images channels-last, batch normalisation folded into the
convolutions, attention by `jax.nn.dot_product_attention`. Needs jax, and torch for the weights.

    PYTHONPATH=.pkg:. python benchmarks/gpu_xla.py    # do the small architectures give torch's answers? Runs anywhere
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # torch and our engines share the card
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import jax
import jax.numpy as jnp
from jax import lax

from tilewright.runtime.measuring import Measurement

Array = Any  # jax.Array, or a tracer of one
Weights = Mapping[str, Array]
Model = Callable[..., tuple[Array, ...]]
RUNS = 16  # started before anything is waited for, so that the host is ahead of the device


def within(weights: Weights, prefix: str) -> Weights:
    """The weights whose names begin with `prefix`, without it."""
    return {name[len(prefix) :]: value for name, value in weights.items() if name.startswith(prefix)}


def blocks(weights: Weights, prefix: str) -> Iterator[Weights]:
    """The weights of `prefix0.`, `prefix1.`, ... as long as there are any."""
    number = 0
    while found := within(weights, f"{prefix}{number}."):
        yield found
        number += 1


def linear(weights: Weights, name: str, x: Array) -> Array:
    """x @ weight^T + bias, with torch's [out, in] weights."""
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def layer_norm(weights: Weights, name: str, x: Array, epsilon: float) -> Array:
    """Over the last axis; statistics in float32."""
    wide = x.astype(jnp.float32)
    mean = wide.mean(-1, keepdims=True)
    variance = ((wide - mean) ** 2).mean(-1, keepdims=True)
    return ((wide - mean) * lax.rsqrt(variance + epsilon)).astype(x.dtype) * weights[f"{name}.weight"] + weights[
        f"{name}.bias"
    ]


def heads_of(x: Array, heads: int) -> Array:
    """[batch, sequence, width] -> [batch, sequence, heads, size]."""
    return x.reshape(*x.shape[:2], heads, -1)


def attend(query: Array, key: Array, value: Array, mask: Array | None, kernel: str | None) -> Array:
    """Attention of [batch, sequence, heads, size], put together to [batch, sequence, width]."""
    result = jax.nn.dot_product_attention(query, key, value, mask=mask, implementation=kernel)
    return result.reshape(*result.shape[:2], -1)


def bert(
    weights: Weights, ids: Array, mask: Array, types: Array, *, heads: int, kernel: str | None = None
) -> tuple[Array]:
    """transformers' BertModel: the last hidden state."""
    table = within(weights, "embeddings.")
    x = table["word_embeddings.weight"][ids] + table["token_type_embeddings.weight"][types]
    x = layer_norm(table, "LayerNorm", x + table["position_embeddings.weight"][: ids.shape[1]], 1e-12)
    for layer in blocks(weights, "encoder.layer."):
        parts = (heads_of(linear(layer, f"attention.self.{name}", x), heads) for name in ("query", "key", "value"))
        seen = attend(*parts, mask[:, None, None, :].astype(bool), kernel)
        x = layer_norm(layer, "attention.output.LayerNorm", x + linear(layer, "attention.output.dense", seen), 1e-12)
        inner = jax.nn.gelu(linear(layer, "intermediate.dense", x), approximate=False)
        x = layer_norm(layer, "output.LayerNorm", x + linear(layer, "output.dense", inner), 1e-12)
    return (x,)


# Names of ViT's weights in other versions of transformers -> those used here.
VIT_NAMES = {
    r"^encoder\.layer\.": "layers.",
    r"attention\.attention\.(query|key|value)": lambda found: f"attention.{found[1][0]}_proj",
    r"attention\.output\.dense": "attention.o_proj",
    r"intermediate\.dense": "mlp.fc1",
    r"(?<=\d\.)output\.dense": "mlp.fc2",
}


def vit(weights: Weights, image: Array, *, heads: int, kernel: str | None = None) -> tuple[Array]:
    """transformers' ViTModel without its pooling layer; image [batch, height, width, 3]."""
    patches = convolve(image, weights["embeddings.patch_embeddings.projection.weight"], stride=16)
    patches = (patches + weights["embeddings.patch_embeddings.projection.bias"]).reshape(
        len(image), -1, patches.shape[-1]
    )
    first = jnp.broadcast_to(weights["embeddings.cls_token"], (len(image), 1, patches.shape[-1]))
    x = jnp.concatenate([first, patches], 1) + weights["embeddings.position_embeddings"]
    for layer in blocks(weights, "layers."):
        y = layer_norm(layer, "layernorm_before", x, 1e-12)
        parts = (heads_of(linear(layer, f"attention.{name}_proj", y), heads) for name in "qkv")
        x = x + linear(layer, "attention.o_proj", attend(*parts, None, kernel))
        y = jax.nn.gelu(linear(layer, "mlp.fc1", layer_norm(layer, "layernorm_after", x, 1e-12)), approximate=False)
        x = x + linear(layer, "mlp.fc2", y)
    return (layer_norm(weights, "layernorm", x, 1e-12),)


def gpt2(
    weights: Weights, ids: Array, mask: Array, *past: Array, heads: int, kernel: str | None = None
) -> tuple[Array, ...]:
    """transformers' GPT2LMHeadModel with a cache: logits, then keys and values of each layer; past [batch, heads,
    words, size].
    """
    weights = within(weights, "transformer.")
    before, count = past[0].shape[2], ids.shape[1]
    x = weights["wte.weight"][ids] + weights["wpe.weight"][before : before + count]
    causal = jnp.arange(before + count)[None, :] <= before + jnp.arange(count)[:, None]
    seen = causal[None, None] & mask[:, None, None, :].astype(bool)
    present: list[Array] = []
    for number, layer in enumerate(blocks(weights, "h.")):
        y = layer_norm(layer, "ln_1", x, 1e-5) @ layer["attn.c_attn.weight"] + layer["attn.c_attn.bias"]
        query, key, value = (heads_of(part, heads) for part in jnp.split(y, 3, -1))
        new = (part.transpose(0, 2, 1, 3) for part in (key, value))
        pair = [
            jnp.concatenate([old, part], 2) for old, part in zip(past[2 * number : 2 * number + 2], new, strict=True)
        ]
        present += pair
        y = attend(query, *(part.transpose(0, 2, 1, 3) for part in pair), seen, kernel)
        x = x + y @ layer["attn.c_proj.weight"] + layer["attn.c_proj.bias"]
        y = layer_norm(layer, "ln_2", x, 1e-5) @ layer["mlp.c_fc.weight"] + layer["mlp.c_fc.bias"]
        x = x + jax.nn.gelu(y, approximate=True) @ layer["mlp.c_proj.weight"] + layer["mlp.c_proj.bias"]
    return (layer_norm(weights, "ln_f", x, 1e-5) @ weights["wte.weight"].T, *present)


def convolve(x: Array, weight: Array, stride: int = 1, padding: int = 0) -> Array:
    """x [batch, height, width, channels], weight [height, width, channels, out]."""
    return lax.conv_general_dilated(
        x, weight, (stride, stride), [(padding, padding)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def max_pool(x: Array, size: int, stride: int, padding: int = 0) -> Array:
    """Of [batch, height, width, channels]."""
    around = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, size, size, 1), (1, stride, stride, 1), around)


def folded(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Batch normalisations that follow a convolution (numbers N and N + 1) become its scale and its bias."""
    found = dict(weights)
    for name in weights:
        if not name.endswith(".running_mean"):
            continue
        normal = name.removesuffix(".running_mean")
        prefix, _, number = normal.rpartition(".")
        before = ".".join(filter(None, [prefix, str(int(number) - 1)]))
        mean, variance, scale, shift = (
            found.pop(f"{normal}.{part}").astype(np.float64)
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        factor = scale / np.sqrt(variance + 1e-5)
        kind = found[f"{before}.weight"].dtype
        found[f"{before}.weight"] = (found[f"{before}.weight"] * factor[:, None, None, None]).astype(kind)
        found[f"{before}.bias"] = (shift - mean * factor).astype(kind)
    return found


def resnet(weights: Weights, image: Array) -> tuple[Array]:
    """architectures.resnet, folded; image [batch, height, width, 3]."""

    def layer(given: Weights, name: str, x: Array, stride: int = 1, padding: int = 0) -> Array:
        return convolve(x, given[f"{name}.weight"], stride, padding) + given[f"{name}.bias"]

    x = max_pool(jax.nn.relu(layer(weights, "0", image, 2, 3)), 3, 2, 1)
    number = 4
    while "body.0.weight" in (block := within(weights, f"{number}.")):
        # Stride 2 where the width doubles; the first stage of the network begins with stride 1.
        stride = 2 if number > 4 and "shortcut.0.weight" in block else 1
        y = jax.nn.relu(layer(block, "body.0", x))
        y = jax.nn.relu(layer(block, "body.3", y, stride, 1))
        y = layer(block, "body.6", y)
        x = jax.nn.relu(y + (layer(block, "shortcut.0", x, stride) if "shortcut.0.weight" in block else x))
        number += 1
    return (linear(weights, str(number + 2), x.mean((1, 2))),)


def group_norm(weights: Weights, name: str, x: Array, groups: int = 4) -> Array:
    """Of [batch, height, width, channels]; statistics in float32."""
    wide = x.astype(jnp.float32).reshape(*x.shape[:3], groups, -1)
    mean = wide.mean((1, 2, 4), keepdims=True)
    variance = ((wide - mean) ** 2).mean((1, 2, 4), keepdims=True)
    normal = ((wide - mean) * lax.rsqrt(variance + 1e-5)).reshape(x.shape).astype(x.dtype)
    return normal * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def unet(weights: Weights, image: Array) -> tuple[Array]:
    """architectures.UNet; image [batch, height, width, 3]."""

    def twice(block: Weights, x: Array) -> Array:
        for first in (0, 3):
            y = convolve(x, block[f"{first}.weight"], 1, 1) + block[f"{first}.bias"]
            x = jax.nn.silu(group_norm(block, str(first + 1), y))
        return x

    skips = [twice(within(weights, "first."), image)]
    for block in blocks(weights, "down."):
        skips.append(twice(block, max_pool(skips[-1], 2, 2)))
    y = skips.pop()
    for grow, block in zip(blocks(weights, "up."), blocks(weights, "join."), strict=True):
        skip = skips.pop()
        # Windows of 2x2 with stride 2 do not overlap: a product, and the windows put side by side.
        up = jnp.einsum("bhwc,ijco->bhiwjo", y, grow["weight"]).reshape(*skip.shape[:3], -1) + grow["bias"]
        y = twice(block, jnp.concatenate([skip, up], -1))
    return (convolve(y, weights["last.weight"]) + weights["last.bias"],)


MODELS: dict[str, tuple[Model, bool]] = {  # function, and whether it has attention
    "resnet-50": (resnet, False),
    "bert-base": (partial(bert, heads=12), True),
    "vit-b16": (partial(vit, heads=12), True),
    "gpt2-cached": (partial(gpt2, heads=12), True),
    "unet": (unet, False),
}
SMALL: dict[str, Model] = {
    "resnet-small": resnet,
    "bert-small": partial(bert, heads=2),
    "vit-small": partial(vit, heads=2),
    "gpt2-cached-small": partial(gpt2, heads=2),
    "unet-small": unet,
}


def channels_last(array: np.ndarray) -> np.ndarray:
    """Images and convolutions' weights as XLA's kernels for tensor cores read them."""
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1))


def weights_of(module: Any) -> dict[str, np.ndarray]:
    """A torch module's weights by name, as the functions above want them."""
    found = {name.removeprefix("model."): value.cpu().numpy() for name, value in module.state_dict().items()}
    for pattern, new in VIT_NAMES.items() if "embeddings.cls_token" in found else ():
        found = {re.sub(pattern, new, name): value for name, value in found.items()}
    found = folded({name: value for name, value in found.items() if not name.endswith("num_batches_tracked")})
    return {
        # Convolutions [out, in, h, w] and, of U-Net's way up, [in, out, h, w]; both to [h, w, in, out].
        name: (value.transpose(2, 3, *((0, 1) if name.startswith("up.") else (1, 0))) if value.ndim == 4 else value)
        for name, value in found.items()
    }


def arguments(module: Any, inputs: Sequence[np.ndarray]) -> list[Any]:
    """What a function above is called with, on JAX's device. A model with one input takes images."""
    given = [jnp.asarray(channels_last(array) if len(inputs) == 1 else array) for array in inputs]
    return [jax.tree.map(jnp.asarray, weights_of(module)), *given]


def measure(function: Model, given: Sequence[Any], budget: float) -> Measurement:
    """A run's time: `RUNS` are started, then waited for, for `budget` seconds. XLA captures CUDA graphs by itself."""
    compiled = jax.jit(function).lower(*given).compile()
    jax.block_until_ready([compiled(*given) for _ in range(RUNS)])
    samples: list[float] = []
    end = time.perf_counter() + budget
    while time.perf_counter() < end or len(samples) < 5:
        start = time.perf_counter()
        jax.block_until_ready([compiled(*given) for _ in range(RUNS)])
        samples.append((time.perf_counter() - start) / RUNS)
    return Measurement(tuple(samples), RUNS, captured=False)


def competitors(name: str) -> dict[str, Model]:
    """Ways that JAX has for a model, by the name of the peer."""
    function, attends = MODELS[name]
    found = {"xla": function}
    if attends:
        found["xla, cudnn attention"] = partial(function, kernel="cudnn")
    return found


def main() -> None:
    """Compare the small architectures with torch, in float32."""
    import torch
    from benchmarks.export_models import SMALL as EXPORTS

    wrong = 0
    for name, function in SMALL.items():
        torch.manual_seed(0)
        export = EXPORTS[name]()
        module = export.make().eval()
        for layer in module.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):  # torch's initial statistics would hide a mistake
                layer.running_mean.normal_()
                layer.running_var.uniform_(0.5, 2.0)
        with torch.inference_mode():
            expected = module(*export.inputs.values())
        expected = expected if isinstance(expected, tuple) else (expected,)
        given = arguments(module, [tensor.numpy() for tensor in export.inputs.values()])
        results = jax.jit(function)(*given)
        difference = 0.0
        for result, tensor in zip(results, expected, strict=True):
            reference = tensor.numpy()
            ours = np.asarray(result)
            ours = ours.transpose(0, 3, 1, 2) if name == "unet-small" else ours
            difference = max(difference, float(abs(ours - reference).max() / abs(reference).max()))
        right = difference < 1e-4  # float32 sums in other orders, two layers
        wrong += not right
        print(f"{name:20} {'right' if right else 'WRONG'} {difference:.1e}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

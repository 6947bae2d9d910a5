"""Export standard architectures to ONNX with torch: small ones for the tests, full ones for the benchmarks.

In: nothing but torch and transformers. Out: `--small DIR` writes two-layer models without their weights
(tests/support/seeded_weights.py fills them in), `--full DIR` writes full-size models with random weights.

    pip install torch==2.13.0 transformers onnxscript    # not needed by anything else here
    python -m benchmarks.export_models --small tests/models/graphs
    python -m benchmarks.export_models --small DIR --exporters dynamo-18 dynamo-23    # for benchmarks.models
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import torch
from tests.support.seeded_weights import hollow
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    DynamicCache,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    ViTConfig,
    ViTModel,
)

from .architectures import MOBILENET, GreedyDecoder, TextRecogniser, UNet, Upscaler, mobilenet, resnet

EXPORTERS = {"dynamo": 20, "legacy": 17}  # opsets of the committed files; "dynamo-23" is the same exporter at opset 23


@dataclass(frozen=True)
class Export:
    """One model to export: how to make it, sample inputs by name, and the names of their dynamic axes."""

    make: Callable[[], nn.Module]
    inputs: dict[str, torch.Tensor]
    dynamic: dict[str, dict[int, str]]
    outputs: list[str]
    scripted: bool = False  # only the legacy exporter knows scripts


class Attributes(nn.Module):
    """A transformers model that takes its inputs by position and returns one tensor."""

    def __init__(self, model: nn.Module, names: list[str], attribute: str) -> None:
        super().__init__()
        self.model, self.names, self.attribute = model, names, attribute

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        outputs: Any = self.model(**dict(zip(self.names, inputs, strict=True)))
        result: torch.Tensor = getattr(outputs, self.attribute)
        return result


def bert(layers: int, width: int, heads: int, words: int) -> Export:
    """BERT-base is 12 layers of width 768 with 12 heads and 30522 words."""
    sizes = BertConfig(
        vocab_size=words, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=4 * width,
    )  # fmt: skip
    names = ["input_ids", "attention_mask", "token_type_ids"]
    ids = torch.ones(2, 16, dtype=torch.int64)
    axes = {0: "batch", 1: "sequence"}
    return Export(
        lambda: Attributes(BertModel(sizes), names, "last_hidden_state"),
        {"input_ids": ids, "attention_mask": ids, "token_type_ids": ids * 0},
        dict.fromkeys(names, axes),
        ["last_hidden_state"],
    )


class WithCache(nn.Module):
    """A decoder that takes and returns the keys and values of earlier words, a pair of tensors for each layer."""

    def __init__(self, model: nn.Module, layers: int) -> None:
        super().__init__()
        self.model, self.layers = model, layers

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, *past: torch.Tensor) -> tuple[torch.Tensor, ...]:
        cache = DynamicCache()
        for layer in range(self.layers):
            cache.update(past[2 * layer], past[2 * layer + 1], layer)
        outputs = self.model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True)
        kept = outputs.past_key_values.layers
        return (outputs.logits, *(tensor for layer in kept for tensor in (layer.keys, layer.values)))


def _words(make: Callable[[], nn.Module]) -> Export:
    """Prefill: all words at once, no cache."""
    ids = torch.ones(2, 16, dtype=torch.int64)
    names = ["input_ids", "attention_mask"]
    axes = {0: "batch", 1: "sequence"}
    return Export(
        lambda: Attributes(make(), names, "logits"), dict.fromkeys(names, ids), dict.fromkeys(names, axes), ["logits"]
    )


def _next_word(make: Callable[[], nn.Module], layers: int, heads: int, size: int) -> Export:
    """Decoding: some words after those in the cache."""
    past = {f"past_{layer}_{kind}": torch.randn(2, heads, 6, size) for layer in range(layers) for kind in ("k", "v")}
    inputs = {
        "input_ids": torch.ones(2, 3, dtype=torch.int64),
        "attention_mask": torch.ones(2, 9, dtype=torch.int64),
        **past,
    }
    axes = {
        "input_ids": {0: "batch", 1: "sequence"},
        "attention_mask": {0: "batch", 1: "total"},
        **{name: {0: "batch", 2: "past"} for name in past},
    }
    outputs = ["logits", *(name.replace("past", "present") for name in past)]
    return Export(lambda: WithCache(make(), layers), inputs, axes, outputs)


def gpt2(layers: int, width: int, heads: int, words: int, cached: bool = False) -> Export:
    """The small GPT-2 has 12 layers of width 768, 12 heads, 50257 words."""
    sizes = GPT2Config(vocab_size=words, n_embd=width, n_layer=layers, n_head=heads, n_positions=1024, use_cache=cached)
    make = partial(GPT2LMHeadModel, sizes)
    return _next_word(make, layers, heads, width // heads) if cached else _words(make)


def llama(layers: int, width: int, heads: int, groups: int, words: int, cached: bool = False) -> Export:
    """Rotary positions, grouped queries, RMS normalisation, SwiGLU: Llama-3.2-1B is 16, 2048, 32, 8, 128256."""
    sizes = LlamaConfig(
        vocab_size=words, hidden_size=width, intermediate_size=3 * width, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=groups, use_cache=cached,
    )  # fmt: skip
    make = partial(LlamaForCausalLM, sizes)
    return _next_word(make, layers, groups, width // heads) if cached else _words(make)


def image(make: Callable[[], nn.Module], size: int, spatial: bool) -> Export:
    """A model from images [batch, 3, height, width]; `spatial`: height and width are dynamic too."""
    axes = {0: "batch"} | ({2: "height", 3: "width"} if spatial else {})
    return Export(make, {"x": torch.randn(2, 3, size, size)}, {"x": axes}, ["y"])


def vit(layers: int, width: int, heads: int, size: int) -> Export:
    """ViT-B/16 is 12, 768, 12, 224."""
    sizes = ViTConfig(
        hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=4 * width,
        image_size=size,
    )  # fmt: skip
    names = ["pixel_values"]
    make = lambda: Attributes(ViTModel(sizes, add_pooling_layer=False), names, "last_hidden_state")  # noqa: E731
    return image(make, size, spatial=False)


def recogniser(width: int, hidden: int, classes: int) -> Export:
    """Lines of text, 32 high and of any length."""
    make = partial(TextRecogniser, width, hidden, classes)
    return Export(make, {"x": torch.randn(1, 1, 32, 48)}, {"x": {3: "width"}}, ["y"])


def decoder(words: int, width: int) -> Export:
    """Scripted: the number of words and the end word decide how often its loop runs."""
    make = lambda: torch.jit.script(GreedyDecoder(words, width))  # noqa: E731
    inputs = {"state": torch.randn(1, width), "limit": torch.tensor(5)}
    return Export(make, inputs, {"state": {}, "limit": {}}, ["total", "count"], scripted=True)


MOBILENET_SMALL = ((1, 16, 1, 1), (4, 24, 2, 2), (4, 32, 1, 2))
SMALL = {
    "bert-small": lambda: bert(2, 64, 2, 400),
    "gpt2-small": lambda: gpt2(2, 64, 2, 400),
    "gpt2-cached-small": lambda: gpt2(2, 64, 2, 400, cached=True),
    "llama-small": lambda: llama(2, 64, 4, 2, 400),
    "llama-cached-small": lambda: llama(2, 64, 4, 2, 400, cached=True),
    "vit-small": lambda: vit(2, 64, 2, 48),
    "unet-small": lambda: image(lambda: UNet((8, 16, 32)), 32, spatial=True),
    "resnet-small": lambda: image(lambda: resnet((1, 1), 16, 10), 32, spatial=True),
    "mobilenet-small": lambda: image(lambda: mobilenet(MOBILENET_SMALL, 16, 64, 10), 32, spatial=True),
    "upscaler-small": lambda: image(lambda: Upscaler(1, 16, 8), 16, spatial=True),
    "recogniser-small": lambda: recogniser(16, 32, 40),
    "decoder-small": lambda: decoder(50, 32),
}
FULL = {
    "resnet-50": lambda: image(lambda: resnet((3, 4, 6, 3), 64, 1000), 224, spatial=False),
    "mobilenet-v2": lambda: image(lambda: mobilenet(MOBILENET, 32, 1280, 1000), 224, spatial=False),
    "bert-base": lambda: bert(12, 768, 12, 30522),
    "gpt2": lambda: gpt2(12, 768, 12, 50257),
    "gpt2-cached": lambda: gpt2(12, 768, 12, 50257, cached=True),
    "unet": lambda: image(lambda: UNet((64, 128, 256, 512, 1024)), 256, spatial=True),
    "vit-b16": lambda: vit(12, 768, 12, 224),
}


def export(what: Export, path: Path, exporter: str, opset: int) -> onnx.ModelProto:
    """Write one model to `path` with the new (dynamo) or the legacy exporter and read it back."""
    torch.manual_seed(0)
    model = what.make()
    model = model.eval()
    options: dict[str, Any] = {"input_names": list(what.inputs), "output_names": what.outputs, "opset_version": opset}
    if exporter == "dynamo":
        named = [dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for axes in what.dynamic.values()]
        shapes: Any = tuple(named)
        if isinstance(model, Attributes):
            shapes = (shapes,)  # its forward takes *inputs: one tuple
        elif isinstance(model, WithCache):
            shapes = (*shapes[:2], shapes[2:])
        options |= {"dynamo": True, "external_data": False, "dynamic_shapes": shapes}
    else:
        options |= {"dynamo": False, "dynamic_axes": what.dynamic}
    torch.onnx.export(model, tuple(what.inputs.values()), str(path), **options)
    return onnx.load(path)


def main() -> None:
    """Export every model of one table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--small", type=Path, metavar="DIR", help="two-layer models without weights")
    group.add_argument("--full", type=Path, metavar="DIR", help="full-size models with weights")
    parser.add_argument("--exporters", nargs="+", metavar="NAME", help="dynamo, legacy, dynamo-23, ...")
    parser.add_argument("names", nargs="*", help="only these")
    chosen = parser.parse_args()
    folder = chosen.small or chosen.full
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in (SMALL if chosen.small else FULL).items():
        if chosen.names and name not in chosen.names:
            continue
        for choice in chosen.exporters or (EXPORTERS if chosen.small else ["dynamo"]):
            exporter, _, opset = choice.partition("-")
            what = make()
            if what.scripted and exporter == "dynamo":
                continue
            path = folder / (f"{name}-{choice}.onnx" if chosen.small else f"{name}.onnx")
            model = export(what, path, exporter, int(opset or EXPORTERS[exporter]))
            if chosen.small:
                for node in model.graph.node:
                    del node.metadata_props[:]  # the exporter's stack traces
                del model.graph.value_info[:]
                onnx.save(hollow(model), path)
            print(f"{path}  {path.stat().st_size:,} bytes, {len(model.graph.node)} nodes", flush=True)


if __name__ == "__main__":
    main()

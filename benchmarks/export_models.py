"""Export standard architectures to ONNX with torch: small ones for the tests, full ones for the benchmarks.

In: nothing but torch and transformers. Out: `--small DIR` writes two-layer models without their weights
(tests/support/seeded_weights.py fills them in), `--full DIR` writes full-size models with random weights.

    pip install torch==2.13.0 transformers onnxscript    # not needed by anything else here
    python -m benchmarks.export_models --small tests/models/graphs
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import onnx
import torch
from tests.support.seeded_weights import hollow
from torch import nn
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel, ViTConfig, ViTModel

DYNAMO_OPSET = 20
LEGACY_OPSET = 17


@dataclass(frozen=True)
class Export:
    """One model to export: how to make it, sample inputs by name, and the names of their dynamic axes."""

    make: Callable[[], nn.Module]
    inputs: dict[str, torch.Tensor]
    dynamic: dict[str, dict[int, str]]
    outputs: list[str]


class Attributes(nn.Module):
    """A transformers model that takes its inputs by position and returns one tensor."""

    def __init__(self, model: nn.Module, names: list[str], attribute: str) -> None:
        super().__init__()
        self.model, self.names, self.attribute = model, names, attribute

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        outputs: Any = self.model(**dict(zip(self.names, inputs, strict=True)))
        result: torch.Tensor = getattr(outputs, self.attribute)
        return result


class Bottleneck(nn.Module):
    """ResNet's block: 1x1, 3x3 and 1x1 convolutions with a shortcut (He et al. 2015, stride in the 3x3)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        out = 4 * width
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out),
        )  # fmt: skip
        plain = channels == out and stride == 1
        projection = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        self.shortcut: nn.Module = nn.Identity() if plain else projection

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def resnet(depths: tuple[int, ...], width: int, classes: int) -> nn.Module:
    """ResNet-50 is depths (3, 4, 6, 3), width 64, 1000 classes."""
    layers: list[nn.Module] = [nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    layers.append(nn.MaxPool2d(3, 2, 1))
    channels = width
    for stage, depth in enumerate(depths):
        for block in range(depth):
            layers.append(Bottleneck(channels, width << stage, 2 if stage and not block else 1))
            channels = 4 * (width << stage)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


class TwoConvolutions(nn.Sequential):
    """U-Net's block: twice convolution, group normalisation, SiLU."""

    def __init__(self, channels: int, out: int) -> None:
        halves = [(channels, out), (out, out)]
        layers = [(nn.Conv2d(i, o, 3, padding=1), nn.GroupNorm(4, o), nn.SiLU()) for i, o in halves]
        super().__init__(*(layer for half in layers for layer in half))


class UNet(nn.Module):
    """Encoder and decoder with skip connections (Ronneberger et al. 2015); transposed convolutions go up."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        pairs = list(pairwise(widths))
        self.first = TwoConvolutions(3, widths[0])
        self.down = nn.ModuleList(TwoConvolutions(narrow, wide) for narrow, wide in pairs)
        self.up = nn.ModuleList(nn.ConvTranspose2d(wide, narrow, 2, 2) for narrow, wide in reversed(pairs))
        self.join = nn.ModuleList(TwoConvolutions(2 * narrow, narrow) for narrow, _ in reversed(pairs))
        self.last = nn.Conv2d(widths[0], 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = [self.first(x)]
        for block in self.down:
            skips.append(block(nn.functional.max_pool2d(skips[-1], 2)))
        y = skips.pop()
        for grow, block in zip(self.up, self.join, strict=True):
            y = block(torch.cat([skips.pop(), grow(y)], 1))
        result: torch.Tensor = self.last(y)
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


def gpt2(layers: int, width: int, heads: int, words: int) -> Export:
    """GPT-2 prefill, without a cache; the small GPT-2 has 12 layers of width 768, 12 heads, 50257 words."""
    sizes = GPT2Config(
        vocab_size=words, n_embd=width, n_layer=layers, n_head=heads, n_positions=1024, use_cache=False
    )
    ids = torch.ones(2, 16, dtype=torch.int64)
    names = ["input_ids", "attention_mask"]
    axes = {0: "batch", 1: "sequence"}
    return Export(
        lambda: Attributes(GPT2LMHeadModel(sizes), names, "logits"),
        dict.fromkeys(names, ids),
        dict.fromkeys(names, axes),
        ["logits"],
    )


def image(make: Callable[[], nn.Module], size: int, spatial: bool) -> Export:
    """A model from images [batch, 3, height, width]; `spatial`: height and width are dynamic too."""
    axes = {0: "batch"} | ({2: "height", 3: "width"} if spatial else {})
    return Export(make, {"x": torch.randn(2, 3, size, size)}, {"x": axes}, ["y"])


def vit() -> nn.Module:
    """ViT-B/16."""
    return Attributes(ViTModel(ViTConfig(), add_pooling_layer=False), ["pixel_values"], "last_hidden_state")


SMALL = {
    "bert-small": lambda: bert(2, 64, 2, 400),
    "gpt2-small": lambda: gpt2(2, 64, 2, 400),
    "unet-small": lambda: image(lambda: UNet((8, 16, 32)), 32, spatial=True),
    "resnet-small": lambda: image(lambda: resnet((1, 1), 16, 10), 32, spatial=True),
}
FULL = {
    "resnet-50": lambda: image(lambda: resnet((3, 4, 6, 3), 64, 1000), 224, spatial=False),
    "bert-base": lambda: bert(12, 768, 12, 30522),
    "gpt2": lambda: gpt2(12, 768, 12, 50257),
    "unet": lambda: image(lambda: UNet((64, 128, 256, 512, 1024)), 256, spatial=True),
    "vit-b16": lambda: image(vit, 224, spatial=False),
}


def export(what: Export, path: Path, dynamo: bool) -> onnx.ModelProto:
    """Write one model to `path` with the new (dynamo) or the legacy exporter and read it back."""
    torch.manual_seed(0)
    model = what.make().eval()
    options: dict[str, Any] = {"input_names": list(what.inputs), "output_names": what.outputs}
    if dynamo:
        shapes: Any = tuple(dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for axes in what.dynamic.values())
        if isinstance(model, Attributes):
            shapes = (shapes,)  # its forward takes *inputs: one tuple
        options |= {"dynamo": True, "opset_version": DYNAMO_OPSET, "external_data": False}
        options |= {"dynamic_shapes": shapes}
    else:
        options |= {"dynamo": False, "opset_version": LEGACY_OPSET, "dynamic_axes": what.dynamic}
    torch.onnx.export(model, tuple(what.inputs.values()), str(path), **options)
    return onnx.load(path)


def main() -> None:
    """Export every model of one table with both exporters (small) or the new one (full)."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--small", type=Path, metavar="DIR", help="two-layer models without weights")
    group.add_argument("--full", type=Path, metavar="DIR", help="full-size models with weights")
    parser.add_argument("names", nargs="*", help="only these")
    chosen = parser.parse_args()
    folder = chosen.small or chosen.full
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in (SMALL if chosen.small else FULL).items():
        if chosen.names and name not in chosen.names:
            continue
        for exporter in ("dynamo", "legacy") if chosen.small else ("dynamo",):
            path = folder / (f"{name}-{exporter}.onnx" if chosen.small else f"{name}.onnx")
            model = export(make(), path, exporter == "dynamo")
            if chosen.small:
                for node in model.graph.node:
                    del node.metadata_props[:]  # the exporter's stack traces
                del model.graph.value_info[:]
                onnx.save(hollow(model), path)
            print(f"{path}  {path.stat().st_size:,} bytes, {len(model.graph.node)} nodes")


if __name__ == "__main__":
    main()

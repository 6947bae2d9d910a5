"""Networks of images in plain torch: ResNet, MobileNetV2 and V3, U-Net, RRDB super-resolution, a diffusion U-Net.

In: sizes. Out: `nn.Module`s with torch's initial weights. No package that we use brings them.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn


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


class InvertedResidual(nn.Module):
    """MobileNetV2's block: widen, depthwise 3x3, narrow without activation (Sandler et al. 2018)."""

    def __init__(self, channels: int, out: int, stride: int, widening: int) -> None:
        super().__init__()
        inner = channels * widening
        widen = [nn.Conv2d(channels, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU6()] if widening > 1 else []
        self.body = nn.Sequential(
            *widen,
            nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False), nn.BatchNorm2d(inner), nn.ReLU6(),
            nn.Conv2d(inner, out, 1, bias=False), nn.BatchNorm2d(out),
        )  # fmt: skip
        self.plain = channels == out and stride == 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.body(x)
        return x + y if self.plain else y


MOBILENET = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def mobilenet(blocks: tuple[tuple[int, int, int, int], ...], first: int, last: int, classes: int) -> nn.Module:
    """MobileNetV2 is blocks `MOBILENET` (widening, channels, repetitions, stride), 32, 1280, 1000."""
    layers: list[nn.Module] = [nn.Conv2d(3, first, 3, 2, 1, bias=False), nn.BatchNorm2d(first), nn.ReLU6()]
    channels = first
    for widening, out, repetitions, stride in blocks:
        for number in range(repetitions):
            layers.append(InvertedResidual(channels, out, stride if not number else 1, widening))
            channels = out
    layers += [nn.Conv2d(channels, last, 1, bias=False), nn.BatchNorm2d(last), nn.ReLU6()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, classes))


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


class DenseBlock(nn.Module):
    """Convolutions that each see all results before them, scaled into a residual (Wang et al. 2018)."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        sizes = [(width + i * growth, growth) for i in range(4)] + [(width + 4 * growth, width)]
        self.layers = nn.ModuleList(nn.Conv2d(channels, out, 3, padding=1) for channels, out in sizes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = [x]
        for layer in self.layers:
            seen.append(nn.functional.leaky_relu(layer(torch.cat(seen, 1)), 0.2))
        return x + 0.2 * seen[-1]


class Upscaler(nn.Module):
    """RRDB super-resolution (ESRGAN): dense blocks, then twice nearest-neighbour resizing and a convolution."""

    def __init__(self, blocks: int, width: int, growth: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.body = nn.Sequential(*(DenseBlock(width, growth) for _ in range(3 * blocks)))
        self.up = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.last = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        y = y + self.body(y)
        for layer in self.up:
            y = nn.functional.leaky_relu(layer(nn.functional.interpolate(y, scale_factor=2.0, mode="nearest")), 0.2)
        result: torch.Tensor = self.last(y)
        return result


class Squeeze(nn.Module):
    """Squeeze and excitation: channels weighed by what the whole image says (Hu et al. 2017)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.narrow, self.widen = nn.Conv2d(channels, channels // 4, 1), nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        whole = nn.functional.adaptive_avg_pool2d(x, 1)
        return x * nn.functional.hardsigmoid(self.widen(torch.relu(self.narrow(whole))))


class MobileBlock(nn.Module):
    """MobileNetV3's block: the inverted residual with squeeze and excitation and hard swish (Howard et al. 2019)."""

    def __init__(self, channels: int, inner: int, out: int, kernel: int, stride: int, rich: bool) -> None:
        super().__init__()
        activation = nn.Hardswish if rich else nn.ReLU
        self.body = nn.Sequential(
            nn.Conv2d(channels, inner, 1, bias=False), nn.BatchNorm2d(inner), activation(),
            nn.Conv2d(inner, inner, kernel, stride, kernel // 2, groups=inner, bias=False), nn.BatchNorm2d(inner),
            activation(), Squeeze(inner) if rich else nn.Identity(),
            nn.Conv2d(inner, out, 1, bias=False), nn.BatchNorm2d(out),
        )  # fmt: skip
        self.plain = channels == out and stride == 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.body(x)
        return x + y if self.plain else y


def mobilenet_v3(blocks: tuple[tuple[int, int, int, int, bool], ...], first: int, classes: int) -> nn.Module:
    """`blocks`: inner channels, channels, kernel, stride, and whether with squeeze and hard swish."""
    layers: list[nn.Module] = [nn.Conv2d(3, first, 3, 2, 1, bias=False), nn.BatchNorm2d(first), nn.Hardswish()]
    channels = first
    for inner, out, kernel, stride, rich in blocks:
        layers.append(MobileBlock(channels, inner, out, kernel, stride, rich))
        channels = out
    last = [nn.Linear(channels, 2 * channels), nn.Hardswish(), nn.Linear(2 * channels, classes)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), *last)


class TimedResidual(nn.Module):
    """Two convolutions with group normalisation, the time added between them."""

    def __init__(self, channels: int, out: int, time: int) -> None:
        super().__init__()
        self.before = nn.Sequential(nn.GroupNorm(4, channels), nn.SiLU(), nn.Conv2d(channels, out, 3, padding=1))
        self.time = nn.Linear(time, out)
        self.after = nn.Sequential(nn.GroupNorm(4, out), nn.SiLU(), nn.Conv2d(out, out, 3, padding=1))
        self.shortcut: nn.Module = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        y = self.before(x) + self.time(nn.functional.silu(time))[:, :, None, None]
        result: torch.Tensor = self.shortcut(x) + self.after(y)
        return result


class ImageAttention(nn.Module):
    """The pixels attend to each other, then to the words (Rombach et al. 2021)."""

    def __init__(self, channels: int, words: int, heads: int) -> None:
        super().__init__()
        self.norm, self.heads = nn.GroupNorm(4, channels), heads
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(3))
        self.query = nn.ModuleList(nn.Linear(channels, channels, bias=False) for _ in range(2))
        self.pairs = nn.ModuleList(nn.Linear(size, 2 * channels, bias=False) for size in (channels, words))
        self.out = nn.ModuleList(nn.Linear(channels, channels) for _ in range(2))
        self.gate, self.last = nn.Linear(channels, 8 * channels), nn.Linear(4 * channels, channels)

    def attend(self, number: int, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        query = self.query[number](x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        pairs = self.pairs[number](other).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(query, pairs[0], pairs[1])
        result: torch.Tensor = self.out[number](mixed.transpose(1, 2).flatten(2))
        return result

    def forward(self, x: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        y = self.norm(x).flatten(2).transpose(1, 2)
        own = self.norms[0](y)
        y = y + self.attend(0, own, own)
        y = y + self.attend(1, self.norms[1](y), words)
        value, gate = self.gate(self.norms[2](y)).chunk(2, dim=-1)
        y = y + self.last(value * nn.functional.gelu(gate))
        return x + y.transpose(1, 2).reshape(x.shape)


class Denoiser(nn.Module):
    """A step of latent diffusion: time as sines, one level down and up again, attention to words in the middle."""

    def __init__(self, width: int, words: int) -> None:
        super().__init__()
        self.width = width
        self.time = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width))
        self.first = nn.Conv2d(4, width, 3, padding=1)
        self.before = TimedResidual(width, width, 4 * width)
        self.down = nn.Conv2d(width, width, 3, 2, 1)
        self.middle = TimedResidual(width, 2 * width, 4 * width)
        self.attention = ImageAttention(2 * width, words, 2)
        self.up = nn.Conv2d(2 * width, width, 3, padding=1)
        self.after = TimedResidual(2 * width, width, 4 * width)
        self.last = nn.Sequential(nn.GroupNorm(4, width), nn.SiLU(), nn.Conv2d(width, 4, 3, padding=1))

    def forward(self, x: torch.Tensor, steps: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        half = self.width // 2
        rates = torch.exp(torch.arange(half) * (-9.2 / half))
        angles = steps[:, None].float() * rates[None]
        time = self.time(torch.cat([torch.cos(angles), torch.sin(angles)], 1))
        skip = self.before(self.first(x), time)
        y = self.attention(self.middle(self.down(skip), time), words)
        y = self.up(nn.functional.interpolate(y, scale_factor=2.0, mode="nearest"))
        result: torch.Tensor = self.last(self.after(torch.cat([y, skip], 1), time))
        return result

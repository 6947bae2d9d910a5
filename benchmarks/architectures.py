"""Architectures written in plain torch, for export: what no package that we use brings.

In: sizes. Out: `nn.Module`s with torch's initial weights: MobileNetV2, U-Net, ResNet, RRDB super-resolution, a text
recogniser with GRU and LSTM, and a greedy decoder with a scripted loop.
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


class TextRecogniser(nn.Module):
    """CRNN (Shi et al. 2015): convolutions down to one line, then a bidirectional GRU and a bidirectional LSTM."""

    def __init__(self, width: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(), nn.MaxPool2d((4, 1)),
            nn.Conv2d(2 * width, 2 * width, (4, 1)), nn.ReLU(),
        )  # fmt: skip
        self.gru = nn.GRU(2 * width, hidden, bidirectional=True)
        self.lstm = nn.LSTM(2 * hidden, hidden, bidirectional=True)
        self.last = nn.Linear(2 * hidden, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        steps = self.convolutions(x).squeeze(2).permute(2, 0, 1)
        y, _ = self.lstm(self.gru(steps)[0])
        return torch.log_softmax(self.last(y), 2)


class GreedyDecoder(nn.Module):
    """Words one after the other until the end word or a limit: a loop with a condition on data and an if in it.

    `forward` has to be scripted; only the legacy exporter knows scripts.
    """

    def __init__(self, words: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(words, width)
        self.cell = nn.Linear(2 * width, width)
        self.last = nn.Linear(width, words)

    def forward(self, state: torch.Tensor, limit: int) -> tuple[torch.Tensor, torch.Tensor]:
        word = torch.zeros([1], dtype=torch.int64)
        total = torch.zeros([1])
        count = torch.zeros([1], dtype=torch.int64)
        for _ in range(limit):
            if int(word) != 1:
                state = torch.tanh(self.cell(torch.cat([self.table(word), state], 1)))
                scores = torch.log_softmax(self.last(state), 1)
                word = scores.argmax(1)
                total = total + scores.max()
                count = count + 1
        return total, count

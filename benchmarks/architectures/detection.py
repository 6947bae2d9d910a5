"""A one-stage detector that ends in non-maximum suppression, exportable by both of torch's exporters.

In: sizes. Out: an `nn.Module`, and `TRANSLATIONS` for the dynamo exporter. Suppression is an operator of ours here,
because torchvision, which has torch's, is not installed; in a file it is ONNX's NonMaxSuppression.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from onnxscript import opset18
from torch import nn

MOST, OVERLAP, LEAST = 20, 0.5, 0.3


@torch.library.custom_op("tilewright::suppress", mutates_args=())
def suppress(boxes: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """[images, boxes, 4] and [images, classes, boxes] to rows of (image, class, box); never run, only exported."""
    return torch.zeros(1, 3, dtype=torch.int64, device=scores.device)


@suppress.register_fake
def _shape(boxes: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    return scores.new_empty((torch.library.get_ctx().new_dynamic_size(), 3), dtype=torch.int64)


def _in_onnx(boxes: Any, scores: Any) -> Any:
    """For the dynamo exporter."""
    limits = (opset18.Constant(value_ints=[MOST]), *(opset18.Constant(value_floats=[v]) for v in (OVERLAP, LEAST)))
    return opset18.NonMaxSuppression(boxes, scores, *limits)


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {torch.ops.tilewright.suppress.default: _in_onnx}


class _Suppress(torch.autograd.Function):
    """For the legacy exporter."""

    @staticmethod
    def forward(_: Any, boxes: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return torch.zeros(1, 3, dtype=torch.int64)

    @staticmethod
    def symbolic(g: Any, boxes: Any, scores: Any) -> Any:
        limits = [torch.tensor([MOST]), torch.tensor([OVERLAP]), torch.tensor([LEAST])]
        return g.op("NonMaxSuppression", boxes, scores, *(g.op("Constant", value_t=value) for value in limits))


class Stage(nn.Sequential):
    """Half the size: a convolution with normalisation and SiLU."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__(nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.SiLU())


class Detector(nn.Module):
    """YOLO's shape: two scales, joined by resizing, each with a head; boxes decoded on a grid, then suppressed."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.fine = nn.Sequential(Stage(3, width, 2), Stage(width, 2 * width, 2), Stage(2 * width, 2 * width, 2))
        self.coarse = Stage(2 * width, 4 * width, 2)
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.lateral = Stage(8 * width, 2 * width, 1)
        self.heads = nn.ModuleList(nn.Conv2d(channels, 4 + classes, 1) for channels in (4 * width, 8 * width))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        fine = self.fine(x)
        coarse = self.coarse(fine)
        coarse = torch.cat([coarse, self.pool(coarse)], 1)
        up = nn.functional.interpolate(self.lateral(coarse), scale_factor=2.0, mode="nearest")
        maps = [self.heads[0](torch.cat([fine, up], 1)), self.heads[1](coarse)]
        found = torch.cat([self.decoded(y, stride) for y, stride in zip(maps, (8.0, 16.0), strict=True)], 1)
        boxes, scores = found[..., :4], found[..., 4:].sigmoid()
        by_class = scores.transpose(1, 2)
        if torch.onnx.is_in_onnx_export() and not torch.compiler.is_exporting():
            chosen = _Suppress.apply(boxes, by_class)
        else:
            chosen = suppress(boxes, by_class)
        return boxes[chosen[:, 0], chosen[:, 2]], by_class[chosen[:, 0], chosen[:, 1], chosen[:, 2]], chosen

    def decoded(self, y: torch.Tensor, stride: float) -> torch.Tensor:
        """[n, 4 + classes, h, w] to [n, h * w, 4 + classes]: left, top, right, bottom in pixels."""
        rows = torch.arange(y.shape[2], dtype=torch.float32)[:, None].expand(y.shape[2], y.shape[3])
        columns = torch.arange(y.shape[3], dtype=torch.float32)[None].expand(y.shape[2], y.shape[3])
        centre = torch.stack([columns, rows], 0)[None] + y[:, :2].sigmoid()
        size = torch.exp(y[:, 2:4].clamp(max=3.0))
        corners = torch.cat([(centre - size / 2) * stride, (centre + size / 2) * stride], 1)
        return torch.cat([corners, y[:, 4:]], 1).flatten(2).transpose(1, 2)

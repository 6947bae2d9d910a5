"""What has to be known of a model to export it: how to make it, its inputs, and which of their axes are dynamic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

# Attention as matmul, softmax and matmul. Dynamo fails on torch's fused one with a bias and sizes that are not known:
# "Cannot view a tensor with shape ..." while it decomposes the graph.
PLAIN: dict[str, Any] = {"attn_implementation": "eager"}


@dataclass(frozen=True)
class Export:
    """One model to export: how to make it, sample inputs by name, and the names of their dynamic axes.

    `exporters` are those that can: only the legacy one knows scripts.
    """

    make: Callable[[], nn.Module]
    inputs: dict[str, torch.Tensor]
    dynamic: dict[str, dict[int, str]]
    outputs: list[str]
    exporters: tuple[str, ...] = ("dynamo", "legacy")


class Attributes(nn.Module):
    """A transformers model that takes its inputs by position and returns one tensor."""

    def __init__(self, model: nn.Module, names: list[str], attribute: str, fixed: Mapping[str, Any]) -> None:
        super().__init__()
        self.model, self.names, self.attribute, self.fixed = model, names, attribute, fixed

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        outputs: Any = self.model(**dict(zip(self.names, inputs, strict=True)), **self.fixed)
        result: torch.Tensor = getattr(outputs, self.attribute)
        return result


def attribute(
    make: Callable[[], nn.Module],
    inputs: dict[str, torch.Tensor],
    dynamic: dict[str, dict[int, str]],
    name: str,
    **fixed: Any,
) -> Export:
    """One attribute of what a transformers model returns; `fixed` are its other arguments."""
    return Export(lambda: Attributes(make(), list(inputs), name, fixed), inputs, dynamic, [name])


def image(make: Callable[[], nn.Module], size: int, spatial: bool) -> Export:
    """A model from images [batch, 3, height, width]; `spatial`: height and width are dynamic too."""
    axes = {0: "batch"} | ({2: "height", 3: "width"} if spatial else {})
    return Export(make, {"x": torch.randn(2, 3, size, size)}, {"x": axes}, ["y"])


def pixels(make: Callable[[], nn.Module], size: int, name: str = "last_hidden_state", **fixed: Any) -> Export:
    """A transformers model from images [batch, 3, size, size]."""
    inputs = {"pixel_values": torch.randn(2, 3, size, size)}
    return attribute(make, inputs, {"pixel_values": {0: "batch"}}, name, **fixed)

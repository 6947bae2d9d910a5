"""Tile programs to scalar GPU code: one registered rule per tile operation, layouts as classes, a driver that owns the rest."""

from .kernel import LoweredKernel, lower_kernel

__all__ = ["LoweredKernel", "lower_kernel"]

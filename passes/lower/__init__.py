"""Tile programs to scalar GPU code: one rule per tile operation, layouts as classes, a driver for the rest."""

from .kernel import LoweredKernel, lower_kernel

__all__ = ["LoweredKernel", "lower_kernel"]

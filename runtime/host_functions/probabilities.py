"""Probabilities of several classes from those of every two of them, for support vector classifiers.

In: for each row and each pair (i, j), i < j, how likely i is against j. Out: one probability a class. The method is
the second of Wu, Lin and Weng, "Probability Estimates for Multi-class Classification by Pairwise Coupling", 2004.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import HostCall, host_function

LEAST = 1e-7  # probability of a class against another
MOST_ROUNDS = 100
PRECISION = 0.005  # over the number of classes; onnxruntime stops there, and so do we


@host_function("coupled_probabilities")
def coupled_probabilities(call: HostCall) -> Sequence[Any]:
    """[rows, pairs] -> [rows, classes], f32."""
    chances, classes = np.asarray(call.inputs[0], np.float32), int(call.attributes["classes"])
    return [np.array([_coupled(row, classes) for row in chances], np.float32).reshape(len(chances), classes)]


def _coupled(chances: np.ndarray[Any, Any], classes: int) -> np.ndarray[Any, Any]:
    """p that makes p'Qp smallest, where Q has the products of what the pairs say."""
    against = np.zeros((classes, classes), np.float32)
    first, second = np.triu_indices(classes, 1)
    against[first, second] = np.clip(chances, np.float32(LEAST), np.float32(1 - LEAST))
    against[second, first] = 1 - against[first, second]
    matrix = -against.T * against
    matrix[np.diag_indices(classes)] = (against**2).sum(0)
    result = np.full(classes, 1 / classes, np.float32)
    for _ in range(MOST_ROUNDS):
        products = matrix @ result
        value = result @ products
        if np.abs(products - value).max() < PRECISION / classes:
            break
        for place in range(classes):
            step = (value - products[place]) / matrix[place, place]
            value = (value + step * (step * matrix[place, place] + 2 * products[place])) / (1 + step) ** 2
            result[place] += step
            products = (products + step * matrix[place]) / (1 + step)
            result /= 1 + step
    return result

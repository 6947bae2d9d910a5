"""How small a mistake does the rule for differences notice? Mistakes planted in right answers, and how many are found.

In: seeds. Out: for each size of mistake the share of outputs in which one wrong element is called unexplained. The rule
explains away what rounding may do; this says that it explains away nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from .differences import compare
from .random_graphs import random_graph
from .reference import Array, Arrays, NoisyReference, Reference, Rejected

SIZES = (2.0**-4, 2.0**-8, 2.0**-12, 2.0**-16)  # relative to the element


def planted(array: Array, size: float, generator: np.random.Generator) -> Array | None:
    """A copy with one element wrong: floats by `size` of themselves, others by one; None where no element can be."""
    usable = np.argwhere(np.isfinite(array) & (array != 0)) if array.dtype.kind == "f" else np.argwhere(array == array)
    if not len(usable):
        return None
    place = tuple(generator.choice(usable)) if array.ndim else ()
    wrong = array.copy()
    if array.dtype.kind == "f":
        wrong[place] = array[place] * (1 + size)
        return wrong if wrong[place] != array[place] else None
    wrong[place] = ~array[place] if array.dtype == bool else array[place] ^ 1
    return wrong


def sharpness(seeds: Iterable[int]) -> dict[tuple[str, float], tuple[int, int]]:
    """(mistakes found, mistakes planted) by kind of element and size."""
    found: Counter[tuple[str, float]] = Counter()
    made: Counter[tuple[str, float]] = Counter()
    for seed in seeds:
        graph = random_graph(seed)
        generator = np.random.default_rng(seed)
        try:
            wanted = Reference(graph.model).run(graph.data[0])
            noisy = NoisyReference(graph.model, graph.data[0])
            right = noisy.run(generator)
        except Rejected:
            continue
        for name, size in ((name, size) for name in wanted for size in SIZES):
            if right[name].shape != wanted[name].shape:
                continue
            wrong = planted(right[name], size, generator)
            if wrong is not None:
                key = (wanted[name].dtype.name if wanted[name].dtype.kind == "f" else "integer or bool", size)
                made[key] += 1
                found[key] += _noticed({name: wrong}, {name: wanted[name]}, noisy, generator)
    return {key: (found[key], made[key]) for key in sorted(made)}


def _noticed(got: Arrays, wanted: Arrays, noisy: NoisyReference, generator: np.random.Generator) -> bool:
    return any(item.kind == "unexplained" for item in compare(got, wanted, lambda: noisy.run(generator)))


def report(seeds: Iterable[int]) -> None:
    """Print the table."""
    print("| elements | mistake | found |\n|---|---|---|")
    for (kind, size), (found, made) in sharpness(seeds).items():
        if kind == "integer or bool" and size != SIZES[0]:
            continue
        label = "1" if kind == "integer or bool" else f"2^{int(np.log2(size))} of the element"
        print(f"| {kind} | {label} | {100 * found / made:.0f} % of {made} |")

"""From a seed to a small model of what fusing passes look for, and the options that make them look.

In: a number. Out: a `Trial`: the model, data, target, precision, and whether the sanitizer watches. Random graphs
seldom hold a pattern of several nodes; here each holds one or two (motifs/), with random pointwise operators behind and
values on the way that are outputs as well.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from .graph_builder import GraphBuilder, Unfit, Value
from .motifs import motifs
from .motifs.registry import Motif
from .operators import entries
from .operators.registry import Entry
from .random_graphs import ATTEMPTS, OPSETS, RandomGraph, drawn_data, finished_model

MOTIFS = 1  # to be raised when seeds come to mean other models
ELEMENTS = 30_000  # of a tensor
SIZES = ((2, 5, 8, 64, 80), (0, 1, 3, 7, 16, 65))  # of symbols: one of each
WATCHED_SHARE = 0.25  # of the models run under the sanitizer
INNER_SHARE = 0.05  # of the values on the way are outputs too
MOST_INNER = 2
FLOATS = {"model": ("float16", "float16", "float16", "float32"), "tf32": ("float32",)}  # that models compute in


@dataclass(frozen=True)
class Trial:
    """A model with data and what it is compiled with; `is_watched` by the sanitizer while it runs."""

    graph: RandomGraph
    target: str
    precision: str
    is_watched: bool = False


def random_trial(seed: int) -> Trial:
    """The trial of a seed: one or two motifs that fit together, and up to three pointwise operators."""
    rng = random.Random(f"motifs {seed}")
    names = ("n", "m")[: rng.choice((0, 0, 0, 1, 1, 2))]
    bindings = tuple({name: rng.choice(sizes) for name in names} for sizes in SIZES) if names else ({},)
    graph = GraphBuilder(rng, rng.choice(OPSETS), bindings, ELEMENTS)
    table = motifs(graph.opset)
    drawn = rng.choices(table, [entry.weight for entry in table], k=ATTEMPTS)
    target, precision = rng.choice(drawn[0].targets), rng.choice(drawn[0].precisions)
    graph.float_type = rng.choice(FLOATS.get(precision, ("float32", "float16")))
    used: list[Motif] = []
    wanted = rng.choice((1, 1, 2))
    for entry in drawn:
        if len(used) == wanted:
            break
        if target in entry.targets and precision in entry.precisions and _attempt(graph, entry):
            used.append(entry)
    table_behind = [entry for entry in entries(graph.opset) if entry.shallow and entry.name not in ("If", "Loop")]
    for entry_behind in rng.choices(table_behind, k=rng.choice((0, 0, 1, 3))):
        _attempt(graph, entry_behind)
    graph.finished = [*_inner_outputs(graph), *graph.finished]
    model = finished_model(graph, seed)
    made = RandomGraph(seed, model, drawn_data(graph, model, seed), tuple(entry.name for entry in used))
    return Trial(made, target, precision, rng.random() < WATCHED_SHARE)


def _attempt(graph: GraphBuilder, entry: Motif | Entry) -> bool:
    """Add it; False, and nothing is left of it, where it does not fit."""
    marks, finished = graph.mark(), len(graph.finished)
    try:
        entry.body(graph)
    except Unfit:
        graph.take_back(marks)
        del graph.finished[finished:]
        return False
    return True


def _inner_outputs(graph: GraphBuilder) -> list[Value]:
    """Some of the values that other nodes take."""
    taken = {name for node in graph.nodes for name in node.input}
    made = {name for node in graph.nodes for name in node.output}
    listed = {value.name for value in graph.finished}
    inner = [value for value in graph.values if value.name in made & taken - listed]
    return [value for value in inner if graph.rng.random() < INNER_SHARE][:MOST_INNER]

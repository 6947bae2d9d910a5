"""A few of the injected bugs of `benchmarks.mutations`, chosen by a seed: each is caught, as its kind can be."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from tests.support.mutant_products import HopperCase
from tests.support.mutants import CASES
from tests.support.mutation import OPERATORS, Case, Mutant

# Kinds of bugs that no kernel gets away with, and what must be among the checks that notice them.
_FATAL = {
    "dropped wait_group": "race",
    "wait_group for one group less": "race",
    "dropped copy": "uninitialised",
    "dropped store": "uninitialised",
}


@functools.cache
def _case(name: str) -> Case:
    return HopperCase(((128, 128, 320),)) if name == "wsgemm" else CASES[name]()


def _chosen(name: str, operator: str) -> Mutant:
    found = [mutant for mutant in _case(name).mutants() if mutant.operator == operator]
    assert found, f"nothing to break: {operator}"
    return found[int(np.random.default_rng(11).integers(len(found)))]


@pytest.mark.parametrize("operator", _FATAL)
def test_a_broken_product_is_caught(operator: str) -> None:
    verdict = _case("matmul f16").judge(_chosen("matmul f16", operator))
    assert _FATAL[operator] in verdict.caught_by, verdict


@pytest.mark.parametrize(
    ("operator", "place", "check"),
    [
        ("dropped wgmma.wait_group", 0, "race"),
        ("dropped wgmma.fence", 0, "race"),
        # The first proxy fence only repeats what fence.mbarrier_init says.
        ("dropped proxy fence", -1, "race"),
        ("dropped wait_group", -1, "race"),
        ("dropped arrival", 0, "deadlock"),
        ("too few bytes expected", 0, "deadlock"),
        ("wrong phase", 0, "race"),
    ],
)
def test_a_broken_pipeline_of_hopper_is_caught(operator: str, place: int, check: str) -> None:
    case = _case("wsgemm")
    mutant = [mutant for mutant in case.mutants() if mutant.operator == operator][place]
    verdict = case.judge(mutant)
    assert check in verdict.caught_by, verdict


@pytest.mark.parametrize("place", [0, 2, 3])
def test_a_store_that_is_not_waited_for_is_caught(place: int) -> None:
    """In front of the first and the third strip of a tile, and before the block ends; the second's slot is free."""
    case = _case("boxes")
    (operator,) = (own for own in case.operators if own.name == "dropped wait_group")
    line, text = operator.sites(case.ptx.split("\n"))[place]
    verdict = case.judge(Mutant(case.name, operator.name, 1, line + 1, "", text))
    assert "race" in verdict.caught_by, verdict


@pytest.mark.parametrize("operator", ["dropped proxy fence", "dropped barrier"])
def test_a_store_before_everything_is_written_is_caught(operator: str) -> None:
    *_, mutant = (mutant for mutant in _case("boxes").mutants() if mutant.operator == operator)
    assert "race" in _case("boxes").judge(mutant).caught_by


@pytest.mark.parametrize(
    ("name", "operator", "place"),
    [
        ("cluster", "dropped fence of new mbarriers", -1),
        ("cluster", "cluster barrier without release", 0),
        ("shared k", "cluster barrier without release", 0),
    ],
)
def test_blocks_of_a_cluster_that_do_not_meet_are_caught(name: str, operator: str, place: int) -> None:
    mutant = [mutant for mutant in _case(name).mutants() if mutant.operator == operator][place]
    assert "race" in _case(name).judge(mutant).caught_by, mutant


def test_every_kind_of_bug_has_a_name_of_its_own() -> None:
    names = [operator.name for operator in OPERATORS]
    assert len(set(names)) == len(names)

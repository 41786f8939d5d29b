"""Worlds in which some watch: a fixed range of seeds keeps the law of marks, and meets what may break it."""

import pytest

from tests.simulation.kinds import WATCHES
from tests.simulation.mutants import try_mutant
from tests.simulation.mutations import mutant_named
from tests.simulation.outcome import play
from tests.simulation.ranges import played_well

SEEDS = range(16)
# What so many worlds must have met.
MET = (
    "watch: change", "watch: mark of something", "watch: gap", "watch: elsewhere", "watch: from an old token",
    "watch: older told again", "record purged", "partition with a floor", "partition spilled",
)  # fmt: skip
QUICK = {  # and from which seed on: one that catches it soon
    "watch: a proof counts whatever was told of the other store": 2,
    "watch: lines are there below the floor": 2,
    "watch: a sequence is of any store": 3,
    "watch: where nothing is proven it goes on from now": 0,
    "watch: marks are told at once": 14,
    "watch: purges leave no trace": 0,
    "watch: gaps are not told": 0,
    "watch: a position moves before its changes are passed on": 0,
    "watch: after a look through it goes on from its end": 2,
    "watch: changes are told before they are durable": 0,
}
CPU_S_MAX = 60.0  # a tenth of it is enough


def test_no_mark_is_told_too_early_and_nothing_is_passed_over() -> None:
    counts = played_well(SEEDS, WATCHES, "--watches")
    assert not [what for what in MET if not counts[what]]


@pytest.mark.parametrize(("name", "first_seed"), QUICK.items(), ids=list(QUICK))
def test_a_deliberate_bug_is_caught(name: str, first_seed: int) -> None:
    mutant = mutant_named(name)
    assert try_mutant(mutant, CPU_S_MAX, first_seed).caught_by in mutant.expected


def test_one_seed_is_one_history() -> None:
    assert play(2, kind=WATCHES).trace == play(2, kind=WATCHES).trace

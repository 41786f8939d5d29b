"""Worlds in which some hold locks: a fixed range of seeds keeps their laws, and meets what may break them."""

import pytest

from tests.simulation.kinds import LOCKS
from tests.simulation.mutants import try_mutant
from tests.simulation.mutations import mutant_named
from tests.simulation.outcome import play
from tests.simulation.ranges import played_well

SEEDS = range(12)
# What so many worlds must have met.
MET = (
    "locks: taken", "locks: given back", "locks: lost", "locks: fenced off", "locks: a holder stands still",
    "locks: a holder crashes", "locks: ephemeral", "locks: written under one", "locks: not taken: LockHeld",
)  # fmt: skip
QUICK = {  # and from which seed on: one that catches it soon
    "locks: tokens are not counted": 1,
    "locks: others end what is believed in yet": 1,
    "locks: nobody ends what the dead have held": 1,
    "locks: who takes a lock leaves what is ephemeral": 3,
    "locks: a fence that is passed holds nevertheless": 6,
    "locks: the home ends what is believed in yet": 9,
    "locks: another's renewal is taken for its own": 8,
}
CPU_S_MAX = 60.0  # a tenth of it is enough


def test_nothing_is_wrong_with_locks() -> None:
    counts = played_well(SEEDS, LOCKS, "--locks")
    assert not [what for what in MET if not counts[what]]


@pytest.mark.parametrize(("name", "first_seed"), QUICK.items(), ids=list(QUICK))
def test_a_deliberate_bug_is_caught(name: str, first_seed: int) -> None:
    mutant = mutant_named(name)
    assert try_mutant(mutant, CPU_S_MAX, first_seed).caught_by in mutant.expected


def test_one_seed_is_one_history() -> None:
    assert play(2, kind=LOCKS).trace == play(2, kind=LOCKS).trace

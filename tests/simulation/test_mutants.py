"""The quick half of the mutants: each must be caught on the first few seeds."""

import pytest

from basestore.journal import Journal
from tests.simulation.mutants import try_mutant
from tests.simulation.mutations import MUTANTS, SURVIVORS
from tests.simulation.outcome import play

QUICK = [
    "ack before fsync",
    "a read of unsynced data",
    "a hint counted for QUORUM",
    "superseded counted as applied",
    "quorum off by one",
    "a stamp used again",
    "first-write-wins without reading first",
    "a tombstone dropped early",
    "a read that believes the first reply",
    "a deadline ignored",
    "hints are never delivered",
]
CPU_S_MAX = 20.0


@pytest.mark.parametrize("name", QUICK)
def test_a_deliberate_bug_is_caught(name: str) -> None:
    mutant = next(mutant for mutant in MUTANTS if mutant.name == name)
    assert try_mutant(mutant, CPU_S_MAX).caught_by in mutant.expected


def test_there_are_enough_mutants_and_each_survivor_has_its_reason() -> None:
    assert len(MUTANTS) >= 25
    names = {mutant.name for mutant in MUTANTS}
    assert len(names) == len(MUTANTS)
    assert names >= SURVIVORS.keys()


def test_a_mutant_leaves_the_product_as_it_was() -> None:
    before = Journal.ack_staged
    trace = play(1).trace
    mutant = next(mutant for mutant in MUTANTS if mutant.name == "ack before fsync")
    try_mutant(mutant, CPU_S_MAX)
    assert Journal.ack_staged is before
    assert play(1).trace == trace

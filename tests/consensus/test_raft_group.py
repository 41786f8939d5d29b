"""The simulated group: some seeds of the design, each case, and each rule left out.

`python -m tests.consensus` plays more.
"""

import pytest

from tests.consensus.cases import CASES
from tests.consensus.mutants import MUTANTS, OF_THE_MODEL, Mutant, caught
from tests.consensus.trial import play

SEEDS = range(40)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_group_under_faults_stays_right_and_recovers(seed: int) -> None:
    assert play(seed).failure == ""


def test_equal_seeds_play_alike() -> None:
    assert play(3) == play(3)


@pytest.mark.parametrize("name", CASES)
def test_a_scripted_case_comes_out_right(name: str) -> None:
    CASES[name]()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_rule_that_is_left_out_is_missed(mutant: Mutant) -> None:
    assert caught(mutant, 1)


def test_the_rules_of_the_model_are_all_there_and_as_many_more() -> None:
    assert len(OF_THE_MODEL) == 18
    assert len(MUTANTS) >= 18 + 20
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert {mutant.case for mutant in MUTANTS if mutant.case} == CASES.keys()

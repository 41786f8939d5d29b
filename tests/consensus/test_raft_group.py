"""The simulated group: some seeds of the design, each case, and each rule left out.

`python -m tests.consensus` plays more.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.consensus.cases import CASES
from tests.consensus.mutants import MUTANTS, OF_THE_MODEL, Mutant, caught
from tests.consensus.trial import play

ROOT = Path(__file__).parent.parent.parent
SEEDS = range(40)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_group_under_faults_stays_right_and_recovers(seed: int) -> None:
    assert play(seed).failure == ""


@pytest.mark.parametrize("hashes", ["1", "2"])
def test_equal_seeds_play_alike_in_any_process(hashes: str) -> None:
    code = "from tests.consensus.trial import play; print(sorted(play(3).counts.items()))"
    played = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hashes},
    )  # fmt: skip
    assert played.stdout == f"{sorted(play(3).counts.items())}\n"


@pytest.mark.parametrize("name", CASES)
def test_a_scripted_case_comes_out_right(name: str) -> None:
    CASES[name]()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_rule_that_is_left_out_is_missed(mutant: Mutant) -> None:
    assert caught(mutant)


def test_the_rules_of_the_model_are_all_there_and_as_many_more() -> None:
    assert len(OF_THE_MODEL) == 18
    assert len(MUTANTS) >= 18 + 20
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert {mutant.case for mutant in MUTANTS if mutant.case} == CASES.keys()

"""Watches keep their law in some hundred worlds, and each rule that is left out is noticed."""

from collections import Counter

import pytest

from tests.model.watch.breakages import BREAKAGES, SEEDS, catch
from tests.model.watch.world import play

WORLDS = 300
# What so many worlds must have met.
MET = (
    "answer lost", "exchange", "fit", "from a token", "gap", "goes on by the log", "goes on elsewhere",
    "looks through", "told again", "wiped",
)  # fmt: skip
BY_NAME = {breakage.name: breakage for breakage in BREAKAGES}


def test_nothing_is_passed_over_by_chance() -> None:
    counts: Counter[str] = Counter()
    for seed in range(WORLDS):
        assert play(seed, counts) is None, seed
    assert not [what for what in MET if not counts[what]]


@pytest.mark.parametrize("name", BY_NAME)
def test_a_rule_left_out_is_noticed(name: str) -> None:
    seed, law = catch(BY_NAME[name], [SEEDS[name]])
    assert seed == SEEDS[name], law


def test_one_seed_is_one_history() -> None:
    counts: list[Counter[str]] = [Counter(), Counter()]
    for each in counts:
        play(3, each)
    assert counts[0] == counts[1]

"""Leases keep their laws by chance, and the laws notice when a rule is left out."""

from collections import Counter

import pytest

from tests.model.command import catch
from tests.model.leases.breakages import BREAKAGES
from tests.model.leases.known import HARMLESS, SEEDS
from tests.model.leases.world import play

WORLDS = 100
# What so many worlds must have met.
MET = (
    "acquired", "released", "released what was lost", "lost", "died", "ended by others",
    "a renewal is unknown", "a renewal is known later", "an acquisition is unknown",
    "written under a fence", "fenced off", "told by what is remembered",
    "a token that was never given out is refused", "shown", "not shown", "removed",
)  # fmt: skip

BY_NAME = {breakage.name: breakage for breakage in BREAKAGES}


def test_leases_keep_their_laws() -> None:
    counts: Counter[str] = Counter()
    for seed in range(WORLDS):
        assert play(seed, counts) is None, seed
    assert not [what for what in MET if not counts[what]]


@pytest.mark.parametrize("name", SEEDS)
def test_a_rule_left_out_is_noticed(name: str) -> None:
    seed, law = catch(play, BY_NAME[name], [SEEDS[name]])
    assert seed == SEEDS[name], law


def test_of_every_rule_it_is_known_who_notices() -> None:
    assert {*SEEDS} | {*HARMLESS} == {*BY_NAME}


def test_one_seed_is_one_history() -> None:
    counts: list[Counter[str]] = [Counter(), Counter()]
    for each in counts:
        play(3, each)
    assert counts[0] == counts[1]

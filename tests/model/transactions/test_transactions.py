"""Transactions keep their laws by chance, and the laws notice when a rule is left out."""

from collections import Counter

import pytest

from tests.model.command import catch
from tests.model.transactions.breakages import BREAKAGES
from tests.model.transactions.known import HARMLESS, SEEDS
from tests.model.transactions.world import play

WORLDS = 200
# What so many worlds must have met.
MET = (
    "committed", "conflict", "aborted by others", "unknown", "died", "stored", "lost", "read",
    "COMMITTED was in doubt", "COMMITTED finished by others", "ended by others",
    "ended by a tombstone that does not tell", "the coordinator came too late to be told",
    "rolled back by a tombstone", "laid after the end", "gave way to an older one",
    "waited for a younger one", "swept", "purged",
)  # fmt: skip

BY_NAME = {breakage.name: breakage for breakage in BREAKAGES}


def test_transactions_keep_their_laws() -> None:
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

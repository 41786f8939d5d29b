"""Registers keep their laws by chance and by ambush, and the laws notice when a rule is left out."""

from collections import Counter
from collections.abc import Callable

import pytest

from tests.model.registers.breakages.known import BREAKAGES, HARMLESS, SEEDS, catch, catch_staged
from tests.model.registers.stage import STAGED
from tests.model.registers.world import play

WORLDS = 32
# What so many worlds must have met.
MET = (
    "stored", "lost", "read", "unknown", "contended", "stored in one trip", "read in one trip",
    "lost in one trip", "repeated by identity", "repeated by proposal", "finished by who held it",
    "certificate", "purged", "moved", "crash", "cut off", "wiped", "barred", "barred in a move",
    "two barred", "taken in", "lost by so many wiped",
)  # fmt: skip

BY_NAME = {breakage.name: breakage for breakage in BREAKAGES}


def test_registers_keep_their_laws() -> None:
    counts: Counter[str] = Counter()
    for seed in range(WORLDS):
        assert play(seed, counts) is None, seed
    assert not [what for what in MET if not counts[what]]


@pytest.mark.parametrize("history", STAGED.values(), ids=lambda history: history.__name__)
def test_registers_stand_what_was_made_to_break_them(history: Callable[[], None]) -> None:
    history()


@pytest.mark.parametrize("name", SEEDS)
def test_a_rule_left_out_is_noticed(name: str) -> None:
    seed, law = catch(BY_NAME[name], [SEEDS[name]])
    assert seed == SEEDS[name], law


@pytest.mark.parametrize("name", STAGED)
def test_a_rule_left_out_is_noticed_where_it_is_all_that_helps(name: str) -> None:
    assert catch_staged(BY_NAME[name])


def test_of_every_rule_it_is_known_who_notices() -> None:
    assert {*SEEDS} | {*STAGED} | {*HARMLESS} == {*BY_NAME}


def test_one_seed_is_one_history() -> None:
    counts: list[Counter[str]] = [Counter(), Counter()]
    for each in counts:
        play(3, each)
    assert counts[0] == counts[1]

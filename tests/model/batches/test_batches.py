"""Batches keep their laws by chance, and the laws notice when a rule is left out."""

from collections import Counter
from collections.abc import Callable

import pytest

from tests.model.batches.breakages import BREAKAGES
from tests.model.batches.known import SEEDS
from tests.model.batches.stage import STAGED
from tests.model.batches.world import play
from tests.model.command import catch
from tests.model.laws import Violation
from tests.model.patches import broken

WORLDS = 80
# What so many worlds must have met.
MET = (
    "stored", "not applied", "unknown", "died", "written", "not held by all in time",
    "committed by others", "given up", "copied", "cut off for longer than the lag", "wiped",
    "wiped while held", "purged", "begun at once, each in a partition of its own",
)  # fmt: skip

BY_NAME = {breakage.name: breakage for breakage in BREAKAGES}


def test_batches_keep_their_laws() -> None:
    counts: Counter[str] = Counter()
    for seed in range(WORLDS):
        assert play(seed, counts) is None, seed
    assert not [what for what in MET if not counts[what]]


@pytest.mark.parametrize("name", SEEDS)
def test_a_rule_left_out_is_noticed(name: str) -> None:
    seed, law = catch(play, BY_NAME[name], [SEEDS[name]])
    assert seed == SEEDS[name], law


@pytest.mark.parametrize("history", STAGED.values(), ids=lambda history: history.__name__)
def test_batches_stand_what_was_made_to_break_them(history: Callable[[], None]) -> None:
    history()


@pytest.mark.parametrize("name", STAGED)
def test_a_rule_left_out_is_noticed_where_it_is_all_that_helps(name: str) -> None:
    with broken(BY_NAME[name]), pytest.raises(Violation):
        STAGED[name]()


def test_of_every_rule_it_is_known_who_notices() -> None:
    assert {*SEEDS} | {*STAGED} == {*BY_NAME}


def test_one_seed_is_one_history() -> None:
    counts: list[Counter[str]] = [Counter(), Counter()]
    for each in counts:
        play(3, each)
    assert counts[0] == counts[1]

"""Bugs of the product that the simulation found, each with a seed that shows it.

The bug is put back by a mutant, to see that a seed still meets it (the first one from there on, for
every change of the worlds moves it); without the bug that seed is clean.
"""

from typing import NamedTuple

import pytest

from tests.simulation.clockwork import Stream
from tests.simulation.drawing import draw_plain
from tests.simulation.mutants import try_mutant
from tests.simulation.mutations import mutant_named
from tests.simulation.ordeals import relapse
from tests.simulation.outcome import play
from tests.simulation.world import PlannedWorld

CPU_S_MAX = 120.0  # a tenth of it is enough


class Found(NamedTuple):
    """The seed to begin with, what was wrong, and the mutant that is the bug."""

    seed: int
    what: str
    mutant: str


FOUND = [
    Found(2, "a link lost while a first write still reads stopped the node (AttributeError)",
          "a first write that loses a link while it reads"),
    Found(32, "a hint was confirmed when an older record of its row was durable, and then forgotten",
          "a hint taken as durable with an older record of its row"),
    Found(130, "healing a damaged record miscounted the records; below zero the node stopped",
          "healing miscounts records"),
    Found(7878, "after a crash a snapshot was in use of which nothing had been noted when it was stored",
          "log: what a snapshot skips is noted later"),
]  # fmt: skip


@pytest.mark.parametrize("found", FOUND, ids=lambda found: found.what)
def test_a_bug_that_was_found_stays_away(found: Found) -> None:
    mutant = mutant_named(found.mutant)
    trial = try_mutant(mutant, CPU_S_MAX, found.seed)
    assert trial.caught_by, "no seed meets the bug any more"
    assert not play(trial.seed).violations


def test_of_two_forgetful_stores_that_meet_none_keeps_what_the_others_have_purged() -> None:
    for seed in (0, 1):
        world = PlannedWorld(relapse(draw_plain(seed)[0], Stream(seed, "ordeal")))
        world.run()
        assert world.violations == []

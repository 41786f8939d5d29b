"""Trial: one seed, from its beginning to calm."""

from collections import Counter
from typing import NamedTuple
from unittest.mock import patch

from basestore.consensus import log, progress
from tests.consensus.faults import Faults
from tests.consensus.machines import Failure
from tests.consensus.world import World

FAULTY_S = 15.0, 60.0


class Trial(NamedTuple):
    """`failure`: what did not hold, or nothing."""

    seed: int
    failure: str
    counts: Counter[str]


def play(seed: int) -> Trial:
    world = World(seed)
    until, r = world.random.uniform(*FAULTY_S), world.random
    Faults(world, until)
    with (
        patch.object(log, "BATCH_ENTRIES_MAX", r.choice((1, 2, log.BATCH_ENTRIES_MAX))),
        patch.object(progress, "AHEAD_MAX", r.choice((10, progress.AHEAD_MAX))),
    ):
        try:
            world.run(until)
            world.calm()
        except Failure as failure:
            return Trial(seed, str(failure), world.counts)
    world.counts["seconds"] += round(world.now)
    return Trial(seed, "", world.counts)

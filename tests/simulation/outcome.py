"""Outcome: what came of playing one seed, or many."""

import time
from collections import Counter
from dataclasses import dataclass, field

from tests.simulation.history import Violation
from tests.simulation.plan import WHOLE, Reduction, draw
from tests.simulation.world import World


@dataclass
class Outcome:
    """Of one seed."""

    seed: int
    trace: str
    operations: int
    violations: list[Violation]
    seconds: float
    cpu_s: float
    counts: Counter[str] = field(repr=False)


def play(seed: int, kept: Reduction = WHOLE) -> Outcome:
    """Play a seed to its end."""
    began_s = time.process_time()
    world = World(draw(seed).reduced(kept))
    world.run()
    counts = world.counts
    counts[f"theme: {world.plan.theme}"] += 1
    return Outcome(
        seed,
        world.digest,
        len(world.history.operations),
        world.violations,
        world.clockwork.now,
        time.process_time() - began_s,
        counts,
    )

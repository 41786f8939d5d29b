"""Outcome: what came of playing one seed, or many."""

import gc
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.simulation.drawing import draw
from tests.simulation.history import Violation
from tests.simulation.plan import WHOLE, Plan, Reduction
from tests.simulation.world import PlannedWorld


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
    return play_plan(draw(seed).reduced(kept))


def play_plan(plan: Plan) -> Outcome:
    """The same with another plan than is drawn for a seed. A world is small and short-lived, so that looking
    for its garbage waits until it is over: that is a tenth of the time. What was there before is not looked
    through for it."""
    began_s = time.process_time()
    gc.freeze()
    gc.disable()
    try:
        outcome = _play(plan)
    finally:
        gc.collect()
        gc.unfreeze()
        gc.enable()
    outcome.cpu_s = time.process_time() - began_s
    return outcome


def _play(plan: Plan) -> Outcome:
    world = PlannedWorld(plan)
    world.run()
    world.counts[f"theme: {world.plan.theme}"] += 1
    operations = len(world.history.operations)
    return Outcome(
        plan.seed, world.digest, operations, world.violations, world.clockwork.now, 0.0, world.counts
    )

"""Outcome: what came of playing one seed, or many."""

import gc
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.simulation.history import Violation
from tests.simulation.kinds import PLANNED, Kind
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


def play(seed: int, kept: Reduction = WHOLE, kind: Kind = PLANNED) -> Outcome:
    """Play a seed to its end."""
    return play_plan(kind.draw(seed).reduced(kept), kind.world)


def play_plan(plan: Plan, kind: type[PlannedWorld] = PlannedWorld) -> Outcome:
    """The same with another plan than is drawn for a seed. A world is small and short-lived, so that looking
    for its garbage waits until it is over: that is a tenth of the time. What was there before is not looked
    through for it, nor ever again: it lives as long as the process."""
    began_s = time.process_time()
    gc.freeze()
    gc.disable()
    try:
        outcome = _play(kind(plan))
    finally:
        gc.collect()
        gc.enable()
    outcome.cpu_s = time.process_time() - began_s
    return outcome


def _play(world: PlannedWorld) -> Outcome:
    world.run()
    world.counts[f"theme: {world.plan.theme}"] += 1
    plan, now = world.plan, world.clockwork.now
    return Outcome(plan.seed, world.digest, world.operations, world.violations, now, 0.0, world.counts)

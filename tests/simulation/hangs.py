"""Hangs: disks whose syncs do not end for 3 to 30 s.

A disk that hangs tells no error: a sync that is under way, and each that begins, ends when the disk goes on.
Its node cannot be ended in the orderly way meanwhile, and does not open a store on it.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from tests.simulation.clockwork import Stream
from tests.simulation.plan import BEGIN_S, Fault, Plan
from tests.simulation.widening import FIXED, slower

if TYPE_CHECKING:
    from tests.simulation.machine import Machine
    from tests.simulation.world import PlannedWorld

CHANCE = 0.12
HANGS = frozenset(("disk hangs",))
LEAST_S, MOST_S, MEAN_S = 3.0, 30.0, 4.0
AFTER_S = 1.5  # the clients go on for so long when the last one is over


def hanging(plan: Plan, stream: Stream) -> Plan:
    """One disk or two, beside clients in no haste."""
    if plan.theme in FIXED:
        return plan
    faults, seconds = list(plan.faults), plan.seconds
    for _ in range(1 + stream.below(2)):
        at, machine = stream.uniform(BEGIN_S + 0.1, BEGIN_S + 3.0), stream.below(len(plan.machines))
        lasts = min(LEAST_S + stream.exponential(MEAN_S), MOST_S)
        faults.append(Fault(at, "disk hangs", machine, machine, lasts, stream.random()))
        seconds = max(seconds, at + lasts + AFTER_S)
    return replace(plan, seconds=seconds, faults=tuple(faults), clients=slower(plan.clients, 0.03))


class Hangs:
    """Carries them out."""

    def __init__(self, world: "PlannedWorld") -> None:
        self._world = world

    def strike(self, machine: "Machine", fault: Fault) -> None:
        """It begins."""
        if machine.disk.persistent:
            self._world.strikes(fault, f" for {fault.lasts:.2f} s")
            machine.hang()
            self._world.clockwork.after(fault.lasts, machine.go_on)

"""Crowds: more requests than fit.

In a crowded world a node has room for few operations at once, and bursts of requests come to one node or to
all. What finds no room is refused for certain, before anything was done.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from tests.simulation.clients import Client
from tests.simulation.clockwork import Stream
from tests.simulation.plan import BEGIN_S, ClientPlan, Fault, Plan

if TYPE_CHECKING:
    from tests.simulation.machine import Machine
    from tests.simulation.world import PlannedWorld

CHANCE = 0.1
BURSTS = frozenset(("burst", "bursts"))
TIMES = 2  # as many requests in a burst as fit, or a little more


def crowded(plan: Plan, stream: Stream) -> Plan:
    """Some bursts, and little room."""
    faults = list(plan.faults)
    for _ in range(2 + stream.below(4)):
        kind, machine = stream.pick(("burst", "burst", "bursts")), stream.below(len(plan.machines))
        faults.append(
            Fault(stream.uniform(BEGIN_S + 0.1, plan.seconds), kind, machine, machine, 0.0, stream.random())
        )
    return replace(plan, faults=tuple(faults), operations_max=stream.pick((16, 32, 64)))


class Crowds:
    """Carries them out."""

    def __init__(self, world: "PlannedWorld") -> None:
        self._world = world
        self._crowd: Client | None = None

    def strike(self, machine: "Machine", fault: Fault) -> None:
        """More requests come at once than fit."""
        world = self._world
        world.strikes(fault)
        if self._crowd is None:
            workload = world.plan.clients[0].workload if world.plan.clients else "hot"
            plan = ClientPlan(len(world.plan.clients) + 20, workload, True, 1.0, False, True)
            self._crowd = Client(world, plan)
        for each in world.machines if fault.kind == "bursts" else [machine]:
            if each.node is not None:
                self._crowd.burst(each, int(world.plan.operations_max * (1 + fault.size * TIMES)))

"""Upheavals: what strikes those who lead the metadata group, or vote in it, whoever that is by then.

leader gone       it crashes, and is away for longer than an election takes
leader still      it is paused for as long
leader apart      it is cut off from all others
majority stopped  more of the voters are stopped than may be, and all come back
voter wiped       one of them loses its disk, where that can be survived
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from tests.simulation.clockwork import Stream
from tests.simulation.losses import lose_store, may_lose
from tests.simulation.plan import BEGIN_S, Fault, Plan
from tests.simulation.widening import FIXED, slower

if TYPE_CHECKING:
    from tests.simulation.machine import Machine
    from tests.simulation.world import PlannedWorld

CHANCE = 0.18
KINDS = [
    ("leader gone", 2.0), ("leader still", 2.0), ("leader apart", 2.0), ("majority stopped", 2.0),
    ("voter wiped", 1.0),
]  # fmt: skip
UPHEAVALS = frozenset(kind for kind, _ in KINDS)
LEAST_S, MOST_S = 3.0, 6.0
AFTER_S = 3.0  # the clients go on for so long when it is over


def upheaval(plan: Plan, stream: Stream) -> Plan:
    """One, beside clients in no haste."""
    if plan.theme in FIXED:
        return plan
    kind = stream.weighted(KINDS)
    at, lasts = stream.uniform(BEGIN_S + 0.9, BEGIN_S + 3.0), stream.uniform(LEAST_S, MOST_S)
    fault = Fault(at, kind, 0, 0, lasts, stream.random())
    seconds = max(plan.seconds, at + lasts + AFTER_S)
    return replace(plan, seconds=seconds, faults=(*plan.faults, fault), clients=slower(plan.clients, 0.03))


class Upheavals:
    """Carries them out."""

    def __init__(self, world: "PlannedWorld") -> None:
        self._world = world

    def strike(self, machine: "Machine", fault: Fault) -> None:
        """It happens, if there is a group."""
        world, watch = self._world, self._world.log_watch
        leader = watch.leader
        if leader is None:
            return
        world.counts["upheaval"] += 1
        voting = [each for each in world.machines if watch.votes(each) and each.node is not None]
        if fault.kind == "voter wiped":
            voter = voting[int(fault.size * len(voting))]
            if may_lose(world, voter):
                world.strikes(fault)
                lose_store(world, voter, fault._replace(kind="wipe", lasts=0.1))
            return
        world.strikes(fault)
        if fault.kind == "leader gone":
            self._away(leader, fault)
        elif fault.kind == "leader still":
            leader.pause()
            world.clockwork.after(fault.lasts, leader.resume)
        elif fault.kind == "leader apart":
            ways = [(leader.index, each.index) for each in world.machines if each is not leader]
            world.network.cuts.update(ways)
            world.network.cuts.update((b, a) for a, b in ways)
            world.clockwork.after(fault.lasts, self._join, ways)
        else:
            for each in voting[: len(watch.voting()) // 2 + 1]:
                self._away(each, fault)

    def _away(self, machine: "Machine", fault: Fault) -> None:
        if machine.paused or fault.size < 0.5:
            machine.crash(fault.kind, noticed_s=0.01)
        else:
            machine.stop()
        self._world.clockwork.after(fault.lasts, machine.start)

    def _join(self, ways: list[tuple[int, int]]) -> None:
        network = self._world.network
        for way in [each for a, b in ways for each in ((a, b), (b, a))]:
            if network.cuts[way]:
                network.cuts[way] -= 1
                if not network.cuts[way]:
                    network.mend(*way)

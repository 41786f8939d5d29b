"""Overloads: small worlds in which more is offered than can be done.

Nodes have room for a few requests of clients at once, a slow disk or slow steps, and are flooded for a second
or two with several times what they can do. Everything that a client says is in frames, as on a socket. Who
asks, each kind a tenant of its own (`callers.py`):

    the crowd     the clients of the plan, a few requests a second
    own           keep to the window that a node names, and ask all the time
    hostile       four tenants that ask as long as a flood lasts, whatever they are told
    an operator   asks for the status of each node
    liars         whose envelopes do not fit what is in their frames

Between the last flood and the end there is time to recover. What must hold is watched by `refusals.py`.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from tests.simulation.callers import Hostile, Liar, Own, Prober
from tests.simulation.clockwork import Stream
from tests.simulation.ordeals import small
from tests.simulation.plan import BEGIN_S, ClientPlan, Fault, Plan

if TYPE_CHECKING:
    from tests.simulation.machine import Machine
    from tests.simulation.world import PlannedWorld

CHANCE = 0.05  # of all worlds
FLOODS = frozenset(("flood", "floods"))  # of one node, or of all
EVERY_S = 0.012  # between two lots of a flood
RECOVERY_S = 1.8  # in which nobody floods
BEGUN_S = 0.2  # after which one that is flooded is told so
TROUBLES = ("crash", "slow disk", "cut", "break", "stop")
CALM_S = 0.25  # after a flood a liar is let in, if anybody is
LOOP_S = 0.1  # of the crowd
OWN = 2
HOSTILE = 4


def overload(plan: Plan, stream: Stream) -> Plan:
    """One or two floods, perhaps with a fault in the midst of them, in place of a plain plan."""
    members = stream.pick((1, 3, 3, 3))
    plan = small(plan, "overload", members, stream, ("hot", "mixed", "lone", "brief"))
    turn_s, sync_s = stream.pick(((0.002, 0.06), (0.004, 0.02), (0.008, 0.005)))
    machines = tuple(each._replace(turn_s=turn_s, sync_s=sync_s) for each in plan.machines)
    faults, at = [], BEGIN_S + 0.4
    for _ in range(1 + stream.below(2)):
        kind, machine = stream.pick(("flood", "flood", "floods")), stream.below(members)
        lasts = stream.uniform(0.5, 0.9)
        faults.append(Fault(at, kind, machine, machine, lasts, stream.random()))
        if stream.chance(0.3):
            trouble, struck = stream.pick(TROUBLES), stream.below(members)
            faults.append(Fault(at + 0.3, trouble, struck, (struck + 1) % members, 0.3, stream.random()))
        at += lasts + 0.3
    clients = tuple(each._replace(loop_s=LOOP_S) for each in plan.clients)
    return replace(
        plan, replication=members, machines=machines, clients=clients, faults=tuple(faults), wide=True,
        seconds=at - 0.3 + RECOVERY_S, requests_max=stream.pick((4, 8, 16)),
    )  # fmt: skip


class Overload:
    """Has them come, and judges in the end how they were served. Does nothing in other worlds."""

    def __init__(self, world: "PlannedWorld") -> None:
        self._world = world
        self._own: list[Own] = []
        self._hostile: list[Hostile] = []
        self._stream = Stream(world.plan.seed, "floods")
        self._flooded: dict[int, tuple[float, float]] = {}  # when machines were first, and how long they are

    def begin(self) -> None:
        """Those that ask all the time."""
        world = self._world
        if not world.plan.requests_max:
            return
        workload = world.plan.clients[0].workload if world.plan.clients else "hot"
        first = len(world.plan.clients) + world.plan.operators + 30
        plan = ClientPlan(first, workload, True, 0.02, False, True)
        own = min(OWN, len(world.machines))  # each at a node of its own
        self._own = [Own(world, plan._replace(number=first + at)) for at in range(own)]
        self._hostile = [Hostile(world, plan._replace(number=first + OWN + at)) for at in range(HOSTILE)]
        for each in self._own:
            each.begin()
        Prober(world, first + OWN + HOSTILE).begin()

    def strike(self, machine: "Machine", fault: Fault) -> None:
        """A flood begins."""
        world = self._world
        world.strikes(fault, f" for {fault.lasts:.2f} s")
        machines = world.machines if fault.kind == "floods" else [machine]
        until = world.clockwork.now + fault.lasts
        for each in machines:
            since, _ = self._flooded.get(each.index, (world.clockwork.now, 0.0))
            self._flooded[each.index] = since, until
            Liar(world, each, fault.digit(5)).begin(self._stream.uniform(0.0, fault.lasts))
            Liar(world, each, fault.digit(6)).begin(fault.lasts + CALM_S)
        size = 4 + fault.digit(2)
        self._pour(machines, size, until, 0)

    def _pour(self, machines: "list[Machine]", size: int, until: float, turn: int) -> None:
        """A lot to one of them."""
        world = self._world
        if world.clockwork.now >= until or world.network.calm:
            return
        self._hostile[turn % HOSTILE].pour(machines[turn % len(machines)], size)
        world.clockwork.after(EVERY_S, self._pour, machines, size, until, turn + 1)

    def judge(self) -> None:
        """The floods are over for some time."""
        for own in self._own:
            for index, (since, until) in self._flooded.items():
                own.judge(self._world.machines[index], since + BEGUN_S, until)

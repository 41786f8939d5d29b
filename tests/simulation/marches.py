"""Marches: many members come and leave, one after the other, while clients ask and small misfortunes strike.

A member is added; once it holds its share, another is drained, the oldest as a rule; once that has left, its
machine is ended, and the next is added. So in the end nobody is there that was at the beginning. Every check
of other worlds holds all the way (`world.py`).
"""

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from basestore.topology.changes import AddMember, DrainMember
from tests.simulation.changers import Changer
from tests.simulation.clockwork import Stream
from tests.simulation.drawing import draw_plain
from tests.simulation.plan import BEGIN_S, ClientPlan, Fault, Plan
from tests.simulation.seats import LEFT

if TYPE_CHECKING:
    from tests.simulation.world import PlannedWorld

LOOK_S = 0.2
ASK_AGAIN_S = 3.0
STEP_S_MAX = 60.0  # within so long one comes and holds its share, or gives all up and leaves
MEMBERS = 3, 4, 4, 5
CLIENTS, LOOP_S = 3, 0.04
TROUBLE_S = 7.0  # between two misfortunes
TROUBLES = (
    ("crash", 3.0), ("stop", 1.0), ("cut", 2.0), ("cut one way", 1.0), ("break", 2.0), ("isolate", 1.0),
    ("pause", 1.0),
)  # fmt: skip
EACH_S = 6.0  # that misfortunes are drawn for


def march(seed: int, count: int) -> Plan:
    """A world in which so many come, and as many leave."""
    plan, stream = draw_plain(seed)[0], Stream(seed, "march")
    members = stream.pick(MEMBERS)
    machine = plan.machines[0]._replace(sync_s=0.004, turn_s=0.0005)
    machines = tuple(
        machine._replace(offset_ms=int(stream.uniform(-0.4, 0.4) * plan.drift_ms_max)) for _ in range(members)
    )
    workloads = "mixed", "first", "deletes"
    clients = tuple(
        ClientPlan(at, workloads[at % 3], False, LOOP_S, True, stream.chance(0.3)) for at in range(CLIENTS)
    )
    network = plan.network._replace(stream=True, loss=0.0, double=0.0, latency_s=0.0005)
    faults, at = [], BEGIN_S
    while (at := at + stream.exponential(TROUBLE_S)) < count * EACH_S:
        struck = stream.below(members)
        other = (struck + 1) % members
        faults.append(Fault(at, stream.weighted(TROUBLES), struck, other, 0.4, stream.random()))
    return replace(
        plan, theme="march", network=network, machines=machines, clients=clients, faults=tuple(faults),
        replication=3, partitions=4, durability="sync", seconds=math.inf, hasty=True, rounds=True, wide=True,
        operators=1, moves=True, changes=True, march=count,
    )  # fmt: skip


class March(Changer):
    """Of one world."""

    def __init__(self, world: "PlannedWorld", index: int) -> None:
        super().__init__(world, index)
        self._first = len(world.machines)
        self._asked_s = self._since_s = 0.0
        self._leaver: set[int] = set()  # the number of who is to leave
        self.left = 0

    def run(self) -> None:
        """Until all have come, and gone."""
        world, self._since_s = self.world, self.world.clockwork.now
        while self.left < world.plan.march:
            world.clockwork.run(world.clockwork.now + LOOK_S)
            for machine in world.roster.members:
                machine.start()  # what strikes one of those that were founded with may outlast its member
            if self._step():
                self._since_s, self._asked_s = world.clockwork.now, 0.0
            elif world.clockwork.now > self._since_s + STEP_S_MAX:
                world.blame("march", f"after {self.left} that left nothing goes on: {self._held}")
                return

    def _step(self) -> bool:
        """Ask for what is next, and see whether it has come to pass."""
        held, world = self._held, self.world
        if held is None or held.is_moving:
            return False
        if self._leaver and all(held.standing[each] == LEFT for each in self._leaver):
            self._leaver, self.left = set(), self.left + 1
            return True
        if self._leaver or len(world.machines) - self._first > self.left:
            newest = max(held.present)
            if not any(newest in seats.new for seats in held.seats):
                return False
            if not self._leaver:
                others = sorted(held.staying - {newest})
                self._leaver = {others[0] if self._stream.chance(0.7) else self._stream.pick(others)}
            self._ask_for(DrainMember(*self._leaver))
            return False
        name = f"n{len(world.machines) + 1}"
        self._ask_for(AddMember(name, f"127.0.0.1:{7400 + len(world.machines)}", "", 1, b""))
        return False

    def _ask_for(self, change: AddMember | DrainMember) -> None:
        now = self.world.clockwork.now
        if now >= self._asked_s:
            self._asked_s = now + ASK_AGAIN_S
            self.world.roster.asked |= self._leaver
            self._say(change, times=self._times())

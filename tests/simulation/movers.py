"""Movers: who has partitions move from member to member, and who strikes when they do.

A mover asks as governors do, at any node, for another balance, other numbers of replicas, for moves to be
cancelled, all or some, and for more or fewer at once. Where there is one the leader's plans are others than
the product makes: any members may be told to take a partition, up to all of its seats at once.

An ambush strikes when a stage of a move is decided: those who would learn of it are cut off, or those who
know, so that a bare quorum is left that does not; or one of those that leave falls just behind the end.

Members that come and go are asked for in `changers.py`.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from basestore.topology.changes import CancelMoves, Change, Rebalance, SetReplication, SetSetting
from basestore.topology.topology import Topology
from tests.simulation import crossings
from tests.simulation.clockwork import Stream
from tests.simulation.governors import Governor
from tests.simulation.losses import lose_store, may_lose
from tests.simulation.plan import Fault, MachinePlan, Plan
from tests.simulation.seats import FILL, JOINT, STILL, Seats
from tests.simulation.widening import FIXED

if TYPE_CHECKING:
    from tests.simulation.machine import Machine
    from tests.simulation.world import PlannedWorld

CHANCE = 0.65  # of worlds that are drawn at large
EVERY_S = 0.9
FIRST_S = 1.2
MOST = 30  # that one asks in a world
REGRET, REGRET_S = 0.2, 0.25  # of what was asked for so many are to be cancelled, about so much later
MEMBERS = (3, 4, 4, 4, 5, 5, 6)
REPLICAS_MAX = 5
STRIKES = 0.35  # of stages
SPARED = ("all moved", "all restored")  # kinds of faults: all stores, and so the log, go back at once


def moving(plan: Plan, stream: Stream) -> Plan:
    """Partitions move in it, among more members than there are replicas, mostly."""
    if plan.durability == "memory" or plan.theme in FIXED:
        return plan
    count = max(stream.pick(MEMBERS), len(plan.machines))
    more = tuple(
        MachinePlan(
            stream.pick((0.0005, 0.004, 0.02)), stream.pick((0.0001, 0.0005)),
            int(stream.uniform(-0.45, 0.45) * plan.drift_ms_max), 1 + stream.uniform(-1e-4, 1e-4),
        )
        for _ in range(count - len(plan.machines))
    )  # fmt: skip
    faults = tuple(fault for fault in plan.faults if fault.kind not in SPARED)
    seconds = max(plan.seconds, stream.uniform(6.0, 11.0))
    slower_s = stream.pick((0.005, 0.02))
    clients = tuple(client._replace(loop_s=client.loop_s + slower_s) for client in plan.clients)
    replicas = plan.replication if stream.chance(0.8) else stream.pick((2, 3))
    wide = replace(
        plan, machines=plan.machines + more, faults=faults, seconds=seconds, clients=clients, moves=True,
        replication=min(replicas, count), partitions=min(plan.partitions, 6),
    )  # fmt: skip
    return crossings.crossing(wide, stream) if stream.chance(crossings.CHANCE) else wide


def drawn_goals(seed: int, topology: Topology) -> dict[int, tuple[int, ...]]:
    """In place of the product's plan: whoever may hold partitions."""
    stream = Stream(seed, f"goals {topology.epoch}")
    staying = [member.number for member in topology.staying]
    if len(staying) < topology.replication:  # as the product's: too few of them are there
        return {}
    goals = {}
    for partition, seats in enumerate(topology.seats):
        change = stream.weighted(((0, 3.0), (1, 4.0), (2, 2.0), (3, 1.0), (len(seats.new), 1.5)))
        order = sorted(staying, key=lambda number: stream.random())
        kept = [number for number in order if number in seats.new]
        kept = kept[: max(0, min(len(kept), topology.replication) - change)]
        come = [number for number in order if number not in seats.new]
        rest = [number for number in order if number not in kept and number not in come]
        goal = (kept + come + rest)[: topology.replication]
        moves = change or not set(staying) >= set(seats.new)
        if (moves and set(goal) != set(seats.new)) or len(goal) != len(seats.new):
            goals[partition] = tuple(goal)
    return goals


class Mover(Governor):
    """One of them."""

    def __init__(self, world: "PlannedWorld", index: int) -> None:
        super().__init__(world, index)
        self._regrets = Stream(world.plan.seed, f"regrets of governor {index}")

    def begin(self) -> None:
        """Ask for something, unless the clients' time is over."""
        world = self.world
        if world.clockwork.now < world.plan.seconds and self._asked < MOST:
            every_s = crossings.EVERY_S if world.plan.theme == crossings.THEME else EVERY_S
            wait_s = FIRST_S if not self._asked else self._stream.exponential(every_s)
            world.clockwork.after(wait_s, self.ask_any)

    def ask_any(self) -> None:
        if self.world.clockwork.now >= self.world.plan.seconds:
            return
        if self._waits():
            self.begin()
            return
        self._asked += 1
        count = 1 if self._stream.chance(0.85) else 2
        for _ in range(count):
            machine = self._stream.pick(self.world.roster.members)
            again = self._stream.chance(0.3)
            change = self.next_change()
            if machine.node is None:
                continue
            if again and self._unknown:
                self._again(machine)
            else:
                self._ask_at(machine, change)
                self._perhaps_regret(change)
        self.begin()

    def _ask_at(self, machine: "Machine", change: Change) -> None:
        self.world.counts[f"moves: asked for {type(change).__name__}"] += 1
        self.change(machine, change)

    def _perhaps_regret(self, change: Change) -> None:
        """Moves that have only just begun are cancelled: before the first row is filled, or in the midst."""
        stream, world = self._regrets, self.world
        if not isinstance(change, CancelMoves) and stream.chance(REGRET):
            world.clockwork.after(stream.exponential(REGRET_S), lambda: self._cancel(stream))

    def _cancel(self, stream: Stream) -> None:
        machine = stream.pick(self.world.roster.members)
        if machine.node is not None and self.world.clockwork.now < self.world.plan.seconds:
            self._ask_at(machine, self._cancelling(stream))

    def _cancelling(self, stream: Stream) -> Change:
        under_way = [at for at, seats in enumerate(self.world.seating.all()) if seats.stage != STILL]
        some = [at for at in under_way if stream.chance(0.5)]
        return CancelMoves(some if stream.chance(0.6) else [])

    def _waits(self) -> bool:
        """Where one move follows the other it is left to end, mostly."""
        narrow = self.world.plan.theme == crossings.THEME
        moving = any(seats.stage != STILL for seats in self.world.seating.all())
        return narrow and moving and self._stream.chance(crossings.PATIENCE)

    def next_change(self) -> Change:
        stream, world = self._stream, self.world
        replicas = 5.0 if world.plan.theme == crossings.THEME else 2.0
        what = stream.weighted((("balance", 5.0), ("replicas", replicas), ("cancel", 1.2), ("bounds", 1.0)))
        if what == "replicas":
            return SetReplication(1 + stream.below(min(REPLICAS_MAX, len(world.machines))))
        if what == "cancel":
            return self._cancelling(stream)
        if what == "bounds":
            key = stream.pick(("moves.at_once", "moves.at_once_to", "moves.at_once_from"))
            return SetSetting(key, stream.pick(("1", "2", "3", "64", "none")))
        return Rebalance()


class Ambushes:
    """Of one world. `struck`: one of them has."""

    def __init__(self, world: "PlannedWorld") -> None:
        self._world = world
        self._stream = Stream(world.plan.seed, "ambushes of moves")
        self.struck = False

    def decided(self, partition: int, before: Seats, after: Seats) -> None:
        """A partition has other seats from now on, and hardly anybody knows."""
        world, stream = self._world, self._stream
        share = crossings.STRIKES if world.plan.theme == crossings.THEME else STRIKES
        strikes, how = stream.chance(share), stream.random()
        lasts, size = stream.uniform(0.1, 1.5), stream.random()
        if world.network.calm or world.clockwork.now > world.plan.seconds or not strikes:
            return
        world.clockwork.after(0.0, self._strike, before, after, how, lasts, size)

    def _strike(self, before: Seats, after: Seats, how: float, lasts: float, size: float) -> None:
        world, self.struck = self._world, True
        members = sorted(before.both)
        if after.stage == STILL and how < 0.45:  # one that leaves, or stays, or comes, falls
            struck = world.machines[members[int(size * len(members))]]
            if how < 0.2 and struck.node is not None and may_lose(world, struck):
                world.counts["moves: ambush, a store is lost behind the end"] += 1
                lose_store(world, struck, Fault(0.0, "wipe", struck.index, struck.index, lasts, 0.0))
            else:
                self._fall(struck, "behind the end", lasts, size)
        elif after.stage in (FILL, JOINT) and how < 0.2:
            self._fall(world.machines[members[int(size * len(members))]], "in a stage", lasts, size)
        elif after.stage == JOINT and how < 0.45:
            struck = world.machines[members[int(size * len(members))]]
            if struck.node is not None and may_lose(world, struck):
                world.counts["moves: ambush, a store is lost in joint"] += 1
                lose_store(world, struck, Fault(0.0, "wipe", struck.index, struck.index, lasts, 0.0))
        else:
            self._part(before, after, how, lasts, size)

    def _fall(self, machine: "Machine", when: str, lasts: float, size: float) -> None:
        if machine.node is not None:
            self._world.counts[f"moves: ambush, a member falls {when}"] += 1
            machine.crash("ambush of a move", noticed_s=0.002 if size < 0.5 else 0.5)
            self._world.clockwork.after(lasts * (0.1 if size < 0.3 else 1.0), machine.start)

    def _part(self, before: Seats, after: Seats, how: float, lasts: float, size: float) -> None:
        """A bare quorum of those that held it hears nobody else; the rest, or what of that may know."""
        world = self._world
        old = sorted(before.old, key=lambda each: (each in after.new, (each * 7 + int(size * 10)) % 5))
        apart = set(old[: len(old) // 2 + 1])
        if how > 0.8:  # or whoever leads, with those that come
            apart = set(before.new) - set(before.old) or apart
        others = {each.index for each in world.machines} - apart
        if not others:
            return
        world.counts["moves: ambush, a quorum is parted from the rest"] += 1
        ways = [way for a in apart for b in others for way in ((a, b), (b, a))]
        if 0.6 < how < 0.8:  # they are heard, and hear nothing
            ways = [(b, a) for a in apart for b in others]
        world.network.cuts.update(ways)
        world.clockwork.after(lasts, self._join, ways)

    def _join(self, ways: list[tuple[int, int]]) -> None:
        network = self._world.network
        for way in ways:
            if network.cuts[way]:
                network.cuts[way] -= 1
                if not network.cuts[way]:
                    network.mend(*way)

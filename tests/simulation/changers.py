"""Changers: who has members come and go, beside all that a mover asks for.

    join        a member is added: its machine starts a while later (`roster.py`)
    drain       one gives up what it holds, and leaves; perhaps that is cancelled
    die         a machine is gone for good: it is removed, or a member that holds nothing takes its place
    away        one is down for long and removed; it comes back
    lie         one that is up is said to be dead: that is to be refused
    replace     a member that holds nothing takes the place of one that is up
    stop        a majority of those that vote is down for some seconds

Some of it is asked twice, or at once at two nodes. What only the dead held is lost: of stores no more die at
once than can be survived (`losses.py`), so that is what was acknowledged at ONE or ANY, and nothing else.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from basestore.topology.changes import (
    AddMember,
    Change,
    DrainMember,
    Rebalance,
    RemoveMember,
    ReplaceMember,
    SetReplication,
)
from tests.simulation.clockwork import Stream
from tests.simulation.falls import Falls
from tests.simulation.moved import LATE_S
from tests.simulation.movers import REPLICAS_MAX, Mover
from tests.simulation.operators import Operator, keeps_late
from tests.simulation.plan import Plan
from tests.simulation.seats import DEAD, GOING, Held

if TYPE_CHECKING:
    from tests.simulation.machine import Machine
    from tests.simulation.world import PlannedWorld

CHANCE = 0.5  # of worlds in which partitions move
MACHINES_MAX = 9  # that are members at once
REPLICAS = (1, 2, 2, 3, 3, 3, 3, 4, 5)
AGAIN_S = 0.7  # until what has not been decided is asked for again
SETTLE_S_MAX = 60.0
WHAT = (
    ("join", 5.0), ("drain", 3.0), ("die", 1.5), ("away", 1.2), ("lie", 0.7), ("replace", 1.5),
    ("stop", 0.6), ("move", 5.0),
)  # fmt: skip
REUSED = 0.4  # of names: that of one that has left, with its address


def changing(plan: Plan, stream: Stream) -> Plan:
    """Members come and go in it, where partitions move."""
    if not plan.moves or plan.rest is not None:
        return plan
    count = len(plan.machines)
    seconds = max(plan.seconds, stream.uniform(9.0, 16.0))
    clients = tuple(client._replace(loop_s=client.loop_s + 0.02) for client in plan.clients[:8])
    replicas = plan.replication if stream.chance(0.5) else min(count, stream.pick(REPLICAS))
    return replace(plan, changes=True, seconds=seconds, clients=clients, replication=replicas)


class Changer(Mover):
    """One of them."""

    def __init__(self, world: "PlannedWorld", index: int) -> None:
        super().__init__(world, index)
        self._stream = Stream(world.plan.seed, "changer")
        self._names = len(world.machines)
        self._said = 0
        self.falls = Falls(world, self)

    @property
    def _held(self) -> Held | None:
        log = self.world.log_watch.log
        return log.held(log.last) if log is not None else None

    def ask_any(self) -> None:
        held, what = self._held, self._stream.weighted(WHAT)
        if what == "move" or held is None or self.world.clockwork.now >= self.world.plan.seconds:
            super().ask_any()
            return
        self._asked += 1
        {
            "join": self._join, "drain": self._drain, "die": self._die, "away": self._away, "lie": self._lie,
            "replace": self._replace_by, "stop": self._stop_majority,
        }[what](held)  # fmt: skip
        self.begin()

    def next_change(self) -> Change:
        change = super().next_change()
        held = self._held
        if isinstance(change, SetReplication) and held is not None:
            most = min(REPLICAS_MAX, len(held.staying) - len(self.world.roster.bodies))
            change = SetReplication(min(change.replicas, max(1, most)))
        return change

    # --- what is asked -----------------------------------------------------------------------

    def _say(self, change: Change, *, times: int = 1) -> None:
        """At a node that runs, or at several at once."""
        running = [each for each in self.world.machines if each.node is not None]
        self._said += 1
        one = ((self.index + 1) << 32) - self._said if self._stream.chance(0.4) else 0
        for _ in range(times if running else 0):
            self.world.counts[f"members: asked for {type(change).__name__}"] += 1
            self.world.counts["members: asked at once under one id"] += one > 0 and times > 1
            self.change(self._stream.pick(running), change, one)

    def _times(self) -> int:
        return 2 if self._stream.chance(0.15) else 1

    def _pick(self, held: Held) -> "Machine | None":
        """A member that stays so far, and runs."""
        able = [each for each in self._members(held.staying) if each.node is not None]
        leader = self.world.log_watch.leader
        if leader in able and self._stream.chance(0.25):
            return leader
        return self._stream.pick(able) if able else None

    def _members(self, numbers: set[int]) -> "list[Machine]":
        world = self.world
        return [world.machines[world.index_of[number]] for number in sorted(numbers)]

    def _join(self, held: Held) -> None:
        if len(held.present) >= MACHINES_MAX:
            return
        world, stream = self.world, self._stream
        name = f"n{self._names + 1}"
        address = f"127.0.0.1:{7400 + self._names}"
        used = {held.called[number] for number in held.present}
        free = [called for number, called in sorted(held.called.items()) if called not in used]
        if free and stream.chance(REUSED):
            name, address = stream.pick(free)
            world.counts["members: a name used anew"] += 1
        else:
            self._names += 1
        self._say(AddMember(name, address, "", 1, b""), times=self._times())

    def _drain(self, held: Held) -> None:
        machine = self._pick(held)
        if machine is None or len(held.staying) - len(self.world.roster.bodies) <= held.replicas:
            return
        number = machine.config.member.number
        self.world.roster.asked.add(number)
        self._say(DrainMember(number), times=self._times())

    def _die(self, held: Held) -> None:
        machine = self._pick(held)
        if machine is not None and self.world.roster.may_die(machine):
            self.world.roster.die(machine)
            self.bury(machine, self._stream.uniform(0.1, 2.0))

    def bury(self, machine: "Machine", wait_s: float) -> None:
        """It is dead: after a while it is called so."""
        self.world.clockwork.after(wait_s, self._remove, machine)

    def _away(self, held: Held) -> None:
        machine = self._pick(held)
        if machine is not None and self.world.roster.may_die(machine):
            self.world.roster.go_away(machine, self._stream.uniform(1.0, 7.0))
            self.world.clockwork.after(self._stream.uniform(0.1, 1.0), self._remove, machine)

    def _remove(self, machine: "Machine") -> None:
        """It is called dead, until that is decided."""
        held, number = self._held, machine.config.member.number
        gone = not (machine.ended or machine.away) or machine.gone
        if held is None or gone or held.standing[number] == DEAD:
            return
        self.world.roster.asked.add(number)
        by = self._empty(held)
        if by is not None and self._stream.chance(0.5):
            self._say(ReplaceMember(number, by, True), times=self._times())
        else:
            self._say(RemoveMember(number), times=self._times())
        self.world.clockwork.after(self._stream.exponential(AGAIN_S), self._remove, machine)

    def _empty(self, held: Held) -> int | None:
        """A member that holds nothing, and is there."""
        busy = {each for seats in held.seats for each in seats.both}
        busy |= {each for goal in held.plan.values() for each in goal}
        able = [each for each in self._members(held.staying - busy) if each.node is not None]
        return self._stream.pick(able).config.member.number if able else None

    def _replace_by(self, held: Held) -> None:
        machine, by = self._pick(held), self._empty(held)
        if machine is None or by is None:
            self._join(held)
            return
        number = machine.config.member.number
        if number != by and len(held.staying) - len(self.world.roster.bodies) > held.replicas:
            self.world.roster.asked.add(number)
            self._say(ReplaceMember(number, by, False), times=self._times())

    def _lie(self, held: Held) -> None:
        """Of one that its node hears: else that could not know better."""
        machine = self._pick(held)
        if machine is None or not self.world.roster.may_die(machine):
            return
        able = [each for each in self.world.roster.members if self._hears(each, machine)]
        if not able:
            return
        self.world.counts["members: said to be dead, and is not"] += 1
        number, before = machine.config.member.number, machine.life
        self.world.roster.asked.add(number)  # it may fall just now
        by = self._empty(held)
        dead = RemoveMember(number) if by is None else ReplaceMember(number, by, True)

        asked, was = self._stream.pick(able), held.standing[number]

        def told(decided: bool) -> None:
            heard, now = before == machine.life and self._hears(asked, machine), self._held
            self.world.counts["members: refused, for it is not dead"] += heard and not decided
            if heard and decided and now is not None and was != DEAD == now.standing[number]:
                text = f"n{machine.index + 1} is called dead at n{asked.index + 1}, which hears it"
                self.world.blame("members", text)

        self.change(asked, dead, after=told)

    @staticmethod
    def _hears(each: "Machine", other: "Machine") -> bool:
        if each.node is None or each.paused:
            return False
        place = each.place(other.index)
        return each is other or (place is not None and each.node.peers.hears(place, each.instant()))

    def _stop_majority(self, held: Held) -> None:
        """More of those that vote than may be, while members are to change."""
        world, stream = self.world, self._stream
        voting = [each for each in world.machines if world.log_watch.votes(each) and each.node is not None]
        world.counts["members: a majority of those that vote is stopped"] += bool(voting)
        lasts = stream.uniform(1.0, 4.0)
        for each in voting[: len(voting) // 2 + 1]:
            each.crash("a majority stops", noticed_s=0.01)
            world.clockwork.after(lasts, each.start)

    # --- in the end --------------------------------------------------------------------------

    def settle(self) -> bool:
        """All is healed: machines that are gone for good are removed by now, or can be. Whether they are:
        else nothing can become well, for others wait for them."""
        world = self.world
        world.clockwork.run(world.clockwork.now + LATE_S)
        until = world.clockwork.now + SETTLE_S_MAX
        while world.clockwork.now < until and (self._bodies or self._going):
            self._settle_some()
            world.clockwork.run(world.clockwork.now + 1.0)
        if not (self._bodies or self._going):
            return True
        if world.log_watch.blind:
            world.counts["spared: members do not leave, for nothing is promised of the log any more"] += 1
        elif world.log_watch.majority_lost:
            world.counts["spared: members do not leave, for a majority of the voters is lost"] += 1
        elif not world.log_watch.majority_speaks:
            world.counts["spared: members do not leave, for most voters wait for who is dead to recover"] += 1
        elif world.clocks_misled:
            world.counts["spared: members do not leave, while most clocks may be wrong"] += 1
        elif any(map(self.is_lost, world.machines)):
            world.counts["spared: members do not leave, for one knows only members that have left"] += 1
        else:
            names = [f"n{each.index + 1}" for each in self._bodies], sorted(self._going)
            world.blame("members", f"{names} do not leave {SETTLE_S_MAX} s after all is healed: {self._held}")
        return False

    def is_lost(self, machine: "Machine") -> bool:
        """Whether its store is new, and nobody is there of those that its file names: an operator has to name
        others there."""
        there = {each.config.member.number for each in self.world.machines if each.node and not each.gone}
        named = {each.number for each in machine.config.cluster.members} - {machine.config.member.number}
        starting = machine.node is not None and machine.node.state == "starting"
        return starting and there.isdisjoint(named)

    @property
    def _bodies(self) -> "list[Machine]":
        return [each for each in self.world.machines if each.ended and not each.gone]

    @property
    def _going(self) -> set[int]:
        held = self._held
        return set() if held is None else {each for each, of in held.standing.items() if of in GOING}

    def _settle_some(self) -> None:
        held, world = self._held, self.world
        for machine in self._members(self._going):
            if machine.node is not None and keeps_late(machine):  # until that is decided it does not leave
                world.counts["members: late hints decided, of one that is to leave"] += 1
                Operator(world, len(world.plan.clients) + 22).replay(machine, lambda: None)
        if held is not None and self._going and not (held.unplanned or held.plan or held.in_motion):
            self._say(Rebalance())  # that was cancelled: who is to leave stays so
        for machine in self._bodies:
            number = machine.config.member.number
            if held is not None and held.standing[number] != DEAD:
                self.world.roster.asked.add(number)
                if len(held.staying - {number}) < held.replicas:
                    self._say(SetReplication(max(1, held.replicas - 1)))
                self._say(RemoveMember(number))

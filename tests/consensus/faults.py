"""Faults: what befalls a simulated group, what is asked of it, and what its members tell each other.

All at random, but with an eye for who has most to lose: leaders, and those that have not synced.
"""

from collections.abc import Callable

from basestore.consensus.voters import Voter, majority
from tests.consensus.machines import Machine
from tests.consensus.world import World


class Faults:
    """Of one world, until `until`."""

    def __init__(self, world: World, until: float) -> None:
        self.world, self.until = world, until
        r = world.random
        self._asks_s, self._target = r.choice((0.03, 0.2)), r.choice((1, 2, 3, 3, 5))
        self._moves = r.choice((0.0, 0.3, 1.0))
        self._again(self._ask, self._asks_s)
        self._again(self._keep_voters, r.choice((0.3, 2.0)))
        self._again(self._cut, r.choice((1.0, 3.0, 10.0)))
        self._again(self._crash, r.choice((0.5, 3.0, 10.0)))
        self._again(self._pause, r.choice((3.0, 10.0, 40.0)))
        self._again(self._wipe, r.choice((5.0, 20.0)))
        self._again(self._strike, r.choice((2.0, 6.0, 20.0)))
        self._fresh = r.choice((0.0, 0.3, 0.6))
        world.elected = self._strike_fresh
        self._again(self._gossip, 0.2, forever=True)

    def _again(self, act: Callable[[], None], every_s: float, *, forever: bool = False) -> None:
        def go() -> None:
            act()
            if forever or world.now < self.until:
                world.at(world.now + world.random.expovariate(1 / every_s), go)

        world = self.world
        world.at(world.random.expovariate(1 / every_s), go)

    def _machines(self) -> list[Machine]:
        return list(self.world.machines.values())

    def _leaders(self) -> list[Machine]:
        return [machine for machine in self._machines() if machine.up and machine.raft.leads]

    def _victim(self) -> Machine:
        """A leader rather, or one that has something to lose."""
        r, machines = self.world.random, self._machines()
        worse = (
            self._leaders() if r.random() < 0.5 else [each for each in machines if each.up and each.loose()]
        )
        return r.choice(worse or machines)

    # --- what is asked ---------------------------------------------------------------------------

    def _ask(self) -> None:
        """Of all that take themselves for a leader: when their pause is over, if they are paused."""
        world, r = self.world, self.world.random
        for machine in self._leaders():
            world.at(world.now, self._request(machine, r.random()), machine, machine.birth)

    def _request(self, machine: Machine, what: float) -> Callable[[], None]:
        def go() -> None:
            if what < 0.4:
                machine.raft.propose(world.counts["values"].to_bytes(4))
                world.counts["values"] += 1
            else:
                world.read(machine, lease=what < 0.7)

        world = self.world
        return go

    def _keep_voters(self) -> None:
        for machine in self._leaders():
            if self.world.now >= machine.paused_until:
                self._keep(machine)
                self.world.step(machine)

    def _keep(self, machine: Machine) -> None:
        """One voter more, or less: towards as many as are wanted, away from those that are lost."""
        world, r, raft = self.world, self.world.random, machine.raft
        voters = raft.voters
        lost = [voter for voter in sorted(voters) if not world.alive(voter)]
        others = [each.me for each in self._machines() if each.me not in voters]
        raft.feed(others, world.clock(machine))
        ready = [other for other in others if raft.caught_up(other)]
        if lost and len(voters) > 1:
            world.change(machine, voters - {lost[0]})
        elif ready and len(voters) < self._target:
            world.change(machine, voters | {r.choice(ready)})
        elif len(voters) > self._target or (r.random() < self._moves and len(voters) > 1):
            gone = machine.me if r.random() < 0.4 and machine.me in voters else r.choice(sorted(voters))
            world.change(machine, voters - {gone})
        elif ready and r.random() < self._moves:
            more = {r.choice(ready)}
            if r.random() < 0.4:  # two in one change: that is refused
                more |= {r.choice(sorted(voters))} if r.random() < 0.5 else {r.choice(ready)}
            world.change(machine, voters ^ more)

    # --- what is told ----------------------------------------------------------------------------

    def _gossip(self) -> None:
        """What is decided, from anyone to anyone."""
        world, r, machines = self.world, self.world.random, self._machines()
        for source in machines:
            target = r.choice(machines)
            if source is target or not source.up or world.now < source.paused_until:
                continue
            log, after = source.raft.log, target.raft.commit
            if r.random() < 0.3:
                after = r.randint(max(0, source.used - 20), source.used)
            if after < log.base.last or r.random() < 0.1:
                world.deliver(source, target, self._installs(target, source))
            elif after < source.used:
                world.deliver(source, target, self._decides(target, source, after))

    def _installs(self, target: Machine, source: Machine) -> Callable[[], None]:
        base = source.raft.log.base
        return lambda: target.raft.install(base, self.world.clock(target))

    def _decides(self, target: Machine, source: Machine, after: int) -> Callable[[], None]:
        count = min(source.used - after, self.world.random.choice((1, 3, 300)))
        entries = [source.raft.log.entry(index) for index in range(after + 1, after + 1 + count)]
        return lambda: target.raft.decide(after + 1, entries, self.world.clock(target))

    # --- what befalls it -------------------------------------------------------------------------

    def _cut(self) -> None:
        world, r = self.world, self.world.random
        numbers, what = list(world.machines), r.random()
        if what < 0.4 or world.now >= self.until:
            world.cut = set()
        elif what < 0.6:
            one = self._victim().me.number
            spared = r.choice(numbers) if r.random() < 0.4 else one
            pairs = [(one, other) for other in numbers if other not in (one, spared)]
            world.cut = {*pairs, *((b, a) for a, b in pairs)} if r.random() < 0.7 else set(pairs)
        elif what < 0.8:
            here = {number for number in numbers if r.random() < 0.5}
            world.cut = {(a, b) for a in numbers for b in numbers if (a in here) != (b in here)}
        else:
            world.cut = {(a, b) for a in numbers for b in numbers if r.random() < 0.3}

    def _strike(self) -> None:
        """What hurts most: a leader is cut off, when it just has been elected perhaps, or but for one; what
        others have not synced is lost."""
        world, r = self.world, self.world.random
        leaders = self._leaders()
        if leaders and world.now < self.until:
            one, numbers = r.choice(leaders).me.number, list(world.machines)
            spared = r.choice(numbers) if r.random() < 0.3 else one
            pairs = [(one, other) for other in numbers if other not in (one, spared)]
            world.cut = {*pairs, *((b, a) for a, b in pairs)}
            if r.random() < 0.5:
                self._fall([each for each in self._machines() if each.me.number != one and each.loose()])

    def _strike_fresh(self, machine: Machine) -> None:
        if self.world.random.random() < self._fresh:
            self.world.at(self.world.now, self._strike)

    def _fall(self, machines: list[Machine]) -> None:
        world = self.world
        for machine in machines:
            if machine.up and world.now < self.until:
                world.crash(machine)
                world.at(world.now + world.random.choice((0.01, 0.5, 3.0, 10.0)), self._back(machine))

    def _crash(self) -> None:
        self._fall(self._machines() if self.world.random.random() < 0.05 else [self._victim()])

    def _back(self, machine: Machine) -> Callable[[], None]:
        def go() -> None:
            if not machine.up and self.world.machines[machine.me.number] is machine:
                self.world.start(machine)

        return go

    def _pause(self) -> None:
        world, machine = self.world, self._victim()
        if machine.up and world.now < self.until:
            world.pause(machine, world.random.choice((0.5, 2.0, 5.0, 30.0)))

    def _wipe(self) -> None:
        """Only where all that is decided, and all that may come to be, stays with enough."""
        world, machine = self.world, self._victim()
        known = [voters for voters, index in world.proposed.items() if index > len(world.committed)]
        known += [world.configurations[-1], *(each.raft.voters for each in self._machines())]
        if world.now < self.until and all(self._spares(voters, machine.me) for voters in known):
            world.counts["wipes"] += 1
            machine.up = False
            machine.birth += 1
            world.born(machine.me.number)

    def _spares(self, voters: frozenset[Voter], gone: Voter) -> bool:
        left = sum(voter != gone and self.world.alive(voter) for voter in voters)
        return left >= majority(voters)

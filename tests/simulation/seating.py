"""Seating: which machines hold a partition by what is decided, and which of their stores count for it.

A machine that is given a partition counts only once its disk has known of that, and has no note any more that
it lacks something. One that has lost its store, and had counted, is excused until it counts again: what it
had may be gone. Members are machines' indices here. In worlds without moves all that was founded stands, and
every store counts, or is excused.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import cbor2

from tests.simulation import stored as s
from tests.simulation.seats import DEAD, MEMBER, STILL, Seats

if TYPE_CHECKING:
    from tests.simulation.decided import Decided
    from tests.simulation.machine import Machine
    from tests.simulation.world import PlannedWorld

GROUP, USED = b"mgroup", 8
LATELY_S = 5.0


class Seating:
    """Of one world."""

    def __init__(self, world: "PlannedWorld") -> None:
        self._world = world
        self._founded = [Seats(0, STILL, each, each) for each in world.placement.replicas]
        self._now = list(self._founded)
        self._before: list[list[tuple[float, Seats]]] = [[] for _ in self._now]  # until when they were so
        self._came = [dict.fromkeys(each, 0) for each in world.placement.replicas]  # since which epoch
        self._log: Decided | None = None
        self._known: dict[bytes, int] = {}  # what a stored form of the group says to be in use
        # By machine that has lost its store, of the partitions that it counted for: when it had come.
        self._lost: dict[int, dict[int, int]] = {}
        self._doubted: dict[
            tuple[int, int], int
        ] = {}  # by machine and partition: the same of who only doubts

    # --- what is decided ---------------------------------------------------------------------

    def take(self, log: "Decided") -> list[tuple[int, Seats, Seats]]:
        """Another entry is decided. The partitions that have other seats by it, and which those were."""
        self._log = log
        held, changed = log.held(log.last).seats, []
        if held is log.held(log.last - 1).seats:
            return []
        for partition, seats in enumerate(held):
            was = self._now[partition]
            if seats.since != was.since:
                now = self._now[partition] = seats.named(self._world.index_of)
                self._before[partition].append((self._world.clockwork.now, was))
                came = self._came[partition]
                self._came[partition] = {each: came.get(each, seats.since) for each in now.both}
                changed.append((partition, was, now))
        return changed

    def now(self, partition: int) -> Seats:
        """By the last entry that is decided."""
        return self._now[partition]

    def all(self) -> list[Seats]:
        """The same of all partitions."""
        return self._now

    def at(self, epoch: int, partition: int) -> Seats:
        """By what was decided up to an epoch."""
        if self._log is None or epoch <= 0:
            return self._founded[partition]
        return self._log.held(epoch).seats[partition].named(self._world.index_of)

    def away(self, epoch: int, partition: int) -> set[int]:
        """Who is no acceptor of registers there by what was decided up to an epoch: barred, or dead."""
        if self._log is None:
            return set()
        held = self._log.held(max(0, epoch))
        dead = {number for number, standing in held.standing.items() if standing == DEAD}
        return {self._world.index_of[each] for each in dead | held.barred.get(partition, frozenset())}

    def known_at(self, epoch: int) -> Mapping[int, str]:
        """How members stand, by number, as was decided up to an epoch; those that have left among them."""
        if self._log is None:
            return dict.fromkeys(self._world.numbers, MEMBER)
        return self._log.held(max(0, epoch)).standing

    def between(self, first: int, last: int, partition: int) -> list[Seats]:
        """All that it went through, the last first."""
        found = {
            seats.since: seats for epoch in range(first, last + 1) for seats in (self.at(epoch, partition),)
        }
        return sorted(found.values(), reverse=True) or [self._now[partition]]

    def lately(self, partition: int) -> set[int]:
        """Who holds it, or did so lately."""
        since_s = self._world.clockwork.now - LATELY_S
        former = [seats.both for until_s, seats in self._before[partition] if until_s >= since_s]
        return {each for members in (self._now[partition].both, *former) for each in members}

    def held_by(self, machine: int) -> list[int]:
        """The partitions that it holds, or is to."""
        return [partition for partition, seats in enumerate(self._now) if machine in seats.both]

    def came(self, partition: int, machine: int) -> int | None:
        """Since which epoch it has a seat, without a break; None if it has none."""
        return self._came[partition].get(machine)

    def stayed(self, partition: int, machine: int, epoch: int) -> bool:
        """Whether it has had a seat at each moment since then."""
        came = self._came[partition].get(machine)
        return came is not None and came <= epoch

    @property
    def last(self) -> int:
        """The last epoch that is decided."""
        return self._log.last if self._log is not None else 0

    # --- who counts --------------------------------------------------------------------------

    def used(self, machine: "Machine") -> int:
        """Up to which epoch a disk knows the log to be decided."""
        stored = machine.disk.durable(GROUP)
        if stored is None:
            return -1
        if stored not in self._known:
            self._known[stored] = cbor2.loads(stored)[USED]
        return self._known[stored]

    def fit(self, machine: "Machine", partition: int) -> bool:
        """Whether its store counts for a partition, unless it has lost something."""
        if not self._world.plan.moves:
            return True
        key, came = s.unfit_key(partition), self._came[partition].get(machine.index)
        if came is None or machine.disk.get(key) is not None or machine.disk.durable(key) is not None:
            return False
        return not came or self.used(machine) >= came

    def holders(self, partition: int) -> Iterator["Machine"]:
        """The machines that hold it, and count."""
        for index in self._now[partition].both:
            machine = self._world.machines[index]
            if self.fit(machine, partition):
                yield machine

    def has_kept(self, machine: "Machine", partition: int) -> bool:
        """Whether its store, which does not count, has all that it had: it has been away for so long that it
        cannot tell whether it kept its seat, and it did."""
        came = self._came[partition].get(machine.index)
        return came is not None and self._doubted.get((machine.index, partition)) == came

    def may_doubt(self, partition: int) -> bool:
        """Whether any store of a partition has ever been in such a doubt: too many such at once may say that
        something is lost."""
        return any(at == partition for _, at in self._doubted)

    def doubts(self, machine: "Machine", partition: int) -> None:
        """That it does not count is about to be noted."""
        came = self._came[partition].get(machine.index)
        # What is impaired only because a record is spoilt has all the others.
        lost = machine.impaired and machine.replaced
        if came is not None and self.fit(machine, partition) and not lost:
            self._doubted[machine.index, partition] = came
            self._world.doubted = True
            self._world.counts["moves: a member doubts that it kept its seat"] += 1

    def takes_anew(self, machine: "Machine", row: bytes, record: bytes) -> bool:
        """Whether its store doubts what it had of a partition, and takes a tombstone, or what expires, that
        it may have purged: from one that has not done so yet, and until it counts."""
        if not self._world.plan.moves or not record or not s.due_of(record):
            return False
        lacks = machine.disk.get(s.unfit_key(s.partition_of(row))) is not None
        self._world.counts["spared: what is purged comes to who doubts what it had"] += lacks
        return lacks

    def excused(self, machine: "Machine", partition: int) -> bool:
        """Whether its store has lost what it may have held of a partition, and has not made up for it."""
        if not self._world.plan.moves:
            return machine.impaired
        came = self._lost.get(machine.index, {}).get(partition)
        if came is not None and came == self._came[partition].get(machine.index):
            return machine.impaired or not self.fit(machine, partition)
        return machine.impaired and not machine.replaced

    def losing(self, machine: "Machine") -> None:
        """Its store is about to be lost."""
        lost = self._lost.setdefault(machine.index, {})
        for partition in self.held_by(machine.index) if self._world.plan.moves else ():
            came = self._came[partition].get(machine.index)
            if came is not None and (self.fit(machine, partition) or lost.get(partition) == came):
                lost[partition] = came

    def recovered(self, machine: "Machine", partition: int) -> None:
        """It counts for a partition again."""
        self._lost.get(machine.index, {}).pop(partition, None)

"""Leader: who changes the topology, by what members have told.

It binds the store of each member, takes in those that are barred, and moves a seat now and then. What it
proposes is decided a while later, and others, of a leader before it, may be decided between.
"""

from functools import partial
from typing import TYPE_CHECKING

from tests.model.registers.node import Node, Report
from tests.model.registers.topology import (
    Bind,
    Change,
    Entry,
    Members,
    Seat,
    Stage,
    TakeIn,
    apply,
    quorum,
)

if TYPE_CHECKING:
    from tests.model.registers.world import World


class Leader:
    def __init__(self, world: "World") -> None:
        self.world = world
        self.reports: dict[int, Report] = {}
        self.proposed: set[Change] = set()

    def hear(self, node: Node) -> None:
        self.reports[node.number] = node.report()

    def act(self) -> None:
        world, entry = self.world, self.world.log[-1]
        for node in world.nodes:
            if node.up and node.number not in world.network.dumb and world.random.random() < 0.5:
                told = partial(self.reports.__setitem__, node.number, node.report())
                world.after(world.network.delay_us(), told)
                if entry.stores.get(node.number) != node.store.id:
                    self.propose(Bind(node.number, node.store.id))
        taken = frozenset(each for each in entry.barred if self.is_complete(each, entry))
        if taken:
            self.propose(TakeIn(taken, entry.since))
        seat = self.next_seat(entry)
        if seat is not None:
            self.propose(seat)

    def propose(self, change: Change) -> None:
        """Twice the same is not."""
        if change in self.proposed:
            return
        self.proposed.add(change)
        delay = int(self.world.random.expovariate(1 / self.world.deciding_us)) + 500
        self.world.after(delay, lambda: self.decided(change))

    def decided(self, change: Change) -> None:
        self.proposed.discard(change)
        entry = apply(self.world.log[-1], change)
        if entry is not None:
            self.world.append(entry, change)

    # What members have told.

    def report(self, member: int, entry: Entry) -> Report | None:
        """What it told under this entry, of the store that is its own by it."""
        found = self.reports.get(member)
        if found is None or (found.store, found.since) != (entry.stores.get(member), entry.since):
            return None
        return found

    def is_complete(self, member: int, entry: Entry) -> bool:
        """It holds all that was chosen under earlier entries, or all that is left."""
        report = self.report(member, entry)
        if report is None or not report.fit:
            return False
        return entry.covered(self.sources(member, report, entry))

    def sources(self, member: int, report: Report, entry: Entry) -> Members:
        """Itself among them, once it has finished and counts."""
        itself = {member} if report.finished and member not in entry.barred else set()
        return report.met | itself

    def next_seat(self, entry: Entry) -> Seat | None:
        chance, since = self.world.random, entry.since
        if entry.stage is Stage.STILL:
            spare = [each.number for each in self.world.nodes if each.up and each.number not in entry.old]
            if not spare or not self.world.lively or chance.random() > self.world.moving:
                return None
            goes, comes = self.world.pick(sorted(entry.old)), chance.choice(spare)
            return Seat(Stage.FILL, entry.old, entry.old - {goes} | {comes}, since)
        if self.world.lively and chance.random() < 0.01:
            return Seat(Stage.STILL, entry.old, entry.old, since)
        if entry.stage is Stage.FILL:
            reports = [self.report(each, entry) for each in entry.new]
            fit = sum(report is not None and report.fit for report in reports)
            ready = fit >= (quorum(entry.new) if self.world.lively else len(entry.new))
            return Seat(Stage.JOINT, entry.old, entry.new, since) if ready else None
        return Seat(Stage.STILL, entry.new, entry.new, since) if self.is_over(entry) else None

    def is_over(self, entry: Entry) -> bool:
        """A quorum of the new ones is complete, and whoever leaves is among those that they met."""
        complete = {each for each in entry.new if self.is_complete(each, entry)}
        reports = [self.report(each, entry) for each in complete]
        handed = frozenset().union(*(report.met for report in reports if report is not None))
        leaving = entry.old - entry.new - entry.barred
        return len(complete) >= quorum(entry.new) and leaving <= handed

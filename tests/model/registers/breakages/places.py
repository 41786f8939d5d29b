"""Who has a place among the acceptors, and when."""

from typing import Any

from tests.model.patches import Breakage, constant
from tests.model.registers import topology
from tests.model.registers.breakages.patching import around, closed_only, patch
from tests.model.registers.exchange import Exchanges, Half
from tests.model.registers.leader import Leader
from tests.model.registers.messages import Finished
from tests.model.registers.node import Node
from tests.model.registers.store import Store
from tests.model.registers.topology import Entry, Seat, Stage, quorum


def counts_anyhow(self: Node) -> bool:
    return self.number in self.entry.acceptors


def counts_bound(self: Node) -> bool:
    """Barred or not."""
    return self.number in self.entry.acceptors and self.entry.stores.get(self.number) == self.store.id


def barred_complete(is_complete: Any) -> Any:
    def made(self: Leader, member: int, entry: Entry) -> bool:
        return member in entry.barred or is_complete(self, member, entry)

    return made


def one_covers(self: Entry, met: Any) -> bool:
    left = self.old - self.barred
    return bool(left & met) or not left


def anyhow_finished(met: Any) -> Any:
    return lambda self, entry, finished=True: met(self, entry, finished=False)


def heard_by_now(certify: Any) -> Any:
    def made(self: Exchanges, half: Half) -> None:
        word = Finished(self.node.entry.stores.get(half.peer, -1), self.node.store.since)
        certify(self, half._replace(finished=self.has_heard(half.peer, word)))

    return made


def leaving_unasked(self: Leader, entry: Entry) -> bool:
    return sum(self.is_complete(each, entry) for each in entry.new) >= quorum(entry.new)


def one_complete(self: Leader, entry: Entry) -> bool:
    return any(self.is_complete(each, entry) for each in entry.new)


def without_joint(next_seat: Any) -> Any:
    def made(self: Leader, entry: Entry) -> Any:
        seat = next_seat(self, entry)
        joint = isinstance(seat, Seat) and seat.stage is Stage.JOINT
        return Seat(Stage.STILL, entry.new, entry.new, entry.since) if joint else seat

    return made


def finished_at_once(self: Node, member: int) -> None:
    self.send(member, Finished(self.store.id, self.told))


def returns_as_it_was(self: Store, entry: Entry, member: int) -> None:
    self.epoch, self.since = entry.epoch, entry.since
    seated = member in entry.members and entry.stores.get(member) == self.id
    if seated and not self.seated:
        self.tenure = entry.tenure[member]
        self.fit = self.tenure == 0 or self.closed > 0
    self.seated = seated


def finished_by_since(self: Store) -> bool:
    return all(row.since >= self.since for _, row in self.unlearned())


PLACES = [
    Breakage("a wiped store counts at once", [patch(Node, "counts", counts_anyhow)]),
    Breakage("who returns is as it was", [patch(Store, "enter", returns_as_it_was)]),
    Breakage("a barred store counts", [patch(Node, "counts", counts_bound)]),
    Breakage("taken in without having met anybody", [around(Leader, "is_complete", barred_complete)]),
    Breakage("to have met one is enough", [patch(Entry, "covered", one_covers)]),
    Breakage("sources need not have finished", [around(Store, "met", anyhow_finished)]),
    Breakage("what is accepted again is finished", [patch(Store, "has_finished", finished_by_since)]),
    Breakage("finished is told before it is so", [constant(Store, "has_finished", True)]),
    Breakage("finished is told before it is durable", [patch(Node, "say_finished", finished_at_once)]),
    Breakage("finished is heard after the exchange began", [around(Exchanges, "certify", heard_by_now)]),
    Breakage("the floor is not inherited", [patch(Store, "inherit", closed_only)]),
    Breakage("changes are applied under any entry", [constant(topology, "is_outdated", False)]),
    Breakage(
        "finishing needs a quorum though too many are barred",
        [patch(Entry, "enough_to_finish", lambda self, have: self.enough(have))],
    ),
    Breakage("who leaves is not asked", [patch(Leader, "is_over", leaving_unasked)]),
    Breakage("one that is complete ends a move", [patch(Leader, "is_over", one_complete)]),
    Breakage("no joint", [around(Leader, "next_seat", without_joint)]),
    Breakage(
        "another store is bound as the first is", [patch(topology, "barring", lambda entry, member: entry)]
    ),
]

"""Adoption: what changes on a node in the step in which another topology comes into use.

Every room that goes by members, buckets or seats is told, all in one step, before anything else is said or
done: so what a node says on a link behind an At, it says as one that goes by that epoch in all things. So are
its clients: what they are answered behind a Renewed goes by what that says. Members come first, for the rest
speaks of them (`Peers.adopt`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from basestore.anti_entropy.maintenance import Maintenance
from basestore.anti_entropy.recovery import Recovery
from basestore.cluster.outbox import Outbox, weight
from basestore.cluster.peers import Peers
from basestore.config import ClusterConfig
from basestore.instant import Instant
from basestore.membership.metadata_group import Coming, MetadataGroup
from basestore.protocol.codec import Message
from basestore.protocol.handshake import Goodbye, MemberRow, Renewed, rows_of_buckets
from basestore.protocol.limits import SERIAL_SINCE, WIRE_MAX
from basestore.repair.moving import acceptors_left, left_of
from basestore.repair.seats import Seats
from basestore.replica.admission import Admission
from basestore.replica.dropped_rows import DroppedRows, GivenUpRows
from basestore.replica.group_commit import GroupCommit
from basestore.replica.replica import Replica
from basestore.topology.buckets import Buckets
from basestore.topology.changes import Standing
from basestore.topology.topology import MemberEntry, Topology

# Versions of the wire that know Renewed: without rules that are serial, and with them.
RENEWED: Final = range(10, SERIAL_SINCE), range(SERIAL_SINCE, WIRE_MAX + 1)
_BY_CLOCK: Final = frozenset((Standing.MEMBER, Standing.DRAINING))  # whose clocks count
_UNKNOWN: Final = -1  # the index of nobody
LEFT: Final = Goodbye("this node has left the cluster; ask another one")
Tell = Callable[[Message, range, int], None]


class Adoption:
    """Of one node."""

    def __init__(
        self, cluster: ClusterConfig, buckets: Buckets, replica: Replica, maintenance: Maintenance,
        recovery: Recovery, peers: Peers, admission: Admission,
    ) -> None:  # fmt: skip
        self._buckets, self._replica, self._maintenance = buckets, replica, maintenance
        self._recovery, self._peers, self._admission = recovery, peers, admission
        self._seats: tuple[Seats, ...] = ()  # as they were adopted last, in members' numbers
        self._foreseen: tuple[Seats, ...] = ()  # as they will be, as far as that is noted
        self._dead = frozenset[int]()  # likewise, by number
        self._few: Mapping[int, int] = {}  # likewise, of which partitions too few acceptors are left
        self._members: tuple[MemberEntry, ...] = ()  # as they were adopted last
        members = [MemberRow(each.number, each.name, each.address) for each in cluster.members]
        self._welcome = self._told = Renewed(members, rows_of_buckets(buckets.rows()))
        self._partitions = cluster.partitions
        self._tell: Tell = lambda message, versions, size: None

    def begin(
        self, group: MetadataGroup, group_commit: GroupCommit, tell: Tell,
        hand_on: Callable[[Iterable[int]], None], now: Instant,
    ) -> None:  # fmt: skip
        """Go by the topology that the store knows, and by those that come. `tell`: says something to all
        clients that speak one of these versions; `hand_on`: these partitions have other seats, so hints of
        them may be for others."""
        self._tell, self._hand_on = tell, hand_on
        self._dropped = DroppedRows(group_commit, self._replica, self._buckets)
        self._given_up = GivenUpRows(group_commit, self._replica, self._partitions)
        self._maintenance.dropped, self._maintenance.given_up = self._dropped, self._given_up
        self._group, group.adopt, group.foresee = group, self.adopt, self.foresee
        if group.topology is not None:
            self._foreseen, self._dead = group.topology.seats, group.topology.dead
            self._few = _few_acceptors(group.topology)
            self.adopt(Coming(group.topology, skipped=False), now)

    def adopt(self, coming: Coming, now: Instant) -> None:
        """From now on this node goes by it: tell the others, then `Admission.begin_anew`."""
        topology, changes = coming.topology, self._buckets.changes
        if topology.members is not self._members:
            present, stayed = {each.number: each.name for each in topology.present}, not self._peers.left
            self._peers.adopt(present, topology.formers, now)
            if stayed and self._peers.left:  # so those that know others go there
                self._tell(LEFT, range(WIRE_MAX + 1), weight(LEFT))
        self._buckets.adopt(topology)
        changed = self._changed(self._seats, topology)
        self._admission.adopt(topology.epoch, changed)
        self._peers.counts_by_clock({e.number for e in topology.members if e.standing in _BY_CLOCK})
        dead = frozenset(self._peers.index_of[number] for number in topology.dead)
        if changed or (topology.dropped_since, dead) != self._recovery.known:
            unsure = self._unsure(self._seats, coming, changed)
            self._recovery.adopt(changed, topology.dropped_since, now, dead=dead, unsure=unsure)
        if changed or topology.members is not self._members:
            self._bind(topology)
        if changed or changes != self._buckets.changes:
            self._replica.see_to_buckets()
            self._dropped.look()
            self._hand_on(changed)
            self._given_up.look(each for each in changed if each not in self._replica.summaries.of)
        self._seats = self._foreseen = topology.seats  # what is behind it is foreseen anew once it is noted
        if topology.members is not self._members or changes != self._buckets.changes:
            self._members = topology.members
            told = self._as_told(topology)
            if told != self._told:
                self._told = told
                for versions in RENEWED:
                    said = told.heard_in(versions[0])
                    self._tell(said, versions, weight(said))

    def _bind(self, topology: Topology) -> None:
        """Which members are acceptors of what this node holds."""
        index_of, me = self._peers.index_of, self._peers.number_of[self._peers.me]
        stores = {index_of[each.number]: each.store for each in topology.present if each.store}
        barred = {at: {index_of[number] for number in of} for at, of in topology.barred.items()}
        tenures = {at: of[me] for at, of in topology.came.items() if me in of}
        self._recovery.seating.bind(stores, barred, tenures)

    def _as_told(self, topology: Topology) -> Renewed:
        """As clients are told of it."""
        members = [MemberRow(each.number, each.name, each.address) for each in topology.present]
        return Renewed(members, rows_of_buckets(self._buckets.rows()))

    def greet(self, client: Outbox) -> Outbox:
        """It has connected, perhaps since what it was welcomed with has changed."""
        if self._told != self._welcome and any(client.version in versions for versions in RENEWED):
            said = self._told.heard_in(client.version)
            client.put(said, weight(said), 0)
        return client

    def foresee(self, coming: Coming, now: Instant) -> None:
        """It is about to be, behind those that were foreseen before: in the batch in which that is stored."""
        had, self._foreseen = self._foreseen, coming.topology.seats
        lived, self._dead = self._dead, coming.topology.dead
        few, self._few = self._few, _few_acceptors(coming.topology)
        if notes := self._was_there(coming.topology):
            if self._dead - lived:  # of entries that are skipped those tell who did not
                self._recovery.note_dead(now)
            self._note_few(coming.topology, few, now)
        if changed := self._changed(had, coming.topology):
            me = self._peers.number_of[self._peers.me]
            given_up = {each for each in changed if each < len(had) and me not in had[each].both}
            left = _left_of(had, coming, changed) if notes else {}
            unsure = self._unsure(had, coming, changed)
            self._recovery.foresee(changed, now, given_up, left, unsure=unsure)

    def _was_there(self, topology: Topology) -> bool:
        """Whether this store is the one that its member was bound to then, if to any. One that has come
        later reads all this anew: what was lost then the others tell, and whether that is accepted."""
        member = topology.member(self._peers.number_of[self._peers.me])
        return member is None or member.store in (b"", self._group.voter)

    def _note_few(self, topology: Topology, had: Mapping[int, int], now: Instant) -> None:
        """What was agreed on in partitions of which fewer acceptors are left than before, too few, may be
        lost from now on. These note it, or, where nobody is left, all: nobody is taken in before."""
        me, lost = self._peers.number_of[self._peers.me], dict[int, int]()
        for at, left in self._few.items():
            barred = topology.barred[at] if left else ()
            if left < had.get(at, left + 1) and me in topology.seats[at].both and me not in barred:
                lost[at] = left
        self._recovery.note_lost(lost, now)

    def _unsure(self, had: Sequence[Seats], coming: Coming, changed: Iterable[int]) -> set[int]:
        """In which of these partitions this node, which had a seat when it knew them last, may have had none
        in between: it has come since."""
        if not coming.skipped:
            return set()
        me = self._peers.number_of[self._peers.me]
        founded = Seats.still(())
        knew = {each: had[each] if each < len(had) else founded for each in changed}
        return {at for at, seats in knew.items() if coming.topology.came.get(at, {}).get(me, 0) > seats.since}

    def _changed(self, had: Sequence[Seats], topology: Topology) -> Mapping[int, Seats]:
        """The partitions that have other seats by it, in members' indices."""
        if topology.seats is had:
            return {}
        # One that is not known yet comes before these are adopted: then it has an index.
        names = {each.number: self._peers.index_of.get(each.number, _UNKNOWN) for each in topology.members}
        return {
            partition: seats.named(names)
            for partition, seats in enumerate(topology.seats)
            if partition >= len(had) or had[partition].since != seats.since
        }


def _few_acceptors(topology: Topology) -> dict[int, int]:
    """The partitions that so few acceptors are left of that what they had agreed on may be lost."""
    found = {
        at: acceptors_left(topology.seats[at], topology.dead, barred)
        for at, barred in topology.barred.items()
    }
    return {at: left for at, left in found.items() if left is not None}


def _left_of(had: Sequence[Seats], coming: Coming, changed: Iterable[int]) -> dict[int, int]:
    """Of these partitions those of which a change ends without some who held them, and how many were left. Of
    what was skipped nobody can tell whether who has left was dead."""
    topology, dead = coming.topology, coming.topology.dead
    if coming.skipped:
        dead |= {each.number for each in topology.members if each.standing is Standing.LEFT}
    ends = {each: _ended(had[each], topology.seats[each], coming) for each in changed if each < len(had)}
    counts = {each: left_of(had[each], now, dead) for each, now in ends.items()}
    return {each: count for each, count in counts.items() if count is not None}


def _ended(was: Seats, now: Seats, coming: Coming) -> Seats:
    """Where it came to be still before the next change, which led to that, and was skipped with it."""
    return Seats.still(now.old) if coming.skipped and now.old == was.new else now

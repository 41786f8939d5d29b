"""Adoption: what changes on a node in the step in which another topology comes into use.

Every room that goes by buckets or seats is told, all in one step, before anything else is said or done: so
what a node says on a link behind an At, it says as one that goes by that epoch in all things. So are its
clients: what they are answered behind a Renewed goes by what that says.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from basestore.anti_entropy.maintenance import Maintenance
from basestore.anti_entropy.recovery import Recovery
from basestore.cluster.outbox import Outbox, weight
from basestore.cluster.peers import Peers
from basestore.config import ClusterConfig
from basestore.instant import Instant
from basestore.membership.metadata_group import Coming, MetadataGroup
from basestore.protocol.codec import Message
from basestore.protocol.handshake import MemberRow, Renewed, rows_of_buckets
from basestore.repair.seats import Seats
from basestore.replica.admission import Admission
from basestore.replica.dropped_rows import DroppedRows
from basestore.replica.group_commit import GroupCommit
from basestore.replica.replica import Replica
from basestore.topology.buckets import Buckets
from basestore.topology.entries import Standing
from basestore.topology.topology import MemberEntry, Topology

SINCE: Final = 10  # version of the wire
Tell = Callable[[Message, int, int], None]


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
        self._members: tuple[MemberEntry, ...] = ()  # as they were adopted last
        members = [MemberRow(each.number, each.name, each.address) for each in cluster.members]
        self._welcome = self._told = Renewed(members, rows_of_buckets(buckets.rows()))
        self._tell: Tell = lambda message, since, size: None

    def begin(self, group: MetadataGroup, group_commit: GroupCommit, tell: Tell, now: Instant) -> None:
        """Go by the topology that the store knows, and by those that come. `tell`: says something to all
        clients that speak such a version."""
        self._tell = tell
        self._dropped = DroppedRows(group_commit, self._replica, self._buckets)
        self._maintenance.dropped = self._dropped
        group.adopt, group.foresee = self.adopt, self.foresee
        if group.topology is not None:
            self._foreseen = group.topology.seats
            self.adopt(Coming(group.topology, skipped=False), now)

    def adopt(self, coming: Coming, now: Instant) -> None:
        """From now on this node goes by it: tell the others, then `Admission.begin_anew`."""
        topology, changes = coming.topology, self._buckets.changes
        self._buckets.adopt(topology)
        changed = self._changed(self._seats, topology)
        self._admission.adopt(topology.epoch, changed)
        if changed or topology.dropped_since != self._recovery.dropped_since:
            self._recovery.adopt(changed, topology.dropped_since, now, skipped=coming.skipped)
        if changed or changes != self._buckets.changes:
            self._replica.see_to_buckets()
            self._dropped.look()
        self._seats = self._foreseen = topology.seats  # what is behind it is foreseen anew once it is noted
        if topology.members is not self._members or changes != self._buckets.changes:
            self._members = topology.members
            told = self._as_told(topology)
            if told != self._told:
                self._told = told
                self._tell(told, SINCE, weight(told))

    def _as_told(self, topology: Topology) -> Renewed:
        """As clients are told of it."""
        members = [
            MemberRow(each.number, each.name, each.address)
            for each in topology.members
            if each.standing is not Standing.LEFT
        ]
        return Renewed(members, rows_of_buckets(self._buckets.rows()))

    def greet(self, client: Outbox) -> Outbox:
        """It has connected, perhaps since what it was welcomed with has changed."""
        if self._told != self._welcome and client.version >= SINCE:
            client.put(self._told, weight(self._told), 0)
        return client

    def foresee(self, coming: Coming) -> None:
        """It is about to be, behind those that were foreseen before: in the batch in which that is stored."""
        had, self._foreseen = self._foreseen, coming.topology.seats
        if changed := self._changed(had, coming.topology):
            me = self._peers.number_of[self._peers.me]
            given_up = {each for each in changed if each < len(had) and me not in had[each].both}
            self._recovery.foresee(changed, given_up, skipped=coming.skipped)

    def _changed(self, had: Sequence[Seats], topology: Topology) -> Mapping[int, Seats]:
        """The partitions that have other seats by it, in members' indices."""
        if topology.seats is had:
            return {}
        return {
            partition: seats.named(self._peers.index_of)
            for partition, seats in enumerate(topology.seats)
            if partition >= len(had) or had[partition].since != seats.since
        }

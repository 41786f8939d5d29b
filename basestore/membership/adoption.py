"""Adoption: what changes on a node in the step in which another topology comes into use.

Every room that goes by buckets or seats is told, all in one step, before anything else is said or done: so
what a node says on a link behind an At, it says as one that goes by that epoch in all things.
"""

from collections.abc import Mapping

from basestore.anti_entropy.maintenance import Maintenance
from basestore.anti_entropy.recovery import Recovery
from basestore.cluster.peers import Peers
from basestore.instant import Instant
from basestore.membership.metadata_group import MetadataGroup
from basestore.repair.seats import Seats
from basestore.replica.admission import Admission
from basestore.replica.dropped_rows import DroppedRows
from basestore.replica.group_commit import GroupCommit
from basestore.replica.replica import Replica
from basestore.topology.buckets import Buckets
from basestore.topology.topology import Topology


class Adoption:
    """Of one node."""

    def __init__(
        self, buckets: Buckets, replica: Replica, maintenance: Maintenance, recovery: Recovery, peers: Peers,
        admission: Admission,
    ) -> None:  # fmt: skip
        self._buckets, self._replica, self._maintenance = buckets, replica, maintenance
        self._recovery, self._peers, self._admission = recovery, peers, admission
        self._seats: tuple[Seats, ...] = ()  # as they were adopted last, in members' numbers

    def begin(self, group: MetadataGroup, group_commit: GroupCommit, now: Instant) -> None:
        """Go by the topology that the store knows, and by those that come."""
        self._dropped = DroppedRows(group_commit, self._replica, self._buckets)
        self._maintenance.dropped = self._dropped
        group.adopt, group.foresee = self.adopt, self.foresee
        if group.topology is not None:
            self.adopt(group.topology, now)

    def adopt(self, topology: Topology, now: Instant) -> None:
        """From now on this node goes by it: tell the others, then `Admission.begin_anew`."""
        changes = self._buckets.changes
        self._buckets.adopt(topology)
        changed = self._changed(topology)
        self._admission.adopt(topology.epoch, changed)
        if changed or topology.dropped_since != self._recovery.dropped_since:
            self._recovery.adopt(changed, topology.dropped_since, now)
        if changed or changes != self._buckets.changes:
            self._replica.see_to_buckets()
            self._dropped.look()
        self._seats = topology.seats

    def foresee(self, topology: Topology) -> None:
        """It is about to be: in the batch in which that is stored."""
        if changed := self._changed(topology):
            self._recovery.foresee(changed)

    def _changed(self, topology: Topology) -> Mapping[int, Seats]:
        """The partitions that have other seats by it, in members' indices."""
        if topology.seats is self._seats:
            return {}
        had = self._seats
        return {
            partition: seats.named(self._peers.index_of)
            for partition, seats in enumerate(topology.seats)
            if partition >= len(had) or had[partition].since != seats.since
        }

"""Forgetting: a bucket that was dropped is struck off the topology's list once no member holds any of it.

The list is for people, who are told since when a bucket is no more, and for replicas, which refuse to read
what may still be on their disks. It has a bound, so it must end. Each member says in its heartbeats up to
which drop nothing is left on its disk, row or hint; the leader strikes off what all of them are past:

    "carts" is dropped at epoch 9
    n1 and n2 have purged it, n3 is down         it stays on the list, however long that takes
    n3 is back, and says that it is past 9       ForgetDropped, by whoever leads then
    n3 comes with an empty store instead         that has said nothing: it stays, until it follows the log

Whoever is not heard on a link that stands may hold anything. What was heard on another link may have been
of a store that is no more. A store that comes back from a backup later finds what it holds by its labels,
not by the list (`replica/dropped_rows.py`): to strike off loses nothing.
"""

from collections.abc import Callable
from typing import Final

from basestore.cluster.outbox import Outbox
from basestore.cluster.peers import Peers
from basestore.instant import Instant
from basestore.membership.metadata_group import MetadataGroup
from basestore.topology.changes import ForgetDropped
from basestore.topology.entries import UNNAMED, Suggestion, encode_entry
from basestore.topology.topology import MemberEntry

LOOK_S: Final = 1.0


class Forgetting:
    """Of one node, whether it leads or not."""

    def __init__(self, group: MetadataGroup, peers: Peers) -> None:
        self._group, self._peers = group, peers
        self._told: dict[int, tuple[Outbox, int]] = {}  # by member, on which link, and up to which drop
        self._own: tuple[Callable[[], int], ...] = ()
        self._due_s = 0.0

    def watch(self, *own: Callable[[], int]) -> None:
        """Each says up to which drop something of this node is rid of what was dropped, durably."""
        self._own = own

    @property
    def purged(self) -> int:
        """What this node's heartbeat says."""
        return min((upto() for upto in self._own), default=0)

    def hear(self, member: int, outbox: Outbox, purged: int) -> None:
        """What a member's heartbeat says, on this link."""
        self._told[member] = outbox, purged

    def tick(self, now: Instant) -> None:
        """Strike off what nobody holds any more, one entry at a time."""
        raft, topology = self._group.raft, self._group.topology
        if topology is None or not topology.dropped or raft is None or now.monotonic < self._due_s:
            return
        self._due_s = now.monotonic + LOOK_S
        # Nothing is under way: so what is to be struck off is on the list, and nobody has asked for it yet.
        if not raft.ready or not self._group.epoch == raft.commit == raft.log.last:
            return
        present = topology.present
        upto = min(map(self._purged_of, present), default=0)
        numbers = [each.number for each in topology.dropped if each.since <= upto]
        if numbers:
            me = self._group.me.number
            raft.propose(encode_entry(Suggestion(ForgetDropped(numbers), UNNAMED, me, now.wall_ms)))

    def _purged_of(self, member: MemberEntry) -> int:
        index = self._peers.index_of.get(member.number)
        if index == self._peers.me:
            return self.purged
        if index is None or index not in self._told:
            return 0
        outbox, purged = self._told[index]
        peer = self._peers.all[index]
        return purged if peer.linked and peer.outbox is outbox else 0

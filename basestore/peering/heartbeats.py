"""Heartbeats: what a node tells all others of itself, twice a second, and what it makes of theirs.

Owns what stands in a Ping, and who is told what came in one: links, clocks and suspicion are of
`cluster/peers.py`, the rest is of the rooms that know it.
"""

from collections.abc import Callable

from basestore.anti_entropy.birth import Birth
from basestore.anti_entropy.closed_stamps import ClosedStamps
from basestore.cluster.feature_level import FeatureLevel
from basestore.cluster.outbox import Outbox
from basestore.cluster.peers import Peers
from basestore.instant import Instant
from basestore.membership.membership import Membership
from basestore.protocol.heartbeats import Ping
from basestore.repair.clock import HybridClock
from basestore.replica.group_commit import GroupCommit
from basestore.replica.identity import StoreIdentity


class Heartbeats:
    """Of one node. `brownout`: how much it leaves out just now."""

    def __init__(
        self,
        identity: StoreIdentity,
        peers: Peers,
        clock: HybridClock,
        birth: Birth,
        closed_stamps: ClosedStamps,
        feature_level: FeatureLevel,
        group_commit: GroupCommit,
    ) -> None:
        self._identity, self._peers, self._clock = identity, peers, clock
        self._birth, self._closed_stamps, self._feature_level = birth, closed_stamps, feature_level
        self._group_commit = group_commit
        self.alone: Callable[[], list[int]] = list  # what is kept as the only copies, as in Ping
        self.brownout = 0
        self.membership: Membership

    def make(self, now: Instant) -> Ping:
        """What is to be told now."""
        commit, peers = self._group_commit, self._peers
        return Ping(
            int(now.monotonic * 1e6), now.wall_ms, self._identity.counts, commit.generation,
            commit.durable_sequence, self.alone(), peers.disk_behind[peers.me], self._clock.ahead_ms,
            *self._birth.told, *self._feature_level.told, self.brownout,
            *self.membership.leader.told(now), self.membership.forgetting.purged,
        )  # fmt: skip

    def hear(self, member: int, outbox: Outbox, message: Ping, now: Instant) -> None:
        """A member's; ProtocolError where one of the two has been left behind."""
        peers, name = self._peers, self._peers.all[member].name
        self._feature_level.hear(name, message)
        peers.ping(member, message, now)
        self._birth.hear(member, message)
        self._clock.go_on_from(message.ahead_ms if peers.clock.vouched else 0)
        self._identity.hear_sequence(name, message.generation, message.sequence)
        self._closed_stamps.hear_only_copies(member, message.only_copies, now)
        self.membership.leader.hear(member, message.term, message.leader, now)
        self.membership.forgetting.hear(member, outbox, message.purged)

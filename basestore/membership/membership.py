"""Membership: this node's share in what the cluster is: the metadata group, and all who follow it.

    metadata_group   raft's host: the log, and the topology in use
    following        At, Lacking, Base: what is decided comes to all members, and epochs go with links
    leading          founds the group, and keeps its voters
    asking           changes and reads, from whichever node
    leader_watch     whom to ask
    forgetting       what was dropped is struck off the list once nobody holds any of it
    newcomer         whether nothing was ever given to this member

Puts these together, and passes on what happens. Of the room's other files `topology_requests` is the
clients' door, `group_log` keeps the log's rows, `adoption` has all rooms go by an epoch, `lineage` and
`rebuilding` are for a group that is put in another's place.
"""

from collections.abc import Callable
from typing import Any, Final

from basestore.cluster.feature_level import FeatureLevel
from basestore.cluster.outbox import Outbox
from basestore.cluster.peers import Peers
from basestore.config import NodeConfig
from basestore.instant import Instant
from basestore.membership.asking import Asking
from basestore.membership.following import Following
from basestore.membership.forgetting import Forgetting
from basestore.membership.group_log import GroupLog
from basestore.membership.leader_watch import LeaderWatch
from basestore.membership.leading import Leading
from basestore.membership.metadata_group import MetadataGroup
from basestore.membership.newcomer import Newcomer
from basestore.protocol.membership import OF_RAFT
from basestore.replica.identity import StoreIdentity
from basestore.topology.changes import Standing

SHOWN_MAX: Final = 3  # members that are named
Handler = Callable[[int, Outbox, Any, Instant], None]


class Membership:
    """Of one node."""

    def __init__(
        self, config: NodeConfig, log: GroupLog, identity: StoreIdentity, feature_level: FeatureLevel,
        peers: Peers, seed: bytes, now: Instant,
    ) -> None:  # fmt: skip
        """`seed`: of this opening of the store, never used again."""
        self._group_commit, self._peers, self._identity = log.group_commit, peers, identity
        self.group = group = MetadataGroup(config, log, identity, peers, seed, now)
        self.following = Following(group, peers, feature_level, lasting=config.engine != "memory")
        self.leading = Leading(config, group, self.following, peers, identity, seed, now)
        self.begin_anew: Callable[[Instant], None] = lambda now: None  # once all links say an epoch, or one
        # is heard of that changes nothing here
        self.leader = LeaderWatch(group, peers, self.following)
        self.forgetting = Forgetting(group, peers)
        self.asking = Asking(group, peers, self.leader, int.from_bytes(seed[:4]) << 16)
        self.newcomer = Newcomer(group, identity, self.asking)
        self.handlers: dict[type, Handler] = {
            **dict.fromkeys(OF_RAFT, self._hear),
            **{kind: self._stirring(hear) for kind, hear in self.following.handlers.items()},
            **{kind: self._stirring(hear) for kind, hear in self.asking.handlers.items()},
        }

    def acceptor_of(self, member: int) -> bytes:
        """By which id a member accepts what registers are to hold, as far as it is known: that by which it
        votes. It is another once what was synced may be gone: not where a store was only killed."""
        if member != self._peers.me:
            return self.group.voters_of.get(member, b"")
        return self.group.voter if self.group.is_itself else b""

    def _stirring(self, hear: Handler) -> Handler:
        """The next step has something to do once this is heard."""

        def stir(member: int, outbox: Outbox, message: Any, now: Instant) -> None:
            self.group.stirred = True
            hear(member, outbox, message, now)

        return stir

    def _hear(self, member: int, outbox: Outbox, message: Any, now: Instant) -> None:
        self.group.hear(member, message, now)

    def tick(self, now: Instant) -> None:
        self.group.stirred = True
        if not self._group_commit.stalled:  # all this stages more
            self.group.tick(now)
            self.following.tick(now)
            self.leading.tick(now)
        self.forgetting.tick(now)
        self.asking.tick(now)
        self.newcomer.tick(now)

    def closed(self) -> str:
        """Why this node does nothing for clients, and whom to ask; empty if it does. Where there is a log its
        file does not say who holds what, unless it was there when that was founded: then its store counts."""
        peers, topology = self._peers, self.group.topology
        if peers.left:
            me = self.group.me.number
            others = [each for each in topology.present if each.number != me] if topology is not None else []
            ask = ", ".join(f"{each.name} at {each.address}" for each in others[:SHOWN_MAX])
            return (
                f"this node has left the cluster, and serves nothing any more; nothing was done. Ask "
                f"{ask or 'another'}"
            )
        if topology is not None or self._identity.counts or not self.following.lacks():
            return ""
        knowing = ", ".join(peers.all[each].name for each in self.following.told)
        return (
            f"this node does not know yet what the cluster is; nothing was done. Try again in a moment, or "
            f"ask {knowing}"
        )

    def leaving(self) -> bool:
        """Whether this member is to leave, or has left, and holds nothing any more: then it leaves once it
        keeps no write for others alone, and must take no more of those."""
        topology, number = self.group.topology, self.group.me.number
        mine = None if topology is None else topology.member(number)
        if topology is None or mine is None or mine.standing in (Standing.JOINING, Standing.MEMBER):
            return False
        return all(number not in seats.both for seats in topology.seats)

    def step(self, now: Instant) -> None:
        """Before the batch of a step is stored."""
        if self.group.start_over(now):
            self.following.tell()
        elif not self.group.stirred and self.asking.at_rest:
            return
        epoch, heard_epoch = self.group.epoch, self._peers.heard_epoch
        self.group.step(now)
        if self.group.epoch != epoch:
            self.following.tell()
        if (self.group.epoch, self._peers.heard_epoch) != (epoch, heard_epoch):
            self.begin_anew(now)
        if not self.asking.at_rest:
            self.asking.step(now)

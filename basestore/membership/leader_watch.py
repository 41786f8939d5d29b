"""Leader watch: who leads the metadata group, as far as this node can tell, and how long ago that was heard.

A voter hears its leader. All others go by what voters say in their heartbeats; of these the one of the latest
term counts. It is only where to ask: whether somebody leads indeed, the answer tells.
"""

from typing import Final, NamedTuple

from basestore.cluster.peers import Peers
from basestore.consensus.leadership import QUORUM_S
from basestore.instant import Instant
from basestore.membership.metadata_group import MetadataGroup

NOBODY: Final = 0


class _Heard(NamedTuple):
    term: int
    leader: int
    heard_s: float


class LeaderWatch:
    """Of one node."""

    def __init__(self, group: MetadataGroup, peers: Peers) -> None:
        self._group, self._peers = group, peers
        self._told: dict[int, _Heard] = {}

    def hear(self, member: int, term: int, leader: int, now: Instant) -> None:
        """What a member's heartbeat says: the leader's number, plus one, or NOBODY."""
        if leader != NOBODY:
            self._told[member] = _Heard(term, leader - 1, now.monotonic)

    def told(self, now: Instant) -> tuple[int, int]:
        """What this node's heartbeat says: a term, and the leader's number, plus one, as a voter hears it."""
        raft = self._group.raft
        if raft is None or not raft.votes or raft.leader is None:
            return 0, NOBODY
        if not raft.leads and now.monotonic - raft.heard_s > QUORUM_S:
            return raft.term, NOBODY
        return raft.term, raft.leader.number + 1

    def number(self, now: Instant) -> int | None:
        """The leader's number; None if none is heard of."""
        heard = self._latest(now)
        return heard.leader if heard is not None and now.monotonic - heard.heard_s <= QUORUM_S else None

    def member(self, now: Instant) -> int | None:
        """The same, by its index."""
        number = self.number(now)
        return self._peers.index_of.get(number) if number is not None else None

    def term(self, now: Instant) -> int:
        """The latest that this node has heard of, with a leader or, as a voter, without."""
        raft, heard = self._group.raft, self._latest(now)
        return max(raft.term if raft is not None else 0, heard.term if heard is not None else 0)

    def heard_ms(self, now: Instant) -> int:
        """How long ago a leader was heard of; -1: never, since this node was started."""
        heard = self._latest(now)
        return -1 if heard is None else max(0, int((now.monotonic - heard.heard_s) * 1e3))

    def _latest(self, now: Instant) -> _Heard | None:
        raft, heard = self._group.raft, list(self._told.values())
        if raft is not None and raft.leader is not None:
            heard_s = now.monotonic if raft.leads else raft.heard_s
            heard.append(_Heard(raft.term, raft.leader.number, heard_s))
        return max(heard, default=None)

"""Birth: the stamp up to which a cluster's stores cannot say what was written, for they did not exist.

A store that is found nowhere looks like the first of all: when every member has lost its disk, the next start
is that of a new cluster. Nobody remembers what there was, so nobody notes a loss. What can be known is when
the stores came to be. Nothing up to then is proven by them, and what a session has seen of it counts as lost.
A new cluster that is the first is none the worse for it: all its stamps are greater.

All members agree on one stamp before any of them takes a write. Heartbeats tell it:

    n1 proposes its time, once its clock is sure: 100      n2 proposes 103; n3 cannot tell the time: 103 too
    each has heard all: the birth is 103                   nothing is stamped below it; stores become whole
    n3 loses its disk, and comes back forgetful            it takes over 103 from any that knows it

A proposal is durable before it is told, and does not change any more, unless clocks are set right before
there is a birth: so all of them find the same stamp, whoever stops meanwhile. While no clock is sure nobody
proposes anything, and no store is born: nothing could be stamped either. Of two births that whole members
tell the later holds: one of them is a copy from a former life. Owns the stamp; what follows from it is
decided where it is read (`Summary.lost`, `results/convergence.py`).
"""

from collections.abc import Callable
from functools import partial

from basestore.cluster.peers import Peers
from basestore.instant import Instant
from basestore.protocol.heartbeats import Ping
from basestore.repair.clock import HybridClock
from basestore.repair.version import COUNTER_BITS
from basestore.replica.group_commit import GroupCommit
from basestore.replica.identity import State, StoreIdentity
from basestore.replica.summaries import Summaries
from basestore.storage import keyspace

BIRTH = keyspace.fact("birth")
PROPOSED = keyspace.fact("birth proposed")
_BYTES = 8
_COUNTER_MAX = (1 << COUNTER_BITS) - 1


class Birth:
    """The stamp itself is `StoreIdentity.birth`, 0 while it is not known."""

    def __init__(
        self,
        group_commit: GroupCommit,
        summaries: Summaries,
        identity: StoreIdentity,
        peers: Peers,
        clock: HybridClock,
    ) -> None:
        self._group_commit = group_commit
        self._summaries = summaries
        self._identity = identity
        self._peers = peers
        self._clock = clock
        self._heard: dict[int, int] = {}  # what others propose, by member
        self._proposed = self._told = int.from_bytes(group_commit.get(PROPOSED) or b"")
        self._news = False
        if birth := int.from_bytes(group_commit.get(BIRTH) or b""):
            self._settle(birth)

    @property
    def told(self) -> tuple[int, int]:
        """The birth, and what this node proposes; 0 where there is none yet."""
        return self._identity.birth, self._told

    def tick(self, now: Instant, heartbeat: Callable[[Instant], Ping]) -> None:
        """Go on while the stamp is not known: propose one, or agree on what all have proposed."""
        if self._news:
            self._news = False
            for peer in self._peers.others:  # not with the next heartbeat: a new cluster waits for it
                peer.outbox.put(heartbeat(now))
        if self._identity.birth or self._group_commit.stalled:
            return
        others = self._peers.others
        # Who is whole by another way than being born has nobody to agree with, nor has who is alone.
        alone = not others or self._identity.state is State.WHOLE
        if not self._proposed or self._is_beyond(self._proposed, now):
            self._propose(self._proposal(now, alone=alone), alone=alone)
        told = alone or (self._told == self._proposed and all(peer.index in self._heard for peer in others))
        if self._proposed and told:
            stamp = max(self._proposed, *self._heard.values(), 0)
            # One of a clock that was set right since is proposed anew; who cannot tell hears of it.
            if self._peers.clock.sure(now) and not self._is_beyond(stamp, now):
                self._keep(stamp)

    def _proposal(self, now: Instant, *, alone: bool) -> int:
        """This node's time if it is sure; if it cannot be, the latest that others propose, who were. Not
        before all clocks have been compared: so it is new when it counts."""
        watch = self._peers.clock
        compared = all(watch.offsets[peer.index] is not None for peer in self._peers.others)
        if not (alone or self._proposed or compared):
            return 0
        if watch.sure(now):
            return now.wall_ms << COUNTER_BITS | _COUNTER_MAX
        return 0 if watch.comparing(now) else max(self._heard.values(), default=0)

    def _is_beyond(self, stamp: int, now: Instant) -> bool:
        """Whether no clock that is right can have proposed that."""
        return self._peers.clock.sure(now) and stamp > self._clock.bound(now.wall_ms)

    def _propose(self, stamp: int, *, alone: bool) -> None:
        if not stamp:
            return
        self._proposed = stamp
        if not alone:
            self._group_commit.stage(PROPOSED, stamp.to_bytes(_BYTES))
            self._group_commit.when_durable(partial(self._tell, stamp))

    def _tell(self, stamp: int) -> None:
        self._told, self._news = stamp, True

    def hear(self, member: int, message: Ping) -> None:
        """A member tells what it knows, and what it has proposed."""
        if message.proposed:
            self._heard[member] = message.proposed
        known = self._identity.birth
        if message.birth > known and (message.whole or not known) and not self._group_commit.stalled:
            self._keep(message.birth)

    def _keep(self, stamp: int) -> None:
        self._group_commit.stage(BIRTH, stamp.to_bytes(_BYTES))
        self._settle(stamp)
        self._news = True

    def _settle(self, stamp: int) -> None:
        self._identity.birth = stamp
        self._clock.go_beyond(stamp)
        for summary in self._summaries.of.values():
            summary.lost = max(summary.lost, stamp)

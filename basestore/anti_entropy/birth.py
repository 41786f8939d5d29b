"""Birth: the stamp up to which a cluster's stores cannot say what was written, for they did not exist.

A store that is found nowhere looks like the first of all: when every member has lost its disk, the next start
is that of a new cluster. Nobody remembers what there was, so nobody notes a loss. What can be known is when
the stores came to be. Nothing up to then is proven by them, and what a session has seen of it counts as lost.
A new cluster that is the first is none the worse for it: all its stamps are greater.

All members agree on one stamp before any of them takes a write. Heartbeats tell it:

    n1 proposes its time, once its clock is sure: 100      n2 proposes 103, n3 101
    each has heard all: the birth is 103                   clocks go on from there, and stores become whole
    n3 loses its disk, and comes back forgetful            it takes over 103 from any that is whole

Of two that whole members tell the later holds: one of them is a copy from a former life. Where nobody can
tell the time, the latest that a clock shows is proposed: too late a birth leaves unproven what could be
proven, one too early would prove what is gone. Owns the stamp; what follows from it is decided where it is
read (`Summary.lost`, `results/convergence.py`).
"""

from collections.abc import Callable

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
_BYTES = 8
_COUNTER_MAX = (1 << COUNTER_BITS) - 1


class Birth:
    """`told`: the stamp, 0 while this node has none to propose."""

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
        self._heard: dict[int, int] = {}  # what others propose, or know, by member
        self.told = int.from_bytes(group_commit.get(BIRTH) or b"")
        if self.told:
            self._settle(self.told)

    def tick(self, now: Instant, heartbeat: Callable[[Instant], Ping]) -> None:
        """Go on while the stamp is not known: propose one, or agree on what all have proposed."""
        if self._identity.birth or self._group_commit.stalled:
            return
        others, watch = self._peers.others, self._peers.clock
        if not self.told and (None not in watch.offsets or not watch.comparing(now)):
            self.told = watch.latest_ms(now) << COUNTER_BITS | _COUNTER_MAX
            for peer in others:  # not with the next heartbeat: a new cluster waits for it
                peer.outbox.put(heartbeat(now))
        # Who is whole by another way than being born has nobody to agree with.
        if self.told and (self._identity.state is State.WHOLE or len(self._heard) == len(others)):
            self._keep(max(self.told, *self._heard.values(), 0), now)

    def hear(self, member: int, message: Ping, now: Instant) -> None:
        """A member tells what it knows, or, while it is not whole, perhaps only proposes."""
        if message.birth:
            self._heard[member] = message.birth
            if message.whole and message.birth > self._identity.birth and not self._group_commit.stalled:
                self._keep(message.birth, now)

    def _keep(self, stamp: int, now: Instant) -> None:
        self._group_commit.stage(BIRTH, stamp.to_bytes(_BYTES))
        if self._peers.clock.sure(now):  # else it would go on from a time that may be wrong
            self._clock.observe(stamp, now.wall_ms)
        self._settle(stamp)

    def _settle(self, stamp: int) -> None:
        self.told = self._identity.birth = stamp
        for summary in self._summaries.of.values():
            summary.lost = max(summary.lost, stamp)

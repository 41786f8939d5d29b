"""Debts: when what a member may lack is proven to be lacking no more.

A debt of a partition ends once the partition's stable stamp has passed the last write that is owed:
all replicas hold it then, or a better one. Of partitions that this node holds its own summary tells,
while its store is whole; of others a whole replica is asked, with a read of a row that cannot be.
"""

from functools import partial

from basestore.cluster.operations import Once, Operations
from basestore.cluster.peers import Peers
from basestore.cluster.placement import Placement
from basestore.handoff.hints import Hints
from basestore.instant import Instant
from basestore.protocol.replication import Held, Read
from basestore.replica.summaries import Summaries
from repair.clock import HybridClock
from repair.version import COUNTER_BITS

ROUND_S = 5.0
ASKED_AT_ONCE = 64
PATIENCE_S = 4.0


class Debts:
    """Ends the debts of one node's hints."""

    def __init__(
        self,
        hints: Hints,
        summaries: Summaries,
        placement: Placement,
        peers: Peers,
        operations: Operations,
        clock: HybridClock,
        now: Instant,
    ) -> None:
        self._hints = hints
        self._summaries = summaries
        self._placement = placement
        self._peers = peers
        self._operations = operations
        self._due_s = now.monotonic + ROUND_S
        self._after = -1  # of partitions that others hold: where the next round begins
        newest_ms = now.wall_ms + clock.drift_ms_max  # nothing that was owed before can be newer
        hints.mark_debts(max(clock.last, newest_ms << COUNTER_BITS))

    def tick(self, now: Instant) -> None:
        """Every few seconds: see which debts have ended."""
        if now.monotonic < self._due_s:
            return
        self._due_s = now.monotonic + ROUND_S
        elsewhere = []
        for partition in sorted(self._hints.debts()):
            summary = self._summaries.of.get(partition)
            if summary is None:
                elsewhere.append(partition)
            elif self._peers.alive[self._peers.me]:
                self._hints.end_debt(partition, summary.shown)
        later = [partition for partition in elsewhere if partition > self._after]
        page = (later + elsewhere)[: min(ASKED_AT_ONCE, len(elsewhere))]
        for partition in page:
            self._ask(partition, now)
            self._after = partition

    def _ask(self, partition: int, now: Instant) -> None:
        """Ask the first replica that is whole."""
        replicas = [r for r in self._placement.replicas[partition] if self._peers.alive[r]]
        if replicas:
            asking = Once(self._operations, 0, replicas[0], partial(self._told, partition))
            request = self._operations.issue(asking)
            nothing = partition.to_bytes(2) + b"\0"  # a row has a bucket and a key
            self._operations.alarm_at(request, now.monotonic + PATIENCE_S)
            self._peers.send(replicas[0], Read(request, nothing, 0, False, False, True))

    def _told(self, partition: int, answer: object, now: Instant) -> None:
        """A replica has said how far the partition is stable, or it has not: it is asked again."""
        if isinstance(answer, Held) and answer.stable:
            self._hints.end_debt(partition, answer.stable)

"""Source: one replica that tells a feed of some partitions, by one Follow."""

from collections.abc import Set as AbstractSet
from typing import Protocol

from basestore.cluster.operations import OVERTAKEN, Operation
from basestore.cluster.outbox import SMALL_BYTES
from basestore.coordinator.context import Context
from basestore.feeds.position import Position
from basestore.instant import Instant
from basestore.protocol.feeds import Fed, Follow, More, PositionRow, Unfollow
from basestore.protocol.limits import ProtocolError
from basestore.protocol.replication import Moved, Rejected
from basestore.rows import row_partition

POSITION_BYTES = 64


class Told(Protocol):
    """Who is told."""

    def fed(self, source: "Source", answer: Fed, now: Instant) -> None:
        """It has told something, and waits until `go_on`."""

    def ended(self, source: "Source", reason: str, now: Instant) -> None:
        """It tells nothing any more: its partitions are another's to tell of."""

    def seats_changed(self, source: "Source", partitions: AbstractSet[int], now: Instant) -> None:
        """Others may hold these of its partitions."""


class Source(Operation):
    """Of the feed `to`, at one member. `partitions`: those that it tells of."""

    __slots__ = ("_context", "_to", "member", "partitions")

    def __init__(self, context: Context, to: Told, member: int, partitions: list[int]) -> None:
        super().__init__(SMALL_BYTES)
        self._context, self._to, self.member = context, to, member
        self.partitions = set(partitions)

    def begin(self, label: bytes, prefix: bytes, positions: list[Position]) -> bool:
        """Ask; `positions` by partition. False when nothing can be sent to it."""
        rows = [PositionRow(each, *positions[each]) for each in sorted(self.partitions)]
        message = Follow(self._context.operations.issue(self), label, prefix, rows)
        size = SMALL_BYTES + len(prefix) + POSITION_BYTES * len(rows)
        if self._context.peers.send(self.member, message, size):
            return True
        self._context.operations.drop(self)
        return False

    @property
    def over(self) -> bool:
        return not self.ids

    def go_on(self) -> None:
        """What it has told was passed on."""
        if self.ids:
            self._context.peers.send(self.member, More(self.ids[0]))

    def end(self) -> None:
        """Nobody is to be told any more."""
        if self.ids:
            self._context.peers.send(self.member, Unfollow(self.ids[0]))
            self._context.operations.drop(self)

    # --- answers -----------------------------------------------------------------------------

    def fed(self, member: int, answer: Fed, now: Instant) -> None:
        if member != self.member:
            return
        told = {row_partition(row) for row in answer.rows[::2]}
        told |= {row.partition for row in answer.marks} | {row.partition for row in answer.unserved}
        if not told <= self.partitions:
            raise ProtocolError("a Fed message tells of partitions that it was not asked for")
        self._to.fed(self, answer, now)

    def rejected(self, member: int, answer: Rejected, now: Instant) -> None:
        if member == self.member:
            self._lose(answer.reason, now)

    def overtaken(self, member: int, answer: Moved, now: Instant) -> None:
        if member == self.member:
            self._lose(OVERTAKEN, now)

    def lost(self, member: int, now: Instant) -> None:
        if member == self.member:
            self._lose("the link was lost", now)

    def _lose(self, reason: str, now: Instant) -> None:
        self.end()
        self._to.ended(self, reason, now)

    def moved(self, partitions: AbstractSet[int], now: Instant) -> None:
        if not self.partitions.isdisjoint(partitions):
            self._to.seats_changed(self, self.partitions & partitions, now)

"""Ended leases: locks whose holder has died, and that nobody else wants. Their ephemeral keys would stay.

The home of a lock's row looks at it now and then. One that has not changed for 1.25 times as long as it says,
by this node's own clock, is ended as anybody would who wants the lock (`basestore/leases.py`): in one
transaction the lock is free, if its row is still the same, and its ephemeral keys go.

Owns since when each row is seen unchanged; who has just become the home counts anew. Of a partition it
remembers so many rows at once (SEEN_MAX). Where more are held, one that was renewed leaves its place to
another: what the dead have held is never renewed, so it comes to have one, and keeps it until it is ended.
"""

from typing import Final

from basestore.coordinator.attempts import Content
from basestore.coordinator.context import Context
from basestore.errors import DamagedRecord
from basestore.instant import Instant
from basestore.leases import ENDED, Holding, token_held
from basestore.repair.rule import Rule
from basestore.repair.version import Record
from basestore.replica.replica import Replica
from basestore.topology.buckets import LOCKED
from basestore.transactions.admission import holds_registers
from basestore.transactions.leftovers import Sweep, is_home
from basestore.transactions.transaction import Begin, Part

EVERY_S: Final = 0.5
SEEN_MAX: Final = 10_000  # of a partition
LOOKED_MAX: Final = 256  # locks, held or not, of a partition in one go
ENDED_AT_ONCE: Final = 64
ENDING_S: Final = 5.0
Seen = dict[bytes, tuple[bytes, float]]  # by row: its version, and since when that is seen


class EndedLeases:
    """As one node finds them."""

    def __init__(self, context: Context, replica: Replica, begin: Begin) -> None:
        """`begin`: a transaction of these parts, for so many seconds."""
        self._context, self._replica, self._begin = context, replica, begin
        self._locks = Sweep(replica, LOCKED, LOOKED_MAX)
        self._seen: dict[int, Seen] = {}  # by partition
        self._due_s, self._room = 0.0, 0

    @property
    def held(self) -> int:
        """How many locks were held when they were looked at last, of those that are remembered."""
        return sum(map(len, self._seen.values()))

    def tick(self, now: Instant) -> None:
        """Nothing is stalled."""
        if now.monotonic < self._due_s or not self._context.operations.idle:
            return
        self._due_s, self._room = now.monotonic + EVERY_S, ENDED_AT_ONCE
        for gone in self._seen.keys() - self._replica.summaries.of.keys():
            del self._seen[gone]
        for partition in self._locks.partitions():
            if is_home(self._context, partition):
                self._look_through(partition, self._seen.setdefault(partition, {}), now)
            else:
                self._seen.pop(partition, None)

    def _look_through(self, partition: int, seen: Seen, now: Instant) -> None:
        for row, _ in self._locks.rows(partition):
            try:
                record = self._replica.record(row)
            except DamagedRecord:
                continue
            if record is None or not token_held(record):
                seen.pop(row, None)
            else:
                self._look(row, record, seen, now)

    def _look(self, row: bytes, record: Record, seen: Seen, now: Instant) -> None:
        full, (version, since_s) = len(seen) >= SEEN_MAX, seen.get(row, (b"", 0.0))
        if version != record.known_as:
            if full:
                seen.pop(row, None)
            else:
                seen[row] = record.known_as, now.monotonic
            return
        holding = Holding.decode(record.value)
        if self._room and now.monotonic - since_s > ENDED * holding.lease_ms / 1e3:
            self._room -= 1
            del seen[row]  # if it fails, once more after as long
            self._end(row, record, holding, now)

    def _end(self, row: bytes, record: Record, holding: Holding, now: Instant) -> None:
        """If it is still the same. Ephemeral keys in buckets that were dropped are gone."""
        buckets, context = self._context.buckets, self._context
        freed = Content(row, holding.free.encode(), 0, False, Rule.REGISTER)
        parts = [Part(row, buckets.row_name(row), record.known_as, freed)]
        for bucket, key in holding.keys:
            holds = holds_registers(context, bucket)
            if holds is None:  # or it would stay
                return
            if holds:
                gone = context.row(bucket, key)
                deleted = Content(gone, b"", 0, True, Rule.REGISTER)
                parts.append(Part(gone, buckets.row_name(gone), b"", deleted))
        context.metrics.count("leases_ended")
        self._begin(parts, ENDING_S, now)

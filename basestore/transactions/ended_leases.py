"""Ended leases: locks whose holder has died, and that nobody else wants. Their ephemeral keys would stay.

The home of a lock's row looks at it now and then. One that has not changed for 1.25 times as long as it says,
by this node's own clock, is ended as anybody would who wants the lock (`basestore/leases.py`): in one
transaction the lock is free, if its row is still the same, and its ephemeral keys go.

Owns since when each row is seen unchanged; who has just become the home counts anew.
"""

from typing import Final

from basestore.coordinator.attempts import Content
from basestore.coordinator.context import Context
from basestore.errors import ClockSkew, DamagedRecord
from basestore.instant import Instant
from basestore.leases import ENDED, Holding, token_held
from basestore.repair.clock import NotYet
from basestore.repair.rule import Rule
from basestore.repair.version import Record
from basestore.replica.replica import Replica
from basestore.rows import rows_begin
from basestore.storage import keyspace
from basestore.topology.buckets import LOCKED
from basestore.transactions.leftovers import is_home, next_partitions
from basestore.transactions.transaction import Begin, Part

EVERY_S: Final = 0.5
PARTITIONS: Final = 8  # that are looked through in one go
SEEN_MAX: Final = 10_000
LOCKS_MAX: Final = 256  # of a partition
ENDING_S: Final = 5.0


class EndedLeases:
    """As one node finds them."""

    def __init__(self, context: Context, replica: Replica, begin: Begin) -> None:
        """`begin`: a transaction of these parts, for so many seconds, under this ballot."""
        self._context, self._replica, self._begin = context, replica, begin
        self._seen: dict[bytes, tuple[bytes, float]] = {}  # by row: the version, and since when
        self._due_s, self._last = 0.0, -1

    @property
    def held(self) -> int:
        """How many locks were held when they were looked at last."""
        return len(self._seen)

    def tick(self, now: Instant) -> None:
        """Nothing is stalled."""
        if now.monotonic < self._due_s or not self._context.operations.idle:
            return
        self._due_s = now.monotonic + EVERY_S
        held, self._last = next_partitions(self._replica, self._last, PARTITIONS)
        for partition in held:
            if is_home(self._context, partition):
                self._look_through(partition, now)

    def _look_through(self, partition: int, now: Instant) -> None:
        span = keyspace.records_beginning(rows_begin(partition, LOCKED))
        for key, _ in self._replica.scan(*span, LOCKS_MAX):
            row = keyspace.row_of(key)
            try:
                record = self._replica.record(row)
            except DamagedRecord:
                continue
            if record is None or not token_held(record):
                self._seen.pop(row, None)
            else:
                self._look(row, record, now)

    def _look(self, row: bytes, record: Record, now: Instant) -> None:
        version, since_s = self._seen.get(row, (b"", 0.0))
        if version != record.known_as:
            if len(self._seen) >= SEEN_MAX:
                self._seen.pop(next(iter(self._seen)))
            self._seen[row] = record.known_as, now.monotonic
            return
        holding = Holding.decode(record.value)
        if now.monotonic - since_s > ENDED * holding.lease_ms / 1e3:
            self._end(row, record, holding, now)

    def _end(self, row: bytes, record: Record, holding: Holding, now: Instant) -> None:
        """If it is still the same."""
        buckets, context = self._context.buckets, self._context
        freed = Content(row, holding.free.encode(), 0, False, Rule.REGISTER)
        parts = [Part(row, buckets.row_name(row), record.known_as, freed)]
        for bucket, key in holding.keys:
            named = buckets.by_name.get(bucket)
            if named is not None and named.rule.serial and not named.rule.immutable:
                gone = context.row(bucket, key)
                parts.append(Part(gone, buckets.row_name(gone), b"", Content(gone, b"", 0, True, named.rule)))
        try:
            ballot = context.stamper.ballot(now)
        except (NotYet, ClockSkew):
            return
        self._seen[row] = record.known_as, now.monotonic  # if it fails, once more after as long
        context.metrics.count("leases_ended")
        self._begin(parts, ENDING_S, ballot, now)

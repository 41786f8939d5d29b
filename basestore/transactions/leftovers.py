"""Leftovers: what a coordinator that has died has left, and nobody has met.

    intents       that lie for LEFT_S: settled as by anybody who meets one (`helping.py`)
    COMMITTED     for as long: all intents that it names are settled, then it goes. Those in a bucket that was
                  dropped go with that: nothing is asked of them
    ABORTED       for as long: it goes. Who meets an intent of that transaction yet finds nothing, and
                  writes it anew: nothing else can come of it, for its coordinator's only ballot is lost

Each is seen to by the home of its row: by two, while members do not agree who is alive, which does no harm.
Little is done at once, and nothing while the node has better things to do. What cannot be brought to an end
just now takes its turn with the others, so it is in the way of none.
"""

from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Final

from basestore.coordinator.context import Context
from basestore.errors import DamagedRecord, RequestFailed
from basestore.instant import Instant
from basestore.registers.laid_intents import LaidIntents
from basestore.registers.registers import Registers
from basestore.registers.task import Done, Result
from basestore.repair.intents import COMMITTED, Intent, committed_rows, decided
from basestore.repair.version import Record
from basestore.replica.replica import Replica
from basestore.rows import row_bucket, row_key, row_partition, rows_begin
from basestore.storage import keyspace
from basestore.storage.keyspace import SEQUENCE_BYTES
from basestore.topology.buckets import DECISIONS
from basestore.transactions.decisions import begun_ms, forget, settle
from basestore.transactions.helping import Helping

LEFT_S: Final = 5.0
EVERY_S: Final = 0.5
BUSY_MAX: Final = 16  # rows at once
PARTITIONS: Final = 8  # that are looked through in one go
TIDYING_S: Final = 5.0


def is_home(context: Context, partition: int) -> bool:
    """Whether this node writes the registers there, as far as it knows."""
    peers, replicas = context.peers, context.placement.replicas[partition]
    return next((each for each in replicas if peers.alive[each]), None) == peers.me


class Sweep:
    """The rows of one hidden bucket, a few at a time: of the partitions that this store holds some, and then
    those behind them; in each it goes on behind the rows that it had last, and then anew."""

    def __init__(self, replica: Replica, label: bytes, count: int) -> None:
        self._replica, self._label, self._count = replica, label, count
        self._behind: dict[int, bytes] = {}
        self._last = -1

    def partitions(self) -> list[int]:
        """The next."""
        held = sorted(self._replica.summaries.of)
        chosen = ([each for each in held if each > self._last] or held)[:PARTITIONS]
        self._last = chosen[-1] if chosen else -1
        return chosen

    def rows(self, partition: int) -> list[tuple[bytes, bytes]]:
        """Rows, and what is stored of them, unchecked. Only while nothing is staged."""
        first, end = keyspace.records_beginning(rows_begin(partition, self._label))
        pairs = self._replica.scan(self._behind.pop(partition, first), end, self._count)
        if pairs and self._replica.scan(behind := pairs[-1][0] + b"\0", end, 1):
            self._behind[partition] = behind
        return [(keyspace.row_of(key), stored) for key, stored in pairs]

    def stop_at(self, row: bytes) -> None:
        """There is no time for this one: it is the first of the next."""
        partition = row_partition(row)
        self._behind[partition], self._last = keyspace.record(row), partition - 1


class Leftovers:
    """As one node finds them."""

    def __init__(
        self, context: Context, registers: Registers, replica: Replica, laid: LaidIntents, helping: Helping
    ) -> None:
        self._context, self._registers, self._replica = context, registers, replica
        self._laid, self._helping = laid, helping
        self._decided = Sweep(replica, DECISIONS, 4 * BUSY_MAX)
        self._busy: set[bytes] = set()
        self._due_s = 0.0

    def tick(self, now: Instant) -> None:
        """Nothing is stalled."""
        if now.monotonic < self._due_s or not self._context.operations.idle:
            return
        self._due_s = now.monotonic + EVERY_S
        for row in list(islice(self._laid.rows, BUSY_MAX)):
            self._laid.rows[row] = self._laid.rows.pop(row)  # last: it keeps none of the others waiting
            self._see_to_intent(row, now)
        self._tidy_some(now)

    def _is_due(self, transaction: bytes, now: Instant) -> bool:
        return now.wall_ms - begun_ms(transaction) > LEFT_S * 1e3

    def _see_to_intent(self, row: bytes, now: Instant) -> None:
        try:
            record = self._replica.record(row)
        except DamagedRecord:
            return
        if record is None or not record.intent:
            self._laid.note(row, False)
        elif (
            is_home(self._context, row_partition(row))
            and row not in self._busy
            and len(self._busy) < BUSY_MAX
            and not self._is_gone(row)
            and self._is_due(Intent.of(record).transaction, now)
        ):
            self._busy.add(row)
            self._context.metrics.count("transaction_leftovers")
            self._helping.wait(row, record, partial(self._settled, row), now, patient=False)

    def _settled(self, row: bytes, error: RequestFailed | None, now: Instant) -> None:
        self._busy.discard(row)

    def _is_gone(self, row: bytes) -> bool:
        """Whether its bucket was dropped, by the log: no such row is taken any more, and all are purged. Of a
        bucket that is not known here yet this is not so."""
        return self._context.buckets.is_gone(row_bucket(row))

    # --- decisions ---------------------------------------------------------------------------------

    def _tidy_some(self, now: Instant) -> None:
        """Of the next partitions; behind the last that there was room for."""
        for partition in self._decided.partitions():
            if not is_home(self._context, partition):
                continue
            for row, record in self._decisions_of(partition):
                if row in self._busy or not self._is_due(row_key(row), now):
                    continue
                if len(self._busy) >= BUSY_MAX:
                    self._decided.stop_at(row)
                    return
                self._tidy(row, record, now)

    def _decisions_of(self, partition: int) -> Iterator[tuple[bytes, Record]]:
        for row, stored in self._decided.rows(partition):
            record = Record(stored[:-SEQUENCE_BYTES])
            if not record.tombstone and self._replica.intact(row, record):
                yield row, record

    def _tidy(self, row: bytes, record: Record, now: Instant) -> None:
        """Settle what it names, if anything, and have it go."""
        self._busy.add(row)
        self._context.metrics.count("transaction_leftovers")
        named = committed_rows(record.value) if decided(record) == COMMITTED else []
        rows = [each for each in named if not self._is_gone(each)]
        waits, failed = len(rows) + 1, False

        def after(result: Result, now: Instant) -> None:
            nonlocal waits, failed
            waits, failed = waits - 1, failed or not isinstance(result, Done)
            if waits:
                return
            if failed:
                self._busy.discard(row)
            else:
                task = forget(self._context, row, record.known_as, now.monotonic + TIDYING_S)
                self._registers.route(task, lambda result, now: self._busy.discard(row), now)

        for each in rows:
            task = settle(self._context, each, row_key(row), COMMITTED, now.monotonic + TIDYING_S)
            self._registers.route(task, after, now)
        after(Done(0, b"", b"", None, 0, []), now)

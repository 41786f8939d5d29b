"""Replica: the one door to local data.

Client writes, hints and read repair come in through `apply`, streams through `take_over`, healed rows
through `replace_damaged`; nobody else stores a row. Every read of local data goes out through `read`
and `read_range`. What is stored goes through the journal, which decides
when replies leave. Nothing here knows levels, clients or other replicas.

A record whose digest does not fit is never served and never compared with: the row is *damaged*,
answers nothing, and waits to be healed from the other replicas (`recovery.py`).
"""

import heapq
from collections.abc import Iterable, Iterator, Mapping
from functools import reduce

from basestore.errors import DamagedRecord
from basestore.journal import Journal
from basestore.messages import (
    DIRECT,
    HINTED_COPY,
    PAGE_BYTES_MAX,
    PAGE_ROWS_MAX,
    Apply,
    Held,
    HeldDigest,
    Range,
    Read,
    ReadRange,
    Rejected,
    Superseded,
)
from basestore.outbox import SMALL_BYTES, Outbox
from basestore.placement import row_bucket, row_key, row_partition
from basestore.storage.engine import DATA
from repair.clock import HybridClock
from repair.rule import Rule
from repair.version import HEAD_BYTES, RECORD_BYTES_MIN, VERSION_BYTES, Digester, Record, is_tombstone

HEADS_MAX = 200_000
DAMAGED_MAX = 10_000
DIGEST_BYTES_MIN = 1024  # a shorter record costs less than asking for it again
ABSENT = b""


class Replica:
    """The rows of one node. `damaged` names the rows found damaged, for `Recovery` to heal."""

    def __init__(
        self,
        journal: Journal,
        rules: Mapping[bytes, Rule],
        partitions: frozenset[int],
        digester: Digester,
        clock: HybridClock,
    ) -> None:
        self._journal = journal
        self._rules = rules
        self._partitions = partitions
        self._rule_of = {
            partition.to_bytes(2) + bytes((len(bucket),)) + bucket: rule
            for partition in partitions
            for bucket, rule in rules.items()
        }
        self._digester = digester
        self._clock = clock
        self._heads: dict[bytes, bytes] = {}
        self.damaged: dict[bytes, None] = {}

    def forget_heads(self) -> None:
        """Drop the cache: a batch that was staged has not been stored."""
        self._heads.clear()

    def apply(self, outbox: Outbox, message: Apply, wall_ms: int) -> None:
        """Take a record if it wins by its bucket's rule, and answer when the answer is durable.

        Applied: it is the winner here, now or before. Superseded: a better one is held. Rejected:
        not taken, with the reason.
        """
        request, row, blob, way, _ = message
        rule = self._rule_of.get(row[: 3 + row[2]]) if len(row) > 3 else None
        if rule is None or len(blob) < RECORD_BYTES_MIN:
            outbox.put(Rejected(request, "this replica does not hold such a row", False))
            return
        head = blob[:HEAD_BYTES]
        if way == DIRECT and not self._clock.observe(int.from_bytes(head[:8]), wall_ms):
            ahead = Record(blob).version.wall_ms - wall_ms
            outbox.put(Rejected(request, f"the write's stamp is {ahead} ms ahead of this clock", True))
            return
        held = self._heads.get(row)
        if held is None:
            try:
                held = self.head(row)
            except DamagedRecord as damage:
                outbox.put(Rejected(request, str(damage), True))
                return
        if way == HINTED_COPY:
            self._apply_hint(outbox, request, rule, row, blob, held)
        elif held == head:
            self._journal.ack(outbox, request, DATA + row)
        elif way == DIRECT and held[:VERSION_BYTES] == head[:VERSION_BYTES]:
            outbox.put(Rejected(request, "this version was used for another value; write without it", False))
        elif held == ABSENT or rule.beats(head, held):
            self._store(row, blob, head, held)
            self._journal.ack_staged(outbox, request)
        else:
            self._journal.reply(outbox, Superseded(request, held), DATA + row)

    def _apply_hint(
        self, outbox: Outbox, request: int, rule: Rule, row: bytes, blob: bytes, held: bytes
    ) -> None:
        """Take a hint: Applied, here, says that this record or a better one is durable, for the
        sender will forget what may have been the only copy."""
        head = blob[:HEAD_BYTES]
        if held == ABSENT or rule.beats(head, held):
            self._store(row, blob, head, held)
        self._journal.ack_surely(outbox, request, DATA + row)

    def take_over(self, row: bytes, record: Record) -> None:
        """Take a record out of a stream if it wins, without an answer. One that is damaged itself,
        or would meet a damaged one, is left out; healing is a matter of its own."""
        if row_partition(row) not in self._partitions or not record.intact(self._digester, row):
            return
        try:
            held = self.head(row)
        except DamagedRecord:
            return
        rule = self._rules.get(row_bucket(row))  # a bucket may be configured no more; its rows are kept
        if held == ABSENT or (rule is not None and rule.beats(record.head, held)):
            self._store(row, record.blob, record.head, held)

    def replace_damaged(self, row: bytes, records: Iterable[Record | None]) -> None:
        """Heal a damaged row: put the winner of what enough other replicas hold in its place, or
        nothing if they hold nothing."""
        del self.damaged[row]
        sound = [record for record in records if record is not None and record.intact(self._digester, row)]
        damaged = self._journal.get(DATA + row) or b""
        held = damaged[:HEAD_BYTES] if len(damaged) >= HEAD_BYTES else ABSENT  # as it was counted
        if sound:
            winner = reduce(self._rules.get(row_bucket(row), Rule.LAST_WRITE_WINS).winner, sound)
            self._store(row, winner.blob, winner.head, held)
        else:
            self._journal.stage(DATA + row, None)
            self._journal.records -= held != ABSENT and not is_tombstone(held)
            self._remember(row, ABSENT)

    def _store(self, row: bytes, blob: bytes, head: bytes, held: bytes) -> None:
        journal = self._journal
        journal.stage(DATA + row, blob)
        journal.records += (not is_tombstone(head)) - (held != ABSENT and not is_tombstone(held))
        self._remember(row, head)

    def head(self, row: bytes) -> bytes:
        """Head of the record held, or ABSENT; DamagedRecord when its digest does not fit."""
        held = self._heads.get(row)
        if held is None:
            record = self._load(row)
            held = ABSENT if record is None else record.head
            self._remember(row, held)
        return held

    def _remember(self, row: bytes, head: bytes) -> None:
        heads = self._heads
        if len(heads) >= HEADS_MAX and row not in heads:
            del heads[next(iter(heads))]
        heads[row] = head

    def _load(self, row: bytes) -> Record | None:
        if row in self.damaged:
            raise self._damage(row)
        blob = self._journal.get(DATA + row)
        return None if blob is None else self._check(row, blob)

    def _check(self, row: bytes, blob: bytes) -> Record:
        """The record, if its digest fits; otherwise the row is damaged from now on."""
        if len(blob) >= RECORD_BYTES_MIN:
            record = Record(blob)
            if record.intact(self._digester, row):
                return record
        raise self._damage(row)

    def _damage(self, row: bytes) -> DamagedRecord:
        if len(self.damaged) < DAMAGED_MAX:
            self.damaged[row] = None
        self._heads.pop(row, None)
        name = f"bucket {row_bucket(row).decode()!r}, key {row_key(row)[:64]!r}"
        return DamagedRecord(row, f"the stored record of {name} is damaged; its replicas will heal it")

    def read(self, outbox: Outbox, message: Read) -> None:
        """Held, with the record or without, or HeldDigest, when that will do and the record is long;
        Rejected when it is damaged, or when too much waits to be sent. It waits until what it shows
        is durable."""
        row = message.row
        if not outbox.roomy:
            outbox.put(Rejected(message.id, "too much waits to be sent", True))
            return
        try:
            record = self._load(row) if len(row) > 3 else None
        except DamagedRecord as damage:
            outbox.put(Rejected(message.id, str(damage), False))
            return
        blob = b"" if record is None else record.blob
        if message.digest and len(blob) > DIGEST_BYTES_MIN:
            self._journal.reply(outbox, HeldDigest(message.id, blob[:HEAD_BYTES]), DATA + row)
        else:
            self._journal.reply(outbox, Held(message.id, blob), DATA + row, SMALL_BYTES + len(blob))

    def trace(self, row: bytes) -> bytes | None:
        """What is held of a row, without the value: empty when nothing is, None when it is damaged.
        For who wants to know and changes nothing: damage that is found here is not noted."""
        blob = self._journal.get(DATA + row)
        if row in self.damaged:
            return None
        if blob is None:
            return b""
        if len(blob) < RECORD_BYTES_MIN or not Record(blob).intact(self._digester, row):
            return None
        return blob[:RECORD_BYTES_MIN]

    def read_range(self, outbox: Outbox, message: ReadRange) -> None:
        """Range; or Rejected, at the first damaged record or when too much waits to be sent. It waits
        until all it shows is durable."""
        if not set(message.partitions) <= self._partitions:
            outbox.put(Rejected(message.id, "this replica does not hold these partitions", False))
            return
        if not outbox.roomy:
            outbox.put(Rejected(message.id, "too much waits to be sent", True))
            return
        limit = max(1, min(message.limit, PAGE_ROWS_MAX))
        rows: list[bytes] = []
        size = 0
        try:
            for row, record in self._walk(message):
                if len(rows) >= 2 * limit or size > PAGE_BYTES_MAX:
                    break
                rows += (row, record.blob)
                size += len(row) + len(record.blob) + 16
            else:
                self._journal.reply_after_all(outbox, Range(message.id, rows, False), SMALL_BYTES + size)
                return
        except DamagedRecord as damage:
            outbox.put(Rejected(message.id, str(damage), False))
            return
        self._journal.reply_after_all(outbox, Range(message.id, rows, True), SMALL_BYTES + size)

    def _walk(self, message: ReadRange) -> Iterator[tuple[bytes, Record]]:
        """Rows and records in the order that `ReadRange` describes."""
        if not message.bucket:
            for partition in message.partitions[:1]:
                start = message.after + b"\0" if message.after else partition.to_bytes(2)
                end = (partition + 1).to_bytes(2)
                yield from self._checked(start, end)
            return
        name = bytes((len(message.bucket),)) + message.bucket
        scans = []
        for partition in message.partitions:
            base = partition.to_bytes(2) + name
            start = base + max(message.prefix, message.after + b"\0" if message.after else b"")
            scans.append(self._checked(start, base + _prefix_end(message.prefix)))
        yield from heapq.merge(*scans, key=lambda pair: row_key(pair[0]))

    def _checked(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, Record]]:
        for key, blob in self._journal.engine.scan(DATA + start, DATA + end):
            row = key[len(DATA) :]
            if row in self.damaged:
                raise self._damage(row)
            yield row, self._check(row, blob)


def _prefix_end(prefix: bytes) -> bytes:
    """The least string above every key that starts with `prefix`. Keys are bounded, so a run of
    0xff longer than any key stands for "the end"."""
    stem = prefix.rstrip(b"\xff")
    if not stem:
        return b"\xff" * 65_600
    return stem[:-1] + bytes((stem[-1] + 1,))

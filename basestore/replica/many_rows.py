"""Many rows: a replica's answers to requests of many rows: groups of writes, groups of reads, ranges.

    a group    what simply wins, or is simply held, is done in one go and answered in one message; each of
               the others is done, and answered, as if it had come alone (`replica.py`)
    a range    a share of a range scan: rows of many partitions, merged by key. Its answer ends where enough
               rows live, and no later than its bounds: rows that were looked at, bytes that were read from
               the disk for them, bytes that travel. Rows that do not live are shown without their values,
               for whoever asks must know that they are there. The first damaged row ends it too: what
               stands before that can be shown

Weighs nothing against other replicas: that is the coordinator's affair.
"""

import heapq
from collections.abc import Iterator, Sequence
from operator import add, itemgetter
from typing import cast

from basestore.cluster.outbox import SMALL_BYTES, Outbox
from basestore.errors import DamagedRecord
from basestore.protocol.groups import ApplyGroup, HeldGroup, ReadGroup
from basestore.protocol.limits import PAGE_BYTES_MAX, PAGE_ROWS_MAX
from basestore.protocol.replication import Range, ReadRange, Rejected
from basestore.repair.version import (
    FLAGS_AT,
    HEAD_BYTES,
    MARKED,
    RECORD_BYTES_MIN,
    VERSION_BYTES,
)
from basestore.replica.group_commit import GroupCommit
from basestore.replica.replica import ABSENT, LOOK_BYTES_MAX, Replica
from basestore.rows import row_bucket, row_key
from basestore.storage import keyspace
from basestore.storage.keyspace import SEQUENCE_BYTES
from basestore.topology.buckets import DROPPED

HELD_BYTES_MAX = 1 << 20  # of the answer to a group of reads
READ_AT_ONCE = 16  # records: so many may be large
ROW_BYTES_MIN = 4
_flags_of = itemgetter(FLAGS_AT)
_DUE = frozenset(flags for flags in range(256) if flags & MARKED)  # of what may become due to be purged


class ManyRows:
    """Over the replica of one node."""

    def __init__(self, replica: Replica, group_commit: GroupCommit) -> None:
        self._replica = replica
        self._group_commit = group_commit
        self._digester = replica.digester
        self._clock = replica.clock

    # --- groups ------------------------------------------------------------------------------

    def apply(self, outbox: Outbox, message: ApplyGroup, wall_ms: int, *, sealed: bool) -> None:
        """Take what wins, and answer when that is durable. `sealed`: that the digests fit is known."""
        group, _, rows, records = message
        special, helds = self.weigh(rows, records, wall_ms, sealed=sealed)
        if special:
            plain = [place for place in range(len(rows)) if place not in special]
            rows, records, helds = ([column[place] for place in plain] for column in (rows, records, helds))
        if rows:
            self.store(rows, records, helds, wall_ms)
            skipped = [group + 1 + place for place in sorted(special)]
            self._group_commit.ack_group(outbox, group, len(message.rows), skipped)
        if special:
            single = message.single()
            for place in sorted(special):  # behind the others: a row may be there twice
                self._replica.apply(outbox, single[place], wall_ms)

    def weigh(
        self, rows: Sequence[bytes], records: Sequence[bytes], wall_ms: int, *, sealed: bool
    ) -> tuple[set[int], list[bytes]]:
        """The places of all that are not just sound, in time, the first of their row, and winners in a
        last-write bucket; and the marks of what is held. That the others may be due is noted."""
        replica = self._replica
        special = self._untimely(rows, records, wall_ms)
        if not sealed:
            special |= _where_not(self._digester.fit(rows, records))
        if len(set(rows)) < len(rows):
            seen: dict[bytes, int] = {}
            special |= {place for place, row in enumerate(rows) if seen.setdefault(row, place) != place}
        marks = list(map(replica.marks.of.get, rows))
        if not all(marks):  # some rows hold nothing, or have no mark yet
            marks = [mark or self._held(row) for row, mark in zip(rows, marks, strict=True)]
            special |= _where_not([mark is not None for mark in marks])
            marks = [mark or ABSENT for mark in marks]
        helds = cast("list[bytes]", marks)
        buckets = [row[: 3 + row[2]] if len(row) >= ROW_BYTES_MIN else b"" for row in rows]
        if not replica.plain.issuperset(buckets):
            rules = map(replica.rule_of, buckets)
            special |= _where_not([rule is not None and rule.plain for rule in rules])
        if min(records)[:VERSION_BYTES] <= max(helds)[:VERSION_BYTES]:  # else each beats what any row holds
            pairs = enumerate(zip(records, helds, strict=True))
            special |= {at for at, (new, held) in pairs if new[:VERSION_BYTES] <= held[:VERSION_BYTES]}
        if not _DUE.isdisjoint(map(_flags_of, records)) or not _DUE.isdisjoint(
            map(_flags_of, filter(None, helds))
        ):
            for place, (row, record, held) in enumerate(zip(rows, records, helds, strict=True)):
                if place not in special:
                    replica.note_due(row, record, held)
        return special, helds

    def _untimely(self, rows: Sequence[bytes], records: Sequence[bytes], wall_ms: int) -> set[int]:
        """Which of them come too late, or are stamped too far ahead."""
        summaries, bound = self._replica.summaries, self._clock.bound(wall_ms)
        stamps = [int.from_bytes(record[:8]) for record in (min(records), max(records))]
        if summaries.closed < stamps[0] and stamps[1] <= bound:
            return set()
        untimely = set()
        for place, (row, record) in enumerate(zip(rows, records, strict=True)):
            summary = summaries.of.get(int.from_bytes(row[:2]))
            if summary is None or not summary.closed < int.from_bytes(record[:8]) <= bound:
                untimely.add(place)
        return untimely

    def _held(self, row: bytes) -> bytes | None:
        """The mark of a row that has none yet; nothing if it cannot have one."""
        try:
            return self._replica.mark(row) if len(row) >= ROW_BYTES_MIN else None
        except DamagedRecord:
            return None

    def store(
        self, rows: Sequence[bytes], records: Sequence[bytes], helds: Sequence[bytes], wall_ms: int
    ) -> None:
        heads = [record[:HEAD_BYTES] for record in records]
        self._clock.observe(int.from_bytes(max(heads)[:8]), wall_ms)
        sequences = self._replica.summaries.enter(rows, heads, helds)
        self._group_commit.stage_all(keyspace.each_record(rows), list(map(add, records, sequences)))
        self._replica.marks.note_all(rows, map(add, heads, sequences))

    def read(self, outbox: Outbox, message: ReadGroup) -> None:
        """HeldGroup, of what is soundly held; it waits until that is durable."""
        group, _, rows, digests, marks = message
        keys = keyspace.each_record(rows)
        held: list[bytes] = []
        if not self._replica.damaged and outbox.roomy and not self._any_dropped(rows):
            held = self._known(rows) if digests and marks else []
            held = held or self._sound(rows, keys, HEAD_BYTES if digests else None)
        held += [ABSENT] * (len(rows) - len(held))
        if any(held):
            size = SMALL_BYTES + sum(map(len, held))
            self._group_commit.reply_group(outbox, HeldGroup(group, held), keys, size)
        if not all(held):
            for each, record in zip(message.single(), held, strict=True):
                if not record:
                    self._replica.read(outbox, each)

    def _any_dropped(self, rows: Sequence[bytes]) -> bool:
        dropped = self._replica.buckets.dropped
        return bool(dropped) and any(len(row) > 3 and row_bucket(row) in dropped for row in rows)

    def _known(self, rows: Sequence[bytes]) -> list[bytes]:
        """Heads as the marks have them, or nothing at all if any is missing."""
        marks = list(map(self._replica.marks.of.get, rows))
        return [mark[:HEAD_BYTES] for mark in cast("list[bytes]", marks)] if all(marks) else []

    def _sound(self, rows: Sequence[bytes], keys: list[bytes], end: int | None) -> list[bytes]:
        """Records that are held and intact, or so much of each; nothing in place of the others. It ends where
        it would be too much for one answer."""
        held: list[bytes] = []
        size = 0
        for start in range(0, len(rows), READ_AT_ONCE):
            some = slice(start, start + READ_AT_ONCE)
            stored = self._group_commit.get_many(keys[some])
            sound = self._digester.sound(rows[some], stored, SEQUENCE_BYTES, end)
            size += sum(map(len, sound))
            if size > HELD_BYTES_MAX:  # these and those behind them are answered by themselves
                break
            held += sound
        return held

    # --- ranges ------------------------------------------------------------------------------

    def read_range(self, outbox: Outbox, message: ReadRange) -> None:
        """Range; or Rejected, when it begins with a damaged record or too much waits to be sent. It waits
        until all it shows is durable."""
        summaries = self._replica.summaries.of
        if not set(message.partitions) <= summaries.keys():
            outbox.put(Rejected(message.id, "this replica does not hold these partitions", False))
            return
        if message.bucket in self._replica.buckets.dropped:
            outbox.put(Rejected(message.id, DROPPED, True))
            return
        if not outbox.roomy:
            outbox.put(Rejected(message.id, "too much waits to be sent", True))
            return
        rows: list[bytes] = []
        living = looked = size = 0
        more = False
        try:
            for row, stored in _walk(self._group_commit, message):
                # Asked before a row is added: so a page holds at least one, however large it is.
                full = len(rows) >= 2 * PAGE_ROWS_MAX or size > PAGE_BYTES_MAX or looked > LOOK_BYTES_MAX
                if more := full or living >= message.limit:
                    break
                record = self._replica.sound(row, stored)
                lives = record.live(message.now_ms)
                blob = record.blob if lives else record.blob[:RECORD_BYTES_MIN]
                rows += (row, blob)
                living += lives
                looked += len(stored)
                size += len(row) + len(blob) + 16
        except DamagedRecord as damage:
            if not rows:
                outbox.put(Rejected(message.id, str(damage), False))
                return
            more = True
        stables = [summaries[partition].shown for partition in message.partitions]
        unlearned = self._unlearned(message, row_key(rows[-2]) if more else b"") if message.serial else []
        size += SMALL_BYTES + 9 * len(stables) + sum(map(len, unlearned))
        said = Range(message.id, rows, more, stables, unlearned)
        self._group_commit.reply(outbox, said, None, size, surely=message.serial)

    def _unlearned(self, message: ReadRange, last: bytes) -> list[bytes]:
        """The rows of a range, up to a key if there is one, of which more is accepted than is learned."""
        start, held = message.prefix, self._replica.summaries.unlearned
        rows = (row for partition in message.partitions for row in held.get(partition, ()))
        keys = ((row_key(row), row) for row in rows if row_bucket(row) == message.bucket)
        return [
            row
            for key, row in keys
            if key.startswith(start) and message.after < key and (key <= last or not last)
        ]


def _where_not(fits: Sequence[bool]) -> set[int]:
    return set() if all(fits) else {place for place, fit in enumerate(fits) if not fit}


def _walk(group_commit: GroupCommit, message: ReadRange) -> Iterator[tuple[bytes, bytes]]:
    """Rows and what is stored of them, in the order that `ReadRange` describes."""
    name = bytes((len(message.bucket),)) + message.bucket
    scans = []
    for partition in message.partitions:
        base = keyspace.partition_prefix(partition) + name
        start = base + max(message.prefix, message.after + b"\0" if message.after else b"")
        _, end = keyspace.whole(base + message.prefix)
        stored = group_commit.scan(*keyspace.records_between(start, end))
        scans.append((keyspace.row_of(key), value) for key, value in stored)
    yield from heapq.merge(*scans, key=lambda pair: row_key(pair[0]))

"""Replica: the one door to local data.

Client writes, hints and read repair come in through `apply`, entries of anti-entropy exchanges through
`take_over`, healed rows through `replace_damaged`; `purge`, `drop` and `empty` take out what all replicas
have proven gone. Nobody else stores a row but `many_rows.py`, which does for groups of plain writes what
`apply` does for one. What others read goes out through `read` and `many_rows.py`;
`record`, `mark`, `scan` and `trace` are for exchanges, scrubs and explain. What is stored goes through the
group commit, which decides when replies leave, and is entered in the summary of its partition in the same
batch. Nothing here knows levels, clients or other replicas.

    way in                          refused, if it would be stored, at or below
    DIRECT, HINTED_DIRECT           `closed`: it is too late for a first delivery
    COPY, HINTED_COPY               `stable`: settled, all replicas hold it or a better one, or purged it;
                                    or it was lost with them: then a hint is late, as a first delivery is
    take_over (exchanges)            never

A record whose digest does not fit is never served and never compared with: the row is *damaged*, answers
nothing, and waits to be healed from the other replicas (`anti_entropy/healing.py`).

A *mark* is the head and the sequence of what a row holds: what a write is compared with. Marks of the
latest rows are kept in memory, so that most writes read nothing from the disk.
"""

from collections.abc import Callable, Iterable
from functools import partial, reduce
from itertools import islice

from basestore.cluster.outbox import SMALL_BYTES, Outbox
from basestore.config import MARKS_BYTES_DEFAULT
from basestore.errors import DamagedRecord
from basestore.protocol.replication import (
    COPY,
    DIRECT,
    Apply,
    Held,
    HeldDigest,
    Read,
    Rejected,
    Settled,
    Superseded,
)
from basestore.repair.clock import HybridClock
from basestore.repair.rule import Rule
from basestore.repair.version import (
    FLAGS_AT,
    HEAD_BYTES,
    LAID,
    MARKED,
    RECORD_BYTES_MIN,
    VERSION_BYTES,
    Digester,
    Record,
)
from basestore.replica.group_commit import GroupCommit
from basestore.replica.summaries import Summaries, due_of_stored
from basestore.rows import is_beginning, row_bucket, row_partition
from basestore.storage import keyspace
from basestore.storage.keyspace import SEQUENCE_BYTES
from basestore.storage.marks import Marks
from basestore.topology.buckets import DROPPED, NOT_HELD, Buckets

DAMAGED_MAX = 10_000
DIGEST_BYTES_MIN = 1024  # a shorter record costs less than asking for it again
HINTED_COPY = 2  # ways in besides those of Apply: a hint, which is a copy, or a first delivery
HINTED_DIRECT = 3
LOOK_BYTES_MAX = 8 << 20  # that are read from the disk in one go, for a page of a scan or a slice of rows
STORED_BYTES_MIN = RECORD_BYTES_MIN + SEQUENCE_BYTES
ABSENT = b""
HEALING = "a replica that holds it soundly heals it; where there is none, `basestore status` shows a loss"


class Replica:
    """The rows of one node. `damaged` names the rows found damaged, for `Healing` to heal."""

    def __init__(
        self, group_commit: GroupCommit, summaries: Summaries, buckets: Buckets, digester: Digester,
        clock: HybridClock, marks_bytes_max: int = MARKS_BYTES_DEFAULT,
    ) -> None:  # fmt: skip
        self._group_commit = group_commit
        self.summaries = summaries
        self.buckets = buckets
        self._rule_of: dict[bytes, Rule] = {}  # by what rows begin with; of those that were asked for
        self.plain: set[bytes] = set()  # where the last write wins; of the same
        self.digester = digester
        self.clock = clock
        self.marks = Marks(marks_bytes_max)
        self.damaged: dict[bytes, None] = {}
        self.learned: Callable[[bytes, bytes], None] = lambda row, head: None  # of what was unlearned
        self.pending: Callable[[bytes], bytes] = lambda row: b""  # what is accepted, and not learned
        self.laid: Callable[[bytes, bytes], None] = lambda row, blob: None  # an intent, or takes its place
        self.healed: Callable[[bytes, Iterable[bytes]], None] = lambda row, told: None

    # --- partitions that come and go ----------------------------------------------------------

    def see_to_buckets(self) -> None:
        """Buckets have come, or gone: nothing of those that have is taken or shown any more."""
        self._rule_of.clear()
        self.plain.clear()

    def let_go(self, partition: int) -> None:
        """None of its rows are taken any more, once its summary is gone. What is stored is dropped later."""
        self.see_to_buckets()
        for row in [row for row in self.damaged if row_partition(row) == partition]:
            del self.damaged[row]

    def rule_of(self, start: bytes) -> Rule | None:
        """By which rows that begin so, with a partition and a bucket, are taken; None: they are not."""
        rule = self._rule_of.get(start)
        if rule is None and is_beginning(start) and row_partition(start) in self.summaries.of:
            rule = self.buckets.rules.get(row_bucket(start))
            if rule is not None:
                self._rule_of[start] = rule
                if rule.plain:
                    self.plain.add(start)
        return rule

    # --- what comes in ------------------------------------------------------------------------

    def apply(self, outbox: Outbox, message: Apply, wall_ms: int) -> None:
        """Take a record if it wins by its bucket's rule, and answer when the answer is durable.

        Applied: it is the winner here, now or before. Superseded: a better one is held. Settled: it
        comes too late to be taken. Rejected: not taken, with the reason.
        """
        request, row, blob, way, _ = message
        rule = self.rule_of(row[: 3 + row[2]]) if len(row) > 3 else None
        if rule is None or len(blob) < RECORD_BYTES_MIN or (rule.serial and way in (DIRECT, HINTED_DIRECT)):
            ours = int.from_bytes(row[:2]) in self.summaries.of
            outbox.put(Rejected(request, *(self.buckets.refusal(row) if ours else (NOT_HELD, False))))
            return
        head = blob[:HEAD_BYTES]
        stamp = int.from_bytes(head[:8])
        # A stamp far ahead is refused from a coordinator only. A copy is held elsewhere already: refused
        # here, it would keep the replicas apart for as long as that stamp lies ahead.
        if way == DIRECT and not self.clock.observe(stamp, wall_ms):
            ahead = Record(blob).version.wall_ms - wall_ms
            outbox.put(Rejected(request, f"the write's stamp is {ahead} ms ahead of this clock", True))
            return
        try:
            held = self.marks.of.get(row)  # `mark` without a call: most rows that are written are known
            if held is None:
                held = self.mark(row)
            # Only a client can bring one version with two values, by repeating a write. Between copies the
            # digest decides, so that replicas end up with the same one.
            if way == DIRECT and held[:VERSION_BYTES] == head[:VERSION_BYTES] and not held.startswith(head):
                outbox.put(Rejected(request, "this version is held with another content", False))
                return
            # Asked before whether it is late: what changes nothing is answered however old it is.
            wins = held == ABSENT or (not held.startswith(head) and rule.beats(head, held))
            if wins:
                summary = self.summaries.of[int.from_bytes(row[:2])]
                # <=: both stamps are promises that include themselves.
                if stamp <= (summary.closed if way in (DIRECT, HINTED_DIRECT) else summary.stable):
                    hinted = way == HINTED_DIRECT or (way == HINTED_COPY and stamp <= summary.gone)
                    self._refuse_late(outbox, message, summary.stable, late=hinted)
                    return
                self._store(row, blob, held)
        except DamagedRecord as damage:  # what is held, or what has come
            outbox.put(Rejected(request, str(damage), True))
            return
        if way > COPY:  # it or a better record is durable: the sender will forget what may be the only copy
            self._group_commit.ack(outbox, request, keyspace.record(row), surely=True)
        elif wins:
            self._group_commit.ack(outbox, request)
        elif held.startswith(head):
            self._group_commit.ack(outbox, request, keyspace.record(row))
        else:
            self._group_commit.reply(outbox, Superseded(request, held[:HEAD_BYTES]), keyspace.record(row))

    def _refuse_late(self, outbox: Outbox, message: Apply, stable: int, *, late: bool) -> None:
        """A record that comes too late for its way in. Of a first delivery nothing is known then: the
        other replicas may have taken it. What is stable is told once that is durable."""
        if message.way == DIRECT:
            outbox.put(Rejected(message.id, "the write came too late for this replica", False))
        else:
            self._group_commit.when_durable(partial(outbox.put, Settled(message.id, stable, late)))

    def take_over(self, row: bytes, record: Record) -> None:
        """Take an entry of an exchange if it wins, without an answer; DamagedRecord when what is held
        cannot be compared with. Of a bucket that is not known here nothing is taken."""
        if self.buckets.is_strange(row):
            return
        held = self.mark(row)
        if held == ABSENT or (not held.startswith(record.head) and self.rule(row).beats(record.head, held)):
            self._store(row, record.blob, held)

    def replace_damaged(self, row: bytes, records: Iterable[Record | None], told: Iterable[bytes]) -> None:
        """Heal a damaged row: put the winner of what enough other replicas hold in its place, or nothing.
        `told`: what they have accepted, not learned. What it counted for is the scrub's to find out."""
        self.damaged.pop(row, None)
        # In one batch with what comes: the sums still count what the row held, whatever it was.
        self.summaries.suspect(row_partition(row))
        sound = [record for record in records if record is not None and record.intact(self.digester, row)]
        sound = [] if self.buckets.is_strange(row) else sound
        # The sequence may be damaged as well; `forget` looks whether the line that it names is of this row.
        damaged = self._group_commit.get(keyspace.record(row)) or b""
        self.summaries.summary_log.forget(row, damaged[-SEQUENCE_BYTES:])
        if sound:
            self._store(row, reduce(self.rule(row).winner, sound).blob, ABSENT)
        else:
            self._group_commit.stage(keyspace.record(row), None)
            self.marks.note(row, ABSENT)
            self.summaries.lose(row, None, self.clock.last)
        self.healed(row, told)

    def _store(self, row: bytes, blob: bytes, held: bytes) -> None:
        """DamagedRecord when the digest does not fit: nothing is stored that was not looked at here."""
        if not Record(blob).intact(self.digester, row):
            raise DamagedRecord(
                row, f"the record of {self.buckets.row_name(row)} was damaged on its way; it is not stored"
            )
        head = blob[:HEAD_BYTES]
        self.note_due(row, blob, held)
        (sequence,) = self.summaries.enter((row,), (head,), (held,))
        self._group_commit.stage(keyspace.record(row), blob + sequence)
        self.marks.note(row, head + sequence)
        if self.summaries.unlearned:
            self.learned(row, head)

    def note_due(self, row: bytes, blob: bytes, held: bytes) -> None:
        """Also whether it holds an intent."""
        if (blob[FLAGS_AT] | (held[FLAGS_AT] if held else 0)) & LAID:
            self.laid(row, blob)
        due = due_of_stored(blob) if blob[FLAGS_AT] & MARKED else 0
        held_due = self._held_due(row) if held and held[FLAGS_AT] & MARKED else 0
        if due or held_due:
            self.summaries.note_due(row, due, held_due)

    def _held_due(self, row: bytes) -> int:
        """When what a row holds may be purged; its expiry is not in the mark."""
        stored = self._group_commit.get(keyspace.record(row))
        return due_of_stored(stored) if stored is not None else 0

    # --- what goes ----------------------------------------------------------------------------

    def drop(self, row: bytes, *, due: bool = False) -> None:
        """Hold nothing any more: the other replicas have proven it purged, or it is `due`. DamagedRecord."""
        held = self.mark(row)
        if held != ABSENT:
            self.summaries.note_due(row, 0, self._held_due(row))
            (at,) = self.summaries.enter((row,), (ABSENT,), (held,))
            stamp = int.from_bytes(held[:8]) if due else -1
            self.summaries.lose(row, held[HEAD_BYTES:] if due else at, stamp)
            self._group_commit.stage(keyspace.record(row), None)
            self.marks.note(row, ABSENT)

    def purge(self, partition: int, upto: int, most: int) -> tuple[int, int]:
        """Drop tombstones and expired records that are due at or below `upto`, which is stable. At most so
        many lines are looked at; returns how many were (fewer than `most` once all is purged), and how many
        records went."""
        summary = self.summaries.of[partition]
        # `stable` may be used before it is durable (`shown`): its row was staged before what is purged
        # here, so no crash keeps the purge and loses the stamp.
        lines = self.summaries.due(partition, upto, most)
        dropped = 0
        for due, row in lines:
            try:
                held = self.mark(row)
            except DamagedRecord:  # its replicas have nothing either: so it will be healed
                held = ABSENT
            # A line may speak of what the row holds no more: of a damaged record that was healed nobody
            # could say when it was due, so its line stayed.
            if held != ABSENT and self._held_due(row) == due:
                self.drop(row, due=True)
                dropped += 1
            else:
                self.summaries.due_no_more(due, row)
        # Fewer lines than were asked for: none is left at or below this stamp.
        if len(lines) < most and summary.purged < upto:
            summary.purged = upto
            self.summaries.touch(partition)
        if not lines:
            self.summaries.look_ahead(partition, upto)
        return len(lines), dropped

    def all_purged(self, partition: int, upto: int) -> bool:
        """Whether it is known, without looking, that nothing is held that is due at or below this stamp."""
        summary = self.summaries.of[partition]
        if summary.purged < upto and self.summaries.nothing_due(partition, upto):
            summary.purged = upto  # stored when something else of it changes: a crash only has it looked up
        return summary.purged >= upto

    def empty(self, partition: int, most: int) -> int:
        """Give up what is held of a partition, at most so many rows; only while nothing is staged. Returns
        how many there were: 0 when it is empty."""
        stored = self.scan(*keyspace.records_of(partition), most)
        for key, _ in stored:
            row = keyspace.row_of(key)
            try:
                self.drop(row)
            except DamagedRecord:
                self.replace_damaged(row, (), ())
        return len(stored)

    # --- what is held -------------------------------------------------------------------------

    def mark(self, row: bytes) -> bytes:
        """Head and sequence of what is held, or ABSENT; DamagedRecord when its digest does not fit."""
        held = self.marks.of.get(row)
        if held is None:
            stored = self._stored(row)
            if stored is not None:
                self.check(row, stored)
            held = ABSENT if stored is None else stored[:HEAD_BYTES] + stored[-SEQUENCE_BYTES:]
            self.marks.note(row, held)
        return held

    def record(self, row: bytes) -> Record | None:
        """What is held; DamagedRecord when its digest does not fit."""
        stored = self._stored(row)
        return None if stored is None else self.check(row, stored)

    def holds(self, row: bytes, head: bytes) -> bool:
        """Whether the record with this head is held, soundly."""
        try:
            return self.mark(row).startswith(head)
        except DamagedRecord:
            return False

    def rule(self, row: bytes) -> Rule:
        return self.buckets.rules.get(row_bucket(row), Rule.OF_REMOVED_BUCKET)

    def intact(self, row: bytes, record: Record) -> bool:
        return record.intact(self.digester, row)

    def _stored(self, row: bytes) -> bytes | None:
        # First: a damaged row has no mark, and is answered nothing until healed, even if the disk should give
        # back something sound the next time.
        if row in self.damaged:
            raise self._damage(row)
        return self._group_commit.get(keyspace.record(row))

    def check(self, row: bytes, stored: bytes) -> Record:
        """The record, if its digest fits; otherwise the row is damaged from now on."""
        if len(stored) >= STORED_BYTES_MIN:
            record = Record(stored[:-SEQUENCE_BYTES])
            if record.intact(self.digester, row):
                return record
        raise self._damage(row)

    def _damage(self, row: bytes) -> DamagedRecord:
        # Beyond the bound a row is not noted, nor healed: each read finds it damaged anew.
        if len(self.damaged) < DAMAGED_MAX:
            self.damaged[row] = None
        self.marks.forget(row)
        return DamagedRecord(row, f"the stored record of {self.buckets.row_name(row)} is damaged; {HEALING}")

    # --- what is read -------------------------------------------------------------------------

    def read(self, outbox: Outbox, message: Read) -> None:
        """Held, with the record or without, or HeldDigest, when that will do and the record is long;
        Rejected when it is damaged, or when too much waits to be sent. It waits until what it shows
        is durable."""
        row = message.row
        if not outbox.roomy:
            outbox.put(Rejected(message.id, "too much waits to be sent", True))
            return
        dropped = self.buckets.dropped
        if dropped and len(row) > 3 and row_bucket(row) in dropped:
            outbox.put(Rejected(message.id, DROPPED, True))
            return
        try:
            record = self.record(row) if len(row) > 3 else None
        except DamagedRecord as damage:
            outbox.put(Rejected(message.id, str(damage), False))
            return
        blob = b"" if record is None else record.blob
        answer: Held | HeldDigest
        stable, lossy, lost = 0, False, 0
        # An absence always says the stable stamp: it may be that of a purged tombstone, and only a stamp
        # that covers the tombstone lets the coordinator count it as agreement (`repair.read_repair`).
        if message.stable or not blob:
            summary = self.summaries.of.get(row_partition(row))
            if summary is not None:
                stable, lossy, lost = summary.shown, summary.lossy, summary.lost
        if message.digest and len(blob) > DIGEST_BYTES_MIN:
            answer, size = HeldDigest(message.id, blob[:HEAD_BYTES], stable, lossy, lost), SMALL_BYTES
        else:
            accepted = self.pending(row) if message.healing else b""
            answer = Held(message.id, blob, stable, lossy, lost, accepted)
            size = SMALL_BYTES + len(blob) + len(accepted)
        self._group_commit.reply(outbox, answer, keyspace.record(row), size)

    def sound(self, row: bytes, stored: bytes) -> Record:
        """The record that is stored of a row; DamagedRecord, also where it was found damaged before."""
        if row in self.damaged:
            raise self._damage(row)
        return self.check(row, stored)

    def scan(self, start: bytes, end: bytes, most: int) -> list[tuple[bytes, bytes]]:
        """Keys and stored records from one key to another, unchecked, at most so many and about
        LOOK_BYTES_MAX of them; none where there are no more. Only while nothing is staged."""
        taken: list[tuple[bytes, bytes]] = []
        size = 0
        for pair in islice(self._group_commit.scan(start, end), most):
            taken.append(pair)
            size += len(pair[1])
            if size > LOOK_BYTES_MAX:
                break
        return taken

"""Parts: what this store holds of atomic batches, and what it answers by that.

    i row        beside the part's record: its stamp, and whether its rows are applied here
    m refused/   of a partition: up to which stamp parts that were not held have been refused

A part comes in as a first delivery, above closed; or as a copy, if a store that is a replica here holds it,
above stable. Until its rows are applied it is `unapplied`, also in the summaries: closed stamps stay below
it, and where closed is past it already, others are told of less. So stable stays below it, nothing that is
newer is purged, and its rows can come in however late. They are applied from what is held: each where its
stamp is above stable, for what is stable is here, or was beaten by what may be purged.

Whoever goes on with an old batch has it refused where it is not held: no part up to its stamp is taken there
any more as a first delivery. That does not wait for closed, which another batch may hold back here as this
one does elsewhere: else each might wait for the other for ever.

    NONE        it is not here, and would be taken
    NEVER       it is not here, and would not, but as a copy: its stamp is closed, or refused
    HELD        it is unapplied
    COMMITTED   its rows are applied here; the record stays, for the other replicas
    DONE        a tombstone: the batch is over

A record with the same key, but another stamp, is of another batch. Whatever is held or applied is durable
before that is told, under every setting; a store that does not outlive its process holds nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from basestore.batches.part import Malformed, Part
from basestore.cluster.outbox import SMALL_BYTES, Outbox
from basestore.errors import DamagedRecord
from basestore.instant import Instant
from basestore.protocol.groups import (
    COMMIT,
    COMMITTED,
    DONE,
    HELD,
    LOOK,
    NEVER,
    NONE,
    REFUSE,
    AskPart,
    HoldPart,
    PartTold,
)
from basestore.protocol.replication import Rejected
from basestore.repair.paxos import BALLOT_BYTES
from basestore.repair.version import RECORD_BYTES_MIN, Record, is_intent
from basestore.replica.admission import Admission
from basestore.replica.group_commit import GroupCommit
from basestore.replica.replica import Replica
from basestore.rows import row_bucket, row_partition
from basestore.storage import keyspace
from basestore.storage.keyspace import STAMP_BYTES
from basestore.topology.buckets import PARTS

NOT_KEPT: Final = "its durability is memory, so it could not keep what it is to hold"
_APPLIED: Final = b"a"
Handler = Callable[[int, Outbox, Any, Instant], None]


@dataclass(slots=True)
class Entry:
    """Of a part: its stamp; whether its rows are applied; since when it is known, in this opening."""

    stamp: int
    applied: bool
    since_s: float


class Parts:
    """Of one store. `rows`: those with a part, the ones that came first in front. `voucher(partition,
    store)`: whether a replica of the partition runs on it; `store()`: that this node runs on."""

    def __init__(
        self, replica: Replica, group_commit: GroupCommit, admission: Admission,
        voucher: Callable[[int, bytes], bool], store: Callable[[], bytes],
    ) -> None:  # fmt: skip
        self._replica, self._group_commit, self._admission = replica, group_commit, admission
        self._voucher, self._store = voucher, store
        self._unapplied = replica.summaries.unapplied
        self.rows: dict[bytes, Entry] = {}
        self._refused = {
            keyspace.partition_of(key): int.from_bytes(stamp)
            for key, stamp in group_commit.scan(*keyspace.all_refused())
        }
        self.now_s = 0.0
        self.handlers: Mapping[type, Handler] = {HoldPart: self.hold, AskPart: self.ask}
        # Who is told of intents of transactions goes on being told of those.
        self._laid, replica.laid = replica.laid, self._note
        for key, stored in group_commit.scan(*keyspace.intents()):
            if row_bucket(row := keyspace.row_of(key)) == PARTS:
                stamp, applied = int.from_bytes(stored[:STAMP_BYTES]), stored[STAMP_BYTES:] == _APPLIED
                self._enter(row, Entry(stamp, applied, 0.0))

    def _note(self, row: bytes, blob: bytes) -> None:
        """The row is about to hold this, a part or what has taken the place of one; of any other the
        transactions are told."""
        if row_bucket(row) != PARTS:
            self._laid(row, blob)
        elif is_intent(blob):
            entry = Entry(int.from_bytes(blob[:STAMP_BYTES]), False, self.now_s)
            self._enter(row, entry)
            self._group_commit.stage(keyspace.intent(row), self._stored(entry))
        else:
            self.forget(row)

    def _enter(self, row: bytes, entry: Entry) -> None:
        self.rows[row] = entry
        if not entry.applied:
            self._unapplied.setdefault(row_partition(row), {})[row] = entry.stamp

    def _release(self, row: bytes) -> None:
        """It keeps closed stamps back no more."""
        partition = row_partition(row)
        rows = self._unapplied.get(partition, {})
        if rows.pop(row, None) is not None and not rows:
            del self._unapplied[partition]

    def forget(self, row: bytes) -> None:
        """There is no part in it any more."""
        if self.rows.pop(row, None) is not None:
            self._release(row)
            self._group_commit.stage(keyspace.intent(row), None)

    def held(self, row: bytes) -> Record | None:
        """The record of a part that is there; else it is forgotten that there was one. DamagedRecord."""
        partition = row_partition(row)
        record = self._replica.record(row) if partition in self._replica.summaries.of else None
        if record is None or not record.intent:
            self.forget(row)
            return None
        return record

    # --- what is asked -----------------------------------------------------------------------

    def hold(self, member: int, outbox: Outbox, message: HoldPart, now: Instant) -> None:
        """Take a part, if nothing is held in its place."""
        row, record = message.row, message.record
        if not self._admission.lets_in(member, outbox, message, now, writes=True):
            return
        refusal = self._refusal(row) or self._unsound(row, record)
        copy = not refusal and bool(message.store) and self._voucher(row_partition(row), message.store)
        if not (refusal or copy or self._admission.credible(record[:BALLOT_BYTES], now)):
            refusal = "the part's stamp is too far ahead of its clock"
        if refusal:
            self._reject(outbox, message.id, refusal)
            return
        try:
            if self._replica.record(row) is None and self._is_open(row, record, copy=copy):
                self._replica.take_over(row, Record(record))
        except DamagedRecord as damage:
            self._reject(outbox, message.id, str(damage))
            return
        self._tell(outbox, message.id, row, record[:BALLOT_BYTES], whole=False)

    def _is_open(self, row: bytes, record: bytes, *, copy: bool) -> bool:
        """Whether it comes in time, for its way in."""
        partition = row_partition(row)
        least = self._replica.summaries.of[partition].stable if copy else self._floor(partition)
        return int.from_bytes(record[:STAMP_BYTES]) > least

    def _floor(self, partition: int) -> int:
        """Up to which stamp none comes in as a first delivery."""
        return max(self._replica.summaries.of[partition].closed, self._refused.get(partition, 0))

    def _refusal(self, row: bytes) -> str:
        if len(row) < 4 or row_bucket(row) != PARTS or row_partition(row) not in self._replica.summaries.of:
            return "it holds no such part"
        return "" if self._group_commit.engine.persistent else NOT_KEPT

    def _unsound(self, row: bytes, blob: bytes) -> str:
        if len(blob) < RECORD_BYTES_MIN or not Record(blob).intact(self._replica.digester, row):
            return "the part was damaged on its way"
        try:
            Part.of(row, Record(blob))
        except Malformed as malformed:
            return str(malformed)
        return ""

    def ask(self, member: int, outbox: Outbox, message: AskPart, now: Instant) -> None:
        """Say what there is of a part; before that apply it, if it is committed, or refuse it."""
        commit = message.first == COMMIT
        if not self._admission.lets_in(member, outbox, message, now, writes=message.first != LOOK):
            return
        refusal = self._refusal(message.row)
        try:
            if commit and not refusal:
                refusal = self._commit(message.row, message.ballot)
            elif message.first == REFUSE and not refusal:
                self._refuse(message.row, message.ballot)
        except (DamagedRecord, Malformed) as error:
            refusal = str(error)
        if refusal:
            self._reject(outbox, message.id, refusal)
        else:
            self._tell(outbox, message.id, message.row, message.ballot, whole=not commit)

    def _refuse(self, row: bytes, ballot: bytes) -> None:
        """This part, and all that are as old, unless it is here."""
        partition, stamp = row_partition(row), int.from_bytes(ballot[:STAMP_BYTES])
        if stamp > self._floor(partition) and self._replica.record(row) is None:
            self._refused[partition] = stamp
            self._group_commit.stage(keyspace.refused(partition), stamp.to_bytes(STAMP_BYTES))

    def _reject(self, outbox: Outbox, request: int, refusal: str) -> None:
        outbox.put(Rejected(request, refusal, True), SMALL_BYTES + len(refusal))

    # --- what is applied -----------------------------------------------------------------------

    def _commit(self, row: bytes, ballot: bytes) -> str:
        """Apply the rows of a part that is held. Returns why not, where that cannot be done yet."""
        entry, record = self.rows.get(row), self._replica.record(row)
        if entry is None or entry.applied or record is None or not record.blob.startswith(ballot):
            return ""
        if not record.intent:
            self.forget(row)
            return ""
        part, buckets = Part.of(row, record), self._replica.buckets
        if any(buckets.is_strange(each) and not buckets.is_gone(row_bucket(each)) for each in part.rows):
            return "it does not know yet of a bucket that the batch writes to"
        stable = self._replica.summaries.of[row_partition(row)].stable
        for each, blob in zip(part.rows, part.records, strict=True):
            if self._may_apply(blob, stable):
                self._replica.take_over(each, Record(blob))
        entry.applied = True
        self._release(row)
        self._group_commit.stage(keyspace.intent(row), self._stored(entry))
        return ""

    def _may_apply(self, record: bytes, stable: int) -> bool:
        """What is stable has settled: it is here, or was beaten, and what beat it may be purged."""
        return int.from_bytes(record[:STAMP_BYTES]) > stable

    @staticmethod
    def _stored(entry: Entry) -> bytes:
        return entry.stamp.to_bytes(STAMP_BYTES) + (_APPLIED if entry.applied else b"")

    # --- what is told --------------------------------------------------------------------------

    def _tell(self, outbox: Outbox, request: int, row: bytes, ballot: bytes, *, whole: bool) -> None:
        """Once that is durable. `whole`: with the record."""
        try:
            record = self._replica.record(row)
        except DamagedRecord as damage:
            self._reject(outbox, request, str(damage))
            return
        partition = row_partition(row)
        state, stable = self._state(row, record, ballot), self._replica.summaries.of[partition].stable
        blob = record.blob if record is not None and whole and state > NEVER else b""
        told = PartTold(request, state, stable, self._store(), blob)
        summary = keyspace.summary(keyspace.partition_prefix(partition))
        keys = keyspace.record(row), keyspace.intent(row), keyspace.refused(partition), summary
        self._group_commit.reply_group(outbox, told, keys, SMALL_BYTES + len(blob), surely=True)

    def _state(self, row: bytes, record: Record | None, ballot: bytes) -> int:
        if record is not None and record.tombstone:
            return DONE
        if record is not None and (not ballot or record.blob.startswith(ballot)):
            entry = self.rows.get(row)
            return COMMITTED if entry is not None and entry.applied else HELD
        late = bool(ballot) and int.from_bytes(ballot[:STAMP_BYTES]) <= self._floor(row_partition(row))
        return NEVER if late else NONE

"""Follower: somebody who follows some partitions of this store, and what is read for them.

Of each partition it keeps how far it has come (`_Place`), and reads on from there, in one of two ways:

    by the log       the lines behind a sequence; a line of which the record was replaced meanwhile is passed
                     over, for that record has a later line
    looking through  all that is held, for versions above a stamp, in the order of rows; what changes
    meanwhile
                     has a line behind the sequence at which it was begun

One answer may be on its way at a time: then nothing is read before it was heard. It refuses to tell of a
partition of which this store does not hold all that it must, or of which a record is damaged.
"""

from collections.abc import Sequence
from itertools import islice
from typing import Final

from basestore.cluster.outbox import SMALL_BYTES, Outbox
from basestore.errors import DamagedRecord
from basestore.feeds.position import BEGUN, NOW, Mark, Met, Position, start
from basestore.protocol.feeds import Fed, Follow, MarkRow, UnservedRow
from basestore.repair.version import HEAD_BYTES, VERSION_BYTES
from basestore.replica.apply_log import ApplyLog
from basestore.replica.group_commit import GroupCommit
from basestore.replica.many_rows import READ_AT_ONCE
from basestore.replica.replica import Replica
from basestore.replica.summaries import Gone
from basestore.rows import rows_begin
from basestore.storage import keyspace
from basestore.storage.keyspace import SEQUENCE_BYTES

ANSWER_BYTES: Final = 128 << 10  # after so many an answer ends
LINES_MAX: Final = 1000  # and after so many lines, or rows, that were looked at
_NOTHING: Final = Gone()


class _Place:
    """Of one partition. `sequence`: all lines up to it were read; `row`: what was looked through, up to here,
    None by the log; `above`: for versions above this stamp; `told`: the position that was told last;
    `hidden`: of what is gone, that of which a gap was told."""

    __slots__ = ("above", "hidden", "log", "mark", "row", "sequence", "start", "told", "watching")

    def __init__(self, log: ApplyLog, begins: bytes, position: Position) -> None:
        self.log, self.start = log, begins
        self.mark = Mark(position.stable)
        self.told = position
        self.watching = False

    def note(self, row: bytes, held: bytes, head: bytes) -> None:
        """As `summaries.Watch`: a line goes that may not have been read."""
        if held and row.startswith(self.start):
            self.mark.replaced(int.from_bytes(held[HEAD_BYTES:]), self.sequence)

    def begin(self, store: bytes, met: Met | None) -> None:
        """From the position that was told last."""
        summary = self.log.summary
        if self.told == NOW:
            self.told = Position(store, summary.sequence, summary.shown)
            self.mark = Mark(summary.shown)
        position = self.told
        behind = start(position, store, summary.sequence, summary.floor, met)
        self.hidden, self.above = _NOTHING, position.stable
        self.row = self.start if behind is None else None
        # What the engine scans ends here: what is in the open batch has lines behind it.
        self.sequence = self.log.stored if behind is None else behind

    def gap(self, gone: Gone) -> int:
        """Up to which stamp deletions may be missing, that no gap was told of; 0: none are."""
        looks = self.row is not None
        if (looks and self.told.blank) or gone == self.hidden:
            return 0
        if not gone.hides(self.mark.told, None if looks else self.sequence):
            return 0
        self.hidden = gone
        return gone.stamp


class Follower:
    """By one Follow of a member, which has `asked` for so many partitions. `waits`: what it was told last was
    heard, so it may be told more; `stirred`: partitions that are to be looked at."""

    def __init__(
        self, outbox: Outbox, message: Follow, replica: Replica, group_commit: GroupCommit, store: bytes
    ) -> None:
        self.outbox, self.id, self.store = outbox, message.id, store
        self.label = message.label
        self._replica, self._group_commit = replica, group_commit
        self._places: dict[int, _Place] = {}
        self._begins = {row.partition: rows_begin(row.partition, message.label) for row in message.rows}
        self.asked = list(self._begins)
        self._prefix = message.prefix
        self.stirred = dict.fromkeys(self._begins)
        self.waits = True
        self._moved: dict[int, bool] = {}  # places that have, since the last answer; whether it may be told
        self._rows: list[bytes] = []
        self._gaps: dict[int, int] = {}
        self._unserved: list[UnservedRow] = []
        self._bytes = self._looked = 0

    @property
    def partitions(self) -> list[int]:
        return list(self._begins)

    def begin(self, position: Position, partition: int, met: Met | None) -> None:
        """Take up a partition, which is held here."""
        log = self._replica.summaries.summary_log.apply_log(partition)
        place = self._places[partition] = _Place(log, self._begins[partition] + self._prefix, position)
        place.begin(self.store, met)
        if position == NOW:
            self._moved[partition] = True

    def refuse(self, partition: int, reason: str) -> None:
        """Nothing is told of it any more."""
        place = self._places.pop(partition, None)
        if place is not None:
            self._watch(place, partition, False)
        self._begins.pop(partition, None)
        self.stirred.pop(partition, None)
        self._moved.pop(partition, None)
        self._gaps.pop(partition, None)
        self._unserved.append(UnservedRow(partition, reason))

    def end(self) -> None:
        """Nobody is told any more."""
        for partition, place in self._places.items():
            self._watch(place, partition, False)

    def _watch(self, place: _Place, partition: int, watching: bool) -> None:
        """Only while a mark waits: who keeps up costs no write anything."""
        if place.watching != watching:
            summaries = self._replica.summaries
            (summaries.watch if watching else summaries.unwatch)(partition, place)
            place.watching = watching

    def behind(self, partition: int) -> tuple[ApplyLog, int] | None:
        """Its log, and the last line of it that was read."""
        place = self._places.get(partition)
        return None if place is None else (place.log, place.sequence)

    @property
    def marks_wait(self) -> bool:
        """Whether there is something to say, if nothing but how far it has come."""
        return bool(self._moved)

    # --- reading -----------------------------------------------------------------------------

    def tell(self, *, marks: bool) -> tuple[Fed, int] | None:
        """What is next, and how many bytes it has; None while there is nothing. `marks`: if it is only how
        far it has come, too. Whoever sends it has it wait until all that is stored is durable."""
        self._rows, self._gaps, self._bytes, self._looked = [], {}, SMALL_BYTES, 0
        while self.stirred and not self._full:
            partition = next(iter(self.stirred))
            try:
                ended = self._visit(self._places[partition], partition)
            except DamagedRecord as damage:
                self.refuse(partition, str(damage))
                continue
            if ended:
                del self.stirred[partition]
        if not (self._rows or self._gaps or self._unserved or (self._moved and (marks or self._full))):
            return None
        told = [self._mark_of(each) for each in {**self._moved, **self._gaps}]
        unserved, self._unserved, self._moved = self._unserved, [], {}
        size = self._bytes + 64 * len(told) + sum(len(each.reason) + 16 for each in unserved)
        return Fed(self.id, self.store, self._rows, told, unserved), size

    @property
    def _full(self) -> bool:
        return self._bytes > ANSWER_BYTES or self._looked > LINES_MAX

    def _mark_of(self, partition: int) -> MarkRow:
        place = self._places[partition]
        looks = place.row is not None
        if not looks:
            place.told = Position(self.store, place.sequence, place.mark.told)
        elif place.told.blank and self._rows:
            place.told = Position(b"", BEGUN, 0)
        sequence, stable = (0, 0) if looks else (place.sequence, place.mark.told)
        return MarkRow(partition, sequence, stable, self._gaps.get(partition, 0), looks)

    def _visit(self, place: _Place, partition: int) -> bool:
        """Read on in one partition; whether all of it is read."""
        summary = place.log.summary
        if place.row is None and place.sequence < summary.floor:  # lines have gone that were not read
            place.begin(self.store, None)
        if gap := place.gap(self._replica.summaries.gone(self._begins[partition])):
            self._gaps[partition] = gap
        if place.row is not None:
            self._moved[partition] = True
            self._look_through(place)
            return False  # the rest of it is next, or the log
        # Asked before anything is read: it holds of what has come by now.
        place.mark.note(0 if summary.lossy else summary.shown, summary.sequence)
        before = place.sequence
        ended = self._read_lines(place, summary.sequence)
        if place.mark.reach(place.sequence) or place.sequence != before:
            self._moved[partition] = True
        self._watch(place, partition, place.mark.waits)
        return ended

    def _read_lines(self, place: _Place, last: int) -> bool:
        """The next lines of a log; whether these were all, up to the last change."""
        most = LINES_MAX - self._looked + 1
        slots = place.log.log(self._group_commit, place.sequence, most)
        begins = place.start
        for first in range(0, len(slots), READ_AT_ONCE):
            some = slots[first : first + READ_AT_ONCE]
            wanted = [
                (at, line[VERSION_BYTES:]) for at, line in some if line.startswith(begins, VERSION_BYTES)
            ]
            self._read(wanted)
            self._looked += len(some)
            place.sequence = some[-1][0]
            if self._full:
                return False
        if len(slots) < most:
            place.sequence = last
        return place.sequence == last

    def _read(self, wanted: Sequence[tuple[int, bytes]]) -> None:
        rows = [row for _, row in wanted]
        stored = self._group_commit.get_many(keyspace.each_record(rows)) if rows else []
        for (sequence, row), record in zip(wanted, stored, strict=True):
            # Else it has a later line, or none, for it has gone.
            if record is not None and record.endswith(sequence.to_bytes(SEQUENCE_BYTES)):
                self._add(row, self._replica.sound(row, record).blob)

    def _look_through(self, place: _Place) -> None:
        """The next rows of all that is held."""
        _, end = keyspace.records_beginning(place.start)
        begin = keyspace.record(place.row or place.start)
        most = LINES_MAX - self._looked + 1
        for key, stored in islice(self._group_commit.scan(begin, end), most):
            row = keyspace.row_of(key)
            if int.from_bytes(stored[:8]) > place.above:
                self._add(row, self._replica.sound(row, stored).blob)
            place.row = row + b"\0"
            self._looked += 1
            if self._full:
                return
        place.row = None

    def _add(self, row: bytes, blob: bytes) -> None:
        self._rows += (row, blob)
        self._bytes += len(row) + len(blob) + 16

"""Dropped rows: what is still stored of buckets that were dropped, or of partitions that were given up, goes,
a slice at a time, behind the work.

Of such a bucket nothing is shown and nothing taken from the moment on at which its drop is in use here. What
is stored of it counts in the sums until it has gone. So a partition that still has some takes part in no
exchange: two replicas compare only once both have purged all that was dropped up to the same epoch (it is in
the seal of what they tell), and then neither has anything to bring back.

What goes is told by the labels that are found, not by a list of what was dropped: a store that was away may
come back when all others have long forgotten of it. Partition 7 is looked through so:

    carts k1, carts k2        there is such a bucket: on, behind the last row that can begin so
    \\0 0000 0011 a, b, c      no bucket has this number any more: they go
    (no more)                 a note is kept: all has gone that was dropped up to epoch 9

Of a partition that was given up, once its change of seats has ended, nothing is asked of this node any more:
all its rows go. If it is given back before they have gone, what is left is compared like anything else.

So an opening looks for nothing that is not there, and one after a crash looks through the partitions again
that lack the note. Owns the notes, and what is pending.
"""

from collections.abc import Iterable

from basestore.errors import DamagedRecord
from basestore.replica.group_commit import GroupCommit
from basestore.replica.replica import Replica
from basestore.rows import row_bucket, rows_begin
from basestore.storage import keyspace
from basestore.topology.buckets import Buckets

_EPOCH_BYTES = 8


class DroppedRows:
    """Of one node. `pending`: the partitions in which there may still be some, and from which row on; `upto`:
    the last drop after which there were none, on the disk for sure."""

    def __init__(self, group_commit: GroupCommit, replica: Replica, buckets: Buckets) -> None:
        self._group_commit, self._replica, self._buckets = group_commit, replica, buckets
        self.pending: dict[int, bytes] = {}
        self._gone: dict[int, int] = {}  # by partition, up to which drop all has gone
        self.upto = 0

    def look(self) -> None:
        """Buckets, or the partitions that are held, may be others than when this was done last."""
        self.pending = {
            partition: keyspace.partition_prefix(partition)
            for partition in self._replica.summaries.of
            if self._gone_in(partition) < self._buckets.dropped_since
        }
        self._note_rid()

    def _gone_in(self, partition: int) -> int:
        if not self._buckets.dropped_since:
            return 0
        if partition not in self._gone:
            stored = self._group_commit.get(keyspace.dropped(partition))
            self._gone[partition] = int.from_bytes(stored or b"")
        return self._gone[partition]

    def purge(self, partition: int, most: int) -> tuple[int, int]:
        """Look at a few more rows of a partition that is pending, and let those go that are to; only while
        nothing is staged. Returns how many were looked at, about `most` at the most, and how many went."""
        looked_at = dropped = 0
        while looked_at < most:
            start, end = keyspace.records_from(self.pending[partition], partition)
            first = next(iter(self._replica.scan(start, end, 1)), None)
            looked_at += 1
            if first is None:
                self._end(partition)
                break
            label = row_bucket(keyspace.row_of(first[0]))
            behind = keyspace.records_beginning(rows_begin(partition, label))[1]
            if self._buckets.is_gone(label):
                stored = self._replica.scan(first[0], behind, most - looked_at + 1)
                self._drop(keyspace.row_of(key) for key, _ in stored)
                looked_at, dropped = looked_at + len(stored), dropped + len(stored)
                behind = keyspace.after(stored[-1][0])
            self.pending[partition] = keyspace.row_of(behind)
        return looked_at, dropped

    def _drop(self, rows: Iterable[bytes]) -> None:
        for row in rows:
            try:
                self._replica.drop(row)
            except DamagedRecord:
                self._replica.replace_damaged(row, (), ())

    def _end(self, partition: int) -> None:
        """In one batch with the last that went."""
        del self.pending[partition]
        since = self._gone[partition] = self._buckets.dropped_since
        self._group_commit.stage(keyspace.dropped(partition), since.to_bytes(_EPOCH_BYTES))
        self._note_rid()

    def _note_rid(self) -> None:
        """If none is left: before that is durable, a crash may bring some back."""
        since = self._buckets.dropped_since

        def note() -> None:
            self.upto = max(self.upto, since)

        if not self.pending and self.upto < since:
            self._group_commit.when_durable(note)


class GivenUpRows:
    """Of one node. `pending`: the partitions that it does not hold, and has rows of."""

    def __init__(self, group_commit: GroupCommit, replica: Replica, partitions: int) -> None:
        self._group_commit, self._replica = group_commit, replica
        held = replica.summaries.of
        strange = [each for each in range(partitions) if each not in held]
        self.pending = {each: None for each in strange if self._has_rows(each)}
        for each in self.pending:  # what goes is taken off its sums, of which this opening knows nothing yet
            replica.summaries.summary_log.hold(each)

    def _has_rows(self, partition: int) -> bool:
        return any(True for _ in self._group_commit.scan(*keyspace.records_of(partition)))

    def look(self, given_up: Iterable[int]) -> None:
        """These partitions are held no more; others may be held again."""
        held = self._replica.summaries.of
        self.pending |= dict.fromkeys(given_up)
        self.pending = {each: None for each in self.pending if each not in held}

    def purge(self, most: int) -> int | None:
        """Let a few rows go; only while nothing is staged. Returns how many; None: there is nothing to do."""
        for partition in self.pending:
            stored = self._replica.scan(*keyspace.records_of(partition), most)
            for row in [keyspace.row_of(key) for key, _ in stored]:
                try:
                    self._replica.drop(row)
                except DamagedRecord:  # what it counts for is not known: should it come back, it is scrubbed
                    self._group_commit.stage(keyspace.record(row), None)
                    self._group_commit.stage(keyspace.suspect(partition), b"")
                    self._replica.damaged.pop(row, None)
            if not stored:
                del self.pending[partition]
            return 1 + len(stored)
        return None

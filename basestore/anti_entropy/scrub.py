"""Scrub: what a partition's summary says, held against what is on the disk.

One partition at a time, slice by slice, from its first row to its last. A record whose digest does not fit
is damaged, and healed from other replicas (`healing.py`); sums are set right only when none is. A sum or a
count that does not fit is set right; what is lacking then is found by the next exchanges. When a partition is
due is `maintenance.py`'s affair.

Rows change meanwhile. The scrub has counted the rows before its cursor, and not yet those after it:

    rows  a b c | d e f      the cursor stands before d
    b is overwritten         it was counted: subtract what it was, add what it is
    e is overwritten         it will be counted when the cursor comes there
"""

from basestore.errors import DamagedRecord
from basestore.repair.digest_tree import MASK, digest_of, leaf_of
from basestore.repair.version import HEAD_BYTES, is_tombstone
from basestore.replica.replica import Replica
from basestore.replica.summaries import Summaries
from basestore.storage import keyspace


class Scrub:
    """The scrub of one partition. A watch (`summaries.Watch`): what changes behind its cursor it counts
    again."""

    def __init__(self, summaries: Summaries, replica: Replica, partition: int, begun_s: float) -> None:
        self._summaries = summaries
        self._replica = replica
        self.partition = partition
        self.begun_s = begun_s
        self._cursor = keyspace.partition_prefix(partition)  # rows before this one are counted
        self._sums: dict[int, int] = {}
        self._count = 0
        self._live = 0
        self.damaged = False  # a record was found to be
        summaries.watch(partition, self)

    def note(self, row: bytes, held: bytes, head: bytes) -> None:
        if row < self._cursor:
            self._add(row, held[:HEAD_BYTES], -1)
            self._add(row, head, 1)

    def _add(self, row: bytes, head: bytes, sign: int) -> None:
        if head:
            leaf = leaf_of(row)
            self._sums[leaf] = (self._sums.get(leaf, 0) + sign * digest_of(head)) & MASK
            self._count += sign
            self._live += sign * (not is_tombstone(head))

    def advance(self, most: int) -> bool:
        """Look at the next rows, at most so many; called while nothing is staged. Whether it goes on."""
        stored = self._replica.scan(*keyspace.records_from(self._cursor, self.partition), most)
        for key, held in stored:
            row = keyspace.row_of(key)
            try:
                self._replica.check(row, held)
                self._add(row, held[:HEAD_BYTES], 1)
            except DamagedRecord:  # what it counts for nobody knows before it is healed
                self.damaged = True
        if not stored:
            return False
        self._cursor = keyspace.after(keyspace.row_of(stored[-1][0]))
        return True

    def end(self) -> None:
        """It has come to nothing."""
        self._summaries.unwatch(self.partition, self)

    def finish(self) -> int:
        """Set the summary right. Returns how many leaves were wrong, or 1 if only the root was."""
        self.end()
        summary = self._summaries.of[self.partition]
        wrong = [
            leaf
            for leaf in self._sums.keys() | summary.leaves.keys()
            if self._sums.get(leaf, 0) != summary.leaves.get(leaf, 0)
        ]
        if wrong:
            self._replica.marks.clear()  # they may say that what is gone is held
        sound = summary.sound
        if wrong or not sound or (summary.count, summary.live) != (self._count, self._live):
            sums = {leaf: self._sums.get(leaf, 0) for leaf in wrong}
            self._summaries.summary_log.correct(self.partition, sums, self._count, self._live)
        return len(wrong) or int(not sound)

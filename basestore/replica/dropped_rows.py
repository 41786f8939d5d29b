"""Dropped rows: what is still stored of buckets that were dropped goes, a slice at a time, behind the work.

Of such a bucket nothing is shown and nothing taken from the moment on at which its drop is in use here. What
is stored of it counts in the sums until it has gone. So a partition that still has some takes part in no
exchange: two replicas compare only once both have purged all that was dropped up to the same epoch (it is in
the seal of what they tell), and then neither has anything to bring back.

A note is kept for each partition of up to which drop all has gone: so an opening looks for nothing that is
not there. Owns the notes, and what is pending.
"""

from itertools import islice

from basestore.cluster.placement import rows_begin
from basestore.errors import DamagedRecord
from basestore.replica.group_commit import GroupCommit
from basestore.replica.replica import Replica
from basestore.storage import keyspace
from basestore.topology.buckets import Buckets

_EPOCH_BYTES = 8


class DroppedRows:
    """Of one node. `pending`: by partition, the labels of which there may still be rows."""

    def __init__(self, group_commit: GroupCommit, replica: Replica, buckets: Buckets) -> None:
        self._group_commit, self._replica, self._buckets = group_commit, replica, buckets
        self.pending: dict[int, list[bytes]] = {}
        self._gone: dict[int, int] = {}
        self.look()

    def look(self) -> None:
        """Buckets, or the partitions that are held, may be others than when this was done last."""
        last = max((each.since for each in self._buckets.dropped.values()), default=0)
        self.pending = {}
        for partition in self._replica.summaries.of if last else ():
            gone = self._gone_in(partition)
            if gone < last:
                self.pending[partition] = [
                    label for label, each in self._buckets.dropped.items() if each.since > gone
                ]

    def _gone_in(self, partition: int) -> int:
        """Up to which drop all has gone."""
        if partition not in self._gone:
            stored = self._group_commit.get(keyspace.dropped(partition))
            self._gone[partition] = int.from_bytes(stored or b"")
        return self._gone[partition]

    def purge(self, partition: int, most: int) -> int:
        """Let at most so many rows of a partition that is pending go; only while nothing is staged. Returns
        how many went: 0 once there is none."""
        label = self.pending[partition][-1]
        stem = keyspace.records_beginning(rows_begin(partition, label))
        found = [keyspace.row_of(key) for key, _ in islice(self._group_commit.scan(*stem), most)]
        for row in found:
            try:
                self._replica.drop(row)
            except DamagedRecord:
                self._replica.replace_damaged(row, ())
        if not found:
            self.pending[partition].pop()
            if not self.pending[partition]:
                self._end(partition)
        return len(found)

    def _end(self, partition: int) -> None:
        del self.pending[partition]
        last = max(each.since for each in self._buckets.dropped.values())
        self._gone[partition] = last
        self._group_commit.stage(keyspace.dropped(partition), last.to_bytes(_EPOCH_BYTES))

    def let_go(self, partition: int) -> None:
        """It is not held any more: should it be again, all is looked for."""
        self.pending.pop(partition, None)
        if self._gone.pop(partition, None) is not None:
            self._group_commit.stage(keyspace.dropped(partition), None)

"""Record size: how many bytes a record of this node has on its disk, on average, by a small sample.

Nobody counts the bytes of a partition: to keep that count right would cost every write. A few records of a
few partitions tell about as much as is asked for, before partitions are moved:

    64 partitions, 16 of them with records     8 of these, 8 records each: 121 bytes on average
    none with records, or they cannot be read  it is not known

The sample is taken again once it is old, or there are many more records. Changes nothing.
"""

from itertools import islice
from typing import Final

from basestore.errors import StorageError
from basestore.instant import Instant
from basestore.replica.group_commit import GroupCommit
from basestore.replica.summaries import Summaries
from basestore.storage import keyspace

PARTITIONS_MAX: Final = 8
RECORDS_MAX: Final = 8  # of each
OLD_S: Final = 60.0


class RecordSize:
    """Of one node."""

    def __init__(self, group_commit: GroupCommit, summaries: Summaries) -> None:
        self._group_commit, self._summaries = group_commit, summaries
        self._mean: int | None = None
        self._taken_s, self._of = 0.0, 0

    def mean(self, now: Instant) -> int | None:
        """In bytes, key and value and what is kept beside them; None where that is not known."""
        records = self._summaries.records
        if self._mean is None or now.monotonic > self._taken_s + OLD_S or records > 2 * self._of:
            self._mean, self._taken_s, self._of = self._sampled(), now.monotonic, records
        return self._mean

    def _sampled(self) -> int | None:
        held = sorted(partition for partition, summary in self._summaries.of.items() if summary.count)
        sizes = list[int]()
        for partition in held[:: max(1, len(held) // PARTITIONS_MAX)][:PARTITIONS_MAX]:
            try:
                rows = islice(self._group_commit.scan(*keyspace.records_of(partition)), RECORDS_MAX)
                sizes += [len(key) + len(value) for key, value in rows]
            except StorageError:  # it is damaged there, which others see to
                continue
        return round(sum(sizes) / len(sizes)) if sizes else None

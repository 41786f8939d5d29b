"""Skipped prepares: ballots that a quorum has promised to this node with its last acceptance of a row
(Multi-Paxos), and the record that was chosen by that.

A ballot is given out once. A refusal, another epoch of the row's seats, a failed round, or that it is closed
ends it: then the next write prepares a ballot of its own. What is forgotten costs a round, no more.
"""

from collections import OrderedDict
from typing import Final, NamedTuple

from basestore.repair.paxos import is_closed
from basestore.repair.version import Record
from basestore.replica.summaries import Summaries
from basestore.rows import row_partition

ROWS_MAX: Final = 10_000
BYTES_MAX: Final = 16 << 20


class Skip(NamedTuple):
    """`since`: the epoch of the seats under which `ballot` is promised, by those that hold `record`."""

    since: int
    ballot: bytes
    record: Record


class SkippedPrepares:
    """Of one node; the rows that were used longest ago are forgotten first."""

    def __init__(self, summaries: Summaries) -> None:
        self._summaries = summaries
        self._rows: OrderedDict[bytes, Skip] = OrderedDict()
        self._bytes = 0

    def keep(self, row: bytes, skip: Skip) -> None:
        self.drop(row)
        self._rows[row] = skip
        self._bytes += _size(row, skip)
        while len(self._rows) > ROWS_MAX or self._bytes > BYTES_MAX:
            self._bytes -= _size(*self._rows.popitem(last=False))

    def get(self, row: bytes, since: int) -> Skip | None:
        """What is kept of a row, if its seats are still those of this epoch, and this store would take the
        ballot. Who uses that drops it."""
        skip = self._rows.get(row)
        if skip is None:
            return None
        summary = self._summaries.of.get(row_partition(row))
        # Below what is closed a write would begin in a time of which much may be purged already.
        if skip.since != since or summary is None or is_closed(summary.closed, skip.ballot):
            self.drop(row)
            return None
        return skip

    def drop(self, row: bytes) -> None:
        skip = self._rows.pop(row, None)
        if skip is not None:
            self._bytes -= _size(row, skip)


def _size(row: bytes, skip: Skip) -> int:
    return len(row) + len(skip.record.blob)

"""Maintenance: what a store does with its partitions between exchanges, a slice at a time.

    purge   tombstones and expired records that are due at or below the stable stamp go
    drop    what is held of buckets that were dropped goes, and what was held of partitions that this node has
            given up (`replica/dropped_rows.py`)
    scrub   every partition is held against the disk once a week (`scrub.py`), and at once where something
            may be wrong: it is *suspect*, and takes part in no exchange until it has been looked at
    empty   an *outlived* store (an old copy of one that others have since known a later one of) gives up
            what it holds before it compares anything: stable stamps were reached without that

Nothing of it touches a partition of which an exchange is open. What is looked at is what is stored, so all
this happens while nothing is staged.

How a damaged record goes, for example row k of partition 3:

    a read finds that k's digest does not fit      the replica lists k as damaged, and 3 is not compared
    until k is healed                              the sums go on counting what k held before: if it is read
                                                   soundly after all, nothing is counted twice
    k is healed (`healing.py`)                     it is entered like any record, and in the same batch 3 is
                                                   suspect: its sums count what k held too
    a scrub of 3 counts all records                the sums are set right, and 3 may be compared again
"""

from collections.abc import Container
from typing import NamedTuple

from basestore.anti_entropy.certificates import Certificates
from basestore.anti_entropy.scrub import Scrub
from basestore.instant import Instant
from basestore.metrics import Metrics
from basestore.replica.dropped_rows import DroppedRows, GivenUpRows
from basestore.replica.group_commit import GroupCommit
from basestore.replica.identity import StoreIdentity
from basestore.replica.replica import DAMAGED_MAX, Replica
from basestore.rows import row_partition
from basestore.storage import keyspace

SCRUB_S = 7 * 24 * 3600.0


class LastScrub(NamedTuple):
    """When a scrub was begun and ended, by `Instant.monotonic`."""

    begun_s: float
    ended_s: float


class Maintenance:
    """Of all partitions of a node. `suspects`: those to be scrubbed before any exchange."""

    def __init__(
        self,
        group_commit: GroupCommit,
        replica: Replica,
        identity: StoreIdentity,
        certificates: Certificates,
        metrics: Metrics,
        now: Instant,
    ) -> None:
        self._group_commit = group_commit
        self.dropped: DroppedRows | None = None  # of which a partition is rid before it is compared
        self.given_up: GivenUpRows | None = None
        self._replica = replica
        self._summaries = replica.summaries
        self._identity = identity
        self._metrics = metrics
        self._certificates = certificates
        self.suspects = self._summaries.suspects
        self._last_scrubs: dict[int, LastScrub] = {}
        self._examined: set[int] = set()  # of which all is to be compared after the scrub
        self._damaged: set[int] = set()  # partitions with records that are to be healed
        self._emptied: set[int] = set()
        self._scrub: Scrub | None = None
        self._suspicion: int | None = None  # when that was begun
        self._scrubbed_ms = self._load_scrubbed(now)

    def suspect(self, partition: int) -> None:
        """Something may be wrong with this partition: scrub it before it is compared again."""
        self._summaries.suspect(partition)

    def examine(self, partition: int) -> None:
        """Scrub this partition, and have all of it compared with every other replica."""
        self.suspect(partition)
        self._examined.add(partition)

    def last_scrub(self, partition: int) -> LastScrub | None:
        """The last of this opening of the store that has ended."""
        return self._last_scrubs.get(partition)

    def bars(self, partition: int) -> bool:
        """Whether the partition is in no state to be compared."""
        return (
            (self.dropped is not None and partition in self.dropped.pending)
            or partition in self.suspects
            or partition in self._damaged
            or (partition not in self._emptied and self._is_outlived and not self._is_last_resort(partition))
        )

    @property
    def _is_outlived(self) -> bool:
        """Whether what this store holds may be long beaten, or purged: it is an old copy."""
        return self._identity.outlived and not self._identity.counts

    def _is_last_resort(self, partition: int) -> bool:
        """Whether others hold too little of it to go by them alone. That can be told only of replicas that
        are here; until all are, an old copy of it waits."""
        certificates = self._certificates
        return certificates.all_heard(partition) and not certificates.recoverable(partition)

    def hold(self, partition: int, now: Instant) -> None:
        """This partition is held from now on: its week begins."""
        self._scrubbed_ms[partition] = now.wall_ms
        self._group_commit.stage(keyspace.scrubbed(partition), now.wall_ms.to_bytes(8))

    def give_up(self, partition: int) -> None:
        """It is not held any more."""
        if self._scrub is not None and self._scrub.partition == partition:
            self._scrub.end()
            self._scrub = None
        self._scrubbed_ms.pop(partition, None)
        self._last_scrubs.pop(partition, None)
        for each in (self._examined, self._damaged, self._emptied):
            each.discard(partition)
        self._group_commit.stage(keyspace.scrubbed(partition), None)

    def watch_damage(self) -> None:
        """No exchanges where a record is damaged, until it is healed, nor where counts cannot be."""
        self._damaged = {row_partition(row) for row in self._replica.damaged}
        for partition, summary in self._summaries.of.items():
            if not summary.countable and partition not in self.suspects:
                self.suspect(partition)

    def work(self, rows: int, busy: Container[int], now: Instant) -> int | None:
        """Do the next slice, of at most so many rows, where no exchange is open (`busy`); returns how many it
        cost, None when there is nothing to do."""
        cost = self._empty(rows, busy)
        if cost is None:
            cost = self._purge_dropped(rows, busy)
        if cost is None:
            cost = self._purge(rows, busy)
        if cost is None:
            cost = self._trim(rows, busy)
        if cost is None and self.given_up is not None:
            cost = self._drop_given_up(self.given_up, rows)
        return cost if cost is not None else self._scrub_on(rows, busy, now)

    # --- purge, empty ------------------------------------------------------------------------

    def purgeable(self, partition: int) -> int:
        """Up to which stamp what is due may be purged. A store in doubt may know a stable stamp, and lack
        what that speaks of: its tombstone may be all that keeps an older value from coming back."""
        summary = self._summaries.of[partition]
        return summary.stable if self._certificates.counts(partition) else summary.complete

    def all_purged(self, partition: int) -> bool:
        """Whether all of it is purged that may be, as far as can be told without looking."""
        return self._replica.all_purged(partition, self.purgeable(partition))

    def purge(self, partition: int, most: int) -> int:
        """Drop what has become due, at most so many rows; returns how many were looked at."""
        looked_at, dropped = self._replica.purge(partition, self.purgeable(partition), most)
        self._metrics.count("records_purged", dropped)
        return looked_at

    def _trim(self, rows: int, busy: Container[int]) -> int | None:
        """Lines go that were kept for a replica that comes, and it needs no more, or would need too many; or
        for who follows, and has read them."""
        summary_log, moving = self._summaries.summary_log, self._certificates.seating.moving
        for partition in [
            each for each in self._summaries.of if each in moving or summary_log.has_rows(each)
        ]:
            passed = min(self._certificates.passed(partition), self._summaries.of[partition].spilled)
            if self._summaries.of[partition].floor < passed and partition not in busy:
                return 1 + summary_log.trim(partition, passed, rows)
        return None

    def purged_upto(self) -> int:
        """The last drop of which nothing is stored any more, for sure."""
        return self.dropped.upto if self.dropped is not None else 0

    def _purge_dropped(self, rows: int, busy: Container[int]) -> int | None:
        """Most partitions hold nothing of a bucket: as many of these as the slice has room for are one batch,
        up to one that does, for what goes there must be stored before anything else is looked at."""
        dropped, looked_at, gone = self.dropped, 0, 0
        if dropped is None or not dropped.pending:
            return None
        for partition in [each for each in dropped.pending if each not in busy]:
            if gone or looked_at >= rows:
                break
            more, gone = dropped.purge(partition, rows - looked_at)
            self._metrics.count("records_of_dropped_buckets", gone)
            looked_at += more
        return looked_at or None

    def _drop_given_up(self, given_up: GivenUpRows, rows: int) -> int | None:
        dropped = given_up.purge(rows)
        self._metrics.count("records_given_up", max(0, (dropped or 0) - 1))
        return dropped

    def _purge(self, rows: int, busy: Container[int]) -> int | None:
        for partition, summary in self._summaries.of.items():
            # The first is true of nearly all: this is on the way of every step.
            if summary.purged >= summary.stable or partition in busy:
                continue
            if not self.all_purged(partition):
                return 1 + self.purge(partition, rows)
        return None

    def _empty(self, rows: int, busy: Container[int]) -> int | None:
        if not self._is_outlived:
            self._emptied.clear()
            return None
        for partition in self._summaries.of:
            if partition in self._emptied or partition in busy:
                continue
            if not self._certificates.recoverable(partition):
                continue
            self._certificates.incomplete(partition)
            dropped = self._replica.empty(partition, rows)
            self._metrics.count("records_dropped", dropped)
            if not dropped:
                self._emptied.add(partition)
                self._certificates.withdraw_all(partition)
                self.suspect(partition)  # what damaged records counted for is not known
            return 1 + dropped
        return None

    # --- scrub -------------------------------------------------------------------------------

    def _load_scrubbed(self, now: Instant) -> dict[int, int]:
        scrubbed = {}
        for partition in self._summaries.of:
            stored = self._group_commit.get(keyspace.scrubbed(partition))
            if stored is None:
                # A new store begins its week. By the wall clock, for that goes on while the node is down.
                stored = now.wall_ms.to_bytes(8)
                self._group_commit.stage(keyspace.scrubbed(partition), stored)
            scrubbed[partition] = int.from_bytes(stored)
        return scrubbed

    def _scrub_on(self, rows: int, busy: Container[int], now: Instant) -> int | None:
        if self._scrub is None:
            due = self._due(now)
            if due is None or due in busy:  # its exchange ends soon, and no other begins
                return None
            self._scrub = Scrub(self._summaries, self._replica, due, now.monotonic)
            self._suspicion = self.suspects.get(due)
        if not self._scrub.advance(rows):
            self._finish(self._scrub, now)
        return rows

    def _due(self, now: Instant) -> int | None:
        """What to scrub next: what is suspect, or what was scrubbed longest ago, if that is a week. Where a
        record is damaged nothing can be counted, before it is healed."""
        if len(self._replica.damaged) >= DAMAGED_MAX:
            return None
        for partition in self.suspects:
            if partition not in self._damaged:
                return partition
        sound = self._scrubbed_ms.keys() - self._damaged
        oldest = min(sound, key=self._scrubbed_ms.__getitem__, default=None)
        if oldest is None or now.wall_ms - self._scrubbed_ms[oldest] < SCRUB_S * 1000:
            return None
        return oldest

    def _finish(self, scrub: Scrub, now: Instant) -> None:
        self._scrub = None
        partition = scrub.partition
        self._metrics.count("partitions_scrubbed")
        if scrub.damaged or any(row_partition(row) == partition for row in self._replica.damaged):
            scrub.end()
            self.suspect(partition)
            self._note_scrub(scrub, now)
            return
        wrong = scrub.finish()
        self._metrics.count("leaves_corrected", wrong)
        if wrong:
            self._certificates.incomplete(partition)
        # Proofs made with wrong sums are none.
        if wrong or partition in self._examined:
            self._certificates.withdraw_all(partition)
        if self.suspects.get(partition) == self._suspicion:  # else it was suspected anew meanwhile
            self._summaries.clear(partition)
        self._examined.discard(partition)
        self._note_scrub(scrub, now)

    def _note_scrub(self, scrub: Scrub, now: Instant) -> None:
        partition = scrub.partition
        self._last_scrubs[partition] = LastScrub(scrub.begun_s, now.monotonic)
        self._scrubbed_ms[partition] = now.wall_ms
        self._group_commit.stage(keyspace.scrubbed(partition), now.wall_ms.to_bytes(8))

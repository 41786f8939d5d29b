"""Summaries: what a store keeps beside its records, so that replicas can be compared.

    summary      a partition's sums, counts and stamps (`repair.digest_tree.Summary`)
    nodes        the sums of its leaves
    lines        what was stored, in order (`apply_log.py`)
    due          what may be purged once a stamp is stable: written in the batch of the record

The first three are memory's, and reach their rows by way of the summary log (`summary_log.py`). An opening
reads these rows and the log records, and never the records themselves. Sequences begin again where the
store left off: what was not durable may get its sequence anew, but was never told to anyone.

A *watch* on a partition is told of each change before it is made: an open exchange keeps what its snapshot
had (copy on write), a scrub corrects what it has counted. Refuses nothing and decides nothing: what is
stored is the replica's affair, and which stamps hold that of `anti_entropy/certificates.py`.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import NamedTuple, Protocol

from basestore.repair.digest_tree import STAMP_MAX, due_of
from basestore.repair.version import FLAGS_AT, HEAD_BYTES, MARKED, RECORD_BYTES_MIN, is_tombstone
from basestore.replica.apply_log import stored_summary
from basestore.replica.group_commit import GroupCommit
from basestore.replica.summary_log import SummaryLog
from basestore.storage import keyspace

COMES = b"c"  # how a partition is to become unfit: it is given to this store
DOUBTED = b"d"  # this store may have given it up meanwhile, and been given it again


class Gone(NamedTuple):
    """What a store held and does not hold any more, though nothing took its place: no version of it is above
    `stamp`, and nothing of it came here behind `sequence`."""

    stamp: int = 0
    sequence: int = 0

    def with_also(self, stamp: int, sequence: int) -> "Gone":
        return Gone(max(self.stamp, stamp), max(self.sequence, sequence))

    def hides(self, stable: int, sequence: int | None) -> bool:
        """Whether something of it may not have been told to whom all was told up to this stamp, and up to
        this sequence (None: by that nothing can be said)."""
        return self.stamp > stable and (sequence is None or self.sequence > sequence)


class Watch(Protocol):
    """Who is told before a row of a partition changes."""

    def note(self, row: bytes, held: bytes, head: bytes) -> None:
        """`held`: head and sequence of what the row holds, empty when nothing; `head`: of what comes."""


class Summaries:
    """The summaries of the partitions that a node holds, by partition. `damaged`: partitions whose sums
    were found not to fit when the store was opened. `closed`: no partition has closed more. `suspects`:
    those that are to be counted anew, and a number that grows with each suspicion. `unfit`: those that this
    store was given while it ran, and of which it is not yet proven to hold what it must; `fitting`:
    those of them of which it is, once that is durable; `foreseen`: those that it was about to be given, or to
    doubt, when it was closed. `unlearned`: of registers the rows with a record that this store has accepted,
    and not learned, and its ballot (`registers/acceptors.py`): nothing is closed that far. `unapplied`: of
    batches the parts that are held and not applied, and their stamps (`batches/parts.py`): likewise, and
    where it is, it is not told. `shows`: is told of each partition whose stable stamp may be told anew."""

    def __init__(self, group_commit: GroupCommit, partitions: Iterable[int]) -> None:
        self._group_commit = group_commit
        self._watches: dict[int, list[Watch]] = {}
        engine = group_commit.engine
        self.of = {
            each: stored_summary(engine, keyspace.partition_prefix(each)) for each in sorted(partitions)
        }
        self.summary_log = SummaryLog(group_commit, self.of)
        self.closed = max((summary.closed for summary in self.of.values()), default=0)
        self.damaged = {partition for partition, summary in self.of.items() if not summary.sound}
        self._first_due: dict[int, int] = {}  # nothing of these partitions is due at a lower stamp
        self._due_noted: dict[int, int] = {}  # up to which commit, when a line of the partition was staged
        unfit = {keyspace.partition_of(key): how for key, how in engine.scan(*keyspace.unfits())}
        self.unfit = unfit.keys() & self.of.keys()
        self.fitting: set[int] = set()
        for each in self.unfit:
            self.of[each].shown = 0
        self.foreseen = {partition: unfit[partition] for partition in self.unfit if unfit[partition]}
        self.unlearned: dict[int, dict[bytes, bytes]] = {}
        self.unapplied: dict[int, dict[bytes, int]] = {}
        self.shows: Callable[[int], object] = lambda partition: None
        self._untold: dict[int, Gone] = {}  # what may have gone before it was watched
        self._gone: dict[bytes, Gone] = {}  # by what rows begin with
        for each in self.of:
            self.doubt_gone(each)
        self._suspicions = 0
        self.suspects: dict[int, int] = {}
        stored = [keyspace.partition_of(key) for key, _ in engine.scan(*keyspace.suspects())]
        for each in self.of if engine.loss else sorted({*stored, *self.damaged} & self.of.keys()):
            self.suspect(each)

    @property
    def records(self) -> int:
        """Rows that hold a value; one that has expired does until it is purged."""
        return sum(summary.live for summary in self.of.values())

    # --- partitions that come and go ---------------------------------------------------------

    def hold(self, partition: int) -> None:
        """It is held from now on. What the store has of it from before counts for nothing; but sequences go
        on, for others may remember them, and what was closed stays so."""
        summary = self.of[partition] = self.summary_log.hold(partition)
        summary.stable = summary.shown = summary.purged = 0
        self.doubt_gone(partition)
        self._first_due.pop(partition, None)
        if not summary.sound:
            self.damaged.add(partition)
        if not summary.sound or self._group_commit.get(keyspace.suspect(partition)) is not None:
            self.suspect(partition)

    def foresee_unfit(self, partition: int, how: bytes) -> None:
        """It will be made unfit, in this opening or the next (`COMES` or `DOUBTED`)."""
        self._group_commit.stage(keyspace.unfit(partition), how)

    def make_unfit(self, partition: int) -> None:
        """Nobody may build on what is held of it. Durable with the open batch."""
        self.unfit.add(partition)
        self.fitting.discard(partition)
        self.of[partition].kept = self.of[partition].shown = 0
        self.touch(partition)
        self._group_commit.stage(keyspace.unfit(partition), b"")

    def make_fit(self, partition: int) -> None:
        """It is proven to hold what it must: counted once that is durable."""

        def become_fit() -> None:
            if partition in self.fitting:  # else it was made unfit since
                self.fitting.discard(partition)
                self.unfit.discard(partition)
                self.doubt_gone(partition)
                self.show(partition, stable)

        stable = self.of[partition].stable
        self.fitting.add(partition)
        self._group_commit.stage(keyspace.unfit(partition), None)
        self._group_commit.when_durable(become_fit)

    def let_go(self, partition: int) -> None:
        """It is not held any more. Its rows, and what counts them, stay until they are dropped."""
        self.clear(partition)
        self.damaged.discard(partition)
        self._watches.pop(partition, None)
        self._group_commit.stage(keyspace.unfit(partition), None)
        self.unfit.discard(partition)
        self.fitting.discard(partition)
        self.of.pop(partition, None)
        self._gone = {
            start: gone for start, gone in self._gone.items() if int.from_bytes(start[:2]) != partition
        }

    # --- changes -----------------------------------------------------------------------------

    def enter(self, rows: Sequence[bytes], heads: Sequence[bytes], helds: Sequence[bytes]) -> list[bytes]:
        """Of each row, all of them different: a record with this head takes the place of what is held (head
        and sequence); either may be empty: nothing. Returns the new sequences."""
        if self._watches:
            # Before anything changes: a snapshot keeps what the row held, which is gone a line later.
            for row, head, held in zip(rows, heads, helds, strict=True):
                for watch in self._watches.get(int.from_bytes(row[:2]), ()):
                    watch.note(row, held, head)
        return self.summary_log.enter(rows, heads, helds)

    def note_due(self, row: bytes, due: int, held_due: int) -> None:
        """When what comes, and what is held, may be purged, as `due_of`: beside `enter`."""
        if held_due:
            self._group_commit.rows[keyspace.due(row, held_due)] = None
        if due:
            self._group_commit.rows[keyspace.due(row, due)] = b""
            partition = int.from_bytes(row[: keyspace.PARTITION_BYTES])
            self._due_noted[partition] = self._group_commit.sequence
            if due < self._first_due.get(partition, 0):
                self._first_due[partition] = due
            if due <= self.of[partition].purged:  # as where a store doubts what it had, and takes it anew
                self.of[partition].purged = due - 1
                self.touch(partition)

    def touch(self, partition: int) -> None:
        """A summary's stamps have changed: write it with this step's batch. It is staged at once, so that
        what is said from now on waits for it."""
        summary = self.of[partition]
        self.closed = max(self.closed, summary.closed)
        self._group_commit.rows[keyspace.summary(keyspace.partition_prefix(partition))] = summary.encode()

    def show(self, partition: int, stable: int) -> None:
        """This stable stamp is durable: it may be told, unless what it speaks of may be lacking here."""
        summary = self.of.get(partition)
        if summary is not None and partition not in self.unfit:
            summary.shown = max(summary.shown, min(stable, summary.stable))
            self.shows(partition)

    def suspect(self, partition: int) -> None:
        """Its sums, or what they are of, may be wrong: it is to be scrubbed. Known after a crash too."""
        self._suspicions += 1
        self.suspects[partition] = self._suspicions
        self._group_commit.stage(keyspace.suspect(partition), b"")

    def clear(self, partition: int) -> None:
        """It was counted anew."""
        if self.suspects.pop(partition, None) is not None:
            self._group_commit.stage(keyspace.suspect(partition), None)

    # --- what is gone ------------------------------------------------------------------------

    def lose(self, row: bytes, sequence: bytes | None, stamp: int = -1) -> None:
        """What a row held is gone, and nothing took its place: as in `Gone`. None: nobody has been told of
        it by now; -1: up to the stable stamp."""
        summary, start = self.of.get(int.from_bytes(row[:2])), row[: 3 + row[2]]
        if summary is not None:
            behind = summary.sequence + 1 if sequence is None else int.from_bytes(sequence)
            upto = summary.stable if stamp < 0 else stamp
            self._gone[start] = self._gone.get(start, Gone()).with_also(upto, behind)

    def doubt_gone(self, partition: int) -> None:
        """Whatever others had purged by now may have been held here, or have passed by."""
        summary = self.of[partition]
        self._untold[partition] = Gone(summary.stable, summary.sequence)

    def gone(self, start: bytes) -> Gone:
        """Of the rows that begin so, with a partition and a bucket."""
        gone = self._gone.get(start)
        untold = self._untold[int.from_bytes(start[:2])]
        return untold if gone is None else untold.with_also(*gone)

    # --- watches -----------------------------------------------------------------------------

    def watch(self, partition: int, watch: Watch) -> None:
        """Tell it of every change of this partition from now on."""
        self._watches.setdefault(partition, []).append(watch)

    def unwatch(self, partition: int, watch: Watch) -> None:
        """No more."""
        watches = self._watches.get(partition, [])
        if watch in watches:
            watches.remove(watch)
        if not watches:
            self._watches.pop(partition, None)

    def nothing_due(self, partition: int, upto: int) -> bool:
        """Whether it is known, without looking, that nothing may be purged once `upto` is stable."""
        return upto < self._first_due.get(partition, 0)

    # --- looking: only between steps, when nothing is staged ----------------------------------

    def look_ahead(self, partition: int, upto: int) -> None:
        """Nothing of the partition that is stored is due up to this stamp: see when something is next."""
        # A line in the open batch is not seen by who scans.
        if self._due_noted.get(partition, -1) < self._group_commit.sequence:
            stored = self._group_commit.scan(*keyspace.dues(partition, STAMP_MAX - 1, upto))
            self._first_due[partition] = next((keyspace.due_of(key)[0] for key, _ in stored), STAMP_MAX)

    def due(self, partition: int, upto: int, most: int) -> list[tuple[int, bytes]]:
        """Rows that may be purged once `upto` is stable, and since which stamp, in that order, at most
        so many."""
        stored = self._group_commit.scan(*keyspace.dues(partition, upto))
        return [keyspace.due_of(key) for key, _ in islice(stored, most)]

    def first_expiry(self, partition: int, after: int, upto: int, most: int) -> int | None:
        """The least stamp above `after` and up to `upto` once which is stable a value may be purged, for it
        has expired; None when there is none. At most so many rows are looked at: the next counts as one."""
        stored = self._group_commit.scan(*keyspace.dues(partition, upto, after))
        for looked_at, (key, _) in enumerate(stored):
            due, row = keyspace.due_of(key)
            held = self._group_commit.get(keyspace.record(row))
            if looked_at == most or (held is not None and not is_tombstone(held)):
                return due
        return None

    def due_no_more(self, due: int, row: bytes) -> None:
        """A line of the above that does not fit what the row holds goes."""
        self._group_commit.stage(keyspace.due(row, due), None)


def due_of_stored(stored: bytes) -> int:
    """When the record that begins here may be purged (`repair.digest_tree.due_of`); 0: never."""
    if not stored[FLAGS_AT] & MARKED:
        return 0
    return due_of(stored[:HEAD_BYTES], int.from_bytes(stored[HEAD_BYTES:RECORD_BYTES_MIN]))

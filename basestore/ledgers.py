"""Ledgers: what a store keeps beside its records, so that replicas can be compared.

    LEDGER + partition                    sums and stamps (`repair.digest.Ledger`)
    LEAF   + partition * 4096 + leaf      the sum of a leaf
    LOG    + partition + sequence         what was stored then: version, row; gone once it is replaced
    DUE    + partition + stamp + row      what may be purged once that stamp is stable

All of it is written in the same batch as the record, so it is never rebuilt after a crash. Sequences
begin again where the store left off: what was not durable may get its sequence anew, but was
never told to anyone.

A *watch* on a partition is told of each change before it is made: an open session keeps what its
snapshot had, a scrub corrects what it has counted.
"""

from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple, Protocol

from basestore.errors import StorageError
from basestore.journal import Journal
from basestore.storage.engine import DATA, DUE, LEAF, LEDGER, LOG, OLD_DATA
from repair.digest import LEAVES, MASK, SUM_BYTES, Ledger, due_of, leaf_of
from repair.version import HEAD_BYTES, RECORD_BYTES_MIN, VERSION_BYTES

SEQUENCE_BYTES = 8
STAMP_BYTES = 8
LEAF_BYTES = 4
_MARKED = 3  # flags of a record that may become due: a tombstone, or one that expires
_FLAGS_AT = HEAD_BYTES - 1
_FORWARD_ROWS = 2000


class Watch(Protocol):
    """Who is told before a row of a partition changes."""

    def note(self, row: bytes, held: bytes, head: bytes) -> None:
        """`held`: head and sequence of what the row holds, empty when nothing; `head`: of what comes."""


class Slot(NamedTuple):
    """A line of the log: what was stored as number `sequence` of the partition, and still stands."""

    sequence: int
    version: bytes
    row: bytes


class Ledgers:
    """The ledgers of the partitions that a node holds, by partition. `damaged`: partitions whose sums
    were found not to fit when the store was opened."""

    def __init__(self, journal: Journal, partitions: Iterable[int]) -> None:
        self._journal = journal
        self._dirty: set[int] = set()
        self._dirty_leaves: set[int] = set()  # partition * LEAVES + leaf
        self._written: set[int] = set()
        self._written_leaves: set[int] = set()
        self._watches: dict[int, list[Watch]] = {}
        self.of = {partition: self._load(partition) for partition in sorted(partitions)}
        for key, total in journal.engine.scan(LEAF, bytes((LEAF[0] + 1,))):
            partition, leaf = divmod(int.from_bytes(key[len(LEAF) :]), LEAVES)
            if partition in self.of:
                self.of[partition].leaves[leaf] = int.from_bytes(total)
        self.damaged = {partition for partition, ledger in self.of.items() if not ledger.sound}

    def _load(self, partition: int) -> Ledger:
        stored = self._journal.engine.get(LEDGER + partition.to_bytes(2))
        try:
            return Ledger() if stored is None else Ledger.decode(stored)
        except ValueError as error:
            raise StorageError(
                f"the store is damaged: the ledger of partition {partition}: {error}"
            ) from error

    @property
    def records(self) -> int:
        """Rows that hold a value."""
        return sum(ledger.live for ledger in self.of.values())

    # --- changes -----------------------------------------------------------------------------

    def enter(self, row: bytes, head: bytes, held: bytes, due: int, held_due: int) -> bytes:
        """A record with `head` takes the place of `held` (head and sequence); either may be empty:
        nothing. `due`, `held_due`: when they may be purged, as `due_of`. Returns the new sequence."""
        prefix = row[:2]
        partition = int.from_bytes(prefix)
        if partition in self._watches:
            for watch in self._watches[partition]:
                watch.note(row, held, head)
        ledger = self.of[partition]
        leaf = leaf_of(row)
        ledger.replace(leaf, head, held)
        ledger.sequence += 1
        sequence = ledger.sequence.to_bytes(SEQUENCE_BYTES)
        rows = self._journal.rows
        if held:
            rows[LOG + prefix + held[HEAD_BYTES:]] = None
            if held_due:
                rows[DUE + prefix + held_due.to_bytes(STAMP_BYTES) + row] = None
        if head:
            rows[LOG + prefix + sequence] = head[:VERSION_BYTES] + row
            if due:
                rows[DUE + prefix + due.to_bytes(STAMP_BYTES) + row] = b""
        self._dirty.add(partition)
        self._dirty_leaves.add(partition * LEAVES + leaf)
        return sequence

    def correct(self, partition: int, leaf: int, total: int) -> None:
        """Set a leaf's sum to what a scrub has found on the disk."""
        ledger = self.of[partition]
        ledger.shift(leaf, (total - ledger.leaves.get(leaf, 0)) & MASK)
        self._dirty.add(partition)
        self._dirty_leaves.add(partition * LEAVES + leaf)

    def touch(self, partition: int) -> None:
        """A ledger's stamps or counts have changed: write it with this step's batch. It is staged at once,
        so that what is said from now on waits for it."""
        self._dirty.add(partition)
        self._journal.rows[LEDGER + partition.to_bytes(2)] = self.of[partition].encode()

    def show(self, partition: int, stable: int) -> None:
        """This stable stamp is durable: it may be told."""
        ledger = self.of[partition]
        ledger.shown = max(ledger.shown, min(stable, ledger.stable))

    def write(self) -> None:
        """Stage what has changed. Called once, before the step's batch is stored."""
        if not self._dirty:
            return
        rows, of = self._journal.rows, self.of
        for number in self._dirty_leaves:
            total = of[number // LEAVES].leaves[number % LEAVES]
            rows[LEAF + number.to_bytes(LEAF_BYTES)] = total.to_bytes(SUM_BYTES)
        for partition in self._dirty:
            rows[LEDGER + partition.to_bytes(2)] = of[partition].encode()
        self._written, self._dirty = self._dirty, set()
        self._written_leaves, self._dirty_leaves = self._dirty_leaves, set()

    def undo(self) -> None:
        """The batch was not taken: what is stored holds again."""
        engine = self._journal.engine
        for partition in self._written | self._dirty:
            refused, self.of[partition] = self.of[partition], self._load(partition)
            self.of[partition].leaves = refused.leaves
            self.of[partition].shown = min(refused.shown, self.of[partition].stable)
        for number in self._written_leaves | self._dirty_leaves:
            stored = engine.get(LEAF + number.to_bytes(LEAF_BYTES))
            total = 0 if stored is None else int.from_bytes(stored)
            self.of[number // LEAVES].leaves[number % LEAVES] = total
        self._dirty, self._dirty_leaves = set(), set()

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

    # --- looking: only between steps, when nothing is staged ----------------------------------

    def log(self, partition: int, after: int, most: int) -> list[Slot]:
        """The next lines of the log behind the sequence `after`, in order, at most so many."""
        start = LOG + partition.to_bytes(2)
        lines = self._journal.engine.scan(
            start + (after + 1).to_bytes(SEQUENCE_BYTES), LOG + (partition + 1).to_bytes(2)
        )
        at = len(start)
        return [
            Slot(int.from_bytes(key[at:]), line[:VERSION_BYTES], line[VERSION_BYTES:])
            for key, line in islice(lines, most)
        ]

    def due(self, partition: int, upto: int, most: int) -> list[tuple[int, bytes]]:
        """Rows that may be purged once `upto` is stable, and since which stamp, in that order, at most
        so many."""
        start = DUE + partition.to_bytes(2)
        lines = self._journal.engine.scan(start, start + (upto + 1).to_bytes(STAMP_BYTES))
        at = len(start)
        behind = at + STAMP_BYTES
        return [(int.from_bytes(key[at:behind]), key[behind:]) for key, _ in islice(lines, most)]

    def due_no_more(self, due: int, row: bytes) -> None:
        """A line of the above that does not fit what the row holds goes."""
        self._journal.stage(DUE + row[:2] + due.to_bytes(STAMP_BYTES) + row, None)

    def forget_slot(self, row: bytes, sequence: bytes) -> None:
        """The row's record is damaged: its line in the log goes, if this is it."""
        key = LOG + row[:2] + sequence
        line = self._journal.get(key)
        if line is not None and line[VERSION_BYTES:] == row:
            self._journal.stage(key, None)


def due_of_stored(stored: bytes) -> int:
    """When the record that begins here may be purged (`repair.digest.due_of`); 0: never."""
    if not stored[_FLAGS_AT] & _MARKED:
        return 0
    return due_of(stored[:HEAD_BYTES], int.from_bytes(stored[HEAD_BYTES:RECORD_BYTES_MIN]))


def bring_forward(journal: Journal, ledgers: Ledgers) -> int:
    """Give the records of a store from before there were ledgers their place in one, batch by batch;
    a crash meanwhile leaves the rest for the next opening. Returns how many there were."""
    engine = journal.engine
    brought, cursor, end = 0, OLD_DATA, bytes((OLD_DATA[0] + 1,))
    while rows := list(islice(engine.scan(cursor, end), _FORWARD_ROWS)):
        cursor = rows[-1][0] + b"\0"
        for key, blob in rows:
            row = key[len(OLD_DATA) :]
            if int.from_bytes(row[:2]) not in ledgers.of:
                continue
            brought += 1
            journal.stage(key, None)
            if len(blob) < RECORD_BYTES_MIN:  # damaged: it will be found so, and healed
                journal.stage(DATA + row, blob)
                continue
            sequence = ledgers.enter(row, blob[:HEAD_BYTES], b"", due_of_stored(blob), 0)
            journal.stage(DATA + row, blob + sequence)
        ledgers.write()
        staged, before = bool(journal.rows), journal.sequence
        journal.commit()
        if staged and journal.sequence == before:
            raise StorageError("the store is too busy to be brought forward; start the node again")
        engine.sync()
        journal.durable(journal.sequence)
    return brought

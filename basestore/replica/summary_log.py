"""Summary log: the recent part of the summaries, in memory, and durable as one row a commit.

A write changes a leaf's sum, a partition's counts and its apply log. To store each of these rows anew with
every write would cost more than the write. So a commit appends one *log record*, which says what it has
changed, and a *checkpoint* writes the rows themselves later, slice by slice, beside the writes: a
write-ahead log with fuzzy checkpoints (ARIES: Mohan et al., "ARIES: a transaction recovery method", 1992),
of which the memory is the memtable (the log-structured merge-tree: O'Neil et al. 1996). It only redoes: a
commit is whole or not there, so there is nothing to undo. It owns these rows of the keyspace: log records,
nodes, lines. The stamps of a summary it leaves alone: they stand in the summary's row only, which
`Summaries.touch` writes at once.

An *entry* says what a leaf and its partition's sums are after the change, not what was added, so that
reading it twice does no harm; and what was stored then: version and row, the *line* of the apply log.

    commit 7   enter a (leaf 3)          memory: leaf 3 = a        store: record 7 {leaf 3 = a; line a}
    commit 8   enter b (leaf 3)          memory: leaf 3 = a + b    store: record 8 {leaf 3 = a + b; line b}
    commit 9   checkpoint, _write_sums   node row of leaf 3: a + b, in the batch of commit 9
    commit 10  _deal_on                  lines a, b: dropped (floor = 2), or rows (spilled = 2)
    commit 11  _drop_log_records         records 7 and 8 go
    crash before 11, opening             node row: a + b; records 7 and 8 are read over it: a, then a + b
    crash after 11, opening              node row: a + b

A checkpoint has these three phases, and only log records that were stored when it began are its concern.
It may be cut off anywhere. The log records that are there are the newest ones, without a gap. If any of
them speaks of a leaf, the last that was said of it is among them, and holds once all are read in order,
whatever its row says. If none does, the last that was said was in a log record that is gone; that one went
after the row had been written, and nothing was said since. So with the sums of a partition. Lines up to
`floor` or `spilled`, which move in the batch that deals with them, are done with: a log record that still
has them is not asked.

Most lines are dropped, for every other replica is proven to hold what they name (`Certificates.passed`);
the summary's `floor` says up to where lines may be missing, and no list is made of what lies there.

A slice is short, so that nobody waits for it. A checkpoint outruns the writes: nodes are written by the
time that a small part of the summary log is entered anew, twice as many lines are dealt with as the step
has entered, and log records go fifty at a time, where each step adds one. On the disk the log records have
about twice `CHECKPOINT_AT_BYTES` at most, and those of one step. In memory stand the lines: a small entry,
of 140 bytes in its log record, takes 150 to 250, as many share a commit or few.
"""

import struct
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import NamedTuple
from zlib import crc32

from basestore.errors import StorageError
from basestore.repair.digest_tree import FANOUT, LEAVES, MASK, SUM_BYTES, Summary, leaf_of
from basestore.repair.version import HEAD_BYTES, VERSION_BYTES
from basestore.replica.apply_log import ApplyLog, Slot, stored_summary
from basestore.replica.group_commit import GroupCommit
from basestore.storage import keyspace
from basestore.storage.keyspace import SEQUENCE_BYTES

CHECKPOINT_AT_BYTES = 16 << 20  # in log records: some 100,000 entries
SLICE_BYTES = 16 << 10
SLICE_NODES = 8
SLICE_NODES_MAX = 1000
SLICE_LOG_RECORDS = 50
_COUNT_BYTES = 4
_GROWTH = 2  # bytes of lines dealt with, for each that is entered
_PACE = 8  # nodes are written while this part of `CHECKPOINT_AT_BYTES` is entered, or more in large steps
_LEAF = LEAVES - 1
_STILL = 0x8000  # beside the leaf: the sequence did not move
_FANOUT_BITS = FANOUT.bit_length() - 1
_HEAD = struct.Struct(">2sHIQQqq16s16s")
_pack_head = _HEAD.pack
_number = int.from_bytes


class _LogRecord(NamedTuple):
    """A log record: its commit, and its length in bytes."""

    commit: int
    bytes: int


class SummaryLog:
    """The apply logs, by the first two bytes of their rows. `bytes`: how many the log records have;
    `checkpoints`: how many were begun."""

    def __init__(self, group_commit: GroupCommit, summaries: Mapping[int, Summary]) -> None:
        self._group_commit = group_commit
        prefixes = {keyspace.partition_prefix(partition): summary for partition, summary in summaries.items()}
        self.apply_logs = {prefix: ApplyLog(prefix, summary) for prefix, summary in prefixes.items()}
        self.checkpoint_at_bytes = CHECKPOINT_AT_BYTES
        self.slice_bytes = SLICE_BYTES
        self.slice_nodes = SLICE_NODES
        self.bytes = 0
        self.checkpoints = 0
        self._log_records: deque[_LogRecord] = deque()
        self._upto = -1  # the last log record that is checkpointed, or was
        self._sums: list[tuple[ApplyLog, list[int]]] = []  # nodes still to be written
        self._nodes = 0  # how many there were
        self._undealt: list[tuple[ApplyLog, int]] = []  # lines still to be dealt with, up to which sequence
        self._heads: list[bytes] = []  # of this step's log record
        self._lines: list[bytes] = []
        self._entered: dict[ApplyLog, None] = {}  # what this step's entries are of
        self._load()

    # --- entries -----------------------------------------------------------------------------

    def enter(self, rows: Iterable[bytes], heads: Iterable[bytes], helds: Iterable[bytes]) -> list[bytes]:
        """As `Summaries.enter`, of each in turn. On the way of every write."""
        apply_logs, entered, sequences = self.apply_logs, self._entered, []
        all_heads, all_lines = self._heads, self._lines
        for row, head, held in zip(rows, heads, helds, strict=True):
            prefix = row[:2]
            apply_log = apply_logs[prefix]
            summary, lines = apply_log.summary, apply_log.lines
            leaf = crc32(row) & _LEAF  # as `leaf_of`, without a call
            total = summary.replace(leaf, head, held)
            summary.sequence = sequence = summary.sequence + 1
            replaced = _number(held[HEAD_BYTES:], "big")
            if replaced:
                at = replaced - apply_log.begin - 1
                if 0 <= at < len(lines):
                    lines[at] = None
                # It may have been dropped instead: nobody knows, and to delete a row that is not there costs
                # nothing.
                elif replaced <= summary.spilled:
                    self._group_commit.rows[keyspace.line(prefix, held[HEAD_BYTES:])] = None
            # A removal has a sequence as well, though no line: places in `lines` are sequences.
            line = head[:VERSION_BYTES] + row if head else b""
            lines.append(line or None)
            all_lines.append(line)
            all_heads.append(
                _pack_head(
                    prefix, leaf, len(line), sequence, replaced, summary.count, summary.live,
                    summary.root.to_bytes(SUM_BYTES, "big"), total.to_bytes(SUM_BYTES, "big"),
                )
            )  # fmt: skip
            apply_log.dirty.add(leaf >> _FANOUT_BITS)
            entered[apply_log] = None
            sequences.append(sequence.to_bytes(SEQUENCE_BYTES, "big"))
        return sequences

    def correct(self, partition: int, sums: Mapping[int, int], count: int, live: int) -> None:
        """Set the sums of these leaves, and the counts. Nothing is stored anew, so the sequence does not
        move; but older entries must not win over this."""
        apply_log = self.apply_logs[keyspace.partition_prefix(partition)]
        summary = apply_log.summary
        sums = sums or {0: summary.leaves.get(0, 0)}  # counts travel with an entry of some leaf
        summary.leaves.update(sums)
        summary.root = sum(summary.leaves.values()) & MASK  # whatever it was: it may be what was wrong
        summary.count, summary.live = count, live
        for leaf in sums:
            self._note_still(apply_log, leaf, 0)
        self._group_commit.stage(keyspace.summary(apply_log.prefix), summary.encode())

    def forget(self, row: bytes, sequence: bytes) -> None:
        """The line of this row goes, if it has this sequence."""
        apply_log, number = self.apply_logs[row[:2]], int.from_bytes(sequence)
        line = apply_log.line(number)
        if line is not None and line[VERSION_BYTES:] == row:
            apply_log.lines[number - apply_log.begin - 1] = None
            self._note_still(apply_log, leaf_of(row), number)
            return
        key = keyspace.line(row[: keyspace.PARTITION_BYTES], sequence)
        stored = self._group_commit.get(key)
        if stored is not None and stored[VERSION_BYTES:] == row:
            self._group_commit.stage(key, None)

    def _note_still(self, apply_log: ApplyLog, leaf: int, replaced: int) -> None:
        """An entry of what has changed without a new sequence."""
        summary = apply_log.summary
        self._heads.append(
            _pack_head(
                apply_log.prefix, leaf | _STILL, 0, summary.sequence, replaced, summary.count, summary.live,
                summary.root.to_bytes(SUM_BYTES, "big"),
                summary.leaves.get(leaf, 0).to_bytes(SUM_BYTES, "big"),
            )
        )  # fmt: skip
        apply_log.dirty.add(leaf >> _FANOUT_BITS)
        self._entered[apply_log] = None

    def apply_log(self, partition: int) -> ApplyLog:
        """That of a partition which is held."""
        return self.apply_logs[keyspace.partition_prefix(partition)]

    def has_rows(self, partition: int) -> bool:
        """Whether lines of it have become rows in this opening, and are there yet."""
        return self.apply_log(partition).spilled_bytes > 0

    def log(self, partition: int, after: int, most: int) -> list[Slot]:
        """The next lines of a partition's log behind the sequence `after`, in order, at most so many. Only
        above the summary's `floor` are all of them there. Only between steps, when nothing is staged."""
        return self.apply_log(partition).log(self._group_commit, after, most)

    def write(self) -> None:
        """Stage the log record of the open batch. Called before each commit, when nothing more is entered. A
        batch that was refused has one already: what was entered since goes behind what is in it."""
        if not self._heads:
            return
        heads, lines = b"".join(self._heads), b"".join(self._lines)
        # The number that the open batch will have, and keeps, however often it is refused.
        commit, count = self._group_commit.sequence + 1, len(self._heads)
        key = keyspace.log_record(commit)
        written = self._group_commit.rows.get(key)
        if written is not None:
            self.bytes -= self._log_records.pop().bytes
            entries = int.from_bytes(written[:_COUNT_BYTES])
            behind = _COUNT_BYTES + entries * _HEAD.size
            heads, lines = written[_COUNT_BYTES:behind] + heads, written[behind:] + lines
            count += entries
        log_record = count.to_bytes(_COUNT_BYTES) + heads + lines
        self._group_commit.stage(key, log_record)
        self._add(commit, len(log_record), self._entered)
        self._heads, self._lines, self._entered = [], [], {}

    def _add(self, commit: int, size: int, apply_logs: Iterable[ApplyLog]) -> None:
        for apply_log in apply_logs:
            apply_log.stored = apply_log.summary.sequence
        self._log_records.append(_LogRecord(commit, size))
        self.bytes += size

    @property
    def changed(self) -> list[int]:
        """The partitions that have changed since the last log record."""
        return [apply_log.number for apply_log in self._entered]

    # --- checkpointing ----------------------------------------------------------------------------

    @property
    def checkpointing(self) -> bool:
        """Whether a checkpoint is under way."""
        return bool(self._log_records) and self._log_records[0].commit <= self._upto

    def checkpoint(self, passed: Callable[[int], int]) -> None:
        """Stage the next slice of a checkpoint, if there is need of one. Called when all of the step is
        entered. `passed`: up to which sequence every other replica of a partition is proven to hold all."""
        # The order of the three phases makes a crash between any two of them harmless: log records go last,
        # when all that they say stands in rows.
        if not self.checkpointing:
            if self.bytes <= self.checkpoint_at_bytes:
                return
            self._begin()
        entered = len(self._heads) * _HEAD.size + sum(map(len, self._lines))
        if self._sums:
            paced = entered * self._nodes // (self.checkpoint_at_bytes // _PACE or 1)
            self._write_sums(min(self.slice_nodes + paced, SLICE_NODES_MAX))
        elif self._undealt:
            self._deal_on(self.slice_bytes + _GROWTH * entered, passed)
        else:
            self._drop_log_records()

    def _begin(self) -> None:
        self.checkpoints += 1
        self._upto = self._log_records[-1].commit
        self._sums = [
            (apply_log, sorted(apply_log.dirty)) for apply_log in self.apply_logs.values() if apply_log.dirty
        ]
        self._nodes = sum(len(nodes) for _, nodes in self._sums)
        for apply_log, _ in self._sums:  # what changes from now on is the next checkpoint's
            apply_log.dirty = set()
        self._undealt = [
            (apply_log, apply_log.stored)
            for apply_log in self.apply_logs.values()
            if apply_log.begin < apply_log.stored
        ]

    def _write_sums(self, most: int) -> None:
        sums = self._sums
        while sums and most > 0:
            apply_log, nodes = sums.pop()
            if nodes[most:]:
                sums.append((apply_log, nodes[most:]))
            # The sums as they are by now, later changes included. Log records of those are still there, and
            # say the same once more.
            apply_log.put_sums(nodes[:most], self._group_commit)
            most -= len(nodes)

    def _deal_on(self, most: int, passed: Callable[[int], int]) -> None:
        """The next lines, so many bytes of them."""
        while self._undealt and most > 0:
            apply_log, last = self._undealt[-1]
            most -= self._deal(apply_log, last, most, passed)
            if apply_log.begin == last:
                self._undealt.pop()

    def _drop_log_records(self) -> None:
        """The oldest log records go."""
        log_records = self._log_records
        for _ in range(SLICE_LOG_RECORDS):
            if not log_records or log_records[0].commit > self._upto:
                return
            log_record = log_records.popleft()
            self.bytes -= log_record.bytes
            self._group_commit.rows[keyspace.log_record(log_record.commit)] = None

    def _deal(self, apply_log: ApplyLog, last: int, most: int, passed: Callable[[int], int]) -> int:
        """Drop the lines up to this sequence, or make them rows, until they had so many bytes in log records.
        Returns how many they had."""
        summary, begin, prefix = apply_log.summary, apply_log.begin, apply_log.prefix
        stage = self._group_commit.stage
        safe, dealt = passed(apply_log.number), 0
        floor, spilled = summary.floor, summary.spilled
        for sequence, line in enumerate(islice(apply_log.lines, last - begin), begin + 1):
            if dealt >= most:
                break
            apply_log.begin = sequence
            dealt += _HEAD.size
            if line is None:
                continue
            dealt += len(line)
            # Lines are dealt with in order, so `floor` and `spilled` only grow, though they may take turns:
            # what is safe now may not have been a moment ago.
            if sequence <= safe:
                floor = sequence
            else:
                stage(keyspace.line(prefix, sequence.to_bytes(SEQUENCE_BYTES)), line)
                apply_log.spilled_bytes += len(line)
                spilled = sequence
        summary.floor, summary.spilled = floor, spilled
        del apply_log.lines[: apply_log.begin - begin]
        # In the batch of the lines: `floor` and `spilled` must not say of a line that it was dealt with
        # before that is stored.
        stage(keyspace.summary(prefix), summary.encode())
        return dealt

    def trim(self, partition: int, upto: int, most: int) -> int:
        """Lines that were made rows go, up to this sequence, at most so many, though a replica may lack what
        they name. Returns how many there were. Only while nothing is staged."""
        apply_log = self.apply_logs[keyspace.partition_prefix(partition)]
        prefix, summary = apply_log.prefix, apply_log.summary
        stored = self._group_commit.scan(*keyspace.lines(prefix, summary.floor + 1, upto))
        keys = [key for key, _ in islice(stored, most)]
        for key in keys:
            self._group_commit.stage(key, None)
        summary.floor = upto if len(keys) < most else keyspace.sequence_of(keys[-1])
        if summary.floor >= summary.spilled:
            apply_log.spilled_bytes = 0
        self._group_commit.stage(keyspace.summary(prefix), summary.encode())
        return len(keys)

    # --- opening -----------------------------------------------------------------------------

    def _load(self) -> None:
        """Nodes, then log records in the order of their commits."""
        engine = self._group_commit.engine
        for key, stored in engine.scan(*keyspace.whole(keyspace.NODE)):
            prefix, node = keyspace.node_of(key)
            if prefix in self.apply_logs:
                self.apply_logs[prefix].load_node(node, stored)
        for key, stored in engine.scan(*keyspace.whole(keyspace.LOG_RECORD)):
            commit = keyspace.commit_of(key)
            try:
                self._read(commit, stored)
            except ValueError as error:
                raise StorageError(f"the store is damaged: log record {commit}: {error}") from error

    def _read(self, commit: int, stored: bytes) -> None:
        count = int.from_bytes(stored[:_COUNT_BYTES])
        at = _COUNT_BYTES + count * _HEAD.size
        if len(stored) < at:
            raise ValueError("it is cut off")
        apply_logs: dict[ApplyLog, None] = {}
        for prefix, word, length, sequence, replaced, *sums, root, total in _HEAD.iter_unpack(
            stored[_COUNT_BYTES:at]
        ):
            apply_log = self.apply_logs.get(prefix) or self._stray(prefix)
            apply_logs[apply_log] = None
            summary, leaf = apply_log.summary, word & _LEAF
            summary.sequence, (summary.count, summary.live) = sequence, sums
            summary.root, summary.leaves[leaf] = int.from_bytes(root), int.from_bytes(total)
            apply_log.dirty.add(leaf >> _FANOUT_BITS)
            apply_log.replay(stored[at : at + length], sequence, replaced, still=bool(word & _STILL))
            at += length
        if at != len(stored):
            raise ValueError("its lines do not fit its entries")
        self._add(commit, len(stored), apply_logs)

    def hold(self, partition: int) -> Summary:
        """The summary of a partition that is held from now on, as it was left."""
        prefix = keyspace.partition_prefix(partition)
        return (self.apply_logs.get(prefix) or self._stray(prefix)).summary

    def _stray(self, prefix: bytes) -> ApplyLog:
        """A partition that is not held any more: what is said of it is kept, for it may come back."""
        engine = self._group_commit.engine
        apply_log = self.apply_logs[prefix] = ApplyLog(prefix, stored_summary(engine, prefix))
        for key, stored in engine.scan(*keyspace.nodes_of(prefix)):
            apply_log.load_node(keyspace.node_of(key)[1], stored)
        return apply_log

"""Summary log: the recent part of the summaries, in memory, and durable as one row a commit.

A write changes a leaf's sum, a partition's counts and its apply log. To store each of these rows anew with
every write would cost more than the write. So a commit appends one *log record*, which says what it has
changed, and a *checkpoint* writes the rows themselves later, slice by slice, beside the writes: a
write-ahead log with fuzzy checkpoints (ARIES: Mohan et al., "ARIES: a transaction recovery method", 1992),
of which the memory is the memtable (the log-structured merge-tree: O'Neil et al. 1996). It only redoes: a
commit is whole or not there, so there is nothing to undo. It owns these rows of the keyspace: log records,
nodes, lines. The stamps of a summary it leaves alone: they stand in the summary's row only, which
`Summaries.touch` writes at once.

An *entry* says what was stored under which sequence, and in whose place. From that can be worked out what it
changes in sums, and its *line* of the apply log: version and row. Sums that are stored, of a node or of a
partition, say up to which sequence they have all (in ARIES: a page's LSN). When a store is opened what is
newer than that is added to them, and nothing else: so an entry may be read that they have already.

    commit 7   enter a (leaf 3)          memory: leaf 3 = a        store: record 7 {1: a}
    commit 8   enter b (leaf 3)          memory: leaf 3 = a + b    store: record 8 {2: b}
    commit 9   checkpoint, _write_sums   node row of leaf 3: a + b, up to 2; in the batch of commit 9
    commit 10  _deal_on                  lines a, b: dropped (floor = 2), or rows (spilled = 2)
    commit 11  _drop_log_records         records 7 and 8 go
    crash before 11, opening             node row: a + b, up to 2; nothing of records 7 and 8 is newer
    crash after 11, opening              node row: a + b

Where a scrub sets sums right, or a line goes, there is no new sequence. Such a *still* entry says what the
sums are from then on, so that reading it twice does no harm; those of a later sequence pass it over.

A checkpoint has these three phases, and only log records that were stored when it began are its concern.
It may be cut off anywhere. The log records that are there are the newest ones, without a gap. A log record
goes after all sums that it changes were written, so what they lack is in those that are there. A disk that
has lost some of them leaves a gap: the partition is then counted anew. Lines up to `floor` or `spilled`,
which move in the batch that deals with them, are done with: a log record that still has them is not asked.

Most lines are dropped, for every other replica is proven to hold what they name (`Certificates.passed`);
the summary's `floor` says up to where lines may be missing, and no list is made of what lies there.

A slice is short, so that nobody waits for it. A checkpoint outruns the writes: nodes are written by the
time that a small part of the summary log is entered anew, twice as many lines are dealt with as the step
has entered, and log records go fifty at a time, where each step adds one. On the disk the log records have
about twice `CHECKPOINT_AT_BYTES` at most, and those of one step. In memory stand the lines: a small entry,
of 130 bytes in its log record, takes 150 to 250, as many share a commit or few.
"""

import struct
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from operator import itemgetter
from operator import sub as subtract
from typing import NamedTuple
from zlib import crc32

from basestore.repair.digest_tree import FANOUT, LEAVES, MASK, SUM_BYTES, Summary, leaf_of
from basestore.repair.version import FLAGS_AT, HEAD_BYTES, VERSION_BYTES
from basestore.replica.apply_log import ApplyLog, Slot, stored_summary
from basestore.replica.group_commit import GroupCommit
from basestore.storage import keyspace
from basestore.storage.keyspace import SEQUENCE_BYTES

CHECKPOINT_AT_BYTES = 16 << 20  # in log records: some 100,000 entries
SLICE_BYTES = 16 << 10
SLICE_NODES = 8
SLICE_NODES_MAX = 1000
SLICE_LOG_RECORDS = 50
_GROWTH = 2  # bytes of lines dealt with, for each that is entered
_PACE = 8  # nodes are written while this part of `CHECKPOINT_AT_BYTES` is entered, or more in large steps
_LEAF = LEAVES - 1
_FANOUT_BITS = FANOUT.bit_length() - 1
# A log record has parts, one behind the other. Each begins with a count: of entries, of which it then has the
# columns; or 0, and then it is a still entry.
_COUNT_BYTES = 4
_LENGTH_BYTES = 4  # of a row's length
_HELD_BYTES = HEAD_BYTES + SEQUENCE_BYTES
_ENTRY_BYTES = _LENGTH_BYTES + SEQUENCE_BYTES + HEAD_BYTES + _HELD_BYTES  # and those of its row
_NO_HEAD = bytes(FLAGS_AT) + b"\xff"  # no record has such flags
_NOT_HELD = _NO_HEAD + bytes(SEQUENCE_BYTES)
_STILL = struct.Struct(">2sHQQqq16s16s")  # prefix, leaf, sequence, replaced, count, live, root and leaf's sum
_number = int.from_bytes
_digest_of = itemgetter(slice(VERSION_BYTES, FLAGS_AT))  # of a head, or a mark
_flags_of = itemgetter(slice(FLAGS_AT, HEAD_BYTES))
_sequence_of = itemgetter(slice(HEAD_BYTES, None))  # of a mark


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
        self._parts: list[bytes] = []  # of this step's log record
        self._entered: dict[ApplyLog, None] = {}  # what they are of
        self._load()

    # --- entries -----------------------------------------------------------------------------

    def enter(self, rows: Sequence[bytes], heads: Sequence[bytes], helds: Sequence[bytes]) -> list[bytes]:
        """As `Summaries.enter`, of each in turn. On the way of every write."""
        apply_logs, entered, sequences = self.apply_logs, self._entered, []
        changes = map(subtract, map(_number, map(_digest_of, heads)), map(_number, map(_digest_of, helds)))
        replaced = map(_number, map(_sequence_of, helds))
        for row, head, change, beaten in zip(rows, heads, changes, replaced, strict=True):
            apply_log = apply_logs[row[:2]]
            summary, lines = apply_log.summary, apply_log.lines
            leaf = crc32(row) & _LEAF  # as `leaf_of`, without a call
            # As `Summary.replace`, likewise.
            totals = summary.leaves
            totals[leaf] = (totals.get(leaf, 0) + change) & MASK
            summary.root = (summary.root + change) & MASK
            summary.sequence = sequence = summary.sequence + 1
            if beaten:
                at = beaten - apply_log.begin - 1
                if 0 <= at < len(lines):
                    lines[at] = None
                # It may have been dropped instead: nobody knows, and to delete a row that is not there costs
                # nothing.
                elif beaten <= summary.spilled:
                    key = keyspace.line(apply_log.prefix, beaten.to_bytes(SEQUENCE_BYTES))
                    self._group_commit.rows[key] = None
            # A removal has a sequence as well, though no line: places in `lines` are sequences.
            lines.append(head[:VERSION_BYTES] + row if head else None)
            apply_log.dirty.add(leaf >> _FANOUT_BITS)
            entered[apply_log] = None
            sequences.append(sequence.to_bytes(SEQUENCE_BYTES, "big"))
        if list(map(_flags_of, heads)) != list(map(_flags_of, helds)):
            for row, head, held in zip(rows, heads, helds, strict=True):
                apply_logs[row[:2]].summary.recount(head, held)
        if sequences:
            self._parts.append(_encode(rows, heads, helds, sequences))
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
        still = _STILL.pack(
            apply_log.prefix, leaf, summary.sequence, replaced, summary.count, summary.live,
            summary.root.to_bytes(SUM_BYTES), summary.leaves.get(leaf, 0).to_bytes(SUM_BYTES),
        )  # fmt: skip
        self._parts.append(bytes(_COUNT_BYTES) + still)
        apply_log.dirty.add(leaf >> _FANOUT_BITS)
        self._entered[apply_log] = None

    def log(self, partition: int, after: int, most: int) -> list[Slot]:
        """The next lines of a partition's log behind the sequence `after`, in order, at most so many. Only
        above the summary's `floor` are all of them there. Only between steps, when nothing is staged."""
        apply_log = self.apply_logs[keyspace.partition_prefix(partition)]
        return apply_log.log(self._group_commit, after, most)

    def write(self) -> None:
        """Stage the log record of the open batch. Called before each commit, when nothing more is entered. A
        batch that was refused has one already: what was entered since goes behind what is in it."""
        if not self._parts:
            return
        log_record = b"".join(self._parts)
        # The number that the open batch will have, and keeps, however often it is refused.
        commit = self._group_commit.sequence + 1
        key = keyspace.log_record(commit)
        written = self._group_commit.rows.get(key)
        if written is not None:
            self.bytes -= self._log_records.pop().bytes
            log_record = written + log_record
        self._group_commit.stage(key, log_record)
        self._add(commit, len(log_record), self._entered)
        self._parts, self._entered = [], {}

    def _add(self, commit: int, size: int, apply_logs: Iterable[ApplyLog]) -> None:
        for apply_log in apply_logs:
            apply_log.stored = apply_log.summary.sequence
        self._log_records.append(_LogRecord(commit, size))
        self.bytes += size

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
        entered = sum(map(len, self._parts))
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
            dealt += _ENTRY_BYTES
            if line is None:
                continue
            dealt += len(line) - VERSION_BYTES
            # Lines are dealt with in order, so `floor` and `spilled` only grow, though they may take turns:
            # what is safe now may not have been a moment ago.
            if sequence <= safe:
                floor = sequence
            else:
                stage(keyspace.line(prefix, sequence.to_bytes(SEQUENCE_BYTES)), line)
                spilled = sequence
        summary.floor, summary.spilled = floor, spilled
        del apply_log.lines[: apply_log.begin - begin]
        # In the batch of the lines: `floor` and `spilled` must not say of a line that it was dealt with
        # before that is stored.
        stage(keyspace.summary(prefix), summary.encode())
        return dealt

    # --- opening -----------------------------------------------------------------------------

    def _load(self) -> None:
        """Nodes, then log records in the order of their commits."""
        engine = self._group_commit.engine
        for key, stored in engine.scan(*keyspace.whole(keyspace.NODE)):
            prefix, node = keyspace.node_of(key)
            if prefix in self.apply_logs:
                self.apply_logs[prefix].load_node(engine, node, stored)
        for key, stored in engine.scan(*keyspace.whole(keyspace.LOG_RECORD)):
            commit = keyspace.commit_of(key)
            try:
                self._read(commit, stored)
            except ValueError as error:
                raise engine.damage(f"log record {commit}: {error}") from error

    def _read(self, commit: int, stored: bytes) -> None:
        apply_logs: dict[ApplyLog, None] = {}
        at = 0
        while at < len(stored) or not at:
            count, at = _number(stored[at : at + _COUNT_BYTES]), at + _COUNT_BYTES
            if len(stored) - at < (count * _ENTRY_BYTES or _STILL.size):
                raise ValueError("it is cut off")
            if count:
                entries, at = _decode(stored, at, count)
                for row, sequence, head, held in entries:
                    apply_log = self._apply_log(row[: keyspace.PARTITION_BYTES])
                    apply_log.redo(row, sequence, head, held)
                    apply_logs[apply_log] = None
            else:
                prefix, *still = _STILL.unpack_from(stored, at)
                at += _STILL.size
                apply_log = self._apply_log(prefix)
                apply_log.redo_still(*still)
                apply_logs[apply_log] = None
        self._add(commit, len(stored), apply_logs)

    def _apply_log(self, prefix: bytes) -> ApplyLog:
        return self.apply_logs.get(prefix) or self._stray(prefix)

    def _stray(self, prefix: bytes) -> ApplyLog:
        """A partition that is not held any more: what is said of it is kept, for it may come back."""
        engine = self._group_commit.engine
        apply_log = self.apply_logs[prefix] = ApplyLog(prefix, stored_summary(engine, prefix))
        for key, stored in engine.scan(*keyspace.nodes_of(prefix)):
            apply_log.load_node(engine, keyspace.node_of(key)[1], stored)
        return apply_log


def _encode(
    rows: Sequence[bytes], heads: Sequence[bytes], helds: Sequence[bytes], sequences: list[bytes]
) -> bytes:
    """Entries, as a part of a log record."""
    if not all(heads):
        heads = [head or _NO_HEAD for head in heads]
    if not all(helds):
        helds = [held or _NOT_HELD for held in helds]
    count = len(rows)
    numbers = struct.pack(f">{1 + count}I", count, *map(len, rows))
    part = b"".join([numbers, *sequences, *heads, *helds, *rows])
    assert len(part) == _COUNT_BYTES + count * _ENTRY_BYTES + sum(map(len, rows)), "a column is too short"
    return part


def _decode(stored: bytes, at: int, count: int) -> tuple[list[tuple[bytes, int, bytes, bytes]], int]:
    """Row, sequence, head and what was held of each entry, and where they end; ValueError when they go
    beyond the end of the log record."""
    lengths = struct.unpack_from(f">{count}I", stored, at)
    sequence_at = at + count * _LENGTH_BYTES
    head_at = sequence_at + count * SEQUENCE_BYTES
    held_at = head_at + count * HEAD_BYTES
    row_at = held_at + count * _HELD_BYTES
    if row_at + sum(lengths) > len(stored):
        raise ValueError("its rows are cut off")
    entries = []
    for length in lengths:
        sequence = _number(stored[sequence_at : sequence_at + SEQUENCE_BYTES])
        head, held = stored[head_at : head_at + HEAD_BYTES], stored[held_at : held_at + _HELD_BYTES]
        row = stored[row_at : row_at + length]
        entries.append((row, sequence, b"" if head == _NO_HEAD else head, b"" if held == _NOT_HELD else held))
        sequence_at, head_at = sequence_at + SEQUENCE_BYTES, head_at + HEAD_BYTES
        held_at, row_at = held_at + _HELD_BYTES, row_at + length
    return entries, row_at

"""Apply log: one partition of the summary log: its summary, and what was stored in it, in order.

Each change of a partition has a *sequence*, one greater than that of the change before. A *line* says what
was stored under it: version and row, one behind the other. A line stands as long as its record does: what
replaces the record takes it out. So the log lists what is held, by when it came, and an exchange that
knows up to where another replica has all need only look behind that.

    1 .. floor           lines may be missing: every other replica had what they named
    .. spilled           lines that others may lack, as rows in the store
    begin + 1 ..         `lines`, in memory; None where what came was replaced since

It draws no conclusions of what may be dropped: that is the summary log's, which deals with lines.
"""

from collections.abc import Iterable
from itertools import islice
from typing import TypeAlias

from basestore.repair.digest_tree import FANOUT, MASK, Summary, decode_node, digest_of, encode_node, leaf_of
from basestore.repair.version import HEAD_BYTES, VERSION_BYTES
from basestore.replica.group_commit import GroupCommit
from basestore.storage import keyspace
from basestore.storage.engine import Engine
from basestore.storage.keyspace import SEQUENCE_BYTES

# A line of the log, and under which sequence of the partition it was stored: what stands there still.
Slot: TypeAlias = tuple[int, bytes]


class ApplyLog:
    """One partition. `lines`: of each sequence behind `begin` its line, or None when it stands no more;
    `stored`: the last sequence in a log record; `dirty`: nodes that have changed since their rows were
    written; `summed`: of those rows that were there at the opening, up to which sequence they have all;
    `gap`: log records lack entries between others."""

    __slots__ = ("begin", "dirty", "gap", "lines", "number", "prefix", "stored", "summary", "summed")

    def __init__(self, prefix: bytes, summary: Summary) -> None:
        self.prefix = prefix
        self.number = int.from_bytes(prefix)
        self.summary = summary
        self.begin = self.stored = summary.sequence
        self.lines: list[bytes | None] = []
        self.dirty: set[int] = set()
        self.summed: dict[int, int] = {}
        self.gap = False

    def log(self, group_commit: GroupCommit, after: int, most: int) -> list[Slot]:
        """The next lines behind the sequence `after`, in order, at most so many."""
        slots: list[Slot] = []
        # Rows first: whatever was spilled is older than what is in memory.
        if after < self.summary.spilled:
            stored = group_commit.scan(*keyspace.lines(self.prefix, after + 1, self.summary.spilled))
            slots = [(keyspace.sequence_of(key), line) for key, line in islice(stored, most)]
        at, end = max(0, after - self.begin), len(self.lines)
        while len(slots) < most and at < end:
            # A slice may have gaps, of lines that were replaced: so there may be several rounds.
            upto = at + most - len(slots)
            numbered = enumerate(self.lines[at:upto], self.begin + 1 + at)
            slots += [(sequence, line) for sequence, line in numbered if line is not None]
            at = upto
        return slots

    def line(self, sequence: int) -> bytes | None:
        """The line of this sequence, if it is in memory."""
        at = sequence - self.begin - 1
        return self.lines[at] if 0 <= at < len(self.lines) else None

    def put_sums(self, nodes: Iterable[int], group_commit: GroupCommit) -> None:
        """Stage the rows of these nodes, and of the summary."""
        leaves, sequence = self.summary.leaves, self.summary.sequence.to_bytes(SEQUENCE_BYTES)
        for node in nodes:
            group_commit.stage(keyspace.node(self.prefix, node), sequence + encode_node(leaves, node))
        group_commit.stage(keyspace.summary(self.prefix), self.summary.encode())

    def redo(self, row: bytes, sequence: int, head: bytes, held: bytes) -> None:
        """An entry of a log record: what stored sums do not have yet is added to them. ValueError when it
        goes back."""
        summary, leaf = self.summary, leaf_of(row)
        self.gap |= sequence > summary.sequence + 1
        change = digest_of(head) - digest_of(held)
        if sequence > summary.sequence:
            summary.sequence = sequence
            summary.root = (summary.root + change) & MASK
            summary.recount(head, held)
        if sequence > self.summed.get(leaf // FANOUT, 0):
            summary.leaves[leaf] = (summary.leaves.get(leaf, 0) + change) & MASK
        self.dirty.add(leaf // FANOUT)
        line = head[:VERSION_BYTES] + row if head else b""
        self._redo_line(line, sequence, int.from_bytes(held[HEAD_BYTES:]), still=False)

    def redo_still(
        self, leaf: int, sequence: int, replaced: int, count: int, live: int, root: bytes, total: bytes
    ) -> None:
        """The same of a still entry: what sums are from now on. Those that are stored at its very sequence
        may have it or not; if they are of a later still entry, that one follows."""
        summary = self.summary
        self.gap |= sequence > summary.sequence
        if sequence >= summary.sequence:
            summary.sequence = sequence
            summary.count, summary.live, summary.root = count, live, int.from_bytes(root)
        if sequence >= self.summed.get(leaf // FANOUT, 0):
            summary.leaves[leaf] = int.from_bytes(total)
        self.dirty.add(leaf // FANOUT)
        self._redo_line(b"", sequence, replaced, still=True)

    def _redo_line(self, line: bytes, sequence: int, replaced: int, *, still: bool) -> None:
        """`still`: the sequence has not moved. What is at or below `floor` or `spilled` was dealt with.
        ValueError when it goes back."""
        if self.line(replaced) is not None:
            self.lines[replaced - self.begin - 1] = None
        if still or sequence <= max(self.summary.floor, self.summary.spilled):
            if not self.lines:
                self.begin = sequence
            return
        if not self.lines:
            self.begin = sequence - 1
        missing = sequence - self.begin - 1 - len(self.lines)
        if missing < 0:
            raise ValueError("its sequences go back")
        self.lines += [None] * missing
        self.lines.append(line or None)

    def load_node(self, engine: Engine, node: int, stored: bytes) -> None:
        """The sums of the leaves below a node; StorageError when they cannot be read."""
        try:
            self.summary.leaves.update(decode_node(node, stored[SEQUENCE_BYTES:]))
        except ValueError as error:
            raise engine.damage(f"node {node} of partition {self.number}: {error}") from error
        self.summed[node] = int.from_bytes(stored[:SEQUENCE_BYTES])


def stored_summary(engine: Engine, prefix: bytes) -> Summary:
    """A partition's sums and stamps as its row says, without leaves; StorageError when it cannot be read."""
    stored = engine.get(keyspace.summary(prefix))
    try:
        return Summary() if stored is None else Summary.decode(stored)
    except ValueError as error:
        partition = int.from_bytes(prefix)
        raise engine.damage(f"the summary of partition {partition}: {error}") from error

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

from basestore.errors import StorageError
from basestore.repair.digest_tree import Summary, decode_node, encode_node
from basestore.replica.group_commit import GroupCommit
from basestore.storage import keyspace
from basestore.storage.engine import Engine

# A line of the log, and under which sequence of the partition it was stored: what stands there still.
Slot: TypeAlias = tuple[int, bytes]


class ApplyLog:
    """One partition. `lines`: of each sequence behind `begin` its line, or None when it stands no more;
    `stored`: the last sequence in a log record; `dirty`: nodes that have changed since their rows were
    written; `spilled_bytes`: of lines that became rows, since there were none, or since the opening."""

    __slots__ = ("begin", "dirty", "lines", "number", "prefix", "spilled_bytes", "stored", "summary")

    def __init__(self, prefix: bytes, summary: Summary) -> None:
        self.prefix = prefix
        self.number = int.from_bytes(prefix)
        self.summary = summary
        self.begin = self.stored = summary.sequence
        self.lines: list[bytes | None] = []
        self.dirty: set[int] = set()
        self.spilled_bytes = 0

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
        leaves = self.summary.leaves
        for node in nodes:
            group_commit.stage(keyspace.node(self.prefix, node), encode_node(leaves, node))
        group_commit.stage(keyspace.summary(self.prefix), self.summary.encode())

    def replay(self, line: bytes, sequence: int, replaced: int, *, still: bool) -> None:
        """An entry of a log record, after the summary was set to what it says. `still`: the sequence has not
        moved. What is at or below `floor` or `spilled` was dealt with. ValueError when it goes back."""
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

    def load_node(self, node: int, stored: bytes) -> None:
        """The sums of the leaves below a node; StorageError when they cannot be read."""
        try:
            self.summary.leaves.update(decode_node(node, stored))
        except ValueError as error:
            raise StorageError(
                f"the store is damaged: node {node} of partition {self.number}: {error}"
            ) from error


def stored_summary(engine: Engine, prefix: bytes) -> Summary:
    """A partition's sums and stamps as its row says, without leaves; StorageError when it cannot be read."""
    stored = engine.get(keyspace.summary(prefix))
    try:
        return Summary() if stored is None else Summary.decode(stored)
    except ValueError as error:
        partition = int.from_bytes(prefix)
        raise StorageError(f"the store is damaged: the summary of partition {partition}: {error}") from error

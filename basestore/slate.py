"""Slate: the recent part of the ledgers, in memory, and durable as one row a commit.

    PACK + commit                            what that commit has changed, an entry a change
    NODE + partition, node                   } the older part, written by a *flush*, slice by slice,
    LEDGER + partition, LOG + ... sequence   } beside the writes

An entry says what a leaf and its partition's sums are after the change, not what was added; and what
was stored then: version and row, the *line* of the log. Lines stay in memory until their pack is
flushed. Most are then dropped, for every other replica is proven to hold what they name; the ledger's
`floor` says up to where lines may be missing.

A flush has three phases, and only packs that were stored when it began are its concern:

    _write_sums   the nodes that were changed are written, as they are by then, and their ledgers
    _deal_on      partition by partition, the lines of these packs are dropped, or become LOG rows
    _drop_packs   the packs go, the oldest first

It may be cut off anywhere. The packs that are there are the newest ones, without a gap. If any of them
speaks of a leaf, the last that was said of it is among them, and holds once all are read in order,
whatever its NODE row says. If none does, the last that was said was in a pack that is gone; that one went
after the row had been written, and nothing was said since. So with the sums of a partition. Its stamps
are only in the LEDGER row. Lines up to `floor` or `spilled`, which move in the batch that deals with
them, are done with: a pack that still has them is not asked.

A slice is short, so that nobody waits for it. A flush outruns the writes: nodes are written by the time
that a small part of the slate is entered anew, twice as many lines are dealt with as the step has
entered, and packs go fifty at a time, where each step adds one. On the disk the packs have about twice
`FLUSH_AT_BYTES` at most, and those of one step. In memory stand the lines: a small entry, of 140 bytes
in its pack, takes 150 to 250, as many share a commit or few. (`flusher.py`, which syncs, has no part in
this.)
"""

import struct
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import islice
from operator import itemgetter
from typing import NamedTuple, TypeAlias

from basestore.errors import StorageError
from basestore.journal import Journal
from basestore.page import SEQUENCE_BYTES, Page, stored_ledger
from basestore.storage.engine import LEDGER, LOG, NODE, PACK
from repair.digest import FANOUT, LEAVES, MASK, SUM_BYTES, Ledger, leaf_of
from repair.version import HEAD_BYTES, VERSION_BYTES

FLUSH_AT_BYTES = 16 << 20  # in packs: some 100,000 entries
SLICE_BYTES = 16 << 10
SLICE_NODES = 8
SLICE_NODES_MAX = 1000
SLICE_PACKS = 50
COMMIT_BYTES = 8
_COUNT_BYTES = 4
_GROWTH = 2  # bytes of lines dealt with, for each that is entered
_PACE = 8  # nodes are written while this part of `FLUSH_AT_BYTES` is entered, or more in large steps
_LEAF = LEAVES - 1
_STILL = 0x8000  # beside the leaf: the sequence did not move
_FANOUT_BITS = FANOUT.bit_length() - 1
_HEAD = struct.Struct(">2sHIQQQQ16s16s")
_pack_head = _HEAD.pack


class _Pack(NamedTuple):
    """A pack: its commit, and its length in bytes."""

    commit: int
    bytes: int


# What an entry has changed: the page; sequence, count, live and root; leaf and total, as they were; the
# sequence that stands no more, and its line, if that was in memory.
_Before: TypeAlias = tuple[Page, int, int, int, int, int, int, int, bytes | None]
_PAGE = itemgetter(0)


class Slate:
    """The pages, by the first two bytes of their rows. `bytes`: how many the packs have; `flushes`: how
    many were begun."""

    def __init__(self, journal: Journal, ledgers: Mapping[int, Ledger]) -> None:
        self._journal = journal
        prefixes = {partition.to_bytes(2): ledger for partition, ledger in ledgers.items()}
        self.pages = {prefix: Page(prefix, ledger) for prefix, ledger in prefixes.items()}
        self.flush_at_bytes = FLUSH_AT_BYTES
        self.slice_bytes = SLICE_BYTES
        self.slice_nodes = SLICE_NODES
        self.bytes = 0
        self.flushes = 0
        self._packs: deque[_Pack] = deque()
        self._upto = -1  # the last pack that is flushed, or was
        self._sums: list[tuple[Page, list[int]]] = []  # nodes still to be written
        self._nodes = 0  # how many there were
        self._undealt: list[tuple[Page, int]] = []  # lines still to be dealt with, up to which sequence
        self._heads: list[bytes] = []  # of this step's pack
        self._lines: list[bytes] = []
        self._before: list[_Before] = []
        self._moved: list[Callable[[], None]] = []  # how to take back what this step's slice has moved
        self._staged: tuple[list[_Before], list[Callable[[], None]]] = ([], [])
        self._load()

    # --- entries -----------------------------------------------------------------------------

    def enter(self, row: bytes, head: bytes, held: bytes) -> bytes:
        """As `Ledgers.enter`. On the way of every write."""
        prefix = row[:2]
        page = self.pages[prefix]
        ledger, lines = page.ledger, page.lines
        sequence, count, live, root = ledger.sequence, ledger.count, ledger.live, ledger.root
        leaf = leaf_of(row)
        before = ledger.leaves.get(leaf, 0)
        total = ledger.replace(leaf, head, held)
        replaced, taken = 0, None
        if held:
            replaced = int.from_bytes(held[HEAD_BYTES:])
            at = replaced - page.begin - 1
            if 0 <= at < len(lines):
                taken, lines[at] = lines[at], None
            elif replaced <= ledger.spilled:
                self._journal.rows[LOG + prefix + held[HEAD_BYTES:]] = None
        if head:
            line = head[:VERSION_BYTES] + row
            lines.append(line)
            self._lines.append(line)
            length = len(line)
        else:
            lines.append(None)
            length = 0
        ledger.sequence = new = sequence + 1
        self._heads.append(
            _pack_head(
                prefix, leaf, length, new, replaced, ledger.count, ledger.live,
                ledger.root.to_bytes(SUM_BYTES, "big"), total.to_bytes(SUM_BYTES, "big"),
            )
        )  # fmt: skip
        page.dirty.add(leaf >> _FANOUT_BITS)
        self._before.append((page, sequence, count, live, root, leaf, before, replaced, taken))
        return new.to_bytes(SEQUENCE_BYTES, "big")

    def correct(self, partition: int, sums: Mapping[int, int], count: int, live: int) -> None:
        """Set the sums of these leaves, and the counts. Nothing is stored anew, so the sequence does not
        move; but older entries must not win over this."""
        page = self.pages[partition.to_bytes(2)]
        ledger = page.ledger
        sums = sums or {0: ledger.leaves.get(0, 0)}
        for leaf in sums:
            self._note(page, leaf, 0, None)
        ledger.leaves.update(sums)
        ledger.root = sum(ledger.leaves.values()) & MASK  # whatever it was: it may be what was wrong
        ledger.count, ledger.live = count, live
        for leaf in sums:
            self._note_still(page, leaf, 0)

    def forget(self, row: bytes, sequence: bytes) -> None:
        """The line of this row goes, if it has this sequence."""
        page, number = self.pages[row[:2]], int.from_bytes(sequence)
        line = page.line(number)
        if line is not None and line[VERSION_BYTES:] == row:
            leaf = leaf_of(row)
            self._note(page, leaf, number, line)
            page.lines[number - page.begin - 1] = None
            self._note_still(page, leaf, number)
            return
        key = LOG + row[:2] + sequence
        stored = self._journal.get(key)
        if stored is not None and stored[VERSION_BYTES:] == row:
            self._journal.stage(key, None)

    def _note(self, page: Page, leaf: int, replaced: int, line: bytes | None) -> None:
        """How it is before an entry."""
        ledger = page.ledger
        total = ledger.leaves.get(leaf, 0)
        self._before.append(
            (page, ledger.sequence, ledger.count, ledger.live, ledger.root, leaf, total, replaced, line)
        )

    def _note_still(self, page: Page, leaf: int, replaced: int) -> None:
        """An entry of what has changed without a new sequence."""
        ledger = page.ledger
        self._heads.append(
            _pack_head(
                page.prefix, leaf | _STILL, 0, ledger.sequence, replaced, ledger.count, ledger.live,
                ledger.root.to_bytes(SUM_BYTES, "big"), ledger.leaves.get(leaf, 0).to_bytes(SUM_BYTES, "big"),
            )
        )  # fmt: skip
        page.dirty.add(leaf >> _FANOUT_BITS)

    def write(self) -> None:
        """Stage the pack of this step. Called once before each commit, when nothing more is entered."""
        heads, lines = self._heads, self._lines
        if heads:
            commit = self._journal.sequence + 1
            pack = b"".join((len(heads).to_bytes(_COUNT_BYTES), *heads, *lines))
            self._journal.stage(PACK + commit.to_bytes(COMMIT_BYTES), pack)
            self._add(commit, len(pack), dict.fromkeys(map(_PAGE, self._before)))
            self._heads, self._lines = [], []
        self._staged = (self._before, self._moved)
        self._before, self._moved = [], []

    def _add(self, commit: int, size: int, pages: Iterable[Page]) -> None:
        for page in pages:
            page.stored = page.ledger.sequence
        self._packs.append(_Pack(commit, size))
        self.bytes += size

    def undo(self) -> None:
        """The batch that was staged was not taken: all is as it was before its first entry."""
        if self._packs and self._packs[-1].commit > self._journal.sequence:
            self.bytes -= self._packs.pop().bytes
        before, moved = self._staged
        self._staged = ([], [])
        for take_back in reversed(moved):
            take_back()
        for page, sequence, count, live, root, leaf, total, replaced, line in reversed(before):
            ledger = page.ledger
            page.stored = ledger.sequence = sequence
            ledger.count, ledger.live, ledger.root = count, live, root
            ledger.leaves[leaf] = total
            del page.lines[sequence - page.begin :]
            if line is not None:
                page.lines[replaced - page.begin - 1] = line

    # --- flushing ----------------------------------------------------------------------------

    @property
    def flushing(self) -> bool:
        """Whether a flush is under way."""
        return bool(self._packs) and self._packs[0].commit <= self._upto

    def flush(self, passed: Callable[[int], int]) -> None:
        """Stage the next slice of a flush, if there is need of one. Called when all of the step is entered.
        `passed`: up to which sequence every other replica of a partition is proven to hold all."""
        if not self.flushing:
            if self.bytes <= self.flush_at_bytes:
                return
            self._begin()
        entered = len(self._heads) * _HEAD.size + sum(map(len, self._lines))
        if self._sums:
            paced = entered * self._nodes // (self.flush_at_bytes // _PACE or 1)
            self._write_sums(min(self.slice_nodes + paced, SLICE_NODES_MAX))
        elif self._undealt:
            self._deal_on(self.slice_bytes + _GROWTH * entered, passed)
        else:
            self._drop_packs()

    def _begin(self) -> None:
        self.flushes += 1
        self._upto = self._packs[-1].commit
        self._sums = [(page, sorted(page.dirty)) for page in self.pages.values() if page.dirty]
        self._nodes = sum(len(nodes) for _, nodes in self._sums)
        for page, _ in self._sums:
            page.dirty = set()
        self._undealt = [(page, page.stored) for page in self.pages.values() if page.begin < page.stored]

    def _write_sums(self, most: int) -> None:
        sums = self._sums
        while sums and most > 0:
            page, nodes = sums.pop()
            self._moved.append(partial(self._put_back, page, nodes, bool(nodes[most:])))
            if nodes[most:]:
                sums.append((page, nodes[most:]))
            page.put_sums(nodes[:most], self._journal)
            most -= len(nodes)

    def _put_back(self, page: Page, nodes: list[int], parted: bool) -> None:
        if parted:
            self._sums.pop()
        self._sums.append((page, nodes))

    def _deal_on(self, most: int, passed: Callable[[int], int]) -> None:
        """The next lines, so many bytes of them."""
        while self._undealt and most > 0:
            page, last = self._undealt[-1]
            most -= self._deal(page, last, most, passed)
            if page.begin == last:
                self._undealt.pop()
                self._moved.append(partial(self._undealt.append, (page, last)))

    def _drop_packs(self) -> None:
        """The oldest packs go."""
        packs = self._packs
        for _ in range(SLICE_PACKS):
            if not packs or packs[0].commit > self._upto:
                return
            pack = packs.popleft()
            self.bytes -= pack.bytes
            self._journal.rows[PACK + pack.commit.to_bytes(COMMIT_BYTES)] = None
            self._moved.append(partial(self._take_back, pack))

    def _take_back(self, pack: _Pack) -> None:
        self._packs.appendleft(pack)
        self.bytes += pack.bytes

    def _deal(self, page: Page, last: int, most: int, passed: Callable[[int], int]) -> int:
        """Drop the lines up to this sequence, or make them rows, until they had so many bytes in packs.
        Returns how many they had."""
        ledger, begin, stage, start = page.ledger, page.begin, self._journal.stage, LOG + page.prefix
        safe, dealt = passed(page.number), 0
        floor, spilled = before = ledger.floor, ledger.spilled
        for sequence, line in enumerate(islice(page.lines, last - begin), begin + 1):
            if dealt >= most:
                break
            page.begin = sequence
            dealt += _HEAD.size
            if line is None:
                continue
            dealt += len(line)
            if sequence <= safe:
                floor = sequence
            else:
                stage(start + sequence.to_bytes(SEQUENCE_BYTES), line)
                spilled = sequence
        ledger.floor, ledger.spilled = floor, spilled
        lines = page.lines[: page.begin - begin]
        del page.lines[: len(lines)]
        stage(LEDGER + page.prefix, ledger.encode())

        def take_back() -> None:
            ledger.floor, ledger.spilled = before
            page.begin = begin
            page.lines[:0] = lines

        self._moved.append(take_back)
        return dealt

    # --- opening -----------------------------------------------------------------------------

    def _load(self) -> None:
        """Nodes, then packs in the order of their commits."""
        engine = self._journal.engine
        for key, stored in engine.scan(NODE, bytes((NODE[0] + 1,))):
            page = self.pages.get(key[1:3])
            if page is not None:
                page.load_node(key[-1], stored)
        for key, stored in engine.scan(PACK, bytes((PACK[0] + 1,))):
            commit = int.from_bytes(key[len(PACK) :])
            try:
                self._read(commit, stored)
            except ValueError as error:
                raise StorageError(f"the store is damaged: pack {commit}: {error}") from error

    def _read(self, commit: int, stored: bytes) -> None:
        count = int.from_bytes(stored[:_COUNT_BYTES])
        at = _COUNT_BYTES + count * _HEAD.size
        if len(stored) < at:
            raise ValueError("it is cut off")
        pages: dict[Page, None] = {}
        for prefix, word, length, sequence, replaced, *sums, root, total in _HEAD.iter_unpack(
            stored[_COUNT_BYTES:at]
        ):
            page = self.pages.get(prefix) or self._stray(prefix)
            pages[page] = None
            ledger, leaf = page.ledger, word & _LEAF
            ledger.sequence, (ledger.count, ledger.live) = sequence, sums
            ledger.root, ledger.leaves[leaf] = int.from_bytes(root), int.from_bytes(total)
            page.dirty.add(leaf >> _FANOUT_BITS)
            page.replay(stored[at : at + length], sequence, replaced, still=bool(word & _STILL))
            at += length
        if at != len(stored):
            raise ValueError("its lines do not fit its entries")
        self._add(commit, len(stored), pages)

    def _stray(self, prefix: bytes) -> Page:
        """A partition that is not held any more: what is said of it is kept, for it may come back."""
        engine = self._journal.engine
        page = self.pages[prefix] = Page(prefix, stored_ledger(engine, prefix))
        for key, stored in engine.scan(NODE + prefix, NODE + prefix + b"\xff"):
            page.load_node(key[-1], stored)
        return page

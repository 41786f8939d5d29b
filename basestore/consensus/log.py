"""Log: the entries that a store has, and what stands in place of those that are compacted.

    index      ... 40 | 41 42 43 44          the snapshot stands for all up to 40
    term            3 |  3  3  5  5

An entry at one index with one term is the same everywhere, and so is all before it (the Log Matching
Property; Ongaro and Ousterhout, "In search of an understandable consensus algorithm", 2014, figure 3). A
log is cut only where an entry that is to stand there has another term, never because somebody's list is
shorter. Which entries are decided it does not know.
"""

import enum
from collections.abc import Sequence
from typing import Final, NamedTuple

from basestore.consensus.voters import Voters, decode_voters

BATCH_ENTRIES_MAX: Final = 256
BATCH_BYTES_MAX: Final = 1 << 20


class Kind(enum.IntEnum):
    """What an entry is for. EMPTY: the first of each term; CHANGE: its data are the voters from now on."""

    EMPTY = 0
    CHANGE = 1
    DATA = 2


class Entry(NamedTuple):
    term: int
    kind: Kind
    data: bytes


class Snapshot(NamedTuple):
    """All up to `last`, whose entry had this term, in one: `voters` as they were then, `state` is the
    host's."""

    last: int
    term: int
    voters: Voters
    state: bytes


class Log:
    """Of one store. `voters`: the newest configuration in it, decided or not, which is at `voters_index`."""

    def __init__(self, base: Snapshot, entries: Sequence[Entry] = ()) -> None:
        self.base = base
        self._entries: list[Entry] = []
        self.voters, self.voters_index = base.voters, base.last
        self.append(entries)

    @property
    def last(self) -> int:
        return self.base.last + len(self._entries)

    @property
    def last_term(self) -> int:
        return self._entries[-1].term if self._entries else self.base.term

    def term_at(self, index: int) -> int:
        """-1 where nothing is known: before the snapshot, or behind the last."""
        if index == self.base.last:
            return self.base.term
        return self._entries[index - self.base.last - 1].term if self.base.last < index <= self.last else -1

    def entry(self, index: int) -> Entry:
        """IndexError where there is none."""
        if not self.base.last < index <= self.last:
            raise IndexError(index)
        return self._entries[index - self.base.last - 1]

    def batch(self, first: int) -> list[Entry]:
        """Entries from `first` on, as many as fit into one message, one at least."""
        taken, size = list[Entry](), 0
        for entry in self._entries[first - self.base.last - 1 :][:BATCH_ENTRIES_MAX]:
            size += len(entry.data)
            if taken and size > BATCH_BYTES_MAX:
                break
            taken.append(entry)
        return taken

    def append(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._entries.append(entry)
            if entry.kind is Kind.CHANGE:
                self.voters, self.voters_index = decode_voters(entry.data), self.last

    def fresh(self, first: int, entries: Sequence[Entry]) -> int:
        """The first index among these at which they are not what stands there; behind them, if none is."""
        for index, entry in enumerate(entries, first):
            if index > self.base.last and self.term_at(index) != entry.term:
                return index
        return first + len(entries)

    def run(self, index: int, least: int) -> int:
        """Where the entries begin that have the term of this one, from `least` on."""
        first = index
        while first > least and self.term_at(first - 1) == self.term_at(index):
            first -= 1
        return first

    def cut(self, index: int) -> None:
        """Nothing from this index on."""
        del self._entries[max(0, index - self.base.last - 1) :]
        if self.voters_index > self.last:
            self._find_voters()

    def compact(self, index: int, state: bytes) -> None:
        """A snapshot of the host's state at `index` stands for all up to there."""
        kept = self._entries[index - self.base.last :]
        term, voters = self.term_at(index), self.voters_at(index)
        self.base, self._entries = Snapshot(index, term, voters, state), kept
        self.voters_index = max(self.voters_index, index)

    def install(self, snapshot: Snapshot) -> None:
        """Another's snapshot takes the place of the whole log: nothing behind it is known to fit."""
        self.base, self._entries = snapshot, []
        self.voters, self.voters_index = snapshot.voters, snapshot.last

    def voters_at(self, index: int) -> Voters:
        """The newest configuration up to there."""
        for at in range(index, self.base.last, -1):
            entry = self.entry(at)
            if entry.kind is Kind.CHANGE:
                return decode_voters(entry.data)
        return self.base.voters

    def _find_voters(self) -> None:
        self.voters, self.voters_index = self.base.voters, self.base.last
        for at in range(self.last, self.base.last, -1):
            if self.entry(at).kind is Kind.CHANGE:
                self.voters, self.voters_index = decode_voters(self.entry(at).data), at
                return

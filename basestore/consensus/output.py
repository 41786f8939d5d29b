"""Output: what a store has, what is to be stored and sent next, and what of it is known to be durable.

Owns the order of the two: what was given out is followed by its mark, and only a mark that comes back says
that something is on the disk. What is cut meanwhile is not durable any more, whatever mark comes back later.
"""

from typing import NamedTuple

from basestore.consensus.log import Entry, Log, Snapshot
from basestore.consensus.messages import RaftMessage
from basestore.consensus.voters import Voter

Said = list[tuple[Voter, RaftMessage]]


class Stored(NamedTuple):
    """What a store has. `commit`: it is known that all up to there is decided."""

    term: int
    vote: Voter | None
    base: Snapshot
    entries: list[Entry]
    commit: int


class Mark(NamedTuple):
    """What was given out to be stored, up to here."""

    term: int
    vote: Voter | None
    last: int
    last_term: int


class Output(NamedTuple):
    """`voted`: term and vote are others. `cut`: nothing that is stored from this index on is valid (0: all
    is). `entries` follow `first`. `snapshot`: stands in place of all up to it, as it came from another.
    `reads`: tickets, and the index at which they may be answered; -1: not here."""

    voted: bool
    cut: int
    first: int
    entries: list[Entry]
    snapshot: Snapshot | None
    messages: Said
    promises: Said
    reads: list[tuple[int, int]]
    mark: Mark


class Pending:
    """Of one store. `durable`: up to which index its log is on the disk. `voted`: term or vote are others
    than those given out last."""

    def __init__(self, last: int) -> None:
        self.durable = self._given = last
        self.voted = False
        self._cut = 0
        self._snapshot: Snapshot | None = None
        self.messages: Said = []
        self.promises: Said = []
        self.answers: list[tuple[int, int]] = []

    def cut(self, index: int) -> None:
        """The log has lost all from this index on."""
        if index <= self._given:
            self._cut = min(self._cut or index, index)
            self._given = index - 1
        self.durable = min(self.durable, index - 1)

    def install(self, snapshot: Snapshot) -> None:
        """It has taken another's snapshot, after `cut` of what did not fit behind it."""
        self._snapshot = snapshot
        self._given = max(self._given, snapshot.last)

    def take(self, term: int, vote: Voter | None, log: Log) -> Output | None:
        first = self._given + 1
        entries = [log.entry(index) for index in range(first, log.last + 1)]
        stored = self.voted or self._cut or entries or self._snapshot
        if not (stored or self.messages or self.promises or self.answers):
            return None
        output = Output(
            self.voted, self._cut, first, entries, self._snapshot, self.messages, self.promises,
            self.answers, Mark(term, vote, log.last, log.last_term),
        )  # fmt: skip
        self._given = log.last
        self.voted, self._cut, self._snapshot = False, 0, None
        self.messages, self.promises, self.answers = [], [], []
        return output

    def stored(self, mark: Mark, log: Log) -> None:
        """What was given out up to this mark is durable."""
        # What was stored under another term may have been cut, and its place taken, since.
        if log.term_at(mark.last) == mark.last_term:
            self.durable = max(self.durable, mark.last)

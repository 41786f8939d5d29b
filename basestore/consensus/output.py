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
    """What was given out to be stored, the `number`th time and before: the log up to `last`."""

    number: int
    term: int
    vote: Voter | None
    last: int


class Output(NamedTuple):
    """`voted`: term and vote are others. `cut`: nothing that is stored from this index on is valid (0: all
    is). `entries` follow `first`. `snapshot`: stands in place of all up to it, as it came from another.
    `reads`: tickets, and the index at which they may be answered; -1: not here.

    `promises` wait for all that was given out before, too: where there is nothing to store with them
    (`stores`), what they tell of may still be on its way to the disk."""

    voted: bool
    cut: int
    first: int
    entries: list[Entry]
    snapshot: Snapshot | None
    messages: Said
    promises: Said
    reads: list[tuple[int, int]]
    mark: Mark

    @property
    def stores(self) -> bool:
        """Whether there is something to be stored."""
        return bool(self.voted or self.cut or self.entries or self.snapshot)


class Pending:
    """Of one store. `given`: up to there its log has been given out; `durable`: is on the disk. `voted`: term
    or vote are others than those given out last."""

    def __init__(self, last: int) -> None:
        self.durable = self.given = last
        self.voted = False
        self._cut = 0
        self._number = self._valid = 0  # the last mark; the first that says something of the log as it is
        self._snapshot: Snapshot | None = None
        self.messages: Said = []
        self.promises: Said = []
        self.answers: list[tuple[int, int]] = []

    def cut(self, index: int) -> None:
        """The log has lost all from this index on. A mark that was given before may say that it is durable;
        and what takes its place may even be the same again, and yet be cut on the disk in between."""
        if index <= self.given:
            self._cut = min(self._cut or index, index)
            self.given = index - 1
            self._valid = self._number + 1
        self.durable = min(self.durable, index - 1)

    def install(self, snapshot: Snapshot) -> None:
        """Another's snapshot has taken the place of the log."""
        self.cut(snapshot.last)
        self._snapshot = snapshot
        self.given = max(self.given, snapshot.last)

    @property
    def _idle(self) -> bool:
        """Whether there is nothing to store or to send but what the log has got."""
        stores = self.voted or self._cut or self._snapshot is not None
        return not (stores or self.messages or self.promises or self.answers)

    def take(self, term: int, vote: Voter | None, log: Log) -> Output | None:
        if log.last == self.given and self._idle:  # as with most steps of its host, and soon said
            return None
        first = self.given + 1
        entries = [log.entry(index) for index in range(first, log.last + 1)]
        output = Output(
            self.voted, self._cut, first, entries, self._snapshot, self.messages, self.promises,
            self.answers, Mark(self._number + 1, term, vote, log.last),
        )  # fmt: skip
        self._number += 1
        self.given = log.last
        self.voted, self._cut, self._snapshot = False, 0, None
        self.messages, self.promises, self.answers = [], [], []
        return output

    def stored(self, mark: Mark) -> None:
        """What was given out up to this mark is durable."""
        if mark.number >= self._valid:
            self.durable = max(self.durable, mark.last)

"""Machines of a simulated group: the host of one Raft object, and its disk.

A machine does what `consensus/raft.py` asks of a host: it stores what is given out in order, a batch a time;
promises leave when their batch is durable. Its disk is slow, and forgets in a crash what was not synced, but
for the first of it, perhaps. Its clock has a rate of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from basestore.consensus.log import Entry, Snapshot
from basestore.consensus.output import Output, Stored
from basestore.consensus.raft import Raft
from basestore.consensus.voters import Voter


class Failure(AssertionError):
    """What must hold does not."""


def voter_of(number: int, store: int) -> Voter:
    """A store of a member: the first, and others after wipes."""
    return Voter(number, store.to_bytes(16))


class Batch(NamedTuple):
    """What is stored in one go. `base`: the machine's own snapshot, in place of what it stands for."""

    output: Output | None
    commit: int
    term: int
    vote: Voter | None
    base: Snapshot | None = None


@dataclass
class Disk:
    """What a crash leaves."""

    base: Snapshot
    term: int = 0
    vote: Voter | None = None
    entries: list[Entry] = field(default_factory=list)
    commit: int = 0

    def write(self, batch: Batch) -> None:
        output = batch.output
        if output is not None:
            if output.voted:
                self.term, self.vote = batch.term, batch.vote
            if output.cut:
                del self.entries[max(0, output.cut - self.base.last - 1) :]
            if output.snapshot is not None:
                self.base, self.entries = output.snapshot, []
            if output.entries:
                if output.first != self.base.last + len(self.entries) + 1:
                    raise Failure("what is stored of the log has a hole")
                self.entries += output.entries
        if batch.base is not None:
            del self.entries[: batch.base.last - self.base.last]
            self.base = batch.base
        self.commit = max(self.commit, batch.commit)

    def stored(self) -> Stored:
        return Stored(self.term, self.vote, self.base, list(self.entries), max(self.commit, self.base.last))


@dataclass
class Machine:
    """`birth` counts its starts; `used`: up to there it knows durably what is decided; `staged`: perhaps
    not durably; `checked`: up to there the world has looked; `asked`: its reads, with what they must see."""

    me: Voter
    raft: Raft
    disk: Disk
    rate: float
    sync_s: float
    birth: int = 0
    up: bool = True
    paused_until: float = 0.0
    queue: list[Batch] = field(default_factory=list)
    syncing: int = 0  # batches of the queue
    held: list[tuple[Callable[[], None], int]] = field(default_factory=list)  # while it is paused
    timer: float = -1.0
    stepping: bool = False
    staged: int = 0
    used: int = 0
    checked: int = 0
    led: int = 0  # the term that it was seen to lead
    asked: dict[int, tuple[int, bool]] = field(default_factory=dict)

    def loose(self) -> bool:
        """Whether a crash would lose something."""
        return any(batch.output is not None and batch.output.stores for batch in self.queue)

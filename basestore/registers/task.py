"""Task: what is to be done with a row of a register, and what became of it. Values between whoever began it,
at the node that the client asked, and the one that does it (`proposer.py`).

The identity of a write covers its condition: repeated with another one it is refused, as another write.
"""

from collections.abc import Callable
from typing import NamedTuple

from basestore.consistency import Quorum
from basestore.coordinator.attempts import Content
from basestore.errors import InvalidRequest, RequestFailed
from basestore.instant import Instant
from basestore.repair.compare_and_set import Attempt
from basestore.repair.version import Digester, Identity, Record, Version


class Done(NamedTuple):
    """What became of it. `outcome`, `required` and `replicas` as in `Written`; of a read it is stored.

    version  of the write, encoded, by which it is known; empty if it has none
    order    the version of the record that the row holds now
    record   that record: of a read, of an addition, or of what a write was lost to while that lives
    """

    outcome: int
    version: bytes
    order: bytes
    record: Record | None
    required: int
    replicas: list[int]


class Blocked(NamedTuple):
    """It is not done yet: the row holds this intent of a transaction, which is to be settled first.
    `attempt`: of a write, as far as that has come."""

    record: Record
    attempt: Attempt | None


# None: a read that is to be handed over.
Result = Done | Blocked | InvalidRequest | RequestFailed | None
Report = Callable[[Result, Instant], None]


class Write(NamedTuple):
    """`content`: what is to be written; `attempt`: as which write, and what it depends on."""

    content: Content
    attempt: Attempt

    def named(self, digester: Digester, version: bytes) -> Identity:
        """What it is known by, under this version, encoded: as a plain write of that content would be."""
        whole = self.content.compared(self.attempt.condition.value, self.attempt.expected)
        return Identity.of(self.content.proposal, whole.again(digester, Version.decode(version)).blob)

    def repeated_as(self, digester: Digester, version: bytes) -> Identity:
        """What it is to be repeated as, where this attempt was under this version, or under none. Another
        attempt, of which no version is known, may have been under another one: who repeats it by this one
        would be told that it was not applied."""
        if not version or (self.attempt.again and not self.attempt.identity):
            return Identity(self.attempt.proposal)
        return self.named(digester, version)


class Shown(NamedTuple):
    """What a round that began at `asked_s` has found to be chosen. `required` as in `Written`."""

    asked_s: float
    record: Record | None
    required: int


class Task(NamedTuple):
    """What is to be done with a row. `write`: None for a read. `must_ask`: a member whose word is needed, for
    what it has accepted is to be finished; `quorum`: whose word suffices then. `hands_over`: of a read that
    is not concluded by asking alone nothing is reported but that. `as_is`: an intent is read as
    the record that it is. `ballot`: to write this once, under this ballot, which nobody else has."""

    row: bytes
    deadline: float
    write: Write | None = None
    must_ask: int | None = None
    quorum: Callable[[], Quorum] | None = None
    hands_over: bool = False
    as_is: bool = False
    ballot: bytes = b""

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        write = self.write
        return len(self.row) + (len(write.content.value) + len(write.attempt.expected) if write else 0)

    @property
    def instead(self) -> str:
        """What may be asked for where too few are alive, as the end of a sentence: no write is weaker."""
        return ", or read at one, which may be behind" if self.write is None else ""

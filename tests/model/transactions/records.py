"""Records: what the rows of keys hold, and what the row of a transaction does.

A key's record is named by its *identity* alone: that of the write that made it, whatever its value.
"""

from enum import Enum
from typing import NamedTuple


class Ballot(NamedTuple):
    stamp: int
    origin: int


NEVER = Ballot(0, 0)


class Intent(NamedTuple):
    """What a transaction means to leave in a row: the record `identity` in the place of the record `old`,
    which it carries."""

    transaction: Ballot
    identity: int
    old: int


class Row(NamedTuple):
    identity: int
    intent: Intent | None = None


class Verdict(Enum):
    OPEN = "open"  # nothing was ever decided
    FORGOTTEN = "forgotten"  # nothing is there; there may have been, and is purged
    COMMITTED = "committed"
    ABORTED = "aborted"
    GONE = "gone"  # a tombstone


class Decision(NamedTuple):
    """The record of a transaction's row. `identity`: the ballot under which it was first proposed;
    `replaced`, of a tombstone: the identity of what it deletes, NEVER if that is not known; `keys`: where
    COMMITTED has laid intents."""

    verdict: Verdict
    ballot: Ballot = NEVER
    identity: Ballot = NEVER
    replaced: Ballot = NEVER
    keys: str = ""


OPEN = Decision(Verdict.OPEN)
FORGOTTEN = Decision(Verdict.FORGOTTEN)


def at(decision: Decision | None) -> Ballot:
    return decision.ballot if decision is not None else NEVER


def has_committed(decision: Decision, transaction: Ballot) -> bool | None:
    """What it proves of the transaction. COMMITTED is proposed under its own ballot first, and nothing else
    is; so a tombstone tells as well, if it knows what it replaced."""
    if decision.verdict is Verdict.GONE and decision.replaced == NEVER:
        return None
    return transaction in (decision.identity, decision.replaced)

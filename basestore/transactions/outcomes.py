"""Outcomes: the errors in which a transaction ends, in words: what is known, and what to do."""

from typing import Final

from basestore.errors import Conflict, Contended, FencedOff, OutcomeUnknown
from basestore.leases import token_held
from basestore.registers.task import Result
from basestore.repair.version import Record, Version

_ANEW: Final = "nothing of the transaction was done. Begin it anew, and read again"


def changed(name: str, record: Record | None) -> Conflict:
    """A key does not hold what was read of it."""
    holds = f"version {Version.decode(record.known_as)}" if record is not None else "nothing"
    return Conflict(f"conflict: {name} was written since it was read, and holds {holds} now; {_ANEW}")


def fenced_off(name: str, expected: bytes, record: Record | None) -> FencedOff:
    """A lock is not held under the token that was named."""
    token, named = token_held(record), int.from_bytes(expected)
    holds = f"is held under token {token}" if token else "is held by nobody"
    return FencedOff(
        f"fenced off: {name} {holds} now, and not under {named}; nothing was done. "
        f"The lease of that token is over: whoever had it must not go on"
    )


def in_the_way(name: str) -> Conflict:
    """An older transaction writes the same key."""
    return Conflict(f"conflict: a transaction that was begun before this one is writing {name}; {_ANEW}")


def too_slow() -> Conflict:
    return Conflict(
        f"conflict: the transaction took too long to be decided, and was ended by a request that was in its "
        f"way, or with its time; {_ANEW}, perhaps with more time"
    )


def contended(name: str, result: Result) -> Contended:
    return Contended(
        f"contended: what is to be done with {name} could not be agreed on in time ({result}); {_ANEW}"
    )


def undone(name: str) -> OutcomeUnknown:
    """Of one write alone. No intent lies there, on which others would wait."""
    return OutcomeUnknown(
        f"unknown: too few replicas have answered to tell whether the transaction is committed. It writes "
        f"{name} alone, which may hold that, or may come to hold it yet. Read it; begin anew if that will "
        f"not do",
        None, None,
    )  # fmt: skip


def undecided() -> OutcomeUnknown:
    return OutcomeUnknown(
        "unknown: too few replicas have answered to tell whether the transaction is committed; it is all or "
        "nothing. Read its keys to find out: who reads them waits until that is decided",
        None, None,
    )  # fmt: skip

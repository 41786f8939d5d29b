"""Task: what is to be done with a row of a register, and what became of it. Values between whoever began it,
at the node that the client asked, and the one that does it (`proposer.py`).

A write is told by its conditions, too, when it is repeated as itself: what its identity is checked with
covers them.
"""

from collections.abc import Callable
from typing import NamedTuple

from basestore.consistency import Quorum
from basestore.coordinator.attempts import Content
from basestore.errors import Contended, InvalidRequest, OutcomeUnknown, RequestFailed
from basestore.instant import Instant
from basestore.repair.compare_and_set import Attempt
from basestore.repair.version import Digester, Identity, Record, Version


class Done(NamedTuple):
    """What became of it. `outcome` as in `Written`; of a read it is stored. `version`: that the write is
    known by, encoded, if it has one; `order`: of the record that the row holds now, and that record, if it is
    of a read, or has added, or, where the write was lost, was alive when that was judged. `required` and
    `replicas` as in `Written`."""

    outcome: int
    version: bytes
    order: bytes
    record: Record | None
    required: int
    replicas: list[int]


Result = Done | InvalidRequest | RequestFailed | None  # None: a read that is to be handed over
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
    is not concluded by asking alone nothing is reported but that."""

    row: bytes
    deadline: float
    write: Write | None = None
    must_ask: int | None = None
    quorum: Callable[[], Quorum] | None = None
    hands_over: bool = False

    @property
    def instead(self) -> str:
        """What may be asked for where too few are alive, as the end of a sentence: no write is weaker."""
        return ", or read at one, which may be behind" if self.write is None else ""


_WHO = "; `basestore status` shows who is down, or not taken in yet"
UNREAD = (
    "timeout: too few replicas of this register have answered in time, or others were at it; a read changes "
    f"nothing. Try again later, or with more time; or read at one, which may be stale{_WHO}"
)


def contended() -> Contended:
    return Contended(
        "contended: others were at this register, or too few of its replicas answered, for as long as the "
        "request could last; nothing was proposed, so nothing was done. Try again later, or with more time"
        + _WHO
    )


def unknown(
    identity: Identity, found: Version | None, why: str, error: RequestFailed | InvalidRequest | None = None
) -> OutcomeUnknown:
    """`error`: what the latest attempt has come to, if that has done nothing: an earlier one may have."""
    latest = f". The latest attempt did nothing: {error}" if error is not None else ""
    return OutcomeUnknown(
        f"unknown: {why}; the write may have happened. Repeat it as {identity} (it is then the same write), "
        f"or read{latest}",
        found, identity,
    )  # fmt: skip


def no_number(value: bytes) -> InvalidRequest:
    shown = value[:40].decode(errors="backslashreplace")
    return InvalidRequest(
        f"the key holds {shown!r}, which is no decimal number, so nothing can be added to it; nothing was "
        f"done. Set it to a number, or use another key"
    )


def doubting(report: Report, identity: Identity, why: str) -> Report:
    """Of a write that may have been done before: that nothing was done is only true of this attempt."""

    def doubt(result: Result, now: Instant) -> None:
        if isinstance(result, InvalidRequest) or (isinstance(result, RequestFailed) and result.definite):
            result = unknown(identity, None, why, result)
        report(result, now)

    return doubt

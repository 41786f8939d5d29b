"""Attempts: what is written, and what becomes of a write that repeats an earlier attempt. Pure.

Who repeats a write passes its identity on (`repair.version.Identity`). With a version it is the same write:
it is stamped once. Of a write whose client was told no version, the record with its proposal is looked for,
among the replicas that a read at its level asks. If it is found, it is repeated under that version. If not:

    records never change    it is stamped anew. Whichever of its stamps wins, the record is of this write,
                            with this value; so a winner is read for its proposal before LOST is said:
                            LOST to itself is STORED
    they do                 OutcomeUnknown. Its first attempt may have been replaced already, and a second
                            stamp would bring it back over what has replaced it

Owns what is decided and how it is told; sends and reads nothing: `quorum_write` does.
"""

from collections.abc import Callable
from typing import NamedTuple

from basestore.consistency import MOVING
from basestore.errors import (
    InvalidRequest,
    OutcomeUnknown,
    ReadTimeout,
    ReplicaFailure,
    RequestFailed,
    WriteTimeout,
)
from basestore.instant import Instant
from basestore.protocol.client import FINAL, PROVISIONAL
from basestore.repair.rule import Rule
from basestore.repair.version import CHECK_BYTES, VERSION_BYTES, Digester, Identity, Record, Version

STAMPED_BYTES = VERSION_BYTES + CHECK_BYTES  # of a record: what an identity tells of it
_STAMP_BYTES = 8
OTHER_CONTENT = (
    "the write that is to be repeated was made with another key, bucket, value or ttl; nothing was done. "
    "Pass exactly what it was made with; or, for another write, no `repeat`"
)


class Content(NamedTuple):
    """What is to be written, before it has a version. `rule`: of its bucket; `after`: a stamp that its own
    shall be greater than; `proposal`: what its client has drawn for its identity, or nothing."""

    row: bytes
    value: bytes
    ttl_ms: int
    tombstone: bool
    rule: Rule
    after: int = 0
    proposal: bytes = b""

    def seal(self, digester: Digester, version: Version, expires_ms: int) -> Record:
        """The record that it leaves under this version."""
        row, value, _, tombstone, _, _, proposal = self
        return Record.seal(
            digester, row, version, value, tombstone=tombstone, expires_ms=expires_ms, proposal=proposal
        )

    def again(self, digester: Digester, version: Version) -> Record:
        """The record that it has left under this version, if the clocks were right then (`expiry_ms` of the
        stamper)."""
        return self.seal(digester, version, version.wall_ms + self.ttl_ms if self.ttl_ms else 0)

    def compared(self, condition: int, expected: bytes) -> "Content":
        """In a register: what the identity of such a write is checked with, for it is another one if it
        depends on something else."""
        told = bytes((condition,)) + len(expected).to_bytes(4) + expected
        return self._replace(value=told + self.value)

    def left(self, found: Record, digester: Digester) -> bool:
        """Whether this record is of this very write, under whatever version."""
        if not self.named(found) or bool(self.ttl_ms) != bool(found.expires_ms):
            return False
        return self.seal(digester, found.version, found.expires_ms).head == found.head

    def named(self, found: Record) -> bool:
        """Whether its client has proposed the same for the write that left this record."""
        return self.proposal != b"" and found.proposal == self.proposal


class Repeated(NamedTuple):
    """That a write repeats an earlier attempt; and the record of that, if its client was told the version."""

    record: Record | None


class Begin(NamedTuple):
    """It is to be sent: this record of an earlier attempt, or a new one."""

    record: Record | None


class Lost(NamedTuple):
    """It has lost to the record with the head `winner`. `stamped`: its own version and check, if any."""

    winner: bytes
    stamped: bytes


class Decision(NamedTuple):
    """What became of a write that its level was reached for; the fields as in `Written`."""

    outcome: int
    final: int
    identity: bytes
    required: int
    acknowledged: int
    replicas: list[int]
    better: bytes


Report = Callable[[Decision | InvalidRequest | RequestFailed, Instant], None]


def weigh(
    content: Content, digester: Digester, repeated: Repeated | None, found: Record | None
) -> Begin | Lost | InvalidRequest | OutcomeUnknown:
    """What becomes of a write that has looked first, by what its row holds."""
    record = repeated.record if repeated else None
    if repeated and found is not None and content.named(found):
        # Its first attempt may have missed some of the replicas: it is sent to all of them again.
        return Begin(found) if content.left(found, digester) else InvalidRequest(OTHER_CONTENT)
    if not content.rule.immutable:
        return _unknown(content, found)
    if found is None:
        return Begin(record)
    if record is None:
        return Lost(found.head, b"")
    # Or what was found loses to the earlier attempt, which may still arrive somewhere.
    if record.head == found.head or content.rule.beats(record.head, found.head):
        return Begin(record)
    return Lost(found.head, record.blob[:STAMPED_BYTES])


def _unknown(content: Content, found: Record | None) -> OutcomeUnknown:
    held = "nothing" if found is None else f"version {found.version}"
    return OutcomeUnknown(
        f"unknown: no replica that was asked holds the write that is repeated; the key holds {held}. It may "
        f"have happened before that, or may happen yet, and under a new version it could undo a later write. "
        f"Read the key; if what it holds will not do, write anew, without `repeat`",
        found.version if found else None,
        Identity(content.proposal),
    )


def finality(version: bytes, stable: int) -> int:
    """Whether the write that holds the key can be contested any more, by a replica's stable stamp."""
    return FINAL if int.from_bytes(version[:_STAMP_BYTES]) <= stable else PROVISIONAL


def unread(content: Content) -> OutcomeUnknown:
    """The error when it cannot be read whether a record that has won is of this very write."""
    return OutcomeUnknown(
        "unknown: an earlier record holds the key, and whether it is of this very write, and on enough "
        "replicas, could not be found out in time. Repeat it once more, as it was repeated now; that is safe",
        None,
        Identity(content.proposal),
    )


def not_begun(content: Content, error: RequestFailed) -> RequestFailed:
    """The read before a write failed: say that the write itself was not sent."""
    if isinstance(error, ReadTimeout):
        text = f"timeout before the write was sent ({error}); nothing was written"
        error = ReadTimeout(text, error.received, error.required, None)
    error.identity = Identity(content.proposal) if content.proposal else None
    return error


def timed_out(told: tuple[int, int], identity: Identity, *, moving: bool) -> WriteTimeout:
    """The error when fewer replicas than are required confirmed a write in time."""
    required, confirmed = told
    return WriteTimeout(
        f"timeout: {confirmed} of {required} required replicas confirmed in time{MOVING if moving else ''}; "
        f"the write may have happened. Repeat it as {identity} (it is then the same write), or read",
        confirmed, required, identity,
    )  # fmt: skip


def refused(told: tuple[int, int], reasons: dict[str, str], identity: Identity) -> ReplicaFailure:
    """The error when too many replicas did not take a write, by the names of members."""
    required, applied = told
    listed = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    return ReplicaFailure(
        f"failed: {applied} of {required} required replicas applied the write, others refused or were lost "
        f"({listed}). It may have happened, or may yet: repeat it as {identity}, or read",
        reasons,
        identity,
    )

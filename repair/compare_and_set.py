"""Compare-and-set: what a write does by what the replicas of its row agree on (`paxos.py`). Pure.

A write depends on what the row holds: nothing, a version, a value, a number. Under a ballot that a quorum has
promised its proposer knows that, and decides:

    the condition stands        its record takes the place of what is held
    it does not                 LOST, once what is held is chosen
    it may have been sent       looked for first, for nobody may have it applied twice: it is there; what it
    before                      was to replace is there, so it was not applied and never will be under an
                                earlier ballot; or neither, and nobody can tell
    another's intent is there   BLOCKED: what the row holds is not decided (`intents.py`); that is found
                                out, and the intent settled, before anything else is weighed
"""

import enum
from typing import Final, NamedTuple

from basestore.repair.intents import Intent
from basestore.repair.paxos import Known, ballot_of, is_closed
from basestore.repair.version import VERSION_BYTES, Record

NOTHING: Final = bytes(VERSION_BYTES)  # whose place a record took where there was none


class Condition(enum.Enum):
    """What a write depends on: that the row holds no value, a version, or a value. ADD adds to the number
    that it holds; SETTLE settles the intent that it holds, if that is of the transaction that is expected.
    UNDECIDED: that it holds nothing, not even that something was deleted."""

    UNCONDITIONAL = 0
    IF_ABSENT = 1
    IF_VERSION = 2
    IF_VALUE = 3
    ADD = 4
    SETTLE = 5
    UNDECIDED = 6


class Next(enum.Enum):
    """What a proposer does under a ballot that is prepared.

    PROPOSE   have a record of its own accepted, in the place of what is known
    STORED    the write was accepted before: it stands, once what is known is chosen
    LOST      what is known holds the place that the write depends on: once that is chosen
    NO_NUMBER what is known is no number, or the sum would be too long for one: likewise
    UNKNOWN   the write may have been chosen, and its place taken since
    BLOCKED   what is known is an intent of a transaction, and not of this write's
    """

    PROPOSE = 0
    STORED = 1
    LOST = 2
    NO_NUMBER = 3
    UNKNOWN = 4
    BLOCKED = 5


class Attempt(NamedTuple):
    """One write, as far as it has come. `condition` and what is `expected`: a version, or a value.
    `proposal`: what its client has drawn for it. `identity`: the version that it had first, encoded, once it
    was proposed; `meant`: what the write whose place it was to take is known by, once this proposer has sent
    it. `again`: another proposer may have sent it already. `final`: in its bucket nothing that is chosen ever
    goes. `by`: what ADD adds, as decimal text. `lays`: the transaction whose intent it lays, if it does; its
    proposal is that of no other write."""

    condition: Condition
    expected: bytes
    proposal: bytes
    identity: bytes = b""
    meant: bytes = b""
    again: bool = False
    final: bool = False
    by: bytes = b"0"
    lays: bytes = b""

    @property
    def begun(self) -> bool:
        """Whether it may have been sent before, by whomever."""
        return self.again or self.identity != b""

    def weigh(self, known: Known, wall_ms: int) -> Next:
        """What to do, by what a quorum knows. `wall_ms`: when what expires is judged."""
        record = known.record
        if self.condition is Condition.SETTLE:
            return Next.PROPOSE if lies_here(record, self.expected) else Next.LOST
        if record is not None and record.intent:
            return Next.STORED if lies_here(record, self.lays) else Next.BLOCKED
        if self.begun:
            weighed = self._look(known)
            if weighed is not None:
                return weighed
        compared = self._compare(record, wall_ms)
        if compared is Next.LOST and self.again and not self._has_passed(record):
            return Next.UNKNOWN
        return compared

    def _has_passed(self, record: Record | None) -> bool:
        """Whether what the write depends on is not so, and never will be: the place of a version that was
        taken is never free again. Else who is at it yet may find that it is so, by another clock, once it was
        deleted, or once a version is chosen that only few have accepted yet."""
        replaced = record.descent[VERSION_BYTES:] if record is not None else NOTHING
        return self.final or (self.condition is Condition.IF_VERSION and replaced == self.expected)

    def _look(self, known: Known) -> Next | None:
        """Whether it was accepted before; None: it was not, and will not be under an earlier ballot."""
        record, descent = known.record, known.record.descent if known.record else NOTHING + NOTHING
        now_is, replaced = descent[:VERSION_BYTES], descent[VERSION_BYTES:]
        if record is not None and (now_is == self.identity or self.proposal == record.proposal != b""):
            return Next.STORED
        if self.identity and replaced == self.identity:
            return Next.STORED
        if self.final:  # chosen, it would be there
            return None
        # It may have been chosen and deleted, and that be purged: then all begins anew with nothing.
        if self.identity and replaced == NOTHING and is_closed(known.purged, self.identity):
            return Next.UNKNOWN
        # Chosen, it would be known to one of them, or something that came after it.
        if self.identity and known.ballot < ballot_of(self.identity):
            return None
        meant = self.meant or (self.expected if self.condition is Condition.IF_VERSION else b"")
        # That is there yet; or another took its place, and only one can: it may hold what this depends on.
        if meant and (now_is == meant or (record is not None and replaced == meant)):
            return None
        return Next.UNKNOWN

    def _compare(self, record: Record | None, wall_ms: int) -> Next:
        held = record is not None and record.live(wall_ms)
        match self.condition:
            case Condition.IF_ABSENT:
                stands = not held
            case Condition.UNDECIDED:
                stands = record is None
            case Condition.IF_VERSION:
                stands = held and record is not None and record.known_as == self.expected
            case Condition.IF_VALUE:
                stands = held and record is not None and record.value == self.expected
            case Condition.ADD if added(self.by, record, wall_ms) is None:
                return Next.NO_NUMBER
            case _:
                stands = True
        return Next.PROPOSE if stands else Next.LOST

    def proposed(self, version: bytes, known: Known) -> "Attempt":
        """It is about to be sent under this version, encoded, in the place of what is known."""
        meant = known.record.known_as if known.record is not None else NOTHING
        return self._replace(identity=self.identity or version, meant=meant)


def lies_here(record: Record | None, transaction: bytes) -> bool:
    """Whether this is an intent of this transaction."""
    return record is not None and record.intent and Intent.of(record).transaction == transaction


NUMBER_BYTES_MAX: Final = 64


def number_of(value: bytes) -> int | None:
    """The number that a value is, as decimal text; None if it is none."""
    digits = value[1:] if value[:1] == b"-" else value
    if len(value) > NUMBER_BYTES_MAX or not (digits.isdigit() and digits.isascii()):
        return None
    return int(value)


def added(by: bytes, record: Record | None, wall_ms: int) -> bytes | None:
    """The number that a row holds, and so much more; None if it holds none, or the sum would be too long."""
    held = number_of(record.value) if record is not None and record.live(wall_ms) else 0
    if held is None:
        return None
    total = b"%d" % (held + (number_of(by) or 0))
    return total if len(total) <= NUMBER_BYTES_MAX else None

"""Paxos: how the replicas of one row agree on what it holds, one value after the other. Pure.

Basic Paxos (Lamport, "The Part-Time Parliament", 1998; "Paxos Made Simple", 2001), once for each value that a
register comes to hold. Its three roles:

    acceptor   a replica of the row. It answers by three promises, durable before it speaks:
                   no prepare request with a ballot that is not above all it knows of
                   no accept request with a ballot below one that it has promised
                   who prepares is told of the greatest ballot accepted here, and its record
    proposer   who writes. It prepares a ballot at a quorum, takes the greatest record that it is told of for
               what the row holds, and has a record accepted under that ballot: one that takes its place, or
               the same one again
    learner    who hears that a quorum has accepted: then the record is *chosen*. All replicas are told, and
               from then on it is an ordinary record (`replica/replica.py`)

A *ballot* is a stamp and an origin, 16 bytes that sort as numbers do. It is the beginning of the version of
the record that is accepted under it: so what is chosen later has the greater version, and records of
registers compare as those do of which the last write wins. A write is known by the version that it had first;
that stays in its record (`Record.descent`) when another has it accepted again, under a ballot of his own.

    n1 prepares (5, a) at n1, n2                   both promise, and hold nothing
    n1 has record r1, version (5, a), accepted     by n2 only; then n1 stops
    n3 prepares (9, c) at n2, n3                   n2 tells of r1, accepted under (5, a)
    r1 may be chosen for all that n3 knows         so it must not be passed over: n3's own record takes its
                                                   place, and names it; or r1 is accepted once more, by (9, c)

What has been chosen is one chain: each record names the one whose place it took.

*Skipped prepare* (Multi-Paxos): an acceptance may promise the proposer's next ballot as well. A quorum that
has accepted a record has then prepared that ballot, and knows of nothing greater: the next write of this
proposer on this row needs one round.

Two things are not in the papers. An acceptor *closes* a partition up to a stamp (`certificate.py`), and takes
no ballot at or below it: so a promise that low need not be kept. And it closes nothing at or above what it
has accepted, and not learned: so what is stable is learned by all. Nothing is dropped because it is old.

Owns the answers of an acceptor and what a proposer concludes. Sends nothing, stores nothing, and counts no
quorums: who does is in `basestore/registers`.
"""

import enum
import struct
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final, NamedTuple, Self

from basestore.repair.version import VERSION_BYTES, Record

BALLOT_BYTES: Final = 16
NO_BALLOT: Final = b""  # below all
NOTHING: Final = bytes(VERSION_BYTES)  # whose place a record took where there was none
_STAMP_BYTES: Final = 8
_SINCE: Final = struct.Struct(">Q")


def ballot_of(record: bytes) -> bytes:
    """Of a record, or of its version or head: the ballot under which it was accepted. Of nothing: none."""
    return record[:BALLOT_BYTES]


def ballot_text(ballot: bytes) -> str:
    """The form a user reads: the first two words of the versions of what is accepted under it."""
    return f"{ballot[:_STAMP_BYTES].hex()}-{ballot[_STAMP_BYTES:].hex()}"


def is_closed(closed: int, ballot: bytes) -> bool:
    """Whether a ballot is at or below this stamp."""
    return int.from_bytes(ballot[:_STAMP_BYTES]) <= closed


# --- acceptor ------------------------------------------------------------------------------------


class Refused(NamedTuple):
    """The ballot is too low. `ballot`: one at or above all that stand against it."""

    ballot: bytes


class Told(NamedTuple):
    """What an acceptor knows: the greatest record, encoded, or nothing, and whether that is learned. `since`:
    the epoch under which it was accepted, if it is not. `purged`: up to this stamp what was deleted may be
    gone without a trace."""

    record: bytes
    learned: bool
    since: int
    purged: int


class Acceptor(NamedTuple):
    """What one store has promised and accepted of one row. `since`: the epoch under which it has accepted,
    or, with nothing accepted, promised."""

    since: int = 0
    promised: bytes = NO_BALLOT
    accepted: bytes = b""

    def encode(self) -> bytes:
        return _SINCE.pack(self.since) + self.promised.ljust(BALLOT_BYTES, b"\0") + self.accepted

    @classmethod
    def decode(cls, stored: bytes) -> Self:
        """Inverse of `encode`."""
        start = _SINCE.size + BALLOT_BYTES
        return cls(_SINCE.unpack_from(stored)[0], stored[_SINCE.size : start], stored[start:])

    def prepare(self, ballot: bytes, learned: bytes, closed: int, since: int) -> "Acceptor | Refused":
        """A prepare request. `learned`: the version of the record that is held, or nothing; `closed`: up to
        which stamp nothing is taken; `since`: the present epoch of the row's seats."""
        greatest = max(self.promised, ballot_of(self.accepted), ballot_of(learned))
        if ballot <= greatest or is_closed(closed, ballot):
            return Refused(_at_least(greatest, closed))
        return self._replace(promised=ballot, since=self.since if self.accepted else since)

    def accept(
        self, record: bytes, following: bytes, learned: bytes, closed: int, since: int
    ) -> "Acceptor | Refused":
        """An accept request, under the ballot of the record. `following`: a ballot of the same proposer that
        is promised by that, or none."""
        ballot = ballot_of(record)
        if (
            ballot < max(self.promised, ballot_of(self.accepted))
            or ballot <= ballot_of(learned)
            or is_closed(closed, ballot)
        ):
            greatest = max(self.promised, ballot_of(self.accepted), ballot_of(learned))
            return Refused(_at_least(greatest, closed))
        return Acceptor(since, max(self.promised, ballot, following), record)

    def learn(self, version: bytes) -> "Acceptor":
        """A record of this version is held now: what was accepted up to it is not needed any more."""
        return self._replace(accepted=b"") if ballot_of(self.accepted) <= ballot_of(version) else self

    def told(self, learned: bytes, purged: int) -> Told:
        """What it knows. `learned`: the record that is held, or nothing."""
        if ballot_of(self.accepted) > ballot_of(learned):
            return Told(self.accepted, False, self.since, purged)
        return Told(learned, True, 0, purged)

    def needed(self, closed: int) -> bool:
        """Whether anything of it must be kept: what is closed is refused without it."""
        return bool(self.accepted) or not is_closed(closed, self.promised)


def closed_ballot(closed: int) -> bytes:
    """The greatest that `is_closed`."""
    return closed.to_bytes(_STAMP_BYTES) + b"\xff" * (BALLOT_BYTES - _STAMP_BYTES)


def _at_least(ballot: bytes, closed: int) -> bytes:
    return max(ballot, closed_ballot(closed))


# --- learner -------------------------------------------------------------------------------------


class Known(NamedTuple):
    """What a quorum knows: the greatest record, or None. `chosen`: that is known to be so; of nothing it is,
    as long as a ballot is prepared at them. `purged` as in `Told`."""

    record: Record | None
    chosen: bool
    purged: int = 0

    @property
    def ballot(self) -> bytes:
        return ballot_of(self.record.blob) if self.record is not None else NO_BALLOT


def known(told: Iterable[Told]) -> Known:
    """What these know together. Learned is what was chosen."""
    greatest, learned, purged = b"", True, 0
    for each in told:
        purged = max(purged, each.purged)
        ballot = ballot_of(each.record)
        if ballot > ballot_of(greatest):
            greatest, learned = each.record, each.learned
        elif ballot == ballot_of(greatest):
            learned |= each.learned
    return Known(Record(greatest) if greatest else None, learned, purged)


def known_at(told: Mapping[int, Told], since: int, met: Callable[[Collection[int]], bool]) -> Known:
    """The same, where it is told by whom. `since`: the present epoch of the seats; `met`: whether these are a
    quorum. Chosen is also what a quorum has accepted under this epoch."""
    found = known(told.values())
    if found.chosen:
        return found
    having = [
        member
        for member, each in told.items()
        if ballot_of(each.record) == found.ballot and (each.learned or each.since == since)
    ]
    return found._replace(chosen=met(having))


# --- proposer ------------------------------------------------------------------------------------


class Condition(enum.Enum):
    """What a write depends on: that the row holds no value, a version, or a value. ADD adds to the number
    that it holds."""

    ANYHOW = 0
    IF_ABSENT = 1
    IF_VERSION = 2
    IF_VALUE = 3
    ADD = 4

    @property
    def compares(self) -> bool:
        return self in _COMPARING


_COMPARING: Final = frozenset((Condition.IF_ABSENT, Condition.IF_VERSION, Condition.IF_VALUE))


class Next(enum.Enum):
    """What a proposer does under a ballot that is prepared.

    PROPOSE   have a record of its own accepted, in the place of what is known
    STORED    the write was accepted before: it stands, once what is known is chosen
    LOST      what is known holds the place that the write depends on: once that is chosen
    NO_NUMBER what is known is no number, to which one could be added: likewise
    UNKNOWN   the write may have been chosen, and its place taken since
    """

    PROPOSE = 0
    STORED = 1
    LOST = 2
    NO_NUMBER = 3
    UNKNOWN = 4


class Proposal(NamedTuple):
    """One write, as far as it has come. `condition` and what is `expected`: a version, or a value.
    `proposal`: what its client has drawn for it. `identity`: the version that it had first, encoded, once it
    was proposed; `meant`: what the write whose place it was to take is known by, once this proposer has sent
    it. `again`: another proposer may have."""

    condition: Condition
    expected: bytes
    proposal: bytes
    identity: bytes = b""
    meant: bytes = b""
    again: bool = False

    def weigh(self, known: Known, wall_ms: int) -> Next:
        """What to do, by what a quorum knows. `wall_ms`: when what expires is judged."""
        if self.identity or self.again:
            weighed = self._look(known)
            if weighed is not None:
                return weighed
        return self._compare(known.record, wall_ms)

    def _look(self, known: Known) -> Next | None:
        """Whether it was accepted before; None: it was not, and will not be under an earlier ballot."""
        record, descent = known.record, known.record.descent if known.record else NOTHING + NOTHING
        now_is, replaced = descent[:VERSION_BYTES], descent[VERSION_BYTES:]
        if record is not None and (now_is == self.identity or self.proposal == record.proposal != b""):
            return Next.STORED
        if self.identity and replaced == self.identity:
            return Next.STORED
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
            case Condition.IF_VERSION:
                stands = held and record is not None and record.known_as == self.expected
            case Condition.IF_VALUE:
                stands = held and record is not None and record.value == self.expected
            case Condition.ADD if held and record is not None and number_of(record.value) is None:
                return Next.NO_NUMBER
            case _:
                stands = True
        return Next.PROPOSE if stands else Next.LOST

    def proposed(self, version: bytes, known: Known) -> "Proposal":
        """It is about to be sent under this version, encoded, in the place of what is known."""
        meant = known.record.known_as if known.record is not None else NOTHING
        return self._replace(identity=self.identity or version, meant=meant)


NUMBER_BYTES_MAX: Final = 64


def number_of(value: bytes) -> int | None:
    """The number that a value is, as decimal text; None if it is none."""
    digits = value[1:] if value[:1] == b"-" else value
    if len(value) > NUMBER_BYTES_MAX or not (digits.isdigit() and digits.isascii()):
        return None
    return int(value)


def added(by: bytes, record: Record | None, wall_ms: int) -> bytes:
    """The number that a row holds, and so much more."""
    held = number_of(record.value) if record is not None and record.live(wall_ms) else 0
    return b"%d" % ((held or 0) + (number_of(by) or 0))

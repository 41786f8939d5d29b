"""Paxos: how the replicas of one row agree on what it holds, one value after the other. Pure.

The two phases and three roles of Basic Paxos (Lamport, "The Part-Time Parliament", 1998; "Paxos Made
Simple", 2001), with one acceptor state a row for all values that it comes to hold, as in CASPaxos (Rystsov,
"CASPaxos: Replicated State Machines without logs", 2018): where a proposer of Basic Paxos must propose the
greatest value that it is told of, one of these may propose a change of it.

    acceptor   a replica of the row. It answers by two promises, and what it tells; all is durable before:
                   no prepare request is granted with a ballot that is not above all it knows of
                   no accept request with a ballot below one that it has promised
                   who prepares is told of the greatest ballot accepted here, and its record
    proposer   who writes. It prepares a ballot at a quorum, takes the greatest record that it is told of for
               what the row holds, and has a record accepted under that ballot: one that takes its place, or
               the same one again
    learner    who hears that a quorum has accepted: then the record is *chosen*. The proposer counts that,
               and tells all replicas; from then on it is an ordinary record of theirs

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

Owns the answers of an acceptor, and what is learned from them; what a proposer writes then is decided in
`compare_and_set.py`. Sends nothing, stores nothing, and counts no quorums: who does is in
`basestore/registers`.
"""

import struct
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final, NamedTuple, Self

from basestore.repair.version import Record

BALLOT_BYTES: Final = 16
NO_BALLOT: Final = b""  # below all
TOLD: Final = (1 << 63) - 1  # the epoch of what was not accepted here, but is told: later than any
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


class TooLow(NamedTuple):
    """The ballot is. `ballot`: one at or above all that stand against it."""

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
        promised = stored[_SINCE.size : start]
        return cls(_SINCE.unpack_from(stored)[0], promised if any(promised) else NO_BALLOT, stored[start:])

    def prepare(
        self, ballot: bytes, learned: bytes, closed: int, purged: int, since: int
    ) -> "tuple[Acceptor, Told] | TooLow":
        """A prepare request: what stands then, and what the proposer is told. `learned`: the record that is
        held, or nothing; `closed`: up to which stamp nothing is taken; `purged` as in `Told`; `since`: the
        present epoch of the row's seats."""
        greatest = max(self.promised, ballot_of(self.accepted), ballot_of(learned))
        if ballot <= greatest or is_closed(closed, ballot):
            return TooLow(_at_least(greatest, closed))
        after = self._replace(promised=ballot, since=self.since if self.accepted else since)
        return after, after.told(learned, purged)

    def accept(
        self, record: bytes, following: bytes, learned: bytes, closed: int, since: int
    ) -> "Acceptor | TooLow":
        """An accept request, under the ballot of the record. `following`: a ballot of the same proposer that
        is promised by that, or none."""
        ballot = ballot_of(record)
        if (
            ballot < max(self.promised, ballot_of(self.accepted))
            or ballot <= ballot_of(learned)
            or is_closed(closed, ballot)
        ):
            greatest = max(self.promised, ballot_of(self.accepted), ballot_of(learned))
            return TooLow(_at_least(greatest, closed))
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
    """What a quorum knows: the greatest record, or None. `chosen`: that is known to be so. With None it
    always is: of what a quorum had accepted when the first of these answered, one of these would have told,
    unless it was deleted and purged. `purged` as in `Told`."""

    record: Record | None
    chosen: bool
    purged: int = 0

    @property
    def ballot(self) -> bytes:
        return ballot_of(self.record.blob) if self.record is not None else NO_BALLOT


def gathered(told: Iterable[Told]) -> Known:
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


def gathered_at(told: Mapping[int, Told], since: int, met: Callable[[Collection[int]], bool]) -> Known:
    """The same, where it is told by whom. `since`: the present epoch of the seats; `met`: whether these are a
    quorum. Chosen is also what a quorum has accepted under this epoch."""
    found = gathered(told.values())
    if found.chosen:
        return found
    having = [
        member
        for member, each in told.items()
        if ballot_of(each.record) == found.ballot and each.since == since
    ]
    return found._replace(chosen=met(having))

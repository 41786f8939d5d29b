"""Rule: which of two records of a row wins. Fixed for the life of a bucket.

The laws, for every rule and all records a, b, c of a row (tested as properties):

    winner(a, b) == winner(b, a)                          commutative
    winner(a, winner(b, c)) == winner(winner(a, b), c)    associative
    winner(a, a) == a                                     idempotent
    winner(a, b) in (a, b)                                decides every pair

So replicas that have seen the same records hold the same record, in whatever order and however
often they came (a join semilattice; Shapiro et al., "Conflict-free replicated data types", 2011).

What else a rule implies for the requests of a bucket is an attribute of its members. Nobody else asks
which rule it is: a new rule is a member here, and a case in its tests. Rules travel, and stand in
configurations, as their values. It refuses to know where records are kept.
"""

import enum
from typing import NamedTuple, Self

from basestore.repair.version import HEAD_BYTES, VERSION_BYTES, Record, Version


class _Implied(NamedTuple):
    greatest_wins: bool = True
    immutable: bool = False
    reads_first: bool = False
    final_when_stable: bool = False


_PLAIN = _Implied()


class Rule(enum.Enum):
    """Conflict rule of a bucket.

    immutable          a stored record never changes: there are no deletes and no expiry, and a write that
                       comes second is lost, not superseded
    reads_first        a write at QUORUM or ALL reads at its level first, and is sent only where nothing is
                       found: so only writes that overlap in time can contend
    final_when_stable  receipts and reads say whether an earlier record may still turn up: the winner is
                       provisional until its stamp is stable, and final from then on
    """

    _value_: str
    immutable: bool
    reads_first: bool
    final_when_stable: bool
    _greatest_wins: bool

    def __new__(cls, word: str, implied: _Implied = _PLAIN) -> Self:
        rule = object.__new__(cls)
        rule._value_ = word
        rule._greatest_wins, rule.immutable, rule.reads_first, rule.final_when_stable = implied
        return rule

    LAST_WRITE_WINS = "last-write-wins"
    FIRST_WRITE_WINS = (
        "first-write-wins",
        _Implied(greatest_wins=False, immutable=True, reads_first=True, final_when_stable=True),
    )
    # Nobody knows any more which rule such a bucket had: what is left of it is kept by this one.
    OF_REMOVED_BUCKET = LAST_WRITE_WINS

    def beats(self, challenger: bytes, holder: bytes) -> bool:
        """Whether the record with head `challenger` replaces the one with head `holder`."""
        return challenger > holder if self._greatest_wins else challenger < holder

    def winner(self, a: Record, b: Record) -> Record:
        """The record that every replica keeps once it has seen both."""
        return a if self.beats(a.head, b.head) else b

    def line(self, winner: bytes, loser: bytes) -> str:
        """The line of the rule by which the record with the one head beats that with the other, in
        words: the first thing in which they differ."""
        greater, note = ("greater", "") if self._greatest_wins else ("smaller", " (first write wins)")
        ours, theirs = Version.decode(winner[:VERSION_BYTES]), Version.decode(loser[:VERSION_BYTES])
        if ours.stamp != theirs.stamp:
            return f"a {greater} stamp{note}"
        if ours.origin != theirs.origin:
            return f"equal stamps, {greater} origin{note}"
        if ours.number != theirs.number:
            return f"equal stamps and origins, {greater} number{note}"
        if winner[VERSION_BYTES:HEAD_BYTES] != loser[VERSION_BYTES:HEAD_BYTES]:
            return f"equal versions, {greater} digest{note}"
        return "the same record"

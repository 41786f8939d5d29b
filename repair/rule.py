"""Rule: which of two records of a row wins. Fixed for the life of a bucket.

The laws, for every rule and all records a, b, c of a row (tested as properties):

    winner(a, b) == winner(b, a)                          commutative
    winner(a, winner(b, c)) == winner(winner(a, b), c)    associative
    winner(a, a) == a                                     idempotent
    winner(a, b) in (a, b)                                decides every pair

So replicas that have seen the same records hold the same record, in whatever order and however
often they came (a join semilattice; Shapiro et al., "Conflict-free replicated data types", 2011).
"""

import enum

from repair.version import HEAD_BYTES, VERSION_BYTES, Record, Version


class Rule(enum.Enum):
    """Conflict rule of a bucket."""

    LAST_WRITE_WINS = "last-write-wins"
    FIRST_WRITE_WINS = "first-write-wins"

    def beats(self, challenger: bytes, holder: bytes) -> bool:
        """Whether the record with head `challenger` replaces the one with head `holder`."""
        if self is _LAST:
            return challenger > holder
        return challenger < holder

    def winner(self, a: Record, b: Record) -> Record:
        """The record that every replica keeps once it has seen both."""
        return a if self.beats(a.head, b.head) else b

    def line(self, winner: bytes, loser: bytes) -> str:
        """The line of the rule by which the record with the one head beats that with the other, in
        words: the first thing in which they differ."""
        greater, note = ("greater", "") if self is _LAST else ("smaller", " (first write wins)")
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


_LAST = Rule.LAST_WRITE_WINS  # bound once: `beats` is called for every record that arrives

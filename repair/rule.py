"""Rule: which of two records of a row wins. Fixed for the life of a bucket.

The laws, for every rule and all records a, b, c of a row (tested as properties):

    winner(a, b) == winner(b, a)                          commutative
    winner(a, winner(b, c)) == winner(winner(a, b), c)    associative
    winner(a, a) == a                                     idempotent
    winner(a, b) in (a, b)                                decides every pair

So replicas that have seen the same records hold the same record, in whatever order and however
often they came (a join semilattice; Shapiro et al., "Conflict-free replicated data types", 2011).

What else a rule implies for the requests of a bucket is an attribute of its members. Nobody else asks
which rule it is: a new rule is a member here, and a case in its tests. Rules travel as their values; users
name them by their `word`, and whether they are `agreed`. It refuses to know where records are kept.
"""

import enum
from typing import Final, NamedTuple, Self

from basestore.repair.version import HEAD_BYTES, VERSION_BYTES, Record, Version


class _Implied(NamedTuple):
    greatest_wins: bool = True
    immutable: bool = False
    reads_first: bool = False
    final_when_stable: bool = False
    serial: bool = False


_PLAIN = _Implied()
_AGREED: Final = "-agreed"  # at the end of a value


class Rule(enum.Enum):
    """Conflict rule of a bucket.

    immutable          a stored record never changes: there are no deletes and no expiry, and a write that
                       comes second is lost, not superseded
    reads_first        a write at QUORUM or ALL reads at its level first, and is sent only where nothing is
                       found: so only writes that overlap in time can contend
    final_when_stable  receipts and reads say whether an earlier record may still turn up: the winner is
                       provisional until its stamp is stable, and final from then on
    serial             the replicas agree on each write before it counts (`paxos.py`), in one order: so it may
                       depend on what the row holds. A version is the ballot under which that was agreed, and
                       what is agreed later is greater
    """

    _value_: str
    immutable: bool
    reads_first: bool
    final_when_stable: bool
    serial: bool
    _greatest_wins: bool

    def __new__(cls, word: str, implied: _Implied = _PLAIN) -> Self:
        rule = object.__new__(cls)
        rule._value_ = word
        rule._greatest_wins, rule.immutable, rule.reads_first, rule.final_when_stable, rule.serial = implied
        return rule

    LAST_WRITE_WINS = "last-write-wins"
    FIRST_WRITE_WINS = (
        "first-write-wins",
        _Implied(greatest_wins=False, immutable=True, reads_first=True, final_when_stable=True),
    )
    REGISTER = ("register", _Implied(serial=True))
    # `agreed = true` of a first-write bucket: a register that is written once.
    FIRST_WRITE_AGREED = ("first-write-wins-agreed", _Implied(immutable=True, serial=True))
    # Nobody knows any more which rule such a bucket had: what is left of it is kept by this one.
    OF_REMOVED_BUCKET = LAST_WRITE_WINS

    @classmethod
    def of(cls, word: str, *, agreed: bool = False) -> Self:
        """As users name it; ValueError that says what there is."""
        found = [rule for rule in cls if rule.word == word]
        named = [rule for rule in found if rule.agreed == agreed]
        if not found:
            words = dict.fromkeys(rule.word for rule in cls)
            raise ValueError(f"the rule of a bucket is {' or '.join(words)}, not {word!r:.80}")
        if not named:
            raise ValueError(
                f"only first writes are agreed on by choice: give up `agreed`, or rule {word} for "
                f"first-write-wins"
            )
        return named[0]

    @property
    def word(self) -> str:
        """What users call it."""
        return self._value_.removesuffix(_AGREED)

    @property
    def agreed(self) -> bool:
        """Whether it is told apart by that from the other rule with this word."""
        return self._value_.endswith(_AGREED)

    def __str__(self) -> str:
        """In a line for users."""
        return f"{self.word}, agreed" if self.agreed else self.word

    @property
    def plain(self) -> bool:
        """Whether a write is sent as it is, and the last one wins."""
        return not (self.immutable or self.serial)

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

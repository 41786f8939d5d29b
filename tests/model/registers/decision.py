"""Decision: what a coordinator makes of what a quorum of acceptors has answered. Pure.

Two questions. Is the greatest record that they know *chosen*, so that somebody may hear of it? And what does
a write make of it: is it there already, may it be proposed, has another taken its place, or is nothing
proven?
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from tests.model.registers.records import Ballot, Record, at, is_absent, name
from tests.model.registers.store import Known
from tests.model.registers.topology import Entry


class Kind(Enum):
    SET = "set"
    IF_VERSION = "if version"
    IF_ABSENT = "if absent"


class Wish(NamedTuple):
    """What a client wants written; a value of None deletes. `proposal` is of all its repetitions."""

    key: int
    kind: Kind
    proposal: int
    value: int | None
    expected: Ballot | None = None

    def holds(self, record: Record | None) -> bool:
        if self.kind is Kind.IF_VERSION:
            return not is_absent(record) and name(record) == self.expected
        return self.kind is Kind.SET or is_absent(record)


@dataclass
class Attempt:
    """What its coordinator knows of a write. `sent`: something may be accepted under `identity`, and if
    `named`, as what takes the place of `meant`. `blind`: so it may under others, which nobody remembers."""

    wish: Wish
    identity: Ballot | None = None
    sent: bool = False
    named: bool = False
    meant: Ballot | None = None
    blind: bool = False


class Verdict(Enum):
    PROPOSE = "propose"
    STORED = "stored"
    LOST = "lost"
    UNKNOWN = "unknown"


class Seen(NamedTuple):
    """The greatest record of a quorum, whether it is chosen, and up to where tombstones may be gone."""

    record: Record | None
    chosen: bool
    stable: int


def seen(answers: Mapping[int, Known], entry: Entry) -> Seen:
    record = max((each.record for each in answers.values()), key=at)
    return Seen(record, is_chosen(record, answers, entry), max(each.stable for each in answers.values()))


def is_chosen(record: Record | None, answers: Mapping[int, Known], entry: Entry) -> bool:
    """Some have learned it, or a quorum has accepted it by now under the present entry."""
    if record is None:
        return True
    same = {who: each for who, each in answers.items() if at(each.record) == record.ballot}
    if any(each.learned for each in same.values()):
        return True
    return entry.enough({who for who, each in same.items() if counts_now(each, entry)})


def counts_now(known: Known, entry: Entry) -> bool:
    return known.since == entry.since


def decide(attempt: Attempt, now: Seen) -> Verdict:
    """Whatever it is but `UNKNOWN` and `PROPOSE`, the record has to be chosen before anybody hears it."""
    record, wish = now.record, attempt.wish
    if record is not None and (is_mine(record, attempt) or replaces_mine(record, attempt)):
        return Verdict.STORED
    if attempt.blind:
        return decide_blind(wish, record)
    if attempt.sent and not is_unapplied(attempt, now) and not is_overtaken(attempt, now):
        return Verdict.UNKNOWN
    return Verdict.PROPOSE if wish.holds(record) else Verdict.LOST


def is_mine(record: Record, attempt: Attempt) -> bool:
    return record.identity == attempt.identity or record.proposal == attempt.wish.proposal


def replaces_mine(record: Record, attempt: Attempt) -> bool:
    return attempt.identity is not None and record.replaced == attempt.identity


def decide_blind(wish: Wish, record: Record | None) -> Verdict:
    """By the proposal alone. Only a version that was named proves something: as long as it is there nothing
    has taken its place, and once another has, it was not this."""
    if wish.kind is not Kind.IF_VERSION or record is None:
        return Verdict.UNKNOWN
    if wish.holds(record):
        return Verdict.PROPOSE
    return Verdict.LOST if record.replaced == wish.expected else Verdict.UNKNOWN


def is_unapplied(attempt: Attempt, now: Seen) -> bool:
    """None of its ballots was chosen, nor will be: the present one is promised, and nothing from its first
    on is known; or what it was to take the place of is still there."""
    assert attempt.identity is not None
    if attempt.named and now.record is not None and now.record.identity == attempt.meant:
        return True
    return at(now.record) < attempt.identity and (now.record is not None or is_unpurged(attempt, now))


def is_overtaken(attempt: Attempt, now: Seen) -> bool:
    """Another has taken the place that it was to take."""
    if not attempt.named or now.record is None or now.record.replaced != attempt.meant:
        return False
    return attempt.meant is not None or is_unpurged(attempt, now)


def is_unpurged(attempt: Attempt, now: Seen) -> bool:
    """Where nothing is, it was not there and deleted since."""
    assert attempt.identity is not None
    return now.stable < attempt.identity.stamp

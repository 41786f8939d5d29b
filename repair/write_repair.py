"""Write repair: which writes to keep for a replica that missed them, and for how long.

A hint is a record kept for one replica. Of the hints for one row only the rule's winner is worth
keeping: the loser would be superseded wherever it arrived. A hint that is the only copy of a write
is never given up; others are copies, which anti-entropy can make good.
"""

from typing import NamedTuple

from repair.rule import Rule
from repair.version import COUNTER_BITS, Record


class Hint(NamedTuple):
    """A record kept for a replica. `only_copy`: no replica is known to hold it, or what it stands
    for; `since`: the stamp of the earliest write that it stands for."""

    record: Record
    only_copy: bool
    since: int

    @classmethod
    def of(cls, record: Record, only_copy: bool) -> "Hint":
        """A hint for one write."""
        return cls(record, only_copy, record.version.stamp)


def merge_hints(rule: Rule, kept: Hint | None, offered: Hint) -> Hint:
    """Which hint to keep for a row. It stands for both, for what it beats is not kept: should it be
    lost itself, the replica lacks both. Two of the same record are one, and an only copy no more once
    either is known to be held elsewhere; one that took an only copy's place is as precious."""
    if kept is None:
        return offered
    since = min(kept.since, offered.since)
    if kept.record == offered.record:
        return Hint(kept.record, kept.only_copy and offered.only_copy, since)
    winner = kept if rule.winner(kept.record, offered.record) is kept.record else offered
    return Hint(winner.record, kept.only_copy or offered.only_copy, since)


def admits(hint: Hint, bytes_kept: int, bytes_more: int, bytes_max: int) -> bool:
    """Whether a hint may be kept beside `bytes_kept` of its sort. Only copies have a share of their
    own, half as large as that of the others, so that neither sort takes the other's room."""
    return bytes_kept + bytes_more <= (bytes_max // 2 if hint.only_copy else bytes_max)


def given_up(hint: Hint, wall_ms: int, age_ms_max: int) -> bool:
    """Whether a hint is so old that it is not kept any longer."""
    return not hint.only_copy and (hint.since >> COUNTER_BITS) + age_ms_max < wall_ms

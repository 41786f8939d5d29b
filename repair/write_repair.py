"""Write repair: which writes to keep for a replica that missed them, and for how long.

A hint is a record kept for one replica. Of the hints for one row only the rule's winner is worth
keeping: the loser would be superseded wherever it arrived. A hint that is the only copy of a write
is never given up; others are copies, which anti-entropy can make good.
"""

from typing import NamedTuple

from repair.rule import Rule
from repair.version import Record


class Hint(NamedTuple):
    """A record kept for a replica. `only_copy`: no replica is known to hold it."""

    record: Record
    only_copy: bool


def merge_hints(rule: Rule, kept: Hint | None, offered: Hint) -> Hint:
    """Which hint to keep for a row. Two of the same record are one, and an only copy no more once
    either is known to be held elsewhere."""
    if kept is None:
        return offered
    if kept.record == offered.record:
        return Hint(kept.record, kept.only_copy and offered.only_copy)
    return kept if rule.winner(kept.record, offered.record) is kept.record else offered


def admits(hint: Hint, bytes_kept: int, bytes_more: int, bytes_max: int) -> bool:
    """Whether a hint may be kept beside `bytes_kept` of its sort. Only copies have a share of their
    own, half as large as that of the others, so that neither sort takes the other's room."""
    return bytes_kept + bytes_more <= (bytes_max // 2 if hint.only_copy else bytes_max)


def given_up(hint: Hint, wall_ms: int, age_ms_max: int) -> bool:
    """Whether a hint is so old that it is not kept any longer."""
    return not hint.only_copy and hint.record.version.wall_ms + age_ms_max < wall_ms

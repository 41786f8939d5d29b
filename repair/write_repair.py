"""Write repair: which writes to keep for a replica that missed them.

A hint is a record kept for one replica. Of the hints for one row only the rule's winner is worth
keeping: the loser would be superseded wherever it arrived.
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

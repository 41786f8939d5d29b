"""Read repair: what replicas answered in, what to tell the reader and whom to mend out.

The rule of a linearizable register (Attiya, Bar-Noy and Dolev, 1995): a value is returned only
when a quorum *confirmed* it as its current one, by replying with it or by taking it as the winner
when it was written back. A replica that meanwhile holds a better record does not confirm: it is
asked again, and the read adopts what it says.
"""

from collections.abc import Mapping
from typing import NamedTuple

from repair.rule import Rule
from repair.version import Record


class ReadPlan(NamedTuple):
    """What a set of replies means. `winner` is None when no replica holds the row."""

    winner: Record | None
    confirmed: int
    stale: tuple[int, ...]

    @property
    def diverged(self) -> bool:
        return bool(self.stale)


def plan(rule: Rule, replies: Mapping[int, Record | None]) -> ReadPlan:
    """Weigh what each replica is known to hold now: the winner, who confirms it, who is behind."""
    winner: Record | None = None
    for record in replies.values():
        if record is not None and (winner is None or rule.beats(record.head, winner.head)):
            winner = record
    head = None if winner is None else winner.head
    stale = tuple(
        replica for replica, record in replies.items() if (None if record is None else record.head) != head
    )
    return ReadPlan(winner, len(replies) - len(stale), stale)

"""Read repair: what replicas answered in, what to tell the reader and whom to mend out. Pure.

The rule of a linearizable register (Attiya, Bar-Noy and Dolev, 1995): a value is returned only
when a quorum *confirmed* it as its current one, by replying with it or by taking it as the winner
when it was written back. A replica that meanwhile holds a better record does not confirm: it is
asked again, and the read adopts what it says.

A reply is the head of the record that the replica holds, or the empty string when it holds none: a
head names the version and the digest of the value, so the value itself need not come along. It asks nobody
and sends nothing: the quorum read does.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from basestore.repair.rule import Rule
from basestore.repair.version import VERSION_BYTES

NOTHING = b""
_UNTOLD: Mapping[int, int] = {}


class ReadPlan(NamedTuple):
    """What a set of replies means. `winner` is a head, NOTHING when no replica holds the row."""

    winner: bytes
    confirmed: int
    stale: tuple[int, ...]

    @property
    def diverged(self) -> bool:
        return bool(self.stale)


def plan(
    rule: Rule,
    replies: Mapping[int, bytes],
    stables: Mapping[int, int] = _UNTOLD,
    due: Callable[[bytes], int] = lambda _: 0,
) -> ReadPlan:
    """Weigh what each replica is known to hold now: the winner, who confirms it, who is behind.

    A replica that holds nothing confirms a winner that it may have purged: one that is `due` (as
    `repair.digest_tree.due_of`, 0: never) at or below its stable stamp, which `stables` tells.
    """
    if len(heads := set(replies.values())) == 1:  # most often: all agree
        return ReadPlan(heads.pop(), len(replies), ())
    winner = NOTHING
    for head in replies.values():
        if head and (not winner or rule.beats(head, winner)):
            winner = head
    stale = tuple(replica for replica, head in replies.items() if head != winner)
    if stale and stables and (purged := due(winner)) > 0:
        # Who holds something else is stale whatever is stable; who holds nothing may have purged the
        # winner.
        stale = tuple(r for r in stale if replies[r] or stables.get(r, 0) < purged)
    return ReadPlan(winner, len(replies) - len(stale), stale)


def reaches(rule: Rule, head: bytes, floor: bytes) -> bool:
    """Whether a record is the version that a session has seen, or one that beats it. `floor` is an
    encoded version, empty when the session has seen none."""
    return not floor or head[:VERSION_BYTES] == floor or (head != NOTHING and rule.beats(head, floor))

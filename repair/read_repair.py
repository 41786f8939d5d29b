"""Read repair: what replicas answered in, what to tell the reader and whom to mend out. Pure.

The rule of a linearizable register (Attiya, Bar-Noy and Dolev, 1995): a value is returned only
when a quorum *confirmed* it as its current one, by replying with it or by taking it as the winner
when it was written back. A replica that meanwhile holds a better record does not confirm: it is
asked again, and the read adopts what it says.

A reply is the head of the record that the replica holds, or the empty string when it holds none: a
head names the version and the digest of the value, so the value itself need not come along. It asks nobody
and sends nothing: the quorum read does.

The *verdict* is the same for whoever explains a row: what wins and why, and what reads may find. Of a replica
whose word does not count nothing is weighed. In a register (`paxos.py`) replicas have learned a record, and
some may have accepted a later one:

    n1, n2, n3 have learned v           v is chosen
    n1, n2 have accepted w since        w is chosen, for they are a quorum; nobody has learned it yet
    n1 alone has accepted w since       w is pending: a read that asks n1 finishes it, and finds it; one that
                                        asks n2 and n3 finds v
"""

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from basestore.repair.paxos import Told, ballot_of, gathered_at
from basestore.repair.rule import Rule
from basestore.repair.version import VERSION_BYTES, Version

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


# --- verdicts ------------------------------------------------------------------------------------


Met = Callable[[Collection[int]], bool]  # whether these are enough


def beats(rule: Rule, head: bytes, holder: bytes) -> bool:
    """Whether a record replaces what is held, if anything is."""
    return holder == NOTHING or (head != NOTHING and rule.beats(head, holder))


def reason(rule: Rule, heads: Mapping[int, bytes], best: bytes, replicas: int) -> str:
    """The line of the rule that decides between the best record and the next best, of so many replicas."""
    if not heads:
        return "no replica could say what it holds"
    if best == NOTHING:
        return "nobody holds it" if len(heads) == replicas else "no replica that answers holds it"
    others = {at: head for at, head in heads.items() if head not in (best, NOTHING)}
    if others:
        return rule.line(best, plan(rule, others).winner)
    if NOTHING in heads.values():
        return "the only record"
    return "all replicas agree" if len(heads) == replicas else "all replicas that answer agree"


def findable(rule: Rule, heads: Mapping[int, bytes], met: Met) -> tuple[Version | None, ...] | None:
    """What a read may find that asks as many as are enough, the best first; None: there are not so many.
    Whichever answer, it finds the best of them: so a record may be found if enough replicas hold it, or one
    that it beats."""
    if not met(heads):
        return None
    found: list[Version | None] = []
    left = dict(heads)
    while left and met(left):
        best = plan(rule, left).winner
        found.append(Version.decode(best[:VERSION_BYTES]) if best else None)
        left = {at: head for at, head in left.items() if head != best}
    return tuple(found)


class Seen(NamedTuple):
    """What one replica of a register says: the record that it has learned, and the one that it has accepted
    and not learned, under the epoch `since`; encoded, without their values, or nothing. `votes`: whether it
    is an acceptor."""

    learned: bytes
    accepted: bytes = b""
    since: int = 0
    votes: bool = True

    @property
    def greatest(self) -> bytes:
        """The later of the two, as far as it counts."""
        pending = self.votes and ballot_of(self.accepted) > ballot_of(self.learned)
        return self.accepted if pending else self.learned

    @property
    def told(self) -> Told:
        """As an acceptor says it."""
        record = self.greatest
        return Told(record, record == self.learned, self.since, 0)


class Agreed(NamedTuple):
    """What replicas have agreed on, as far as it is known. `chosen`: the latest record that is known to be;
    `pending`: a later one, of which that is not known. Encoded, without their values, or nothing."""

    chosen: bytes
    pending: bytes


def agreed(seen: Mapping[int, Seen], since: int, met: Met) -> Agreed:
    """By what these say. `since`, `met`: as in `gathered_at`."""
    found = gathered_at({at: each.told for at, each in seen.items()}, since, met)
    greatest = found.record.blob if found.record is not None else b""
    if found.chosen:
        return Agreed(greatest, b"")
    learned = max((each.learned for each in seen.values()), key=ballot_of, default=b"")
    return Agreed(learned, greatest)

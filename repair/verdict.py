"""Verdict: how one row stands, by what its replicas hold: what wins and why, and what reads may find. Pure.

For whoever explains a row: nothing is asked, promised or mended here. What a replica holds is a head, or
NOTHING; of a replica whose word does not count nothing is weighed.

In a register (`paxos.py`) replicas have learned a record, and some may have accepted a later one:

    n1, n2, n3 have learned v           v is chosen
    n1, n2 have accepted w since        w is chosen, for they are a quorum; nobody has learned it yet
    n1 alone has accepted w since       w is pending: a read that asks n1 finishes it, and finds it; one that
                                        asks n2 and n3 finds v
"""

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from basestore.repair.paxos import Told, ballot_of, gathered_at
from basestore.repair.read_repair import NOTHING, plan
from basestore.repair.rule import Rule
from basestore.repair.version import VERSION_BYTES, Version

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
